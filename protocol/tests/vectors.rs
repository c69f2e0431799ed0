//! Pinned encodings: of everything hashed, signed, sent or stored, the bytes that fixed inputs give.
//!
//! A difference here is a change of format: nodes of the two sorts would not understand each other,
//! and a ledger kept by the one could not be verified by the other. To approve such a change, run
//! `MINIDLT_APPROVE_VECTORS=1 cargo test --release -p minidlt-protocol --test vectors`, read the
//! difference of `vectors.json`, and commit it with the reason. A format that was ever in use also
//! needs a new version in its domain's tag (`crypto::Domain`).

mod common;

use std::{collections::BTreeMap, path::PathBuf};

use minidlt_protocol::{
    block::{CertifiedBlock, CompactBlock},
    codec,
    consensus::{
        BodyEntry, LogEntry, PolkaCertificate, RoundCertificate, RoundReason, RoundVote, Timer, TimerKind, Wire,
    },
    crypto::{Domain, digest},
    endorsement::{Answer, EndorsementContent, Reason, Verdict},
    evidence::{Evidence, state_key},
    governance::{Change, SetRecordType},
    merkle,
    message::{Alive, ConsensusContent, Content, Message, PoolContent, Recipient, SyncContent},
    receipt::CertifiedHeader,
    record_type::{RecordType, Schema},
    registry::{Policy, Role, Standing},
    state::{self, Outcome, ResultLeaf, genesis_head, genesis_writes, prove},
    successor::succeed,
    transaction::{self, Body, Operation, TransactionBytes, id_of},
    types::{Hash, Height, Round},
    vote::{CommitSignature, ConsensusMode, Phase, Proposal, SignedProposal, SignedVote, Vote},
};
use serde::Serialize;
use serde_json::json;

use common::{
    ADMIN, AUDITOR, BROKER, MemoryState, NOW, Network, TRADER, Unreadable, identity, key, name, node, node_key,
};

/// Names to hexadecimal bytes, or to text where the format is text.
#[derive(Default)]
struct Vectors(BTreeMap<String, String>);

impl Vectors {
    fn text(&mut self, name: &str, text: impl Into<String>) {
        assert!(self.0.insert(name.to_owned(), text.into()).is_none(), "{name} stands twice");
    }

    fn bytes(&mut self, name: &str, bytes: impl AsRef<[u8]>) {
        self.text(name, hex::encode(bytes));
    }

    fn encoded<T: Serialize>(&mut self, name: &str, value: &T) {
        self.bytes(name, codec::encode(value));
    }
}

#[test]
fn the_formats_are_as_pinned() {
    let mut vectors = Vectors::default();
    members(&mut vectors);
    transactions(&mut vectors);
    blocks(&mut vectors);
    agreement(&mut vectors);
    evidence(&mut vectors);
    messages(&mut vectors);
    state_and_proofs(&mut vectors);
    successor(&mut vectors);

    // Asked for as the test runs: checkouts may share compiled tests.
    let folder = std::env::var_os("CARGO_MANIFEST_DIR").expect("tests are run by cargo");
    let path = PathBuf::from(folder).join("tests/vectors.json");
    if std::env::var_os("MINIDLT_APPROVE_VECTORS").is_some_and(|value| value == "1") {
        let text = serde_json::to_string_pretty(&vectors.0).expect("strings encode") + "\n";
        std::fs::write(&path, text).expect("the vectors can be written");
        return;
    }
    let text = std::fs::read_to_string(&path).expect("tests/vectors.json can be read");
    let pinned: BTreeMap<String, String> = serde_json::from_str(&text).expect("tests/vectors.json holds strings");
    let names = |map: &BTreeMap<String, String>| map.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&vectors.0), names(&pinned), "a vector came or went; see the top of this file");
    for (name, made) in &vectors.0 {
        assert_eq!(made, &pinned[name], "the format of '{name}' has changed; see the top of this file");
    }
}

fn members(vectors: &mut Vectors) {
    let network = Network::bft();
    vectors.encoded("identity", &identity(TRADER.0));
    vectors.bytes("public key of trader", key(TRADER.1).public_key().to_bytes());
    for (name, mode) in [("bft", ConsensusMode::Bft), ("full-consent", ConsensusMode::FullConsent)] {
        let genesis = common::genesis(mode);
        let (head, _) = genesis_head(&genesis).expect("genesis executes");
        vectors.text(&format!("genesis {name}, id"), genesis.id().to_string());
        vectors.text(&format!("genesis {name}, state root"), head.state_root.to_string());
    }
    vectors.encoded("genesis bft", &network.genesis);
    vectors.text("genesis bft, as JSON", serde_json::to_string(&network.genesis).expect("it encodes"));
    vectors.encoded("head at genesis", &network.head);
}

fn transactions(vectors: &mut Vectors) {
    let network = Network::bft();
    let record = json!({"a": [null, true, -1, 1.5, 4_294_967_296u64], "é": {"": "text"}});
    let body = network.body_of(TRADER.0, u64::MAX, &[record, json!("second")]);
    vectors.encoded("body", &body);
    let Operation::Record { contents, .. } = body.operation.clone() else { panic!("it holds records") };
    let operation = Operation::Record { record_type: Some(name("trade")), contents };
    vectors.encoded("body, of a type", &Body { operation, ..body });
    let schema = transaction::Content::from_json(&json!({"type": "object", "required": ["a"]}));
    let policy = Policy::Named { organisation_in: "/seller".into(), role: Role::Admin.into() };
    let set = SetRecordType {
        name: name("trade"),
        revision: None,
        schema: schema.clone(),
        policy: Some(policy.clone()),
        standing: None,
    };
    vectors.encoded("change, set_record_type", &Change::SetRecordType(set));
    let schema = Schema::compile(&schema).expect("it is a schema");
    let trade = RecordType { schema, policy: Some(policy), standing: Standing::Suspended, revision: 1 };
    vectors.encoded("state, record-type/trade", &trade);
    let mut signed = network.signed(TRADER, 1);
    let id = id_of(&network.id, &signed.body);
    vectors.text("transaction, id", id.to_string());
    vectors.bytes("transaction, signature", signed.signature.as_bytes());
    vectors.encoded("transaction", &signed);
    vectors.text("transaction, leaf", merkle::leaf_hash(TransactionBytes::from(&signed).as_slice()).to_string());
    network.endorse(&mut signed, ADMIN.0, ADMIN.1);
    vectors.encoded("transaction, endorsed", &signed);
    vectors.text("endorsed, leaf", merkle::leaf_hash(TransactionBytes::from(&signed).as_slice()).to_string());
}

fn chain(network: &Network) -> Vec<CertifiedBlock> {
    let list = vec![network.transaction(TRADER, 1), network.transaction(BROKER, 2), network.transaction(ADMIN, 3)];
    network.chain(&[list, vec![]])
}

fn blocks(vectors: &mut Vectors) {
    let network = Network::bft();
    let chain = chain(&network);
    let CertifiedBlock { block, certificate } = &chain[0];
    vectors.encoded("header", &block.header);
    vectors.text("header, hash", block.header.hash(&network.id).to_string());
    vectors.encoded("block", block);
    vectors.encoded("certificate", certificate);
    vectors.encoded("certified block", &chain[0]);
    vectors.encoded("compact block", &CompactBlock { header: block.header.clone(), leaves: block.leaves() });
    let parsed = block.parse(&network.id).expect("it parses");
    let execution =
        state::execute(&Unreadable, &network.registry, &network.head, NOW, parsed.iter()).expect("it executes");
    vectors.text("results root", execution.results_root.to_string());
    let ok = ResultLeaf { transaction: parsed[1].id, position: 1, count: 3, outcome: Outcome::Ok };
    vectors.encoded("result leaf, ok", &ok);
    vectors.text("result leaf, ok, hash", ok.hash().to_string());
    let failed = ResultLeaf { outcome: Outcome::Failed { reason: "because".into() }, ..ok };
    vectors.encoded("result leaf, failed", &failed);
    vectors.text("receipt", network.receipt(&chain, 0, 1).to_text());
}

fn successor(vectors: &mut Vectors) {
    let network = Network::bft();
    let ending = network.ending(&chain(&network));
    let mut successor = succeed(&network.genesis, ending, [node(3)].into(), NOW).expect("it can be carried on");
    vectors.encoded("successor", &successor);
    vectors.text("successor, id", successor.id().to_string());
    let (head, _) = genesis_head(&successor).expect("a successor executes");
    vectors.text("successor, state root", head.state_root.to_string());
    successor.consent(identity(ADMIN.0), &key(ADMIN.1));
    let predecessor = successor.predecessor.expect("a successor");
    vectors.encoded("successor, consent", &predecessor.signatures[0]);
    vectors.encoded("successor, origin in the state", &predecessor.origin());
}

fn agreement(vectors: &mut Vectors) {
    let network = Network::bft();
    let (height, round, block) = (Height::new(7), Round::new(2), Hash::from_bytes([0xb1; 32]));
    let vote = |phase, block| Vote { phase, height, round, block };
    let signed_vote = |at: u8, vote: Vote| SignedVote {
        voter: node(at),
        signature: node_key(at).sign(&vote.digest(&network.id)),
        vote,
    };
    let prevote = vote(Phase::Prevote, Some(block));
    vectors.encoded("vote", &prevote);
    vectors.encoded("vote, nil", &vote(Phase::Precommit, None));
    vectors.text("vote, digest", prevote.digest(&network.id).to_string());
    let proposal = Proposal { height, round, polka_round: Some(Round::ZERO), block };
    vectors.encoded("proposal", &proposal);
    vectors.text("proposal, digest", proposal.digest(&network.id).to_string());
    let signature = node_key(0).sign(&proposal.digest(&network.id));
    let proposal = SignedProposal { proposer: node(0), proposal, signature };
    let signatures = (0..3)
        .map(|at| CommitSignature { voter: node(at), signature: node_key(at).sign(&prevote.digest(&network.id)) })
        .collect();
    let polka = PolkaCertificate { height, round, block, signatures };
    let nil = signed_vote(1, vote(Phase::Precommit, None));
    let votes =
        vec![RoundVote { voter: node(1), phase: nil.vote.phase, block: nil.vote.block, signature: nil.signature }];
    let skip = RoundCertificate { height, round, reason: RoundReason::Skip, votes };
    let precommit = RoundCertificate { reason: RoundReason::Precommit, ..skip.clone() };
    vectors.encoded("wire, proposal", &Wire::Proposal(proposal.clone()));
    vectors.encoded("wire, vote", &Wire::Vote(signed_vote(3, prevote.clone())));
    vectors.encoded("wire, polka", &Wire::Polka(polka.clone()));
    vectors.encoded("wire, round, skip", &Wire::Round(skip));
    vectors.encoded("wire, round, precommit", &Wire::Round(precommit));
    vectors.encoded("log, proposal", &LogEntry::Proposal(proposal));
    vectors.encoded("log, vote", &LogEntry::Vote(signed_vote(3, prevote)));
    vectors.encoded("log, polka", &LogEntry::Polka(polka));
    vectors.encoded("log, body", &LogEntry::Body(BodyEntry { height, round, block, valid: true }));
    for (name, kind) in [
        ("propose", TimerKind::Propose),
        ("prevote", TimerKind::Prevote),
        ("precommit", TimerKind::Precommit),
        ("rebroadcast", TimerKind::Rebroadcast),
    ] {
        vectors.encoded(&format!("log, timeout, {name}"), &LogEntry::Timeout(Timer { height, round, kind }));
    }
}

fn evidence(vectors: &mut Vectors) {
    let network = Network::bft();
    let precommit = |block| network.vote(3, Phase::Precommit, 1, block);
    let precommits = Evidence::Votes { first: precommit(Some(1)), second: precommit(Some(2)) };
    let proposals = Evidence::Proposals { first: network.proposal(3, 1, 1), second: network.proposal(3, 1, 2) };
    let by_node = ("node1@Org02", 2);
    let given = [
        ("prevotes", network.accusing(by_node, 0, network.lie(3, 1))),
        ("precommits", network.accusing(AUDITOR, 0, precommits)),
        ("proposals", network.accusing(AUDITOR, 0, proposals)),
        ("known already", network.accusing(AUDITOR, 0, network.lie(3, 1))),
        ("ahead", network.accusing(AUDITOR, 0, network.lie(3, 2))),
    ];
    for (name, signed) in &given[..3] {
        vectors.encoded(&format!("evidence, {name}"), signed);
    }
    let list: Vec<_> = given.iter().map(|(_, signed)| network.shared(signed)).collect();
    let mut ledger = network.ledger();
    let execution = ledger.take(&network, &network.chain(&[list])[0]);
    for ((name, _), outcome) in given.iter().zip(&execution.outcomes) {
        vectors.encoded(&format!("evidence, {name}, outcome"), outcome);
    }
    vectors.text("evidence, results root", execution.results_root.to_string());
    let recorded = execution.writes[&state_key(&node(3))].clone();
    vectors.bytes("evidence, state, evidence/node3@Org04", recorded.expect("nothing is removed"));
    vectors.text("evidence, state root", ledger.head.state_root.to_string());
}

fn messages(vectors: &mut Vectors) {
    let network = Network::bft();
    let exported = [0xe1; 32];
    let binding = digest(Domain::Alive, &network.id, &[&exported]);
    vectors.text("alive, binding", binding.to_string());
    let alive = |binding| Alive { network: network.id, height: Height::new(7), head: Hash::ZERO, binding };
    let blocks = network.chain(&[vec![]]);
    let CertifiedBlock { block, certificate } = blocks[0].clone();
    let standing = CertifiedHeader::new(&network.id, block.header, certificate, &network.voters);
    let proposed = network.transaction(TRADER, 2);
    let endorsed = Answer { id: proposed.id, verdict: Verdict::Endorsed(node_key(1).sign(&proposed.id)) };
    let reason = Reason::new("stale-revision", "policy/orderers has revision 1 by now");
    let refused = Answer { id: proposed.id, verdict: Verdict::Refused(reason) };
    let contents = [
        ("alive", Content::Sync(SyncContent::Alive(alive(Some(binding))))),
        ("alive, later", Content::Sync(SyncContent::Alive(alive(None)))),
        ("synchronise", Content::Sync(SyncContent::Synchronise { at: None })),
        ("synchronise at", Content::Sync(SyncContent::Synchronise { at: Some(Height::new(8)) })),
        ("standing", Content::Sync(SyncContent::Standing(Some(standing)))),
        ("get blocks", Content::Sync(SyncContent::GetBlocks { from: Height::new(8), bytes: 1 << 20 })),
        ("blocks", Content::Sync(SyncContent::Blocks { from: Height::new(1), blocks })),
        ("gossip", Content::Pool(PoolContent::Gossip(vec![network.transaction(TRADER, 1).bytes.clone()]))),
        ("get", Content::Pool(PoolContent::Get { block: Hash::ZERO, leaves: vec![Hash::ZERO] })),
        ("got", Content::Pool(PoolContent::Got { block: Hash::ZERO, transactions: vec![] })),
        ("propose", Content::Endorsement(EndorsementContent::Propose(vec![proposed.bytes.clone()]))),
        ("answers", Content::Endorsement(EndorsementContent::Answers(vec![endorsed, refused]))),
        ("text", Content::Text("good morning".into())),
    ];
    for (name, content) in contents {
        vectors.encoded(&format!("content, {name}"), &content);
    }
    let header = network.certified(&network.head, &[], &[]).block.header;
    let body = Content::Consensus(ConsensusContent::Body(CompactBlock { header, leaves: vec![] }));
    vectors.encoded("content, body", &body);
    let content = Content::Text("good morning".into());
    for (name, recipient) in [("all", Recipient::All), ("one", Recipient::One(node(1)))] {
        let message = Message::stamp(&network.id, node(0), recipient, NOW, &content, &node_key(0));
        vectors.encoded(&format!("message to {name}"), &message);
        vectors.bytes(&format!("message to {name}, signature"), message.payload.signature.as_bytes());
    }
}

fn state_and_proofs(vectors: &mut Vectors) {
    let genesis = common::genesis(ConsensusMode::Bft);
    for (key, value) in genesis_writes(&genesis) {
        let name = format!("state, {}", String::from_utf8(key).expect("keys are readable"));
        vectors.bytes(&name, value.expect("genesis removes nothing"));
    }
    let mut memory = MemoryState::default();
    memory.apply(genesis_head(&genesis).expect("genesis executes").1);
    for (name, key) in [("presence", "policy/orderers"), ("absence", "user/nobody@Org01")] {
        let (_, proof) = prove(&memory, 0, key.as_bytes()).expect("a proof");
        vectors.bytes(&format!("proof of {name}, {key}"), proof);
    }
    let network = Network::bft();
    let chain = chain(&network);
    for (name, key) in [("presence", "policy/orderers"), ("absence", "user/nobody@Org01")] {
        vectors.text(&format!("state proof of {name}, {key}"), network.state_proof(&chain, key).to_text());
    }
    // Of everything the tree stores, its digest: the entries are many and say nothing to a reader.
    let mut stored = Vec::new();
    for ((table, key), value) in &memory.0 {
        stored.extend(codec::encode(&(format!("{table:?}"), key, value)));
    }
    vectors.text("stored state, leaf hash of all entries", merkle::leaf_hash(&stored).to_string());
}

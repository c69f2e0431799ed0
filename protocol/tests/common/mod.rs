//! A network of four organisations with fixed keys and times, so that every run makes the same
//! bytes: four nodes that vote, users of each kind, signed transactions, a certified chain.

// Each test binary uses its own part of this.
#![allow(dead_code)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use minidlt_protocol::{
    block::{self, Block, CertifiedBlock, DecidedBlock, Head, SharedTransaction},
    crypto::{SecretKey, Signature},
    evidence::Evidence,
    genesis::{Genesis, Timeouts},
    receipt::{CertifiedHeader, Inclusion, RECEIPT_VERSION, Receipt},
    registry::{EntryKey, Node, NodeRole, Organisation, Policy, Registry, Role, User},
    state::{self, Entry, Execution, StateError, StateReader, StateUpdate, Table},
    state_proof::{Base64, Proven, STATE_PROOF_VERSION, StateProof},
    successor::Ending,
    transaction::{Body, Content, Endorsement, Operation, SignedTransaction, Transaction, TransactionBytes},
    types::{Hash, Height, Identity, Name, Round, Timestamp},
    vote::{Certificate, CommitSignature, ConsensusMode, Phase, Proposal, SignedProposal, SignedVote, Vote, Voters},
};

/// 2023-11-14 22:13:20 UTC.
pub const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

pub fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

pub fn identity(text: &str) -> Identity {
    text.parse().expect("an identity")
}

/// Members' keys: nodes have 1 to 4, users 11 and on.
pub fn key(seed: u8) -> SecretKey {
    SecretKey::from_bytes(&[seed; 32]).expect("a key")
}

pub fn node(at: u8) -> Identity {
    identity(&format!("node{at}@Org0{}", at + 1))
}

pub fn node_key(at: u8) -> SecretKey {
    key(at + 1)
}

/// A submitter, whose gateways are nodes 0 and 1.
pub const TRADER: (&str, u8) = ("trader@Org01", 11);
/// A submitter through every node.
pub const BROKER: (&str, u8) = ("broker@Org02", 12);
/// May look and not submit.
pub const AUDITOR: (&str, u8) = ("auditor@Org03", 13);
/// An admin, and a submitter.
pub const ADMIN: (&str, u8) = ("admin@Org01", 14);
/// The admins of all organisations.
pub const ADMINS: [(&str, u8); 4] = [ADMIN, ("admin@Org02", 15), ("admin@Org03", 16), ("admin@Org04", 17)];
/// Enrolled nowhere.
pub const STRANGER: (&str, u8) = ("stranger@Org01", 99);

fn user((who, seed): (&str, u8), roles: &[Role], gateways: &[u8]) -> User {
    let (roles, gateways) = (roles.iter().copied().collect(), gateways.iter().map(|at| node(*at)).collect());
    User::new(identity(who), key(seed).public_key(), roles, gateways)
}

pub fn genesis(consensus: ConsensusMode) -> Genesis {
    let organisation = |n| Organisation::new(name(&format!("Org0{n}")), format!("certificate of Org0{n}\n"));
    let member = |at: u8| {
        let roles = BTreeSet::from([NodeRole::Peer, NodeRole::Orderer]);
        Node::new(node(at), node_key(at).public_key(), roles, format!("127.0.0.1:{}", 3402 + 10 * u16::from(at)))
    };
    let admins = (1..=4).map(|n| Policy::Leaf { organisation: name(&format!("Org0{n}")), role: Role::Admin.into() });
    Genesis {
        network: name("test"),
        created: NOW,
        consensus,
        timeouts: Timeouts::default(),
        synchronise: Default::default(),
        organisations: (1..=4).map(organisation).collect(),
        nodes: (0..4).map(member).collect(),
        users: vec![
            user(TRADER, &[Role::Submitter], &[0, 1]),
            user(BROKER, &[Role::Submitter], &[0, 1, 2, 3]),
            user(AUDITOR, &[Role::Auditor], &[0, 1, 2, 3]),
            user(ADMIN, &[Role::Admin, Role::Submitter], &[0]),
            user(ADMINS[1], &[Role::Admin], &[1]),
            user(ADMINS[2], &[Role::Admin], &[2]),
            user(ADMINS[3], &[Role::Admin], &[3]),
        ],
        policies: BTreeMap::from([(name("orderers"), Policy::AtLeast { at_least: 3, of: admins.collect() })]),
        predecessor: None,
    }
}

/// What is needed to check things on a network.
pub struct Network {
    pub genesis: Genesis,
    pub id: Hash,
    pub registry: Arc<Registry>,
    pub voters: Voters,
    pub head: Head,
}

pub fn network(mode: ConsensusMode) -> Network {
    let genesis = genesis(mode);
    let (head, _) = state::genesis_head(&genesis).expect("genesis executes");
    let (id, registry) = (genesis.id(), Arc::new(genesis.registry()));
    let voters = registry.orderers();
    Network { genesis, id, registry, voters, head }
}

impl Network {
    pub fn bft() -> Self {
        network(ConsensusMode::Bft)
    }

    /// A body with one small record, created now and good for a minute.
    pub fn body(&self, author: &str, nonce: u64) -> Body {
        self.body_of(author, nonce, &[serde_json::json!({"ISIN": "CH0012005267", "quantity": nonce})])
    }

    pub fn body_of(&self, author: &str, nonce: u64, records: &[serde_json::Value]) -> Body {
        Body {
            network: self.id,
            author: identity(author),
            created: NOW,
            expires: NOW.plus_millis(60_000),
            nonce,
            operation: Operation::records(records.iter().map(Content::from_json).collect()),
        }
    }

    pub fn signed(&self, author: (&str, u8), nonce: u64) -> SignedTransaction {
        SignedTransaction::sign(&self.body(author.0, nonce), &key(author.1))
    }

    pub fn transaction(&self, author: (&str, u8), nonce: u64) -> SharedTransaction {
        self.shared(&self.signed(author, nonce))
    }

    pub fn shared(&self, signed: &SignedTransaction) -> SharedTransaction {
        let parsed = Transaction::parse(TransactionBytes::from(signed), &self.id).expect("parses");
        Arc::new(parsed.verify(&self.registry).expect("verifies"))
    }

    pub fn endorse(&self, signed: &mut SignedTransaction, endorser: &str, seed: u8) {
        let id = minidlt_protocol::transaction::id_of(&self.id, &signed.body);
        signed.endorsements.push(Endorsement { endorser: identity(endorser), signature: key(seed).sign(&id) });
    }

    /// The precommits of these nodes for a block, in order.
    pub fn certificate(&self, height: Height, round: Round, block: Hash, nodes: &[u8]) -> Certificate {
        let digest = Vote { phase: Phase::Precommit, height, round, block: Some(block) }.digest(&self.id);
        let sign = |at: &u8| CommitSignature { voter: node(*at), signature: node_key(*at).sign(&digest) };
        Certificate { height, round, block, signatures: nodes.iter().map(sign).collect() }
    }

    /// The certified block that follows `head`, signed by these nodes.
    pub fn certified(&self, head: &Head, transactions: &[SharedTransaction], nodes: &[u8]) -> CertifiedBlock {
        let proposer = self.voters.proposer(head.height.next(), Round::ZERO).expect("voters").identity.clone();
        let created = head.created.plus_millis(1_000);
        let header = block::build(head, Round::ZERO, proposer, created, transactions).header;
        let certificate = self.certificate(header.height, Round::ZERO, header.hash(&self.id), nodes);
        let transactions = transactions.iter().map(|transaction| transaction.bytes.clone()).collect();
        CertifiedBlock { block: Block { header, transactions }, certificate }
    }

    /// The ledger at genesis.
    pub fn ledger(&self) -> Ledger {
        let (head, update) = state::genesis_head(&self.genesis).expect("genesis executes");
        let mut state = MemoryState::default();
        state.apply(update);
        Ledger { head, state, registry: self.registry.clone() }
    }

    /// A chain from genesis: one certified block for each list of transactions.
    pub fn chain(&self, blocks: &[Vec<SharedTransaction>]) -> Vec<CertifiedBlock> {
        let mut ledger = self.ledger();
        let mut chain = Vec::new();
        for transactions in blocks {
            let certified = self.certified(&ledger.head, transactions, &[0, 1, 2, 3]);
            ledger.take(self, &certified);
            chain.push(certified);
        }
        chain
    }

    /// A vote of this node, of round 0.
    pub fn vote(&self, at: u8, phase: Phase, height: u64, block: Option<u8>) -> SignedVote {
        let block = block.map(|byte| Hash::from_bytes([byte; 32]));
        let vote = Vote { phase, height: Height::new(height), round: Round::ZERO, block };
        SignedVote { voter: node(at), signature: node_key(at).sign(&vote.digest(&self.id)), vote }
    }

    /// A proposal of this node, of round 0.
    pub fn proposal(&self, at: u8, height: u64, block: u8) -> SignedProposal {
        let (height, block) = (Height::new(height), Hash::from_bytes([block; 32]));
        let proposal = Proposal { height, round: Round::ZERO, polka_round: None, block };
        SignedProposal { proposer: node(at), signature: node_key(at).sign(&proposal.digest(&self.id)), proposal }
    }

    /// Two prevotes of this node, for nothing and for some block.
    pub fn lie(&self, at: u8, height: u64) -> Evidence {
        let vote = |block| self.vote(at, Phase::Prevote, height, block);
        Evidence::Votes { first: vote(None), second: vote(Some(7)) }
    }

    /// Evidence, as this author submits it.
    pub fn accusing(&self, author: (&str, u8), nonce: u64, evidence: Evidence) -> SignedTransaction {
        let body = Body { operation: Operation::Evidence(evidence.into()), ..self.body(author.0, nonce) };
        SignedTransaction::sign(&body, &key(author.1))
    }

    /// The receipt of a transaction of `chain[at]`.
    pub fn receipt(&self, chain: &[CertifiedBlock], at: usize, position: usize) -> Receipt {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let CertifiedBlock { block, certificate } = &chain[at];
        let parsed = block.parse(&self.id).expect("parses");
        let mut before = self.ledger();
        chain[..at].iter().for_each(|certified| drop(before.take(self, certified)));
        let execution = before.clone().take(self, &chain[at]);
        let count = parsed.len() as u64;
        let results: Vec<Hash> = parsed
            .iter()
            .zip(execution.outcomes.iter().cloned())
            .zip(0..)
            .map(|((t, outcome), position)| state::ResultLeaf { transaction: t.id, position, count, outcome }.hash())
            .collect();
        let certify = |header: &block::Header, certificate: &Certificate| {
            CertifiedHeader::new(&self.id, header.clone(), certificate.clone(), &self.voters)
        };
        let next = &chain[at + 1];
        Receipt {
            minidlt_receipt: RECEIPT_VERSION,
            network: self.id,
            id: parsed[position].id,
            height: block.header.height,
            voter_changes: vec![],
            transaction: STANDARD.encode(block.transactions[position].as_slice()),
            signers: before.proven(&parsed[position].signers_entries(&before.registry)),
            inclusion: Inclusion::of(&block.leaves(), position).expect("it is there"),
            block: certify(&block.header, certificate),
            result: execution.outcomes[position].clone(),
            result_inclusion: Inclusion::of(&results, position).expect("it is there"),
            next: certify(&next.block.header, &next.certificate),
        }
    }
}

impl Network {
    /// The proof of a key of the state in the header of the last of these blocks.
    pub fn state_proof(&self, chain: &[CertifiedBlock], key: &str) -> StateProof {
        let (last, before) = chain.split_last().expect("a block");
        let mut ledger = self.ledger();
        before.iter().for_each(|certified| drop(ledger.take(self, certified)));
        let proven = ledger.prove(key);
        let CertifiedBlock { block, certificate } = last;
        StateProof {
            minidlt_state_proof: STATE_PROOF_VERSION,
            network: self.id,
            voter_changes: vec![],
            proven,
            header: CertifiedHeader::new(&self.id, block.header.clone(), certificate.clone(), &self.voters),
        }
    }
}

impl Network {
    /// What a node that has these blocks carries on; none of them changed the voters.
    pub fn ending(&self, chain: &[CertifiedBlock]) -> Ending {
        let mut ledger = self.ledger();
        chain.iter().for_each(|certified| drop(ledger.take(self, certified)));
        let entry = |key: Vec<u8>| {
            let value = state::value(&ledger.state, ledger.head.certified_version, &key).expect("it can be read");
            Some((key, value?))
        };
        let state = ledger.state.keys().expect("it can be read").into_iter().filter_map(entry).collect();
        let CertifiedBlock { block, certificate } = chain.last().expect("a block").clone();
        let last = CertifiedHeader::new(&self.id, block.header, certificate, &self.voters);
        Ending { voter_changes: vec![], last, transactions: block.transactions, state }
    }
}

/// A node's ledger, in memory.
#[derive(Clone)]
pub struct Ledger {
    pub head: Head,
    pub state: MemoryState,
    pub registry: Arc<Registry>,
}

impl Ledger {
    /// What the state holds under a key, and the proof of it.
    pub fn prove(&self, key: &str) -> Proven {
        let (value, proof) =
            state::prove(&self.state, self.head.state_version, key.as_bytes()).expect("it can be read");
        Proven { key: key.to_owned(), value: value.map(Base64), proof: Base64(proof) }
    }

    pub fn proven(&self, keys: &[EntryKey]) -> Vec<Proven> {
        keys.iter().map(|key| self.prove(&key.to_string())).collect()
    }

    /// Checks and executes a block that should follow the head.
    pub fn take(&mut self, network: &Network, certified: &CertifiedBlock) -> Execution {
        let decided = DecidedBlock::certified(certified.clone(), &network.id, &self.head, &self.registry);
        self.execute(&decided.expect("an honest block"))
    }

    pub fn execute(&mut self, decided: &DecidedBlock) -> Execution {
        let transactions = decided.transactions.iter().map(|shared| &***shared);
        let (created, registry) = (decided.header.created, &self.registry);
        let execution = state::execute(&self.state, registry, &self.head, created, transactions);
        let execution = execution.expect("it can be read");
        self.registry = execution.registry.clone();
        self.head.certified_version = self.head.state_version;
        if !execution.writes.is_empty() {
            let version = self.head.state_version + 1;
            let update = state::update(&self.state, version, &execution.writes).expect("it can be written");
            (self.head.state_version, self.head.state_root) = (version, self.state.apply(update));
        }
        self.head = Head {
            height: decided.header.height,
            hash: decided.hash,
            created: decided.header.created,
            results_root: execution.results_root,
            transactions: decided.transactions.len(),
            ..self.head.clone()
        };
        execution
    }
}

/// A state that cannot be read: for what must not need it.
pub struct Unreadable;

impl StateReader for Unreadable {
    fn get(&self, _: Table, _: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        Err(StateError("nobody may look".into()))
    }

    fn floor(&self, _: Table, _: &[u8]) -> Result<Option<Entry>, StateError> {
        Err(StateError("nobody may look".into()))
    }

    fn keys(&self) -> Result<Vec<Vec<u8>>, StateError> {
        Err(StateError("nobody may look".into()))
    }
}

/// The same signature with the other S: as valid to the mathematics, and refused.
pub fn high_s(signature: &Signature) -> Signature {
    // The order of secp256k1 (SEC 2, section 2.4.1).
    const ORDER: &str = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
    let order = hex::decode(ORDER).expect("hexadecimal");
    let mut bytes = *signature.as_bytes();
    let mut borrow = 0i16;
    for i in (0..32).rev() {
        let difference = i16::from(order[i]) - i16::from(bytes[32 + i]) - borrow;
        borrow = i16::from(difference < 0);
        bytes[32 + i] = difference.rem_euclid(256) as u8;
    }
    Signature::from_bytes(bytes)
}

/// A store of the state in memory.
#[derive(Default, Clone)]
pub struct MemoryState(pub BTreeMap<(Table, Vec<u8>), Vec<u8>>);

impl MemoryState {
    pub fn apply(&mut self, update: StateUpdate) -> Hash {
        self.0.extend(update.entries.into_iter().map(|(table, key, value)| ((table, key), value)));
        update.root
    }
}

impl StateReader for MemoryState {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self.0.get(&(table, key.to_vec())).cloned())
    }

    fn floor(&self, table: Table, key: &[u8]) -> Result<Option<Entry>, StateError> {
        let below = self.0.range(..=(table, key.to_vec())).next_back().filter(|((found, _), _)| *found == table);
        Ok(below.map(|((_, key), value)| (key.clone(), value.clone())))
    }

    fn keys(&self) -> Result<Vec<Vec<u8>>, StateError> {
        let keys = self.0.iter().filter(|((table, _), _)| *table == Table::Keys);
        Ok(keys.map(|(_, key)| key.clone()).collect())
    }
}

//! Evidence: each refusal reached, one spelling for each pair, and what the state keeps of it.

use std::{collections::BTreeSet, sync::LazyLock};

use minidlt_protocol::{
    block::{BlockError, SharedTransaction},
    codec,
    consensus::Equivocation,
    crypto::{CryptoError, Domain, Signature, digest},
    evidence::{Evidence, EvidenceError, Kind, NotRecorded, Recorded, Subject, decode, state_key},
    limits::EVIDENCE_A_VOTER,
    registry::NodeRole,
    state::{self, Outcome, StateError, prove},
    transaction::{Effect, Operation, Refusal, SignedTransaction, Transaction, TransactionBytes},
    types::{Hash, Height, Round},
    verified::Verified,
    view::TransactionView,
    vote::{Phase, Proposal, SignedProposal, SignedVote, Vote},
};
use proptest::prelude::*;
use serde_json::json;

use crate::common::{
    AUDITOR, Ledger, NOW, Network, STRANGER, TRADER, Unreadable, high_s, identity, key, node, node_key,
};

static NETWORK: LazyLock<Network> = LazyLock::new(Network::bft);

/// The second node, with its key.
const NODE: (&str, u8) = ("node1@Org02", 2);

/// All that a node checks on arrival, in its order.
fn admit(signed: &SignedTransaction, gateway: u8) -> Result<Verified<Transaction>, Refusal> {
    let transaction = Transaction::parse(TransactionBytes::from(signed), &NETWORK.id)?;
    transaction.check_time(NOW)?;
    transaction.authorise(&NETWORK.registry, Some(&node(gateway)))?;
    transaction.verify(&NETWORK.registry)
}

fn refused(evidence: Evidence) -> EvidenceError {
    match admit(&NETWORK.accusing(AUDITOR, 1, evidence), 0) {
        Err(Refusal::BadEvidence(reason)) => reason,
        other => panic!("{other:?}, expected evidence that proves nothing"),
    }
}

fn prevote(at: u8, block: Option<u8>) -> SignedVote {
    NETWORK.vote(at, Phase::Prevote, 1, block)
}

fn votes(first: SignedVote, second: SignedVote) -> Evidence {
    Evidence::Votes { first, second }
}

fn subject(at: u8, kind: Kind) -> Subject {
    Subject { voter: node(at), height: Height::new(1), round: Round::ZERO, kind }
}

#[test]
fn anybody_enrolled_may_submit_it_and_nodes_may_submit_nothing_else() {
    let accusation = |author, gateway| admit(&NETWORK.accusing(author, 1, NETWORK.lie(3, 1)), gateway);
    let taken = accusation(AUDITOR, 3).expect("no role is needed");
    let Effect::Evidence(found) = &taken.effect else { panic!("{:?}", taken.effect) };
    assert_eq!(found.subject, subject(3, Kind::Prevote));
    assert_eq!(taken.records(), 0);
    assert!(accusation(NODE, 1).is_ok());
    assert!(accusation(NODE, 2).is_ok(), "a node needs no gateway");
    assert!(matches!(accusation(TRADER, 3), Err(Refusal::GatewayNotPermitted { .. })), "a user keeps to its own");
    assert_eq!(accusation(STRANGER, 0), Err(Refusal::UnknownAuthor(identity(STRANGER.0))));
    let by_other = NETWORK.accusing((NODE.0, 3), 1, NETWORK.lie(3, 1));
    assert_eq!(admit(&by_other, 0), Err(Refusal::BadSignature(CryptoError::SignatureMismatch)));
    assert!(accusation(("node3@Org04", 4), 3).is_ok(), "also of itself");

    let record = NETWORK.signed(NODE, 1);
    let expected = Refusal::NodeAuthor(identity(NODE.0));
    assert_eq!(admit(&record, 1), Err(expected.clone()));
    let parsed = Transaction::parse(TransactionBytes::from(&record), &NETWORK.id).unwrap();
    assert_eq!(parsed.authorise(&NETWORK.registry, None), Err(expected.clone()), "in a block neither");
    assert_eq!(parsed.verify(&NETWORK.registry), Err(expected.clone()), "in a receipt neither");
    assert_eq!((expected.kind(), expected.is_transient()), ("node-author", false));
}

#[test]
fn two_statements_that_may_both_be() {
    let first = || prevote(3, None);
    let apart = |evidence: Evidence| match refused(evidence) {
        EvidenceError::Apart { first, second } => (first, second),
        other => panic!("{other:?}"),
    };
    let (a, b) = apart(votes(first(), prevote(2, Some(7))));
    assert_eq!((a, b), (subject(3, Kind::Prevote), subject(2, Kind::Prevote)), "two voters");
    let (_, b) = apart(votes(first(), NETWORK.vote(3, Phase::Prevote, 2, Some(7))));
    assert_eq!(b, Subject { height: Height::new(2), ..subject(3, Kind::Prevote) }, "two heights");
    let (_, b) = apart(votes(first(), NETWORK.vote(3, Phase::Precommit, 1, Some(7))));
    assert_eq!(b, subject(3, Kind::Precommit), "two phases");
    let mut later = prevote(3, Some(7));
    later.vote.round = Round::new(1);
    later.signature = node_key(3).sign(&later.vote.digest(&NETWORK.id));
    let (_, b) = apart(votes(first(), later));
    assert_eq!(b, Subject { round: Round::new(1), ..subject(3, Kind::Prevote) }, "two rounds");
    let (a, b) = apart(Evidence::Proposals { first: NETWORK.proposal(3, 1, 1), second: NETWORK.proposal(2, 1, 2) });
    assert_eq!((a, b), (subject(3, Kind::Proposal), subject(2, Kind::Proposal)));
    let (_, b) = apart(Evidence::Proposals { first: NETWORK.proposal(3, 1, 1), second: NETWORK.proposal(3, 2, 2) });
    assert_eq!(b.height, Height::new(2));
}

#[test]
fn the_same_twice_and_the_wrong_order() {
    let (nil, one, two) = (prevote(3, None), prevote(3, Some(1)), prevote(3, Some(2)));
    assert_eq!(refused(votes(one.clone(), one.clone())), EvidenceError::Same(subject(3, Kind::Prevote)));
    let mut respelled = one.clone();
    respelled.signature = high_s(&respelled.signature);
    assert_eq!(
        refused(votes(one.clone(), respelled)),
        EvidenceError::Same(subject(3, Kind::Prevote)),
        "a signature says nothing more"
    );
    assert_eq!(refused(votes(one.clone(), nil)), EvidenceError::OutOfOrder);
    assert_eq!(refused(votes(two, one)), EvidenceError::OutOfOrder);
    let proposal = |block| NETWORK.proposal(3, 1, block);
    let proposals = |first, second| Evidence::Proposals { first, second };
    assert_eq!(refused(proposals(proposal(1), proposal(1))), EvidenceError::Same(subject(3, Kind::Proposal)));
    assert_eq!(refused(proposals(proposal(2), proposal(1))), EvidenceError::OutOfOrder);
    // One block with and without a polka: two statements as well.
    let again = Proposal { round: Round::new(2), polka_round: Some(Round::new(1)), ..proposal(1).proposal };
    let fresh = Proposal { polka_round: None, ..again.clone() };
    let sign = |proposal: Proposal| {
        let signature = node_key(3).sign(&proposal.digest(&NETWORK.id));
        SignedProposal { proposer: node(3), proposal, signature }
    };
    let evidence = proposals(sign(fresh), sign(again));
    assert!(admit(&NETWORK.accusing(AUDITOR, 1, evidence), 0).is_ok());
}

#[test]
fn signatures_that_do_not_hold() {
    let bad = |which, reason| EvidenceError::Signature { which, reason };
    let with = |change: &dyn Fn(&mut SignedVote), second: bool| {
        let mut pair = [prevote(3, None), prevote(3, Some(7))];
        change(&mut pair[usize::from(second)]);
        let [a, b] = pair;
        refused(votes(a, b))
    };
    let foreign = |vote: &Vote| node_key(3).sign(&vote.digest(&Hash::ZERO));
    let as_message = |vote: &Vote| node_key(3).sign(&digest(Domain::Message, &NETWORK.id, &[&codec::encode(vote)]));
    for (second, which) in [(false, "first"), (true, "second")] {
        let mismatch = bad(which, CryptoError::SignatureMismatch);
        assert_eq!(with(&|v| v.signature = node_key(2).sign(&v.vote.digest(&NETWORK.id)), second), mismatch);
        assert_eq!(with(&|v| v.signature = foreign(&v.vote), second), mismatch, "of another network");
        assert_eq!(with(&|v| v.signature = as_message(&v.vote), second), mismatch, "of another domain");
        assert_eq!(with(&|v| v.signature = Signature::from_bytes([0; 64]), second), mismatch);
        assert_eq!(with(&|v| v.signature = high_s(&v.signature), second), bad(which, CryptoError::HighS));
        let both = with(&|v| v.voter = node(2), second);
        assert!(matches!(both, EvidenceError::Apart { .. }), "in another's name: {both:?}");
    }
    let (mut first, mut second) = (prevote(3, None), prevote(3, Some(7)));
    (first.voter, second.voter) = (node(2), node(2));
    assert_eq!(refused(votes(first, second)), bad("first", CryptoError::SignatureMismatch), "both in another's name");
    let vote_as_proposal = SignedProposal { signature: prevote(3, Some(1)).signature, ..NETWORK.proposal(3, 1, 1) };
    let proposals = Evidence::Proposals { first: vote_as_proposal, second: NETWORK.proposal(3, 1, 2) };
    assert_eq!(refused(proposals), bad("first", CryptoError::SignatureMismatch));
    assert_eq!(Refusal::from(EvidenceError::OutOfOrder).kind(), "bad-evidence");
    assert!(!Refusal::from(EvidenceError::OutOfOrder).is_transient());
}

/// As if node 3 had been a peer alone from genesis on.
fn without_a_voter() -> minidlt_protocol::registry::Registry {
    let mut genesis = NETWORK.genesis.clone();
    genesis.nodes[3].roles = BTreeSet::from([NodeRole::Peer]);
    genesis.registry()
}

#[test]
fn only_voters_are_accused() {
    let by_user = |block| {
        let vote = prevote(3, block).vote;
        SignedVote { voter: identity(TRADER.0), signature: key(TRADER.1).sign(&vote.digest(&NETWORK.id)), vote }
    };
    let not_a_voter = |who| EvidenceError::NotAVoter(identity(who));
    assert_eq!(refused(votes(by_user(None), by_user(Some(7)))), not_a_voter(TRADER.0));

    // A peer keeps the ledger and does not vote; that is found where no signature is looked at, too.
    let registry = without_a_voter();
    let signed = NETWORK.accusing(NODE, 1, NETWORK.lie(3, 1));
    let parsed = Transaction::parse(TransactionBytes::from(&signed), &NETWORK.id).unwrap();
    let expected = Err(Refusal::BadEvidence(not_a_voter("node3@Org04")));
    assert_eq!(parsed.authorise(&registry, None), expected);
    assert_eq!(parsed.verify(&registry).map(|_| ()), expected);
}

#[test]
fn false_evidence_is_kept_out_of_blocks_by_form_and_standing() {
    let registry = without_a_voter();
    let list = [NETWORK.shared(&NETWORK.accusing(AUDITOR, 1, NETWORK.lie(3, 1)))];
    let header = NETWORK.certified(&NETWORK.head, &list, &[]).block.header;
    let check = |registry| header.check_transactions(list.iter().map(|t| &***t), registry);
    assert_eq!(check(&NETWORK.registry), Ok(()));
    let reason = Refusal::BadEvidence(EvidenceError::NotAVoter(node(3)));
    assert_eq!(check(&registry), Err(BlockError::Transaction { position: 0, reason }));

    let swapped = votes(prevote(3, Some(7)), prevote(3, None));
    let mut block = NETWORK.certified(&NETWORK.head, &[], &[]).block;
    block.transactions = vec![TransactionBytes::from(&NETWORK.accusing(AUDITOR, 1, swapped))];
    let reason = Refusal::BadEvidence(EvidenceError::OutOfOrder);
    assert_eq!(block.parse(&NETWORK.id).unwrap_err(), BlockError::Transaction { position: 0, reason });
}

#[test]
fn what_the_core_finds_becomes_evidence_in_order() {
    let (nil, some) = (prevote(3, None), prevote(3, Some(7)));
    let found = Equivocation::Votes { first: some.clone(), second: nil.clone() };
    assert_eq!(Evidence::from(found), votes(nil, some));
    let (one, two) = (NETWORK.proposal(3, 1, 1), NETWORK.proposal(3, 1, 2));
    let found = Equivocation::Proposals { first: two.clone(), second: one.clone() };
    assert_eq!(Evidence::from(found), Evidence::Proposals { first: one, second: two });
}

#[test]
fn in_json_it_reads_and_is_read() {
    let signed = NETWORK.accusing(NODE, 1, NETWORK.lie(3, 1));
    let view = TransactionView::of(&NETWORK.id, &TransactionBytes::from(&signed)).unwrap();
    let shown = serde_json::to_value(view).unwrap();
    let first = &shown["operation"]["evidence"]["votes"]["first"];
    assert_eq!(first["voter"], json!({"name": "node3", "organisation": "Org04"}));
    assert_eq!(first["vote"], json!({"phase": "prevote", "height": 1, "round": 0, "block": null}));
    assert_eq!(first["signature"].as_str().map(str::len), Some(128));
    let read: Evidence = serde_json::from_value(shown["operation"]["evidence"].clone()).unwrap();
    assert_eq!(read, NETWORK.lie(3, 1));
}

// What the state keeps.

fn recorded(ledger: &Ledger, at: u8) -> Vec<Recorded> {
    state::recorded(&ledger.state, ledger.head.state_version, &node(at)).unwrap()
}

fn reason(reason: NotRecorded) -> Outcome {
    Outcome::Failed { reason: reason.to_string() }
}

/// A block of these, executed.
fn commit(ledger: &mut Ledger, signed: &[SignedTransaction]) -> (Vec<SharedTransaction>, Vec<Outcome>) {
    let list: Vec<_> = signed.iter().map(|signed| NETWORK.shared(signed)).collect();
    let certified = NETWORK.certified(&ledger.head, &list, &[0, 1, 2]);
    (list, ledger.take(&NETWORK, &certified).outcomes)
}

#[test]
fn it_is_recorded_once_and_again_has_no_effect() {
    let mut ledger = NETWORK.ledger();
    let before = ledger.head.state_root;
    assert_eq!(recorded(&ledger, 3), []);
    let lie = || NETWORK.lie(3, 1);
    let (list, outcomes) = commit(
        &mut ledger,
        &[NETWORK.accusing(AUDITOR, 1, lie()), NETWORK.signed(TRADER, 1), NETWORK.accusing(NODE, 1, lie())],
    );
    let by = list[0].id;
    assert_eq!(outcomes, [Outcome::Ok, Outcome::Ok, reason(NotRecorded::Known { by })], "in one block already");
    let entry = Recorded { height: Height::new(1), round: Round::ZERO, kind: Kind::Prevote, transaction: by };
    assert_eq!(recorded(&ledger, 3), std::slice::from_ref(&entry));
    assert_ne!(ledger.head.state_root, before);

    // Another pair of votes about the same is the same lie.
    let (version, root) = (ledger.head.state_version, ledger.head.state_root);
    let other = votes(prevote(3, Some(8)), prevote(3, Some(9)));
    let (_, outcomes) = commit(&mut ledger, &[NETWORK.accusing(AUDITOR, 2, other)]);
    assert_eq!(outcomes, [reason(NotRecorded::Known { by })]);
    assert_eq!((ledger.head.state_version, ledger.head.state_root), (version, root), "nothing was written");

    // Another phase is another lie, and other voters have lists of their own.
    let precommit = |block| NETWORK.vote(3, Phase::Precommit, 1, block);
    let (list, outcomes) = commit(
        &mut ledger,
        &[
            NETWORK.accusing(AUDITOR, 3, votes(precommit(None), precommit(Some(1)))),
            NETWORK.accusing(AUDITOR, 4, NETWORK.lie(2, 2)),
        ],
    );
    assert_eq!(outcomes, [Outcome::Ok, Outcome::Ok]);
    let second = Recorded { kind: Kind::Precommit, transaction: list[0].id, ..entry.clone() };
    assert_eq!(recorded(&ledger, 3), [entry, second]);
    assert_eq!(recorded(&ledger, 2)[0].transaction, list[1].id);

    // It is proven like all of the state.
    let (value, _) = prove(&ledger.state, ledger.head.state_version, &state_key(&node(3))).unwrap();
    assert_eq!(decode(&value.unwrap()).unwrap(), recorded(&ledger, 3));
}

#[test]
fn what_is_about_a_height_to_come_is_not_recorded() {
    let mut ledger = NETWORK.ledger();
    let evidence = |height| NETWORK.accusing(AUDITOR, height, NETWORK.lie(3, height));
    let ahead = |height| reason(NotRecorded::Ahead { height: Height::new(height), block: Height::new(1) });
    let (_, outcomes) = commit(&mut ledger, &[evidence(2), evidence(u64::MAX), evidence(1), evidence(0)]);
    assert_eq!(outcomes, [ahead(2), ahead(u64::MAX), Outcome::Ok, Outcome::Ok]);
    // The same statements may be submitted anew when their height has come.
    let (_, outcomes) = commit(&mut ledger, &[NETWORK.accusing(AUDITOR, 9, NETWORK.lie(3, 2))]);
    assert_eq!(outcomes, [Outcome::Ok]);
}

#[test]
fn of_one_voter_so_many_are_kept_and_the_oldest() {
    let mut ledger = NETWORK.ledger();
    let votes_of = |round: u32| {
        let sign = |block| {
            let vote = Vote { round: Round::new(round), ..prevote(3, block).vote };
            SignedVote { voter: node(3), signature: node_key(3).sign(&vote.digest(&NETWORK.id)), vote }
        };
        NETWORK.accusing(AUDITOR, u64::from(round), votes(sign(None), sign(Some(1))))
    };
    let all: Vec<_> = (0..=EVIDENCE_A_VOTER as u32).map(votes_of).collect();
    let (list, outcomes) = commit(&mut ledger, &all);
    assert!(outcomes[..EVIDENCE_A_VOTER].iter().all(|outcome| *outcome == Outcome::Ok));
    assert_eq!(outcomes[EVIDENCE_A_VOTER], reason(NotRecorded::Enough(node(3))));
    let kept: Vec<Hash> = recorded(&ledger, 3).iter().map(|one| one.transaction).collect();
    assert_eq!(kept, list[..EVIDENCE_A_VOTER].iter().map(|shared| shared.id).collect::<Vec<_>>());
    let (_, outcomes) = commit(&mut ledger, &[NETWORK.accusing(AUDITOR, 99, NETWORK.lie(2, 1))]);
    assert_eq!(outcomes, [Outcome::Ok], "of others there is room");
}

#[test]
fn a_chain_with_evidence_leads_to_the_same_roots_each_time() {
    let lists = [
        vec![NETWORK.shared(&NETWORK.accusing(NODE, 1, NETWORK.lie(3, 1)))],
        vec![],
        vec![NETWORK.shared(&NETWORK.accusing(AUDITOR, 1, NETWORK.lie(3, 1))), NETWORK.transaction(TRADER, 1)],
        vec![NETWORK.shared(&NETWORK.accusing(AUDITOR, 2, NETWORK.lie(2, 4)))],
    ];
    let chain = NETWORK.chain(&lists);
    let replay = || {
        let mut ledger = NETWORK.ledger();
        chain.iter().for_each(|certified| drop(ledger.take(&NETWORK, certified)));
        ledger.head
    };
    assert_eq!(replay(), replay());
    assert_eq!(replay().state_version, 2);
    let certain = [&chain[..], &NETWORK.chain(&[&lists[..], &[vec![]]].concat())[4..]].concat();
    for (at, position) in [(0, 0), (2, 0), (2, 1), (3, 0)] {
        let receipt = NETWORK.receipt(&certain, at, position);
        let transaction = receipt.verify(&NETWORK.genesis).expect("a receipt needs the genesis alone");
        assert_eq!(transaction.id, lists[at][position].id);
        assert_eq!(receipt.result == Outcome::Ok, (at, position) != (2, 0));
    }
}

#[test]
fn a_state_that_cannot_be_read_is_an_error_and_not_an_empty_one() {
    let list = [NETWORK.shared(&NETWORK.accusing(AUDITOR, 1, NETWORK.lie(3, 1)))];
    assert!(state::execute(&Unreadable, &NETWORK.registry, &NETWORK.head, NOW, list.iter().map(|t| &***t)).is_err());
    let mut ledger = NETWORK.ledger();
    commit(&mut ledger, &[NETWORK.accusing(AUDITOR, 1, NETWORK.lie(3, 1))]);
    let mut damaged = 0;
    for entry in ledger.state.0.values_mut() {
        if let Some(byte) = entry.first_mut() {
            *byte ^= 1;
            damaged += 1;
        }
    }
    assert!(damaged > 0);
    let found: Result<_, StateError> = state::recorded(&ledger.state, 1, &node(3));
    assert!(found.unwrap_err().0.contains("damaged"));
}

fn blocks() -> impl Strategy<Value = Option<u8>> {
    prop::option::of(any::<u8>())
}

fn phases() -> impl Strategy<Value = Phase> {
    prop_oneof![Just(Phase::Prevote), Just(Phase::Precommit)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Two statements that differ have one order in which they are taken, and it is the one that
    /// `ordered` gives, whichever came first; two that do not have none.
    #[test]
    fn a_pair_has_one_spelling(phase in phases(), a in blocks(), b in blocks(), proposals in any::<bool>()) {
        let pair = |a: Option<u8>, b: Option<u8>| if proposals {
            let proposal = |block: Option<u8>| NETWORK.proposal(3, 1, block.unwrap_or(0));
            Evidence::Proposals { first: proposal(a), second: proposal(b) }
        } else {
            votes(NETWORK.vote(3, phase, 1, a), NETWORK.vote(3, phase, 1, b))
        };
        let differ = if proposals { a.unwrap_or(0) != b.unwrap_or(0) } else { a != b };
        let taken = |evidence: Evidence| evidence.accuse(&NETWORK.id).is_ok();
        let spellings = [pair(a, b), pair(b, a)];
        prop_assert_eq!(spellings.iter().filter(|one| taken((*one).clone())).count(), usize::from(differ));
        if differ {
            let [one, other] = spellings.map(Evidence::ordered);
            prop_assert_eq!(&one, &other);
            prop_assert!(taken(one));
        }
    }

    /// A body changed in any byte holds the very same evidence, or is refused.
    #[test]
    fn changed_evidence_is_never_taken(at in any::<prop::sample::Index>(), flip in 1u8..) {
        let honest = NETWORK.accusing(AUDITOR, 1, NETWORK.lie(3, 1));
        let mut body = honest.body.to_vec();
        let at = at.index(body.len());
        body[at] ^= flip;
        // Signed by an author who lies about what it saw.
        let signature = key(AUDITOR.1).sign(&minidlt_protocol::transaction::id_of(&NETWORK.id, &body));
        if let Ok(taken) = admit(&SignedTransaction::new(body, signature), 0) {
            // The change was elsewhere: in a time or the nonce.
            prop_assert_eq!(taken.body().unwrap().operation, Operation::Evidence(NETWORK.lie(3, 1).into()));
        }
    }
}

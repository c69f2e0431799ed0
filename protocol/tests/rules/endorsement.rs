//! Collecting endorsements: who is asked, who next, when it is enough and when it is hopeless; and what of a
//! message about them is taken.

use std::{collections::BTreeSet, sync::LazyLock};

use minidlt_protocol::{
    block::SharedTransaction,
    crypto::Signature,
    endorsement::{Answer, Collection, EndorsementContent, EndorsementError, Next, Reason, Verdict},
    governance::{Change, SetPolicy},
    limits::{MAX_PROPOSED, MAX_PROPOSED_BYTES, MAX_REFUSAL_BYTES},
    registry::{Entry, Node, NodeRole, Policy, PolicyEntry, Registry, Role, SignerRole, Standing, policies},
    transaction::{Body, Endorsement, Operation, SignedTransaction, Transaction, TransactionBytes},
    types::{Hash, Identity},
};

use crate::common::{ADMIN, ADMINS, NOW, Network, identity, key, name, node, node_key};

static NETWORK: LazyLock<Network> = LazyLock::new(Network::bft);

fn leaf(organisation: &str, role: impl Into<SignerRole>) -> Policy {
    Policy::Leaf { organisation: name(organisation), role: role.into() }
}

fn peer(organisation: &str) -> Policy {
    leaf(organisation, NodeRole::Peer)
}

/// A registry in which this is the policy `policies`, the admin of Org01 may set policies, and Org02 has a second
/// peer, `node9`.
fn registry(policy: Policy) -> Registry {
    let mut genesis = NETWORK.genesis.clone();
    let admin = genesis.users.iter_mut().find(|user| user.identity() == identity(ADMIN.0)).unwrap();
    admin.roles.insert(Role::PolicyInvoker);
    let second = Node::new(second(), key(50).public_key(), [NodeRole::Peer].into(), "127.0.0.1:9".into());
    genesis.nodes.push(second);
    let mut registry = genesis.registry();
    registry.put(Entry::Policy(name(policies::POLICIES), PolicyEntry { policy, revision: 0 }));
    registry
}

fn second() -> Identity {
    identity("node9@Org02")
}

/// A change that needs the policy `policies`, endorsed by the admins of so many further organisations.
fn change(registry: &Registry, admins: usize) -> SharedTransaction {
    let change = Change::SetPolicy(SetPolicy { name: name("other"), revision: None, policy: peer("Org01") });
    let body = Body { operation: Operation::Change(change.into()), ..NETWORK.body(ADMIN.0, 1) };
    let mut signed = SignedTransaction::sign(&body, &key(ADMIN.1));
    for (admin, seed) in &ADMINS[1..=admins] {
        NETWORK.endorse(&mut signed, admin, *seed);
    }
    let parsed = Transaction::parse(TransactionBytes::from(&signed), &NETWORK.id).unwrap();
    parsed.verify(registry).unwrap().into()
}

struct Case {
    registry: Registry,
    transaction: SharedTransaction,
    collection: Collection,
    connected: BTreeSet<Identity>,
}

impl Case {
    /// At node 0, with all others connected.
    fn new(policy: Policy, admins: usize) -> Self {
        let registry = registry(policy);
        let transaction = change(&registry, admins);
        let connected = registry.nodes.keys().cloned().collect();
        Self { collection: Collection::new(&transaction), transaction, registry, connected }
    }

    fn next(&mut self) -> Next {
        self.collection.next(&self.registry, &node(0), |peer| self.connected.contains(peer))
    }

    fn asks(&mut self, expected: &[Identity]) {
        assert_eq!(self.next(), Next::Ask(expected.to_vec()));
    }

    fn endorses(&mut self, peer: &Identity) {
        let seed = if *peer == second() { 50 } else { peer.name.as_str()[4..].parse::<u8>().unwrap() + 1 };
        let signature = key(seed).sign(&self.transaction.id);
        assert!(self.collection.answered(peer, Verdict::Endorsed(signature), &self.registry));
    }

    fn refuses(&mut self, peer: &Identity) {
        let verdict = Verdict::Refused(Reason::new("operator", "not today"));
        assert!(self.collection.answered(peer, verdict, &self.registry));
    }

    /// It is complete, and holds wherever it comes; who endorsed it.
    fn complete(&mut self) -> Vec<Identity> {
        let Next::Complete(bytes) = self.next() else { panic!("it is not complete") };
        let parsed = Transaction::parse(bytes, &NETWORK.id).unwrap();
        assert_eq!(parsed.id, self.transaction.id);
        let verified = parsed.verify(&self.registry).unwrap();
        verified.rehearse(&self.registry, NOW).unwrap();
        verified.endorsements.iter().map(|one| one.endorser.clone()).collect()
    }

    fn hopeless(&mut self) -> String {
        let Next::Hopeless(refusal) = self.next() else { panic!("there is hope") };
        assert_eq!(refusal.kind(), "policy-not-met");
        refusal.to_string()
    }

    fn said(&self) -> Vec<(String, String)> {
        let said = self.collection.said(&self.registry, false).into_iter();
        said.map(|one| (one.peer.to_string(), one.reason.kind)).collect()
    }

    /// The two peers of Org02, the one whose turn it is first.
    fn of_org02(&mut self) -> [Identity; 2] {
        match self.next() {
            Next::Ask(asked) if asked == [second()] => [second(), node(1)],
            Next::Ask(asked) if asked == [node(1)] => [node(1), second()],
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn one_peer_of_each_organisation_is_asked_side_by_side_and_it_is_complete_with_the_last() {
    let policy = Policy::All { all: vec![peer("Org01"), peer("Org03"), peer("Org04")] };
    let mut case = Case::new(policy, 0);
    case.asks(&[node(0), node(2), node(3)]);
    case.endorses(&node(3));
    case.asks(&[]);
    case.endorses(&node(0));
    case.endorses(&node(2));
    assert!(!case.collection.expects(&node(2)) && case.collection.expected().count() == 0);
    assert_eq!(case.complete(), [node(3), node(0), node(2)]);
}

#[test]
fn enough_is_enough_and_who_is_no_peer_in_good_standing_is_not_asked() {
    let mut case = Case::new(Policy::Majority { majority: NodeRole::Peer.into() }, 0);
    let suspended = Node { standing: Standing::Suspended, ..case.registry.nodes[&node(1)].clone() };
    case.registry.put(Entry::Node(suspended));
    case.asks(&[node(0), second(), node(2), node(3)]);
    for one in [node(0), second(), node(3)] {
        case.endorses(&one);
    }
    assert_eq!(case.complete(), [node(0), second(), node(3)]);
    assert_eq!(case.collection.expected().collect::<Vec<_>>(), [&node(2)], "its answer may still come");
}

#[test]
fn of_an_organisation_the_next_is_asked_where_one_does_not_endorse_it() {
    type Fails = fn(&mut Case, &Identity);
    let failures: [(&str, Fails); 4] = [
        ("operator", |case, peer| case.refuses(peer)),
        ("no-answer", |case, peer| case.collection.silent(peer)),
        ("lost", |case, peer| case.collection.lost(peer)),
        ("bad-endorsement", |case, peer| {
            let bad = node_key(3).sign(&case.transaction.id);
            assert!(!case.collection.answered(peer, Verdict::Endorsed(bad), &case.registry));
        }),
    ];
    for (kind, fails) in failures {
        let mut case = Case::new(peer("Org02"), 0);
        let [first, other] = case.of_org02();
        fails(&mut case, &first);
        case.asks(std::slice::from_ref(&other));
        // Who is only late may be heard yet; who lost its connection, or lied, is not.
        assert_eq!(case.collection.expects(&first), kind == "no-answer", "{kind}");
        case.refuses(&other);
        if kind == "no-answer" {
            case.asks(&[]);
            case.endorses(&first);
            assert_eq!(case.complete(), [first]);
            continue;
        }
        let why = case.hopeless();
        assert!(why.contains("policy 'policies' is not met; missing: peer of Org02."), "{kind}: {why}");
        let mut expected = [(first.to_string(), kind.to_owned()), (other.to_string(), "operator".to_owned())];
        expected.sort();
        assert_eq!(case.said(), expected);
    }
}

#[test]
fn the_words_of_others_are_shown_without_what_steers_a_terminal() {
    let mut case = Case::new(peer("Org03"), 0);
    case.asks(&[node(2)]);
    let verdict = Verdict::Refused(Reason { kind: "\u{1b}[2Jx".into(), reason: "no\nyes".into() });
    case.collection.answered(&node(2), verdict, &case.registry);
    let said = case.collection.said(&case.registry, false);
    assert_eq!((said[0].reason.kind.as_str(), said[0].reason.reason.as_str()), ("\\u{1b}[2Jx", "no\\nyes"));
}

#[test]
fn what_peers_cannot_meet_is_refused_before_any_is_asked_and_only_that_is_named() {
    let both = || Policy::All { all: vec![Policy::Majority { majority: Role::Admin.into() }, peer("Org02")] };
    let why = Case::new(both(), 1).hopeless();
    assert!(why.contains("missing: admin of 3 of the 4 organisations (2 signed)."), "{why}");
    let mut case = Case::new(both(), 2);
    let [first, _] = case.of_org02();
    case.endorses(&first);
    assert_eq!(case.complete().last(), Some(&first));

    // One that refuses makes it hopeless whatever the other says, who is not blamed for it before its time.
    let mut case = Case::new(Policy::All { all: vec![peer("Org03"), peer("Org04")] }, 0);
    case.asks(&[node(2), node(3)]);
    case.refuses(&node(2));
    case.hopeless();
    assert_eq!(case.said(), [("node2@Org03".to_owned(), "operator".to_owned())]);
    let late = case.collection.said(&case.registry, true);
    assert_eq!(late[1].reason.kind, "no-answer");

    // One of them is enough of two, and the other cannot be had.
    let either = Policy::Any { any: vec![leaf("Org04", Role::Auditor), peer("Org03")] };
    Case::new(either, 0).asks(&[node(2)]);
    let mut case = Case::new(peer("Org03"), 0);
    case.connected.remove(&node(2));
    let why = case.hopeless();
    assert!(why.contains("missing: peer of Org03."), "{why}");
    assert_eq!(case.said(), [("node2@Org03".to_owned(), "not-connected".to_owned())]);
    let lacking = case.collection.lacking(&case.registry).map(|refusal| refusal.to_string());
    assert_eq!(lacking, Some(why));
}

#[test]
fn the_endorsement_of_who_lost_its_standing_meanwhile_counts_for_nothing() {
    let mut case = Case::new(Policy::All { all: vec![peer("Org02"), peer("Org03")] }, 0);
    let Next::Ask(asked) = case.next() else { panic!("it is to be asked for") };
    case.endorses(&asked[0]);
    let revoked = Node { standing: Standing::Revoked, ..case.registry.nodes[&asked[0]].clone() };
    case.registry.put(Entry::Node(revoked));
    let other = if asked[0] == node(1) { second() } else { node(1) };
    case.asks(std::slice::from_ref(&other));
    case.endorses(&other);
    case.endorses(&node(2));
    assert_eq!(case.complete(), [other, node(2)]);
}

#[test]
fn what_is_missing_of_a_policy_is_told_by_organisation_and_role() {
    let registry = registry(Policy::All {
        all: vec![
            Policy::AtLeast { at_least: 2, of: vec![peer("Org01"), leaf("Org01", Role::Admin), peer("Org03")] },
            Policy::Majority { majority: Role::Admin.into() },
        ],
    });
    let transaction = change(&registry, 1);
    let [(name, explanation)] = &transaction.explain(&registry)[..] else { panic!("one policy") };
    assert_eq!(name, policies::POLICIES);
    let peers = ["Org01", "Org03"].map(|organisation| (crate::common::name(organisation), NodeRole::Peer.into()));
    let admins = ["Org03", "Org04"].map(|organisation| (crate::common::name(organisation), Role::Admin.into()));
    assert_eq!(explanation.missing_signers(), peers.into_iter().chain(admins).collect());
    let mut endorsed = Transaction::clone(&transaction);
    let forged = |endorser| Endorsement { endorser, signature: Signature::from_bytes([0; 64]) };
    endorsed.endorsements.extend([forged(node(2)), forged(identity(ADMINS[2].0))]);
    assert_eq!(endorsed.explain(&registry)[0].1.missing_signers(), BTreeSet::new(), "of what is met nothing is");
}

#[test]
fn a_message_beyond_its_bounds_is_refused() {
    let bytes = |size: usize| TransactionBytes::from(vec![0; size]);
    let propose = |list: Vec<TransactionBytes>| EndorsementContent::Propose(list).check().map(|_| ());
    assert_eq!(propose(vec![]), Err(EndorsementError::Count(0)));
    assert_eq!(propose(vec![bytes(1); MAX_PROPOSED]), Ok(()));
    assert_eq!(propose(vec![bytes(1); MAX_PROPOSED + 1]), Err(EndorsementError::Count(MAX_PROPOSED + 1)));
    assert_eq!(propose(vec![bytes(MAX_PROPOSED_BYTES)]), Ok(()));
    let over = MAX_PROPOSED_BYTES + 1;
    assert_eq!(propose(vec![bytes(1), bytes(over - 1)]), Err(EndorsementError::Bytes(over)));
    let answers = |count: usize, length: usize| {
        let reason = Reason { kind: "x".into(), reason: "y".repeat(length) };
        let answer = Answer { id: Hash::ZERO, verdict: Verdict::Refused(reason) };
        EndorsementContent::Answers(vec![answer; count]).check().map(|_| ())
    };
    assert_eq!(answers(MAX_PROPOSED, MAX_REFUSAL_BYTES - 1), Ok(()));
    assert_eq!(answers(MAX_PROPOSED + 1, 1), Err(EndorsementError::Count(MAX_PROPOSED + 1)));
    assert_eq!(answers(1, MAX_REFUSAL_BYTES), Err(EndorsementError::Reason(MAX_REFUSAL_BYTES + 1)));
    let long = Reason::new("operator", &"\u{7}".repeat(10_000));
    let answer = Answer { id: Hash::ZERO, verdict: Verdict::Refused(long) };
    assert!(EndorsementContent::Answers(vec![answer]).check().is_ok(), "what this node makes fits");
}

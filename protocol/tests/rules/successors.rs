//! Successors: what one carries on, and each way in which a genesis is not one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use minidlt_protocol::{
    block::{CertifiedBlock, SharedTransaction},
    codec,
    crypto::SecretKey,
    evidence,
    genesis::Genesis,
    governance::{Change, ChangeNode, ChangeUser, EnrolUser, FormerKeyFor, SetRecordType},
    limits::{MAX_GENESIS_BYTES, MAX_PREDECESSORS},
    lineage::VoterChange,
    registry::{EntryKey, Role, Standing},
    state::{self, Outcome, StateReader, genesis_head},
    state_proof::{Base64, Proven},
    successor::{Predecessor, SuccessorError, succeed},
    sync::Synchronise,
    transaction::{Body, Content, Operation, SignedTransaction, Transaction, TransactionBytes},
    types::{Hash, Height, Identity, Timestamp},
    vote::ConsensusMode,
};

use crate::common::{ADMIN, ADMINS, BROKER, Ledger, NOW, Network, TRADER, identity, key, name, network, node};

/// Enrolled in the last block.
const CLERK: (&str, u8) = ("clerk@Org01", 50);
/// Its node is gone for good.
const GONE: u8 = 3;

fn change(network: &Network, author: (&str, u8), nonce: u64, change: Change) -> SharedTransaction {
    let body = Body { operation: Operation::Change(change.into()), ..network.body(author.0, nonce) };
    network.shared(&SignedTransaction::sign(&body, &key(author.1)))
}

fn enrol(network: &Network, nonce: u64, (who, seed): (&str, u8)) -> SharedTransaction {
    let (roles, gateways) = ([Role::Submitter].into(), [node(0)].into());
    let public_key = key(seed).public_key();
    change(network, ADMIN, nonce, Change::EnrolUser(EnrolUser { user: identity(who), public_key, roles, gateways }))
}

fn suspend(network: &Network, nonce: u64, user: &str) -> SharedTransaction {
    let (user, standing) = (identity(user), Some(Standing::Suspended));
    let suspended = ChangeUser { user, revision: 0, public_key: None, roles: None, gateways: None, standing };
    change(network, ADMINS[2], nonce, Change::ChangeUser(suspended))
}

/// Three blocks, of which the first and the last change who is enrolled.
fn chain_of(network: &Network) -> Vec<CertifiedBlock> {
    network.chain(&[
        vec![network.transaction(TRADER, 1), suspend(network, 2, "auditor@Org03")],
        vec![network.transaction(BROKER, 3)],
        vec![network.transaction(TRADER, 4), enrol(network, 5, CLERK)],
    ])
}

fn make(network: &Network, chain: &[CertifiedBlock], without: &[u8]) -> Result<Genesis, SuccessorError> {
    let without: BTreeSet<Identity> = without.iter().map(|at| node(*at)).collect();
    succeed(&network.genesis, network.ending(chain), without, NOW)
}

/// The admins of this many organisations sign.
fn signed(mut genesis: Genesis, admins: usize) -> Genesis {
    ADMINS[..admins].iter().for_each(|(who, seed)| genesis.consent(identity(who), &key(*seed)));
    genesis
}

static NETWORK: LazyLock<Network> = LazyLock::new(Network::bft);
static CHAIN: LazyLock<Vec<CertifiedBlock>> = LazyLock::new(|| chain_of(&NETWORK));
static SUCCESSOR: LazyLock<Genesis> = LazyLock::new(|| signed(make(&NETWORK, &CHAIN, &[GONE]).unwrap(), 3));

fn before(genesis: &mut Genesis) -> &mut Predecessor {
    genesis.predecessor.as_deref_mut().expect("a successor")
}

#[test]
fn the_whole_state_is_carried_on_and_who_is_gone_votes_no_more() {
    for mode in [ConsensusMode::Bft, ConsensusMode::FullConsent] {
        let network = network(mode);
        let successor = signed(make(&network, &chain_of(&network), &[GONE]).unwrap(), 3);
        assert_eq!(successor.check(), Ok(()));
        let registry = successor.registry();
        assert_eq!(registry.mode, mode);
        let voters: Vec<_> = registry.voters_at(Height::new(1)).as_slice().iter().map(|v| v.identity.clone()).collect();
        assert_eq!(voters, [node(0), node(1), node(2)]);
        let gone = &registry.nodes[&node(GONE)];
        assert_eq!((gone.standing, gone.revision), (Standing::Suspended, 1));
        let auditor = &registry.users[&identity("auditor@Org03")];
        assert_eq!((auditor.standing, auditor.revision), (Standing::Suspended, 1));
        assert!(registry.active_user(&identity(CLERK.0)).is_some(), "by the last block, which nothing certified");
        assert_eq!(registry.users.len(), network.registry.users.len() + 1);
        assert_eq!(registry.policies, network.registry.policies);

        let (head, update) = genesis_head(&successor).unwrap();
        assert_eq!((head.height, head.hash), (Height::GENESIS, successor.id()));
        let mut state = crate::common::MemoryState::default();
        state.apply(update);
        assert_eq!(state::registry(&state, 0, mode).unwrap(), registry, "a node reads back the same");
        let origin = state::value(&state, 0, b"predecessor").unwrap();
        assert_eq!(origin, Some(codec::encode(&before(&mut successor.clone()).origin())));
        assert_ne!(successor.id(), network.id);
    }
}

/// What there is under each key of a ledger's state.
fn all_of(ledger: &Ledger) -> BTreeMap<String, Vec<u8>> {
    let value = |key: &[u8]| state::value(&ledger.state, ledger.head.state_version, key).unwrap();
    let keys = ledger.state.keys().unwrap().into_iter();
    keys.filter_map(|key| Some((String::from_utf8(key.clone()).unwrap(), value(&key)?))).collect()
}

#[test]
fn entries_of_each_kind_are_carried_on_as_they_stood_after_the_last_block() {
    let mut genesis = NETWORK.genesis.clone();
    let admin = genesis.users.iter_mut().find(|user| user.identity() == identity(ADMIN.0)).expect("an admin");
    admin.roles.extend([Role::NodeInvoker, Role::PolicyInvoker]);
    let network = &network_of(genesis);
    let by_admins = |nonce, change: Change| {
        let body = Body { operation: Operation::Change(change.into()), ..network.body(ADMIN.0, nonce) };
        let mut signed = SignedTransaction::sign(&body, &key(ADMIN.1));
        ADMINS[1..3].iter().for_each(|(who, seed)| network.endorse(&mut signed, who, *seed));
        network.shared(&signed)
    };
    let schema = Content::from_json(&serde_json::json!({"type": "object"}));
    let set = SetRecordType { name: name("trade"), revision: None, schema, policy: None, standing: None };
    let rotate = Change::ChangeNode(ChangeNode {
        node: node(0),
        revision: 0,
        public_key: Some(key(71).public_key()),
        former_key: Some(FormerKeyFor { until: NOW.plus_millis(60_000) }),
        roles: None,
        address: None,
        standing: None,
    });
    let accused = network.shared(&network.accusing(TRADER, 2, network.lie(1, 1)));
    let chain = network.chain(&[
        vec![by_admins(1, Change::SetRecordType(set)), accused],
        vec![suspend(network, 3, "auditor@Org03")],
        vec![by_admins(4, rotate), enrol(network, 5, CLERK)],
    ]);
    let mut ledger = network.ledger();
    for block in &chain {
        let outcomes = ledger.take(network, block).outcomes;
        assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Ok), "{outcomes:?}");
    }
    let state = all_of(&ledger);
    assert!(ledger.registry.nodes[&node(0)].former_key.is_some() && state.contains_key("record-type/trade"));
    assert!(state.contains_key("evidence/node1@Org02") && state.contains_key("user/clerk@Org01"));
    let renamed = |key: String| if key.starts_with("evidence/") { format!("predecessor/{key}") } else { key };
    let its_own = |key: &str| key == "network" || key.starts_with("voters/");
    let expected: BTreeMap<_, _> =
        state.into_iter().filter(|(key, _)| !its_own(key)).map(|(key, value)| (renamed(key), value)).collect();

    let mut successor = signed(make(network, &chain, &[]).unwrap(), 3);
    assert_eq!(successor.check(), Ok(()));
    let carried = before(&mut successor).carried().into_iter();
    let carried: BTreeMap<_, _> = carried.map(|(key, value)| (String::from_utf8(key).unwrap(), value)).collect();
    assert_eq!(carried, expected);
    // All of it is in the new ledger, and beside it only what is its own.
    let mut begun = all_of(&network_of(successor).ledger());
    begun.retain(|key, _| key != "predecessor" && !its_own(key));
    assert_eq!(begun, expected);
}

#[test]
fn what_no_rule_knows_of_is_carried_on_as_it_is() {
    // A state of the same root, with entries of kinds to come.
    let mut ending = NETWORK.ending(&CHAIN);
    ending.state.insert(b"contract/escrow/balance".to_vec(), vec![7]);
    let refused = succeed(&NETWORK.genesis, ending, BTreeSet::new(), NOW).unwrap_err();
    assert!(matches!(refused, SuccessorError::StateRoot { .. }), "no header certifies it: {refused}");
    let mut predecessor = before(&mut SUCCESSOR.clone()).clone();
    predecessor.state.insert("contract/escrow/balance".into(), Base64(vec![7]));
    assert_eq!(predecessor.carried().get(&b"contract/escrow/balance"[..]), Some(&vec![7]));
    let keys: Vec<_> = predecessor.carried().into_keys().filter_map(|key| EntryKey::of_bytes(&key)).collect();
    assert!(!keys.iter().any(|key| matches!(key, EntryKey::Voters(_))), "who votes is made anew: {keys:?}");
}

#[test]
fn evidence_of_the_old_chain_is_kept_apart_from_that_of_the_new_one() {
    let (at, liar) = (1, node(1));
    let key = |depth: usize| ["predecessor/".repeat(depth), format!("evidence/{liar}")].concat().into_bytes();
    let mut network = Network::bft();
    let mut old: Vec<Option<Vec<u8>>> = vec![];
    for depth in 0..3 {
        // The same height, round and phase on each chain.
        let accused = network.shared(&network.accusing(TRADER, 1, network.lie(at, 1)));
        let block = |head: &_, list: &[SharedTransaction]| network.certified(head, list, &[0, 1, 2]);
        let mut ledger = network.ledger();
        let first = block(&ledger.head, std::slice::from_ref(&accused));
        assert_eq!(ledger.take(&network, &first).outcomes, [Outcome::Ok], "it is recorded anew");
        let stored = |key: &[u8]| state::value(&ledger.state, ledger.head.state_version, key).unwrap();
        let [recorded] = &evidence::decode(&stored(&key(0)).unwrap()).unwrap()[..] else { panic!("one") };
        assert_eq!((recorded.height, recorded.transaction), (Height::new(1), accused.id));
        for (before, value) in old.iter().rev().enumerate() {
            assert_eq!(&stored(&key(before + 1)), value, "{before} networks before network {depth}");
        }
        old.push(stored(&key(0)));
        let second = block(&ledger.head, &[]);
        network = network_of(signed(make(&network, &[first, second], &[]).unwrap(), 3));
    }
}

#[test]
fn its_id_is_the_same_whoever_signed_and_its_file_reads_back() {
    let unsigned = make(&NETWORK, &CHAIN, &[GONE]).unwrap();
    for admins in 0..=4 {
        let some = signed(unsigned.clone(), admins);
        assert_eq!(some.id(), SUCCESSOR.id());
        assert_eq!(some.check_unsigned(), Ok(()));
        assert_eq!(some.check().is_ok(), admins >= 3, "{admins}");
        let text = serde_json::to_string(&some).unwrap();
        assert_eq!(codec::decode_canonical::<Genesis>(&codec::encode(&some), MAX_GENESIS_BYTES), Ok(some.clone()));
        assert_eq!(serde_json::from_str::<Genesis>(&text).unwrap(), some);
    }
    let error = signed(unsigned.clone(), 2).check().unwrap_err().to_string();
    assert!(error.contains("policy 'organisations' is not met"), "{error}");
    // With nobody suspended, no policy on voters is asked.
    let mut network = Network::bft();
    let all = |n| minidlt_protocol::registry::Policy::Leaf { organisation: name(n), role: Role::Admin.into() };
    network.genesis.policies.insert(name("orderers"), all("Org04"));
    let genesis = network.genesis.clone();
    let network = Network {
        id: genesis.id(),
        registry: genesis.registry().into(),
        head: genesis_head(&genesis).unwrap().0,
        ..network
    };
    let chain = network.chain(&[vec![], vec![]]);
    assert_eq!(signed(make(&network, &chain, &[]).unwrap(), 3).check(), Ok(()));
    let error = signed(make(&network, &chain, &[GONE]).unwrap(), 3).check().unwrap_err().to_string();
    assert!(error.contains("policy 'orderers' is not met; missing: admin of Org04"), "{error}");
}

type Edit = (&'static str, fn(&mut Genesis));

/// Each is found although who may sign has signed it.
const EDITS: &[Edit] = &[
    ("network is not as it was", |g| g.network = name("other")),
    ("consensus is not as it was", |g| g.consensus = ConsensusMode::FullConsent),
    ("timeouts is not as it was", |g| g.timeouts.vote_ms += 1),
    ("synchronise is not as it was", |g| g.synchronise = Synchronise::All),
    ("before the last block", |g| g.created = Timestamp::from_millis(1)),
    ("genesis: nodes: empty", |g| before(g).genesis.nodes.clear()),
    ("last.hash", |g| before(g).genesis.created = NOW.plus_millis(1)),
    ("voter_changes[0]", |g| {
        let (header, none) = (before(g).last.clone(), || Base64(vec![]));
        let proven = Proven { key: "voters/00000000000000000004".into(), value: None, proof: none() };
        before(g).voter_changes.push(VoterChange { header, proven });
    }),
    ("last.hash", |g| before(g).last.hash = Hash::ZERO),
    ("last.hash", |g| before(g).last.header.height = Height::new(2)),
    ("height: 0", |g| before(g).last.header.height = Height::GENESIS),
    ("last.hash", |g| before(g).last.header.state_root = Hash::ZERO),
    ("certificate.signatures", |g| drop(before(g).last.certificate.signatures.pop())),
    ("last.certificate", |g| {
        let signatures = &mut before(g).last.certificate.signatures;
        signatures[0].signature = signatures[1].signature;
    }),
    ("state: its root is", |g| drop(before(g).state.pop_last())),
    ("state: its root is", |g| before(g).state.values_mut().for_each(|value| value.0[0] ^= 1)),
    ("state: its root is", |g| drop(before(g).state.insert("user/mallory@Org01".into(), Base64(vec![1])))),
    ("transactions root", |g| drop(before(g).transactions.pop())),
    ("transactions root", |g| before(g).transactions.reverse()),
    ("transactions: transaction 0", |g| before(g).transactions[0].0.truncate(9)),
    ("changes: ", |g| drop(before(g).changes.pop_last())),
    ("changes: ", |g| drop(before(g).changes.insert("user/admin@Org02".into(), None))),
    ("changes: node/node3@Org04", |g| before(g).without.clear()),
    ("changes: node/node2@Org03", |g| before(g).without.extend([node(2)])),
    ("without: node9@Org01 is not an orderer", |g| before(g).without.extend([identity("node9@Org01")])),
    ("without node", |g| before(g).without.extend((0..4).map(node))),
    ("organisations: not the members", |g| drop(g.organisations.pop())),
    ("nodes: not the members", |g| g.nodes[0].address = "elsewhere:1".into()),
    ("users: not the members", |g| g.users[0].public_key = key(99).public_key()),
    ("policies: not the members", |g| g.policies.clear()),
];

#[test]
fn whatever_is_edited_is_found_whoever_signed() {
    for (at, (words, edit)) in EDITS.iter().enumerate() {
        let mut genesis = SUCCESSOR.clone();
        edit(&mut genesis);
        let error = genesis.check().expect_err(words).to_string();
        assert!(error.contains(words), "edit {at}: {error}");
        before(&mut genesis).signatures.clear();
        let error = signed(genesis, 4).check().expect_err(words).to_string();
        assert!(error.contains(words), "edit {at}, signed: {error}");
    }
}

#[test]
fn signatures_are_by_users_over_this_very_file() {
    let check = |edit: &dyn Fn(&mut Genesis)| {
        let mut genesis = SUCCESSOR.clone();
        edit(&mut genesis);
        genesis.check_unsigned().expect_err("edited").to_string()
    };
    let other = check(&|g| g.created = g.created.plus_millis(1));
    assert!(other.contains("signatures: admin@Org01: "), "over another: {other}");
    let twice = check(&|g| {
        let first = before(g).signatures[0].clone();
        before(g).signatures.push(first);
    });
    assert!(twice.contains("admin@Org01 stands twice"), "{twice}");
    let consent = |who: &str, secret: SecretKey| check(&|g| g.consent(identity(who), &secret));
    let stranger = consent("stranger@Org01", key(99));
    assert!(stranger.contains("stranger@Org01 is not a user in good standing"), "{stranger}");
    let suspended = consent("auditor@Org03", key(13));
    assert!(suspended.contains("auditor@Org03 is not a user in good standing"), "{suspended}");
    let node = consent("node0@Org01", key(1));
    assert!(node.contains("node0@Org01 is not a user"), "{node}");
    let forged = consent("admin@Org04", key(99));
    assert!(forged.contains("signatures: admin@Org04: "), "{forged}");
    let many = check(&|g| {
        let first = before(g).signatures[0].clone();
        before(g).signatures.extend(vec![first; 64]);
    });
    assert!(many.contains("at most 64"), "{many}");
    // Users without the role sign in vain.
    let mut genesis = make(&NETWORK, &CHAIN, &[GONE]).unwrap();
    for (who, seed) in [TRADER, BROKER, CLERK] {
        genesis.consent(identity(who), &key(seed));
    }
    assert_eq!(genesis.check_unsigned(), Ok(()));
    assert!(genesis.check().is_err());
    // Who signs again replaces the signature before.
    genesis.consent(identity(TRADER.0), &key(TRADER.1));
    assert_eq!(before(&mut genesis).signatures.len(), 3);
}

#[test]
fn what_cannot_be_carried_on_is_named() {
    let all = make(&NETWORK, &CHAIN, &[0, 1, 2, 3]).unwrap_err();
    assert!(matches!(all, SuccessorError::Without { .. }) && all.to_string().contains("nobody could decide"), "{all}");
    let mut ending = NETWORK.ending(&CHAIN);
    ending.last.header.height = Height::GENESIS;
    let none = succeed(&NETWORK.genesis, ending, BTreeSet::new(), NOW);
    assert_eq!(none, Err(SuccessorError::NoBlock));
}

#[test]
fn what_was_proven_before_is_proven_still_up_to_its_last_block() {
    let network = &*NETWORK;
    let chain =
        network.chain(&[vec![network.transaction(TRADER, 1)], vec![network.transaction(BROKER, 2)], vec![], vec![]]);
    let receipts = [network.receipt(&chain, 0, 0), network.receipt(&chain, 1, 0)];
    let proofs =
        [network.state_proof(&chain[..2], "user/trader@Org01"), network.state_proof(&chain[..3], "policy/orderers")];
    // It goes on from block 2.
    let successor = signed(make(network, &chain[..2], &[GONE]).unwrap(), 3);
    assert_eq!(receipts[0].verify(&successor).map(|transaction| transaction.id), Ok(receipts[0].id));
    assert_eq!(proofs[0].verify(&successor), Ok(Height::new(1)));
    let beyond = receipts[1].verify(&successor).unwrap_err().to_string();
    assert!(beyond.contains("block 3 of a network whose successor goes on from block 2"), "{beyond}");
    let beyond = proofs[1].verify(&successor).unwrap_err().to_string();
    assert!(beyond.contains("goes on from block 2"), "{beyond}");
    assert!(receipts[1].verify(&network.genesis).is_ok());
    let foreign = receipts[0].verify(&crate::common::genesis(ConsensusMode::FullConsent)).unwrap_err().to_string();
    assert!(foreign.contains("network"), "{foreign}");

    // What was signed for the network before is nothing in the one after it.
    let old = TransactionBytes::from(&network.signed(TRADER, 9));
    assert!(Transaction::parse(old, &successor.id()).is_err());
}

/// A network of a genesis, as the tests drive one.
fn network_of(genesis: Genesis) -> Network {
    let (head, _) = genesis_head(&genesis).unwrap();
    let registry = genesis.registry();
    Network { id: genesis.id(), voters: registry.orderers(), registry: registry.into(), head, genesis }
}

#[test]
fn a_successor_has_successors_and_the_first_chain_is_proven_by_the_last() {
    let chain = NETWORK.chain(&[vec![NETWORK.transaction(TRADER, 1)], vec![]]);
    let receipt = NETWORK.receipt(&chain, 0, 0);
    let mut network = network_of(signed(make(&NETWORK, &chain, &[GONE]).unwrap(), 3));
    let mut receipts = vec![receipt];
    for round in 1..MAX_PREDECESSORS as u64 {
        let block = |head: &_, list: &[SharedTransaction]| network.certified(head, list, &[0, 1, 2]);
        let mut ledger = network.ledger();
        let first = block(&ledger.head, &[network.transaction(TRADER, round)]);
        ledger.take(&network, &first);
        let second = block(&ledger.head, &[]);
        let chain = [first, second];
        receipts.push(network.receipt(&chain, 0, 0));
        network = network_of(signed(make(&network, &chain, &[]).unwrap(), 3));
    }
    assert_eq!(network.genesis.check(), Ok(()));
    let encoded = codec::encode(&network.genesis);
    assert_eq!(codec::decode_canonical::<Genesis>(&encoded, MAX_GENESIS_BYTES).as_ref(), Ok(&network.genesis));
    for (at, receipt) in receipts.iter().enumerate() {
        assert!(receipt.verify(&network.genesis).is_ok(), "network {at}");
    }
    let ledger = network.ledger();
    let last = network.certified(&ledger.head, &[], &[0, 1, 2]);
    assert_eq!(make(&network, &[last], &[]).unwrap_err().to_string(), "more than 6 networks before it");
}

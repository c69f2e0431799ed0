//! The state's tree: against a plain map, and its proofs against the `ics23` crate.

use std::collections::BTreeMap;

use ics23::{CommitmentProof, HostFunctionsManager};
use jmt::ics23_spec;
use minidlt_protocol::{
    codec, merkle,
    state::{self, Outcome, ResultLeaf, StateError, Table, Writes, genesis_writes, prove, update},
    types::Hash,
    vote::ConsensusMode,
};
use proptest::prelude::*;
use prost::Message as _;

use crate::common::{MemoryState, Network, TRADER, Unreadable, genesis};

/// Proves `key` at `version` and checks the proof: of presence with this value, or of absence.
fn proven(state: &MemoryState, version: u64, root: &Hash, key: &[u8], expected: Option<&Vec<u8>>) {
    let (value, bytes) = prove(state, version, key).expect("a proof");
    let proof = CommitmentProof::decode(bytes.as_slice()).expect("protobuf");
    assert_eq!(value.as_ref(), expected);
    let root = root.as_bytes().to_vec();
    let (member, absent) =
        (ics23::verify_membership::<HostFunctionsManager>, ics23::verify_non_membership::<HostFunctionsManager>);
    match &value {
        Some(value) => {
            assert!(member(&proof, &ics23_spec(), &root, key, value));
            assert!(!member(&proof, &ics23_spec(), &root, key, b"another value"));
            assert!(!member(&proof, &ics23_spec(), &vec![0; 32], key, value));
            assert!(!absent(&proof, &ics23_spec(), &root, key));
        }
        None => {
            assert!(absent(&proof, &ics23_spec(), &root, key));
            assert!(!absent(&proof, &ics23_spec(), &vec![0; 32], key));
            assert!(!member(&proof, &ics23_spec(), &root, key, b""));
        }
    }
}

#[test]
fn everything_of_genesis_is_proven() {
    let genesis = genesis(ConsensusMode::Bft);
    let (head, made) = state::genesis_head(&genesis).unwrap();
    let mut state = MemoryState::default();
    assert_eq!(state.apply(made), head.state_root);
    let writes = genesis_writes(&genesis);
    assert_eq!(writes.len(), 1 + 4 + 4 + 7 + 1 + 1);
    for (key, value) in &writes {
        proven(&state, 0, &head.state_root, key, value.as_ref());
    }
    for absent in ["", "network ", "user/nobody@Org01", "node/node0@Org02", "policy/"] {
        proven(&state, 0, &head.state_root, absent.as_bytes(), None);
    }
    assert!(prove(&state, 1, b"network").is_err(), "there is no version 1");
}

#[test]
fn the_root_depends_on_what_is_there_and_not_on_how_it_came() {
    let put = |pairs: &[(&str, &str)]| -> Writes {
        pairs.iter().map(|(k, v)| (k.as_bytes().to_vec(), Some(v.as_bytes().to_vec()))).collect()
    };
    let mut at_once = MemoryState::default();
    let root = at_once.apply(update(&MemoryState::default(), 0, &put(&[("a", "1"), ("b", "2"), ("c", "3")])).unwrap());
    let mut slowly = MemoryState::default();
    slowly.apply(update(&MemoryState::default(), 0, &put(&[("c", "9"), ("b", "2")])).unwrap());
    let made = update(&slowly, 1, &put(&[("a", "1"), ("c", "3")])).unwrap();
    assert_eq!(slowly.apply(made), root);
}

#[test]
fn writes_of_nothing_keep_the_root() {
    let (head, made) = state::genesis_head(&genesis(ConsensusMode::Bft)).unwrap();
    let mut state = MemoryState::default();
    state.apply(made);
    let nothing = update(&state, 1, &Writes::new()).unwrap();
    assert_eq!(nothing.root, head.state_root);
    let absent = Writes::from([(b"not there".to_vec(), None)]);
    assert_eq!(update(&state, 1, &absent).unwrap().root, head.state_root);
    assert!(update(&state, 7, &absent).is_err(), "versions follow each other");
    for (key, value) in [("", "x"), ("x", "")] {
        let empty = Writes::from([(key.into(), Some(value.into()))]);
        assert!(update(&state, 1, &empty).is_err(), "no proof would hold");
    }
}

#[test]
fn results_are_of_the_transactions_in_their_order() {
    let network = Network::bft();
    let given: Vec<_> = (0..3).map(|n| network.transaction(TRADER, n)).collect();
    // Of records it is not the state that counts.
    let execution = state::execute(
        &Unreadable,
        &network.registry,
        &network.head,
        network.head.created,
        given.iter().map(|t| &***t),
    )
    .unwrap();
    let leaf = |(position, t): (usize, &minidlt_protocol::block::SharedTransaction)| {
        ResultLeaf { transaction: t.id, position: position as u64, count: 3, outcome: Outcome::Ok }.hash()
    };
    let leaves: Vec<Hash> = given.iter().enumerate().map(leaf).collect();
    assert_eq!(execution.results_root, merkle::root(&leaves));
    assert_eq!((execution.outcomes.len(), execution.writes.len()), (3, 0));
    let nothing =
        state::execute(&Unreadable, &network.registry, &network.head, network.head.created, [].into_iter()).unwrap();
    assert_eq!(nothing.results_root, merkle::root(&[]));
    let failed = Outcome::Failed { reason: "why".into() };
    assert_eq!(codec::decode(&codec::encode(&failed), 100), Ok(failed));
}

/// One change: a key of few, so that they meet, and a value or its removal.
type Change = (u8, Option<Vec<u8>>);

fn histories() -> impl Strategy<Value = Vec<Vec<Change>>> {
    let change = (0u8..24, prop::option::weighted(0.7, prop::collection::vec(any::<u8>(), 1..9)));
    prop::collection::vec(prop::collection::vec(change, 0..12), 1..8)
}

fn key_of(n: u8) -> Vec<u8> {
    format!("user/u{n}@Org01").into_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn the_state_does_as_a_map(history in histories()) {
        let mut state = MemoryState::default();
        let mut map: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let mut roots = Vec::new();
        for (version, changes) in (0u64..).zip(&history) {
            let writes: Writes = changes.iter().map(|(key, value)| (key_of(*key), value.clone())).collect();
            for (key, value) in writes.clone() {
                match value {
                    Some(value) => map.insert(key, value),
                    None => map.remove(&key),
                };
            }
            let made = update(&state, version, &writes).unwrap();
            let root = state.apply(made);
            // The same content made anew, all at once, has the same root.
            let all = map.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect();
            prop_assert_eq!(update(&MemoryState::default(), 0, &all).unwrap().root, root);
            roots.push((version, root, map.clone()));
        }
        // Every version stays provable.
        for (version, root, map) in roots.iter().filter(|(_, _, map)| !map.is_empty()) {
            for key in (0..26).map(key_of) {
                proven(&state, *version, root, &key, map.get(&key));
            }
        }
    }
}

/// Bytes of the state's tables that rot are found before the tree's library takes them for its own.
#[test]
fn rotten_entries_are_named() {
    let (_, made) = state::genesis_head(&genesis(ConsensusMode::Bft)).unwrap();
    let mut state = MemoryState::default();
    state.apply(made);
    let keys: Vec<Vec<u8>> = genesis_writes(&genesis(ConsensusMode::Bft)).into_keys().collect();
    let all = keys.iter().map(|key| (key.clone(), None)).collect();
    for (entry, whole) in &state.0 {
        for at in 0..whole.len() {
            let mut rotten = state.clone();
            rotten.0.get_mut(entry).unwrap()[at] ^= 0x01;
            let errors: Vec<StateError> = match entry.0 {
                Table::Nodes => update(&rotten, 1, &all).err().into_iter().collect(),
                Table::Values => keys.iter().filter_map(|key| prove(&rotten, 0, key).err()).collect(),
                // Keys are read where a neighbour proves an absence.
                Table::Keys => (0..64).filter_map(|n| prove(&rotten, 0, &key_of(n)).err()).collect(),
            };
            assert!(!errors.is_empty() || entry.0 == Table::Keys, "{entry:?}, byte {at}");
            assert!(errors.iter().all(|error| error.0.contains("damaged")), "{errors:?}");
        }
    }
}

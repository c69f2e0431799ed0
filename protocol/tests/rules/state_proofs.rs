//! State proofs: of what is there and what is not, and whatever is edited is found and named.

use std::sync::LazyLock;

use ics23::{
    BatchProof, CommitmentProof, CompressedBatchProof, ExistenceProof, InnerOp, LeafOp, NonExistenceProof,
    commitment_proof::Proof,
};
use minidlt_protocol::{
    codec,
    evidence::state_key,
    receipt::ReceiptError,
    registry::EntryKey,
    spelling::SpellingError,
    state::{genesis_writes, prove},
    state_proof::{
        Base64, MAX_KEY_BYTES, MAX_PROOF_BYTES, MAX_STATE_PROOF_BYTES, MAX_VALUE_BYTES, Proven, ProvenError,
        StateProof, StateProofError,
    },
    types::{Hash, Height, Round},
    vote::ConsensusMode,
};
use proptest::prelude::*;
use prost::Message as _;

use crate::common::{AUDITOR, NOW, Network, TRADER, genesis, network, node};

static NETWORK: LazyLock<Network> = LazyLock::new(Network::bft);

const PRESENT: &str = "user/trader@Org01";
const ABSENT: &str = "user/nobody@Org01";

/// One block that changes nothing, and one after it.
fn proof(network: &Network, key: &str) -> StateProof {
    network.state_proof(&network.chain(&[vec![network.transaction(TRADER, 1)], vec![]]), key)
}

static PRESENCE: LazyLock<StateProof> = LazyLock::new(|| proof(&NETWORK, PRESENT));
static ABSENCE: LazyLock<StateProof> = LazyLock::new(|| proof(&NETWORK, ABSENT));

fn read(text: &str) -> Result<Height, StateProofError> {
    StateProof::from_text(text)?.verify(&NETWORK.genesis)
}

#[test]
fn everything_of_genesis_is_proven_by_a_file_and_so_is_what_is_not_there() {
    let chain = NETWORK.chain(&[vec![], vec![]]);
    for (key, value) in genesis_writes(&NETWORK.genesis) {
        let key = String::from_utf8(key).unwrap();
        let proof = NETWORK.state_proof(&chain, &key);
        assert_eq!(proof.proven.value.clone().map(|Base64(value)| value), value, "{key}");
        assert_eq!(read(&proof.to_text()), Ok(Height::new(1)), "{key}");
    }
    for key in [ABSENT, "node/node0@Org02", "organisation/Org05", "policy/none", "x"] {
        let proof = NETWORK.state_proof(&chain, key);
        assert_eq!((&proof.proven.value, read(&proof.to_text())), (&None, Ok(Height::new(1))), "{key}");
    }
    let all = network(ConsensusMode::FullConsent);
    let theirs = proof(&all, PRESENT);
    assert!(theirs.verify(&all.genesis).is_ok());
    assert!(theirs.verify(&NETWORK.genesis).unwrap_err().to_string().starts_with("network: "));
}

#[test]
fn the_keys_that_can_be_asked_for_are_the_states() {
    let asked = genesis_writes(&genesis(ConsensusMode::Bft)).into_keys().filter_map(|key| {
        let key = String::from_utf8(key).unwrap();
        key.parse::<EntryKey>().ok().map(|parsed| (parsed.to_string(), key))
    });
    let asked: Vec<_> = asked.collect();
    assert_eq!(asked.len(), 4 + 4 + 7 + 1 + 1, "all but the network's own");
    assert!(asked.iter().all(|(parsed, key)| parsed == key));
}

/// Evidence changes the state: the header after its block has a root with it, its own has one without.
#[test]
fn a_header_proves_the_state_before_its_own_block() {
    let accusation = NETWORK.shared(&NETWORK.accusing(AUDITOR, 0, NETWORK.lie(3, 1)));
    let chain = NETWORK.chain(&[vec![accusation], vec![]]);
    let key = String::from_utf8(state_key(&node(3))).unwrap();
    let before = NETWORK.state_proof(&chain[..1], &key);
    assert_eq!((&before.proven.value, before.verify(&NETWORK.genesis)), (&None, Ok(Height::GENESIS)));
    let after = NETWORK.state_proof(&chain, &key);
    assert!(after.proven.value.is_some());
    assert_eq!(after.verify(&NETWORK.genesis), Ok(Height::new(1)));
    let exchanged = StateProof { header: before.header.clone(), ..after.clone() };
    let error = exchanged.verify(&NETWORK.genesis).unwrap_err().to_string();
    assert!(error.starts_with("proven.proof: it does not lead from the key and this value"), "{error}");
    let exchanged = StateProof { header: after.header, ..before };
    let error = exchanged.verify(&NETWORK.genesis).unwrap_err().to_string();
    assert!(error.starts_with("proven.proof: it does not lead from the key and its absence"), "{error}");
}

/// The head of a ledger says which version its header certifies, and that is the one that leads to it.
#[test]
fn the_head_knows_the_version_that_its_header_certifies() {
    let accuse = |nonce, height| vec![NETWORK.shared(&NETWORK.accusing(AUDITOR, nonce, NETWORK.lie(3, height)))];
    let blocks = NETWORK.chain(&[vec![], accuse(0, 1), accuse(1, 2), vec![], vec![]]);
    let mut ledger = NETWORK.ledger();
    let mut seen = vec![(ledger.head.certified_version, ledger.head.state_version)];
    for certified in &blocks {
        ledger.take(&NETWORK, certified);
        seen.push((ledger.head.certified_version, ledger.head.state_version));
        let (value, bytes) = prove(&ledger.state, ledger.head.certified_version, PRESENT.as_bytes()).unwrap();
        let proven = Proven { key: PRESENT.into(), value: value.map(Base64), proof: Base64(bytes) };
        assert_eq!(proven.verify(&certified.block.header.state_root), Ok(()));
    }
    assert_eq!(seen, [(0, 0), (0, 0), (0, 1), (1, 2), (2, 2), (2, 2)]);
}

/// A change, and words that the answer must have in it.
type Edit = (&'static str, fn(&mut StateProof));

const EDITS: &[Edit] = &[
    ("minidlt_state_proof", |p| p.minidlt_state_proof = 2),
    ("network", |p| p.network = Hash::ZERO),
    ("proven.proof", |p| p.proven.key = "user/broker@Org02".into()),
    ("proven.key", |p| p.proven.key.push('\n')),
    ("proven.key", |p| p.proven.key.push_str(" ok: ")),
    ("proven.key", |p| p.proven.key = "x".repeat(MAX_KEY_BYTES + 1)),
    ("proven.value", |p| p.proven.value = Some(Base64(vec![0; MAX_VALUE_BYTES + 1]))),
    ("proven.proof", |p| p.proven.proof = Base64(vec![0; MAX_PROOF_BYTES + 1])),
    ("proven.proof: not an ICS-23", |p| p.proven.proof = Base64(vec![0xff; 9])),
    ("proven.proof", |p| p.proven.proof = Base64(vec![])),
    // A field that no ICS-23 proof has, which decoders pass over.
    ("proven.proof: not in the one encoding", |p| p.proven.proof.0.extend([0xf8, 0x07, 0x01])),
    ("header.hash", |p| p.header.hash = Hash::ZERO),
    ("header.hash", |p| p.header.header.height = Height::new(1)),
    ("header.hash", |p| p.header.header.created = NOW),
    ("header.hash", |p| p.header.header.state_root = Hash::ZERO),
    ("header.hash", |p| p.header.header.proposer = node(3)),
    ("certificate.height", |p| p.header.certificate.height = Height::new(9)),
    ("certificate.block", |p| p.header.certificate.block = Hash::ZERO),
    ("header.certificate", |p| p.header.certificate.round = Round::new(1)),
    ("certificate.signatures", |p| drop(p.header.certificate.signatures.pop())),
    ("header.certificate", |p| p.header.certificate.signatures.swap(0, 1)),
    ("header.certificate", |p| p.header.certificate.signatures[0].voter = node(3)),
];

#[test]
fn every_edit_is_found_and_named() {
    for original in [&*PRESENCE, &*ABSENCE] {
        for (at, (named, edit)) in EDITS.iter().enumerate() {
            let mut proof = original.clone();
            edit(&mut proof);
            let error = read(&proof.to_text()).expect_err(named).to_string();
            assert!(error.contains(named), "edit {at} of {}: {error:?} does not name {named}", original.proven.key);
        }
    }
    // A good proof of a key that would be shown as a line of its own.
    let forged = proof(&NETWORK, "user/x\nok:");
    assert!(matches!(forged.verify(&NETWORK.genesis), Err(StateProofError::Proven(ProvenError::Key(_)))));
    let mut emptied = PRESENCE.clone();
    emptied.proven.value = None;
    assert!(read(&emptied.to_text()).unwrap_err().to_string().contains("not one of absence"));
    let mut filled = ABSENCE.clone();
    filled.proven.value = PRESENCE.proven.value.clone();
    assert!(read(&filled.to_text()).unwrap_err().to_string().contains("not one of presence"));
    let mut other = ABSENCE.clone();
    other.proven.key = "user/nobody@Org02".into();
    assert!(read(&other.to_text()).unwrap_err().to_string().contains("absence of another key"));
    let mut changed = PRESENCE.clone();
    changed.proven.value.as_mut().unwrap().0[0] ^= 1;
    assert!(read(&changed.to_text()).unwrap_err().to_string().contains("does not lead from the key and this value"));
}

#[test]
fn nothing_is_proven_of_before_genesis() {
    let mut proof = PRESENCE.clone();
    proof.header.header.height = Height::GENESIS;
    proof.header.hash = proof.header.header.hash(&NETWORK.id);
    proof.header.certificate = NETWORK.certificate(Height::GENESIS, Round::ZERO, proof.header.hash, &[0, 1, 2]);
    assert_eq!(read(&proof.to_text()), Err(StateProofError::BeforeGenesis));
}

#[test]
fn spelling() {
    let text = PRESENCE.to_text();
    let line = |changed: String| match read(&changed) {
        Err(StateProofError::File(SpellingError::Spelling { line, .. })) => line,
        other => panic!("{other:?}"),
    };
    assert_eq!(line(text.trim_end().to_owned()), text.lines().count() + 1);
    assert_eq!(line(text.replacen("  \"network\"", "\t\"network\"", 1)), 3);
    assert_eq!(line(serde_json::to_string(&*PRESENCE).unwrap()), 1);
    // That there is no value is said, and not left out.
    let text = ABSENCE.to_text();
    assert_eq!(line(text.replacen("    \"value\": null,\n", "", 1)), 6);
    let malformed = |error: &StateProofError| error.to_string().starts_with("not a state proof: ");
    assert!(read("{}").is_err_and(|error| malformed(&error)));
    assert!(read(&text.replacen("\"key\"", "\"keys\"", 1)).is_err_and(|error| malformed(&error)));
    let (size, limit) = (MAX_STATE_PROOF_BYTES + 1, MAX_STATE_PROOF_BYTES);
    assert_eq!(read(&" ".repeat(size)), Err(SpellingError::Oversized { size, limit }.into()));
    assert!(matches!(
        read(&PRESENCE.to_text().replacen(": 1,", ": 2,", 1)),
        Err(StateProofError::Frame(ReceiptError::Mismatch { .. }))
    ));
}

#[test]
fn every_flipped_byte_is_found() {
    for proof in [&*PRESENCE, &*ABSENCE] {
        let text = proof.to_text().into_bytes();
        for at in 0..text.len() {
            // Case, neighbouring digits, and a bit that makes it no text at all.
            for flip in [0x20, 0x01, 0x80] {
                let mut changed = text.clone();
                changed[at] ^= flip;
                let found = std::str::from_utf8(&changed).map_or(true, |changed| read(changed).is_err());
                assert!(found, "byte {at} flipped by {flip:#x}");
            }
        }
    }
}

/// The bytes within, below the spelling: every bit of the key, the value and the ICS-23 proof.
#[test]
fn every_flipped_bit_within_is_found() {
    for StateProof { proven, header, .. } in [&*PRESENCE, &*ABSENCE] {
        let root = &header.header.state_root;
        assert_eq!(proven.verify(root), Ok(()));
        let value = proven.value.as_ref().map_or(0, |value| value.0.len());
        for bit in 0..8 * value {
            let mut changed = proven.clone();
            changed.value.as_mut().unwrap().0[bit / 8] ^= 1 << (bit % 8);
            assert!(changed.verify(root).is_err(), "bit {bit} of the value");
        }
        for bit in 0..8 * proven.proof.0.len() {
            let mut changed = proven.clone();
            changed.proof.0[bit / 8] ^= 1 << (bit % 8);
            assert!(changed.verify(root).is_err(), "bit {bit} of the proof");
        }
        for at in 0..proven.proof.0.len() {
            let cut = Proven { proof: Base64(proven.proof.0[..at].to_vec()), ..proven.clone() };
            assert!(cut.verify(root).is_err(), "cut to {at} bytes");
        }
    }
}

fn decoded(proven: &Proven) -> Proof {
    CommitmentProof::decode(proven.proof.0.as_slice()).unwrap().proof.unwrap()
}

fn with(proven: &Proven, proof: Proof) -> Proven {
    Proven { proof: Base64(CommitmentProof { proof: Some(proof) }.encode_to_vec()), ..proven.clone() }
}

/// What decodes, and is not the one proof that a node gives.
#[test]
fn other_shapes_of_proof_are_refused() {
    let (present, absent) = (&PRESENCE.proven, &ABSENCE.proven);
    let root = &PRESENCE.header.header.state_root;
    let (Proof::Exist(exist), Proof::Nonexist(nonexist)) = (decoded(present), decoded(absent)) else {
        panic!("a proof of presence and one of absence")
    };
    for proven in [present, absent] {
        let expected = if proven.value.is_some() { "presence" } else { "absence" };
        for shape in [Proof::Batch(BatchProof::default()), Proof::Compressed(CompressedBatchProof::default())] {
            assert_eq!(with(proven, shape).verify(root), Err(ProvenError::Kind { expected }));
        }
    }
    // Ways that do not part before one of them ends.
    let way = |path: Vec<InnerOp>| Some(ExistenceProof { path, ..exist.clone() });
    let path = exist.path.clone();
    for (left, right) in [
        (way(path.clone()), way(path.clone())),
        (way(vec![]), way(vec![])),
        (way(path.clone()), way(path[1..].to_vec())),
        (way(path.clone()), way(vec![])),
        (None, None),
    ] {
        let edited = with(absent, Proof::Nonexist(NonExistenceProof { left, right, ..nonexist.clone() }));
        assert!(matches!(edited.verify(root), Err(ProvenError::DoesNotLead { present: false, .. })));
    }
    let one_sided =
        [NonExistenceProof { left: None, ..nonexist.clone() }, NonExistenceProof { right: None, ..nonexist.clone() }];
    for edited in one_sided.into_iter().filter(|edited| *edited != nonexist) {
        assert!(with(absent, Proof::Nonexist(edited)).verify(root).is_err());
    }
    let no_leaf = ExistenceProof { leaf: None, ..exist.clone() };
    assert!(with(present, Proof::Exist(no_leaf)).verify(root).is_err());
    let odd_leaf = ExistenceProof { leaf: Some(LeafOp { hash: i32::MAX, ..exist.leaf.clone().unwrap() }), ..exist };
    assert!(with(present, Proof::Exist(odd_leaf)).verify(root).is_err());
}

#[test]
fn a_value_reads_as_its_type_does() {
    let Base64(value) = PRESENCE.proven.value.as_ref().unwrap();
    let shown = codec::to_readable(value, MAX_VALUE_BYTES).unwrap();
    let user = NETWORK.genesis.users.iter().find(|user| format!("user/{}", user.identity()) == PRESENT);
    assert_eq!(shown, serde_json::to_value(user.unwrap()).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_cut_or_changed_text_is_found(at in any::<prop::sample::Index>(), with in any::<char>(), cut in any::<bool>()) {
        let text = PRESENCE.to_text();
        let at = at.index(text.len());
        let changed = if cut {
            text[..at].to_owned()
        } else {
            let mut changed = text.clone();
            changed.replace_range(at..=at, &with.to_string());
            changed
        };
        prop_assume!(changed != text);
        prop_assert!(read(&changed).is_err());
    }

    #[test]
    fn no_bytes_prove_anything_and_none_panic(
        value in prop::option::of(prop::collection::vec(any::<u8>(), 0..40)),
        proof in prop::collection::vec(any::<u8>(), 0..200),
        root in any::<[u8; 32]>(),
    ) {
        let proven = Proven { key: ABSENT.into(), value: value.map(Base64), proof: Base64(proof) };
        prop_assert!(proven.verify(&Hash::from_bytes(root)).is_err());
    }

    /// Bytes spliced from one good proof into another: much of it decodes.
    #[test]
    fn no_splice_of_good_proofs_proves_anything(
        from in any::<prop::sample::Index>(), to in any::<prop::sample::Index>(), length in 1usize..200, absent in any::<bool>(),
    ) {
        let (target, source) = if absent { (&*ABSENCE, &*PRESENCE) } else { (&*PRESENCE, &*ABSENCE) };
        let (bytes, donor) = (&target.proven.proof.0, &source.proven.proof.0);
        let (from, to) = (from.index(donor.len()), to.index(bytes.len()));
        let part = &donor[from..donor.len().min(from + length)];
        let mut spliced = bytes.clone();
        let end = spliced.len().min(to + part.len());
        spliced.splice(to..end, part.iter().copied());
        prop_assume!(spliced != *bytes);
        let proven = Proven { proof: Base64(spliced), ..target.proven.clone() };
        prop_assert!(proven.verify(&target.header.header.state_root).is_err());
    }
}

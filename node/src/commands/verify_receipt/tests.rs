//! A made-up network of four nodes, a block with three transactions, and their receipts.

use std::collections::{BTreeMap, BTreeSet};

use minidlt_protocol::{
    block::Header,
    crypto::SecretKey,
    genesis::Timeouts,
    merkle,
    receipt::{CertifiedHeader, Inclusion, RECEIPT_VERSION},
    registry::{Node, NodeRole, Organisation, Role, User},
    state::{ResultLeaf, execute},
    transaction::{Body, Content, Operation, SignedTransaction, Transaction, TransactionBytes},
    types::{Hash, Height, Identity, Name, Round, Timestamp},
    vote::{Certificate, CommitSignature, ConsensusMode, Phase, Vote},
};
use serde_json::json;

use super::*;

const COUNT: u8 = 4;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn key(seed: u8) -> SecretKey {
    SecretKey::from_bytes(&[seed; 32]).unwrap()
}

fn genesis() -> Genesis {
    let node = |seed: u8| Node {
        name: name(&format!("node{seed}")),
        organisation: name("Org01"),
        public_key: key(seed).public_key(),
        roles: BTreeSet::from([NodeRole::Peer, NodeRole::Orderer]),
        address: format!("localhost:{}", 3402 + u16::from(seed) * 10),
    };
    let trader = User {
        name: name("trader"),
        organisation: name("Org01"),
        public_key: key(100).public_key(),
        roles: BTreeSet::from([Role::Submitter]),
        gateways: BTreeSet::new(),
    };
    Genesis {
        network: name("made-up"),
        created: Timestamp::from_millis(0),
        consensus: ConsensusMode::Bft,
        timeouts: Timeouts::default(),
        organisations: vec![Organisation { name: name("Org01"), ca: String::new() }],
        nodes: (1..=COUNT).map(node).collect(),
        users: vec![trader],
        policies: BTreeMap::new(),
    }
}

fn certified(genesis: &Genesis, header: Header) -> CertifiedHeader {
    let (network, voters) = (genesis.id(), genesis.registry().voters());
    let (height, round, block) = (header.height, Round::ZERO, header.hash(&network));
    let vote = Vote { phase: Phase::Precommit, height, round, block: Some(block) };
    let signatures = (1..=COUNT).map(|seed| CommitSignature {
        voter: Identity::new(name(&format!("node{seed}")), name("Org01")),
        signature: key(seed).sign(&vote.digest(&network)),
    });
    let certificate = Certificate { height, round, block, signatures: signatures.collect() };
    CertifiedHeader::new(&network, header, certificate, &voters)
}

fn receipt(genesis: &Genesis) -> Receipt {
    let network = genesis.id();
    let transaction = |nonce| {
        let body = Body {
            network,
            author: genesis.users[0].identity(),
            created: Timestamp::from_millis(1000),
            expires: Timestamp::from_millis(9000),
            nonce,
            operation: Operation::Record { contents: vec![Content::from_json(&json!({"price": 39.81}))] },
        };
        let bytes = TransactionBytes::from(&SignedTransaction::sign(&body, &key(100)));
        Transaction::parse(bytes, &network).unwrap()
    };
    let transactions: Vec<Transaction> = (0..3).map(transaction).collect();
    let leaves: Vec<Hash> = transactions.iter().map(|transaction| transaction.leaf).collect();
    let header = Header {
        height: Height::new(1),
        round: Round::ZERO,
        created: Timestamp::from_millis(2000),
        previous: network,
        proposer: genesis.nodes[1].identity(),
        transactions_root: merkle::root(&leaves),
        results_root: merkle::root(&[]),
        state_root: Hash::ZERO,
    };
    let execution = execute(transactions.iter());
    let next = Header {
        height: Height::new(2),
        previous: header.hash(&network),
        transactions_root: merkle::root(&[]),
        results_root: execution.results_root,
        ..header.clone()
    };
    let results = transactions.iter().zip(&execution.outcomes).zip(0..).map(|((transaction, outcome), position)| {
        ResultLeaf { transaction: transaction.id, position, count: 3, outcome: outcome.clone() }.hash()
    });
    let results: Vec<Hash> = results.collect();
    Receipt {
        minidlt_receipt: RECEIPT_VERSION,
        network,
        id: transactions[1].id,
        height: Height::new(1),
        transaction: base64::Engine::encode(
            &base64::engine::general_purpose::STANDARD,
            transactions[1].bytes.as_slice(),
        ),
        inclusion: Inclusion::of(&leaves, 1).unwrap(),
        block: certified(genesis, header),
        result: execution.outcomes[1].clone(),
        result_inclusion: Inclusion::of(&results, 1).unwrap(),
        next: certified(genesis, next),
    }
}

fn verify_text(text: &str, genesis: &Genesis) -> Result<String, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r.json");
    std::fs::write(&path, text).unwrap();
    verify(&path, genesis)
}

#[test]
fn a_good_receipt_says_what_it_proves() {
    let genesis = genesis();
    let receipt = receipt(&genesis);
    let expected = format!(
        "transaction {} of trader@Org01 in block 1 of made-up at 1970-01-01T00:00:02.000Z, result ok",
        receipt.id
    );
    assert_eq!(verify_text(&receipt.to_text(), &genesis), Ok(expected));
}

#[test]
fn a_bad_receipt_is_named_with_what_is_bad() {
    let genesis = genesis();
    let good = receipt(&genesis);
    let other_network = Genesis { network: name("another"), ..genesis.clone() };
    let said = verify_text(&good.to_text(), &other_network).unwrap_err();
    assert!(said.contains("r.json: network: "), "{said}");

    let failed = Receipt { result: Outcome::Failed { reason: "no".into() }, ..good.clone() };
    let said = verify_text(&failed.to_text(), &genesis).unwrap_err();
    assert!(said.contains("result_inclusion"), "{said}");

    let mut unsigned = good.clone();
    unsigned.block.certificate.signatures.pop();
    assert!(verify_text(&unsigned.to_text(), &genesis).unwrap_err().contains("certificate"));

    let reformatted = good.to_text().replace("  ", " ");
    assert!(verify_text(&reformatted, &genesis).unwrap_err().contains("edited or reformatted"));
    assert!(verify_text("{}", &genesis).unwrap_err().contains("not a receipt"));
    let said = verify(Path::new("nowhere.json"), &genesis).unwrap_err();
    assert!(said.starts_with("nowhere.json: cannot be read"), "{said}");
}

#[test]
fn no_changed_digit_goes_unnoticed() {
    let genesis = genesis();
    let text = receipt(&genesis).to_text();
    let digits: Vec<usize> = text.match_indices(|c: char| c.is_ascii_hexdigit()).map(|(at, _)| at).collect();
    for at in digits.into_iter().step_by(41) {
        let mut changed = text.clone().into_bytes();
        changed[at] = if changed[at] == b'1' { b'2' } else { b'1' };
        let changed = String::from_utf8(changed).unwrap();
        assert!(verify_text(&changed, &genesis).is_err(), "byte {at}");
    }
}

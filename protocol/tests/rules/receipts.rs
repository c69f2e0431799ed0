//! Receipts: whatever is edited is found and named.

use std::sync::LazyLock;

use minidlt_protocol::{
    receipt::{MAX_RECEIPT_BYTES, Receipt, ReceiptError},
    state::Outcome,
    types::{Hash, Height, Round},
    vote::{CertificateError, ConsensusMode},
};
use proptest::prelude::*;

use crate::common::{BROKER, NOW, Network, TRADER, network, node};

static NETWORK: LazyLock<Network> = LazyLock::new(Network::bft);

/// Of the third of five transactions.
static RECEIPT: LazyLock<Receipt> = LazyLock::new(|| receipt_of(&NETWORK, 5, 2));

fn receipt_of(network: &Network, transactions: u64, position: usize) -> Receipt {
    let list = (0..transactions).map(|n| network.transaction(if n % 2 == 0 { TRADER } else { BROKER }, n)).collect();
    let chain = network.chain(&[vec![], list, vec![]]);
    network.receipt(&chain, 1, position)
}

fn read(text: &str) -> Result<(), ReceiptError> {
    Receipt::from_text(text)?.verify(&NETWORK.genesis).map(|_| ())
}

#[test]
fn every_place_in_blocks_of_every_size_has_a_receipt_that_holds() {
    for count in 1..=9 {
        for position in 0..count {
            let receipt = receipt_of(&NETWORK, count, position as usize);
            assert_eq!(read(&receipt.to_text()), Ok(()), "{position} of {count}");
        }
    }
    let all = network(ConsensusMode::FullConsent);
    let receipt = receipt_of(&all, 3, 1);
    assert!(receipt.verify(&all.genesis).is_ok());
    assert!(receipt.verify(&NETWORK.genesis).is_err(), "another network's genesis");
}

#[test]
fn it_gives_the_transaction() {
    let transaction = RECEIPT.verify(&NETWORK.genesis).unwrap();
    assert_eq!(transaction.id, RECEIPT.id);
    assert_eq!(transaction.body().unwrap(), NETWORK.body(TRADER.0, 2));
}

/// A change, and words that the answer must have in it.
type Edit = (&'static str, fn(&mut Receipt));

const EDITS: &[Edit] = &[
    ("minidlt_receipt", |r| r.minidlt_receipt = 2),
    ("network", |r| r.network = Hash::ZERO),
    ("id", |r| r.id = Hash::ZERO),
    ("height", |r| r.height = Height::new(1)),
    ("transaction", |r| r.transaction = "not base64".into()),
    ("transaction", |r| r.transaction.truncate(8)),
    ("inclusion: the path", |r| r.inclusion.position = 1),
    ("inclusion: the path", |r| r.inclusion.count = u64::MAX),
    ("inclusion: the path", |r| r.inclusion.path[0] = Hash::ZERO),
    ("inclusion: the path", |r| r.inclusion.path.truncate(1)),
    ("inclusion: the path", |r| r.inclusion.path.push(Hash::ZERO)),
    ("inclusion: the path", |r| r.inclusion.path = vec![Hash::ZERO; 100]),
    ("block.hash", |r| r.block.hash = Hash::ZERO),
    ("block.hash", |r| r.block.header.height = Height::new(1)),
    ("block.hash", |r| r.block.header.round = Round::new(1)),
    ("block.hash", |r| r.block.header.created = NOW),
    ("block.hash", |r| r.block.header.previous = Hash::ZERO),
    ("block.hash", |r| r.block.header.proposer = node(3)),
    ("block.hash", |r| r.block.header.transactions_root = Hash::ZERO),
    ("block.hash", |r| r.block.header.results_root = Hash::ZERO),
    ("block.hash", |r| r.block.header.state_root = Hash::ZERO),
    ("certificate.height", |r| r.block.certificate.height = Height::new(1)),
    ("block.certificate", |r| r.block.certificate.round = Round::new(1)),
    ("certificate.block", |r| r.block.certificate.block = Hash::ZERO),
    ("certificate.signatures", |r| drop(r.block.certificate.signatures.pop())),
    ("certificate.signatures", |r| r.block.certificate.signatures.clear()),
    ("block.certificate", |r| r.block.certificate.signatures.swap(0, 1)),
    ("block.certificate", |r| r.block.certificate.signatures[0].voter = node(3)),
    ("block.certificate", |r| r.block.certificate.signatures[1] = r.block.certificate.signatures[0].clone()),
    ("result_inclusion", |r| r.result = Outcome::Failed { reason: "no".into() }),
    ("result_inclusion", |r| r.result_inclusion.position = 1),
    ("result_inclusion", |r| r.result_inclusion.count = 6),
    ("result_inclusion", |r| r.result_inclusion.path[1] = Hash::ZERO),
    ("next.hash", |r| r.next.hash = Hash::ZERO),
    ("next.hash", |r| r.next.header.results_root = Hash::ZERO),
    ("certificate.height", |r| r.next.certificate.height = Height::new(9)),
    ("next.certificate", |r| r.next.certificate.round = Round::new(1)),
    ("next.certificate", |r| r.next.certificate.signatures.swap(1, 2)),
    ("certificate.signatures", |r| drop(r.next.certificate.signatures.remove(0))),
    ("next.header.height", |r| r.next = r.block.clone()),
    ("height", |r| r.block = r.next.clone()),
    // A path alone leads as well from the third of five as from the third of six.
    ("result_inclusion", |r| (r.inclusion.count, r.result_inclusion.count) = (6, 6)),
    ("next.header.previous", |r| {
        let other = receipt_of(&NETWORK, 4, 2);
        r.next = other.next;
    }),
];

#[test]
fn every_edit_is_found_and_named() {
    for (at, (named, edit)) in EDITS.iter().enumerate() {
        let mut receipt = RECEIPT.clone();
        edit(&mut receipt);
        let error = read(&receipt.to_text()).expect_err(named).to_string();
        assert!(error.contains(named), "edit {at}: {error:?} does not name {named}");
    }
}

#[test]
fn a_surplus_signature_is_not_to_be_left_out() {
    let mut receipt = RECEIPT.clone();
    let Receipt { block, .. } = &mut receipt;
    block.certificate = NETWORK.certificate(block.header.height, Round::ZERO, block.hash, &[0, 1, 2, 3]);
    assert!(read(&receipt.to_text()).unwrap_err().to_string().contains("certificate.signatures"));
    let reason = CertificateError::OutOfOrder { voter: node(0) };
    block_signed_by(&mut receipt, &[2, 0, 1]);
    assert_eq!(read(&receipt.to_text()), Err(ReceiptError::Certificate { which: "block", reason }));
}

fn block_signed_by(receipt: &mut Receipt, nodes: &[u8]) {
    let block = &mut receipt.block;
    block.certificate = NETWORK.certificate(block.header.height, Round::ZERO, block.hash, nodes);
}

#[test]
fn spelling() {
    let text = RECEIPT.to_text();
    let spelling = |changed: String| match read(&changed) {
        Err(ReceiptError::Spelling { line }) => line,
        other => panic!("{other:?}"),
    };
    let lines = text.lines().count();
    assert_eq!(spelling(text.trim_end().to_owned()), lines + 1);
    assert_eq!(spelling(format!("{text}\n")), lines + 2);
    assert_eq!(spelling(format!(" {text}")), 1);
    assert_eq!(spelling(text.replace('\n', "\r\n")), 1);
    assert_eq!(spelling(text.replacen("  \"id\"", "\t\"id\"", 1)), 4);
    assert_eq!(spelling(text.replacen(": ", ":", 1)), 2);
    assert_eq!(spelling(text.replacen("\"minidlt_receipt\": 1", "\"\\u006dinidlt_receipt\": 1", 1)), 2);
    let hexadecimal = RECEIPT.id.to_string();
    assert_eq!(spelling(text.replacen(&hexadecimal, &hexadecimal.to_uppercase(), 1)), 4);
    let compact = serde_json::to_string(&*RECEIPT).unwrap();
    assert_eq!(spelling(compact), 1);
    let twice = text.replacen("{", "{\n  \"minidlt_receipt\": 1,", 1);
    assert!(matches!(read(&twice), Err(ReceiptError::Malformed(_))));
    let size = MAX_RECEIPT_BYTES + 1;
    assert_eq!(read(&" ".repeat(size)), Err(ReceiptError::Oversized { size }));
}

/// Base64 has spare bits at its end; they may not say anything.
#[test]
fn base64_has_one_spelling() {
    let padded = |receipt: &Receipt| receipt.transaction.ends_with('=');
    let receipt = (0..3)
        .map(|extra| {
            let body = NETWORK.body_of(TRADER.0, 1, &[serde_json::json!("x".repeat(extra))]);
            let signed = minidlt_protocol::transaction::SignedTransaction::sign(&body, &crate::common::key(TRADER.1));
            NETWORK.receipt(&NETWORK.chain(&[vec![NETWORK.shared(&signed)], vec![]]), 0, 0)
        })
        .find(padded)
        .expect("one of three lengths is padded");
    assert_eq!(read(&receipt.to_text()), Ok(()));
    let mut changed = receipt.clone();
    let last = changed.transaction.trim_end_matches('=').len() - 1;
    let next = char::from(changed.transaction.as_bytes()[last] + 1);
    changed.transaction.replace_range(last..=last, &next.to_string());
    assert!(read(&changed.to_text()).is_err());
}

/// Every byte of the text, with a few of its bits flipped.
#[test]
fn every_flipped_byte_is_found() {
    let text = RECEIPT.to_text().into_bytes();
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_cut_or_changed_text_is_found(at in any::<prop::sample::Index>(), with in any::<char>(), cut in any::<bool>()) {
        let text = RECEIPT.to_text();
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
}

//! Against a made-up network of four nodes.

use super::*;
use crate::client::{
    receipts::fixture::{genesis, name, receipt},
    state_proofs::tests::pinned,
};

fn verify_text(text: &str, genesis: &Genesis) -> Result<String, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r.json");
    std::fs::write(&path, text).unwrap();
    verify(&path, genesis).map_err(|flaw| flaw.to_string())
}

#[test]
fn a_good_receipt_says_what_it_proves() {
    let genesis = genesis();
    let receipt = receipt(&genesis, 1);
    let expected = format!(
        "transaction {} of trader@Org01 in block 1 of made-up at 1970-01-01T00:00:02.000Z, result ok",
        receipt.id
    );
    assert_eq!(verify_text(&receipt.to_text(), &genesis), Ok(expected));
}

#[test]
fn a_bad_receipt_is_named_with_what_is_bad() {
    let genesis = genesis();
    let good = receipt(&genesis, 1);
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
}

#[test]
fn a_file_that_cannot_be_read_is_no_bad_receipt() {
    let flaw = verify(Path::new("nowhere.json"), &genesis()).unwrap_err();
    assert!(flaw.to_string().starts_with("unreadable: nowhere.json: cannot be read"), "{flaw}");
    let mut found = Bad { all: 3, ..Bad::default() };
    found.count(&flaw);
    assert_eq!(found.verdict().unwrap_err().to_string(), "1 of 3 proofs cannot be read");
    let found = Bad { bad: 1, unreadable: 1, all: 3 };
    assert_eq!(found.verdict().unwrap_err().to_string(), "1 of 3 proofs are bad, 1 cannot be read");
}

#[test]
fn no_changed_digit_goes_unnoticed() {
    let genesis = genesis();
    let text = receipt(&genesis, 1).to_text();
    let digits: Vec<usize> = text.match_indices(|c: char| c.is_ascii_hexdigit()).map(|(at, _)| at).collect();
    for at in digits.into_iter().step_by(41) {
        let mut changed = text.clone().into_bytes();
        changed[at] = if changed[at] == b'1' { b'2' } else { b'1' };
        let changed = String::from_utf8(changed).unwrap();
        assert!(verify_text(&changed, &genesis).is_err(), "byte {at}");
    }
}

#[test]
fn a_good_state_proof_says_what_is_there_or_that_there_is_nothing() {
    let (genesis, [presence, absence]) = pinned();
    let said = verify_text(&presence, &genesis).unwrap();
    assert!(
        said.starts_with("policy/orderers is {\"policy\":{\"at_least\":3,\"of\":[{\"organisation\":\"Org01\""),
        "{said}"
    );
    assert!(said.ends_with("} as of block 1 of test at 2023-11-14T22:13:22.000Z"), "{said}");
    let said = verify_text(&absence, &genesis);
    assert_eq!(said, Ok("there is no user/nobody@Org01 as of block 1 of test at 2023-11-14T22:13:22.000Z".to_owned()));
}

#[test]
fn a_bad_state_proof_is_named_with_what_is_bad() {
    let (genesis, [presence, absence]) = pinned();
    let bad = |text: &str| verify_text(text, &genesis).unwrap_err();
    for text in [&presence, &absence] {
        assert!(bad(&text.replacen("\"created\": 1", "\"created\": 2", 1)).contains("r.json: header.hash: "));
        assert!(bad(&text[..text.len() / 2]).contains("r.json: not a state proof: "));
        assert!(bad(&text.replace("  ", " ")).contains("edited or reformatted"));
    }
    assert!(bad(&absence.replacen("nobody", "trader", 1)).contains("r.json: proven.proof: "));
    assert!(bad(&presence.replacen("policy/orderers", "policy/nothing", 1)).contains("r.json: proven.proof: "));
    let other_network = Genesis { network: name("another"), ..genesis.clone() };
    assert!(verify_text(&presence, &other_network).unwrap_err().contains("r.json: network: "));
}

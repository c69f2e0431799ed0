//! State proofs, which anybody may have edited.

use std::sync::LazyLock;

use minidlt_protocol::{
    receipt::CertifiedHeader,
    state::{Writes, genesis_writes},
    state_proof::{Base64, Proven, StateProof},
};

use super::{
    fixture::{NETWORK, certify},
    memory::bounded,
};

/// What is in the state, all of it.
static STATE: LazyLock<Writes> = LazyLock::new(|| genesis_writes(&NETWORK.genesis));

/// One that is there, and one that is not, for proofs that come without their files.
pub const KEYS: [&str; 2] = ["policy/orderers", "user/nobody@Org01"];

pub fn run(bytes: &[u8]) {
    let Some((mode, bytes)) = bytes.split_first() else { return };
    match (mode % 3, std::str::from_utf8(bytes)) {
        (0, Ok(text)) => given(text),
        (1, Ok(text)) => certified(text),
        (2, _) => KEYS.into_iter().for_each(|key| bare(key, bytes)),
        _ => {}
    }
}

fn given(text: &str) {
    let Ok(proof) = bounded(text.len(), || StateProof::from_text(text)) else { return };
    assert_eq!(proof.to_text(), text, "a state proof has one spelling");
    if proof.verify(&NETWORK.genesis).is_ok() && proof.header.header.state_root == NETWORK.head.state_root {
        holds(&proof.proven);
    }
}

/// With its header certified anew.
fn certified(text: &str) {
    let Ok(mut proof) = serde_json::from_str::<StateProof>(text) else { return };
    let CertifiedHeader { header, mut certificate, .. } = proof.header;
    certificate.height = header.height;
    certify(&mut certificate, header.hash(&NETWORK.id));
    proof.header = CertifiedHeader::new(&NETWORK.id, header, certificate, &NETWORK.voters);
    given(&proof.to_text());
}

/// The bytes of a proof alone.
fn bare(key: &str, bytes: &[u8]) {
    let value = STATE.get(key.as_bytes()).cloned().flatten().map(Base64);
    for value in [value, None, Some(Base64(b"x".to_vec()))] {
        let proven = Proven { key: key.to_owned(), value, proof: Base64(bytes.to_vec()) };
        if bounded(bytes.len(), || proven.verify(&NETWORK.head.state_root)).is_ok() {
            holds(&proven);
        }
    }
}

/// What is proven of genesis's state is what genesis has written.
fn holds(proven: &Proven) {
    let written = STATE.get(proven.key.as_bytes()).cloned().flatten();
    assert_eq!(proven.value.as_ref().map(|Base64(value)| value), written.as_ref(), "{}", proven.key);
}

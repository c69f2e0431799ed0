//! Receipts, which anybody may have edited.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use minidlt_protocol::receipt::{CertifiedHeader, Receipt};

use super::{
    fixture::{NETWORK, certify, key_of_user},
    memory::bounded,
};

pub fn run(bytes: &[u8]) {
    let Some((mode, bytes)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match mode % 2 {
        0 => given(text),
        _ => certified(text),
    }
}

fn given(text: &str) {
    let Ok(receipt) = bounded(text.len(), || Receipt::from_text(text)) else { return };
    assert_eq!(receipt.to_text(), text, "a receipt has one spelling");
    verify(&receipt);
}

/// With its headers certified anew: as voters who collude could.
fn certified(text: &str) {
    let Ok(mut receipt) = serde_json::from_str::<Receipt>(text) else { return };
    receipt.block = anew(receipt.block);
    receipt.next.header.previous = receipt.block.hash;
    receipt.next = anew(receipt.next);
    given(&receipt.to_text());
}

fn anew(CertifiedHeader { header, mut certificate, .. }: CertifiedHeader) -> CertifiedHeader {
    certificate.height = header.height;
    certify(&mut certificate, header.hash(&NETWORK.id));
    CertifiedHeader::new(&NETWORK.id, header, certificate, &NETWORK.voters)
}

/// Whoever certified it: a receipt that holds is of a transaction that its author signed.
fn verify(receipt: &Receipt) {
    let Ok(transaction) = receipt.verify(&NETWORK.genesis) else { return };
    let author = key_of_user(&transaction.author).expect("all users' keys are known");
    assert_eq!(author.sign(&transaction.id), transaction.signature);
    assert_eq!(STANDARD.encode(transaction.bytes.as_slice()), receipt.transaction);
    assert_eq!((transaction.id, receipt.block.header.height), (receipt.id, receipt.height));
    assert!(receipt.inclusion.position < receipt.inclusion.count);
}

//! What users sign.

use minidlt_protocol::{
    codec,
    limits::{MAX_BULK_TRANSACTION_BYTES, MAX_RECORDS},
    transaction::{Body, Refusal, SignedTransaction, Transaction, id_of},
    view::TransactionView,
};

use super::{
    fixture::{NETWORK, key_of_user},
    memory::bounded,
    network::{NOW, TRADER, identity, node},
};

pub fn run(bytes: &[u8]) {
    let Some((mode, bytes)) = bytes.split_first() else { return };
    match mode % 2 {
        0 => taken(bytes),
        _ => signed(bytes),
    }
}

/// As a node takes a transaction that comes in.
pub fn taken(bytes: &[u8]) {
    let parsed = bounded(bytes.len(), || Transaction::parse(bytes.to_vec().into(), &NETWORK.id));
    let Ok(transaction) = parsed else { return };
    assert_eq!(transaction.bytes.as_slice(), bytes);
    assert!(transaction.records() <= MAX_RECORDS && bytes.len() <= MAX_BULK_TRANSACTION_BYTES);
    let shown = TransactionView::of(&NETWORK.id, &transaction.bytes).expect("what is taken can be shown");
    assert_eq!(shown.id, transaction.id);
    serde_json::to_string(&shown).expect("its records are JSON");
    // Which of them hold is not the matter, that they answer is.
    let _standing = transaction.check_time(NOW).and(transaction.authorise(&NETWORK.registry, Some(&node(0))));
    let Ok(verified) = transaction.verify(&NETWORK.registry) else { return };
    let author = key_of_user(&verified.author).expect("all users' keys are known");
    assert_eq!(author.sign(&verified.id), verified.signature, "it is what {} signs", verified.author);
    let body = verified.body().expect("it was decoded before");
    assert_eq!((body.network, body.author, body.nonce), (NETWORK.id, verified.author.clone(), shown.body.nonce));
}

/// A body, whatever it is, signed by whom it says it is of.
fn signed(body: &[u8]) {
    let decoded = codec::decode::<Body>(body, MAX_BULK_TRANSACTION_BYTES);
    let author = decoded.map_or_else(|_| identity(TRADER.0), |body| body.author);
    let key = key_of_user(&author).or_else(|| key_of_user(&identity(TRADER.0))).expect("the trader's key");
    let id = id_of(&NETWORK.id, body);
    let bytes = codec::encode(&SignedTransaction::new(body.to_vec(), key.sign(&id)));
    taken(&bytes);
    let Ok(transaction) = Transaction::parse(bytes.into(), &NETWORK.id) else { return };
    assert_eq!(transaction.id, id);
    match transaction.verify(&NETWORK.registry) {
        Ok(verified) => assert_eq!(verified.author, author),
        Err(Refusal::UnknownAuthor(unknown)) => assert_eq!(unknown, author),
        // Of a type that this network has not.
        Err(Refusal::Record(_)) => {}
        Err(other) => panic!("what its author signed was refused: {other}"),
    }
}

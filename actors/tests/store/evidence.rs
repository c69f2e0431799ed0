//! Blocks with evidence: the first to change the state after genesis.

use minidlt_actors::store::verify::verify;
use minidlt_protocol::{
    block::DecidedBlock,
    codec,
    crypto::Signature,
    evidence::{Evidence, Kind, Recorded},
    receipt::Receipt,
    state::Outcome,
    state_proof::Base64,
    transaction::{SignedTransaction, open},
    types::{Height, Round},
    vote::SignedVote,
};
use tempfile::tempdir;

use crate::support::{Network, certified, identity, node_key};

#[test]
fn it_is_recorded_proven_and_verified_and_again_it_is_failed() {
    let (dir, mut network) = (tempdir().unwrap(), Network::new());
    let (mut writer, reader) = network.open(dir.path()).unwrap();
    network.grow(&mut writer, &reader, 1, 2);
    assert_eq!(reader.evidence(&identity(3)).unwrap(), []);
    let at_genesis = (reader.head().state_version, reader.head().state_root);

    let head = reader.head();
    let [first, again] = [1, 2].map(|author| network.report(&head, author, network.lie(3, 1)));
    let (id, again_id) = (first.id, again.id);
    let record = network.transaction(&head);
    let block = network.decide(&head, vec![first, record]);
    writer.commit(&block).unwrap();
    let expected = [Recorded { height: Height::new(1), round: Round::ZERO, kind: Kind::Prevote, transaction: id }];
    assert_eq!(reader.evidence(&identity(3)).unwrap(), expected);
    assert_eq!(reader.evidence(&identity(2)).unwrap(), []);
    let changed = (reader.head().state_version, reader.head().state_root);
    assert_eq!(changed.0, 1);
    assert_ne!(changed.1, at_genesis.1);
    let (key, genesis) = ("evidence/node3@Org01", network.genesis.clone());
    let proven = || {
        let proof = reader.state_proof(key).unwrap().unwrap();
        let height = proof.verify(&genesis).unwrap();
        assert_eq!(reader.entry(key).unwrap(), (height, proof.proven.value.clone().map(|Base64(value)| value)));
        (height, proof.proven.value)
    };
    assert_eq!(proven(), (Height::new(1), None), "its own header is of the state before it");

    writer.commit(&network.decide(&reader.head(), vec![again])).unwrap();
    let outcome = reader.locate(&again_id).unwrap().unwrap().outcome;
    assert_eq!(outcome, Outcome::Failed { reason: format!("transaction {id} has recorded it") });
    assert_eq!((reader.head().state_version, reader.head().state_root), changed, "a failed one writes nothing");

    assert_eq!(proven(), (Height::new(2), Some(Base64(codec::encode(&expected)))), "the next header is of it");

    // The state's new root is in the next header, and a later start reads the same.
    network.grow(&mut writer, &reader, 2, 1);
    assert_eq!(proven(), (Height::new(4), Some(Base64(codec::encode(&expected)))));
    for id in [id, again_id] {
        let text = reader.receipt(&id).unwrap().unwrap().to_text();
        let proven = Receipt::from_text(&text).unwrap().verify(&network.genesis).unwrap();
        assert_eq!(proven.id, id);
    }
    let head = reader.head();
    assert_eq!(verify(&reader).unwrap().head, head);
    drop((writer, reader));
    let (_, reader) = network.open(dir.path()).unwrap();
    assert_eq!(reader.evidence(&identity(3)).unwrap(), expected);
    assert_eq!((reader.head(), verify(&reader).unwrap().head), (head.clone(), head));
}

#[test]
fn one_who_catches_up_comes_to_the_same_state() {
    let (dir, other_dir, mut network) = (tempdir().unwrap(), tempdir().unwrap(), Network::new());
    let (mut writer, reader) = network.open(dir.path()).unwrap();
    let (mut other, behind) = network.open(other_dir.path()).unwrap();
    for liar in [3, 2, 3] {
        let head = reader.head();
        let report = network.report(&head, 1, network.lie(liar, head.height.get()));
        writer.commit(&network.decide(&head, vec![report])).unwrap();
        network.grow(&mut writer, &reader, 1, 2);
    }
    for block in reader.blocks(Height::new(1), usize::MAX, 100).unwrap() {
        let block = DecidedBlock::certified(block, &network.id, &behind.head(), &network.registry).unwrap();
        other.commit(&block).unwrap();
    }
    assert_eq!(behind.head(), reader.head());
    assert_eq!(behind.head().state_version, 3);
    assert_eq!(behind.evidence(&identity(3)).unwrap(), reader.evidence(&identity(3)).unwrap());
    assert_eq!(behind.evidence(&identity(3)).unwrap().len(), 2);
}

/// As of an author's signature: nobody's word is taken for those in evidence.
#[test]
fn forged_evidence_is_noticed_though_a_quorum_let_it_through() {
    let (dir, mut network) = (tempdir().unwrap(), Network::new());
    let (mut writer, reader) = network.open(dir.path()).unwrap();
    network.grow(&mut writer, &reader, 2, 1);
    let honest = network.report(&reader.head(), 1, network.lie(3, 1));
    let Evidence::Votes { first, second } = network.lie(3, 1) else { unreachable!() };
    let second = SignedVote { signature: Signature::from_bytes([1; 64]), ..second };
    let (_, mut body) = open(honest.bytes.as_slice()).unwrap();
    body.operation = minidlt_protocol::transaction::Operation::Evidence(Evidence::Votes { first, second }.into());
    let mut block = network.next(&reader.head(), 1).block();
    block.transactions.push((&SignedTransaction::sign(&body, &node_key(1))).into());
    let certified = network.collude(block);
    let decided = DecidedBlock::certified(certified, &network.id, &reader.head(), &network.registry).unwrap();
    writer.commit(&decided).unwrap();
    network.grow(&mut writer, &reader, 1, 1);
    let bad = verify(&reader).expect_err("a forged vote");
    assert_eq!(bad.height, Height::new(3));
    assert!(bad.what.starts_with("transaction 1: the evidence proves nothing: the signature of the second"), "{bad}");
}

#[test]
fn a_block_of_evidence_survives_its_encodings() {
    let (dir, network) = (tempdir().unwrap(), Network::new());
    let (mut writer, reader) = network.open(dir.path()).unwrap();
    let block = network.decide(&reader.head(), vec![network.report(&reader.head(), 0, network.lie(3, 1))]);
    writer.commit(&block).unwrap();
    assert_eq!(reader.certified_block(Height::new(1)).unwrap(), Some(certified(&block)));
}

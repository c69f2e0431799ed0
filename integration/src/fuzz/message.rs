//! What other nodes send.

use std::collections::BTreeSet;

use minidlt_protocol::{
    block::DecidedBlock,
    codec,
    consensus::{LAST_ROUND, RoundReason, Verified, Wire},
    crypto::{Domain, digest},
    endorsement::EndorsementContent,
    limits::{MAX_BLOCK_TRANSACTIONS, MAX_FRAME_BYTES, MAX_PROPOSED},
    merkle,
    message::{
        CheckedConsensus, ConsensusContent, Content, Message, MessageError, Payload, PoolContent, Recipient,
        SyncContent,
    },
    types::Identity,
};
use serde_bytes::ByteBuf;

use super::{
    fixture::{NETWORK, key_of_node, sign_wire},
    memory::bounded,
    network::{NOW, node, node_key},
    transaction,
};

/// Who receives, and at the other end of which connection.
const ME: u8 = 1;
const SENDER: u8 = 0;

pub fn run(bytes: &[u8]) {
    let Some((mode, bytes)) = bytes.split_first() else { return };
    match mode % 4 {
        0 => frame(bytes),
        1 => stamped(bytes),
        2 => resigned(bytes),
        _ => {
            if let Ok(mut wire) = bounded(bytes.len(), || codec::decode::<Wire>(bytes, MAX_FRAME_BYTES)) {
                sign_wire(&mut wire);
                verify(wire);
            }
        }
    }
}

fn open(frame: &[u8]) -> Result<Content, MessageError> {
    let (network, me, sender) = (&*NETWORK, node(ME), node(SENDER));
    let opened = bounded(frame.len(), || {
        Message::open(
            frame,
            &network.id,
            (&network.registry, minidlt_protocol::types::Height::new(1)),
            &me,
            &sender,
            NOW,
        )
    });
    let (message, content) = opened?;
    assert_eq!(message.sender, sender);
    let again = sign(message.recipient.clone(), message.payload.timestamp.millis(), &message.payload.content);
    assert_eq!(codec::encode(&again), frame, "it is the very frame that its sender would have made");
    Ok(content)
}

/// A frame as it comes.
fn frame(bytes: &[u8]) {
    if let Ok(content) = open(bytes) {
        handle(content);
    }
}

/// A message with this content, whatever it is, stamped by the sender.
fn sign(recipient: Recipient, timestamp: u64, content: &[u8]) -> Message {
    let (sender, size) = (node(SENDER), content.len() as u64);
    let parts =
        [codec::encode(&sender), codec::encode(&recipient), size.to_be_bytes().into(), timestamp.to_be_bytes().into()];
    let [who, whom, size_bytes, time] = &parts;
    let signature =
        node_key(SENDER).sign(&digest(Domain::Message, &NETWORK.id, &[who, whom, size_bytes, time, content]));
    let timestamp = minidlt_protocol::types::Timestamp::from_millis(timestamp);
    Message { sender, recipient, payload: Payload { size, timestamp, signature, content: ByteBuf::from(content) } }
}

/// A content as it comes, in a sound stamp: only the content itself can be refused.
fn stamped(content: &[u8]) {
    match open(&codec::encode(&sign(Recipient::All, NOW.millis(), content))) {
        Ok(content) => handle(content),
        Err(MessageError::Malformed(_)) => {}
        Err(other) => panic!("a sound stamp was refused: {other}"),
    }
}

/// A content whose inner signatures are made good.
fn resigned(bytes: &[u8]) {
    let Ok(mut content) = bounded(bytes.len(), || codec::decode::<Content>(bytes, MAX_FRAME_BYTES)) else { return };
    let again = codec::encode(&content);
    assert_eq!(codec::decode::<Content>(&again, MAX_FRAME_BYTES).as_ref(), Ok(&content), "it comes back as it went");
    if let Content::Consensus(ConsensusContent::Wire(wire)) = &mut content {
        sign_wire(wire);
    }
    handle(content);
}

/// What a node does with a content before it acts on it.
fn handle(content: Content) {
    match content {
        Content::Consensus(ConsensusContent::Wire(wire)) => verify(wire),
        Content::Consensus(body) => {
            if let Ok(CheckedConsensus::Body(block)) = body.verify(&NETWORK.id, &NETWORK.voters) {
                assert!(block.leaves.len() <= MAX_BLOCK_TRANSACTIONS);
                assert_eq!(merkle::root(&block.leaves), block.header.transactions_root);
            }
        }
        Content::Pool(PoolContent::Gossip(list) | PoolContent::Got { transactions: list, .. }) => {
            list.iter().for_each(|bytes| transaction::taken(bytes.as_slice()));
        }
        Content::Sync(SyncContent::Standing(Some(shown))) => {
            if shown.verify("standing", &NETWORK.id, &NETWORK.voters).is_ok() {
                assert_eq!(shown.hash, shown.header.hash(&NETWORK.id));
            }
        }
        Content::Sync(SyncContent::Blocks { blocks, .. }) => {
            for block in blocks {
                // Mostly refused; what is taken is looked at by the target `block`.
                let _refused = DecidedBlock::certified(block, &NETWORK.id, &NETWORK.head, &NETWORK.registry);
            }
        }
        Content::Endorsement(content) => {
            if let Ok(EndorsementContent::Propose(list)) = content.check() {
                assert!(list.len() <= MAX_PROPOSED);
                list.iter().for_each(|bytes| transaction::taken(bytes.as_slice()));
            }
        }
        Content::Pool(PoolContent::Get { .. }) | Content::Sync(_) | Content::Text(_) => {}
    }
}

fn verify(wire: Wire) {
    let Ok(verified) = wire.verify(&NETWORK.id, &NETWORK.voters) else { return };
    assert!(verified.get().round() <= LAST_ROUND);
    let voters = NETWORK.voters.as_slice().len();
    match verified.get() {
        Wire::Proposal(signed) => {
            let (height, round) = (signed.proposal.height, signed.proposal.round);
            let proposer = NETWORK.voters.proposer(height, round).expect("there are voters");
            assert_eq!(signed.proposer, proposer.identity);
            assert!(signed.proposal.polka_round.is_none_or(|polka| polka < round));
            is_signed(&signed.proposer, |key| key.sign(&signed.proposal.digest(&NETWORK.id)) == signed.signature);
        }
        Wire::Vote(signed) => {
            is_signed(&signed.voter, |key| key.sign(&signed.vote.digest(&NETWORK.id)) == signed.signature);
        }
        Wire::Polka(certificate) => {
            are_distinct(certificate.signatures.iter().map(|one| &one.voter), NETWORK.voters.quorum());
        }
        Wire::Round(certificate) => {
            let least = match certificate.reason {
                RoundReason::Skip => voters / 3 + 1,
                RoundReason::Precommit => NETWORK.voters.quorum(),
            };
            are_distinct(certificate.votes.iter().map(|one| &one.voter), least);
        }
    }
    comes_back(verified);
}

fn is_signed(by: &Identity, holds: impl FnOnce(minidlt_protocol::crypto::SecretKey) -> bool) {
    assert!(holds(key_of_node(by).expect("a voter")), "it is what {by} signs");
}

fn are_distinct<'a>(signers: impl ExactSizeIterator<Item = &'a Identity>, least: usize) {
    let count = signers.len();
    let distinct: BTreeSet<_> = signers.collect();
    assert!(count >= least && distinct.len() == count, "{count} of {distinct:?}, at least {least}");
    assert!(distinct.iter().all(|signer| key_of_node(signer).is_some()), "all are voters");
}

fn comes_back(verified: Verified) {
    let bytes = codec::encode(verified.get());
    assert_eq!(codec::decode::<Wire>(&bytes, MAX_FRAME_BYTES).as_ref(), Ok(verified.get()));
}

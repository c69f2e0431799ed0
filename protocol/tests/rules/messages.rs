//! Stamped messages: each refusal reached, in the order promised, and no frame respelled.

use std::sync::LazyLock;

use minidlt_protocol::{
    block::CompactBlock,
    codec::{self, CodecError, MAX_ITEMS},
    consensus::Wire,
    crypto::CryptoError,
    endorsement::{Answer, EndorsementContent, Reason, Verdict},
    limits::{CLOCK_WINDOW_MILLIS, MAX_FRAME_BYTES},
    message::{
        Alive, CheckedConsensus, ConsensusContent, Content, Message, MessageError, PoolContent, Recipient, SyncContent,
    },
    transaction::TransactionBytes,
    types::{Hash, Height, Identity, Round, Timestamp},
    vote::{Phase, SignedVote, Vote},
};
use proptest::prelude::*;

use crate::common::{NOW, Network, TRADER, identity, key, node, node_key};

static NETWORK: LazyLock<Network> = LazyLock::new(Network::bft);

fn alive() -> Content {
    let binding = Some(Hash::from_bytes([8; 32]));
    let alive = Alive { network: NETWORK.id, height: Height::new(3), head: Hash::from_bytes([7; 32]), binding };
    Content::Sync(SyncContent::Alive(alive))
}

fn stamped(recipient: Recipient, content: &Content) -> Message {
    Message::stamp(&NETWORK.id, node(0), recipient, NOW, content, &node_key(0))
}

/// Opened by node 1, on its connection to node 0.
fn open(bytes: &[u8]) -> Result<Content, MessageError> {
    open_at(bytes, &node(0), NOW)
}

fn open_at(bytes: &[u8], connected: &Identity, now: Timestamp) -> Result<Content, MessageError> {
    Message::open(bytes, &NETWORK.id, (&NETWORK.registry, Height::new(1)), &node(1), connected, now)
        .map(|(_, content)| content)
}

fn changed(change: impl FnOnce(&mut Message)) -> Vec<u8> {
    let mut message = stamped(Recipient::All, &alive());
    change(&mut message);
    codec::encode(&message)
}

#[test]
fn every_content_arrives_as_it_was_sent() {
    let wire = Wire::Vote(SignedVote {
        voter: node(0),
        vote: Vote { phase: Phase::Prevote, height: Height::new(1), round: Round::ZERO, block: None },
        signature: key(1).sign(&Hash::ZERO),
    });
    let chain = NETWORK.chain(&[vec![NETWORK.transaction(TRADER, 1)], vec![]]);
    let transactions = vec![TransactionBytes::from(&NETWORK.signed(TRADER, 2))];
    let answer = Answer { id: Hash::ZERO, verdict: Verdict::Refused(Reason::new("busy", "later")) };
    let CompactBlock { header, leaves } =
        CompactBlock { header: chain[0].block.header.clone(), leaves: chain[0].block.leaves() };
    let contents = [
        alive(),
        Content::Text("good morning".into()),
        Content::Pool(PoolContent::Gossip(transactions.clone())),
        Content::Pool(PoolContent::Get { block: Hash::ZERO, leaves: leaves.clone() }),
        Content::Pool(PoolContent::Got { block: Hash::ZERO, transactions }),
        Content::Endorsement(EndorsementContent::Propose(vec![TransactionBytes::from(&NETWORK.signed(TRADER, 3))])),
        Content::Endorsement(EndorsementContent::Answers(vec![answer])),
        Content::Consensus(ConsensusContent::Wire(wire)),
        Content::Consensus(ConsensusContent::Body(CompactBlock { header, leaves })),
        Content::Sync(SyncContent::Synchronise { at: Some(Height::new(u64::MAX)) }),
        Content::Sync(SyncContent::Standing(None)),
        Content::Sync(SyncContent::GetBlocks { from: Height::new(u64::MAX), bytes: u64::MAX }),
        Content::Sync(SyncContent::Blocks { from: Height::new(1), blocks: chain }),
    ];
    for content in contents {
        for recipient in [Recipient::All, Recipient::One(node(1))] {
            assert_eq!(open(&codec::encode(&stamped(recipient, &content))), Ok(content.clone()));
        }
    }
}

#[test]
fn each_refusal() {
    let honest = changed(|_| {});
    let mismatch = MessageError::Signature { sender: node(0), reason: CryptoError::SignatureMismatch };
    assert!(open(&honest).is_ok());
    let said = 1 << 40;
    let found = stamped(Recipient::All, &alive()).payload.content.len();
    assert_eq!(open(&changed(|m| m.payload.size = said)), Err(MessageError::Size { said, found }));
    for now in [NOW.plus_millis(CLOCK_WINDOW_MILLIS + 1), NOW.minus_millis(CLOCK_WINDOW_MILLIS + 1)] {
        assert_eq!(open_at(&honest, &node(0), now), Err(MessageError::Window { timestamp: NOW, now }));
    }
    assert!(open_at(&honest, &node(0), NOW.plus_millis(CLOCK_WINDOW_MILLIS)).is_ok());
    let other = MessageError::OtherSender { said: node(0), connected: node(2) };
    assert_eq!(open_at(&honest, &node(2), NOW), Err(other));
    assert_eq!(open(&changed(|m| m.recipient = Recipient::One(node(2)))), Err(MessageError::OtherRecipient(node(2))));
    let trader = identity(TRADER.0);
    let from_user = changed(|m| m.sender = identity(TRADER.0));
    assert_eq!(open_at(&from_user, &trader, NOW), Err(MessageError::UnknownSender(trader.clone())), "users send none");
    assert_eq!(open(&changed(|m| m.recipient = Recipient::One(node(1)))), Err(mismatch.clone()));
    assert_eq!(open(&changed(|m| m.payload.timestamp = NOW.plus_millis(1))), Err(mismatch.clone()));
    assert_eq!(open_at(&changed(|m| m.sender = node(2)), &node(2), NOW).unwrap_err().kind(), "bad-signature");
    let elsewhere = Message::stamp(&Hash::ZERO, node(0), Recipient::All, NOW, &alive(), &node_key(0));
    assert_eq!(open(&codec::encode(&elsewhere)), Err(mismatch), "another network's");
    assert!(matches!(open(&[]), Err(MessageError::Malformed(CodecError::Truncated { .. }))));
    assert!(matches!(open(&vec![0; MAX_FRAME_BYTES + 1]), Err(MessageError::Malformed(CodecError::Oversized { .. }))));
}

#[test]
fn the_order_of_checks() {
    // All is wrong: what is named is what is cheapest to see.
    let all_wrong = changed(|m| {
        m.payload.size = 1;
        m.payload.timestamp = Timestamp::from_millis(u64::MAX);
        m.recipient = Recipient::One(node(3));
    });
    assert_eq!(open_at(&all_wrong, &node(2), NOW).unwrap_err().kind(), "size");
    let untimely = changed(|m| {
        m.payload.timestamp = Timestamp::from_millis(u64::MAX);
        m.recipient = Recipient::One(node(3));
    });
    assert_eq!(open_at(&untimely, &node(2), NOW).unwrap_err().kind(), "time-window");
    // A content is not looked at before its signature holds.
    let junk = changed(|m| m.payload.content[0] ^= 0xff);
    assert_eq!(open(&junk).unwrap_err().kind(), "bad-signature");
}

#[test]
fn a_signed_content_of_no_shape_is_malformed() {
    let honest = stamped(Recipient::All, &alive());
    // What a liar with a key can do: sign a frame that swells when decoded.
    let swelling = |count: u32| {
        let mut content =
            vec![0xa1, 0x64, b'p', b'o', b'o', b'l', 0xa1, 0x66, b'g', b'o', b's', b's', b'i', b'p', 0x9a];
        content.extend(count.to_be_bytes());
        content.extend(vec![0x40; count as usize]);
        content
    };
    assert!(matches!(codec::decode(&swelling(70_000), MAX_FRAME_BYTES), Ok(Content::Pool(PoolContent::Gossip(_)))));
    let too_many = codec::decode::<Content>(&swelling(MAX_ITEMS as u32), MAX_FRAME_BYTES);
    assert_eq!(too_many, Err(CodecError::TooMany));
    assert!(codec::decode::<Content>(&codec::encode(&honest), MAX_FRAME_BYTES).is_err());
}

#[test]
fn a_consensus_content_is_verified_within() {
    let vote = Vote { phase: Phase::Prevote, height: Height::new(1), round: Round::ZERO, block: None };
    let signature = node_key(2).sign(&vote.digest(&NETWORK.id));
    let wire = |voter| ConsensusContent::Wire(Wire::Vote(SignedVote { voter, vote: vote.clone(), signature }));
    let verify = |content: ConsensusContent| content.verify(&NETWORK.id, &NETWORK.voters);
    assert!(matches!(verify(wire(node(2))), Ok(CheckedConsensus::Message(_))), "any node may pass another's vote on");
    assert!(verify(wire(node(0))).is_err());
    assert!(wire(node(2)).verify(&Hash::ZERO, &NETWORK.voters).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_frame_survives_a_changed_byte(at in any::<prop::sample::Index>(), flip in 1u8.., one in any::<bool>()) {
        let recipient = if one { Recipient::One(node(1)) } else { Recipient::All };
        let mut bytes = codec::encode(&stamped(recipient, &alive()));
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        prop_assert!(open(&bytes).is_err());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(open(&bytes).is_err());
        let mut with_content = stamped(Recipient::All, &alive());
        with_content.payload.size = bytes.len() as u64;
        with_content.payload.content = bytes.into();
        prop_assert!(open(&codec::encode(&with_content)).is_err());
    }
}

/// Every bit of a frame, once: what random flips could miss, such as a text turned byte string.
#[test]
fn no_frame_survives_any_flipped_bit() {
    let honest = codec::encode(&stamped(Recipient::One(node(1)), &Content::Text("x".into())));
    for at in 0..honest.len() {
        for bit in 0..8 {
            let mut bytes = honest.clone();
            bytes[at] ^= 1 << bit;
            assert!(open(&bytes).is_err(), "bit {bit} of byte {at}");
        }
    }
}

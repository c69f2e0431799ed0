//! The stamped message: the one thing nodes send each other once their connection stands.
//!
//! A sender that is looked up, a recipient, and a payload whose signature covers all but itself.
//! [`Message::open`] is the one way to a `Verified<Message>`; public keys are never in a message.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use thiserror::Error;

use crate::{
    block::{CertifiedBlock, CompactBlock},
    codec::{self, CodecError},
    consensus::{self, Wire, WireError},
    crypto::{CryptoError, Domain, SecretKey, Signature, digest},
    endorsement::{EndorsementContent, EndorsementError},
    limits::{CLOCK_WINDOW_MILLIS, MAX_BLOCK_TRANSACTIONS, MAX_FRAME_BYTES},
    merkle,
    receipt::CertifiedHeader,
    registry::Registry,
    transaction::TransactionBytes,
    types::{Hash, Height, Identity, Timestamp},
    verified::Verified,
    vote::Voters,
};

/// Whom a message is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recipient {
    All,
    One(Identity),
}

/// What a message says, and proof of who says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Payload {
    /// Length of `content`, in bytes.
    pub size: u64,
    pub timestamp: Timestamp,
    pub signature: Signature,
    /// A [`Content`], encoded.
    pub content: ByteBuf,
}

/// A message as it travels, one a frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    pub sender: Identity,
    pub recipient: Recipient,
    pub payload: Payload,
}

/// Where a node stands, said on connecting and every second after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alive {
    pub network: Hash,
    pub height: Height,
    pub head: Hash,
    /// On connecting: the TLS exporter of this very connection (RFC 9266), so that it cannot be
    /// relayed. Later: none, the connection being known by then.
    pub binding: Option<Hash>,
}

/// All that nodes say to each other, by the part of the node it is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    Pool(PoolContent),
    Endorsement(EndorsementContent),
    Consensus(ConsensusContent),
    Sync(SyncContent),
    /// A word from an administrator to all, for their logs.
    Text(String),
}

/// Transactions on their way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PoolContent {
    /// New to the sender, each encoded.
    Gossip(Vec<TransactionBytes>),
    /// Asks for those transactions of a proposed block, by leaf hash.
    Get {
        block: Hash,
        leaves: Vec<Hash>,
    },
    Got {
        block: Hash,
        transactions: Vec<TransactionBytes>,
    },
}

/// Agreement on the next block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConsensusContent {
    /// Proposals, votes and the certificates of rounds.
    Wire(Wire),
    /// The block that a proposal names.
    Body(CompactBlock),
}

/// Who is there, and what they are missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncContent {
    Alive(Alive),
    /// Asks where the other stands; with a height, which block it has there.
    Synchronise {
        at: Option<Height>,
    },
    /// The block asked about, and what makes it certain; none for genesis, which all know, and for a
    /// height that is not there.
    Standing(Option<CertifiedHeader>),
    /// Asks this node alone for blocks from a height on, for about so many bytes of them: the first
    /// whatever its size, and no more than the other's bounds.
    GetBlocks {
        from: Height,
        bytes: u64,
    },
    /// The answer: the blocks from that height on, in order.
    Blocks {
        from: Height,
        blocks: Vec<CertifiedBlock>,
    },
}

/// Why a message was not acted on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MessageError {
    #[error("malformed message: {0}")]
    Malformed(#[from] CodecError),
    #[error("the message says it has {said} bytes of content, it has {found}")]
    Size { said: u64, found: usize },
    #[error(
        "the message's time {timestamp} ms is more than {CLOCK_WINDOW_MILLIS} ms from this node's clock ({now} ms)"
    )]
    Window { timestamp: Timestamp, now: Timestamp },
    #[error("the sender {0} is not an enrolled node")]
    UnknownSender(Identity),
    #[error("the sender says it is {said}, the connection is that of {connected}")]
    OtherSender { said: Identity, connected: Identity },
    #[error("the message is for {0}, not for this node")]
    OtherRecipient(Identity),
    #[error("the signature of {sender}: {reason}")]
    Signature { sender: Identity, reason: CryptoError },
    #[error("what {sender} forwards does not hold: {reason}")]
    Content { sender: Identity, reason: WireError },
    #[error("about endorsements, {sender} sends {reason}")]
    Endorsement { sender: Identity, reason: EndorsementError },
}

impl MessageError {
    /// A stable name for counters.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Size { .. } => "size",
            Self::Window { .. } => "time-window",
            Self::UnknownSender(_) => "unknown-sender",
            Self::OtherSender { .. } => "other-sender",
            Self::OtherRecipient(_) => "other-recipient",
            Self::Signature { .. } => "bad-signature",
            Self::Content { .. } | Self::Endorsement { .. } => "bad-content",
        }
    }
}

/// A message that lacks only its signature: what takes long for a large content is done, and not by the
/// holder of the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    sender: Identity,
    recipient: Recipient,
    timestamp: Timestamp,
    content: Vec<u8>,
    digest: Hash,
    about_consensus: bool,
}

impl Draft {
    /// As from `sender` to `recipient` at `now`.
    pub fn new(network: &Hash, sender: Identity, recipient: Recipient, now: Timestamp, content: &Content) -> Self {
        let about_consensus = matches!(content, Content::Consensus(_));
        let content = codec::encode(content);
        let digest = stamp_digest(network, &sender, &recipient, content.len() as u64, now, &content);
        Self { sender, recipient, timestamp: now, content, digest, about_consensus }
    }

    pub fn recipient(&self) -> &Recipient {
        &self.recipient
    }

    /// Whether it may promise something.
    pub fn is_about_consensus(&self) -> bool {
        self.about_consensus
    }

    pub fn sign(self, key: &SecretKey) -> Message {
        let Self { sender, recipient, timestamp, content, digest, .. } = self;
        let (size, signature) = (content.len() as u64, key.sign(&digest));
        Message { sender, recipient, payload: Payload { size, timestamp, signature, content: content.into() } }
    }
}

impl Message {
    /// Stamps a content: signs it as from `sender` to `recipient` at `now`.
    pub fn stamp(
        network: &Hash,
        sender: Identity,
        recipient: Recipient,
        now: Timestamp,
        content: &Content,
        key: &SecretKey,
    ) -> Self {
        Draft::new(network, sender, recipient, now, content).sign(key)
    }

    /// Checks, in this order, size, time, sender's standing and signature, and only then reads the
    /// content. `connected` is the node at the other end of the connection it came by, `height` the one that
    /// comes.
    pub fn open(
        bytes: &[u8],
        network: &Hash,
        (registry, height): (&Registry, Height),
        me: &Identity,
        connected: &Identity,
        now: Timestamp,
    ) -> Result<(Verified<Self>, Content), MessageError> {
        // The signature is over the parts' encodings and not over the frame, so the frame must be the
        // one these parts have: no relay can respell a message.
        let message: Self = codec::decode_canonical(bytes, MAX_FRAME_BYTES)?;
        let Payload { size, timestamp, signature, content } = &message.payload;
        if *size != content.len() as u64 {
            return Err(MessageError::Size { said: *size, found: content.len() });
        }
        if timestamp.millis().abs_diff(now.millis()) > CLOCK_WINDOW_MILLIS {
            return Err(MessageError::Window { timestamp: *timestamp, now });
        }
        if message.sender != *connected {
            return Err(MessageError::OtherSender { said: message.sender.clone(), connected: connected.clone() });
        }
        match &message.recipient {
            Recipient::One(other) if other != me => return Err(MessageError::OtherRecipient(other.clone())),
            _ => {}
        }
        let sender = registry.heard_node(&message.sender, height);
        let sender = sender.ok_or_else(|| MessageError::UnknownSender(message.sender.clone()))?;
        let digest = stamp_digest(network, &message.sender, &message.recipient, *size, *timestamp, content);
        // A key that was replaced holds for a while: nodes that are behind know no other.
        let held = sender.stamp_keys(now).map(|key| key.verify(&digest, signature));
        held.reduce(Result::or)
            .unwrap_or(Err(CryptoError::SignatureMismatch))
            .map_err(|reason| MessageError::Signature { sender: message.sender.clone(), reason })?;
        let content = codec::decode(content, MAX_FRAME_BYTES)?;
        Ok((Verified::vouch(message), content))
    }
}

fn stamp_digest(
    network: &Hash,
    sender: &Identity,
    recipient: &Recipient,
    size: u64,
    timestamp: Timestamp,
    content: &[u8],
) -> Hash {
    let (sender, recipient) = (codec::encode(sender), codec::encode(recipient));
    let (size, timestamp) = (size.to_be_bytes(), timestamp.millis().to_be_bytes());
    digest(Domain::Message, network, &[&sender, &recipient, &size, &timestamp, content])
}

/// A consensus content whose inner signatures hold, too. A body needs none: its hash is in a signed
/// proposal, and its leaves lead to its header's root. They may still not be those of transactions:
/// the hash of two leaves is a list of one with the same root, so that a body that cannot be
/// assembled says nothing about its block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckedConsensus {
    Message(consensus::Verified),
    Body(CompactBlock),
}

impl ConsensusContent {
    /// The height that it is about.
    pub fn height(&self) -> Height {
        match self {
            Self::Wire(wire) => wire.height(),
            Self::Body(block) => block.header.height,
        }
    }

    /// Checks the signatures within, over and above the stamp's. `voters` are those of its height.
    pub fn verify(self, network: &Hash, voters: &Voters) -> Result<CheckedConsensus, WireError> {
        match self {
            Self::Wire(wire) => wire.verify(network, voters).map(CheckedConsensus::Message),
            Self::Body(block) => match block.leaves.len() {
                count if count > MAX_BLOCK_TRANSACTIONS => Err(WireError::BodySize(count)),
                _ if merkle::root(&block.leaves) != block.header.transactions_root => Err(WireError::BodyRoot),
                _ => Ok(CheckedConsensus::Body(block)),
            },
        }
    }
}

//! To the Signer, the only holder of the node's private key.

use actix::Message;
use bytes::Bytes;
use minidlt_protocol::{
    crypto::Signature,
    message::{Content, Recipient},
    types::Height,
    vote::{Proposal, Vote},
};

use super::network::Class;

/// Signs a vote, unless another was signed for its height, round and phase: then `None`, for ever.
/// Its record is in the log once answered, and on disk before any `Stamp` that follows is sent.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Option<Signature>")]
pub struct SignVote(pub Vote);

/// Signs a proposal, under the same rule.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Option<Signature>")]
pub struct SignProposal(pub Proposal);

/// Appends to the log of a height, in order, without waiting for the disk.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct AppendLog {
    pub height: Height,
    /// Opaque here: what the consensus core asked to keep, encoded.
    pub entries: Vec<Vec<u8>>,
}

/// Stamps a content and sends it. One of class `Vote` or `Proposal` leaves only after everything
/// appended or signed before it is on disk.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Stamp {
    pub recipient: Recipient,
    pub class: Class,
    pub content: Content,
}

/// Stamps a content and hands the frame back: for the first word on a new connection. Never for
/// votes or proposals, which this does not sync.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Bytes")]
pub struct StampOne {
    pub recipient: Recipient,
    pub content: Content,
}

/// The log's entries for this height, if the log is of this height; asked once at start.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Vec<Vec<u8>>")]
pub struct ReadLog(pub Height);

/// That height is committed: its log may go.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct HeightDone(pub Height);

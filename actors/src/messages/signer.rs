//! To the Signer, the only holder of the node's private key.

use actix::Message;
use bytes::Bytes;
use minidlt_protocol::{
    block::SharedTransaction,
    crypto::Signature,
    evidence::Evidence,
    message::{Content, Draft, Recipient},
    transaction::SignedTransaction,
    types::{Height, Timestamp},
    vote::{Proposal, Vote},
};

use super::network::Class;

/// What goes into the log of a height before the rest of the message is acted on. It travels with
/// the next thing Consensus asks of the Signer, and not alone: each message may wake a thread.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entries {
    pub height: Height,
    /// In order; opaque here: what the consensus core asked to keep, encoded.
    pub entries: Vec<Vec<u8>>,
}

/// Signs a vote, unless another was signed for its height, round and phase: then `None`, for ever.
/// Its record is in the log once answered, and on disk before any `Publish` that follows is sent.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Option<Signature>")]
pub struct SignVote {
    pub before: Entries,
    pub vote: Vote,
}

/// Signs a proposal, under the same rule.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Option<Signature>")]
pub struct SignProposal {
    pub before: Entries,
    pub proposal: Proposal,
}

/// Signs a transaction of this node's own that holds this evidence. The body is made by the Signer:
/// its key signs none that another has chosen.
#[derive(Debug, Clone, Message)]
#[rtype(result = "SignedTransaction")]
pub struct SignEvidence {
    pub evidence: Evidence,
    pub created: Timestamp,
    pub expires: Timestamp,
}

/// Endorses these as this node: signs their ids. Only what was verified can be named here; that this node may
/// endorse it has been asked by then. In the order given.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Vec<Signature>")]
pub struct SignEndorsements(pub Vec<SharedTransaction>);

/// Appends, then stamps and sends. Nothing is sent where what was to be appended is of a height that
/// is done.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Publish {
    pub before: Entries,
    pub stamps: Vec<Stamp>,
}

/// Stamps a content and sends it; one about consensus once everything appended or signed so far is on
/// disk, all else without waiting for that.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Stamp {
    pub recipient: Recipient,
    pub class: Class,
    pub content: Content,
}

/// Signs what is ready but for that, and sends it, under the same rule: for large contents, so that no vote
/// waits while they are encoded and hashed.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct SignDraft {
    pub class: Class,
    pub draft: Draft,
}

/// Stamps a content and hands the frame back: for the first word on a new connection. Never for
/// votes or proposals, which this does not sync.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Bytes")]
pub struct StampOne {
    pub recipient: Recipient,
    pub content: Content,
}

/// The height that the log is of and its entries, as found on opening; asked once at start.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "(Height, Vec<Vec<u8>>)")]
pub struct ReadLog;

/// Begins the log of a node that has lost it: from this height on it may sign. Answered once that is on
/// disk. Nothing happens where there is a log.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct VoteFrom(pub Height);

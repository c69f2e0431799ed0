//! To and from Consensus.

use actix::Message;
use minidlt_protocol::{
    block::CertifiedBlock,
    types::{Hash, Height, Identity, Round},
};
use serde::Serialize;

/// There are transactions to agree on: from the Mempool.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Work;

/// A certified block fetched from a peer. Answers once it is on disk, or why it was not taken.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), NotTaken>")]
pub struct Fetched(pub CertifiedBlock);

/// Why a fetched block was not committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotTaken {
    pub reason: String,
    /// It is certified, and follows another block than this node's head.
    pub forked: bool,
}

/// This node may propose and vote, from this height on: from Sync.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct TakePart(pub Height);

/// A voter's connection stands again; `healed` where a quorum is connected by it: from Sync.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct SayAgain {
    pub healed: bool,
}

/// Two blocks are certified at one height: this node must not vote any more. From Sync.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Halt;

/// A peer has committed a height that this node has not: from Consensus to Sync.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Behind {
    pub peer: Identity,
    pub height: Height,
}

/// Where the agreement on the next block stands.
#[derive(Debug, Clone, Serialize)]
pub struct ConsensusStatus {
    /// Whether there is something to agree on. While there is not, nobody is waited for: `accepted_by`
    /// and `missing` are empty.
    pub active: bool,
    /// The height under way, or the next one.
    pub height: Height,
    pub round: Round,
    /// The block this round is about, once proposed.
    pub block: Option<Hash>,
    /// Who has accepted it (prevoted it), as far as this node has heard.
    pub accepted_by: Vec<Identity>,
    /// Voters whose acceptance is missing.
    pub missing: Vec<Identity>,
}

#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "ConsensusStatus")]
pub struct GetConsensusStatus;

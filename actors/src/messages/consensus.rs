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

/// A certified block fetched from a peer. Answers whether it was committed, with the reason if not.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), String>")]
pub struct Fetched(pub CertifiedBlock);

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

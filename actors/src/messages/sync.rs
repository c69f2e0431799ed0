//! To Sync, which knows whether this node takes part and whom it heard.

use actix::Message;
use minidlt_protocol::types::Height;
use serde::Serialize;

use crate::fork::Fork;

/// Whether this node proposes and votes, and if not, why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Voting {
    pub state: VotingState,
    /// From which height on, where that is known.
    pub from: Option<Height>,
    /// For people; none while it votes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VotingState {
    Voting,
    /// It is no orderer.
    Following,
    /// Too few others have shown a block of this node's chain yet.
    Waiting,
    /// Its record of votes was lost.
    Abstaining,
    /// It has seen a fork.
    Halted,
}

#[derive(Debug, Clone)]
pub struct SyncStatus {
    pub voting: Voting,
    pub fork: Option<Fork>,
}

#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "SyncStatus")]
pub struct GetSyncStatus;

//! To and from the Mempool.

use std::sync::Arc;

use actix::Message;
use minidlt_protocol::{
    block::{CompactBlock, SharedTransaction},
    transaction::{Refusal, TransactionBytes},
    types::{Hash, Identity, Timestamp},
};
use serde::Serialize;

use super::store::Committed;

/// Transactions from users of this node's API. Answers each with its id, also where it is already
/// pending or committed: submitting twice is harmless.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Vec<Result<Hash, Refusal>>")]
pub struct Submit {
    /// Who submits them, by its certificate: not always their author.
    pub caller: Identity,
    pub transactions: Vec<TransactionBytes>,
}

/// The transactions for a block created now, fair to their authors.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Vec<SharedTransaction>")]
pub struct Pick {
    pub created: Timestamp,
}

/// The transactions of a proposed block, in order; those not here are fetched from `from`, and if
/// it does not answer, from all. The same again while it is under way changes whom to ask.
/// `None` where they did not come before another block's `Assemble` or the height's end.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Option<Vec<SharedTransaction>>")]
pub struct Assemble {
    pub hash: Hash,
    pub block: CompactBlock,
    pub from: Identity,
}

/// Transactions of a proposed block, to be had by those who ask until the height ends, whatever
/// becomes of the pool.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Hold(pub Vec<SharedTransaction>);

/// Is it waiting, or was it lately found that it can never be committed?
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Waiting")]
pub struct FindPending(pub Hash);

#[derive(Debug, Clone)]
pub enum Waiting {
    Unknown,
    Pending(SharedTransaction),
    /// It waited, until who signed it lost the right to, or got another key.
    Rejected(Refusal),
    /// A block created after its `expires` was committed without it.
    Dumped {
        expires: Timestamp,
        cause: Cause,
    },
}

/// What kept a dumped transaction waiting until it expired, as this node saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The agreement of that time waited for these voters, and with it all that was not in a block yet.
    Missing(Arc<[Identity]>),
    /// Nobody held up the agreement.
    NobodyMissing,
    /// Others decided without this node: it cannot tell what they waited for.
    NotSeen,
}

/// How long the agreement on a block waited for the same voters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stall {
    pub since: Timestamp,
    pub until: Timestamp,
    pub missing: Arc<[Identity]>,
}

/// A height has ended: its block, and what this node saw of the agreement on it.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Ended {
    pub committed: Committed,
    /// What it waited for, in order.
    pub stalls: Vec<Stall>,
    /// Others decided it, and this node fetched the block.
    pub fetched: bool,
}

/// How full the pool is.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct MempoolStatus {
    pub transactions: usize,
    pub bytes: usize,
}

#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "MempoolStatus")]
pub struct GetMempoolStatus;

//! To and from the Mempool.

use actix::Message;
use minidlt_protocol::{
    block::{CompactBlock, SharedTransaction},
    transaction::{Refusal, TransactionBytes},
    types::{Hash, Identity, Timestamp},
};
use serde::Serialize;

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
    /// A block created after its `expires` was committed without it.
    Dumped {
        expires: Timestamp,
        missing: Vec<Identity>,
    },
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

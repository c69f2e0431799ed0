//! To and from the Store.

use std::sync::Arc;

use actix::Message;
use minidlt_protocol::{
    block::{DecidedBlock, Head},
    registry::Registry,
};

/// Executes and commits a decided block: one synced write. A store that cannot write stops the
/// process, so an answer means it is on disk.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Committed")]
pub struct Commit(pub Arc<DecidedBlock>);

/// Writes what is only in the database's log to its tables, so that the next start need not.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Flush;

/// A block is on disk: told to all who wait for that, and the answer to `Commit`.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Committed {
    pub head: Head,
    pub block: Arc<DecidedBlock>,
    /// After the block.
    pub registry: Arc<Registry>,
}

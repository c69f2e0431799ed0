//! The Store: the one writer of the ledger, and any number of readers beside it.
//!
//! ```text
//! Consensus ──Commit──▶ Store ──one synced WriteBatch──▶ RocksDB ◀──point reads── Reader, cloned freely
//!     ▲                  │  └──▶ watch: the new head ──────────────────────────────▲   (API, Sync, Mempool)
//!     └────Committed─────┘
//! ```
//!
//! Who must not miss a block: the reply to [`Commit`] cannot be dropped, so it is by this reply
//! that Consensus learns of the commit, and Consensus hands it on to the Mempool before anything
//! else. Event streams and waiting requests watch the head, and read what is up to there.
//!
//! A store that cannot write does not answer: it stops the process, since a node that goes on
//! without its ledger could only break promises.

mod copy;
mod database;
mod ending;
mod history;
mod manifest;
mod mark;
mod open;
pub mod reader;
mod receipts;
mod schema;
pub mod verify;
mod wal;
mod writer;

use actix::{Actor, Context, Handler, MessageResult};

pub use self::{
    copy::{CopyError, copy_as},
    history::Changed,
    open::{OpenError, Settings, network_of, open, open_copy},
    schema::MAX_OPEN_FILES,
    writer::{CommitError, Writer},
};
use crate::{
    fatal,
    messages::store::{Commit, Committed, Flush},
};

/// The actor. It waits for the disk, so it wants a thread of its own: an arbiter's, to which
/// messages come straight.
pub struct Store {
    writer: Writer,
}

impl Store {
    pub fn new(writer: Writer) -> Self {
        Self { writer }
    }
}

impl Actor for Store {
    type Context = Context<Self>;
}

impl Handler<Flush> for Store {
    type Result = ();

    fn handle(&mut self, _: Flush, _: &mut Self::Context) {
        // Nothing is at stake: all is in the log. Only the next start would read it again.
        if let Err(error) = self.writer.flush() {
            log::warn!("the ledger could not be flushed: {error}");
        }
    }
}

impl Handler<Commit> for Store {
    type Result = MessageResult<Commit>;

    fn handle(&mut self, Commit(block): Commit, _: &mut Self::Context) -> Self::Result {
        match self.writer.commit(&block) {
            Ok(head) => MessageResult(Committed { head, block, registry: self.writer.registry() }),
            Err(error) => fatal::stop(format_args!("block {} cannot be committed: {error}", block.header.height)),
        }
    }
}

//! The Store: the one writer of the ledger, and any number of readers beside it.
//!
//! ```text
//! Consensus ──Commit──▶ Store ──one synced WriteBatch──▶ RocksDB ◀──point reads── Reader, cloned freely
//!     ▲                  │  ├──▶ watch: the new head                               ▲   (API, Sync, Mempool)
//!     └────Committed─────┘  └──▶ Recipient<Committed>, told if they have room ─────┘   (Events)
//! ```
//!
//! Who must not miss a block: the reply to [`Commit`] cannot be dropped, so it is by this reply
//! that Consensus learns of the commit, and Consensus hands it on to the Mempool before anything
//! else. The recipients given at construction are told with `try_send`: one whose mailbox is full
//! misses it, which is logged; it can see the gap in the heights and read the rest with
//! [`Reader::blocks`](reader::Reader::blocks).
//!
//! A store that cannot write does not answer: it stops the process, since a node that goes on
//! without its ledger could only break promises.

mod database;
mod open;
pub mod reader;
mod receipts;
mod schema;
pub mod verify;
mod writer;

use std::sync::{Mutex, PoisonError};

use actix::{Actor, Addr, Handler, MessageResult, Recipient, SyncArbiter, SyncContext};

pub use self::{
    open::{OpenError, Settings, open},
    writer::{CommitError, Writer},
};
use crate::{
    fatal,
    messages::store::{Commit, Committed, Flush},
};

/// The actor, on a thread of its own since it waits for the disk.
pub struct Store {
    writer: Writer,
    recipients: Vec<Recipient<Committed>>,
    /// How often a recipient was not told, its mailbox being full.
    missed: u64,
}

impl Store {
    /// Starts the store; it ends, its tables flushed, when the last address of it is dropped.
    pub fn start(writer: Writer, recipients: Vec<Recipient<Committed>>) -> Addr<Self> {
        // A SyncArbiter makes its actors by a function that may be called again; a writer is one.
        let only = Mutex::new(Some(Self { writer, recipients, missed: 0 }));
        SyncArbiter::start(1, move || {
            let store = only.lock().unwrap_or_else(PoisonError::into_inner).take();
            store.unwrap_or_else(|| fatal::stop("the store was started twice"))
        })
    }

    fn tell(&mut self, committed: &Committed) {
        for recipient in &self.recipients {
            if let Err(error) = recipient.try_send(committed.clone()) {
                self.missed += 1;
                let (height, missed) = (committed.head.height, self.missed);
                log::warn!("block {height}: a listener was not told ({error}), {missed} times since start");
            }
        }
    }
}

impl Actor for Store {
    type Context = SyncContext<Self>;
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
            Ok(head) => {
                let committed = Committed { head, block };
                self.tell(&committed);
                MessageResult(committed)
            }
            Err(error) => fatal::stop(format_args!("block {} cannot be committed: {error}", block.header.height)),
        }
    }
}

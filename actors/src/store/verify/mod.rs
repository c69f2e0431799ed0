//! The whole ledger, checked against the genesis file and nothing else it stores.
//!
//! | stored | is compared with |
//! |---|---|
//! | meta | its seals; the genesis; the head that the walk ends at |
//! | blocks | their one encoding; links, roots, proposers, times, authors' standing and signatures |
//! | certificates | the block's hash; every signature; the quorum of the voters |
//! | transaction and hash index | each block's own, then counted, so that nothing is left over |
//! | state | the state recomputed from genesis, entry by entry, both ways |
//!
//! It reads a snapshot, so a node may go on committing meanwhile; offline it changes no file.

mod chain;
mod indexes;
mod meta;
mod rows;
mod signatures;
mod state;

use std::{fmt, path::Path};

use minidlt_protocol::{block::Head, genesis::Genesis, types::Height};
use thiserror::Error;

use self::{chain::Chain, rows::Rows};
use super::{
    open::{OpenError, open_read_only},
    reader::Reader,
};

/// What a sound ledger holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    pub head: Head,
    /// In all its blocks.
    pub transactions: u64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { head, transactions } = self;
        write!(f, "{} blocks, {transactions} transactions, head {}", head.height, head.hash)
    }
}

/// The lowest height at which something is wrong, and what. What belongs to no block, such as the
/// node's name, counts as genesis's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("height {height}: {what}")]
pub struct FirstBad {
    pub height: Height,
    pub what: String,
}

fn bad(height: Height, what: impl fmt::Display) -> FirstBad {
    FirstBad { height, what: what.to_string() }
}

/// Why a ledger is not known to be sound.
#[derive(Debug, Error)]
pub enum VerifyError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Bad(#[from] FirstBad),
}

/// Verifies the ledger of a node that is not running, or a backup.
pub fn verify_directory(directory: &Path, genesis: &Genesis) -> Result<Summary, VerifyError> {
    let (db, _lock) = open_read_only(directory)?;
    Ok(verify_rows(&Rows::new(&db), genesis)?)
}

/// Verifies the ledger of the running node, as of now. It takes long: not for an actor's thread.
pub fn verify(reader: &Reader) -> Result<Summary, FirstBad> {
    verify_rows(&Rows::new(&reader.database.db), &reader.database.genesis)
}

fn verify_rows(rows: &Rows<'_>, genesis: &Genesis) -> Result<Summary, FirstBad> {
    let stored = meta::check(rows, genesis)?;
    let (summary, state) = Chain::at_genesis(rows, genesis)?.walk(stored.height)?;
    if summary.head != stored {
        return Err(bad(stored.height, "the entry 'head' is not what the blocks lead to"));
    }
    indexes::check_nothing_more(rows, &summary, &genesis.id())?;
    state.compare(rows, summary.head.height)?;
    Ok(summary)
}

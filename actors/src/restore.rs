//! A node's ledger, made of a copy of another's, or of a backup: where nothing of the node is left, or of the network.
//!
//! ```text
//! a copy ──files──▶ data/.ledger.unfinished ──its own now──▶ verified whole ──no record of votes──▶ data/ledger
//! ```
//!
//! **Whom it believes.** Nobody: the copy may come from anyone. All that is to become the ledger is verified from the
//! genesis file, as `minidlt verify` does, after it was copied. A copy can only be too short: that there is no later block
//! is for the members to know.
//!
//! **Crashes.** Each step is on disk before the next, and the ledger is there by its name, last and whole. Whatever ends
//! it before that leaves what the next run removes and begins anew.
//!
//! **The record of votes.** No copy has it, so this node does not know what it signed, and one that lies beside is of
//! before, or says that the node is new: it goes before the ledger comes. While other nodes have the chain, the node finds
//! out from where on it may vote (`protocol::sync`). Where none has, nobody can tell it: its operator promises that it
//! has not voted at a height or above (`--vote-from`), and may promise it for the height after the copy's last block, if
//! no block after that one was decided, or if nobody has any more what was said there. What is at stake where one has: two
//! blocks of one height, each with a certificate, which is proof that voters contradicted themselves; a receipt holds such
//! a certificate. So the longest of all copies is restored on every node; and where receipts of later blocks are known to be
//! about, a successor goes on from there instead, whose votes are another network's.

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use minidlt_protocol::{genesis::Genesis, types::Identity};
use thiserror::Error;

use crate::{
    journal::{Journal, JournalError},
    store::{
        CopyError, copy_as,
        verify::{Summary, VerifyError, verify_directory},
    },
};

/// The ledger's name in a node's data directory.
pub const LEDGER: &str = "ledger";
const UNFINISHED: &str = ".ledger.unfinished";
const DIRECTORY_MODE: u32 = 0o700;

/// Why a ledger was not restored.
#[derive(Debug, Error)]
pub enum RestoreError {
    #[error(
        "{}: there is a ledger already. Where it is sound, keep it if it has as many blocks as the copy (minidlt verify says \
         of both); else move it away, and restore again",
        .0.display()
    )]
    Exists(PathBuf),
    #[error("{}: another restore writes there", .0.display())]
    Busy(PathBuf),
    #[error("the copy cannot be taken: {0}")]
    Copy(#[from] CopyError),
    #[error("the copy is not to be had: {0}. Take another")]
    Bad(VerifyError),
    #[error("the record of votes cannot be removed: {0}")]
    Votes(#[from] JournalError),
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
}

/// What was restored.
#[derive(Debug)]
pub struct Restored {
    pub summary: Summary,
    /// A record of votes that lay there was removed.
    pub forgot_votes: bool,
}

fn failed(path: &Path) -> impl Fn(io::Error) -> RestoreError {
    move |error| RestoreError::Io { path: path.to_owned(), error }
}

/// Makes the ledger of `node` in `data_dir`, which need not be there, of the ledger or backup in `from`.
pub fn restore(data_dir: &Path, genesis: &Genesis, node: &Identity, from: &Path) -> Result<Restored, RestoreError> {
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(data_dir).map_err(failed(data_dir))?;
    let directory = File::open(data_dir).map_err(failed(data_dir))?;
    match directory.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(RestoreError::Busy(data_dir.to_owned())),
        Err(TryLockError::Error(error)) => return Err(failed(data_dir)(error)),
    }
    let (ledger, unfinished) = (data_dir.join(LEDGER), data_dir.join(UNFINISHED));
    if ledger.symlink_metadata().is_ok() {
        return Err(RestoreError::Exists(ledger));
    }
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(failed(&unfinished))?;
    }
    let summary = verified_copy(genesis, node, from, &unfinished).inspect_err(|_| {
        // The next run would remove it, too; what matters is why.
        let _ = fs::remove_dir_all(&unfinished);
    })?;
    let forgot_votes = Journal::forget(data_dir)?;
    fs::rename(&unfinished, &ledger).and_then(|()| directory.sync_all()).map_err(failed(&ledger))?;
    Ok(Restored { summary, forgot_votes })
}

fn verified_copy(genesis: &Genesis, node: &Identity, from: &Path, to: &Path) -> Result<Summary, RestoreError> {
    copy_as(from, to, node)?;
    verify_directory(to, genesis).map_err(RestoreError::Bad)
}

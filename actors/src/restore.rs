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
//!
//! **The first start of a successor.** That a node has signed nothing in the new network is known of one thing alone: its
//! own ledger is still of the network before, with a record of votes beside it. So a record that says so is begun by the run
//! that takes both away, and by no other: a copy of the old chain, put where the ledger was or kept before, may lie beside
//! votes of the new one, or where such have been.
//!
//! ```text
//! own ledger, verified ─▶ old record of votes removed ─▶ ledger to predecessors/ ─▶ fork.json, too ─▶ new record of votes
//! ```
//!
//! A crash between any two of these leaves a node that signs nothing, and what the same command completes; but without a
//! record of votes, for nobody can tell any more whether the node has run since, but its operator.

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf, absolute},
};

use minidlt_protocol::{
    genesis::Genesis,
    receipt::CertifiedHeader,
    successor::Predecessor,
    types::{Height, Identity},
};
use thiserror::Error;

use crate::{
    fork::{self, FORK_FILE, ForkError},
    journal::{Journal, JournalError},
    store::{
        CopyError, OpenError, copy_as, network_of,
        verify::{Summary, VerifyError, verify_directory},
    },
};

/// The ledger's name in a node's data directory.
pub const LEDGER: &str = "ledger";
/// Where the chains of the networks before this one are kept, each under the beginning of its id.
pub const PREDECESSORS: &str = "predecessors";
const ID_LETTERS: usize = 16;
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
    #[error("the copy cannot be taken: {0}")]
    Open(#[from] OpenError),
    #[error(
        "the copy ends with block {found}, and the successor goes on from block {} ({}): take one that ends there",
        .last.header.height, .last.hash
    )]
    OtherEnd { found: Height, last: Box<CertifiedHeader> },
    #[error("the record of votes: {0}")]
    Votes(#[from] JournalError),
    #[error(transparent)]
    Fork(#[from] ForkError),
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
}

/// What was restored.
#[derive(Debug)]
pub struct Restored {
    pub summary: Summary,
    /// A record of votes that lay there was removed.
    pub forgot_votes: bool,
    /// It is the chain of the network before: the node begins with the successor.
    pub kept: Option<Kept>,
}

/// The chain of the network before, as a node of its successor has it.
#[derive(Debug, PartialEq, Eq)]
pub struct Kept {
    pub chain: PathBuf,
    /// The proof of a fork of that chain, which lay in the data directory, was moved here.
    pub fork: Option<PathBuf>,
    /// There is a record of what the node signs in the successor. Where there is none, it does not vote at first.
    pub votes: bool,
}

fn failed(path: &Path) -> impl Fn(io::Error) -> RestoreError {
    move |error| RestoreError::Io { path: path.to_owned(), error }
}

/// Makes the ledger of `node` in `data_dir`, which need not be there, of the ledger or backup in `from`. Where that is of
/// the network that this one succeeds, it is kept, and the node's own begins when it starts.
pub fn restore(data_dir: &Path, genesis: &Genesis, node: &Identity, from: &Path) -> Result<Restored, RestoreError> {
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(data_dir).map_err(failed(data_dir))?;
    let directory = File::open(data_dir).map_err(failed(data_dir))?;
    match directory.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(RestoreError::Busy(data_dir.to_owned())),
        Err(TryLockError::Error(error)) => return Err(failed(data_dir)(error)),
    }
    if let Some(predecessor) = &genesis.predecessor
        && is_of(from, predecessor, data_dir)?
    {
        return succeed(data_dir, predecessor, node, from);
    }
    let ledger = none_yet(data_dir)?;
    let (unfinished, summary) = verified_copy(genesis, node, from, data_dir)?;
    let forgot_votes = Journal::forget(data_dir)?;
    put(&unfinished, &ledger)?;
    Ok(Restored { summary, forgot_votes, kept: None })
}

/// Whether it is the old chain; also where it is the node's own ledger, which an earlier run has moved.
fn is_of(from: &Path, predecessor: &Predecessor, data_dir: &Path) -> Result<bool, RestoreError> {
    let moved = || none_yet(data_dir).is_ok() && kept_at(data_dir, predecessor).exists();
    if its_own(from, data_dir) && moved() {
        return Ok(true);
    }
    Ok(network_of(from)? == predecessor.genesis.id())
}

/// Whether it is the node's own ledger, or where that was.
fn its_own(from: &Path, data_dir: &Path) -> bool {
    let (Ok(from), ledger) = (absolute(from), data_dir.join(LEDGER)) else { return false };
    let same = |a: &Path, b: &Path| matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b);
    let was = from.file_name() == ledger.file_name() && from.parent().is_some_and(|parent| same(parent, data_dir));
    same(&from, &ledger) || was
}

fn kept_at(data_dir: &Path, predecessor: &Predecessor) -> PathBuf {
    data_dir.join(PREDECESSORS).join(&predecessor.genesis.id().to_string()[..ID_LETTERS])
}

/// Keeps the old chain. The order of the steps is the module's.
fn succeed(data_dir: &Path, predecessor: &Predecessor, node: &Identity, from: &Path) -> Result<Restored, RestoreError> {
    let all = data_dir.join(PREDECESSORS);
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(&all).map_err(failed(&all))?;
    let (ledger, chain) = (data_dir.join(LEDGER), kept_at(data_dir, predecessor));
    // What would keep it from starting is told before anything is moved.
    let forked = fork::load(data_dir)?.is_some_and(|fork| fork.is_of(&predecessor.genesis.id()));
    let verify = |at: &Path| {
        let summary = verify_directory(at, &predecessor.genesis).map_err(RestoreError::Bad)?;
        check_end(summary, predecessor)
    };
    let moves = its_own(from, data_dir) && !chain.exists();
    let (summary, forgot_votes) = if moves {
        let summary = verify(&ledger)?;
        let forgot_votes = Journal::forget(data_dir)?;
        put(&ledger, &chain)?;
        (summary, forgot_votes)
    } else {
        none_yet(data_dir)?;
        if chain.exists() {
            // An earlier run got so far, and the node may have run since.
            (verify(&chain)?, false)
        } else {
            let (unfinished, summary) = verified_copy(&predecessor.genesis, node, from, data_dir)?;
            let summary = check_end(summary, predecessor).inspect_err(|_| drop(fs::remove_dir_all(&unfinished)))?;
            let forgot_votes = Journal::forget(data_dir)?;
            put(&unfinished, &chain)?;
            (summary, forgot_votes)
        }
    };
    let fork = if forked { Some(keep_fork(data_dir, &chain)?) } else { None };
    if moves && forgot_votes {
        drop(Journal::begin_at(data_dir, Height::GENESIS)?);
    }
    let votes = Journal::open(data_dir)?.is_some();
    Ok(Restored { summary, forgot_votes, kept: Some(Kept { chain, fork, votes }) })
}

/// Moves the proof that the old chain forked beside it: it is nothing against the new one, in which it would keep the
/// node from voting.
fn keep_fork(data_dir: &Path, chain: &Path) -> Result<PathBuf, RestoreError> {
    let beside = chain.with_extension(FORK_FILE);
    put(&data_dir.join(FORK_FILE), &beside)?;
    Ok(beside)
}

fn check_end(summary: Summary, predecessor: &Predecessor) -> Result<Summary, RestoreError> {
    let (last, head) = (&predecessor.last, &summary.head);
    if (head.height, head.hash) != (last.header.height, last.hash) {
        return Err(RestoreError::OtherEnd { found: head.height, last: last.clone().into() });
    }
    Ok(summary)
}

/// Where the ledger comes, unless there is one.
fn none_yet(data_dir: &Path) -> Result<PathBuf, RestoreError> {
    let ledger = data_dir.join(LEDGER);
    if ledger.symlink_metadata().is_ok() { Err(RestoreError::Exists(ledger)) } else { Ok(ledger) }
}

/// A copy under a name that is none yet.
fn verified_copy(
    genesis: &Genesis,
    node: &Identity,
    from: &Path,
    data_dir: &Path,
) -> Result<(PathBuf, Summary), RestoreError> {
    let unfinished = data_dir.join(UNFINISHED);
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(failed(&unfinished))?;
    }
    let copied = copy_as(from, &unfinished, node).map_err(RestoreError::from);
    let verified = copied.and_then(|()| verify_directory(&unfinished, genesis).map_err(RestoreError::Bad));
    match verified {
        Ok(summary) => Ok((unfinished, summary)),
        Err(error) => {
            // The next run would remove it, too; what matters is why.
            let _ = fs::remove_dir_all(&unfinished);
            Err(error)
        }
    }
}

/// Gives a directory or a file its name, for good.
fn put(from: &Path, to: &Path) -> Result<(), RestoreError> {
    let synced = |path: &Path| File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all();
    fs::rename(from, to).and_then(|()| synced(to)).and_then(|()| synced(from)).map_err(failed(to))
}

//! The height's log: what this node signed, and what Consensus wants to find again after a crash.
//!
//! Two files, `signer-0.log` and `signer-1.log`, take turns by height: the log of a height is
//! overwritten only once that of a later height is on disk, so no crash can forget what was signed.
//! Files are written full of zeros beforehand, so that syncing needs no metadata.
//!
//! A file is a head and a sequence of *batches*. What is appended gathers in memory; [`Journal::sync`]
//! writes it as one batch and waits for the disk before the next can be written. Therefore
//!
//! | found on opening | means | done |
//! |---|---|---|
//! | not both files | what was signed is not known | [`Journal::open`] gives none |
//! | a head that does not hold, or two that differ | damage: heads are there before there is a log | refuse to start |
//! | no valid batch in either | the same: the first is there as early | refuse to start |
//! | a bad batch, nothing valid after it | the last write was torn, its sync never answered | cut |
//! | a bad batch, valid ones of its height after it | damage to what had been synced | refuse to start |
//! | a batch of an earlier height | what the file held before | the end |
//!
//! Nobody but this node can make a batch, or have it copy one to another place, so what others' bytes
//! look like leads to none of these: `head.rs` says why.
//!
//! A log begins with an empty batch, which says from which height on its node may sign: 0 where
//! `minidlt init` made it, later where the node lost its log and begins anew ([`Journal::begin_at`]). So a
//! node that lost its log, and with it the knowledge of what it signed, is told from a new one.
//!
//! ```text
//! batch  := mark(8) length(4) height(8) checksum(16) record*       numbers big-endian
//! record := kind(1) length(4) bytes
//! checksum: the first half of SHA-256 over key, mark, length, height, the batch's offset (8), records
//! ```

mod head;
mod scan;

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use minidlt_protocol::{
    codec,
    limits::MAX_FRAME_BYTES,
    types::Height,
    vote::{SignedProposal, SignedVote},
};
use openssl::error::ErrorStack;
use thiserror::Error;

use crate::whole_file;
use head::{BadHead, HEAD_BYTES, Secret, VERSION};
use scan::{Scan, scan};

/// Files grow by this much, in bytes.
const GROW_BYTES: u64 = 1 << 20;
/// What gathers in memory before it is written unasked, in bytes.
const PENDING_BYTES: usize = 1 << 20;
/// The kind and length before each record, in bytes.
const RECORD_HEAD_BYTES: usize = 5;
/// Others' bytes lie in the files, and what keeps them apart: they are their owner's alone.
const MODE: u32 = 0o600;
/// What to do where it is not known any more what was signed.
const REMEDY: &str = "Remove signer-0.log and signer-1.log and start again: the node catches up, and signs again from \
                      where it cannot have signed before";

/// Why the log cannot be opened.
#[derive(Debug, Error)]
pub enum JournalError {
    #[error("{path}: {reason}")]
    Io { path: PathBuf, reason: io::Error },
    #[error("{path} is in use: another process runs this node")]
    Locked { path: PathBuf },
    #[error("{path} was written by another version of this program: its layout is {found}, this one knows {VERSION}")]
    OtherVersion { path: PathBuf, found: u32 },
    #[error(
        "{path} is damaged: its head does not hold, or is not that of the file beside it, so this node no longer knows \
         what it signed. {REMEDY}"
    )]
    DamagedHead { path: PathBuf },
    #[error("{path} is damaged, and so is the file beside it: no batch in either is sound. {REMEDY}")]
    NothingSound { path: PathBuf },
    #[error(
        "{path} is damaged at byte {at}, within what was synced for height {height}: this node no longer knows all it \
         signed there. {REMEDY}"
    )]
    Damaged { path: PathBuf, at: usize, height: Height },
}

/// One thing in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    Vote(SignedVote),
    Proposal(SignedProposal),
    /// Opaque: Consensus knows.
    Entry(Vec<u8>),
}

impl Record {
    /// Whether forgetting it could make this node sign twice.
    fn is_promise(&self) -> bool {
        !matches!(self, Self::Entry(_))
    }

    fn encode_to(&self, out: &mut Vec<u8>) {
        let (kind, bytes) = match self {
            Self::Vote(vote) => (1, &codec::encode(vote)),
            Self::Proposal(proposal) => (2, &codec::encode(proposal)),
            Self::Entry(entry) => (3, entry),
        };
        out.push(kind);
        out.extend_from_slice(&length(bytes));
        out.extend_from_slice(bytes);
    }

    /// The records of a batch; `None` where it is not one of ours.
    fn decode_all(mut bytes: &[u8]) -> Option<Vec<Self>> {
        let mut records = Vec::new();
        while let Some((head, rest)) = bytes.split_first_chunk::<RECORD_HEAD_BYTES>() {
            let [kind, length @ ..] = *head;
            let (record, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(length)).ok()?)?;
            records.push(match kind {
                1 => Self::Vote(codec::decode(record, MAX_FRAME_BYTES).ok()?),
                2 => Self::Proposal(codec::decode(record, MAX_FRAME_BYTES).ok()?),
                3 => Self::Entry(record.to_vec()),
                _ => return None,
            });
            bytes = rest;
        }
        bytes.is_empty().then_some(records)
    }
}

/// A batch has at most [`PENDING_BYTES`] and one entry, and an entry came in a frame or holds one
/// block: far below 4 GiB.
fn length(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).expect("the log's records are far below 4 GiB").to_be_bytes()
}

struct Half {
    file: File,
    path: PathBuf,
    /// Bytes known to be allocated and written.
    allocated: u64,
}

impl Half {
    fn open(path: PathBuf) -> Result<(Self, Vec<u8>), JournalError> {
        let failed = |reason| JournalError::Io { path: path.clone(), reason };
        let open = || {
            let file = OpenOptions::new().read(true).write(true).open(&path)?;
            let bytes = std::fs::read(&path)?;
            Ok((file, bytes))
        };
        let (file, bytes) = open().map_err(failed)?;
        lock(&file, &path)?;
        let allocated = bytes.len() as u64;
        Ok((Self { file, path, allocated }, bytes))
    }

    fn secret(&self, bytes: &[u8]) -> Result<Secret, JournalError> {
        let path = || self.path.clone();
        Secret::of(bytes).map_err(|bad| match bad {
            BadHead::Damaged => JournalError::DamagedHead { path: path() },
            BadHead::OtherVersion(found) => JournalError::OtherVersion { path: path(), found },
        })
    }

    /// Writes zeros up to a whole number of [`GROW_BYTES`] and syncs, metadata included.
    fn allocate(&mut self, needed: u64) -> io::Result<()> {
        if needed <= self.allocated {
            return Ok(());
        }
        let target = needed.div_ceil(GROW_BYTES) * GROW_BYTES;
        let zeros = vec![0; 64 << 10];
        while self.allocated < target {
            let count = (target - self.allocated).min(zeros.len() as u64);
            self.file.write_all_at(&zeros[..count as usize], self.allocated)?;
            self.allocated += count;
        }
        self.file.sync_all()
    }
}

fn lock(file: &File, path: &Path) -> Result<(), JournalError> {
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => JournalError::Locked { path: path.to_owned() },
        TryLockError::Error(reason) => JournalError::Io { path: path.to_owned(), reason },
    })
}

/// The log, open for appending. One process holds it at a time.
pub struct Journal {
    halves: [Half; 2],
    secret: Secret,
    active: usize,
    height: Height,
    /// Where the next batch goes in the active file; [`HEAD_BYTES`] while nothing of this height is on disk.
    end: u64,
    pending: Vec<u8>,
    pending_promise: bool,
}

/// The names of the two files.
const FILES: [&str; 2] = ["signer-0.log", "signer-1.log"];

/// The files, by name, that a new node's log begins with: nothing was ever signed. They are secret.
pub fn of_a_new_node() -> Result<[(&'static str, Vec<u8>); 2], ErrorStack> {
    new_log(Height::GENESIS)
}

/// Two heads, and the word that all below `height` is done.
fn new_log(height: Height) -> Result<[(&'static str, Vec<u8>); 2], ErrorStack> {
    let secret = Secret::draw()?;
    let (mut first, second) = (secret.head(), secret.head());
    first.extend(scan::batch(&secret, height, HEAD_BYTES as u64, &[]));
    Ok([(FILES[0], first), (FILES[1], second)])
}

impl Journal {
    /// Opens the log in `directory`; `None` where there is none. Hands back the records of the latest
    /// height, in order.
    pub fn open(directory: &Path) -> Result<Option<(Self, Vec<Record>)>, JournalError> {
        let [first, second] = FILES.map(|file| directory.join(file));
        if !first.exists() || !second.exists() {
            return Ok(None);
        }
        let (zero, zero_bytes) = Half::open(first)?;
        let (one, one_bytes) = Half::open(second)?;
        let secret = zero.secret(&zero_bytes)?;
        if one.secret(&one_bytes)? != secret {
            return Err(JournalError::DamagedHead { path: one.path });
        }
        let scans = [scan(&secret, &zero_bytes), scan(&secret, &one_bytes)];
        let mut halves = [zero, one];
        refuse_damage(&halves[0], &scans[0], scans[1].height)?;
        refuse_damage(&halves[1], &scans[1], scans[0].height)?;
        let active = usize::from(scans[1].height > scans[0].height);
        let [zero, one] = scans;
        let Scan { height, end, records, torn, .. } = if active == 0 { zero } else { one };
        let Some(height) = height else {
            let [Half { path, .. }, _] = halves;
            return Err(JournalError::NothingSound { path });
        };
        for half in halves.iter_mut().filter(|half| half.allocated < GROW_BYTES) {
            let path = half.path.clone();
            half.allocate(GROW_BYTES).map_err(|reason| JournalError::Io { path, reason })?;
        }
        if torn {
            let path = halves[active].path.display();
            log::warn!("{path}: the last write was cut short at byte {end}; nothing of it had left this node");
        }
        let (end, pending, pending_promise) = (end as u64, Vec::new(), false);
        Ok(Some((Self { halves, secret, active, height, end, pending, pending_promise }, records)))
    }

    /// Begins the log of a node that has none, at a height in which it cannot have signed anything:
    /// whoever opens it may sign from there on. Whole or not at all: a crash leaves no log.
    pub fn begin_at(directory: &Path, height: Height) -> Result<Self, JournalError> {
        let failed = |reason| JournalError::Io { path: directory.join(FILES[0]), reason };
        begin_files(directory, height).map_err(failed)?;
        let opened = Self::open(directory)?;
        let (journal, _) = opened.ok_or_else(|| failed(io::Error::other("it was made, and cannot be read back")))?;
        Ok(journal)
    }

    /// Removes the log in `directory`, which no process may hold; `false` where there was none. A crash leaves a
    /// part of it, which is no log.
    pub fn forget(directory: &Path) -> Result<bool, JournalError> {
        let found = FILES.map(|file| directory.join(file)).into_iter().filter(|path| path.exists());
        let found: Vec<_> = found.collect();
        for path in &found {
            let failed = |reason| JournalError::Io { path: path.clone(), reason };
            let file = File::open(path).map_err(failed)?;
            lock(&file, path)?;
            std::fs::remove_file(path).and_then(|()| File::open(directory)?.sync_all()).map_err(failed)?;
        }
        Ok(!found.is_empty())
    }

    /// The height this log is of. All below are done.
    pub fn height(&self) -> Height {
        self.height
    }

    /// Appends in memory; writes only where too much has gathered.
    pub fn append(&mut self, record: &Record) -> io::Result<()> {
        record.encode_to(&mut self.pending);
        self.pending_promise |= record.is_promise();
        if self.pending.len() > PENDING_BYTES { self.sync() } else { Ok(()) }
    }

    /// Everything appended so far is on disk once this answers.
    pub fn sync(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let batch = scan::batch(&self.secret, self.height, self.end, &self.pending);
        let end = self.end + batch.len() as u64;
        let half = &mut self.halves[self.active];
        half.allocate(end)?;
        half.file.write_all_at(&batch, self.end)?;
        half.file.sync_data()?;
        self.end = end;
        self.pending.clear();
        self.pending_promise = false;
        Ok(())
    }

    /// Starts anew for a later height. What was signed for this one stays on disk until something
    /// of a later height is there; the rest may go.
    pub fn begin(&mut self, height: Height) -> io::Result<()> {
        if height <= self.height {
            return Ok(());
        }
        if self.pending_promise {
            self.sync()?;
        }
        self.pending.clear();
        if self.end > HEAD_BYTES as u64 {
            self.active = 1 - self.active;
            self.end = HEAD_BYTES as u64;
        }
        self.height = height;
        Ok(())
    }
}

/// One file alone is no log, so there is none between the old one's and the new one's two; and no file of
/// the old one is there any more, whatever a crash undoes, when the first of the new one comes.
fn begin_files(directory: &Path, height: Height) -> io::Result<()> {
    let files = new_log(height)?;
    for old in FILES.map(|file| directory.join(file)).iter().filter(|path| path.exists()) {
        std::fs::remove_file(old)?;
    }
    File::open(directory)?.sync_all()?;
    for (name, bytes) in files {
        whole_file::write(directory, name, MODE, &bytes)?;
    }
    Ok(())
}

/// Valid batches after the end are damage if they are of this file's latest height and that is the
/// log's: earlier ones are what the file held before, or is about to lose to the next height.
fn refuse_damage(half: &Half, scan: &Scan, other: Option<Height>) -> Result<(), JournalError> {
    match scan.latest_after_end {
        Some(height) if Some(height) > other && Some(height) >= scan.height => {
            Err(JournalError::Damaged { path: half.path.clone(), at: scan.end, height })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;

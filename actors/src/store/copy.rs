//! A copy of a ledger that becomes a node's own. Only a copy is ever written to; what it is made of stays as it is.
//!
//! What a ledger holds is the same on every node, and proves itself from genesis. Two things are its node's: the name
//! in its meta entries, and the mark of its log, which nobody else may know (`mark.rs`) and whoever made the copy does.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use minidlt_protocol::types::Identity;
use rocksdb::{DB, FlushOptions, WriteBatch};
use thiserror::Error;

use super::{
    database::handle,
    mark::Mark,
    open::{LOCK_FILE, OpenError, check_begins, heal, lock_to_read, open_to_write, refused},
    schema::{Family, meta, seal},
    writer::synced,
};

/// A ledger is its node's alone.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// RocksDB's own lock. Its log of what it did begins with the other name, and says nothing of what is stored.
const NOT_COPIED: [&str; 2] = ["LOCK", LOCK_FILE];
const INFO_LOG: &str = "LOG";

/// Why a ledger was not copied.
#[derive(Debug, Error)]
pub enum CopyError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
}

fn failed(path: &Path) -> impl Fn(io::Error) -> CopyError {
    move |error| CopyError::Io { path: path.to_owned(), error }
}

/// Copies the files of a ledger that no node is using, or of a backup, into `to`, which is made, and makes them
/// `node`'s. All of it is on disk once this answers, but the name of `to`.
pub fn copy_as(from: &Path, to: &Path, node: &Identity) -> Result<(), CopyError> {
    let _until_copied = lock_to_read(from)?;
    check_begins(from)?;
    DirBuilder::new().mode(DIRECTORY_MODE).create(to).map_err(failed(to))?;
    for entry in fs::read_dir(from).map_err(failed(from))? {
        let entry = entry.map_err(failed(from))?;
        let name = entry.file_name();
        let beside = NOT_COPIED.iter().any(|other| name == *other) || name.to_string_lossy().starts_with(INFO_LOG);
        // There are no directories in a ledger.
        if !beside && entry.path().is_file() {
            copy_file(&entry.path(), &to.join(&name)).map_err(failed(&entry.path()))?;
        }
    }
    adopt(to, node)?;
    File::open(to).and_then(|directory| directory.sync_all()).map_err(failed(to))
}

fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let mut copy = fs::OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(to)?;
    io::copy(&mut File::open(from)?, &mut copy)?;
    copy.sync_all()
}

/// What is only in the log, under the mark of before, is sorted into tables before there is another mark.
fn adopt(directory: &Path, node: &Identity) -> Result<(), CopyError> {
    heal(directory)?;
    flush(directory, &open_to_write(directory)?)?;
    let mark = Mark::make(directory).map_err(failed(directory))?;
    let db = open_to_write(directory)?;
    let mut batch = WriteBatch::default();
    batch.put_log_data(&mark);
    batch.put_cf(handle(&db, Family::Meta), meta::NODE, seal(node));
    db.write_opt(batch, &synced()).map_err(|error| refused(directory, &error))?;
    flush(directory, &db)
}

fn flush(directory: &Path, db: &DB) -> Result<(), CopyError> {
    let families = Family::ALL.map(|family| handle(db, family));
    let flushed = db.flush_cfs_opt(&families, &FlushOptions::default());
    Ok(flushed.map_err(|error| refused(directory, &error))?)
}

//! What each write to RocksDB's log begins with: random bytes that are this ledger's own.
//!
//! The log holds bytes that others chose, a submitter's text among them, and RocksDB's checksums have no
//! key: anybody can make bytes that look like a record. The mark, which nobody outside knows, tells the
//! beginning of a write from them (`wal.rs`). It is there before the first write, and RocksDB keeps it
//! nowhere but in its log.

use std::{fs, io, path::Path};

use openssl::rand::rand_bytes;

use super::schema::{seal, unseal};
use crate::whole_file;

pub const MARK_BYTES: usize = 16;

/// Beside RocksDB's files, which goes by their names.
const FILE: &str = "write-mark";
/// Its owner's alone.
const MODE: u32 = 0o600;

/// Why a mark cannot be read.
pub enum Trouble {
    Io(String),
    Damaged(String),
}

/// A ledger's mark.
pub struct Mark([u8; MARK_BYTES]);

impl AsRef<[u8]> for Mark {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Mark {
    /// `None` where there is none: nothing has been written, or this is a backup.
    pub fn read(directory: &Path) -> Result<Option<Self>, Trouble> {
        match fs::read(directory.join(FILE)) {
            Ok(bytes) => match unseal(&bytes) {
                Ok(mark) => Ok(Some(Self(mark))),
                Err(reason) => Err(Trouble::Damaged(format!("its file {FILE}: {reason}"))),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Trouble::Io(format!("its file {FILE}: {error}"))),
        }
    }

    /// Makes one, which is there whole or not at all.
    pub fn make(directory: &Path) -> io::Result<Self> {
        let mut mark = [0; MARK_BYTES];
        rand_bytes(&mut mark)?;
        whole_file::write(directory, FILE, MODE, &seal(&mark))?;
        Ok(Self(mark))
    }
}

//! A look at RocksDB's list of its files before RocksDB reads it. One flipped bit can turn a record
//! into one of a kind that only recycled logs have; RocksDB (11.8) then reads on for ever.
//!
//! ```text
//! file   := block*                                    32 KiB each, the last may be shorter
//! block  := record* zero-padding
//! record := checksum(4) length(2, little-endian) kind(1) bytes
//! ```
//!
//! The format is `db/log_format.h` of RocksDB's source. Checksums and contents are its own affair.

use std::{fs, io, path::Path};

const BLOCK_BYTES: usize = 32 << 10;
const HEAD_BYTES: usize = 7;
/// Whole, first, middle and last part of a record; 0 where space is laid by.
const KINDS: std::ops::RangeInclusive<u8> = 0..=4;

/// Why the list cannot be read.
pub enum Trouble {
    Io(String),
    Damaged(String),
}

/// Whether every record is of a kind that stands there. `Err` says which is not, or why it cannot be
/// read.
pub fn check(directory: &Path, current_file: &str) -> Result<(), Trouble> {
    let read = |name: &str| match fs::read(directory.join(name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(|error| Trouble::Io(format!("its file {name}: {error}"))),
    };
    let current = read(current_file)?;
    let Ok(name) = std::str::from_utf8(&current) else {
        return Err(Trouble::Damaged(format!("its file {current_file}")));
    };
    let name = name.trim_end();
    // What it names is RocksDB's to check; here it is only not to lead out of the directory.
    if name.is_empty() || name.contains('/') {
        return Ok(());
    }
    match foreign_record(&read(name)?) {
        Some(at) => Err(Trouble::Damaged(format!("its file {name}, at byte {at}"))),
        None => Ok(()),
    }
}

/// Where the first record of a kind stands that should not be there.
fn foreign_record(manifest: &[u8]) -> Option<usize> {
    for (number, block) in manifest.chunks(BLOCK_BYTES).enumerate() {
        let mut at = 0;
        while let Some([_, _, _, _, low, high, kind]) = block.get(at..at + HEAD_BYTES) {
            if !KINDS.contains(kind) {
                return Some(number * BLOCK_BYTES + at + HEAD_BYTES - 1);
            }
            at += HEAD_BYTES + usize::from(u16::from_le_bytes([*low, *high]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, bytes: usize) -> Vec<u8> {
        let length = u16::try_from(bytes).unwrap().to_le_bytes();
        [vec![1, 2, 3, 4], length.to_vec(), vec![kind], vec![0xff; bytes]].concat()
    }

    #[test]
    fn a_record_of_a_recycled_log_is_named_wherever_it_stands() {
        let first = [record(1, 10), record(2, BLOCK_BYTES - 17 - 7)].concat();
        assert_eq!(first.len(), BLOCK_BYTES);
        let sound = [first.clone(), record(4, 3), record(1, 0)].concat();
        assert_eq!(foreign_record(&sound), None);
        let flipped = [first, record(4, 3), record(1 ^ 4, 0)].concat();
        assert_eq!(foreign_record(&flipped), Some(BLOCK_BYTES + 10 + 6));
    }

    #[test]
    fn what_is_cut_short_or_empty_is_left_to_rocksdb() {
        assert_eq!(foreign_record(&[]), None);
        assert_eq!(foreign_record(&record(1, 100)[..20]), None);
        assert_eq!(foreign_record(&[9; 6]), None);
    }
}

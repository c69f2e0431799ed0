//! A look at the end of RocksDB's log before RocksDB reads it. A write that was under way when the
//! power went may be on the disk in parts: a file's length grows before all of its blocks are there,
//! and what is not there reads as zeros. RocksDB (11.1) drops a last record that is cut short; of one
//! with a hole it says that its checksum is wrong, as it does of damage, and does not start. And a
//! hole that begins where a record does it passes over, with all up to the next block of the file.
//!
//! | found in the newest log | means | done |
//! |---|---|---|
//! | a bad record with a hole of zeros, and no record begun after it | the last write was torn, its sync never answered | cut |
//! | any other bad record | damage to what had been synced | refuse to start |
//! | a record that says it is longer than the file | the same, or garbage that nothing rests on | left to RocksDB, which drops it |
//!
//! Each write is synced before the next is made, so a record that begins after another one proves that
//! the other had been synced.
//!
//! ```text
//! file   := block*                                    32 KiB each, the last may be shorter
//! block  := record* zero-padding                      padding where no head fits
//! record := checksum(4) length(2) kind(1) bytes       numbers little-endian
//! checksum: of kind and bytes, CRC-32C (RFC 3720, B.4), rotated right by 15 bits, plus 0xa282ead8
//! ```
//!
//! The format is `db/log_format.h` of RocksDB's source.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

const BLOCK_BYTES: usize = 32 << 10;
const HEAD_BYTES: usize = 7;
/// What a disk writes as a whole, at least, in bytes.
const SECTOR_BYTES: usize = 512;
/// Records that begin a write: the whole of one, or its first part.
const BEGINS: std::ops::RangeInclusive<u8> = 1..=2;
/// These, and a middle and a last part.
const KINDS: std::ops::RangeInclusive<u8> = 1..=4;

/// How a log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Sound,
    /// Its last write, from this byte on, is there in parts.
    Torn(usize),
    Damaged(usize),
}

/// Why a log cannot be read.
pub enum Trouble {
    Io(PathBuf, io::Error),
    /// Where, within what had been synced.
    Damaged(PathBuf, usize),
}

/// The newest log in `directory` and where the last write begins to be torn, if it is.
pub fn torn_end(directory: &Path) -> Result<Option<(PathBuf, usize)>, Trouble> {
    let failed = |path: &Path, error| Trouble::Io(path.to_owned(), error);
    let Some(path) = newest(directory).map_err(|error| failed(directory, error))? else { return Ok(None) };
    let bytes = fs::read(&path).map_err(|error| failed(&path, error))?;
    match end(&bytes) {
        End::Sound => Ok(None),
        End::Torn(at) => Ok(Some((path, at))),
        End::Damaged(at) => Err(Trouble::Damaged(path, at)),
    }
}

/// Ends a log where its torn write begins.
pub fn cut(path: &Path, at: usize) -> Result<(), Trouble> {
    let cut = || {
        let file = File::options().write(true).open(path)?;
        file.set_len(at as u64)?;
        file.sync_all()
    };
    cut().map_err(|error| Trouble::Io(path.to_owned(), error))
}

/// The log of the highest number that is not empty. A start leaves an empty one where it was cut off.
fn newest(directory: &Path) -> io::Result<Option<PathBuf>> {
    let mut newest = None;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let number = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
        let is_log = path.extension().is_some_and(|extension| extension == "log");
        if let Some(number) = number
            && is_log
            && path.metadata()?.len() > 0
            && newest.as_ref().is_none_or(|(highest, _)| number > *highest)
        {
            newest = Some((number, path));
        }
    }
    Ok(newest.map(|(_, path)| path))
}

fn end(log: &[u8]) -> End {
    let mut at = 0;
    while at < log.len() {
        let left = BLOCK_BYTES - at % BLOCK_BYTES;
        if left < HEAD_BYTES {
            at += left;
            continue;
        }
        match record_at(log, at) {
            Some((_, next)) => at = next,
            None => return bad_end(log, at),
        }
    }
    End::Sound
}

/// What a bad record means.
fn bad_end(log: &[u8], at: usize) -> End {
    let rest = &log[at..];
    if rest.iter().all(|byte| *byte == 0) {
        // Space laid by.
        return End::Sound;
    }
    if begins_after(log, at) {
        return End::Damaged(at);
    }
    if has_hole(log, at) {
        return End::Torn(at);
    }
    match head_at(log, at) {
        Some((length, _)) if at + HEAD_BYTES + length <= log.len() => End::Damaged(at),
        _ => End::Sound,
    }
}

/// Whether a write begins anywhere after `at`: its record's length may be wrong, so all places count.
fn begins_after(log: &[u8], at: usize) -> bool {
    let begins = |at: usize| record_at(log, at).is_some_and(|(kind, _)| BEGINS.contains(&kind));
    (at + 1..log.len()).any(begins)
}

/// Whether a sector from `at` on, or what of one lies there, is all zeros.
fn has_hole(log: &[u8], at: usize) -> bool {
    let first = at / SECTOR_BYTES * SECTOR_BYTES;
    let sectors = (first..log.len()).step_by(SECTOR_BYTES);
    sectors.map(|sector| &log[sector.max(at)..log.len().min(sector + SECTOR_BYTES)]).any(is_zero)
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// Length and kind of the record whose head is here.
fn head_at(log: &[u8], at: usize) -> Option<(usize, u8)> {
    match log.get(at..at + HEAD_BYTES)? {
        [_, _, _, _, low, high, kind] => Some((usize::from(u16::from_le_bytes([*low, *high])), *kind)),
        _ => None,
    }
}

/// Kind and end of the sound record that begins here.
fn record_at(log: &[u8], at: usize) -> Option<(u8, usize)> {
    let (length, kind) = head_at(log, at)?;
    let end = at + HEAD_BYTES + length;
    if !KINDS.contains(&kind) || HEAD_BYTES + length > BLOCK_BYTES - at % BLOCK_BYTES {
        return None;
    }
    let (sum, rest) = log.get(at..end)?.split_first_chunk::<4>()?;
    let covered = &rest[2..];
    (masked(crc32c(covered)) == u32::from_le_bytes(*sum)).then_some((kind, end))
}

fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The polynomial of Castagnoli, bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;
const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| (crc >> 8) ^ TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        // RFC 3720, B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(&(0..32).collect::<Vec<u8>>()), 0x46dd_794e);
    }

    fn record(kind: u8, bytes: &[u8]) -> Vec<u8> {
        let covered = [&[kind], bytes].concat();
        let length = u16::try_from(bytes.len()).unwrap().to_le_bytes();
        [&masked(crc32c(&covered)).to_le_bytes()[..], &length, &covered].concat()
    }

    /// Two writes, the second over three blocks.
    fn log() -> (Vec<u8>, usize) {
        let first = record(1, &[9; 1_000]);
        let at = first.len();
        let second = [
            record(2, &vec![8; BLOCK_BYTES - at - HEAD_BYTES]),
            record(3, &[7; BLOCK_BYTES - HEAD_BYTES]),
            record(4, &[6; 2_000]),
        ];
        ([vec![first], second.into()].concat().concat(), at)
    }

    #[test]
    fn a_last_write_of_which_sectors_are_missing_is_torn_wherever_they_are() {
        let (log, second) = log();
        assert_eq!(end(&log), End::Sound);
        for sector in (0..log.len()).step_by(SECTOR_BYTES) {
            let mut torn = log.clone();
            let range = sector.max(second)..log.len().min(sector + SECTOR_BYTES);
            if range.is_empty() {
                continue;
            }
            torn[range].fill(0);
            let End::Torn(at) = end(&torn) else { panic!("sector {sector}: {:?}", end(&torn)) };
            // Cut within the write or before it: its begin alone is none.
            assert!(at >= second, "{at}");
            assert_eq!(end(&torn[..at]), End::Sound);
        }
    }

    #[test]
    fn a_flipped_bit_is_damage_and_so_is_a_hole_before_a_later_write() {
        let (log, second) = log();
        for at in (0..log.len()).filter(|at| at % 97 == 0 || (second..second + 4).contains(at)) {
            let mut flipped = log.clone();
            flipped[at] ^= 0x10;
            assert!(matches!(end(&flipped), End::Damaged(_)), "{at}: {:?}", end(&flipped));
        }
        let later = [log.clone(), record(1, &[5; 10])].concat();
        for hole in [0..HEAD_BYTES, second..second + 2_000, second..log.len()] {
            let mut damaged = later.clone();
            let at = if hole.start == 0 { 0 } else { second };
            damaged[hole].fill(0);
            assert_eq!(end(&damaged), End::Damaged(at));
        }
    }

    #[test]
    fn space_laid_by_and_what_is_cut_short_are_left_alone() {
        let (log, second) = log();
        assert_eq!(end(&[&log[..], &[0; 100_000]].concat()), End::Sound);
        assert_eq!(end(&[]), End::Sound);
        for cut in [second + 3, second + 100, BLOCK_BYTES + 5, log.len() - 1] {
            assert_eq!(end(&log[..cut]), End::Sound, "{cut}");
        }
    }
}

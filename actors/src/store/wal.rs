//! A look at the end of RocksDB's log before RocksDB reads it. A write that was under way when the
//! power went may be on the disk in parts: a file's length grows before all of its blocks are there,
//! and what is not there reads as zeros. RocksDB (11.8) drops a last record that is cut short; of one
//! with a hole it says that its checksum is wrong, as it does of damage, and does not start. And a
//! hole that begins where a record does it passes over, with all up to the next block of the file.
//!
//! | found in the newest log | means | done |
//! |---|---|---|
//! | a bad record, and a write that begins after the one it is of | damage to what had been synced | refuse to start |
//! | else, a bad record with a hole of zeros in it | the last write was torn, its sync never answered | cut |
//! | a record that says it is longer than the file, and is not sound up to its end | the same, or garbage that nothing rests on | left to RocksDB, which drops it |
//! | any other bad record | damage to what had been synced | refuse to start |
//!
//! Each write is synced before the next is made, so a write that begins after another one proves that
//! the other had been synced. Where one begins, only the ledger's mark tells ([`Mark`]): a submitter's
//! bytes can look like a record, with its checksum, so that a torn write would be taken for damage.
//!
//! A hole is a sector of zeros: what a disk did not write of a file that grew. Of the bad record's first
//! sector only what begins with it counts, since the rest may be of the write before; of the last what
//! the file has of it. Zeros for as long may also be what was written. With a bit flipped elsewhere in
//! the same record that cannot be told from a torn write, and costs the last block, no more: the log of
//! its height or another node has it still.
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

use super::mark::{MARK_BYTES, Mark};

const BLOCK_BYTES: usize = 32 << 10;
const HEAD_BYTES: usize = 7;
/// What a disk writes as a whole, at least, in bytes.
const SECTOR_BYTES: usize = 512;
/// The whole of a write; its first, a middle and its last part.
const KINDS: std::ops::RangeInclusive<u8> = 1..=4;
/// The parts that others follow.
const PARTS: std::ops::RangeInclusive<u8> = 2..=3;
/// How far a write's own mark reaches, at most: behind the record's head, the write's own (a number, 8
/// bytes, and a count, 4), and the mark's kind and length; and another record's head where a block ends
/// within that.
const OWN_MARK_BYTES: usize = HEAD_BYTES + 8 + 4 + 2 + MARK_BYTES + HEAD_BYTES;

/// How a log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Sound,
    /// Its last write, which begins at this byte, is there in parts.
    Torn(usize),
    Damaged(usize),
}

/// Why a log cannot be read.
pub enum Trouble {
    Io(PathBuf, io::Error),
    /// Where, within what had been synced.
    Damaged(PathBuf, usize),
}

/// The newest log in `directory` and where the last write begins, if that is torn.
pub fn torn_end(directory: &Path, mark: Option<&Mark>) -> Result<Option<(PathBuf, usize)>, Trouble> {
    let failed = |path: &Path, error| Trouble::Io(path.to_owned(), error);
    let Some(path) = newest(directory).map_err(|error| failed(directory, error))? else { return Ok(None) };
    let bytes = fs::read(&path).map_err(|error| failed(&path, error))?;
    match end(&bytes, mark.map(Mark::as_ref)) {
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

fn end(log: &[u8], mark: Option<&[u8]>) -> End {
    let (mut at, mut write, mut within) = (0, 0, false);
    while at < log.len() {
        let left = BLOCK_BYTES - at % BLOCK_BYTES;
        if left < HEAD_BYTES {
            at += left;
            continue;
        }
        if !within {
            write = at;
        }
        match record_at(log, at) {
            Some((kind, next)) => (at, within) = (next, PARTS.contains(&kind)),
            None => return bad_end(log, mark, write, at),
        }
    }
    End::Sound
}

/// What a bad record means, at `at` in the write that begins at `write`.
fn bad_end(log: &[u8], mark: Option<&[u8]>, write: usize, at: usize) -> End {
    if is_zero(&log[at..]) && at == write {
        // Space laid by.
        return End::Sound;
    }
    if mark.is_some_and(|mark| begins_after(log, write, mark)) {
        return End::Damaged(at);
    }
    if has_hole(log, at) {
        // The mark is there before the first write: where it is not, no write was under way.
        return if mark.is_some() { End::Torn(write) } else { End::Damaged(at) };
    }
    match head_at(log, at) {
        Some((length, _)) if at + HEAD_BYTES + length <= log.len() || is_whole(log, at) => End::Damaged(at),
        _ => End::Sound,
    }
}

/// Whether a write begins after the one at `write`.
fn begins_after(log: &[u8], write: usize, mark: &[u8]) -> bool {
    let after = write + OWN_MARK_BYTES;
    let has = |bytes: &[u8]| bytes.windows(mark.len()).any(|window| window == mark);
    // Between the parts of one that lies across the end of a block is a head.
    let across = |at: usize| {
        let rest = log.get(at + HEAD_BYTES..).unwrap_or_default();
        has(&[&log[at - mark.len()..at], &rest[..rest.len().min(mark.len())]].concat())
    };
    log.get(after..).is_some_and(has)
        || (after.next_multiple_of(BLOCK_BYTES)..log.len()).step_by(BLOCK_BYTES).any(across)
}

/// Whether a sector is missing from the record at `at`, or from the rest of its block where its head is.
fn has_hole(log: &[u8], at: usize) -> bool {
    let block = log.len().min((at + 1).next_multiple_of(BLOCK_BYTES));
    let end = match head_at(log, at) {
        Some((length, kind)) if KINDS.contains(&kind) => block.min(at + HEAD_BYTES + length),
        _ => block,
    };
    let sectors = (at / SECTOR_BYTES * SECTOR_BYTES..end).step_by(SECTOR_BYTES);
    sectors.map(|sector| &log[sector.max(at)..log.len().min(sector + SECTOR_BYTES)]).any(is_zero)
}

/// Whether the record at `at`, which says that it is longer than the file, is sound up to the end of the
/// file or of its block: its checksum does not cover its length.
fn is_whole(log: &[u8], at: usize) -> bool {
    let end = log.len().min((at + 1).next_multiple_of(BLOCK_BYTES));
    let sum = log[at..end].split_first_chunk::<4>();
    sum.is_some_and(|(sum, rest)| rest.len() > 2 && masked(crc32c(&rest[2..])) == u32::from_le_bytes(*sum))
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
    use std::ops::Range;

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

    const MARK: [u8; MARK_BYTES] = *b"this ledger's ow";

    /// A write at `at`, with its mark, in as many records as it takes.
    fn write(at: usize, bytes: &[u8]) -> Vec<u8> {
        let write = [&[0; 12][..], &[3, MARK_BYTES as u8], &MARK, bytes].concat();
        let (mut rest, mut log, mut first) = (&write[..], Vec::new(), true);
        loop {
            let left = BLOCK_BYTES - (at + log.len()) % BLOCK_BYTES;
            if left < HEAD_BYTES {
                log.resize(log.len() + left, 0);
                continue;
            }
            let (part, after) = rest.split_at(rest.len().min(left - HEAD_BYTES));
            let kind = match (first, after.is_empty()) {
                (true, true) => 1,
                (true, false) => 2,
                (false, false) => 3,
                (false, true) => 4,
            };
            log.extend(record(kind, part));
            (rest, first) = (after, false);
            if rest.is_empty() {
                return log;
            }
        }
    }

    fn judge(log: &[u8]) -> End {
        end(log, Some(&MARK))
    }

    /// Two writes, the second over three blocks.
    fn log() -> (Vec<u8>, usize) {
        let first = write(0, &[9; 1_000]);
        let at = first.len();
        ([first, write(at, &[8; 2 * BLOCK_BYTES])].concat(), at)
    }

    /// What lies in each sector of the write from here on.
    fn sectors(log: &[u8], write: usize) -> Vec<Range<usize>> {
        let first = write / SECTOR_BYTES * SECTOR_BYTES;
        let sectors = (first..log.len()).step_by(SECTOR_BYTES);
        sectors.map(|sector| sector.max(write)..log.len().min(sector + SECTOR_BYTES)).collect()
    }

    #[test]
    fn a_last_write_of_which_sectors_are_missing_is_torn_wherever_they_are() {
        let (log, second) = log();
        assert_eq!(judge(&log), End::Sound);
        for range in sectors(&log, second) {
            let mut torn = log.clone();
            torn[range.clone()].fill(0);
            assert_eq!(judge(&torn), End::Torn(second), "without {range:?}");
            assert_eq!(judge(&torn[..second]), End::Sound);
            assert!(matches!(end(&torn, None), End::Damaged(_)), "nothing was written without a mark");
            let mut alone = log.clone();
            alone[second..].fill(0);
            alone[range.clone()].copy_from_slice(&log[range.clone()]);
            assert_eq!(judge(&alone), End::Torn(second), "only {range:?}");
            // RocksDB takes zeros for the end, but not within a write.
            let mut begun = log.clone();
            begun[range.start..].fill(0);
            let expected = if range.start == second { End::Sound } else { End::Torn(second) };
            assert_eq!(judge(&begun), expected, "all but the end from {} on", range.start);
        }
    }

    /// Wherever the write begins in its first sector, of which it may have but a byte.
    #[test]
    fn the_first_sector_of_a_torn_write_is_shared_with_the_write_before() {
        for length in 1_000..1_000 + SECTOR_BYTES {
            let first = write(0, &vec![9; length]);
            let second = first.len();
            let mut torn = [first, write(second, &[8; 2_000])].concat();
            let missing = second..(second + 1).next_multiple_of(SECTOR_BYTES);
            torn[missing.clone()].fill(0);
            assert_eq!(judge(&torn), End::Torn(second), "without {missing:?}");
        }
    }

    /// What a submitter's bytes can be.
    #[test]
    fn records_among_the_bytes_of_a_torn_last_write_prove_nothing() {
        let others = record(1, &[&[0; 12][..], &[3, MARK_BYTES as u8], &[0x5a; MARK_BYTES], b"a block"].concat());
        let first = write(0, &[9; 1_000]);
        let second = first.len();
        for at in [600, 1_024, 5_000, BLOCK_BYTES + 700] {
            let bytes = [vec![8; at], others.clone(), vec![8; 2 * BLOCK_BYTES]].concat();
            let log = [first.clone(), write(second, &bytes)].concat();
            assert_eq!(judge(&log), End::Sound);
            for range in sectors(&log, second) {
                let mut torn = log.clone();
                torn[range.clone()].fill(0);
                assert_eq!(judge(&torn), End::Torn(second), "planted at {at}, without {range:?}");
            }
        }
    }

    #[test]
    fn a_flipped_bit_is_damage_and_so_is_a_hole_before_a_later_write() {
        let (log, second) = log();
        for bit in (0..8 * log.len()).filter(|bit| bit % 97 == 0 || (second..second + 7).contains(&(bit / 8))) {
            let mut flipped = log.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(judge(&flipped), End::Damaged(_)), "{bit}: {:?}", judge(&flipped));
        }
        let later = [log.clone(), write(log.len(), &[5; 10])].concat();
        for hole in [0..HEAD_BYTES, second..second + 2_000, second..log.len()] {
            let mut damaged = later.clone();
            let at = if hole.start == 0 { 0 } else { second };
            damaged[hole].fill(0);
            assert_eq!(judge(&damaged), End::Damaged(at));
        }
    }

    /// The end of a block may lie anywhere in the head, the mark, and before and after them.
    #[test]
    fn a_later_write_is_found_wherever_a_block_ends() {
        for left in 0..100 {
            let first = write(0, &[9; 10]);
            let holed = first.len();
            let log = [first, write(holed, &vec![8; BLOCK_BYTES - left - holed - HEAD_BYTES - 30])].concat();
            assert_eq!(log.len(), BLOCK_BYTES - left);
            let mut log = [log.clone(), write(log.len(), &[7; 100])].concat();
            assert_eq!(judge(&log), End::Sound, "{left}");
            log[holed + 1_000..holed + 3_000].fill(0);
            assert_eq!(judge(&log), End::Damaged(holed), "{left}");
        }
    }

    #[test]
    fn zeros_that_were_written_are_no_hole_of_another_record() {
        let first = write(0, &[9; 1_000]);
        let second = first.len();
        let bytes = [vec![8; 2 * BLOCK_BYTES], vec![0; 2_000], vec![8; 10]].concat();
        let log = [first, write(second, &bytes)].concat();
        for at in [second + 100, BLOCK_BYTES + 100, 2 * BLOCK_BYTES - 1] {
            let mut flipped = log.clone();
            flipped[at] ^= 0x10;
            assert!(matches!(judge(&flipped), End::Damaged(_)), "{at}");
        }
    }

    #[test]
    fn space_laid_by_and_what_is_cut_short_are_left_alone() {
        let (log, second) = log();
        assert_eq!(judge(&[&log[..], &[0; 100_000]].concat()), End::Sound);
        assert_eq!(judge(&[]), End::Sound);
        for cut in [second + 3, second + 100, BLOCK_BYTES + 5, log.len() - 1] {
            assert_eq!(judge(&log[..cut]), End::Sound, "{cut}");
        }
    }
}

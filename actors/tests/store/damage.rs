//! RocksDB's own log after a crash and after damage: the first heals, the second is named.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use minidlt_actors::store::{
    OpenError,
    verify::{VerifyError, verify, verify_directory},
};
use minidlt_protocol::{
    block::{DecidedBlock, Head},
    transaction::Transaction,
};
use tempfile::{TempDir, tempdir};

use crate::support::Network;

/// What a disk writes as a whole, and what a system does, in bytes.
const SECTORS: [usize; 2] = [512, 4_096];
/// Blocks of RocksDB's log, in bytes.
const BLOCK_BYTES: usize = 32 << 10;

/// A stopped ledger, all of it in the log, and where the log's last write begins.
struct Logged {
    dir: TempDir,
    network: Network,
    blocks: Vec<DecidedBlock>,
    file: PathBuf,
    log: Vec<u8>,
    last: usize,
}

impl Logged {
    /// Its last block has so many transactions.
    fn new(transactions: usize) -> Self {
        Self::ending(|network, head| (0..transactions).map(|_| network.transaction(head)).collect())
    }

    /// Its last block has these.
    fn ending(transactions: impl FnOnce(&mut Network, &Head) -> Vec<Transaction>) -> Self {
        let (dir, mut network) = (tempdir().unwrap(), Network::new());
        let whole = dir.path().join("whole");
        let (mut writer, reader) = network.open(&whole).unwrap();
        let mut blocks = network.grow(&mut writer, &reader, 4, 2);
        let last = log_of(&whole).1.len();
        let transactions = transactions(&mut network, &reader.head());
        let block = network.decide(&reader.head(), transactions);
        writer.commit(&block).unwrap();
        blocks.push(block);
        drop((writer, reader));
        let (path, log) = log_of(&whole);
        Self { dir, network, blocks, file: path.file_name().unwrap().into(), log, last }
    }

    /// The ledger with another log.
    fn with(&self, log: &[u8]) -> PathBuf {
        let copy = self.dir.path().join("copy");
        let _first = fs::remove_dir_all(&copy);
        fs::create_dir(&copy).unwrap();
        for entry in fs::read_dir(self.dir.path().join("whole")).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
        }
        fs::write(copy.join(&self.file), log).unwrap();
        copy
    }

    /// It opens without the last block, which is then taken again, and is sound.
    fn heals(&self, log: &[u8], case: &str) {
        let copy = self.with(log);
        let (mut writer, reader) = self.network.open(&copy).unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(reader.head().height.get(), 4, "{case}");
        writer.commit(&self.blocks[4]).unwrap();
        assert_eq!(verify(&reader).unwrap().head.hash, self.blocks[4].hash, "{case}");
        drop((writer, reader));
        assert_eq!(self.network.open(&copy).unwrap().1.head().hash, self.blocks[4].hash, "{case}: once more");
    }

    /// It does not open, and one line says what to do; not a byte is changed.
    fn refuses(&self, log: &[u8], case: &str) {
        let copy = self.with(log);
        self.refused(&copy, case);
    }

    fn refused(&self, copy: &Path, case: &str) {
        let before = contents(copy);
        let opened = self.network.open(copy).map(|(_, reader)| reader.head().height);
        let error = opened.expect_err(case);
        let said = error.to_string();
        assert!(matches!(error, OpenError::Damaged { .. }), "{case}: {said}");
        assert!(said.contains("move this directory away") && !said.contains('\n'), "{case}: {said}");
        assert!(contents(copy) == before, "{case}: something was changed");
    }

    /// Without each sector of the last write in turn, and with it alone; so many of them.
    fn heals_without_any_part(&self, most: usize, what: &str) {
        let (length, last) = (self.log.len(), self.last);
        for size in SECTORS {
            let sectors: Vec<_> = (last / size * size..length).step_by(size).collect();
            for sector in sectors.iter().step_by(1 + sectors.len() / most) {
                let missing = last.max(*sector)..length.min(sector + size);
                let mut without = self.log.clone();
                without[missing.clone()].fill(0);
                self.heals(&without, &format!("{what}, without {missing:?} of {length}"));
                let mut alone = self.log.clone();
                alone[last..].fill(0);
                alone[missing.clone()].copy_from_slice(&self.log[missing.clone()]);
                if alone != self.log {
                    self.heals(&alone, &format!("{what}, only {missing:?} of {length}"));
                }
            }
        }
        // Its first parts as a whole, each to the end of a block of the file, and nothing else.
        for block in (last + 1..length).filter(|at| at % BLOCK_BYTES == 0) {
            let mut begun = self.log.clone();
            begun[block..].fill(0);
            self.heals(&begun, &format!("{what}, up to {block} of {length}"));
        }
    }
}

/// The files of a directory.
fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    paths.map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
}

fn log_of(directory: &Path) -> (PathBuf, Vec<u8>) {
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let logs = paths.filter(|path| path.extension().is_some_and(|end| end == "log"));
    logs.map(|path| (path.clone(), fs::read(&path).unwrap())).max_by_key(|(_, log)| log.len()).unwrap()
}

#[test]
fn a_last_write_of_which_only_parts_came_to_the_disk_is_cut_off() {
    // Within one block of the file, and over several.
    for transactions in [2, 150] {
        Logged::new(transactions).heals_without_any_part(12, &format!("{transactions} transactions"));
    }
}

/// A whole record of RocksDB's log that is text, too, so that a transaction can hold it.
fn record_as_text() -> String {
    let text = |number: u32| {
        let covered = [&[1][..], format!("a record, {number}").as_bytes()].concat();
        let sum = crc32c(&covered).rotate_right(15).wrapping_add(0xa282_ead8);
        let length = u16::try_from(covered.len() - 1).unwrap();
        String::from_utf8([&sum.to_le_bytes()[..], &length.to_le_bytes(), &covered].concat()).ok()
    };
    (0..).find_map(text).unwrap()
}

/// RFC 3720, B.4, a bit at a time.
fn crc32c(bytes: &[u8]) -> u32 {
    let bit = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| bit(crc)))
}

#[test]
fn a_record_in_a_transaction_does_not_turn_a_torn_last_write_into_damage() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    let planted = record_as_text();
    // Within one block of the file, and in the second of two.
    for before in [3_000, 40_000] {
        let text = ["x".repeat(before), planted.clone(), "y".repeat(3_000)].concat();
        let logged = Logged::ending(|network, head| vec![network.record(head, &serde_json::json!({ "text": text }))]);
        let found = logged.log.windows(planted.len()).filter(|window| *window == planted.as_bytes()).count();
        assert_eq!(found, 1, "it is in the log as it is");
        logged.heals_without_any_part(24, &format!("planted after {before} characters"));
    }
}

#[test]
fn a_torn_last_write_is_named_by_verify_which_changes_nothing() {
    let logged = Logged::new(20);
    let mut torn = logged.log.clone();
    let length = torn.len();
    torn[length - 600..].fill(0);
    let copy = logged.with(&torn);
    let error = verify_directory(&copy, &logged.network.genesis).expect_err("it is torn");
    assert!(matches!(error, VerifyError::Open(OpenError::Unreadable { .. })), "{error}");
    assert!(error.to_string().contains("torn"), "{error}");
    assert_eq!(fs::read(copy.join(&logged.file)).unwrap(), torn);
}

#[test]
fn garbage_after_the_last_write_is_passed_over() {
    let logged = Logged::new(2);
    for garbage in [7, 100, 5_000] {
        for byte in [0x00, 0xa5, 0xff] {
            let log = [&logged.log[..], &vec![byte; garbage]].concat();
            let copy = logged.with(&log);
            let (_writer, reader) = logged.network.open(&copy).unwrap();
            assert_eq!(reader.head().hash, logged.blocks[4].hash, "{garbage} of {byte:#x}");
        }
    }
}

#[test]
fn damage_to_what_was_synced_is_refused_with_what_to_do() {
    let logged = Logged::new(2);
    for at in (0..logged.log.len()).step_by(211) {
        let mut flipped = logged.log.clone();
        flipped[at] ^= 0x04;
        logged.refuses(&flipped, &format!("a bit flipped at {at}"));
    }
    for start in (0..logged.last - 600).step_by(701) {
        let mut holed = logged.log.clone();
        holed[start..start + 600].fill(0);
        logged.refuses(&holed, &format!("a hole at {start}"));
    }
}

/// Without its mark a ledger could not tell damage to its log from a torn write, and none was under way
/// before there was one.
#[test]
fn a_damaged_mark_is_refused_and_a_missing_one_made_where_the_log_is_whole() {
    let logged = Logged::new(2);
    let copy = logged.with(&logged.log);
    let mark = copy.join("write-mark");
    let whole = fs::read(&mark).unwrap();
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x04;
        fs::write(&mark, flipped).unwrap();
        logged.refused(&copy, &format!("the mark's byte {at}"));
    }
    let mut torn = logged.log.clone();
    torn[logged.last..logged.last + 600].fill(0);
    let copy = logged.with(&torn);
    fs::remove_file(copy.join("write-mark")).unwrap();
    logged.refused(&copy, "a hole, and no mark");
    let copy = logged.with(&logged.log);
    fs::remove_file(copy.join("write-mark")).unwrap();
    assert_eq!(logged.network.open(&copy).unwrap().1.head().height.get(), 5);
    assert_ne!(fs::read(copy.join("write-mark")).unwrap(), whole, "another was made");
}

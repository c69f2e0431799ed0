//! RocksDB's own log after a crash and after damage: the first heals, the second is named.

use std::{
    fs,
    path::{Path, PathBuf},
};

use minidlt_actors::store::{
    OpenError,
    verify::{VerifyError, verify, verify_directory},
};
use minidlt_protocol::block::DecidedBlock;
use tempfile::{TempDir, tempdir};

use crate::support::Network;

/// What a disk writes as a whole, and what a system does, in bytes.
const SECTORS: [usize; 2] = [512, 4_096];

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
        let (dir, mut network) = (tempdir().unwrap(), Network::new());
        let whole = dir.path().join("whole");
        let (mut writer, reader) = network.open(&whole).unwrap();
        let mut blocks = network.grow(&mut writer, &reader, 4, 2);
        let last = log_of(&whole).1.len();
        blocks.extend(network.grow(&mut writer, &reader, 1, transactions));
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
        let opened = self.network.open(&copy).map(|(_, reader)| reader.head().height);
        let error = opened.expect_err(case);
        let said = error.to_string();
        assert!(matches!(error, OpenError::Damaged { .. }), "{case}: {said}");
        assert!(said.contains("move this directory away") && !said.contains('\n'), "{case}: {said}");
        assert_eq!(fs::read(copy.join(&self.file)).unwrap(), log, "{case}");
    }
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
        let logged = Logged::new(transactions);
        let (length, last) = (logged.log.len(), logged.last);
        for size in SECTORS {
            // Each sector of it in turn, and all but each.
            let sectors: Vec<_> = (last / size * size..length).step_by(size).collect();
            for sector in sectors.iter().step_by(1 + sectors.len() / 12) {
                let missing = last.max(*sector)..length.min(sector + size);
                let mut without = logged.log.clone();
                without[missing.clone()].fill(0);
                logged.heals(&without, &format!("{transactions} transactions, without {missing:?} of {length}"));
                let mut alone = logged.log.clone();
                alone[last..].fill(0);
                alone[missing.clone()].copy_from_slice(&logged.log[missing.clone()]);
                if alone != logged.log {
                    logged.heals(&alone, &format!("{transactions} transactions, only {missing:?} of {length}"));
                }
            }
        }
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

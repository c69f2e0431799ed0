//! A copy of a ledger becomes another node's: whole, verified, or not at all.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use minidlt_actors::{
    journal::{Journal, of_a_new_node},
    restore::{RestoreError, Restored, restore},
    store::{CopyError, OpenError, Settings, open, verify::verify_directory},
};
use minidlt_protocol::types::Height;
use tempfile::{TempDir, tempdir};

use crate::support::{self, Network, identity};

const BLOCKS: usize = 4;
/// The node that the copy is not of.
const OTHER: u8 = 1;

/// The stopped ledger of node 0, whose last blocks are in its log alone.
struct Lost {
    dir: TempDir,
    network: Network,
    copy: PathBuf,
}

impl Lost {
    fn new() -> Self {
        let (dir, mut network) = (tempdir().unwrap(), Network::new());
        let copy = dir.path().join("copy");
        let (mut writer, reader) = network.open(&copy).unwrap();
        network.grow(&mut writer, &reader, BLOCKS, 2);
        drop((writer, reader));
        Self { dir, network, copy }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn restore(&self, from: &Path) -> Result<Restored, RestoreError> {
        restore(&self.data(), &self.network.genesis, &identity(OTHER), from)
    }

    /// Opens what was restored as the node does, and lets it go on.
    fn goes_on(&mut self, blocks: u64) {
        let (directory, genesis) = (self.data().join("ledger"), self.network.genesis.clone());
        let settings = Settings { directory, genesis, node: identity(OTHER) };
        let (mut writer, reader) = open(settings).unwrap();
        assert_eq!(reader.head().height, Height::new(blocks));
        self.network.follow(&reader);
        self.network.grow(&mut writer, &reader, 2, 2);
    }
}

fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    paths.map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
}

#[test]
fn it_is_the_other_nodes_under_a_mark_of_its_own_and_the_copy_is_as_it_was() {
    let mut lost = Lost::new();
    let before = files(&lost.copy);
    let Restored { summary, forgot_votes } = lost.restore(&lost.copy).unwrap();
    assert_eq!((summary.head.height, summary.transactions), (Height::new(BLOCKS as u64), 2 * BLOCKS as u64));
    assert!(!forgot_votes);
    assert_eq!(files(&lost.copy), before);
    let mark = |ledger: &Path| fs::read(ledger.join("write-mark")).unwrap();
    assert_ne!(mark(&lost.copy), mark(&lost.data().join("ledger")), "the copy's owner knows that one");
    let network = &lost.network;
    let other = network.open(&lost.data().join("ledger")).map(drop);
    assert!(matches!(other, Err(OpenError::OtherNode { .. })), "{other:?}");
    lost.goes_on(BLOCKS as u64);
    verify_directory(&lost.data().join("ledger"), &lost.network.genesis).unwrap();
}

#[test]
fn a_torn_last_write_of_the_copy_is_cut_off_in_what_is_made_of_it() {
    let mut lost = Lost::new();
    let logs = files(&lost.copy).into_keys().filter(|path| path.extension().is_some_and(|end| end == "log"));
    let log = logs.filter(|path| path.metadata().unwrap().len() > 0).max().unwrap();
    let bytes = fs::read(&log).unwrap();
    fs::write(&log, &bytes[..bytes.len() - 1]).unwrap();
    assert_eq!(lost.restore(&lost.copy).unwrap().summary.head.height, Height::new(BLOCKS as u64 - 1));
    assert_eq!(fs::read(&log).unwrap().len(), bytes.len() - 1);
    lost.goes_on(BLOCKS as u64 - 1);
}

#[test]
fn a_record_of_votes_that_lies_there_goes() {
    let lost = Lost::new();
    fs::create_dir(lost.data()).unwrap();
    for (name, bytes) in of_a_new_node().unwrap() {
        fs::write(lost.data().join(name), bytes).unwrap();
    }
    let open = Journal::open(&lost.data()).unwrap();
    assert!(matches!(lost.restore(&lost.copy), Err(RestoreError::Votes(_))), "a process holds it");
    assert!(!lost.data().join("ledger").exists());
    drop(open);
    assert!(lost.restore(&lost.copy).unwrap().forgot_votes);
    assert!(Journal::open(&lost.data()).unwrap().is_none(), "it does not know what it signed");
}

#[test]
fn what_an_interrupted_run_left_is_begun_anew() {
    let mut lost = Lost::new();
    let unfinished = lost.data().join(".ledger.unfinished");
    fs::create_dir_all(&unfinished).unwrap();
    for (path, bytes) in files(&lost.copy) {
        fs::write(unfinished.join(path.file_name().unwrap()), &bytes[..bytes.len() / 2]).unwrap();
    }
    lost.restore(&lost.copy).unwrap();
    assert!(!unfinished.exists());
    lost.goes_on(BLOCKS as u64);
}

#[test]
fn what_is_not_to_be_had_is_named_and_leaves_nothing() {
    let mut lost = Lost::new();
    let refused = |lost: &Lost, from: &Path| {
        let error = lost.restore(from).unwrap_err();
        assert!(!lost.data().join("ledger").exists() && !lost.data().join(".ledger.unfinished").exists(), "{error}");
        error
    };
    let missing = refused(&lost, &lost.dir.path().join("nowhere"));
    assert!(matches!(missing, RestoreError::Copy(CopyError::Open(OpenError::Missing(_)))), "{missing}");
    fs::create_dir(lost.dir.path().join("empty")).unwrap();
    let empty = refused(&lost, &lost.dir.path().join("empty"));
    assert!(matches!(empty, RestoreError::Copy(CopyError::Open(OpenError::Missing(_)))), "{empty}");
    let running = lost.network.open(&lost.copy).unwrap();
    let in_use = refused(&lost, &lost.copy);
    assert!(matches!(in_use, RestoreError::Copy(CopyError::Open(OpenError::Locked(_)))), "{in_use}");
    drop(running);

    let genesis = support::genesis("another");
    let foreign = restore(&lost.data(), &genesis, &identity(OTHER), &lost.copy).unwrap_err();
    assert!(matches!(&foreign, RestoreError::Bad(_)) && foreign.to_string().contains("network"), "{foreign}");

    // Started once more, its blocks are in tables.
    drop(lost.network.open(&lost.copy).unwrap());
    let tables = files(&lost.copy).into_iter().filter(|(path, _)| path.extension().is_some_and(|end| end == "sst"));
    let tables: Vec<_> = tables.collect();
    assert!(!tables.is_empty());
    for (path, sound) in tables {
        let mut rotten = sound.clone();
        rotten[20] ^= 1;
        fs::write(&path, rotten).unwrap();
        refused(&lost, &lost.copy);
        fs::write(&path, sound).unwrap();
    }

    let directory = fs::File::open(lost.data()).unwrap();
    directory.lock().unwrap();
    let busy = refused(&lost, &lost.copy);
    assert!(matches!(busy, RestoreError::Busy(_)), "{busy}");
    drop(directory);
    lost.restore(&lost.copy).unwrap();
    let twice = lost.restore(&lost.copy).unwrap_err();
    assert!(matches!(twice, RestoreError::Exists(_)), "{twice}");
    lost.goes_on(BLOCKS as u64);
}

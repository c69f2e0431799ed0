//! A copy of a ledger becomes another node's: whole, verified, or not at all.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use minidlt_actors::{
    journal::{Journal, of_a_new_node},
    restore::{RestoreError, Restored, restore},
    store::{CopyError, OpenError, Settings, open, open_copy, verify::verify_directory},
};
use minidlt_protocol::{genesis::Genesis, registry::Standing, successor::succeed, types::Height};
use tempfile::{TempDir, tempdir};

use crate::support::{self, ADMIN, Network, TRADER, identity};

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
    let Restored { summary, forgot_votes, kept } = lost.restore(&lost.copy).unwrap();
    assert_eq!((summary.head.height, summary.transactions), (Height::new(BLOCKS as u64), 2 * BLOCKS as u64));
    assert!(!forgot_votes && kept.is_none());
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

impl Lost {
    /// A successor of what the copy holds, without the last node, signed by its admin.
    fn successor(&self) -> Genesis {
        let reader = open_copy(&self.copy, self.network.genesis.clone()).unwrap();
        let ending = reader.ending().unwrap().expect("a block");
        let mut successor =
            succeed(&self.network.genesis, ending, [identity(3)].into(), self.network.genesis.created).unwrap();
        successor.consent(ADMIN.0.parse().unwrap(), &support::key(ADMIN.1));
        successor.check().unwrap();
        successor
    }
}

#[test]
fn a_successor_carries_on_what_a_store_holds_also_where_voters_changed() {
    let (dir, mut network) = (tempdir().unwrap(), Network::new());
    let copy = dir.path().join("copy");
    let (mut writer, reader) = network.open(&copy).unwrap();
    let enrol = network.enrol(&reader.head(), 4);
    network.commit(&mut writer, &reader, vec![enrol]);
    network.grow(&mut writer, &reader, 3, 1);
    // The last block changes the state, too: no header certifies that.
    let suspend = network.change_user(&reader.head(), TRADER.0, |user| user.standing = Some(Standing::Suspended));
    network.commit(&mut writer, &reader, vec![suspend]);
    let before = reader.registry();
    drop((writer, reader));
    let lost = Lost { dir, network, copy };
    let successor = lost.successor();
    let after = successor.registry();
    assert_eq!((&after.users, &after.policies), (&before.users, &before.policies));
    assert_eq!(after.orderers().as_slice().len(), before.orderers().as_slice().len() - 1);

    let settings =
        Settings { directory: lost.dir.path().join("new"), genesis: Arc::new(successor), node: identity(OTHER) };
    let (directory, genesis) = (settings.directory.clone(), settings.genesis.clone());
    let (writer, reader) = open(settings).unwrap();
    assert_eq!(*reader.registry(), after);
    drop((writer, reader));
    verify_directory(&directory, &genesis).unwrap();
}

#[test]
fn the_chain_before_is_kept_and_the_record_of_votes_begins_anew() {
    let lost = Lost::new();
    let genesis = lost.successor();
    let kept = |data: &Path| data.join("predecessors").join(&lost.network.id.to_string()[..16]);
    // Its own ledger is moved, that of another copied.
    let own = lost.dir.path().join("own");
    fs::create_dir_all(own.join("predecessors")).unwrap();
    restore(&own, &lost.network.genesis, &identity(OTHER), &lost.copy).unwrap();
    let stale = lost.dir.path().join("elsewhere");
    let refused = restore(&own, &genesis, &identity(OTHER), &lost.copy).unwrap_err();
    assert!(matches!(refused, RestoreError::Exists(_)), "{refused}");
    let before = restore(&own, &genesis, &identity(OTHER), &own.join("ledger")).unwrap();
    assert_eq!(before.kept, Some(kept(&own)));
    assert!(!own.join("ledger").exists());
    restore(&stale, &genesis, &identity(OTHER), &lost.copy).unwrap();
    for data in [&own, &stale] {
        let summary = verify_directory(&kept(data), &lost.network.genesis).unwrap();
        assert_eq!(summary.head.height, Height::new(BLOCKS as u64));
        let (journal, records) = Journal::open(data).unwrap().expect("a record of votes");
        assert_eq!((journal.height(), records), (Height::GENESIS, vec![]), "in this network it signed nothing");
        drop(journal);
        // Interrupted before it had said so, it may be run again.
        restore(data, &genesis, &identity(OTHER), &kept(data)).unwrap();
        let settings =
            Settings { directory: data.join("ledger"), genesis: genesis.clone().into(), node: identity(OTHER) };
        drop(open(settings).unwrap());
        let begun = restore(data, &genesis, &identity(OTHER), &lost.copy).unwrap_err();
        assert!(matches!(begun, RestoreError::Exists(_)), "{begun}");
    }
}

#[test]
fn a_copy_that_ends_elsewhere_is_not_what_the_successor_goes_on_from() {
    let mut lost = Lost::new();
    let genesis = lost.successor();
    let (mut writer, reader) = lost.network.open(&lost.copy).unwrap();
    lost.network.grow(&mut writer, &reader, 1, 1);
    drop((writer, reader));
    let refused = restore(&lost.data(), &genesis, &identity(OTHER), &lost.copy).unwrap_err();
    assert!(matches!(refused, RestoreError::OtherEnd { .. }), "{refused}");
    let all = fs::read_dir(lost.data()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(all.collect::<Vec<_>>(), ["predecessors"], "nothing else is left");
}

//! A copy of a ledger becomes another node's: whole, verified, or not at all.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use minidlt_actors::{
    fork::{self, FORK_FILE, Fork},
    journal::{Journal, of_a_new_node},
    restore::{Kept, RestoreError, Restored, restore},
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
    /// Some block of the network that begins so, twice.
    fn fork(&self, genesis: &Genesis) -> Fork {
        let reader = open_copy(&self.copy, self.network.genesis.clone()).unwrap();
        let mut ours = reader.certified_header(Height::new(2)).unwrap().expect("a block");
        ours.hash = ours.header.hash(&genesis.id());
        Fork { theirs: ours.clone(), ours, shown_by: identity(2), seen: genesis.created }
    }

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
fn the_chain_before_is_kept_and_who_moves_its_own_begins_a_record_of_votes() {
    let lost = Lost::new();
    let genesis = lost.successor();
    let kept = |data: &Path| data.join("predecessors").join(&lost.network.id.to_string()[..16]);
    // Its own ledger is moved, that of another copied.
    let own = lost.dir.path().join("own");
    fs::create_dir_all(own.join("predecessors")).unwrap();
    restore(&own, &lost.network.genesis, &identity(OTHER), &lost.copy).unwrap();
    voted(&own, 4);
    let stale = lost.dir.path().join("elsewhere");
    let refused = restore(&own, &genesis, &identity(OTHER), &lost.copy).unwrap_err();
    assert!(matches!(refused, RestoreError::Exists(_)), "{refused}");
    let before = restore(&own, &genesis, &identity(OTHER), &own.join("ledger")).unwrap();
    assert_eq!(before.kept, Some(Kept { chain: kept(&own), fork: None, votes: true }));
    assert!(!own.join("ledger").exists());
    let copied = restore(&stale, &genesis, &identity(OTHER), &lost.copy).unwrap();
    assert_eq!(copied.kept, Some(Kept { chain: kept(&stale), fork: None, votes: false }), "it may have voted");
    for (data, votes) in [(&own, true), (&stale, false)] {
        let summary = verify_directory(&kept(data), &lost.network.genesis).unwrap();
        assert_eq!(summary.head.height, Height::new(BLOCKS as u64));
        assert_eq!(record(data), votes.then_some(Height::GENESIS), "in this network it signed nothing");
        // Interrupted before it had said so, it may be run again.
        for from in [&kept(data), &lost.copy] {
            restore(data, &genesis, &identity(OTHER), from).unwrap();
            assert_eq!(record(data), votes.then_some(Height::GENESIS));
        }
        let settings =
            Settings { directory: data.join("ledger"), genesis: genesis.clone().into(), node: identity(OTHER) };
        drop(open(settings).unwrap());
        let begun = restore(data, &genesis, &identity(OTHER), &lost.copy).unwrap_err();
        assert!(matches!(begun, RestoreError::Exists(_)), "{begun}");
    }
}

/// The height of the record of votes, if there is one; whoever has voted is beyond the first.
fn record(data: &Path) -> Option<Height> {
    let found = Journal::open(data).unwrap();
    found.map(|(journal, records)| {
        assert!(records.is_empty());
        journal.height()
    })
}

fn voted(data: &Path, at: u64) {
    drop(Journal::begin_at(data, Height::new(at)).unwrap());
}

#[test]
fn a_node_that_has_voted_in_the_successor_is_never_told_that_it_has_not() {
    let lost = Lost::new();
    let (genesis, data) = (lost.successor(), lost.data());
    let again = |from: &Path| restore(&data, &genesis, &identity(OTHER), from).unwrap();
    restore(&data, &lost.network.genesis, &identity(OTHER), &lost.copy).unwrap();
    voted(&data, 4);
    assert!(again(&data.join("ledger")).forgot_votes);
    assert_eq!(record(&data), Some(Height::GENESIS));
    voted(&data, 5);
    // Its ledger of the new network is lost: whatever is kept or copied of the old chain says nothing of that.
    for from in [data.join("ledger"), lost.copy.clone()] {
        let restored = again(&from);
        assert!(!restored.forgot_votes && restored.kept.unwrap().votes);
        assert_eq!(record(&data), Some(Height::new(5)));
    }
    // The chain that was kept, too: whose record this is cannot be told.
    fs::remove_dir_all(data.join("predecessors")).unwrap();
    let restored = again(&lost.copy);
    assert!(restored.forgot_votes && !restored.kept.unwrap().votes);
    assert_eq!(record(&data), None, "it does not know what it signed");
    again(&lost.copy);
    assert_eq!(record(&data), None);
    // Nor does a copy in the place of the node's own.
    fs::rename(data.join("predecessors").join(&lost.network.id.to_string()[..16]), data.join("ledger")).unwrap();
    again(&data.join("ledger"));
    assert_eq!(record(&data), None);
}

const CUTS: [&str; 5] = ["before anything", "votes forgotten", "ledger moved", "fork moved", "votes begun"];

/// The same command, at each place where a crash may have ended it.
#[test]
fn keeping_its_own_chain_is_completed_by_the_same_command() {
    let lost = Lost::new();
    let genesis = lost.successor();
    for cut in CUTS {
        let reached = |step: &str| {
            let at =
                |cut| ["votes forgotten", "ledger moved", "fork moved", "votes begun"].iter().position(|s| *s == cut);
            at(cut) >= at(step)
        };
        let dir = tempdir().unwrap();
        let data = dir.path().join("data");
        restore(&data, &lost.network.genesis, &identity(OTHER), &lost.copy).unwrap();
        let kept = data.join("predecessors").join(&lost.network.id.to_string()[..16]);
        let (seen, beside) = (data.join(FORK_FILE), kept.with_extension(FORK_FILE));
        let proof = lost.fork(&lost.network.genesis);
        fork::store(&data, &proof).unwrap();
        if !reached("votes forgotten") {
            voted(&data, 4);
        }
        if reached("ledger moved") {
            fs::create_dir(data.join("predecessors")).unwrap();
            fs::rename(data.join("ledger"), &kept).unwrap();
        }
        if reached("fork moved") {
            fs::rename(&seen, &beside).unwrap();
        }
        if reached("votes begun") {
            voted(&data, 0);
        }
        let restored = restore(&data, &genesis, &identity(OTHER), &data.join("ledger")).unwrap();
        assert_eq!(restored.forgot_votes, !reached("votes forgotten"), "{cut}");
        let fork = (!reached("fork moved")).then(|| beside.clone());
        let votes = !reached("votes forgotten") || reached("votes begun");
        assert_eq!(restored.kept, Some(Kept { chain: kept.clone(), fork, votes }), "{cut}");
        assert_eq!(record(&data), votes.then_some(Height::GENESIS), "{cut}: nothing of the old record");
        assert!(kept.exists() && !data.join("ledger").exists() && !seen.exists(), "{cut}");
        assert!(fs::read_to_string(&beside).unwrap().contains(&proof.ours.hash.to_string()), "{cut}");
    }
}

#[test]
fn a_fork_of_the_new_chain_stays_one() {
    let lost = Lost::new();
    let (genesis, data) = (lost.successor(), lost.data());
    fs::create_dir(&data).unwrap();
    let proof = lost.fork(&genesis);
    fork::store(&data, &proof).unwrap();
    let restored = restore(&data, &genesis, &identity(OTHER), &lost.copy).unwrap();
    assert_eq!(restored.kept.unwrap().fork, None);
    assert_eq!(fork::load(&data).unwrap(), Some(proof));
    // One that cannot be read keeps the node from starting, and is nothing to move.
    fs::write(data.join(FORK_FILE), "torn").unwrap();
    let unreadable = restore(&data, &genesis, &identity(OTHER), &lost.copy).unwrap_err();
    assert!(matches!(unreadable, RestoreError::Fork(_)), "{unreadable}");
}

#[test]
fn a_copy_that_is_nowhere_is_not_taken_for_one_that_was_kept() {
    let lost = Lost::new();
    let (genesis, data) = (lost.successor(), lost.data());
    restore(&data, &genesis, &identity(OTHER), &lost.copy).unwrap();
    let nowhere = restore(&data, &genesis, &identity(OTHER), &lost.dir.path().join("nowhere")).unwrap_err();
    assert!(matches!(nowhere, RestoreError::Open(OpenError::Missing(_))), "{nowhere}");
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

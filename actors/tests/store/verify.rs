//! The offline verification: sound ledgers pass, and no byte of one can be changed unnoticed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use minidlt_actors::store::{
    OpenError,
    verify::{Summary, VerifyError, verify, verify_directory},
};
use minidlt_protocol::{
    block::{DecidedBlock, Head},
    codec,
    crypto::Signature,
    merkle,
    receipt::Receipt,
    transaction::SignedTransaction,
    types::{Hash, Height},
    vote::Certificate,
};
use rocksdb::{DB, IteratorMode, Options};
use tempfile::{TempDir, tempdir};

use crate::{
    random::Random,
    support::{self, Network, identity},
};

const FAMILIES: [&str; 10] = [
    "default",
    "blocks",
    "certificates",
    "transactions",
    "hashes",
    "state-nodes",
    "state-values",
    "state-keys",
    "versions",
    "history",
];

/// Those from here on hold the state and its past.
const STATE: usize = 5;

/// One byte, to another value.
fn flip_byte(random: &mut Random, bytes: &mut [u8]) {
    let at = random.below(bytes.len());
    bytes[at] ^= 1 + random.below(255) as u8;
}

/// The same flips every time.
const SEED: u64 = 20_251;
const BLOCKS: usize = 6;

/// A small ledger, its node stopped, and what must be named for each of its entries.
struct Ledger {
    dir: TempDir,
    network: Network,
    summary: Summary,
    heights: BTreeMap<Vec<u8>, Height>,
    receipts: Vec<Receipt>,
}

impl Ledger {
    fn new() -> Self {
        let (dir, mut network) = (tempdir().unwrap(), Network::new());
        let (mut writer, reader) = network.open(dir.path()).unwrap();
        let mut blocks = network.grow(&mut writer, &reader, BLOCKS - 2, 4);
        // One that changes who is enrolled, and who votes from two blocks later on.
        let head = reader.head();
        let mut transactions: Vec<_> = (0..3).map(|_| network.transaction(&head)).collect();
        transactions.push(network.enrol(&head, 4));
        blocks.push(network.commit(&mut writer, &reader, transactions));
        let changed = reader.head().height;
        blocks.extend(network.grow(&mut writer, &reader, 1, 4));
        let summary = verify(&reader).unwrap();
        assert_eq!((summary.head.clone(), summary.transactions), (reader.head(), 4 * BLOCKS as u64));
        let (mut heights, mut receipts) = (BTreeMap::new(), Vec::new());
        for block in &blocks {
            let height = block.header.height;
            heights.insert(height.get().to_be_bytes().to_vec(), height);
            heights.insert(block.hash.as_bytes().to_vec(), height);
            for transaction in &block.transactions {
                heights.insert(transaction.id.as_bytes().to_vec(), height);
                receipts.extend(reader.receipt(&transaction.id).unwrap());
            }
        }
        writer.flush().unwrap();
        drop((writer, reader));
        let genesis = tempdir().unwrap();
        drop(network.open(genesis.path()).unwrap());
        let before = state_rows(genesis.path());
        let written = state_rows(dir.path()).into_iter().filter(|row| !before.contains(row));
        heights.extend(written.map(|(key, _)| (key.into_vec(), changed)));
        Self { dir, network, summary, heights, receipts }
    }

    fn raw(&self) -> DB {
        DB::open_cf(&Options::default(), self.dir.path(), FAMILIES).unwrap()
    }

    fn verify(&self) -> Result<Summary, VerifyError> {
        verify_directory(self.dir.path(), &self.network.genesis)
    }

    /// Says what was found, and checks that it is the right height: of the entry's block, or
    /// genesis for what belongs to none.
    fn found(&self, family: &str, key: &[u8], case: &str) -> String {
        match self.verify() {
            Ok(_) => panic!("{case}: not noticed"),
            Err(VerifyError::Open(OpenError::Damaged { reason, .. })) if family == "default" => reason,
            Err(VerifyError::Open(OpenError::NewerSchema { found, .. })) if family == "default" => found,
            Err(VerifyError::Open(error)) => panic!("{case}: {error}"),
            Err(VerifyError::Bad(bad)) => {
                let expected = self.heights.get(key).copied().unwrap_or_default();
                assert_eq!(bad.height, expected, "{case}: {bad}");
                assert!(!bad.what.is_empty());
                bad.to_string()
            }
        }
    }
}

type Row = (Box<[u8]>, Box<[u8]>);

/// What is written of the state and its past.
fn state_rows(directory: &Path) -> BTreeSet<Row> {
    let db = DB::open_cf(&Options::default(), directory, FAMILIES).unwrap();
    FAMILIES[STATE..].iter().flat_map(|family| rows(&db, family)).collect()
}

fn rows(db: &DB, family: &str) -> Vec<Row> {
    db.iterator_cf(db.cf_handle(family).unwrap(), IteratorMode::Start).map(Result::unwrap).collect()
}

#[test]
fn no_flipped_byte_of_a_stored_value_goes_unnoticed() {
    let ledger = Ledger::new();
    let db = ledger.raw();
    let mut random = Random::new(SEED);
    let mut examples = BTreeMap::new();
    let (mut flips, started) = (0, Instant::now());
    for family in FAMILIES {
        let (handle, rows) = (db.cf_handle(family).unwrap(), rows(&db, family));
        assert!(!rows.is_empty(), "{family}");
        let times = if family == "blocks" || family == "certificates" { 250 } else { 120 };
        for _ in 0..times {
            let (key, value) = &rows[random.below(rows.len())];
            let mut flipped = value.clone();
            flip_byte(&mut random, &mut flipped);
            db.put_cf(handle, key, &flipped).unwrap();
            let case = format!("seed {SEED}, flip {flips} in {family} under {}", hex::encode(key));
            examples.insert(family, ledger.found(family, key, &case));
            db.put_cf(handle, key, value).unwrap();
            flips += 1;
        }
    }
    assert_eq!(ledger.verify().unwrap(), ledger.summary, "and put right again it is sound");
    println!("{flips} flips of stored values noticed in {:?}, such as:", started.elapsed());
    examples.iter().for_each(|(family, found)| println!("  {family}: {found}"));
}

#[test]
fn no_entry_can_be_moved_dropped_or_added() {
    let ledger = Ledger::new();
    let db = ledger.raw();
    let mut random = Random::new(SEED);
    let mut cases = 0;
    for family in FAMILIES {
        let (handle, rows) = (db.cf_handle(family).unwrap(), rows(&db, family));
        for (key, value) in &rows {
            let mut other = key.clone();
            flip_byte(&mut random, &mut other);
            db.delete_cf(handle, key).unwrap();
            let dropped = ledger.verify().expect_err("an entry is missing").to_string();
            db.put_cf(handle, &other, value).unwrap();
            let moved = ledger.verify().expect_err("an entry is misplaced").to_string();
            db.put_cf(handle, key, value).unwrap();
            let doubled = ledger.verify().expect_err("an entry is one too many").to_string();
            db.delete_cf(handle, &other).unwrap();
            if cases % 20 == 0 {
                println!("{family}: dropped: {dropped}\n  moved: {moved}\n  doubled: {doubled}");
            }
            cases += 3;
        }
    }
    assert_eq!(ledger.verify().unwrap(), ledger.summary);
    println!("{cases} entries dropped, moved and doubled");
}

/// What a forger without the voters' keys could do best: entries that hold together.
#[test]
fn forged_entries_that_hold_together_are_noticed() {
    let mut ledger = Ledger::new();
    let head = ledger.summary.head.clone();
    let seal = |bytes: Vec<u8>| [&bytes[..], merkle::leaf_hash(&bytes).as_bytes()].concat();
    let put = |ledger: &Ledger, family: &str, key: &[u8], value: &[u8]| {
        let db = ledger.raw();
        db.put_cf(db.cf_handle(family).unwrap(), key, value).unwrap();
    };
    for (key, value) in [
        ("head", codec::encode(&Head { state_root: Hash::ZERO, ..head.clone() })),
        ("head", codec::encode(&Head { certified_version: 7, ..head.clone() })),
        ("network", codec::encode(&Hash::ZERO)),
    ] {
        let kept = rows(&ledger.raw(), "default").into_iter().find(|(found, _)| **found == *key.as_bytes()).unwrap().1;
        put(&ledger, "default", key.as_bytes(), &seal(value));
        println!("{}", ledger.verify().expect_err(key));
        put(&ledger, "default", key.as_bytes(), &kept);
    }

    // A block of the ledger's next height with an old block's certificate.
    let block = ledger.network.next(&head, 1);
    let key = block.header.height.get().to_be_bytes();
    put(&ledger, "blocks", &key, &codec::encode(&block.block()));
    let beyond = ledger.verify().expect_err("a block beyond the head").to_string();
    assert!(beyond.contains("beyond the head"), "{beyond}");
}

#[test]
fn a_certificate_by_too_few_or_by_one_twice_is_noticed() {
    let ledger = Ledger::new();
    let db = ledger.raw();
    let (handle, key) = (db.cf_handle("certificates").unwrap(), 3u64.to_be_bytes());
    let kept = db.get_cf(handle, key).unwrap().unwrap();
    let good: Certificate = codec::decode(&kept, kept.len()).unwrap();
    let mut few = good.clone();
    few.signatures.pop();
    let mut twice = few.clone();
    twice.signatures.insert(0, few.signatures[0].clone());
    let mut swapped = good.clone();
    swapped.signatures.swap(0, 1);
    let mut stranger = good.clone();
    stranger.signatures[0].voter = identity(9);
    for (forged, expected) in
        [(few, "2 precommits"), (twice, "twice"), (swapped, "out of order"), (stranger, "not a voter")]
    {
        db.put_cf(handle, key, codec::encode(&forged)).unwrap();
        let found = ledger.found("certificates", &key, expected);
        assert!(found.contains(expected), "{found}");
    }
}

/// A quorum vouches for the signatures it checked; the verification takes nobody's word for it.
#[test]
fn an_authors_bad_signature_is_noticed_though_a_quorum_let_it_through() {
    let (dir, mut network) = (tempdir().unwrap(), Network::new());
    let (mut writer, reader) = network.open(dir.path()).unwrap();
    network.grow(&mut writer, &reader, 2, 3);
    let mut block = network.next(&reader.head(), 3).block();
    let mut signed: SignedTransaction = codec::decode(block.transactions[1].as_slice(), usize::MAX).unwrap();
    signed.signature = Signature::from_bytes([1; 64]);
    block.transactions[1] = (&signed).into();
    let certified = network.collude(block);
    let decided = DecidedBlock::certified(certified, &network.id, &reader.head(), &network.registry).unwrap();
    writer.commit(&decided).unwrap();
    network.grow(&mut writer, &reader, 2, 3);
    let bad = verify(&reader).expect_err("a forged signature");
    assert_eq!(bad.height, Height::new(3));
    assert!(bad.what.starts_with("transaction 1: the author's signature"), "{bad}");
}

#[test]
fn no_flipped_byte_of_a_receipt_goes_unnoticed() {
    let ledger = Ledger::new();
    let mut random = Random::new(SEED);
    let mut found = BTreeMap::<String, u32>::new();
    let times = 3_000;
    for flip in 0..times {
        let receipt = &ledger.receipts[random.below(ledger.receipts.len())];
        let mut bytes = receipt.to_text().into_bytes();
        flip_byte(&mut random, &mut bytes);
        let Ok(text) = String::from_utf8(bytes) else { continue };
        let error = Receipt::from_text(&text).and_then(|receipt| receipt.verify(&ledger.network.genesis));
        let error = error.err().unwrap_or_else(|| panic!("seed {SEED}, flip {flip}: not noticed"));
        *found.entry(error.to_string().split([':', ' ']).next().unwrap_or_default().to_owned()).or_default() += 1;
    }
    println!("{times} flips of receipts noticed, by the first word said: {found:?}");
}

#[test]
fn flips_in_the_files_are_noticed_or_touch_nothing_that_is_read() {
    let ledger = Ledger::new();
    let mut random = Random::new(SEED);
    let files: Vec<PathBuf> = files(ledger.dir.path()).into_keys().collect();
    let tables: Vec<_> = files.iter().filter(|path| path.extension().is_some_and(|ext| ext == "sst")).collect();
    assert_eq!(tables.len(), FAMILIES.len());
    let (mut noticed, times) = (0, 400);
    for flip in 0..times {
        let path = tables[random.below(tables.len())];
        let kept = fs::read(path).unwrap();
        let mut bytes = kept.clone();
        flip_byte(&mut random, &mut bytes);
        fs::write(path, bytes).unwrap();
        match ledger.verify() {
            Ok(summary) => assert_eq!(summary, ledger.summary, "seed {SEED}, flip {flip}"),
            Err(_) => noticed += 1,
        }
        fs::write(path, kept).unwrap();
    }
    assert_eq!(ledger.verify().unwrap(), ledger.summary);
    println!("{noticed} of {times} flips in table files noticed; the others changed nothing stored");
}

#[test]
fn a_damaged_log_is_not_taken_for_a_shorter_chain() {
    let (dir, mut network) = (tempdir().unwrap(), Network::new());
    let (mut writer, reader) = network.open(dir.path()).unwrap();
    network.grow(&mut writer, &reader, 5, 2);
    drop((writer, reader));
    let log = files(dir.path())
        .into_iter()
        .find(|(path, bytes)| path.extension().is_some_and(|extension| extension == "log") && !bytes.is_empty());
    let (path, mut bytes) = log.expect("nothing was flushed, so it is all in the log");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    println!("{}", verify_directory(dir.path(), &network.genesis).expect_err("the log is damaged"));
    println!("{}", network.open(dir.path()).err().expect("the log is damaged"));
}

/// What a process killed in the middle of a write leaves: the log ends anywhere in its last part.
#[test]
fn a_log_cut_off_anywhere_opens_at_a_whole_block() {
    let (dir, mut network) = (tempdir().unwrap(), Network::new());
    let whole = dir.path().join("whole");
    let (mut writer, reader) = network.open(&whole).unwrap();
    let blocks = network.grow(&mut writer, &reader, 5, 2);
    drop((writer, reader));
    let kept = files(&whole);
    let (log, bytes) = kept.iter().find(|(path, _)| path.extension().is_some_and(|end| end == "log")).unwrap();
    let mut random = Random::new(SEED);
    let mut heads = BTreeMap::<u64, u32>::new();
    for case in 0..40 {
        let cut = dir.path().join(format!("cut{case}"));
        fs::create_dir(&cut).unwrap();
        for (path, bytes) in &kept {
            fs::write(cut.join(path.file_name().unwrap()), bytes).unwrap();
        }
        fs::write(cut.join(log.file_name().unwrap()), &bytes[..random.below(bytes.len())]).unwrap();
        let (mut writer, reader) = network.open(&cut).unwrap();
        let height = reader.head().height.get();
        let summary = verify(&reader).unwrap();
        assert_eq!(summary.transactions, 2 * height);
        *heads.entry(height).or_default() += 1;
        // And what was decided since is taken again.
        for block in &blocks[height as usize..] {
            writer.commit(block).unwrap();
        }
        assert_eq!(verify(&reader).unwrap().head.height, Height::new(5));
    }
    println!("heads after the log was cut off: {heads:?}");
}

#[test]
fn verifying_offline_changes_no_file_and_asks_for_a_stopped_node() {
    let (dir, mut network) = (tempdir().unwrap(), Network::new());
    let data = dir.path().join("data");
    let verify_data = |network: &Network| verify_directory(&data, &network.genesis);
    assert!(matches!(verify_data(&network), Err(VerifyError::Open(OpenError::Missing(_)))));
    fs::create_dir(&data).unwrap();
    assert!(matches!(verify_data(&network), Err(VerifyError::Open(OpenError::Missing(_)))));
    assert!(files(&data).is_empty());
    let (mut writer, reader) = network.open(&data).unwrap();
    assert!(matches!(verify_data(&network), Err(VerifyError::Open(OpenError::Locked(_)))));
    network.grow(&mut writer, &reader, 3, 2);
    let backup = dir.path().join("backup");
    reader.backup(&backup).unwrap();
    let head = reader.head();
    drop((writer, reader));
    let before = files(&data);
    let summary = verify_data(&network).unwrap();
    assert_eq!((summary.head, summary.transactions), (head.clone(), 6));
    assert_eq!(files(&data), before);
    assert_eq!(verify_directory(&backup, &network.genesis).unwrap().head, head);
    let foreign = verify_directory(&data, &support::genesis("another")).expect_err("of another network");
    assert!(foreign.to_string().contains("network"), "{foreign}");
    let (_, reader) = network.open(&backup).unwrap();
    assert_eq!(reader.head(), head, "a node starts on a backup");
}

#[test]
fn a_newer_or_older_schema_is_not_touched() {
    let (dir, network) = (tempdir().unwrap(), Network::new());
    drop(network.open(dir.path()).unwrap());
    let sealed = |version: u32| {
        let bytes = codec::encode(&version);
        [&bytes[..], merkle::leaf_hash(&bytes).as_bytes()].concat()
    };
    let raw = || DB::open_cf(&Options::default(), dir.path(), FAMILIES).unwrap();
    raw().put("schema", sealed(3)).unwrap();
    assert!(matches!(network.open(dir.path()), Err(OpenError::NewerSchema { .. })));
    raw().put("schema", sealed(1)).unwrap();
    let older = network.open(dir.path()).map(drop).unwrap_err();
    assert!(matches!(older, OpenError::OlderSchema { found: 1, .. }));
    assert!(older.to_string().contains("written by an older version of this program (schema 1; "), "{older}");
    let verified = verify_directory(dir.path(), &network.genesis).map(drop).unwrap_err();
    assert!(matches!(verified, VerifyError::Open(OpenError::OlderSchema { .. })));
    raw().put("schema", sealed(2)).unwrap();
    drop(network.open(dir.path()).unwrap());
    raw().delete("schema").unwrap();
    assert!(matches!(network.open(dir.path()), Err(OpenError::Damaged { .. })));
    raw().put("schema", sealed(2)).unwrap();
    raw().create_cf("of-the-future", &Options::default()).unwrap();
    assert!(matches!(network.open(dir.path()), Err(OpenError::NewerSchema { .. })));
}

fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    paths.map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
}

//! Opening, committing, reading.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use minidlt_actors::store::{CommitError, OpenError, open};
use minidlt_protocol::{
    block::DecidedBlock,
    codec,
    receipt::Receipt,
    state::genesis_head,
    state_proof::{Base64, StateProof},
    types::{Hash, Height, Timestamp},
};
use tempfile::tempdir;

use crate::support::{self, Network, certified, identity};

#[test]
fn a_new_ledger_is_at_genesis_and_comes_back_as_it_was_left() {
    let (dir, mut network) = (tempdir().unwrap(), Network::new());
    let data = dir.path().join("deep/data");
    let (mut writer, reader) = network.open(&data).unwrap();
    assert_eq!(reader.head(), genesis_head(&network.genesis).unwrap().0);
    assert_eq!(reader.network(), network.id);
    let watcher = reader.heads();
    let blocks = network.grow(&mut writer, &reader, 5, 3);
    assert!(watcher.has_changed().unwrap());
    let head = reader.head();
    assert_eq!((head.height, head.hash, head.transactions), (Height::new(5), blocks[4].hash, 3));
    drop((writer, reader));
    // Twice: once from the log, once from what was made of it.
    for _ in 0..2 {
        let (writer, reader) = network.open(&data).unwrap();
        assert_eq!(reader.head(), head);
        for block in &blocks {
            assert_eq!(reader.block(block.header.height).unwrap().unwrap(), block.block());
        }
        writer.flush().unwrap();
    }
}

#[test]
fn everything_committed_is_found_and_nothing_else() {
    let (dir, mut network) = (tempdir().unwrap(), Network::new());
    let (mut writer, reader) = network.open(dir.path()).unwrap();
    let blocks = network.grow(&mut writer, &reader, 4, 5);
    for block in &blocks {
        let height = block.header.height;
        assert_eq!(reader.height_of(&block.hash).unwrap(), Some(height));
        assert_eq!(reader.certificate(height).unwrap().unwrap(), block.certificate);
        for (position, transaction) in block.transactions.iter().enumerate() {
            assert!(reader.contains(&transaction.id).unwrap());
            let (located, bytes) = reader.transaction(&transaction.id).unwrap().unwrap();
            assert_eq!((located.height, located.position, &bytes), (height, position, &transaction.bytes));
            assert_eq!(reader.locate(&transaction.id).unwrap(), Some(located));
        }
    }
    let unknown = Hash::from_bytes([9; 32]);
    assert!(!reader.contains(&unknown).unwrap());
    assert!(reader.transaction(&unknown).unwrap().is_none());
    assert!(reader.receipt(&unknown).unwrap().is_none());
    assert!(reader.height_of(&unknown).unwrap().is_none());
    assert!(reader.block(Height::GENESIS).unwrap().is_none());
    assert!(reader.block(Height::new(5)).unwrap().is_none());
    assert!(reader.certificate(Height::new(5)).unwrap().is_none());
}

#[test]
fn blocks_for_those_behind_are_bounded_by_count_and_size() {
    let (dir, mut network) = (tempdir().unwrap(), Network::new());
    let (mut writer, reader) = network.open(dir.path()).unwrap();
    let blocks = network.grow(&mut writer, &reader, 6, 4);
    let all: Vec<_> = blocks.iter().map(certified).collect();
    assert_eq!(reader.blocks(Height::GENESIS, usize::MAX, 100).unwrap(), all);
    assert_eq!(reader.blocks(Height::new(3), usize::MAX, 2).unwrap(), all[2..4]);
    assert_eq!(reader.blocks(Height::new(3), 0, 100).unwrap(), all[2..3], "one block, whatever its size");
    assert_eq!(reader.blocks(Height::new(3), usize::MAX, 0).unwrap(), []);
    assert_eq!(reader.blocks(Height::new(7), usize::MAX, 100).unwrap(), []);
    let three: usize = all[..3].iter().map(|block| minidlt_protocol::codec::encode(block).len()).sum();
    assert!((1..=3).contains(&reader.blocks(Height::new(1), three, 100).unwrap().len()));
    // What is sent is taken: it follows the head of one who has nothing yet.
    let (head, _) = genesis_head(&network.genesis).unwrap();
    DecidedBlock::certified(all[0].clone(), &network.id, &head, &network.registry).unwrap();
}

#[test]
fn every_receipt_verifies_with_the_genesis_alone() {
    let (dir, mut network) = (tempdir().unwrap(), Network::new());
    let (mut writer, reader) = network.open(dir.path()).unwrap();
    let blocks: Vec<_> =
        [1, 2, 3, 4, 5, 8, 33].into_iter().flat_map(|n| network.grow(&mut writer, &reader, 1, n)).collect();
    let (last, certain) = blocks.split_last().unwrap();
    for transaction in certain.iter().flat_map(|block| &block.transactions) {
        let text = reader.receipt(&transaction.id).unwrap().unwrap().to_text();
        let receipt = Receipt::from_text(&text).unwrap();
        assert_eq!(receipt.verify(&network.genesis).unwrap().bytes, transaction.bytes);
    }
    let waiting = last.transactions[0].id;
    assert!(reader.receipt(&waiting).unwrap().is_none(), "its result is certified by the block after");
    network.grow(&mut writer, &reader, 1, 0);
    reader.receipt(&waiting).unwrap().unwrap().verify(&network.genesis).unwrap();
}

#[test]
fn a_receipt_cannot_be_moved_within_its_block() {
    let (dir, mut network) = (tempdir().unwrap(), Network::new());
    let (mut writer, reader) = network.open(dir.path()).unwrap();
    let blocks = network.grow(&mut writer, &reader, 2, 3);
    // The path of the first of three is also one of the first of four, and that of the third of
    // three one of the second of two.
    for (at, position, count) in [(0, 0, 4), (2, 1, 2)] {
        let mut receipt = reader.receipt(&blocks[0].transactions[at].id).unwrap().unwrap();
        for inclusion in [&mut receipt.inclusion, &mut receipt.result_inclusion] {
            (inclusion.position, inclusion.count) = (position, count);
        }
        assert!(receipt.verify(&network.genesis).is_err(), "transaction {at} as {position} of {count}");
    }
}

#[test]
fn state_proofs_are_made_for_what_is_there_and_what_is_not() {
    let (dir, mut network) = (tempdir().unwrap(), Network::new());
    let (mut writer, reader) = network.open(dir.path()).unwrap();
    let (there, absent) = ("node/node0@Org01", "node/node9@Org01");
    let expected = Some(codec::encode(&network.genesis.nodes[0]));
    assert_eq!(reader.entry(there).unwrap(), (Height::GENESIS, expected.clone()));
    assert_eq!(reader.entry(absent).unwrap(), (Height::GENESIS, None));
    assert_eq!(reader.state_proof(there).unwrap(), None, "no header certifies genesis");
    for height in 1..=3 {
        network.grow(&mut writer, &reader, 1, 1);
        for (key, expected) in [(there, &expected), (absent, &None)] {
            let text = reader.state_proof(key).unwrap().unwrap().to_text();
            let proof = StateProof::from_text(&text).unwrap();
            assert_eq!(proof.verify(&network.genesis), Ok(Height::new(height - 1)));
            assert_eq!(proof.proven.value.map(|Base64(value)| value), *expected);
            assert_eq!(reader.entry(key).unwrap(), (Height::new(height - 1), expected.clone()));
        }
    }
}

#[test]
fn what_does_not_follow_is_refused_and_changes_nothing() {
    let (dir, mut network) = (tempdir().unwrap(), Network::new());
    let (mut writer, reader) = network.open(dir.path()).unwrap();
    let first = network.next(&reader.head(), 2);
    writer.commit(&first).unwrap();
    let (head, good) = (reader.head(), network.next(&reader.head(), 2));

    let again = network.decide(&head, vec![(**first.transactions[1]).clone()]);
    let id = first.transactions[1].id;
    assert_eq!(writer.commit(&again), Err(CommitError::AlreadyCommitted { id, height: Height::new(1) }));
    let twin = network.transaction(&head);
    let twice = network.decide(&head, vec![twin.clone(), twin.clone()]);
    assert_eq!(writer.commit(&twice), Err(CommitError::AlreadyCommitted { id: twin.id, height: Height::new(2) }));
    assert!(matches!(writer.commit(&first), Err(CommitError::DoesNotFollow(_))));
    let mut early = good.clone();
    early.header.created = Timestamp::from_millis(0);
    assert!(matches!(writer.commit(&early), Err(CommitError::Hash { .. })));
    let mut lacking = good.clone();
    lacking.transactions.pop();
    assert!(matches!(writer.commit(&lacking), Err(CommitError::TransactionsRoot { .. })));
    let mut other = good.clone();
    other.certificate = first.certificate.clone();
    assert!(matches!(writer.commit(&other), Err(CommitError::Certificate { .. })));

    assert_eq!(reader.head(), head);
    assert!(reader.block(Height::new(2)).unwrap().is_none());
    assert!(!reader.contains(&good.transactions[0].id).unwrap());
    writer.commit(&good).unwrap();
}

#[test]
fn a_directory_that_is_not_this_nodes_ledger_is_refused_in_one_line() {
    let (dir, mut network) = (tempdir().unwrap(), Network::new());
    let data = dir.path().join("data");
    let (mut writer, reader) = network.open(&data).unwrap();
    network.grow(&mut writer, &reader, 2, 2);
    let refused = |settings| {
        let error = open(settings).err().expect("it should be refused");
        assert!(!error.to_string().contains('\n'), "{error}");
        println!("{error}");
        error
    };
    let settings = network.settings(&data);
    assert!(matches!(refused(settings.clone()), OpenError::Locked(_)));
    drop(writer);
    assert!(matches!(refused(settings.clone()), OpenError::Locked(_)), "a reader is still there");
    drop(reader);

    let mut foreign = settings.clone();
    foreign.genesis = Arc::new(support::genesis("another"));
    assert!(matches!(refused(foreign), OpenError::OtherNetwork { .. }));
    let mut neighbour = settings.clone();
    neighbour.node = identity(1);
    assert!(matches!(refused(neighbour), OpenError::OtherNode { .. }));

    let file = dir.path().join("file");
    fs::write(&file, "text").unwrap();
    assert!(matches!(refused(network.settings(&file)), OpenError::NotADirectory(_)));
    assert!(matches!(refused(network.settings(&file.join("below"))), OpenError::CannotMake { .. }));

    fs::remove_file(data.join("CURRENT")).unwrap();
    assert!(network.open(&data).is_err(), "a damaged ledger is not begun anew");
}

#[test]
fn a_process_killed_while_making_a_ledger_makes_it_at_the_next_start() {
    let (dir, network) = (tempdir().unwrap(), Network::new());
    rocksdb::DB::open_default(dir.path()).map(drop).unwrap();
    let (_writer, reader) = network.open(dir.path()).unwrap();
    assert_eq!(reader.head().height, Height::GENESIS);
}

#[test]
fn readers_see_whole_blocks_only_while_the_writer_writes() {
    let (dir, mut network) = (tempdir().unwrap(), Network::new());
    let (mut writer, reader) = network.open(dir.path()).unwrap();
    let (done, transactions) = (AtomicBool::new(false), 20);
    let looked = std::thread::scope(|scope| {
        let look = || {
            let mut looked = 0u64;
            while !done.load(Ordering::Relaxed) {
                let head = reader.head();
                // The one after the head may be there already: if so, then all of it.
                for height in [head.height, head.height.next()] {
                    let Some(block) = reader.block(height).unwrap() else { continue };
                    assert!(reader.certificate(height).unwrap().is_some());
                    assert_eq!(reader.height_of(&block.header.hash(&reader.network())).unwrap(), Some(height));
                    for (position, transaction) in block.parse(&reader.network()).unwrap().iter().enumerate() {
                        let located = reader.locate(&transaction.id).unwrap().unwrap();
                        assert_eq!((located.height, located.position), (height, position));
                    }
                    looked += 1;
                }
            }
            looked
        };
        let threads = [scope.spawn(look), scope.spawn(look)];
        network.grow(&mut writer, &reader, 100, transactions);
        done.store(true, Ordering::Relaxed);
        threads.map(|thread| thread.join().unwrap())
    });
    println!("blocks looked at while 100 were written: {looked:?}");
    assert!(looked.iter().all(|count| *count > 0));
}

//! A ledger of 100,000 transactions: how long it takes to write, open, read and verify.

use std::{
    fs,
    time::{Duration, Instant},
};

use minidlt_actors::store::verify::verify_directory;
use tempfile::tempdir;

use crate::support::Network;

const BLOCKS: usize = 200;
const TRANSACTIONS: usize = 500;
/// A user waits for a start; verification may take long, opening may not.
const LONGEST_START: Duration = Duration::from_secs(2);

#[test]
fn a_hundred_thousand_transactions_open_at_once() {
    let (dir, mut network) = (tempdir().unwrap(), Network::new());
    let (mut writer, reader) = network.open(dir.path()).unwrap();
    let mut writing = Duration::ZERO;
    let mut last = None;
    for _ in 0..BLOCKS {
        let block = network.next(&reader.head(), TRANSACTIONS);
        let started = Instant::now();
        writer.commit(&block).unwrap();
        writing += started.elapsed();
        last = last.or(Some(block));
    }
    let total = BLOCKS * TRANSACTIONS;
    println!("{total} transactions in {BLOCKS} blocks committed in {writing:?}");

    let first = last.unwrap();
    let started = Instant::now();
    first.transactions.iter().for_each(|transaction| drop(reader.receipt(&transaction.id).unwrap().unwrap()));
    println!("{TRANSACTIONS} receipts of one block made in {:?}", started.elapsed());
    let started = Instant::now();
    first.transactions.iter().for_each(|transaction| assert!(reader.contains(&transaction.id).unwrap()));
    println!("{TRANSACTIONS} ids looked up in {:?}", started.elapsed());
    let head = reader.head();
    drop((writer, reader));

    for how in ["from its log", "again", "after a flush"] {
        let started = Instant::now();
        let (writer, reader) = network.open(dir.path()).unwrap();
        let took = started.elapsed();
        assert_eq!(reader.head(), head);
        println!("opened {how} in {took:?}");
        assert!(took < LONGEST_START, "{took:?}");
        if how == "again" {
            writer.flush().unwrap();
        }
    }
    let started = Instant::now();
    let summary = verify_directory(dir.path(), &network.genesis).unwrap();
    assert_eq!(summary.transactions, total as u64);
    println!("verified in {:?}: {summary}", started.elapsed());
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    println!(
        "peak memory of all tests so far: {}",
        status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("?")
    );
}

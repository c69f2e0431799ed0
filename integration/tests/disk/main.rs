//! A disk that is full, or refuses a write: the node stops, says in one line what it could not write,
//! and has told nobody of anything that is not on its disk. The others go on. With room again it
//! starts by itself, holds what all hold, and goes on too.

mod small_disk;

use minidlt_integration::{Answer, Author, CBOR, Cluster, Mode, heights_of, not_run, program, run, until};
use minidlt_protocol::{
    limits::MAX_BULK_TRANSACTION_BYTES,
    transaction::{Body, Content, Operation},
};
use serde_json::{Value, json};

use small_disk::SmallDisk;

/// The node whose disk it is.
const VICTIM: usize = 3;
/// A record of so many characters; so many records are more than any disk here holds.
const RECORD_CHARS: usize = 50_000;
const MOST_RECORDS: u64 = 200;
/// Becomes a program that may not make any file larger than `$1` blocks of 512 bytes: writing beyond
/// fails, as writing to a full disk does. The signal that comes with it would end the program before
/// it could say anything, and what is ignored stays ignored.
const LIMITED: &str = r#"trap "" XFSZ; ulimit -f "$1"; shift; exec "$@""#;
/// 1.5 MiB: more than the signer's two files have from the start, less than the ledger will need.
const LEDGER_BLOCKS: &str = "3072";
/// 1 MiB: what the signer's two files have from the start.
const SIGNER_BLOCKS: &str = "2048";

fn limited(blocks: &str) -> [&str; 5] {
    ["sh", "-c", LIMITED, "sh", blocks]
}

#[test]
fn a_write_that_fails_stops_the_node_and_without_the_limit_it_comes_back() {
    let mut cluster = Cluster::init(4, Mode::Bft);
    (0..VICTIM).for_each(|i| cluster.start_node(i));
    cluster.start_node_by(VICTIM, &limited(LEDGER_BLOCKS));
    (0..4).for_each(|i| cluster.wait_ready(i));
    let author = Author::of(&cluster, "trader");
    the_ledger_cannot_grow(&mut cluster, &author);
    the_signers_log_cannot_grow(&mut cluster, &author);
}

fn the_ledger_cannot_grow(cluster: &mut Cluster, author: &Author) {
    let log = cluster.log(VICTIM).len();
    let load = submit_until_it_stops(cluster, author, Vec::new());
    assert_stopped(cluster, log, &["cannot be committed", "data/ledger", "File too large"]);
    let kept = OnDisk::of(cluster, &[]);
    load.assert_told_only_what_is_kept(cluster, &kept);
    assert_others_go_on(cluster, author, &kept);
    cluster.start_node(VICTIM);
    load.assert_whole_again(cluster, author);
}

/// Three of four decide. With another one down, nothing is decided without this node's vote; before
/// the vote leaves, the block it is for must be in its log, and the block has more than the log may.
fn the_signers_log_cannot_grow(cluster: &mut Cluster, author: &Author) {
    let bystander = 2;
    assert_eq!(cluster.stop_node(VICTIM), 0);
    cluster.start_node_by(VICTIM, &limited(SIGNER_BLOCKS));
    cluster.wait_ready(VICTIM);
    cluster.wait_agreed();
    cluster.kill_node(bystander);

    let log = cluster.log(VICTIM).len();
    let largest = largest_transaction(author);
    let answer = cluster.post(0, "trader", "", CBOR, &largest.bytes);
    assert_eq!(answer.status, 202, "{answer:?}");
    assert_stopped(cluster, log, &["the signer's log", "File too large"]);
    let status = format!("/v1/transactions/{}", largest.id);
    assert_eq!(cluster.get(0, &status)["status"], "pending", "two of four decide nothing");
    let kept = OnDisk::of(cluster, &[]);
    kept.assert_is_what_all_hold(cluster);

    cluster.start_node(bystander);
    until("three of four have committed it", || cluster.get(0, &status)["status"] == "committed");
    assert_others_go_on(cluster, author, &kept);
    cluster.start_node(VICTIM);
    Load { told: Vec::new(), unanswered: largest }.assert_whole_again(cluster, author);
}

#[test]
fn a_full_disk_stops_the_node_and_with_room_again_it_comes_back() {
    let mut cluster = Cluster::init(4, Mode::Bft);
    let disk = match SmallDisk::at(&cluster.node(VICTIM).join("data")) {
        Ok(disk) => disk,
        Err(why) => return not_run("a full disk", &why),
    };
    let words = disk.words();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    (0..VICTIM).for_each(|i| cluster.start_node(i));
    cluster.start_node_by(VICTIM, &words);
    (0..4).for_each(|i| cluster.wait_ready(i));
    let author = Author::of(&cluster, "trader");
    let before = commit(&cluster, VICTIM, &author, 0);

    disk.fill();
    let log = cluster.log(VICTIM).len();
    let load = submit_until_it_stops(&cluster, &author, vec![before]);
    assert_stopped(&mut cluster, log, &["cannot be committed", "data/ledger", "No space left on device"]);
    let kept = OnDisk::of(&cluster, &words);
    load.assert_told_only_what_is_kept(&cluster, &kept);
    assert_others_go_on(&cluster, &author, &kept);

    disk.make_room();
    cluster.start_node_by(VICTIM, &words);
    load.assert_whole_again(&cluster, &author);
}

/// The id and height of a transaction that was told to be committed.
type Told = (String, u64);

struct Transaction {
    id: String,
    bytes: Vec<u8>,
}

impl Transaction {
    fn new(author: &Author, body: &Body) -> Self {
        Self { id: author.id(body), bytes: author.sign(body) }
    }
}

/// What a client heard of its transactions.
struct Load {
    told: Vec<Told>,
    /// The one whose fate it does not know.
    unanswered: Transaction,
}

/// Has records committed through the node, one by one, until it does not answer.
fn submit_until_it_stops(cluster: &Cluster, author: &Author, mut told: Vec<Told>) -> Load {
    let text = "x".repeat(RECORD_CHARS);
    for nonce in 0..MOST_RECORDS {
        let transaction = Transaction::new(author, &author.body(nonce, &json!({ "text": text })));
        let answer = submit(cluster, VICTIM, &transaction);
        if answer.status == 0 {
            return Load { told, unanswered: transaction };
        }
        told.push(told_in(&answer));
    }
    panic!("{MOST_RECORDS} records of {RECORD_CHARS} characters found room");
}

/// Submits it, and waits until it is committed.
fn submit(cluster: &Cluster, node: usize, transaction: &Transaction) -> Answer {
    cluster.post(node, "trader", "?wait=committed&timeout=30s", CBOR, &transaction.bytes)
}

fn told_in(answer: &Answer) -> Told {
    assert_eq!(answer.status, 200, "{answer:?}");
    let json = answer.json();
    assert_eq!(json["status"], "committed", "{answer:?}");
    (json["id"].as_str().expect("an id").to_owned(), json["height"].as_u64().expect("a height"))
}

fn commit(cluster: &Cluster, node: usize, author: &Author, nonce: u64) -> Told {
    let transaction = Transaction::new(author, &author.body(nonce, &json!({ "nonce": nonce })));
    told_in(&submit(cluster, node, &transaction))
}

/// Exactly as large as a transaction may be.
fn largest_transaction(author: &Author) -> Transaction {
    let half = MAX_BULK_TRANSACTION_BYTES / 2;
    // Lengths above 65,535 all take as many bytes to write, so what is missing can be added.
    let make = |second: usize| {
        let records = [half - 1_000, second].map(|chars| Content::from_json(&json!("x".repeat(chars))));
        let mut body = author.body(0, &Value::Null);
        body.operation = Operation::records(records.into());
        body
    };
    let missing = MAX_BULK_TRANSACTION_BYTES - author.sign(&make(half - 1_000)).len();
    let largest = Transaction::new(author, &make(half - 1_000 + missing));
    assert_eq!(largest.bytes.len(), MAX_BULK_TRANSACTION_BYTES);
    largest
}

/// It ended by itself, with code 1, and one line of its log since then says why.
fn assert_stopped(cluster: &mut Cluster, log: usize, parts: &[&str]) {
    let code = cluster.exit_code(VICTIM);
    let log = cluster.log_since(VICTIM, log);
    assert_eq!(code, Some(1), "{log}");
    let why: Vec<&str> = log.lines().filter(|line| line.contains("stopping: ")).collect();
    assert_eq!(why.len(), 1, "one line says why: {log}");
    for part in parts {
        assert!(why[0].contains(part), "{part:?} is in {:?}", why[0]);
    }
    assert!(!log.contains("panicked"), "{log}");
}

/// What `verify` finds of a node that does not run, and so what it has on its disk.
struct OnDisk {
    blocks: u64,
    transactions: usize,
    head: String,
}

impl OnDisk {
    fn of(cluster: &Cluster, words: &[&str]) -> Self {
        let said = run(program(words).arg("verify").arg(cluster.node(VICTIM)));
        let words: Vec<&str> = said.split_whitespace().collect();
        let ["ok:", blocks, "blocks,", transactions, "transactions,", "head", head] = words[..] else {
            panic!("{said}")
        };
        Self {
            blocks: blocks.parse().expect("a number"),
            transactions: transactions.parse().expect("a number"),
            head: head.to_owned(),
        }
    }

    /// It is a part of the chain that the others hold.
    fn assert_is_what_all_hold(&self, cluster: &Cluster) {
        assert_eq!(cluster.get(0, &format!("/v1/blocks/{}", self.blocks))["hash"], self.head.as_str());
    }
}

impl Load {
    /// Whatever was told is on the disk.
    fn assert_told_only_what_is_kept(&self, cluster: &Cluster, kept: &OnDisk) {
        let highest = self.told.iter().map(|(_, height)| *height).max().expect("some were committed before");
        assert!(highest <= kept.blocks, "told of height {highest}, {} are on disk", kept.blocks);
        assert!(self.told.len() <= kept.transactions, "told of {}, {} on disk", self.told.len(), kept.transactions);
        kept.assert_is_what_all_hold(cluster);
    }

    /// The node has caught up: all hold the same blocks, in them each transaction once, where it was
    /// told to be; and the node takes part again.
    fn assert_whole_again(&self, cluster: &Cluster, author: &Author) {
        cluster.wait_ready(VICTIM);
        // Who heard nothing submits again, which is harmless.
        let again = told_in(&submit(cluster, 0, &self.unanswered));
        let last = commit(cluster, VICTIM, author, MOST_RECORDS + 1);
        cluster.wait_agreed();
        let chain = cluster.chain(VICTIM);
        for i in 0..VICTIM {
            assert!(cluster.chain(i) == chain, "node {i} holds the same blocks");
        }
        for (id, height) in self.told.iter().chain([&again, &last]) {
            assert_eq!(heights_of(&chain, id), [*height], "transaction {id} is there once, where it was told to be");
        }
    }
}

/// Three of four commit while the fourth is down.
fn assert_others_go_on(cluster: &Cluster, author: &Author, kept: &OnDisk) {
    let (_, height) = commit(cluster, 0, author, MOST_RECORDS);
    assert!(height > kept.blocks, "{height}");
}

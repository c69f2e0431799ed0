//! What a user's transactions wait for while another user, or a node, floods: fair queuing, measured.
//!
//! Each is submitted with a process of its own (`curl`, which takes some 20 ms) and waited for until it
//! is committed, one after another. A flood is as much as its sender can bring forth.

use std::{
    io::Write,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread::{Scope, ScopedJoinHandle, scope},
    time::{Duration, Instant},
};

use minidlt_integration::{
    Author, CBOR, Cluster, Mode, counted,
    peer::{Credentials, Voice, tls},
    until,
};
use minidlt_protocol::{
    codec,
    crypto::SecretKey,
    limits::MAX_BLOCK_BYTES,
    message::{Content, PoolContent},
    transaction::{SignedTransaction, TransactionBytes},
};
use serde_json::json;

/// Transactions measured.
const SAMPLES: u64 = 15;
/// The flood's transactions: 70 fill a block, and a user's share of a pool holds 1,100.
const LARGE_BYTES: usize = 60_000;
/// In one request of the flood, and requests at a time.
const BATCH: u64 = 32;
const FLOODERS: u64 = 3;
/// So much of it waits when measuring begins, of 64 MiB at most: 14 blocks.
const WAITING_BYTES: f64 = 60e6;
/// Another's transaction is in one of the next few. The very next is being agreed on, and the one after
/// may be proposed by a node that has not heard of it yet.
const SOON_BLOCKS: u64 = 8;
/// The node whose files the flooding node has.
const LIAR: usize = 0;
/// In one message of the flooding node, which holds some 500 KB.
const JUNK: u64 = 1_200;

/// How long a user's transactions take, half of them and all of them at most; and how many blocks are
/// committed from the head, as each is submitted, to its own.
#[derive(Debug)]
struct Latency {
    median: Duration,
    most: Duration,
    most_blocks: u64,
}

/// Of `SAMPLES` transactions of a user by way of this node.
fn latency(cluster: &Cluster, node: usize, author: &Author, user: &str, first: u64, what: &str) -> Latency {
    let (mut took, mut most_blocks) = (Vec::new(), 0);
    for nonce in first..first + SAMPLES {
        let bytes = author.sign(&author.body(nonce, &json!({ "number": nonce })));
        let (head, since) = (cluster.height(node), Instant::now());
        let answer = cluster.post(node, user, "?wait=committed&timeout=60s", CBOR, &bytes);
        took.push(since.elapsed());
        assert_eq!((answer.status, answer.json()["status"].as_str()), (200, Some("committed")), "{answer:?}");
        most_blocks = most_blocks.max(answer.json()["height"].as_u64().expect("a height") - head);
    }
    took.sort();
    let latency = Latency { median: took[took.len() / 2], most: took[took.len() - 1], most_blocks };
    let [median, most] = [latency.median, latency.most].map(|took| took.as_millis());
    println!("{what}: median {median} ms, at most {most} ms and {most_blocks} blocks");
    latency
}

/// Stops a flood also where the test fails: the scope waits for its threads.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Submits large transactions until it is over. What is refused for now makes room for the next.
fn submit_large(cluster: &Cluster, author: &Author, flooder: u64, over: &AtomicBool) {
    let text = "x".repeat(LARGE_BYTES);
    let mut nonces = flooder << 32..;
    while !over.load(Ordering::Relaxed) {
        let batch = nonces.by_ref().take(BATCH as usize);
        let batch: Vec<u8> = batch.flat_map(|nonce| author.sign(&author.body(nonce, &json!(text)))).collect();
        cluster.post(0, "trader", "", "application/cbor-seq", &batch);
    }
}

#[test]
fn a_user_who_floods_keeps_no_other_waiting() {
    let mut cluster = Cluster::start(3, Mode::FullConsent);
    let (trader, admin) = (Author::of(&cluster, "trader"), Author::of(&cluster, "admin"));
    let calm = latency(&cluster, 0, &admin, "admin", 0, "without a flood");
    // Nothing is committed meanwhile, so that the flood has all that one user may have waiting.
    cluster.kill_node(2);
    flood_while(&cluster, &trader, 0, |cluster| {
        until("the flood has its share of the pool", || cluster.metric(0, "minidlt_mempool_bytes") > WAITING_BYTES);
    });
    let blocks = cluster.metric(0, "minidlt_mempool_bytes") / MAX_BLOCK_BYTES as f64;
    cluster.start_node(2);
    flood_while(&cluster, &trader, 1, |cluster| {
        let flooded = latency(cluster, 0, &admin, "admin", SAMPLES, "while another user floods");
        println!("the flood itself has {blocks:.1} blocks waiting when that begins");
        assert!(flooded.most_blocks <= SOON_BLOCKS, "{flooded:?} beside {calm:?}");
    });
}

/// Lets a user flood while something is done, not with the same transactions another `time`.
fn flood_while(cluster: &Cluster, author: &Author, time: u64, doing: impl FnOnce(&Cluster)) {
    let over = AtomicBool::new(false);
    scope(|scope| {
        let (stop, over) = (Stop(&over), &over);
        (0..FLOODERS).for_each(|flooder| {
            scope.spawn(move || submit_large(cluster, author, time * FLOODERS + flooder, over));
        });
        doing(cluster);
        drop(stop);
    });
}

#[test]
fn a_node_that_floods_keeps_no_user_waiting() {
    let mut cluster = Cluster::start(4, Mode::Bft);
    let admin = Author::of(&cluster, "admin-Org02");
    cluster.kill_node(LIAR);
    until("the others know that node 0 is gone", || {
        (1..4).all(|node| cluster.metric(node, "minidlt_peers_connected") == 2.0)
    });
    let calm = latency(&cluster, 1, &admin, "admin-Org02", 0, "with one node missing");
    let junk = junk(&cluster);
    let (over, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    scope(|scope| {
        let stop = Stop(&over);
        let flooding: Vec<_> = (1..4).map(|victim| flood(scope, &cluster, victim, &junk, &over, &sent)).collect();
        let reason = counted("minidlt_submissions_refused_total", "gossip-bad-signature");
        let refused = |node: usize| cluster.samples(node, &["minidlt_submissions_refused_total"]).value(&reason);
        until("all are flooded", || (1..4).all(|node| refused(node) > JUNK as f64));
        let flooded = latency(&cluster, 1, &admin, "admin-Org02", SAMPLES, "while that node floods the others");
        drop(stop);
        flooding.into_iter().for_each(|flooding| flooding.join().expect("it only sends"));
        println!(
            "{} messages of {JUNK} transactions were sent, {} checked by node 1",
            sent.load(Ordering::Relaxed),
            refused(1)
        );
        assert!(flooded.median < Duration::from_secs(3), "{flooded:?} beside {calm:?}");
    });
}

/// Gossip that has the form of transactions, of an enrolled user even, but was signed by somebody else:
/// each costs the check of a signature.
fn junk(cluster: &Cluster) -> Content {
    let trader = Author::of(cluster, "trader");
    let other = SecretKey::from_bytes(&[7; 32]).expect("a key");
    let forged = (0..JUNK).map(|nonce| {
        let body = trader.body(nonce, &json!({ "junk": nonce }));
        TransactionBytes::from(codec::encode(&SignedTransaction::sign(&body, &other)))
    });
    Content::Pool(PoolContent::Gossip(forged.collect()))
}

/// Floods a node until it is over; where its connection is closed, on another one.
fn flood<'scope>(
    scope: &'scope Scope<'scope, '_>,
    cluster: &'scope Cluster,
    victim: usize,
    junk: &'scope Content,
    over: &'scope AtomicBool,
    sent: &'scope AtomicU64,
) -> ScopedJoinHandle<'scope, ()> {
    let network = cluster.genesis().id();
    scope.spawn(move || {
        let (voice, credentials) = (Voice::of(cluster, LIAR, victim), Credentials::of(&cluster.node(LIAR)));
        while !over.load(Ordering::Relaxed) {
            let mut stream = tls(cluster.peers_port(victim), &credentials);
            let alive = voice.alive(&stream, &network);
            let mut open = stream.write_all(&alive).is_ok();
            while open && !over.load(Ordering::Relaxed) {
                open = stream.write_all(&voice.say(&network, junk)).is_ok();
                sent.fetch_add(1, Ordering::Relaxed);
            }
        }
    })
}

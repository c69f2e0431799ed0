//! The mempool against a model so plain that it is plainly right.

use std::sync::LazyLock;

use minidlt_protocol::{
    block::SharedTransaction,
    limits::{MAX_BLOCK_BYTES, MAX_BLOCK_TRANSACTIONS, MEMPOOL_USER_SHARE},
    mempool::{Bounds, Mempool},
    transaction::{Refusal, SignedTransaction},
    types::{Hash, Identity, Timestamp},
};
use proptest::prelude::*;

use crate::common::{ADMIN, BROKER, NOW, Network, TRADER, identity, key};

/// What waits, oldest first, and nothing else.
struct Model {
    bounds: Bounds,
    waiting: Vec<SharedTransaction>,
}

impl Model {
    fn bytes(&self) -> usize {
        self.waiting.iter().map(|t| t.size()).sum()
    }

    fn insert(&mut self, transaction: &SharedTransaction, now: Timestamp) -> Result<(), &'static str> {
        transaction.check_time(now).map_err(|refusal| refusal.kind())?;
        let own = || self.waiting.iter().filter(|t| t.author == transaction.author);
        let own_bytes: usize = own().map(|t| t.size()).sum();
        if self.waiting.iter().any(|t| t.id == transaction.id) {
            return Err("already-pending");
        }
        if self.waiting.len() + 1 > self.bounds.transactions || self.bytes() + transaction.size() > self.bounds.bytes {
            return Err("mempool-full");
        }
        // A share is a part of the whole, rounded up.
        if own().count() >= self.bounds.transactions.div_ceil(MEMPOOL_USER_SHARE)
            || own_bytes + transaction.size() > self.bounds.bytes.div_ceil(MEMPOOL_USER_SHARE)
        {
            return Err("user-share-full");
        }
        self.waiting.push(transaction.clone());
        Ok(())
    }

    fn take(&mut self, gone: impl Fn(&SharedTransaction) -> bool) -> Vec<Hash> {
        let (out, kept): (Vec<_>, Vec<_>) = self.waiting.drain(..).partition(gone);
        self.waiting = kept;
        ids(&out)
    }

    /// Again and again the oldest of who has the fewest bytes so far; of several, the oldest of all.
    fn pick(&self, created: Timestamp) -> Vec<Hash> {
        let mut left: Vec<_> = self.waiting.iter().filter(|t| t.check_time(created).is_ok()).collect();
        let mut picked: Vec<&SharedTransaction> = Vec::new();
        loop {
            let so_far = |t: &SharedTransaction| bytes_of(&picked, &t.author);
            // The first of those that are alike.
            let next = left.iter().enumerate().min_by_key(|(_, t)| so_far(t)).map(|(at, _)| at);
            let Some(next) = next.map(|at| left.remove(at)) else { break };
            let bytes: usize = picked.iter().map(|t| t.size()).sum();
            if picked.len() == MAX_BLOCK_TRANSACTIONS || bytes + next.size() > MAX_BLOCK_BYTES {
                break;
            }
            picked.push(next);
        }
        picked.iter().map(|t| t.id).collect()
    }
}

fn bytes_of<'a>(transactions: impl IntoIterator<Item = &'a &'a SharedTransaction>, author: &Identity) -> usize {
    transactions.into_iter().filter(|t| t.author == *author).map(|t| t.size()).sum()
}

fn ids(transactions: &[SharedTransaction]) -> Vec<Hash> {
    transactions.iter().map(|t| t.id).collect()
}

/// Transactions of three users, living from 1 to 6 seconds; made once, for signing takes long.
static POOL: LazyLock<Vec<SharedTransaction>> = LazyLock::new(|| {
    let network = Network::bft();
    let make = |n: u64| {
        let author = [TRADER, BROKER, ADMIN][n as usize % 3];
        let mut body = network.body(author.0, n);
        body.created = NOW.plus_millis(n % 5 * 15_000);
        body.expires = body.created.plus_millis(1_000 + n % 6 * 1_000);
        network.shared(&SignedTransaction::sign(&body, &key(author.1)))
    };
    (0..48).map(make).collect()
});

/// Eight transactions of 700,000 bytes each, of two users: a block holds five such.
static LARGE: LazyLock<Vec<SharedTransaction>> = LazyLock::new(|| {
    let network = Network::bft();
    let text = serde_json::Value::from("x".repeat(350_000));
    let make = |n: u64| {
        let author = [TRADER, BROKER][n as usize % 2];
        let body = network.body_of(author.0, n, &[text.clone(), text.clone()]);
        network.shared(&SignedTransaction::sign(&body, &key(author.1)))
    };
    (0..8).map(make).collect()
});

/// Transactions of three users, from a few hundred bytes to almost 1 MiB: a block holds a few.
static MIXED: LazyLock<Vec<SharedTransaction>> = LazyLock::new(|| {
    let network = Network::bft();
    let make = |n: u64| {
        let author = [TRADER, BROKER, ADMIN][n as usize % 3];
        let text = |part: u64| serde_json::Value::from("x".repeat(((n + part) * 104_729 % 500_000) as usize));
        let body = network.body_of(author.0, n, &[text(1), text(7)]);
        network.shared(&SignedTransaction::sign(&body, &key(author.1)))
    };
    (0..45).map(make).collect()
});

#[derive(Debug, Clone)]
enum Step {
    Insert(usize),
    Remove(usize),
    Expire(u64),
    Pick(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0usize..48).prop_map(Step::Insert),
        2 => (0usize..48).prop_map(Step::Remove),
        1 => (0u64..70_000).prop_map(Step::Expire),
        2 => (0u64..70_000).prop_map(Step::Pick),
    ];
    prop::collection::vec(step, 0..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_mempool_does_as_the_model(steps in steps(), transactions in 1usize..40, kilobytes in 1usize..12) {
        let bounds = Bounds { transactions, bytes: kilobytes << 10 };
        let (mut pool, mut model) = (Mempool::new(bounds), Model { bounds, waiting: Vec::new() });
        let mut now = NOW;
        for step in steps {
            match step {
                Step::Insert(at) => {
                    let given = &POOL[at];
                    let expected = model.insert(given, now);
                    prop_assert_eq!(pool.insert(given.clone(), now).map_err(|refusal| refusal.kind()), expected);
                }
                Step::Remove(at) => {
                    let id = POOL[at].id;
                    let expected = model.take(|t| t.id == id);
                    prop_assert_eq!(pool.remove(&id).map(|t| t.id), expected.first().copied());
                }
                Step::Expire(after) => {
                    now = now.max(NOW.plus_millis(after));
                    let mut expected = model.take(|t| t.expires < now);
                    let mut expired = ids(&pool.expire(now));
                    expected.sort();
                    expired.sort();
                    prop_assert_eq!(expired, expected);
                }
                Step::Pick(after) => {
                    let created = NOW.plus_millis(after);
                    prop_assert_eq!(ids(&pool.pick(created)), model.pick(created));
                }
            }
            prop_assert_eq!(pool.len(), model.waiting.len());
            prop_assert_eq!(pool.is_empty(), model.waiting.is_empty());
            prop_assert_eq!(pool.bytes(), model.bytes());
            prop_assert!(pool.len() <= bounds.transactions && pool.bytes() <= bounds.bytes);
            for known in POOL.iter() {
                let waits = model.waiting.iter().any(|t| t.id == known.id);
                prop_assert_eq!(pool.get(&known.id).map(|t| t.id), waits.then_some(known.id));
                prop_assert_eq!(pool.by_leaf(&known.leaf).map(|t| t.id), waits.then_some(known.id));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Nobody who has something left waiting has less of a block than another, but for the last one that
    /// the other got: it had no more than that before it was its turn.
    #[test]
    fn a_block_is_shared_fairly(order in Just((0..45).collect::<Vec<usize>>()).prop_shuffle(), size in 1usize..45) {
        let mut pool = Mempool::default();
        let waiting: Vec<&SharedTransaction> = order.iter().take(size).map(|at| &MIXED[*at]).collect();
        for transaction in &waiting {
            pool.insert((*transaction).clone(), NOW).expect("there is room");
        }
        let picked = pool.pick(NOW);
        let picked: Vec<&SharedTransaction> = picked.iter().collect();
        let left: Vec<&&SharedTransaction> = waiting.iter().filter(|t| picked.iter().all(|p| p.id != t.id)).collect();
        for one in &left {
            let own = bytes_of(&picked, &one.author);
            for other in [TRADER, BROKER, ADMIN].map(|(name, _)| identity(name)) {
                let last = picked.iter().rev().find(|t| t.author == other).map_or(0, |t| t.size());
                let before = bytes_of(&picked, &other) - last;
                prop_assert!(before <= own, "{other} had {before} bytes and got more, {} has {own}", one.author);
            }
        }
        let bytes: usize = picked.iter().map(|t| t.size()).sum();
        prop_assert!(bytes <= MAX_BLOCK_BYTES);
        prop_assert!(left.is_empty() || left.iter().any(|t| bytes + t.size() > MAX_BLOCK_BYTES), "there was room");
        // Each author's in the order in which they came.
        for author in [TRADER, BROKER, ADMIN].map(|(name, _)| identity(name)) {
            let came = waiting.iter().filter(|t| t.author == author).map(|t| t.id);
            let went: Vec<Hash> = picked.iter().filter(|t| t.author == author).map(|t| t.id).collect();
            prop_assert!(came.take(went.len()).eq(went.iter().copied()), "{author}: {went:?}");
        }
    }
}

#[test]
fn who_has_one_waiting_is_in_the_next_block_whatever_another_has() {
    let network = Network::bft();
    let mut pool = Mempool::default();
    for n in 0..=MAX_BLOCK_TRANSACTIONS as u64 {
        pool.insert(network.transaction(TRADER, n), NOW).expect("there is room");
    }
    let late = network.transaction(BROKER, 1);
    pool.insert(late.clone(), NOW).expect("there is room");
    let picked = pool.pick(NOW);
    assert_eq!(picked.len(), MAX_BLOCK_TRANSACTIONS);
    assert_eq!(picked[1].id, late.id);
}

#[test]
fn a_pick_fits_a_block_and_keeps_the_order() {
    let mut pool = Mempool::default();
    for transaction in LARGE.iter() {
        pool.insert(transaction.clone(), NOW).expect("there is room");
    }
    let picked = pool.pick(NOW);
    assert_eq!(ids(&picked), ids(&LARGE[..5]), "five of 700,000 bytes fit 4 MiB, six do not");
    let large: usize = picked.iter().map(|t| t.size()).sum();
    assert!(large <= MAX_BLOCK_BYTES && large + LARGE[5].size() > MAX_BLOCK_BYTES);
}

#[test]
fn a_small_one_does_not_overtake_a_large_one_that_has_no_room_left() {
    let mut pool = Mempool::default();
    let small = Network::bft().transaction(BROKER, 99);
    for transaction in LARGE.iter().chain([&small]) {
        pool.insert(transaction.clone(), NOW).expect("there is room");
    }
    assert_eq!(ids(&pool.pick(NOW)), ids(&LARGE[..5]), "or large ones would wait for ever");
}

#[test]
fn no_size_overflows() {
    let mut pool = Mempool::default();
    pool.insert(POOL[0].clone(), NOW).expect("there is room");
    let full = pool.admits(&Hash::ZERO, &POOL[0].author, usize::MAX);
    assert_eq!(full, Err(Refusal::MempoolFull("too many bytes")));
}

#[test]
fn one_body_signed_twice_waits_once() {
    let network = Network::bft();
    let plain = network.signed(TRADER, 7);
    let mut endorsed = plain.clone();
    network.endorse(&mut endorsed, ADMIN.0, ADMIN.1);
    let (plain, endorsed) = (network.shared(&plain), network.shared(&endorsed));
    assert_eq!(plain.id, endorsed.id);
    assert_ne!(plain.leaf, endorsed.leaf);
    let mut pool = Mempool::default();
    pool.insert(plain.clone(), NOW).expect("there is room");
    assert_eq!(pool.insert(endorsed.clone(), NOW), Err(Refusal::AlreadyPending));
    assert!(pool.by_leaf(&endorsed.leaf).is_none());
    pool.remove(&endorsed.id);
    assert!(pool.by_leaf(&plain.leaf).is_none() && pool.bytes() == 0);
}

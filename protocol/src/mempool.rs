//! The rules of the pool of transactions waiting for a block: what is taken, in which order it
//! leaves, and the bounds on it. Time is passed in.
//!
//! A block is shared fairly between the authors of what waits: each has as many bytes of it as any
//! other, give or take one transaction, or all that it has waiting. So who has little waiting is in the
//! next block, however much others have.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use crate::{
    block::SharedTransaction,
    limits::{MAX_BLOCK_BYTES, MAX_BLOCK_TRANSACTIONS, MEMPOOL_BYTES, MEMPOOL_TRANSACTIONS, MEMPOOL_USER_SHARE},
    registry::Registry,
    transaction::Refusal,
    types::{Hash, Identity, Timestamp},
};

/// How much may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub transactions: usize,
    pub bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { transactions: MEMPOOL_TRANSACTIONS, bytes: MEMPOOL_BYTES }
    }
}

/// What one author has waiting.
#[derive(Default)]
struct Own {
    by_arrival: BTreeMap<u64, SharedTransaction>,
    bytes: usize,
}

struct Entry {
    transaction: SharedTransaction,
    arrival: u64,
}

/// The transactions waiting.
#[derive(Default)]
pub struct Mempool {
    bounds: Bounds,
    entries: BTreeMap<Hash, Entry>,
    by_leaf: BTreeMap<Hash, Hash>,
    by_expiry: BTreeSet<(Timestamp, Hash)>,
    by_author: BTreeMap<Identity, Own>,
    bytes: usize,
    arrivals: u64,
}

impl Mempool {
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, ..Self::default() }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Sum of the waiting transactions' sizes, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn get(&self, id: &Hash) -> Option<&SharedTransaction> {
        self.entries.get(id).map(|entry| &entry.transaction)
    }

    pub fn by_leaf(&self, leaf: &Hash) -> Option<&SharedTransaction> {
        self.by_leaf.get(leaf).and_then(|id| self.get(id))
    }

    /// Would a transaction of `size` bytes by `author` be taken? [`Self::insert`] asks.
    pub fn admits(&self, id: &Hash, author: &Identity, size: usize) -> Result<(), Refusal> {
        if self.entries.contains_key(id) {
            return Err(Refusal::AlreadyPending);
        }
        if self.entries.len() >= self.bounds.transactions {
            return Err(Refusal::MempoolFull("too many transactions"));
        }
        if self.bytes.saturating_add(size) > self.bounds.bytes {
            return Err(Refusal::MempoolFull("too many bytes"));
        }
        let (transactions, bytes) =
            self.by_author.get(author).map(|own| (own.by_arrival.len(), own.bytes)).unwrap_or_default();
        let share = MEMPOOL_USER_SHARE;
        if transactions >= self.bounds.transactions.div_ceil(share)
            || bytes.saturating_add(size) > self.bounds.bytes.div_ceil(share)
        {
            return Err(Refusal::UserShareFull(author.clone()));
        }
        Ok(())
    }

    /// Takes a transaction, or says why not.
    pub fn insert(&mut self, transaction: SharedTransaction, now: Timestamp) -> Result<(), Refusal> {
        transaction.check_time(now)?;
        self.admits(&transaction.id, &transaction.author, transaction.size())?;
        let (id, arrival) = (transaction.id, self.arrivals);
        self.arrivals += 1;
        self.bytes += transaction.size();
        let own = self.by_author.entry(transaction.author.clone()).or_default();
        own.bytes += transaction.size();
        own.by_arrival.insert(arrival, transaction.clone());
        self.by_leaf.insert(transaction.leaf, id);
        self.by_expiry.insert((transaction.expires, id));
        self.entries.insert(id, Entry { transaction, arrival });
        Ok(())
    }

    /// Removes one, because it was committed or can be no more.
    pub fn remove(&mut self, id: &Hash) -> Option<SharedTransaction> {
        let Entry { transaction, arrival } = self.entries.remove(id)?;
        self.bytes -= transaction.size();
        self.by_leaf.remove(&transaction.leaf);
        self.by_expiry.remove(&(transaction.expires, *id));
        if let Some(own) = self.by_author.get_mut(&transaction.author) {
            own.bytes -= transaction.size();
            own.by_arrival.remove(&arrival);
            if own.by_arrival.is_empty() {
                self.by_author.remove(&transaction.author);
            }
        }
        Some(transaction)
    }

    /// Removes those that no block created at `created` or later may hold.
    pub fn expire(&mut self, created: Timestamp) -> Vec<SharedTransaction> {
        let expired: Vec<Hash> = self.by_expiry.range(..(created, Hash::ZERO)).map(|(_, id)| *id).collect();
        expired.iter().filter_map(|id| self.remove(id)).collect()
    }

    /// Those that no block may hold any more where the registry is `now` what was `before`, and why.
    pub fn refused_by(&self, before: &Registry, now: &Registry) -> Vec<(Hash, Refusal)> {
        let all = before.organisations != now.organisations;
        let waiting = self.entries.iter().filter(|(_, entry)| all || entry.transaction.is_affected(before, now));
        waiting.filter_map(|(id, entry)| Some((*id, entry.transaction.check_standing(now).err()?))).collect()
    }

    /// Those for a block created at `created`. In turn comes whoever has the fewest bytes in it so far,
    /// with its oldest; of several, who has waited longest. The first that does not fit ends it: to go
    /// on with smaller ones would let a large one wait for ever.
    pub fn pick(&self, created: Timestamp) -> Vec<SharedTransaction> {
        let mut lines: Vec<_> = self
            .by_author
            .values()
            .map(|own| own.by_arrival.iter().filter(|(_, one)| one.check_time(created).is_ok()).peekable())
            .collect();
        let first =
            lines.iter_mut().enumerate().filter_map(|(at, line)| line.peek().map(|(arrival, _)| (0, **arrival, at)));
        let mut turns: BinaryHeap<_> = first.map(Reverse).collect();
        let (mut picked, mut bytes) = (Vec::new(), 0);
        while let Some(Reverse((so_far, _, at))) = turns.pop() {
            let Some((_, transaction)) = lines[at].next() else { continue };
            if picked.len() == MAX_BLOCK_TRANSACTIONS || bytes + transaction.size() > MAX_BLOCK_BYTES {
                break;
            }
            bytes += transaction.size();
            picked.push(transaction.clone());
            if let Some((arrival, _)) = lines[at].peek() {
                turns.push(Reverse((so_far + transaction.size(), **arrival, at)));
            }
        }
        picked
    }
}

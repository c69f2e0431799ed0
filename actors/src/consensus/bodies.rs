//! The blocks that proposals of the height name: wanted, known, assembled, checked.

use std::collections::BTreeMap;

use minidlt_protocol::{
    block::{CompactBlock, SharedTransaction},
    limits::MAX_BLOCK_TRANSACTIONS,
    types::{Hash, Identity, Round},
};

/// Most bodies kept of one height. Peers can only fill it with blocks that came stamped by an
/// enrolled node; one that no proposal names makes way first.
const MAX_BODIES: usize = 16;

/// A block, and its transactions once they are here and checked.
#[derive(Debug, Clone)]
pub struct Body {
    pub block: CompactBlock,
    pub transactions: Option<Vec<SharedTransaction>>,
}

/// Why a body is wanted.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub round: Round,
    pub proposer: Identity,
}

/// The bodies of one height.
#[derive(Debug, Default)]
pub struct Bodies {
    bodies: BTreeMap<Hash, Body>,
    wanted: BTreeMap<Hash, Wanted>,
    assembling: Option<Hash>,
    proposed: Option<Hash>,
}

impl Bodies {
    pub fn get(&self, hash: &Hash) -> Option<&Body> {
        self.bodies.get(hash)
    }

    /// The block last proposed.
    pub fn proposed(&self) -> Option<Hash> {
        self.proposed
    }

    /// The core wants this block's body.
    pub fn want(&mut self, hash: Hash, round: Round, proposer: Identity) {
        self.proposed = Some(hash);
        self.wanted.insert(hash, Wanted { round, proposer });
    }

    /// A body came from a peer. One with more transactions than a block may hold is none.
    pub fn arrived(&mut self, hash: Hash, block: CompactBlock) {
        if block.leaves.len() > MAX_BLOCK_TRANSACTIONS {
            return;
        }
        if self.bodies.len() >= MAX_BODIES && !self.bodies.contains_key(&hash) {
            let idle = |(hash, body): (&Hash, &Body)| {
                (body.transactions.is_none() && !self.wanted.contains_key(hash)).then_some(*hash)
            };
            match self.bodies.iter().find_map(idle) {
                Some(unnamed) => drop(self.bodies.remove(&unnamed)),
                None if !self.wanted.contains_key(&hash) => return,
                None => {}
            }
        }
        self.bodies.entry(hash).or_insert(Body { block, transactions: None });
    }

    /// A wanted body that is known, with why it is wanted.
    pub fn wanted(&self, hash: &Hash) -> Option<(&Wanted, &Body)> {
        self.wanted.get(hash).zip(self.bodies.get(hash))
    }

    /// `false` where it is being assembled already. The Mempool assembles one block at a time: the
    /// latest.
    pub fn begin_assembly(&mut self, hash: &Hash) -> bool {
        let begins = self.assembling != Some(*hash);
        self.assembling = Some(*hash);
        begins
    }

    pub fn end_assembly(&mut self, hash: &Hash) {
        self.assembling.take_if(|assembling| assembling == hash);
    }

    /// The body is here and has been checked, or is our own.
    pub fn complete(&mut self, hash: Hash, block: CompactBlock, transactions: Vec<SharedTransaction>) {
        self.proposed = Some(hash);
        self.bodies.insert(hash, Body { block, transactions: Some(transactions) });
    }

    /// The core has been told.
    pub fn answered(&mut self, hash: &Hash) {
        self.wanted.remove(hash);
    }

    pub fn take_complete(&mut self, hash: &Hash) -> Option<(CompactBlock, Vec<SharedTransaction>)> {
        let Body { block, transactions } = self.bodies.remove(hash)?;
        Some((block, transactions?))
    }
}

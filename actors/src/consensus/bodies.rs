//! The blocks that proposals of the height name: wanted, offered, assembled, checked.
//!
//! A header's hash says which transactions a block has only once they are there, so what a peer
//! offers as a block's body is kept as that peer's word. Only the header's proposer, and whoever
//! proposes the block now, are listened to; one who lies spoils its own offer alone.

use std::collections::BTreeMap;

use minidlt_protocol::{
    block::{CompactBlock, SharedTransaction},
    types::{Hash, Identity, Round},
};

/// Most blocks of one height that offers are kept for. An enrolled node can fill it with headers of
/// its own; those that no proposal names make way first.
const MAX_OFFERED: usize = 16;

/// Why a body is wanted, and of whom.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub round: Round,
    pub proposer: Identity,
}

/// A block with its transactions, checked.
#[derive(Debug, Clone)]
pub struct Body {
    pub block: CompactBlock,
    pub transactions: Vec<SharedTransaction>,
}

/// The bodies of one height.
#[derive(Debug, Default)]
pub struct Bodies {
    offered: BTreeMap<Hash, BTreeMap<Identity, CompactBlock>>,
    complete: BTreeMap<Hash, Body>,
    wanted: BTreeMap<Hash, Wanted>,
    proposed: Option<Hash>,
}

impl Bodies {
    /// The block last proposed.
    pub fn proposed(&self) -> Option<Hash> {
        self.proposed
    }

    /// The core wants this block's body, now of this proposer.
    pub fn want(&mut self, hash: Hash, round: Round, proposer: Identity) {
        self.proposed = Some(hash);
        self.wanted.insert(hash, Wanted { round, proposer });
    }

    /// A peer offers a body. `false` where it is not the one to listen to.
    pub fn offer(&mut self, hash: Hash, peer: &Identity, block: CompactBlock) -> bool {
        let asked = self.wanted.get(&hash).is_some_and(|wanted| wanted.proposer == *peer);
        if *peer != block.header.proposer && !asked {
            return false;
        }
        // A repeat says nothing new, and each would be looked at anew; what is still wanted is looked at
        // again whenever the core asks.
        if self.offered.get(&hash).is_some_and(|offers| offers.contains_key(peer)) {
            return false;
        }
        if self.offered.len() >= MAX_OFFERED && !self.offered.contains_key(&hash) {
            let unnamed = self.offered.keys().find(|offered| !self.wanted.contains_key(offered)).copied();
            match unnamed {
                Some(unnamed) => drop(self.offered.remove(&unnamed)),
                None => return false,
            }
        }
        self.offered.entry(hash).or_default().insert(peer.clone(), block);
        true
    }

    /// Why it is wanted, if it is.
    pub fn wanted(&self, hash: &Hash) -> Option<&Wanted> {
        self.wanted.get(hash)
    }

    /// The offer to try: that of whoever proposes the block now before any other.
    pub fn offered(&self, hash: &Hash) -> Option<(&Identity, &CompactBlock)> {
        let offers = self.offered.get(hash)?;
        let now = self.wanted.get(hash).and_then(|wanted| offers.get_key_value(&wanted.proposer));
        now.or_else(|| offers.first_key_value())
    }

    /// The body is here and has been checked, or is our own.
    pub fn complete(&mut self, hash: Hash, body: Body) {
        self.proposed = Some(hash);
        self.offered.remove(&hash);
        self.complete.insert(hash, body);
    }

    pub fn get(&self, hash: &Hash) -> Option<&Body> {
        self.complete.get(hash)
    }

    /// All transactions of the bodies that are complete.
    pub fn transactions(&self) -> Vec<SharedTransaction> {
        self.complete.values().flat_map(|body| body.transactions.iter().cloned()).collect()
    }

    /// The core has been told.
    pub fn answered(&mut self, hash: &Hash) {
        self.wanted.remove(hash);
        self.offered.remove(hash);
    }

    pub fn take(&mut self, hash: &Hash) -> Option<Body> {
        self.complete.remove(hash)
    }
}

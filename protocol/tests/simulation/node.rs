//! A node of the simulation: the shell around a core, its disk, and the ways it loses things.

use std::collections::{BTreeMap, VecDeque};

use minidlt_protocol::{
    consensus::{Core, LogEntry, Signer, Verified, VoteGuard},
    crypto::{SecretKey, Signature},
    sync::{Chain, Place, Synchroniser, VoteRecord},
    types::{Hash, Height, Identity},
    vote::{Certificate, Proposal, Vote},
};

use super::{
    voters::Electorates,
    world::{Block, NETWORK},
};

/// Something written in order; a crash keeps a beginning of what was not synced.
pub enum Journal {
    Entry(LogEntry),
    Body(Block),
}

pub struct Disk {
    pub chain: Vec<(Block, Certificate)>,
    /// What the chain says of voters.
    pub electorates: Electorates,
    /// What is known of this node's own votes.
    pub record: VoteRecord,
    /// The log of the height after the chain.
    pub log: Vec<LogEntry>,
    pub bodies: BTreeMap<Hash, Block>,
    /// That of a later height, where the chain before it was lost.
    pub kept: Option<Kept>,
}

/// The log of a height, and the bodies it speaks of.
pub struct Kept {
    pub height: Height,
    pub log: Vec<LogEntry>,
    pub bodies: BTreeMap<Hash, Block>,
}

impl Chain for Disk {
    fn holds(&self, place: &Place) -> bool {
        let Some(at) = place.height.previous() else { return place.block == Hash::ZERO };
        self.chain.get(at.get() as usize).is_some_and(|(block, _)| block.hash() == place.block)
    }
}

impl Disk {
    pub fn new(record: VoteRecord, electorates: Electorates) -> Self {
        Self { chain: Vec::new(), electorates, record, log: Vec::new(), bodies: BTreeMap::new(), kept: None }
    }

    /// A disk of the same network that holds nothing.
    pub fn emptied(&self, record: VoteRecord) -> Self {
        Self::new(record, self.electorates.beginning())
    }

    /// The chain is gone, and the log is not.
    pub fn lose_chain(&mut self) {
        let height = self.height();
        let mut lost = self.emptied(VoteRecord::Kept(height));
        std::mem::swap(self, &mut lost);
        // It may have been lost before, and not be back yet.
        self.kept = lost.kept.take().or(Some(Kept { height, log: lost.log, bodies: lost.bodies }));
        if let Some(kept) = &self.kept {
            self.record = VoteRecord::Kept(kept.height);
        }
        self.take_up();
    }

    /// The log of the height that comes is read, if that is the one that was kept.
    pub fn take_up(&mut self) {
        let coming = self.height();
        if let Some(kept) = self.kept.take_if(|kept| kept.height <= coming)
            && kept.height == coming
        {
            (self.log, self.bodies) = (kept.log, kept.bodies);
        }
    }

    pub fn place(&self) -> Place {
        Place { height: Height::new(self.chain.len() as u64), block: self.head() }
    }

    pub fn head(&self) -> Hash {
        self.chain.last().map_or(Hash::ZERO, |(block, _)| block.hash())
    }

    pub fn height(&self) -> Height {
        Height::new(self.chain.len() as u64 + 1)
    }

    fn write(&mut self, record: Journal) {
        match record {
            Journal::Entry(entry) => self.log.push(entry),
            Journal::Body(block) => {
                self.bodies.insert(block.hash(), block);
            }
        }
    }
}

/// The holder of the key. A liar's has no guard.
pub struct KeyHolder {
    pub key: SecretKey,
    pub guard: Option<VoteGuard>,
    pub refuses: bool,
    pub refused: u64,
}

impl KeyHolder {
    fn allow<E>(&mut self, check: impl FnOnce(&mut VoteGuard) -> Result<(), E>) -> Option<()> {
        let allowed = !self.refuses && self.guard.as_mut().is_none_or(|guard| check(guard).is_ok());
        self.refused += u64::from(!allowed);
        allowed.then_some(())
    }
}

impl Signer for KeyHolder {
    fn sign_vote(&mut self, vote: &Vote) -> Option<Signature> {
        self.allow(|guard| guard.vote(vote))?;
        Some(self.key.sign(&vote.digest(&NETWORK)))
    }

    fn sign_proposal(&mut self, proposal: &Proposal) -> Option<Signature> {
        self.allow(|guard| guard.proposal(proposal))?;
        Some(self.key.sign(&proposal.digest(&NETWORK)))
    }
}

pub struct Node {
    pub liar: bool,
    pub up: bool,
    /// Goes up with every crash and every height, so that events of an earlier life are told.
    pub life: u64,
    pub core: Option<Core>,
    pub signer: KeyHolder,
    pub disk: Disk,
    pub unsynced: Vec<Journal>,
    /// Bodies in memory: those on disk and those on the way there.
    pub bodies: BTreeMap<Hash, Block>,
    /// Messages of the height that begins soon.
    pub early: Vec<Verified>,
    pub early_bodies: Vec<Block>,
    /// Goes up with every crash: sessions and requests of an earlier boot are over.
    pub boot: u64,
    pub sync: Option<Synchroniser>,
    /// Blocks of others that wait to be checked and committed, with who sent them.
    pub fetched: VecDeque<(usize, (Block, Certificate))>,
    /// From this height on it may take part; `None` while it may not.
    pub votes_from: Option<Height>,
}

impl Node {
    pub fn new(key: SecretKey, liar: bool, electorates: Electorates) -> Self {
        let guard = (!liar).then(VoteGuard::default);
        Self {
            liar,
            up: true,
            life: 0,
            core: None,
            signer: KeyHolder { key, guard, refuses: false, refused: 0 },
            disk: Disk::new(VoteRecord::Kept(Height::new(1)), electorates),
            unsynced: Vec::new(),
            bodies: BTreeMap::new(),
            early: Vec::new(),
            early_bodies: Vec::new(),
            boot: 0,
            sync: None,
            fetched: VecDeque::new(),
            votes_from: None,
        }
    }

    /// It takes part, and in the height that comes.
    pub fn votes(&self) -> bool {
        self.votes_from.is_some_and(|from| self.disk.height() >= from)
    }

    pub fn store_body(&mut self, block: Block) {
        if self.bodies.insert(block.hash(), block.clone()).is_none() {
            self.unsynced.push(Journal::Body(block));
        }
    }

    /// A body of this height, or of one that is decided.
    pub fn body(&self, hash: &Hash) -> Option<Block> {
        let decided = || self.disk.chain.iter().rev().map(|(block, _)| block).find(|block| block.hash() == *hash);
        self.bodies.get(hash).or_else(decided).cloned()
    }

    pub fn lose_chain(&mut self) {
        self.disk.lose_chain();
        self.bodies = self.disk.bodies.clone();
    }

    /// The height's log, synced or not.
    pub fn whole_log(&self) -> Vec<LogEntry> {
        let unsynced = self.unsynced.iter().filter_map(|record| match record {
            Journal::Entry(entry) => Some(entry),
            Journal::Body(_) => None,
        });
        self.disk.log.iter().chain(unsynced).cloned().collect()
    }

    pub fn sync(&mut self) {
        std::mem::take(&mut self.unsynced).into_iter().for_each(|record| self.disk.write(record));
    }

    /// Loses all that is in memory; of what was not synced the first `kept` records survive.
    pub fn crash(&mut self, kept: usize) {
        self.unsynced.truncate(kept);
        self.sync();
        self.bodies = self.disk.bodies.clone();
        self.core = None;
        self.up = false;
        self.life += 1;
        self.boot += 1;
        self.early.clear();
        self.early_bodies.clear();
        self.sync = None;
        self.fetched.clear();
        self.votes_from = None;
    }

    /// The signer comes back knowing what the log shows.
    pub fn restore_guard(&mut self, me: &Identity) {
        if self.liar {
            return;
        }
        let first = match self.disk.record {
            VoteRecord::Kept(from) => self.disk.height().max(from),
            // It signs nothing at all.
            VoteRecord::Lost => Height::new(u64::MAX),
        };
        let mut guard = VoteGuard::new(first);
        let kept = self.disk.kept.iter().flat_map(|kept| &kept.log);
        for entry in self.disk.log.iter().chain(kept) {
            let known = match entry {
                LogEntry::Vote(signed) if signed.voter == *me => guard.vote(&signed.vote),
                LogEntry::Proposal(signed) if signed.proposer == *me => guard.proposal(&signed.proposal),
                _ => Ok(()),
            };
            // A log that contradicts itself shows in the checker.
            drop(known);
        }
        self.signer.guard = Some(guard);
    }

    /// One durable write: the block with its certificate, and the end of the height's log.
    pub fn commit(&mut self, block: Block, certificate: Certificate) {
        self.disk.electorates.commit(&block.changes);
        self.disk.chain.push((block, certificate));
        self.disk.log.clear();
        self.disk.bodies.clear();
        self.bodies.clear();
        self.unsynced.clear();
        self.core = None;
        self.life += 1;
        self.disk.take_up();
        self.bodies = self.disk.bodies.clone();
        let height = self.disk.height();
        self.early.retain(|message| message.get().height() >= height);
        self.early_bodies.retain(|body| body.height >= height);
        if let Some(guard) = self.signer.guard.as_mut() {
            guard.advance(height);
        }
    }
}

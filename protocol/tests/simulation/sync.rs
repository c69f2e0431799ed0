//! The shell around a node's [`Synchroniser`]: sessions, what they carry, fetched blocks, disks that
//! are lost, and what liars make of it.

use std::time::Duration;

use minidlt_protocol::{
    consensus,
    sync::{Input, Output, Place, Settings, Synchroniser, TICK_EVERY, VoteRecord},
    types::{Hash, Height, Identity},
    vote::{Certificate, Voters},
};

use super::{
    checker::Violation,
    node::Disk,
    plan::Shell,
    world::{Block, Event, NETWORK, World, identity},
};

/// A block and what certifies it.
type Certified = (Block, Certificate);

/// What nodes say to each other besides votes.
#[derive(Clone)]
pub enum Said {
    Alive(Place),
    /// `known`: the last height whose voters the asker knows.
    Synchronise {
        at: Option<Height>,
        known: Height,
    },
    /// None of genesis; whether this is where it stands.
    Standing(Option<Certified>, bool),
    GetBlocks {
        from: Height,
        count: usize,
    },
    Blocks {
        from: Height,
        blocks: Vec<Certified>,
    },
}

/// Bytes that a block counts for, so that answers have some.
const BLOCK_BYTES: usize = 64 << 10;

/// How far a node can show its chain to one who knows the voters up to a height: as long as those are
/// the voters.
fn provable(disk: &Disk, known: Height) -> Height {
    let head = disk.place().height;
    let theirs = disk.electorates.at(known);
    let same = |at: &u64| disk.electorates.at(Height::new(*at)) == theirs;
    (known.get()..=head.get()).rev().find(same).map_or(head, Height::new)
}

impl World {
    /// A process starts: it knows its disk, and nobody.
    pub(super) fn boot(&mut self, node: usize) {
        let this = &self.nodes[node];
        let settings = Settings {
            me: identity(node),
            voters: (**self.voters(node)).clone(),
            coming: self.coming(node),
            policy: self.plan.policy,
            record: this.disk.record,
            head: this.disk.place(),
        };
        let this = &mut self.nodes[node];
        this.sync = Some(Synchroniser::new(settings));
        let boot = this.boot;
        self.after(0, Event::Tick { node, boot });
        self.sessions_change(node);
    }

    /// Those of the last height of which its chain tells who votes.
    fn coming(&self, node: usize) -> Voters {
        let known = &self.nodes[node].disk.electorates;
        known.at(known.last()).map(|voters| (**voters).clone()).expect("genesis tells two heights")
    }

    /// Whether two nodes can hear each other has changed, and each notices after a while.
    pub(super) fn sessions_change(&mut self, node: usize) {
        for peer in (0..self.plan.nodes).filter(|peer| *peer != node) {
            for (node, peer) in [(node, peer), (peer, node)] {
                let wait = self.rng.between(1, 50);
                self.after(wait, Event::Session { node, peer });
            }
        }
    }

    pub(super) fn on_session(&mut self, node: usize, peer: usize) {
        let stands = self.nodes[peer].up && (self.sides[node] == self.sides[peer] || !self.faulty());
        let input = if stands { Input::Connected(identity(peer)) } else { Input::Gone(identity(peer)) };
        self.synchronise(node, input);
    }

    pub(super) fn on_tick(&mut self, node: usize, boot: u64) {
        if self.nodes[node].boot != boot {
            return;
        }
        self.after(TICK_EVERY.as_millis() as u64, Event::Tick { node, boot });
        self.synchronise(node, Input::Tick);
    }

    /// A block is on this node's disk.
    pub(super) fn committed(&mut self, node: usize) {
        let place = self.nodes[node].disk.place();
        let (next, coming) = ((**self.voters(node)).clone(), self.coming(node));
        self.synchronise(node, Input::Voters { next, coming });
        self.synchronise(node, Input::Committed(place));
    }

    fn synchronise(&mut self, node: usize, input: Input) {
        let now = Duration::from_millis(self.now);
        let this = &mut self.nodes[node];
        let Some(sync) = this.sync.as_mut().filter(|_| this.up) else { return };
        let (outputs, boot) = (sync.step(now, input, &this.disk), this.boot);
        for output in outputs {
            if self.nodes[node].boot != boot {
                return;
            }
            self.carry_out(node, output);
        }
    }

    fn carry_out(&mut self, node: usize, output: Output) {
        match output {
            Output::SayAlive => {
                let place = self.nodes[node].disk.place();
                (0..self.plan.nodes).filter(|to| *to != node).for_each(|to| self.say(node, to, Said::Alive(place)));
            }
            Output::Synchronise { peer, at } => {
                let known = self.nodes[node].disk.electorates.last();
                self.say_to(node, &peer, Said::Synchronise { at, known });
            }
            Output::GetBlocks { peer, from, bytes } => {
                self.say_to(node, &peer, Said::GetBlocks { from, count: bytes / BLOCK_BYTES });
            }
            // The blocks are put in by who asked.
            Output::Accept | Output::Unasked => {}
            Output::DropAccepted => self.nodes[node].fetched.clear(),
            Output::Blame { .. } => self.report.blamed += 1,
            Output::VoteFrom(from) => {
                // On disk before anything is signed.
                self.nodes[node].disk.record = VoteRecord::Kept(from);
                self.nodes[node].restore_guard(&identity(node));
            }
            Output::TakePart(from) => {
                self.nodes[node].votes_from = Some(from);
                if self.nodes[node].core.is_none() {
                    self.begin(node);
                }
            }
            Output::SayAgain { healed } => {
                self.step(node, consensus::Input::SayAgain { healed });
            }
            Output::Fork { .. } if self.nodes[node].liar => {}
            Output::Fork { place, .. } => {
                self.checker.violations.push(Violation::Fork { height: place.height, blocks: [place.block; 2] });
            }
        }
        self.recovered(node);
    }

    fn say_to(&mut self, from: usize, peer: &Identity, said: Said) {
        if let Some(to) = (0..self.plan.nodes).find(|to| identity(*to) == *peer) {
            self.say(from, to, said);
        }
    }

    fn say(&mut self, from: usize, to: usize, said: Said) {
        let said = if self.nodes[from].liar { self.twist(from, said) } else { Some(said) };
        if let Some(said) = said {
            self.carry(from, to, |to| Event::Sync { from, to, said: said.clone() });
        }
    }

    pub(super) fn on_said(&mut self, from: usize, to: usize, said: Said) {
        let peer = identity(from);
        if !self.nodes[to].up {
            return;
        }
        match said {
            Said::Alive(place) => self.synchronise(to, Input::Claim { peer, place }),
            Said::Synchronise { at, known } => {
                let disk = &self.nodes[to].disk;
                let height = at.unwrap_or_else(|| provable(disk, known));
                let shown = height.previous().and_then(|at| disk.chain.get(at.get() as usize)).cloned();
                let whole = height == disk.place().height;
                self.say(to, from, Said::Standing(shown, whole));
            }
            Said::Standing(None, whole) => {
                let place = Place { height: Height::GENESIS, block: Hash::ZERO };
                self.synchronise(to, Input::Standing { peer, place, whole });
            }
            Said::Standing(Some((block, certificate)), whole) => {
                let place = Place { height: block.height, block: block.hash() };
                let named = (certificate.height, certificate.block) == (place.height, place.block);
                if named && self.certifies(to, &certificate) {
                    self.synchronise(to, Input::Standing { peer, place, whole });
                }
            }
            Said::GetBlocks { from: height, count } => {
                let chain = &self.nodes[to].disk.chain;
                let skipped = height.previous().map_or(0, |at| at.get() as usize);
                let blocks = chain.iter().skip(skipped).take(count.max(1)).cloned().collect();
                self.say(to, from, Said::Blocks { from: height, blocks });
            }
            Said::Blocks { from: height, blocks } => self.on_blocks(from, to, height, blocks),
        }
    }

    fn on_blocks(&mut self, from: usize, to: usize, height: Height, blocks: Vec<Certified>) {
        let (now, peer) = (Duration::from_millis(self.now), identity(from));
        let in_order = |(at, (block, _)): &(u64, Certified)| block.height.get() == height.get() + at;
        let blocks: Vec<_> = (0..).zip(blocks).take_while(in_order).map(|(_, block)| block).collect();
        let (count, bytes) = (blocks.len() as u64, blocks.len() * BLOCK_BYTES);
        let this = &mut self.nodes[to];
        let Some(sync) = this.sync.as_mut() else { return };
        let outputs = sync.step(now, Input::Answer { peer: peer.clone(), from: height, count, bytes }, &this.disk);
        let idle = this.fetched.is_empty();
        if outputs.contains(&Output::Accept) {
            this.fetched.extend(blocks.into_iter().map(|block| (from, block)));
        }
        outputs.into_iter().for_each(|output| self.carry_out(to, output));
        if idle {
            self.commit_fetched(to);
        }
    }

    /// Commits what was accepted, block by block, unless the node dies in between.
    fn commit_fetched(&mut self, node: usize) {
        let boot = self.nodes[node].boot;
        while self.nodes[node].boot == boot
            && let Some((from, (block, certificate))) = self.nodes[node].fetched.front().cloned()
        {
            let place = self.nodes[node].disk.place();
            if block.height <= place.height {
                self.nodes[node].fetched.pop_front();
                continue;
            }
            let named = (certificate.height, certificate.block) == (block.height, block.hash());
            let certified = named && self.certifies(node, &certificate);
            if certified && block.height == place.height.next() && block.previous == place.block {
                self.nodes[node].fetched.pop_front();
                self.report.caught_up += 1;
                self.commit(node, block, certificate);
            } else {
                let forked = certified && block.height == place.height.next();
                return self.synchronise(node, Input::Refused { peer: identity(from), forked });
            }
        }
    }

    // Liars and lost disks.

    /// What a liar says in place of this.
    fn twist(&mut self, node: usize, said: Said) -> Option<Said> {
        let junk = Block {
            height: Height::new(9),
            proposer: node,
            previous: NETWORK,
            nonce: self.rng.next(),
            good: false,
            changes: Vec::new(),
        };
        let far = Place { height: Height::new(self.rng.below(1_000)), block: junk.hash() };
        match (said, self.rng.below(4)) {
            (said, 0) => Some(said),
            (_, 1) => None,
            (Said::Alive(_), _) => Some(Said::Alive(far)),
            (Said::Standing(Some((mut block, certificate)), whole), 2) => {
                block.nonce ^= 1;
                Some(Said::Standing(Some((block, certificate)), whole))
            }
            (Said::Standing(..), _) => {
                let chain = &self.nodes[node].disk.chain;
                let old = (!chain.is_empty()).then(|| self.rng.pick(chain).clone());
                Some(Said::Standing(old, true))
            }
            (Said::Blocks { from, mut blocks }, 2) => {
                if let Some((block, _)) = blocks.last_mut() {
                    block.nonce ^= 1;
                }
                Some(Said::Blocks { from, blocks })
            }
            (Said::Blocks { from, .. }, _) => {
                // Of other heights than it says.
                let blocks = self.nodes[node].disk.chain.iter().take(3).cloned().collect();
                Some(Said::Blocks { from, blocks })
            }
            (said, _) => Some(said),
        }
    }

    /// One honest node loses its chain, or all its disk, with all it knew of its votes.
    pub(super) fn wipe(&mut self) {
        if !self.faulty() || self.wipes >= self.plan.wipes {
            return;
        }
        let wait = self.rng.between(300, 1_500);
        self.after(wait, Event::Wipe);
        let node = self.plan.liars + self.rng.below((self.plan.nodes - self.plan.liars) as u64) as usize;
        if self.recovering.is_some() || !self.nodes[node].up {
            return;
        }
        self.wipes += 1;
        self.recovering = Some(node);
        self.crash(node);
        if self.plan.keeps_log {
            self.report.lost_chains += 1;
            return self.nodes[node].lose_chain();
        }
        let trusts = self.plan.shell == Shell::TrustsEmptyDisk;
        let record = if trusts { VoteRecord::Kept(Height::new(1)) } else { VoteRecord::Lost };
        self.nodes[node].disk = self.nodes[node].disk.emptied(record);
        self.nodes[node].bodies.clear();
    }

    fn recovered(&mut self, node: usize) {
        if self.recovering == Some(node) && self.nodes[node].votes() {
            self.recovering = None;
            self.report.wiped += 1;
        }
    }
}

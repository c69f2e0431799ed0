//! The world: virtual time, what is to happen in it and in which order, and the figures of a run.

use std::collections::BTreeMap;

use minidlt_protocol::{
    codec,
    consensus::{Input, Timer, Verified},
    crypto::{Domain, SecretKey, digest},
    types::{Hash, Height, Identity, Round},
};

use super::{
    checker::{Checker, Violation},
    node::Node,
    plan::Plan,
    rng::Rng,
    sync::Said,
    voters::{Change, Electorates, Members},
};

pub const NETWORK: Hash = Hash::from_bytes([7; 32]);
/// Milliseconds after the faults within which the promised heights must follow.
const PATIENCE: u64 = 120_000;

/// A node's first key.
pub fn key(node: usize) -> SecretKey {
    key_of(node, 0)
}

/// A node's key after it has changed it so often.
pub fn key_of(node: usize, changed: u32) -> SecretKey {
    let mut bytes = [node as u8 + 1; 32];
    bytes[31] = changed as u8 + 1;
    SecretKey::from_bytes(&bytes).unwrap()
}

pub fn identity(node: usize) -> Identity {
    format!("node{node:02}@Org").parse().unwrap()
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    pub height: Height,
    pub proposer: usize,
    pub previous: Hash,
    pub nonce: u64,
    pub good: bool,
    pub changes: Vec<Change>,
}

impl Block {
    pub fn hash(&self) -> Hash {
        let said = (self.height, self.proposer as u64, self.previous, self.nonce, self.good, &self.changes);
        digest(Domain::Block, &NETWORK, &[&codec::encode(&said)])
    }
}

pub(super) enum Event {
    Message {
        to: usize,
        message: Verified,
    },
    Body {
        to: usize,
        block: Block,
    },
    Ask {
        from: usize,
        of: usize,
        block: Hash,
    },
    Fire {
        node: usize,
        life: u64,
        timer: Timer,
    },
    Built {
        node: usize,
        life: u64,
        round: Round,
    },
    Checked {
        node: usize,
        life: u64,
        block: Hash,
    },
    Begin {
        node: usize,
        life: u64,
    },
    Restart {
        node: usize,
    },
    Tick {
        node: usize,
        boot: u64,
    },
    /// A session between two nodes is noticed to stand, or to be gone.
    Session {
        node: usize,
        peer: usize,
    },
    Sync {
        from: usize,
        to: usize,
        said: Said,
    },
    Wipe,
    Partition,
    SpellBegins,
    SpellEnds,
}

/// The figures of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub violations: Vec<Violation>,
    pub heights: usize,
    pub last_round: u32,
    pub crashes: u64,
    pub sent: u64,
    pub refused_inputs: u64,
    pub rejected_messages: u64,
    pub abstentions: u64,
    pub accusations: u64,
    pub caught_up: u64,
    /// Faults of responders, and nodes that lost their disks and vote again.
    pub blamed: u64,
    pub wiped: u64,
    /// Times that a node lost its chain, but not the log of its votes.
    pub lost_chains: u64,
    /// Milliseconds from the end of all faults to the first commit after it.
    pub healed_in: u64,
    pub replays: u64,
    /// Messages of heights whose voters their receiver did not know yet.
    pub unknown_voters: u64,
    /// Blocks that changed the voters.
    pub changed: usize,
    pub ended_at: u64,
    /// A digest of all that happened, in order.
    pub trace: u64,
}

pub struct World {
    pub(super) plan: Plan,
    pub(super) rng: Rng,
    pub(super) now: u64,
    pub(super) next: u64,
    queue: BTreeMap<(u64, u64), Event>,
    pub(super) nodes: Vec<Node>,
    /// What was found of messages and certificates.
    pub(super) checked: BTreeMap<Vec<u8>, Option<Verified>>,
    pub(super) certified: BTreeMap<(Vec<u8>, Members), bool>,
    pub(super) checker: Checker,
    pub(super) report: Report,
    /// The alarms that are set, for a timer set again replaces the earlier one.
    pub(super) alarms: BTreeMap<(usize, Timer), u64>,
    /// Which side each node is on.
    pub(super) sides: Vec<bool>,
    /// The node that lost its disk and does not vote again yet.
    pub(super) recovering: Option<usize>,
    pub(super) wipes: u64,
    pub(super) nonce: u64,
    pub(super) decided_in_spell: u64,
}

pub fn run(plan: Plan) -> Report {
    let mut world = World::new(plan);
    world.run();
    world.finish()
}

impl World {
    fn new(plan: Plan) -> Self {
        let first: Members = (0..plan.first_voters).map(|node| (node, 0)).collect();
        let electorates = Electorates::new(plan.mode, first.clone());
        let nodes = (0..plan.nodes).map(|i| Node::new(key(i), i < plan.liars, electorates.clone())).collect();
        Self {
            rng: Rng::new(plan.seed),
            now: 0,
            next: 0,
            queue: BTreeMap::new(),
            nodes,
            checker: Checker::new(NETWORK, plan.mode, first),
            checked: BTreeMap::new(),
            certified: BTreeMap::new(),
            report: Report::default(),
            alarms: BTreeMap::new(),
            sides: vec![false; plan.nodes],
            recovering: None,
            wipes: 0,
            nonce: 100,
            decided_in_spell: 0,
            plan,
        }
    }

    fn run(&mut self) {
        for node in 0..self.plan.nodes {
            let wait = self.rng.below(20);
            self.after(wait, Event::Restart { node });
            self.nodes[node].up = false;
        }
        if self.plan.wipes > 0 {
            self.after(1_500, Event::Wipe);
        }
        if self.plan.partitions {
            self.after(500, Event::Partition);
        }
        if let Some(spell) = self.plan.spell {
            self.after(spell.from, Event::SpellBegins);
            self.after(spell.until, Event::SpellEnds);
        }
        let calm_from = self.plan.faults_until.max(self.plan.spell.map_or(0, |spell| spell.until));
        let mut goal = None;
        while let Some(((time, _), event)) = self.queue.pop_first() {
            self.now = time;
            if time > calm_from {
                if goal.is_none() && self.lowest() < self.plan.heights_amid {
                    self.stuck();
                }
                let goal = *goal.get_or_insert_with(|| self.highest() + self.plan.heights_after);
                if self.report.healed_in == 0 && self.highest() + self.plan.heights_after > goal {
                    self.report.healed_in = time - calm_from;
                }
                if self.lowest() >= goal || self.plan.heights_after == 0 {
                    break;
                }
                if time > calm_from + PATIENCE {
                    self.stuck();
                    break;
                }
            }
            self.handle(event);
        }
    }

    fn stuck(&mut self) {
        let heights = self.nodes.iter().map(|node| node.disk.height().get() - 1).collect();
        self.checker.violations.push(Violation::Stuck { heights });
    }

    fn finish(mut self) -> Report {
        self.report.heights = self.checker.heights();
        self.report.abstentions = self.nodes.iter().map(|node| node.signer.refused).sum();
        self.report.changed = self.nodes.iter().map(|node| node.disk.electorates.changed()).max().unwrap_or(0);
        self.report.ended_at = self.now;
        self.report.violations = self.checker.violations;
        self.report
    }

    fn honest_heights(&self) -> impl Iterator<Item = u64> + '_ {
        self.nodes.iter().filter(|node| !node.liar).map(|node| node.disk.height().get() - 1)
    }

    fn highest(&self) -> u64 {
        self.honest_heights().max().unwrap_or(0)
    }

    fn lowest(&self) -> u64 {
        self.honest_heights().min().unwrap_or(0)
    }

    pub(super) fn faulty(&self) -> bool {
        self.now < self.plan.faults_until
    }

    pub(super) fn after(&mut self, wait: u64, event: Event) {
        self.next += 1;
        self.queue.insert((self.now + wait, self.next), event);
    }

    fn trace(&mut self, what: u64) {
        self.report.trace = (self.report.trace ^ what).wrapping_mul(0x0000_0100_0000_01b3);
    }

    pub(super) fn alive(&self, node: usize, life: u64) -> bool {
        self.nodes[node].up && self.nodes[node].life == life
    }

    fn handle(&mut self, event: Event) {
        let now = self.now;
        self.trace(now);
        match event {
            Event::Message { to, message } => self.on_message(to, message),
            Event::Body { to, block } => self.on_body(to, block),
            Event::Ask { from, of, block } => {
                if let Some(block) = self.nodes[of].body(&block).filter(|_| self.nodes[of].up) {
                    self.carry(of, from, |to| Event::Body { to, block: block.clone() });
                }
            }
            Event::Fire { node, life, timer } => {
                if self.alive(node, life) && self.alarms.get(&(node, timer)) == Some(&self.now) {
                    self.alarms.remove(&(node, timer));
                    self.step(node, Input::Timeout(timer));
                }
            }
            Event::Built { node, life, round } => self.on_built(node, life, round),
            Event::Checked { node, life, block } => self.on_checked(node, life, block),
            Event::Begin { node, life } => {
                if self.alive(node, life) && self.nodes[node].core.is_none() {
                    self.begin(node);
                }
            }
            Event::Restart { node } => self.restart(node),
            Event::Tick { node, boot } => self.on_tick(node, boot),
            Event::Session { node, peer } => self.on_session(node, peer),
            Event::Sync { from, to, said } => self.on_said(from, to, said),
            Event::Wipe => self.wipe(),
            Event::Partition => self.partition(),
            Event::SpellBegins => self.spell_begins(),
            Event::SpellEnds => self.spell_ends(),
        }
    }
}

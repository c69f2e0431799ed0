//! The world: virtual time, a network that loses and repeats, disks, and the shell's rules.

use std::collections::BTreeMap;

use minidlt_protocol::{
    codec,
    consensus::{Core, Fault, Input, Output, Settings, Timeouts, Timer, Verified, Wire},
    crypto::{Domain, SecretKey, digest},
    types::{Hash, Height, Identity, Round},
    vote::{Certificate, Voter, Voters},
};

use super::{
    checker::{Checker, Violation},
    liar,
    node::{Journal, KeyHolder, Node},
    plan::{Plan, Shell, SpellKind},
    rng::Rng,
    sync::Said,
};

pub const NETWORK: Hash = Hash::from_bytes([7; 32]);
/// How often a core is compared with one made from its log.
const COMPARE_EVERY: u64 = 8;
/// Milliseconds after the faults within which the promised heights must follow.
const PATIENCE: u64 = 120_000;
/// How many messages are known before all are forgotten.
const CHECKED_MESSAGES: usize = 2_000;

pub fn key(node: usize) -> SecretKey {
    SecretKey::from_bytes(&[node as u8 + 1; 32]).unwrap()
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
}

impl Block {
    pub fn hash(&self) -> Hash {
        let said = (self.height, self.proposer as u64, self.previous, self.nonce, self.good);
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
    pub ended_at: u64,
    /// A digest of all that happened, in order.
    pub trace: u64,
}

pub struct World {
    pub(super) plan: Plan,
    pub(super) rng: Rng,
    pub(super) now: u64,
    next: u64,
    queue: BTreeMap<(u64, u64), Event>,
    pub(super) nodes: Vec<Node>,
    pub(super) voters: Voters,
    /// What was found of messages and certificates.
    checked: BTreeMap<Vec<u8>, Option<Verified>>,
    certified: BTreeMap<Vec<u8>, bool>,
    pub(super) checker: Checker,
    pub(super) report: Report,
    /// The alarms that are set, for a timer set again replaces the earlier one.
    alarms: BTreeMap<(usize, Timer), u64>,
    /// Which side each node is on.
    pub(super) sides: Vec<bool>,
    /// The node that lost its disk and does not vote again yet.
    pub(super) recovering: Option<usize>,
    pub(super) wipes: u64,
    nonce: u64,
    decided_in_spell: u64,
}

pub fn run(plan: Plan) -> Report {
    let mut world = World::new(plan);
    world.run();
    world.finish()
}

impl World {
    fn new(plan: Plan) -> Self {
        let all = (0..plan.nodes).map(|i| Voter { identity: identity(i), key: key(i).public_key() }).collect();
        let voters = Voters::new(plan.mode, all);
        let nodes = (0..plan.nodes).map(|i| Node::new(key(i), i < plan.liars)).collect();
        Self {
            rng: Rng::new(plan.seed),
            now: 0,
            next: 0,
            queue: BTreeMap::new(),
            nodes,
            checker: Checker::new(NETWORK, voters.clone()),
            voters,
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
            Event::Partition => {
                let split = self.faulty() && self.rng.chance(500);
                for node in 0..self.plan.nodes {
                    self.sides[node] = split && self.rng.chance(500);
                }
                (0..self.plan.nodes).for_each(|node| self.sessions_change(node));
                if self.faulty() {
                    self.after(700, Event::Partition);
                }
            }
            Event::SpellBegins => self.spell_begins(),
            Event::SpellEnds => self.spell_ends(),
        }
    }

    // The shell.

    fn settings(&self, node: usize) -> Settings {
        let timeouts = Timeouts {
            propose: ms(300),
            propose_more: ms(100),
            prevote: ms(100),
            prevote_more: ms(50),
            precommit: ms(100),
            precommit_more: ms(50),
            rebroadcast: ms(400),
            most: ms(5_000),
        };
        let height = self.nodes[node].disk.height();
        Settings { me: identity(node), voters: self.voters.clone(), height, timeouts }
    }

    /// Begins the height, if this node takes part in it.
    pub(super) fn begin(&mut self, node: usize) {
        if !self.nodes[node].votes() {
            return;
        }
        let settings = self.settings(node);
        let this = &mut self.nodes[node];
        let (core, outputs) = Core::start(settings, this.disk.log.clone(), &mut this.signer).unwrap();
        this.core = Some(core);
        self.obey(node, outputs);
        let life = self.nodes[node].life;
        for block in std::mem::take(&mut self.nodes[node].early_bodies) {
            self.on_body(node, block);
        }
        for message in std::mem::take(&mut self.nodes[node].early) {
            if self.alive(node, life) {
                self.step(node, Input::Message(message));
            }
        }
    }

    pub(super) fn step(&mut self, node: usize, input: Input) {
        let this = &mut self.nodes[node];
        let Some(core) = this.core.as_mut() else { return };
        let outputs = core.step(input, &mut this.signer);
        let round = core.status().round.get();
        self.report.last_round = self.report.last_round.max(round);
        let life = self.nodes[node].life;
        self.obey(node, outputs);
        if self.alive(node, life) && self.next.is_multiple_of(COMPARE_EVERY) {
            self.compare_with_replay(node);
        }
    }

    /// A core made from the log must stand where the one that wrote the log stands.
    fn compare_with_replay(&mut self, node: usize) {
        let this = &self.nodes[node];
        let Some(core) = this.core.as_ref().filter(|_| self.plan.shell == Shell::Correct) else { return };
        let (status, log) = (core.status(), this.whole_log());
        let settings = self.settings(node);
        let mut nobody = KeyHolder { key: key(node), guard: None, refuses: true, refused: 0 };
        let (again, _) = Core::start(settings, log.clone(), &mut nobody).unwrap();
        if again.status() != status {
            let (lived, replayed) = (Box::new(status), Box::new(again.status()));
            if std::env::var("MINIDLT_SEED").is_ok() {
                println!("log of node {node}: {log:#?}");
            }
            self.checker.violations.push(Violation::Replay { node, lived, replayed });
        }
        self.report.replays += 1;
    }

    /// Does what the core said, in order, unless the node dies in the middle of it.
    fn obey(&mut self, node: usize, outputs: Vec<Output>) {
        let life = self.nodes[node].life;
        for output in outputs {
            // It may have died over the one before.
            if self.nodes[node].life != life {
                return;
            }
            if !self.nodes[node].liar && self.faulty() && self.rng.chance(self.plan.crash_permille) {
                return self.crash(node);
            }
            match output {
                Output::Log(entry) => self.nodes[node].unsynced.push(Journal::Entry(entry)),
                Output::Broadcast(message) => self.broadcast(node, message),
                Output::SendBody { block, .. } => self.send_body(node, block),
                Output::Schedule(timer, wait) => {
                    let wait = wait.as_millis() as u64;
                    self.alarms.insert((node, timer), self.now + wait);
                    self.after(wait, Event::Fire { node, life, timer });
                }
                Output::Cancel(timer) => {
                    self.alarms.remove(&(node, timer));
                }
                Output::CancelAll => self.alarms.retain(|(of, _), _| *of != node),
                Output::NeedBlock { round } => {
                    let wait = self.rng.between(1, 30);
                    self.after(wait, Event::Built { node, life, round });
                }
                Output::NeedBody { proposer, block, .. } => self.find_body(node, life, &proposer, block),
                Output::Decided(certificate) => self.decided(node, certificate),
                Output::Equivocation(_) => self.report.accusations += 1,
                Output::Refused(_) => self.report.refused_inputs += 1,
                Output::Fault(fault) => self.on_fault(node, fault),
            }
        }
    }

    fn on_fault(&mut self, node: usize, fault: Fault) {
        let expected = matches!(fault, Fault::VoteNotSigned { .. } | Fault::ProposalNotSigned(_));
        if !expected && !self.nodes[node].liar && self.plan.shell == Shell::Correct {
            self.checker.violations.push(Violation::Fault { node, fault: fault.to_string() });
        }
    }

    fn broadcast(&mut self, node: usize, message: Wire) {
        if self.nodes[node].liar {
            return self.lie(node, &message);
        }
        if self.plan.shell != Shell::SkipsSync {
            self.nodes[node].sync();
            if self.faulty() && self.rng.chance(self.plan.crash_permille) {
                return self.crash(node);
            }
        }
        self.checker.sent(node, &message);
        let Some(message) = self.verified(&message) else {
            return self.checker.violations.push(Violation::Unsigned { node });
        };
        for to in (0..self.plan.nodes).filter(|to| *to != node) {
            self.carry(node, to, |to| Event::Message { to, message: message.clone() });
        }
    }

    /// As its receivers find it. Each message is checked once, however often and to whomever it is sent:
    /// the simulation would otherwise do nothing else.
    fn verified(&mut self, message: &Wire) -> Option<Verified> {
        let bytes = codec::encode(message);
        if self.checked.len() > CHECKED_MESSAGES {
            self.checked.clear();
        }
        let voters = &self.voters;
        let check = |bytes: &[u8]| {
            let message: Wire = codec::decode_canonical(bytes, 1 << 20).expect("what is sent can be read");
            message.verify(&NETWORK, voters).ok()
        };
        self.checked.entry(bytes).or_insert_with_key(|bytes| check(bytes)).clone()
    }

    /// As above, for certificates.
    pub(super) fn certifies(&mut self, certificate: &Certificate) -> bool {
        let bytes = codec::encode(certificate);
        if self.certified.len() > CHECKED_MESSAGES {
            self.certified.clear();
        }
        let voters = &self.voters;
        *self.certified.entry(bytes).or_insert_with(|| certificate.verify(&NETWORK, voters).is_ok())
    }

    fn send_body(&mut self, node: usize, block: Hash) {
        if !self.nodes[node].liar && self.plan.shell != Shell::SkipsSync {
            self.nodes[node].sync();
        }
        let body = self.nodes[node].bodies.get(&block).cloned();
        for to in (0..self.plan.nodes).filter(|to| *to != node) {
            if let Some(block) = body.clone() {
                self.carry(node, to, |to| Event::Body { to, block: block.clone() });
            }
        }
    }

    fn decided(&mut self, node: usize, certificate: Certificate) {
        let height = certificate.height;
        match self.nodes[node].bodies.get(&certificate.block).cloned() {
            Some(block) => self.commit(node, block, certificate),
            None if self.nodes[node].liar => {}
            None => self.checker.violations.push(Violation::MissingBody { height, node }),
        }
    }

    pub(super) fn commit(&mut self, node: usize, block: Block, certificate: Certificate) {
        let previous = self.nodes[node].disk.head();
        if !self.nodes[node].liar {
            self.checker.committed(node, previous, &block, &certificate);
        }
        self.nodes[node].commit(block, certificate);
        self.alarms.retain(|(of, _), _| *of != node);
        let (life, wait) = (self.nodes[node].life, self.rng.between(1, 60));
        self.after(wait, Event::Begin { node, life });
        self.committed(node);
        if let Some(spell) = self.plan.spell
            && self.now > spell.from + 1_000
            && self.now < spell.until
        {
            self.decided_in_spell += 1;
            if self.plan.mode == minidlt_protocol::vote::ConsensusMode::FullConsent && node != spell.node {
                self.checker.violations.push(Violation::DecidedWithout { node: spell.node, at: self.now });
            }
        }
    }

    fn on_message(&mut self, to: usize, message: Verified) {
        let this = &mut self.nodes[to];
        let (current, height) = (this.disk.height(), message.get().height());
        if !this.up {
            return;
        }
        let soon = height == current && this.core.is_none() || height == current.next();
        if soon && this.early.len() < 500 {
            this.early.push(message);
        } else {
            self.step(to, Input::Message(message));
        }
    }

    fn on_body(&mut self, to: usize, block: Block) {
        let this = &mut self.nodes[to];
        if this.up && block.height == this.disk.height().next() && this.early_bodies.len() < 50 {
            this.early_bodies.push(block);
        } else if this.up && block.height == this.disk.height() {
            let (hash, life) = (block.hash(), this.life);
            this.store_body(block);
            self.after(1, Event::Checked { node: to, life, block: hash });
        }
    }

    fn find_body(&mut self, node: usize, life: u64, proposer: &Identity, block: Hash) {
        if self.nodes[node].bodies.contains_key(&block) {
            return self.after(1, Event::Checked { node, life, block });
        }
        let others: Vec<_> = (0..self.plan.nodes).filter(|of| *of != node).collect();
        let proposer = others.iter().copied().find(|of| identity(*of) == *proposer);
        let of = proposer
            .filter(|_| self.rng.chance(500))
            .or_else(|| others.get(self.rng.below(others.len().max(1) as u64) as usize).copied());
        if let Some(of) = of {
            self.carry(node, of, |of| Event::Ask { from: node, of, block });
        }
    }

    fn on_checked(&mut self, node: usize, life: u64, block: Hash) {
        if !self.alive(node, life) {
            return;
        }
        let this = &self.nodes[node];
        let objects = self.spelled(node, SpellKind::Objects);
        if let Some(body) = this.bodies.get(&block) {
            let fits = body.height == this.disk.height() && body.previous == this.disk.head();
            let valid = fits && body.good && !objects;
            self.step(node, Input::Body { block, valid });
        }
    }

    fn on_built(&mut self, node: usize, life: u64, round: Round) {
        if !self.alive(node, life) {
            return;
        }
        self.nonce += 1;
        if self.spelled(node, SpellKind::Objects) {
            return;
        }
        let this = &mut self.nodes[node];
        let (height, previous) = (this.disk.height(), this.disk.head());
        let block = Block { height, proposer: node, previous, nonce: self.nonce, good: true };
        let hash = block.hash();
        this.store_body(block);
        self.step(node, Input::Built { round, block: hash });
    }

    // What goes wrong.

    pub(super) fn carry(&mut self, from: usize, to: usize, event: impl Fn(usize) -> Event) {
        self.report.sent += 1;
        let lost = self.faulty() && (self.rng.chance(self.plan.drop_permille) || self.sides[from] != self.sides[to]);
        if lost {
            return;
        }
        let copies = 1 + u64::from(self.faulty() && self.rng.chance(self.plan.repeat_permille));
        for _ in 0..copies {
            let most = if self.faulty() { self.plan.most_delay } else { 20 };
            let wait = self.rng.between(1, most);
            self.after(wait, event(to));
        }
    }

    pub(super) fn crash(&mut self, node: usize) {
        let kept = self.rng.below(self.nodes[node].unsynced.len() as u64 + 1) as usize;
        self.nodes[node].crash(kept);
        self.report.crashes += 1;
        self.alarms.retain(|(of, _), _| *of != node);
        self.sessions_change(node);
        let wait = self.rng.between(10, 800);
        self.after(wait, Event::Restart { node });
    }

    fn restart(&mut self, node: usize) {
        if self.nodes[node].up || self.spelled(node, SpellKind::Absent) {
            return;
        }
        let this = &mut self.nodes[node];
        this.up = true;
        if matches!(self.plan.shell, Shell::ForgetsAll | Shell::ForgetsLog) {
            this.disk.log.clear();
        }
        if self.plan.shell != Shell::ForgetsLog {
            this.restore_guard(&identity(node));
        }
        self.boot(node);
    }

    fn lie(&mut self, node: usize, honest: &Wire) {
        let (key, me) = (key(node), identity(node));
        let known: Vec<_> = self.nodes[node].bodies.keys().copied().collect();
        let head = self.nodes[node].disk.head();
        for to in (0..self.plan.nodes).filter(|to| *to != node) {
            let status = self.nodes[to].core.as_ref().map(Core::status);
            let status = status.filter(|status| status.round == honest.round());
            let prevoted = status.and_then(|status| status.prevotes.get(&identity(to)).copied().flatten());
            let peer = liar::Peer { to, prevoted };
            let (message, body) = liar::twist(&mut self.rng, node, &peer, honest, &known, head);
            let junk = liar::junk(&mut self.rng, &key, &me, honest.height(), honest.round(), &known);
            let junk = self.rng.chance(300).then_some(junk);
            if let Some(block) = body {
                self.nodes[node].bodies.insert(block.hash(), block.clone());
                self.carry(node, to, |to| Event::Body { to, block: block.clone() });
            }
            for message in message.into_iter().chain(junk) {
                match self.verified(&message) {
                    Some(message) => self.carry(node, to, |to| Event::Message { to, message: message.clone() }),
                    None => self.report.rejected_messages += 1,
                }
            }
        }
    }

    fn spelled(&self, node: usize, kind: SpellKind) -> bool {
        self.plan.spell.is_some_and(|spell| {
            spell.node == node && spell.kind == kind && (spell.from..spell.until).contains(&self.now)
        })
    }

    fn spell_begins(&mut self) {
        let Some(spell) = self.plan.spell else { return };
        match spell.kind {
            SpellKind::Absent => self.crash(spell.node),
            SpellKind::SignerRefuses => self.nodes[spell.node].signer.refuses = true,
            SpellKind::Objects => {}
        }
    }

    fn spell_ends(&mut self) {
        let Some(spell) = self.plan.spell else { return };
        self.nodes[spell.node].signer.refuses = false;
        self.after(1, Event::Restart { node: spell.node });
    }
}

fn ms(millis: u64) -> std::time::Duration {
    std::time::Duration::from_millis(millis)
}

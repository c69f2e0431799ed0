//! The rules of the shell around a core: what it does with each output, and how blocks and messages get to
//! the core.

use std::sync::Arc;

use minidlt_protocol::{
    codec,
    consensus::{Core, Fault, Input, Output, Settings, Timeouts, Verified, Wire},
    types::{Hash, Height, Identity, Round},
    vote::{Certificate, ConsensusMode, Voters},
};

use super::{
    checker::Violation,
    node::{Journal, KeyHolder},
    plan::{Shell, SpellKind},
    world::{Block, Event, NETWORK, World, identity, key, key_of},
};

/// How often a core is compared with one made from its log.
const COMPARE_EVERY: u64 = 8;
/// How many messages are known before all are forgotten.
const CHECKED_MESSAGES: usize = 2_000;

impl World {
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
        Settings { me: identity(node), voters: (**self.voters(node)).clone(), height, timeouts }
    }

    /// Those of the height that a node is at.
    pub(super) fn voters(&self, node: usize) -> &Arc<Voters> {
        self.nodes[node].disk.electorates.at(self.of(node)).expect("a chain tells who votes next")
    }

    /// The height whose voters a node takes for those of the height it is at.
    fn of(&self, node: usize) -> Height {
        if self.plan.shell == Shell::KeepsFirstVoters { Height::new(1) } else { self.nodes[node].disk.height() }
    }

    /// Begins the height, if this node takes part in it, with the key it votes with there.
    pub(super) fn begin(&mut self, node: usize) {
        let disk = &self.nodes[node].disk;
        let changed = disk.electorates.members(self.of(node)).and_then(|members| members.get(&node).copied());
        let Some(changed) = changed.filter(|_| self.nodes[node].votes()) else { return };
        self.nodes[node].signer.key = key_of(node, changed);
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
        let Some(message) = self.verified(node, &message) else {
            return self.checker.violations.push(Violation::Unsigned { node });
        };
        for to in (0..self.plan.nodes).filter(|to| *to != node) {
            self.carry(node, to, |to| Event::Message { to, message: message.clone() });
        }
    }

    /// As those find it who know as much of the voters as this node. Each message is checked once, however
    /// often and to whomever it is sent: the simulation would otherwise do nothing else.
    pub(super) fn verified(&mut self, node: usize, message: &Wire) -> Option<Verified> {
        let bytes = codec::encode(message);
        if self.checked.len() > CHECKED_MESSAGES {
            self.checked.clear();
        }
        let voters = self.nodes[node].disk.electorates.at(message.height())?;
        let check = |bytes: &[u8]| {
            let message: Wire = codec::decode_canonical(bytes, 1 << 20).expect("what is sent can be read");
            message.verify(&NETWORK, voters).ok()
        };
        self.checked.entry(bytes).or_insert_with_key(|bytes| check(bytes)).clone()
    }

    /// As above, for certificates. Further ahead than a node knows the voters it takes the last it knows for
    /// those of that height: enough to ask for the blocks before it, each of which is checked in its turn.
    pub(super) fn certifies(&mut self, node: usize, certificate: &Certificate) -> bool {
        let bytes = codec::encode(certificate);
        if self.certified.len() > CHECKED_MESSAGES {
            self.certified.clear();
        }
        let known = &self.nodes[node].disk.electorates;
        let height = certificate.height.min(known.last());
        let (Some(members), Some(voters)) = (known.members(height), known.at(height)) else { return false };
        let holds = || certificate.verify(&NETWORK, voters).is_ok();
        *self.certified.entry((bytes, members.clone())).or_insert_with(holds)
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
            let voters = self.voters(node).clone();
            self.checker.committed(node, previous, &block, &certificate, &voters);
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
            if self.plan.mode == ConsensusMode::FullConsent && node != spell.node {
                self.checker.violations.push(Violation::DecidedWithout { node: spell.node, at: self.now });
            }
        }
    }

    pub(super) fn on_message(&mut self, to: usize, message: Verified) {
        let this = &mut self.nodes[to];
        let (current, height) = (this.disk.height(), message.get().height());
        if !this.up {
            return;
        }
        if this.disk.electorates.at(height).is_none() {
            // Nobody can tell yet whether it is a voter's.
            self.report.unknown_voters += 1;
            return;
        }
        let soon = height == current && this.core.is_none() || height == current.next();
        if soon && this.early.len() < 500 {
            this.early.push(message);
        } else {
            self.step(to, Input::Message(message));
        }
    }

    pub(super) fn on_body(&mut self, to: usize, block: Block) {
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

    pub(super) fn on_checked(&mut self, node: usize, life: u64, block: Hash) {
        if !self.alive(node, life) {
            return;
        }
        let this = &self.nodes[node];
        let objects = self.spelled(node, SpellKind::Objects);
        if let Some(body) = this.bodies.get(&block) {
            let fits = body.height == this.disk.height() && body.previous == this.disk.head();
            let due = self.plan.changes.get(this.disk.electorates.changed());
            let valid = fits && body.good && !objects && (body.changes.is_empty() || due == Some(&body.changes));
            self.step(node, Input::Body { block, valid });
        }
    }

    pub(super) fn on_built(&mut self, node: usize, life: u64, round: Round) {
        if !self.alive(node, life) {
            return;
        }
        self.nonce += 1;
        if self.spelled(node, SpellKind::Objects) {
            return;
        }
        let this = &mut self.nodes[node];
        let (height, previous) = (this.disk.height(), this.disk.head());
        let due = self.plan.changes.get(this.disk.electorates.changed());
        let changes = due.filter(|_| self.rng.chance(500)).cloned().unwrap_or_default();
        let block = Block { height, proposer: node, previous, nonce: self.nonce, good: true, changes };
        let hash = block.hash();
        this.store_body(block);
        self.step(node, Input::Built { round, block: hash });
    }
}

fn ms(millis: u64) -> std::time::Duration {
    std::time::Duration::from_millis(millis)
}

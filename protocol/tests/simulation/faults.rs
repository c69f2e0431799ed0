//! What goes wrong: a network that loses, repeats and parts, nodes that crash, lie, or behave unlike the
//! others for a while.

use minidlt_protocol::consensus::{Core, Wire};

use super::{
    liar,
    plan::{Shell, SpellKind},
    world::{Event, World, identity, key},
};

impl World {
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

    /// Splits the nodes in two, or joins them.
    pub(super) fn partition(&mut self) {
        let split = self.faulty() && self.rng.chance(500);
        for node in 0..self.plan.nodes {
            self.sides[node] = split && self.rng.chance(500);
        }
        (0..self.plan.nodes).for_each(|node| self.sessions_change(node));
        if self.faulty() {
            self.after(700, Event::Partition);
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

    pub(super) fn restart(&mut self, node: usize) {
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

    pub(super) fn lie(&mut self, node: usize, honest: &Wire) {
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
                match self.verified(node, &message) {
                    Some(message) => self.carry(node, to, |to| Event::Message { to, message: message.clone() }),
                    None => self.report.rejected_messages += 1,
                }
            }
        }
    }

    pub(super) fn spelled(&self, node: usize, kind: SpellKind) -> bool {
        self.plan.spell.is_some_and(|spell| {
            spell.node == node && spell.kind == kind && (spell.from..spell.until).contains(&self.now)
        })
    }

    pub(super) fn spell_begins(&mut self) {
        let Some(spell) = self.plan.spell else { return };
        match spell.kind {
            SpellKind::Absent => self.crash(spell.node),
            SpellKind::SignerRefuses => self.nodes[spell.node].signer.refuses = true,
            SpellKind::Objects => {}
        }
    }

    pub(super) fn spell_ends(&mut self) {
        let Some(spell) = self.plan.spell else { return };
        self.nodes[spell.node].signer.refuses = false;
        self.after(1, Event::Restart { node: spell.node });
    }
}

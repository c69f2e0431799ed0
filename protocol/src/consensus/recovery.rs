//! How a core comes back from its log, and how it gets over lost messages.
//!
//! Both come to the same: say again what was said in the current round, and ask again for what is
//! missing. Saying the same twice is safe.

use std::collections::BTreeMap;

use super::{
    api::{LogEntry, Output, Signer},
    convert,
    core::Core,
    engine::EngineInput,
    wire::Wire,
};
use crate::{
    types::{Hash, Round},
    vote::{Phase, Proposal, SignedProposal, SignedVote},
};

impl Core {
    /// Feeds the library what it was fed before.
    ///
    /// A verdict waits until a proposal names its block. Only those on our own blocks stand before
    /// their proposals, and if we crashed before proposing, there is none: the library would keep
    /// such blocks in the places of its round's proposals, and after two crashes have no place left
    /// for the proposal we did make.
    pub(super) fn replay(&mut self, log: Vec<LogEntry>, signer: &mut dyn Signer) {
        let mut waiting = BTreeMap::new();
        for entry in log {
            match entry {
                LogEntry::Proposal(proposal) => {
                    if let Some(body) = waiting.remove(&proposal.proposal.block) {
                        self.take_body(&body, signer);
                    }
                    self.take_proposal(proposal, signer);
                }
                LogEntry::Body(body) if self.is_proposed(&body.block) => self.take_body(&body, signer),
                LogEntry::Body(body) => drop(waiting.insert(body.block, body)),
                LogEntry::Vote(vote) => self.replay_vote(&vote, signer),
                LogEntry::Polka(certificate) => {
                    self.feed(EngineInput::PolkaCertificate(convert::polka_in(&certificate)), signer);
                }
                LogEntry::Timeout(timer) => {
                    self.desk.timers.remove(&timer);
                    self.feed(EngineInput::TimeoutElapsed(convert::timeout_in(timer)), signer);
                }
            }
        }
    }

    fn replay_vote(&mut self, vote: &SignedVote, signer: &mut dyn Signer) {
        let ours = vote.voter == self.desk.me;
        if ours && vote.vote.round == self.round() {
            self.said(vote);
        }
        self.learn(vote);
        self.feed(EngineInput::Vote(convert::vote_in(vote)), signer);
        // What made us enter the round of this vote may not be in the log, so that the vote itself
        // is what leads there; it is then the one to be said again, and no other.
        if ours && vote.vote.round == self.round() {
            self.said(vote);
        }
    }

    fn said(&mut self, vote: &SignedVote) {
        self.desk.unsigned.remove(&vote.vote.phase);
        self.state.set_last_vote(convert::vote_in(vote));
    }

    fn is_proposed(&self, block: &Hash) -> bool {
        self.proposals.values().flatten().any(|one| one.proposal.block == *block)
    }

    /// Says again what the log shows we said in this round, signs what it shows we were about to
    /// say, and asks for what is missing.
    pub(super) fn take_up(&mut self, signer: &mut dyn Signer) {
        if self.desk.decided {
            return;
        }
        let round = self.round();
        self.desk.timers.retain(|timer| timer.round == round);
        self.grow_anew();
        self.say_all_again(signer);
        if let Some(round) = self.desk.wants_block.filter(|_| self.state.driver.step_is_propose()) {
            self.desk.emit(Output::NeedBlock { round });
        }
        self.ask_for_bodies_again();
    }

    /// Somebody may have missed what was said in this round.
    pub(super) fn say_again(&mut self, healed: bool, signer: &mut dyn Signer) {
        if healed {
            self.grow_anew();
        }
        self.say_all_again(signer);
        self.ask_for_bodies_again();
    }

    /// Sets the alarms of this round anew, as short as if it were the first one.
    fn grow_anew(&mut self) {
        let round = self.round();
        self.desk.calm_round = round;
        let alarms: Vec<_> = self.desk.timers.iter().copied().filter(|timer| timer.round == round).collect();
        alarms.into_iter().for_each(|timer| self.desk.schedule(timer));
    }

    fn say_all_again(&mut self, signer: &mut dyn Signer) {
        let round = self.round();
        let entered = self.state.round_certificate().filter(|one| one.enter_round == convert::round_in(round));
        if let Some(certificate) = entered.and_then(|one| convert::round_certificate_out(&one.certificate)) {
            self.desk.emit(Output::Broadcast(Wire::Round(certificate)));
        }
        let said = [&self.state.last_signed_prevote, &self.state.last_signed_precommit];
        said.into_iter().flatten().for_each(|vote| self.desk.publish_vote(vote));
        self.propose_late_or_again(signer);
        self.vote_late(signer);
    }

    /// Asks the signer again for the proposal of this round, should it have refused it; then sends
    /// it, again or for the first time.
    pub(super) fn propose_late_or_again(&mut self, signer: &mut dyn Signer) {
        let waiting = self.desk.unsigned_proposal.clone().filter(|_| self.state.driver.step_is_propose());
        if let Some(proposal) = waiting
            && let Some(signature) = self.desk.sign_proposal(&proposal, signer)
        {
            let signed = SignedProposal { proposer: self.desk.me.clone(), proposal, signature };
            self.take_proposal(signed, signer);
        }
        self.say_proposal_again();
    }

    /// Asks the signer again for the votes of this round that it refused.
    pub(super) fn vote_late(&mut self, signer: &mut dyn Signer) {
        for phase in [Phase::Prevote, Phase::Precommit] {
            let waiting = self.desk.unsigned.get(&phase).filter(|vote| vote.round == self.round()).cloned();
            if let Some(vote) = waiting
                && !self.desk.decided
                && let Some(signature) = self.desk.sign_vote(&vote, signer)
            {
                let signed = convert::vote_in(&SignedVote { voter: self.desk.me.clone(), vote, signature });
                self.state.set_last_vote(signed.clone());
                self.feed(EngineInput::Vote(signed.clone()), signer);
                self.desk.publish_vote(&signed);
            }
        }
    }

    /// Sends our proposal of this round again, with all one needs to accept it.
    fn say_proposal_again(&mut self) {
        let (round, me) = (self.round(), &self.desk.me);
        let ours = self.proposals.get(&round).and_then(|all| all.iter().find(|one| one.proposer == *me)).cloned();
        let Some(signed) = ours.filter(|_| !self.desk.decided) else {
            return;
        };
        let Proposal { polka_round, block, .. } = signed.proposal;
        let polka = polka_round.and_then(|polka_round| {
            self.state.polka_certificate(convert::round_in(polka_round), &block).and_then(convert::polka_out)
        });
        polka.into_iter().for_each(|polka| self.desk.emit(Output::Broadcast(Wire::Polka(polka))));
        self.desk.emit(Output::Broadcast(Wire::Proposal(signed)));
        self.desk.emit(Output::SendBody { round, block });
    }

    pub(super) fn ask_for_bodies_again(&mut self) {
        let current = self.round();
        if self.desk.decided {
            return;
        }
        // The round before, too: its block may have been decided by others.
        let before = Round::new(current.get().saturating_sub(1));
        for one in self.proposals.range(before..=current).flat_map(|(_, all)| all) {
            let Proposal { round, block, .. } = one.proposal;
            if !self.bodies.contains_key(&block) {
                self.desk.emit(Output::NeedBody { round, proposer: one.proposer.clone(), block });
            }
        }
    }
}

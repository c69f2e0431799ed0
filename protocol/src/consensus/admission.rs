//! What the core takes in, and what it refuses by name.
//!
//! The library takes repeats, contradictions, bodies of blocks nobody proposed and messages of
//! later heights, and pays for them in memory and log entries. Here they end:
//!
//! | input | taken if |
//! |---|---|
//! | any message | of this height; signatures were checked before |
//! | vote | by a voter, at most [`ROUNDS_AHEAD`] rounds ahead, new, and no contradiction of one counted |
//! | proposal | by its round's proposer, as near, new, and one of the first [`PROPOSALS_A_ROUND`] (or a polka is for it) |
//! | polka | there is none yet for this round and block |
//! | round certificate | it leads to a later round |
//! | built block | it was asked for, in this round |
//! | body's verdict | a proposal names the block, and the verdict is new |
//! | alarm | it is set |
//!
//! So memory is bounded by the rounds entered (and a few ahead), times the voters, whatever is
//! sent. A contradiction is handed out as evidence, once a voter and kind.

use super::{
    api::{BodyEntry, Equivocation, Output, PROPOSALS_A_ROUND, ROUNDS_AHEAD, Refusal, Signer},
    convert,
    core::Core,
    engine::{EngineInput, EngineRound, LocallyProposedValue, ProposedValue, Validity, ValueOrigin},
    timers::{Timer, TimerKind},
    wire::{LAST_ROUND, PolkaCertificate, RoundCertificate, RoundReason, Verified, Wire},
};
use crate::{
    types::{Hash, Round},
    vote::{Proposal, SignedProposal, SignedVote},
};

impl Core {
    pub(super) fn on_message(&mut self, message: Verified, signer: &mut dyn Signer) -> Result<(), Refusal> {
        let message = message.into_inner();
        if message.height() != self.desk.height {
            return Err(Refusal::OtherHeight(message.height()));
        }
        match message {
            Wire::Proposal(proposal) => self.on_proposal(proposal, signer),
            Wire::Vote(vote) => self.on_vote(vote, signer),
            Wire::Polka(certificate) => self.on_polka(certificate, signer),
            Wire::Round(certificate) => self.on_round_certificate(certificate, signer),
        }
    }

    fn on_vote(&mut self, vote: SignedVote, signer: &mut dyn Signer) -> Result<(), Refusal> {
        self.check_ahead(vote.vote.round)?;
        if self.electorate.voters().get(&vote.voter).is_none() {
            return Err(Refusal::NotEntitled(vote.voter));
        }
        if self.state.driver.votes().has_vote(&convert::vote_in(&vote)) {
            return Err(Refusal::Repeat);
        }
        if self.witness(&vote) {
            return Err(Refusal::Contradiction(vote.voter));
        }
        self.learn(&vote);
        self.feed(EngineInput::Vote(convert::vote_in(&vote)), signer);
        Ok(())
    }

    fn on_proposal(&mut self, proposal: SignedProposal, signer: &mut dyn Signer) -> Result<(), Refusal> {
        let (round, block) = (proposal.proposal.round, proposal.proposal.block);
        self.check_ahead(round)?;
        if self.electorate.proposer(self.desk.height, convert::round_in(round)).identity != proposal.proposer {
            return Err(Refusal::NotEntitled(proposal.proposer));
        }
        let known = self.proposals.get(&round).map_or(&[][..], Vec::as_slice);
        if known.iter().any(|one| one.proposal == proposal.proposal) {
            return Err(Refusal::Repeat);
        }
        let polka = self.state.polka_certificate(convert::round_in(round), &block).is_some();
        let full = known.len() >= PROPOSALS_A_ROUND && !polka;
        let contradiction = full || known.iter().any(|one| one.proposal.block == block);
        if let Some(first) = known.first().cloned() {
            self.accuse(Equivocation::Proposals { first, second: proposal.clone() });
        }
        if contradiction {
            return Err(Refusal::Contradiction(proposal.proposer));
        }
        self.take_proposal(proposal, signer);
        Ok(())
    }

    fn on_polka(&mut self, certificate: PolkaCertificate, signer: &mut dyn Signer) -> Result<(), Refusal> {
        let vote = certificate.vote();
        let votes = certificate.signatures.iter().map(|one| SignedVote {
            voter: one.voter.clone(),
            vote: vote.clone(),
            signature: one.signature,
        });
        votes.for_each(|vote| self.look_at(&vote));
        if self.state.polka_certificate(convert::round_in(certificate.round), &certificate.block).is_some() {
            return Err(Refusal::Repeat);
        }
        self.feed(EngineInput::PolkaCertificate(convert::polka_in(&certificate)), signer);
        Ok(())
    }

    fn on_round_certificate(&mut self, certificate: RoundCertificate, signer: &mut dyn Signer) -> Result<(), Refusal> {
        certificate.signed_votes().for_each(|vote| self.look_at(&vote));
        let past = match certificate.reason {
            RoundReason::Skip => certificate.round <= self.round(),
            RoundReason::Precommit => certificate.round < self.round(),
        };
        if past {
            return Err(Refusal::Repeat);
        }
        self.feed(EngineInput::RoundCertificate(convert::round_certificate_in(&certificate)), signer);
        Ok(())
    }

    pub(super) fn on_built(&mut self, round: Round, block: Hash, signer: &mut dyn Signer) -> Result<(), Refusal> {
        if self.desk.wants_block != Some(round) || round != self.round() || !self.state.driver.step_is_propose() {
            return Err(Refusal::NotAsked(round));
        }
        self.desk.wants_block = None;
        self.bodies.insert(block, true);
        let value = LocallyProposedValue::new(self.desk.height, convert::round_in(round), block);
        self.feed(EngineInput::Propose(value), signer);
        Ok(())
    }

    pub(super) fn on_body(&mut self, block: Hash, valid: bool, signer: &mut dyn Signer) -> Result<(), Refusal> {
        // The last round in which it was proposed is the likeliest to be the current one.
        let proposed = self.proposals.iter().rev().find(|(_, all)| all.iter().any(|one| one.proposal.block == block));
        let Some((round, _)) = proposed else {
            return Err(Refusal::NotProposed(block));
        };
        let round = *round;
        match self.bodies.get(&block) {
            Some(known) if *known || !valid => Err(Refusal::Repeat),
            _ => {
                self.take_body(&BodyEntry { height: self.desk.height, round, block, valid }, signer);
                Ok(())
            }
        }
    }

    pub(super) fn on_timeout(&mut self, timer: Timer, signer: &mut dyn Signer) -> Result<(), Refusal> {
        if !self.desk.timers.remove(&timer) {
            return Err(Refusal::StaleTimer(timer));
        }
        if timer.kind == TimerKind::Precommit && timer.round >= LAST_ROUND {
            return Err(Refusal::LastRound(timer.round));
        }
        self.feed(EngineInput::TimeoutElapsed(convert::timeout_in(timer)), signer);
        if timer.kind == TimerKind::Rebroadcast {
            self.propose_late_or_again(signer);
            self.vote_late(signer);
            self.ask_for_bodies_again();
        }
        Ok(())
    }

    fn check_ahead(&self, round: Round) -> Result<(), Refusal> {
        let current = self.round();
        if round.get() > current.get().saturating_add(ROUNDS_AHEAD) {
            return Err(Refusal::TooFarAhead { round, current });
        }
        Ok(())
    }

    // What is taken, from others or from the log.

    pub(super) fn take_proposal(&mut self, proposal: SignedProposal, signer: &mut dyn Signer) {
        let Proposal { round, block, .. } = proposal.proposal;
        self.note_proposal(&proposal);
        self.feed(EngineInput::Proposal(convert::proposal_in(&proposal)), signer);
        if !self.desk.decided && !self.bodies.contains_key(&block) {
            self.desk.emit(Output::NeedBody { round, proposer: proposal.proposer, block });
        }
    }

    pub(super) fn note_proposal(&mut self, proposal: &SignedProposal) {
        let known = self.proposals.entry(proposal.proposal.round).or_default();
        if known.iter().all(|one| one.proposal != proposal.proposal) {
            known.push(proposal.clone());
        }
        if proposal.proposer == self.desk.me {
            let waiting = self.desk.unsigned_proposal.take();
            self.desk.unsigned_proposal = waiting.filter(|waiting| *waiting != proposal.proposal);
            // An error means that we contradicted ourselves before; there is nothing left to save.
            let _ = self.desk.guard.proposal(&proposal.proposal);
        }
    }

    pub(super) fn take_body(&mut self, body: &BodyEntry, signer: &mut dyn Signer) {
        let valid = self.bodies.entry(body.block).or_insert(body.valid);
        *valid |= body.valid;
        let round = convert::round_in(body.round);
        let value = ProposedValue {
            height: body.height,
            round,
            valid_round: EngineRound::Nil,
            proposer: self.electorate.proposer(body.height, round).identity.clone(),
            value: body.block,
            validity: Validity::from_bool(body.valid),
        };
        self.feed(EngineInput::ProposedValue(value, ValueOrigin::Consensus), signer);
    }

    /// Keeps in mind what we said ourselves, also where only others remember it.
    pub(super) fn learn(&mut self, vote: &SignedVote) {
        if vote.voter == self.desk.me {
            // As above: an error cannot be mended here.
            let _ = self.desk.guard.vote(&vote.vote);
        }
    }

    fn look_at(&mut self, vote: &SignedVote) {
        self.learn(vote);
        self.witness(vote);
    }

    /// Whether this vote contradicts one that was counted; if so, its voter is accused.
    fn witness(&mut self, vote: &SignedVote) -> bool {
        let engine_vote = convert::vote_in(vote);
        let first = self.state.driver.votes().conflicting_vote(&engine_vote).and_then(convert::vote_out);
        let contradiction = first.is_some();
        if let Some(first) = first {
            self.accuse(Equivocation::Votes { first, second: vote.clone() });
        }
        contradiction
    }

    fn accuse(&mut self, equivocation: Equivocation) {
        let accused = match &equivocation {
            Equivocation::Votes { first, .. } => (first.voter.clone(), true),
            Equivocation::Proposals { first, .. } => (first.proposer.clone(), false),
        };
        if self.accused.insert(accused) {
            self.desk.emit(Output::Equivocation(equivocation));
        }
    }
}

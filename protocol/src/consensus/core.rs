//! One height's core: what it takes in, and how it comes back after a crash.
//!
//! In front of the library stands admission, here, with a named refusal for each reason: the
//! library takes repeats, contradictions and foreign heights too, and pays for them in memory and
//! log entries. Behind it stands the [`Desk`], which turns its effects into outputs.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    api::{
        BodyEntry, Equivocation, Fault, Input, LogEntry, MAX_VOTERS, Output, PROPOSALS_A_ROUND, ROUNDS_AHEAD, Refusal,
        Settings, Signer, StartError, Status, Step,
    },
    desk::Desk,
    engine::{
        self, Electorate, Engine, EngineError, EngineInput, LocallyProposedValue, Params, ProposedValue, State,
        Validity, ValueOrigin, ValuePayload, VoteExtensionPolicy,
    },
    guard::VoteGuard,
    timers::{Timer, TimerKind},
    wire::{LAST_ROUND, PolkaCertificate, RoundCertificate, RoundReason, Verified, Wire},
};
use crate::{
    types::{Hash, Identity, Round},
    vote::{Phase, Proposal, SignedProposal, SignedVote},
};

/// The agreement on one height, from its start until its decision.
pub struct Core {
    state: State<Engine>,
    desk: Desk,
    electorate: Electorate,
    /// The proposals taken, by round.
    proposals: BTreeMap<Round, Vec<SignedProposal>>,
    /// The verdicts on their blocks.
    bodies: BTreeMap<Hash, bool>,
    /// Who has been accused already, of two votes (`true`) or two proposals.
    accused: BTreeSet<(Identity, bool)>,
}

impl Core {
    /// Begins a height, or takes it up again where its log ends. An empty log is a new height.
    ///
    /// The first outputs set the alarms, say again what was said in the round reached, and ask for
    /// what is missing. If the log already leads to a decision, that is the one output.
    pub fn start(
        settings: Settings,
        log: Vec<LogEntry>,
        signer: &mut dyn Signer,
    ) -> Result<(Self, Vec<Output>), StartError> {
        let mut core = Self::new(settings)?;
        let foreign = |entry: &LogEntry| entry.height() != core.desk.height;
        if let Some((at, entry)) = log.iter().enumerate().find(|(_, entry)| foreign(entry)) {
            return Err(StartError::ForeignEntry { at, height: core.desk.height, found: entry.height() });
        }
        core.desk.replaying = !log.is_empty();
        if core.desk.replaying {
            // Our own entries are not indexed for the library: see the module `desk`.
            core.state.index_wal_entries(std::iter::empty());
        }
        let (height, electorate) = (core.desk.height, core.electorate.clone());
        // No target time: with one, the library would look at the clock.
        core.feed(EngineInput::StartHeight(height, electorate, false, None, VoteExtensionPolicy::Disabled), signer);
        log.into_iter().for_each(|entry| core.replay(entry, signer));
        if core.desk.replaying {
            core.state.reset_entries_index();
            core.desk.replaying = false;
            core.take_up(signer);
        }
        core.keep_moving();
        let outputs = core.take_outputs();
        Ok((core, outputs))
    }

    /// Takes one input and says what is to be done.
    pub fn step(&mut self, input: Input, signer: &mut dyn Signer) -> Vec<Output> {
        let taken = match input {
            _ if self.desk.decided => Err(Refusal::Decided),
            Input::Message(message) => self.on_message(message, signer),
            Input::Built { round, block } => self.on_built(round, block, signer),
            Input::Body { block, valid } => self.on_body(block, valid, signer),
            Input::Timeout(timer) => self.on_timeout(timer, signer),
        };
        if let Err(refusal) = taken {
            self.desk.emit(Output::Refused(refusal));
        }
        self.keep_moving();
        self.take_outputs()
    }

    pub fn status(&self) -> Status {
        let round = self.round();
        let driver = &self.state.driver;
        let step = match () {
            () if self.desk.decided || driver.step_is_commit() => Step::Decided,
            () if driver.step_is_precommit() => Step::Precommit,
            () if driver.step_is_prevote() => Step::Prevote,
            () => Step::Propose,
        };
        let locked = driver.round_state().locked.as_ref();
        Status {
            height: self.desk.height,
            round,
            step,
            proposer: self.electorate.proposer(self.desk.height, engine::round_in(round)).identity.clone(),
            locked: locked.and_then(|locked| Some((engine::round_out(locked.round)?, locked.value))),
            prevotes: self.votes(round, Phase::Prevote),
            precommits: self.votes(round, Phase::Precommit),
        }
    }

    fn new(settings: Settings) -> Result<Self, StartError> {
        let Settings { me, voters, height, timeouts } = settings;
        let count = voters.as_slice().len();
        if count > MAX_VOTERS {
            return Err(StartError::TooManyVoters(count));
        }
        if voters.get(&me).is_none() {
            return Err(StartError::NotAVoter(me));
        }
        let (mode, quorum) = (voters.mode(), voters.quorum());
        let electorate = Electorate::new(voters).ok_or_else(|| StartError::NotAVoter(me.clone()))?;
        let params = Params {
            address: me.clone(),
            threshold_params: engine::thresholds(mode),
            value_payload: ValuePayload::ProposalAndParts,
            enabled: true,
        };
        // The library's queue for later heights stays empty: other heights are refused here.
        let state = State::new(Engine, height, electorate.clone(), params, 1, 1);
        let desk = Desk {
            me,
            height,
            timeouts,
            quorum,
            replaying: false,
            decided: false,
            guard: VoteGuard::new(height),
            timers: BTreeSet::new(),
            unsigned: BTreeMap::new(),
            unsigned_proposal: None,
            wants_block: None,
            made: Vec::new(),
            outputs: Vec::new(),
        };
        let (proposals, bodies, accused) = Default::default();
        Ok(Self { state, desk, electorate, proposals, bodies, accused })
    }

    // Admission.

    fn on_message(&mut self, message: Verified, signer: &mut dyn Signer) -> Result<(), Refusal> {
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
        if self.state.driver.votes().has_vote(&engine::vote_in(&vote)) {
            return Err(Refusal::Repeat);
        }
        if self.witness(&vote) {
            return Err(Refusal::Contradiction(vote.voter));
        }
        self.learn(&vote);
        self.feed(EngineInput::Vote(engine::vote_in(&vote)), signer);
        Ok(())
    }

    fn on_proposal(&mut self, proposal: SignedProposal, signer: &mut dyn Signer) -> Result<(), Refusal> {
        let (round, block) = (proposal.proposal.round, proposal.proposal.block);
        self.check_ahead(round)?;
        if self.electorate.proposer(self.desk.height, engine::round_in(round)).identity != proposal.proposer {
            return Err(Refusal::NotEntitled(proposal.proposer));
        }
        let known = self.proposals.get(&round).map_or(&[][..], Vec::as_slice);
        if known.iter().any(|one| one.proposal == proposal.proposal) {
            return Err(Refusal::Repeat);
        }
        let polka = self.state.polka_certificate(engine::round_in(round), &block).is_some();
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
        if self.state.polka_certificate(engine::round_in(certificate.round), &certificate.block).is_some() {
            return Err(Refusal::Repeat);
        }
        self.feed(EngineInput::PolkaCertificate(engine::polka_in(&certificate)), signer);
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
        self.feed(EngineInput::RoundCertificate(engine::round_certificate_in(&certificate)), signer);
        Ok(())
    }

    fn on_built(&mut self, round: Round, block: Hash, signer: &mut dyn Signer) -> Result<(), Refusal> {
        if self.desk.wants_block != Some(round) || round != self.round() || !self.state.driver.step_is_propose() {
            return Err(Refusal::NotAsked(round));
        }
        self.desk.wants_block = None;
        self.bodies.insert(block, true);
        let value = LocallyProposedValue::new(self.desk.height, engine::round_in(round), block);
        self.feed(EngineInput::Propose(value), signer);
        Ok(())
    }

    fn on_body(&mut self, block: Hash, valid: bool, signer: &mut dyn Signer) -> Result<(), Refusal> {
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

    fn on_timeout(&mut self, timer: Timer, signer: &mut dyn Signer) -> Result<(), Refusal> {
        if !self.desk.timers.remove(&timer) {
            return Err(Refusal::StaleTimer(timer));
        }
        if timer.kind == TimerKind::Precommit && timer.round >= LAST_ROUND {
            return Err(Refusal::LastRound(timer.round));
        }
        self.feed(EngineInput::TimeoutElapsed(engine::timeout_in(timer)), signer);
        if timer.kind == TimerKind::Rebroadcast {
            self.catch_up_signing(signer);
            self.say_proposal_again();
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

    fn take_proposal(&mut self, proposal: SignedProposal, signer: &mut dyn Signer) {
        let Proposal { round, block, .. } = proposal.proposal;
        self.note_proposal(&proposal);
        self.feed(EngineInput::Proposal(engine::proposal_in(&proposal)), signer);
        if !self.desk.decided && !self.bodies.contains_key(&block) {
            self.desk.emit(Output::NeedBody { round, proposer: proposal.proposer, block });
        }
    }

    fn note_proposal(&mut self, proposal: &SignedProposal) {
        let known = self.proposals.entry(proposal.proposal.round).or_default();
        if known.iter().all(|one| one.proposal != proposal.proposal) {
            known.push(proposal.clone());
        }
        if proposal.proposer == self.desk.me {
            // An error means that we contradicted ourselves before; there is nothing left to save.
            let _ = self.desk.guard.proposal(&proposal.proposal);
        }
    }

    fn take_body(&mut self, body: &BodyEntry, signer: &mut dyn Signer) {
        let valid = self.bodies.entry(body.block).or_insert(body.valid);
        *valid |= body.valid;
        let round = engine::round_in(body.round);
        let value = ProposedValue {
            height: body.height,
            round,
            valid_round: engine::EngineRound::Nil,
            proposer: self.electorate.proposer(body.height, round).identity.clone(),
            value: body.block,
            validity: Validity::from_bool(body.valid),
        };
        self.feed(EngineInput::ProposedValue(value, ValueOrigin::Consensus), signer);
    }

    /// Keeps in mind what we said ourselves, also where only others remember it.
    fn learn(&mut self, vote: &SignedVote) {
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
        let engine_vote = engine::vote_in(vote);
        let first = self.state.driver.votes().conflicting_vote(&engine_vote).and_then(engine::vote_out);
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

    // After a crash.

    fn replay(&mut self, entry: LogEntry, signer: &mut dyn Signer) {
        match entry {
            LogEntry::Proposal(proposal) => self.take_proposal(proposal, signer),
            LogEntry::Vote(vote) => {
                if vote.voter == self.desk.me && vote.vote.round == self.round() {
                    self.desk.unsigned.remove(&vote.vote.phase);
                    self.state.set_last_vote(engine::vote_in(&vote));
                }
                self.learn(&vote);
                self.feed(EngineInput::Vote(engine::vote_in(&vote)), signer);
            }
            LogEntry::Polka(certificate) => {
                self.feed(EngineInput::PolkaCertificate(engine::polka_in(&certificate)), signer);
            }
            LogEntry::Body(body) => self.take_body(&body, signer),
            LogEntry::Timeout(timer) => {
                self.desk.timers.remove(&timer);
                self.feed(EngineInput::TimeoutElapsed(engine::timeout_in(timer)), signer);
            }
        }
    }

    /// Says again what the log shows we said in this round, signs what it shows we were about to
    /// say, and asks for what is missing.
    fn take_up(&mut self, signer: &mut dyn Signer) {
        if self.desk.decided {
            return;
        }
        let round = self.round();
        let alarms = std::mem::take(&mut self.desk.timers);
        alarms.into_iter().filter(|timer| timer.round == round).for_each(|timer| self.desk.schedule(timer));
        let entered = self.state.round_certificate().filter(|one| one.enter_round == engine::round_in(round));
        if let Some(certificate) = entered.and_then(|one| engine::round_certificate_out(&one.certificate)) {
            self.desk.emit(Output::Broadcast(Wire::Round(certificate)));
        }
        self.say_proposal_again();
        let said = [&self.state.last_signed_prevote, &self.state.last_signed_precommit];
        said.into_iter().flatten().for_each(|vote| self.desk.publish_vote(vote));
        self.catch_up_signing(signer);
        if let Some(round) = self.desk.wants_block.filter(|_| self.state.driver.step_is_propose()) {
            self.desk.emit(Output::NeedBlock { round });
        }
        self.ask_for_bodies_again();
    }

    // Against loss.

    /// Asks the signer again for what it refused in this round.
    fn catch_up_signing(&mut self, signer: &mut dyn Signer) {
        let waiting = self.desk.unsigned_proposal.clone().filter(|_| self.state.driver.step_is_propose());
        if let Some(proposal) = waiting
            && let Some(signature) = self.desk.sign_proposal(&proposal, signer)
        {
            let signed = SignedProposal { proposer: self.desk.me.clone(), proposal, signature };
            self.take_proposal(signed, signer);
            self.say_proposal_again();
        }
        for phase in [Phase::Prevote, Phase::Precommit] {
            let waiting = self.desk.unsigned.get(&phase).filter(|vote| vote.round == self.round()).cloned();
            if let Some(vote) = waiting
                && !self.desk.decided
                && let Some(signature) = self.desk.sign_vote(&vote, signer)
            {
                let signed = engine::vote_in(&SignedVote { voter: self.desk.me.clone(), vote, signature });
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
            self.state.polka_certificate(engine::round_in(polka_round), &block).and_then(engine::polka_out)
        });
        polka.into_iter().for_each(|polka| self.desk.emit(Output::Broadcast(Wire::Polka(polka))));
        self.desk.emit(Output::Broadcast(Wire::Proposal(signed)));
        self.desk.emit(Output::SendBody { round, block });
    }

    fn ask_for_bodies_again(&mut self) {
        let round = self.round();
        if self.desk.decided {
            return;
        }
        for one in self.proposals.get(&round).into_iter().flatten() {
            let block = one.proposal.block;
            if !self.bodies.contains_key(&block) {
                self.desk.emit(Output::NeedBody { round, proposer: one.proposer.clone(), block });
            }
        }
    }

    /// A step without an alarm would last for ever. The library sets none for a proposer that has
    /// a block to propose again, since that moves on at once, unless it is not signed.
    fn keep_moving(&mut self) {
        let timer = Timer { height: self.desk.height, round: self.round(), kind: TimerKind::Propose };
        let waits = !self.desk.decided && self.state.driver.step_is_propose();
        if waits && !self.desk.timers.contains(&timer) {
            self.desk.schedule(timer);
        }
    }

    // The library.

    fn feed(&mut self, input: EngineInput<Engine>, signer: &mut dyn Signer) {
        let desk = &mut self.desk;
        let done: Result<(), EngineError<Engine>> = engine::process!(
            input: input,
            state: &mut self.state,
            metrics: &(),
            with: effect => Ok::<_, std::convert::Infallible>(desk.handle(effect, signer))
        );
        if let Err(error) = done {
            self.desk.fault(Fault::Library(error.to_string()));
        }
        // Our own proposals do not come in through admission.
        std::mem::take(&mut self.desk.made).iter().for_each(|proposal| self.note_proposal(proposal));
    }

    fn round(&self) -> Round {
        engine::round_out(self.state.round()).unwrap_or(Round::ZERO)
    }

    fn votes(&self, round: Round, phase: Phase) -> BTreeMap<Identity, Option<Hash>> {
        let Some(votes) = self.state.driver.votes().per_round(engine::round_in(round)) else {
            return BTreeMap::new();
        };
        let all = votes.received_votes().iter().filter_map(engine::vote_out);
        all.filter(|one| one.vote.phase == phase).map(|one| (one.voter, one.vote.block)).collect()
    }

    fn take_outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.desk.outputs)
    }
}

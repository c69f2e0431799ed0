//! One height's core: the library's state and what stands around it.
//!
//! In front of the library stands admission, behind it the [`Desk`], which turns its effects into
//! outputs.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    api::{Fault, Input, LogEntry, MAX_VOTERS, Output, Refusal, Settings, Signer, StartError, Status, Step},
    convert,
    desk::Desk,
    engine::{self, Electorate, Engine, EngineError, EngineInput, Params, State, ValuePayload, VoteExtensionPolicy},
    guard::VoteGuard,
    timers::{Timer, TimerKind},
};
use crate::{
    types::{Hash, Identity, Round},
    vote::{Phase, SignedProposal},
};

/// The agreement on one height, from its start until its decision.
pub struct Core {
    pub(super) state: State<Engine>,
    pub(super) desk: Desk,
    pub(super) electorate: Electorate,
    /// The proposals taken, by round.
    pub(super) proposals: BTreeMap<Round, Vec<SignedProposal>>,
    /// The verdicts on their blocks.
    pub(super) bodies: BTreeMap<Hash, bool>,
    /// Who has been accused already, of two votes (`true`) or two proposals.
    pub(super) accused: BTreeSet<(Identity, bool)>,
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
        core.replay(log, signer);
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
            Input::SayAgain { healed } => {
                self.say_again(healed, signer);
                Ok(())
            }
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
            proposer: self.electorate.proposer(self.desk.height, convert::round_in(round)).identity.clone(),
            locked: locked.and_then(|locked| Some((convert::round_out(locked.round)?, locked.value))),
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
            decision: None,
            guard: VoteGuard::new(height),
            timers: BTreeSet::new(),
            calm_round: Round::ZERO,
            unsigned: BTreeMap::new(),
            unsigned_proposal: None,
            wants_block: None,
            made: Vec::new(),
            outputs: Vec::new(),
        };
        let (proposals, bodies, accused) = Default::default();
        Ok(Self { state, desk, electorate, proposals, bodies, accused })
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

    pub(super) fn feed(&mut self, input: EngineInput<Engine>, signer: &mut dyn Signer) {
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

    /// The round under way.
    pub fn round(&self) -> Round {
        convert::round_out(self.state.round()).unwrap_or(Round::ZERO)
    }

    /// The voters who keep this round from a decision, as far as was heard here: who has not prevoted its
    /// block, or, once a quorum has, who has not precommitted it. Nil is no acceptance to a node that has
    /// accepted; one that has prevoted nil itself waits for those who are silent, and one that has nothing to
    /// vote on, for the proposer.
    pub fn missing(&self, round: Round) -> Vec<Identity> {
        let voters = self.electorate.voters().as_slice();
        let prevotes = self.votes(round, Phase::Prevote);
        let mine = prevotes.get(&self.desk.me);
        if mine.is_none() && self.proposals.get(&round).is_none_or(Vec::is_empty) {
            return vec![self.electorate.proposer(self.desk.height, convert::round_in(round)).identity.clone()];
        }
        let accepted = mine.is_some_and(Option::is_some);
        let without = |votes: &BTreeMap<Identity, Option<Hash>>| -> Vec<Identity> {
            let accepts = |voter: &&Identity| votes.get(voter).is_some_and(|vote| vote.is_some() || !accepted);
            voters.iter().map(|voter| &voter.identity).filter(|voter| !accepts(voter)).cloned().collect()
        };
        let polka = prevotes.values().flatten().count() >= self.desk.quorum;
        if polka { without(&self.votes(round, Phase::Precommit)) } else { without(&prevotes) }
    }

    fn votes(&self, round: Round, phase: Phase) -> BTreeMap<Identity, Option<Hash>> {
        let Some(votes) = self.state.driver.votes().per_round(convert::round_in(round)) else {
            return BTreeMap::new();
        };
        let all = votes.received_votes().iter().filter_map(convert::vote_out);
        all.filter(|one| one.vote.phase == phase).map(|one| (one.voter, one.vote.block)).collect()
    }

    fn take_outputs(&mut self) -> Vec<Output> {
        // Also from a log: whoever starts from it has not stored the block yet.
        self.desk.outputs.extend(self.desk.decision.take().map(Output::Decided));
        std::mem::take(&mut self.desk.outputs)
    }
}

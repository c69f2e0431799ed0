//! What goes into the core, what comes out of it, and what it is set up with.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    guard::GuardError,
    timers::{Timeouts, Timer},
    wire::{PolkaCertificate, Verified, Wire},
};
use crate::{
    crypto::Signature,
    types::{Hash, Height, Identity, Round},
    vote::{Certificate, Phase, Proposal, SignedProposal, SignedVote, Vote, Voters},
};

/// Most voters of one height. Certificates are bounded by it; a permissioned network has tens.
pub const MAX_VOTERS: usize = 1_000;

/// How many rounds ahead of its own the core takes votes and proposals. Round certificates, which
/// carry their own proof, it takes from any round up to [`LAST_ROUND`](super::LAST_ROUND).
pub const ROUNDS_AHEAD: u32 = 10;

/// Most different blocks for which the core takes proposals in one round. An honest proposer makes
/// one; the second is proof against a liar, and may be the one the others saw. A further one is
/// taken only if a polka says that the others took it.
pub const PROPOSALS_A_ROUND: usize = 2;

/// What one height's core is set up with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The node this core votes for.
    pub me: Identity,
    /// The voters of this height.
    pub voters: Voters,
    pub height: Height,
    pub timeouts: Timeouts,
}

/// The holder of the key. Implemented outside; it signs only what it has not contradicted before
/// (see [`VoteGuard`](super::VoteGuard)) and may refuse anything: the core then abstains, and asks
/// again when it rebroadcasts.
pub trait Signer {
    fn sign_vote(&mut self, vote: &Vote) -> Option<Signature>;
    fn sign_proposal(&mut self, proposal: &Proposal) -> Option<Signature>;
}

/// What happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// A message of another node (or of this one, come back), its signatures checked.
    Message(Verified),
    /// Our block for [`Output::NeedBlock`], its body stored.
    Built { round: Round, block: Hash },
    /// The verdict on a block's body, for [`Output::NeedBody`]; if valid, its body is stored.
    /// A block may turn from invalid to valid, never back.
    Body { block: Hash, valid: bool },
    /// An alarm went off.
    Timeout(Timer),
    /// A voter that could not be reached is there again, and may have missed what was said. `healed`:
    /// so many voters are back that they can decide; rounds begin to grow anew, since how far they
    /// had grown is of the time that is over.
    SayAgain { healed: bool },
}

/// What the shell must do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Append to this height's log.
    Log(LogEntry),
    /// Sync all earlier log entries, and the bodies they speak of, to disk; then send to all.
    Broadcast(Wire),
    /// Sync likewise; then send this block's body to all.
    SendBody {
        round: Round,
        block: Hash,
    },
    /// Set this alarm, in place of an earlier one of the same name.
    Schedule(Timer, Duration),
    Cancel(Timer),
    CancelAll,
    /// Build a block, store its body and answer with [`Input::Built`], soon: the alarm is running.
    NeedBlock {
        round: Round,
    },
    /// Find this block's body, store and check it, and answer with [`Input::Body`]. Asked again
    /// as long as there is no answer.
    NeedBody {
        round: Round,
        proposer: Identity,
        block: Hash,
    },
    /// Store block and certificate in one durable write, and make the next height's core. Always
    /// the last output: this core takes no more input.
    Decided(Certificate),
    /// Somebody lied, provably; said once a voter, height and kind.
    Equivocation(Equivocation),
    /// The input was not taken, and why; count it.
    Refused(Refusal),
    /// Something that should not happen did; log it. The core goes on as far as is safe.
    Fault(Fault),
}

/// What must survive a crash: fed to [`Core::start`](super::Core::start) again, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogEntry {
    Proposal(SignedProposal),
    Vote(SignedVote),
    Polka(PolkaCertificate),
    Body(BodyEntry),
    Timeout(Timer),
}

/// The verdict on a block's body, as logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BodyEntry {
    pub height: Height,
    pub round: Round,
    pub block: Hash,
    pub valid: bool,
}

impl LogEntry {
    pub fn height(&self) -> Height {
        match self {
            Self::Proposal(proposal) => proposal.proposal.height,
            Self::Vote(vote) => vote.vote.height,
            Self::Polka(certificate) => certificate.height,
            Self::Body(body) => body.height,
            Self::Timeout(timer) => timer.height,
        }
    }
}

/// Two signed statements of one voter that exclude each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Equivocation {
    Votes { first: SignedVote, second: SignedVote },
    Proposals { first: SignedProposal, second: SignedProposal },
}

/// Why an input was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    #[error("of height {0}, which is not the one being decided")]
    OtherHeight(Height),
    #[error("round {round} is more than {ROUNDS_AHEAD} ahead of {current}")]
    TooFarAhead { round: Round, current: Round },
    #[error("{0} is not a voter, or not this round's proposer")]
    NotEntitled(Identity),
    #[error("known already")]
    Repeat,
    #[error("contradicts what {0} said before")]
    Contradiction(Identity),
    #[error("no proposal of this height is for block {0}")]
    NotProposed(Hash),
    #[error("no block was asked for in round {0}")]
    NotAsked(Round),
    #[error("this alarm was cancelled or has gone off already")]
    StaleTimer(Timer),
    #[error("round {0} is the last")]
    LastRound(Round),
    #[error("the height is decided")]
    Decided,
}

/// What went wrong inside.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Fault {
    /// The signer refused; the core abstains and will ask again.
    #[error("no signature for our {phase:?} of round {round}")]
    VoteNotSigned { phase: Phase, round: Round },
    /// The signer refused; this round goes without our proposal, or gets it late.
    #[error("no signature for our proposal of round {0}")]
    ProposalNotSigned(Round),
    /// We were about to contradict ourselves; the core abstains.
    #[error("kept from contradicting itself: {0}")]
    Guard(GuardError),
    /// The consensus library reported an error of its own, in its own words.
    #[error("the consensus library: {0}")]
    Library(String),
    /// The library asked for something it has no reason to ask for.
    #[error("the consensus library asked for {0}")]
    Unexpected(&'static str),
}

/// Why there can be no core.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StartError {
    #[error("{0} is not a voter at this height: it follows, and runs no core")]
    NotAVoter(Identity),
    #[error("{0} voters where at most {MAX_VOTERS} are supported")]
    TooManyVoters(usize),
    #[error("entry {at} of the log of height {height} is of height {found}")]
    ForeignEntry { at: usize, height: Height, found: Height },
}

/// The steps of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    Propose,
    Prevote,
    Precommit,
    Decided,
}

/// Where the core stands, for people and for the API's account of missing acceptances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub height: Height,
    pub round: Round,
    pub step: Step,
    pub proposer: Identity,
    /// The block we are locked on and the round we locked it in.
    pub locked: Option<(Round, Hash)>,
    /// Who prevoted what in this round; who is missing has not been heard.
    pub prevotes: BTreeMap<Identity, Option<Hash>>,
    pub precommits: BTreeMap<Identity, Option<Hash>>,
}

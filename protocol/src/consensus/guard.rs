//! The rule that a node says one thing: for a height, round and phase one vote, for a height and
//! round one proposal. The same again is allowed, another is refused, and so is everything below
//! the height the guard was told to begin at.
//!
//! Why it is a type of its own: it stands between the key and whoever asks for a signature, so it
//! must be right without trusting the consensus code at all. Whoever holds the key keeps one and
//! restores it from what this node is known to have signed (its own log; its own store of guard
//! entries), and the core keeps one too, which also learns from own votes that come back from
//! other nodes: a node that lost its log then abstains rather than contradict itself.
//!
//! Memory: one entry for each vote or proposal since the first height kept.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::{
    types::{Hash, Height, Round},
    vote::{Phase, Proposal, Vote},
};

/// Why a signature is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GuardError {
    #[error("a different {phase:?} was given at height {height}, round {round}")]
    OtherVote { phase: Phase, height: Height, round: Round },
    #[error("a different proposal was made at height {height}, round {round}")]
    OtherProposal { height: Height, round: Round },
    #[error("height {height} is below {first}, the first this guard remembers")]
    Past { height: Height, first: Height },
}

/// What a node has said so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VoteGuard {
    first: Height,
    votes: BTreeMap<(Height, Round, Phase), Option<Hash>>,
    proposals: BTreeMap<(Height, Round), (Option<Round>, Hash)>,
}

impl VoteGuard {
    /// A guard that has seen nothing and refuses heights below `first`.
    pub fn new(first: Height) -> Self {
        Self { first, ..Self::default() }
    }

    /// Allows this vote and remembers it, or refuses it.
    pub fn vote(&mut self, vote: &Vote) -> Result<(), GuardError> {
        self.check_height(vote.height)?;
        let said = *self.votes.entry((vote.height, vote.round, vote.phase)).or_insert(vote.block);
        if said == vote.block {
            return Ok(());
        }
        Err(GuardError::OtherVote { phase: vote.phase, height: vote.height, round: vote.round })
    }

    /// Allows this proposal and remembers it, or refuses it.
    pub fn proposal(&mut self, proposal: &Proposal) -> Result<(), GuardError> {
        self.check_height(proposal.height)?;
        let asked = (proposal.polka_round, proposal.block);
        let said = *self.proposals.entry((proposal.height, proposal.round)).or_insert(asked);
        if said == asked {
            return Ok(());
        }
        Err(GuardError::OtherProposal { height: proposal.height, round: proposal.round })
    }

    /// Forgets what was said below `first` and from now on refuses to say anything there.
    pub fn advance(&mut self, first: Height) {
        self.first = self.first.max(first);
        self.votes = self.votes.split_off(&(self.first, Round::ZERO, Phase::Prevote));
        self.proposals = self.proposals.split_off(&(self.first, Round::ZERO));
    }

    fn check_height(&self, height: Height) -> Result<(), GuardError> {
        if height < self.first { Err(GuardError::Past { height, first: self.first }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote(height: u64, round: u32, phase: Phase, block: Option<u8>) -> Vote {
        let block = block.map(|b| Hash::from_bytes([b; 32]));
        Vote { phase, height: Height::new(height), round: Round::new(round), block }
    }

    #[test]
    fn the_same_again_is_allowed_and_another_refused() {
        let mut guard = VoteGuard::default();
        for _ in 0..2 {
            assert_eq!(guard.vote(&vote(1, 0, Phase::Prevote, Some(1))), Ok(()));
        }
        for other in [Some(2), None] {
            assert!(guard.vote(&vote(1, 0, Phase::Prevote, other)).is_err());
        }
        assert_eq!(guard.vote(&vote(1, 0, Phase::Prevote, Some(1))), Ok(()), "a refusal changes nothing");
        assert_eq!(guard.vote(&vote(1, 0, Phase::Precommit, None)), Ok(()));
        assert_eq!(guard.vote(&vote(1, 1, Phase::Prevote, None)), Ok(()));
        assert_eq!(guard.vote(&vote(2, 0, Phase::Prevote, None)), Ok(()));
    }

    #[test]
    fn a_proposal_differs_by_its_polka_round_too() {
        let mut guard = VoteGuard::default();
        let first = Proposal { height: Height::new(1), round: Round::new(2), polka_round: None, block: Hash::ZERO };
        assert_eq!(guard.proposal(&first), Ok(()));
        assert_eq!(guard.proposal(&first), Ok(()));
        assert!(guard.proposal(&Proposal { polka_round: Some(Round::ZERO), ..first }).is_err());
    }

    #[test]
    fn what_is_forgotten_is_refused() {
        let mut guard = VoteGuard::default();
        assert_eq!(guard.vote(&vote(4, 0, Phase::Precommit, Some(1))), Ok(()));
        assert_eq!(guard.vote(&vote(5, 0, Phase::Prevote, Some(1))), Ok(()));
        guard.advance(Height::new(5));
        assert!(matches!(guard.vote(&vote(4, 0, Phase::Precommit, Some(1))), Err(GuardError::Past { .. })));
        assert!(guard.vote(&vote(5, 0, Phase::Prevote, None)).is_err());
        guard.advance(Height::new(1));
        assert!(guard.vote(&vote(4, 0, Phase::Precommit, Some(1))).is_err(), "a guard never goes back");
    }
}

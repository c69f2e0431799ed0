//! What nodes say to each other to agree, and the proof that it was checked.
//!
//! | message | is | made of | signed by |
//! |---|---|---|---|
//! | `proposal` | a block's hash for a round; the block itself travels beside it | | the round's proposer |
//! | `vote` | a prevote or precommit, for a block or nil | | its voter |
//! | `polka` | proof that a block has a quorum of prevotes | prevotes | a quorum |
//! | `round` | reason to enter a round | votes of it, or precommits of the one before | see [`RoundReason`] |
//!
//! [`Wire::verify`] is the one way to a [`Verified`] message, and the core takes no other: it needs
//! nothing but the network's id and the voters of the message's height, so threads beside the core
//! can do it. It refuses strangers, bad signatures, repeats inside a certificate, proposals by
//! others than the round's proposer, and rounds no network ever gets to. What depends on the
//! core's state (its height, its round) the core refuses itself.
//!
//! Repeated signers and one bad signature spoil a certificate: an honest node never makes such a
//! one. Certificates are bounded by the number of voters before any signature is looked at.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    crypto::{CryptoError, Signature},
    types::{Hash, Height, Identity, Round},
    vote::{CommitSignature, Phase, SignedProposal, SignedVote, Vote, Voters},
};

/// The last round anyone gets to. More than a third of the voters, lying together, could otherwise
/// drag the others to the end of the number's range. A million rounds of a second each are eleven
/// days for one block.
pub const LAST_ROUND: Round = Round::new(1_000_000);

/// A consensus message between nodes; in CBOR a map of one entry, the message's name to its
/// content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wire {
    Proposal(SignedProposal),
    Vote(SignedVote),
    Polka(PolkaCertificate),
    Round(RoundCertificate),
}

/// A quorum's prevotes for one block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolkaCertificate {
    pub height: Height,
    pub round: Round,
    pub block: Hash,
    pub signatures: Vec<CommitSignature>,
}

/// Why a round may be entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoundReason {
    /// More than a third of the voters, so at least one honest one, have voted in this very round.
    Skip,
    /// A quorum has precommitted in this round, but not for one block: the next round follows.
    Precommit,
}

/// One vote of a round certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoundVote {
    pub voter: Identity,
    pub phase: Phase,
    pub block: Option<Hash>,
    pub signature: Signature,
}

/// Votes of one round that are a reason to enter it or the next one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoundCertificate {
    pub height: Height,
    pub round: Round,
    pub reason: RoundReason,
    pub votes: Vec<RoundVote>,
}

/// Why a consensus message proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WireError {
    #[error("{0} is not a voter")]
    NotAVoter(Identity),
    #[error("{sender} may not propose at height {height}, round {round}")]
    NotTheProposer { sender: Identity, height: Height, round: Round },
    #[error("the signature of {voter}: {reason}")]
    Signature { voter: Identity, reason: CryptoError },
    #[error("round {0} is beyond {LAST_ROUND}")]
    AbsurdRound(Round),
    #[error("a proposal of round {round} names the polka of round {polka_round}, which is not before it")]
    PolkaNotBefore { round: Round, polka_round: Round },
    #[error("{0} stands twice in a certificate")]
    Twice(Identity),
    #[error("a certificate of {count} votes where {least} to {most} are expected")]
    Count { count: usize, least: usize, most: usize },
    #[error("the prevote of {0} in a certificate of precommits")]
    NotAPrecommit(Identity),
    #[error("a body of {0} transactions, more than a block may hold")]
    BodySize(usize),
    #[error("a body whose transactions do not lead to its header's root")]
    BodyRoot,
}

/// A message whose signatures were checked against the voters of its height.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified(Wire);

impl Verified {
    pub fn get(&self) -> &Wire {
        &self.0
    }

    pub fn into_inner(self) -> Wire {
        self.0
    }
}

impl Wire {
    pub fn height(&self) -> Height {
        match self {
            Self::Proposal(proposal) => proposal.proposal.height,
            Self::Vote(vote) => vote.vote.height,
            Self::Polka(certificate) => certificate.height,
            Self::Round(certificate) => certificate.height,
        }
    }

    pub fn round(&self) -> Round {
        match self {
            Self::Proposal(proposal) => proposal.proposal.round,
            Self::Vote(vote) => vote.vote.round,
            Self::Polka(certificate) => certificate.round,
            Self::Round(certificate) => certificate.round,
        }
    }

    /// Checks all that can be checked without the core: `voters` are those of the message's
    /// height.
    pub fn verify(self, network: &Hash, voters: &Voters) -> Result<Verified, WireError> {
        if self.round() > LAST_ROUND {
            return Err(WireError::AbsurdRound(self.round()));
        }
        match &self {
            Self::Proposal(proposal) => verify_proposal(proposal, network, voters)?,
            Self::Vote(vote) => verify_vote(vote, network, voters)?,
            Self::Polka(certificate) => certificate.verify(network, voters)?,
            Self::Round(certificate) => certificate.verify(network, voters)?,
        }
        Ok(Verified(self))
    }
}

/// The fewest votes of a round that prove an honest voter to be there. In full consent, too: to
/// skip rounds is never unsafe, only a matter of pace.
pub(super) fn honest(voters: usize) -> usize {
    voters / 3 + 1
}

fn verify_proposal(signed: &SignedProposal, network: &Hash, voters: &Voters) -> Result<(), WireError> {
    let (height, round) = (signed.proposal.height, signed.proposal.round);
    if let Some(polka_round) = signed.proposal.polka_round.filter(|polka_round| *polka_round >= round) {
        return Err(WireError::PolkaNotBefore { round, polka_round });
    }
    match voters.proposer(height, round) {
        Some(proposer) if proposer.identity == signed.proposer => {
            verify_one(voters, &signed.proposer, &signed.proposal.digest(network), &signed.signature)
        }
        _ => Err(WireError::NotTheProposer { sender: signed.proposer.clone(), height, round }),
    }
}

fn verify_vote(signed: &SignedVote, network: &Hash, voters: &Voters) -> Result<(), WireError> {
    verify_one(voters, &signed.voter, &signed.vote.digest(network), &signed.signature)
}

impl PolkaCertificate {
    /// The vote that every signature is of.
    pub fn vote(&self) -> Vote {
        Vote { phase: Phase::Prevote, height: self.height, round: self.round, block: Some(self.block) }
    }

    fn verify(&self, network: &Hash, voters: &Voters) -> Result<(), WireError> {
        verify_signers(self.signatures.iter().map(|signature| &signature.voter), voters, voters.quorum())?;
        let digest = self.vote().digest(network);
        self.signatures.iter().try_for_each(|one| verify_one(voters, &one.voter, &digest, &one.signature))
    }
}

impl RoundCertificate {
    /// The votes it is made of, each on its own.
    pub fn signed_votes(&self) -> impl Iterator<Item = SignedVote> + '_ {
        self.votes.iter().map(|one| SignedVote {
            voter: one.voter.clone(),
            vote: Vote { phase: one.phase, height: self.height, round: self.round, block: one.block },
            signature: one.signature,
        })
    }

    fn verify(&self, network: &Hash, voters: &Voters) -> Result<(), WireError> {
        let least = match self.reason {
            RoundReason::Skip => honest(voters.as_slice().len()),
            RoundReason::Precommit => voters.quorum(),
        };
        verify_signers(self.votes.iter().map(|vote| &vote.voter), voters, least)?;
        let prevote = self.votes.iter().find(|vote| vote.phase == Phase::Prevote);
        match (self.reason, prevote) {
            (RoundReason::Precommit, Some(prevote)) => Err(WireError::NotAPrecommit(prevote.voter.clone())),
            _ => self.signed_votes().try_for_each(|vote| verify_vote(&vote, network, voters)),
        }
    }
}

/// `least` or more distinct voters, and no more than there are.
fn verify_signers<'a>(
    signers: impl ExactSizeIterator<Item = &'a Identity>,
    voters: &Voters,
    least: usize,
) -> Result<(), WireError> {
    let (count, most) = (signers.len(), voters.as_slice().len());
    if count < least.max(1) || count > most {
        return Err(WireError::Count { count, least, most });
    }
    let mut seen = BTreeSet::new();
    for signer in signers {
        if voters.get(signer).is_none() {
            return Err(WireError::NotAVoter(signer.clone()));
        }
        if !seen.insert(signer) {
            return Err(WireError::Twice(signer.clone()));
        }
    }
    Ok(())
}

fn verify_one(voters: &Voters, voter: &Identity, digest: &Hash, signature: &Signature) -> Result<(), WireError> {
    let known = voters.get(voter).ok_or_else(|| WireError::NotAVoter(voter.clone()))?;
    known.key.verify(digest, signature).map_err(|reason| WireError::Signature { voter: voter.clone(), reason })
}

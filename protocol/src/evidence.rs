//! Evidence of equivocation: two signed statements of one voter, of which an honest one signs one.
//!
//! A node signs one proposal a round and one vote a phase of a round, after a crash too. Two that
//! differ prove, to anyone who knows its key, that it lies, runs twice or lost its log. Whether the
//! voter was the round's proposer is not asked: without a turn, too, it may sign no two.
//!
//! | check | when |
//! |---|---|
//! | [`Evidence::accuse`]: about one thing, different, in order | with the transaction's form |
//! | [`Accusation::voter_key`]: the accused votes | with the author's standing, in every block too |
//! | [`Accusation::verify`]: both signatures | with the author's signature, once a node |
//! | [`Accusation::may_be_recorded`] | on execution: not met, the transaction is committed as failed |
//!
//! The last is no rule of blocks: what may be recorded changes with every block, and a proposer that
//! heard of it late would propose blocks that nobody takes.
//!
//! The ledger's state keeps, under `evidence/node3@Org04`, the list of what was [`Recorded`] of that
//! voter. That is all: what follows from it is for the members to decide.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    codec::{self, CodecError},
    consensus::Equivocation,
    crypto::{CryptoError, PublicKey, Signature},
    limits::EVIDENCE_A_VOTER,
    registry::Registry,
    types::{Hash, Height, Identity, Round},
    vote::{Phase, SignedProposal, SignedVote},
};

/// Two statements that exclude each other, the lesser first, so that a pair has one spelling: nil
/// goes before any block, and blocks go by their hashes; of proposals the polka's round goes first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Evidence {
    Votes { first: SignedVote, second: SignedVote },
    Proposals { first: SignedProposal, second: SignedProposal },
}

/// What was said twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Prevote,
    Precommit,
    Proposal,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prevote => "prevote",
            Self::Precommit => "precommit",
            Self::Proposal => "proposal",
        })
    }
}

/// What a statement is about. An honest voter signs one statement about each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    pub voter: Identity,
    pub height: Height,
    pub round: Round,
    pub kind: Kind,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { voter, height, round, kind } = self;
        write!(f, "the {kind} of {voter} at height {height}, round {round}")
    }
}

/// Why two statements prove nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EvidenceError {
    #[error("{first} and {second} do not exclude each other: evidence is two statements about one thing")]
    Apart { first: Subject, second: Subject },
    #[error("{0} stands there twice: evidence is two statements that differ")]
    Same(Subject),
    #[error("the two statements stand in the wrong order: the lesser goes first, nil before any block")]
    OutOfOrder,
    #[error("{0} is not a voter of that height")]
    NotAVoter(Identity),
    #[error("who voted at height {0} is not remembered any more")]
    TooOld(Height),
    #[error("the signature of the {which} statement does not hold: {reason}")]
    Signature { which: &'static str, reason: CryptoError },
}

/// Evidence in good form. Its signatures are not yet checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accusation {
    pub subject: Subject,
    /// What was signed, and the signatures, in order.
    statements: [(Hash, Signature); 2],
}

impl Evidence {
    /// The same with the two in their order.
    pub fn ordered(self) -> Self {
        match self {
            Self::Votes { first, second } if first.vote > second.vote => Self::Votes { first: second, second: first },
            Self::Proposals { first, second } if first.proposal > second.proposal => {
                Self::Proposals { first: second, second: first }
            }
            ordered => ordered,
        }
    }

    /// Checks all that needs nothing but the network's id.
    pub fn accuse(&self, network: &Hash) -> Result<Accusation, EvidenceError> {
        match self {
            Self::Votes { first, second } => accuse(
                [of_vote(first), of_vote(second)],
                [&first.vote, &second.vote],
                [first, second].map(|signed| (signed.vote.digest(network), signed.signature)),
            ),
            Self::Proposals { first, second } => accuse(
                [of_proposal(first), of_proposal(second)],
                [&first.proposal, &second.proposal],
                [first, second].map(|signed| (signed.proposal.digest(network), signed.signature)),
            ),
        }
    }
}

impl From<Equivocation> for Evidence {
    fn from(lie: Equivocation) -> Self {
        let evidence = match lie {
            Equivocation::Votes { first, second } => Self::Votes { first, second },
            Equivocation::Proposals { first, second } => Self::Proposals { first, second },
        };
        evidence.ordered()
    }
}

fn of_vote(SignedVote { voter, vote, .. }: &SignedVote) -> Subject {
    let kind = match vote.phase {
        Phase::Prevote => Kind::Prevote,
        Phase::Precommit => Kind::Precommit,
    };
    Subject { voter: voter.clone(), height: vote.height, round: vote.round, kind }
}

fn of_proposal(SignedProposal { proposer, proposal, .. }: &SignedProposal) -> Subject {
    Subject { voter: proposer.clone(), height: proposal.height, round: proposal.round, kind: Kind::Proposal }
}

fn accuse<T: Ord>(
    [subject, other]: [Subject; 2],
    [first, second]: [&T; 2],
    statements: [(Hash, Signature); 2],
) -> Result<Accusation, EvidenceError> {
    if subject != other {
        return Err(EvidenceError::Apart { first: subject, second: other });
    }
    if first == second {
        return Err(EvidenceError::Same(subject));
    }
    if first > second {
        return Err(EvidenceError::OutOfOrder);
    }
    Ok(Accusation { subject, statements })
}

impl Accusation {
    /// The key of the accused, which must have been a voter of the height that it is about.
    pub fn voter_key(&self, registry: &Registry) -> Result<PublicKey, EvidenceError> {
        let voter = &self.subject.voter;
        let voters = registry.voter_sets.remembered_at(self.subject.height);
        let voters = voters.ok_or(EvidenceError::TooOld(self.subject.height))?;
        voters.get(voter).map(|voter| voter.key).ok_or_else(|| EvidenceError::NotAVoter(voter.clone()))
    }

    /// Checks both signatures.
    pub fn verify(&self, registry: &Registry) -> Result<(), EvidenceError> {
        let key = self.voter_key(registry)?;
        self.statements.iter().zip(["first", "second"]).try_for_each(|((digest, signature), which)| {
            key.verify(digest, signature).map_err(|reason| EvidenceError::Signature { which, reason })
        })
    }

    /// Whether a block of height `block` would record it, where this is `known` of its voter.
    pub fn may_be_recorded(&self, known: &[Recorded], block: Height) -> Result<(), NotRecorded> {
        let Subject { voter, height, round, kind } = &self.subject;
        if *height > block {
            return Err(NotRecorded::Ahead { height: *height, block });
        }
        let same = |one: &&Recorded| (one.height, one.round, one.kind) == (*height, *round, *kind);
        if let Some(known) = known.iter().find(same) {
            return Err(NotRecorded::Known { by: known.transaction });
        }
        if known.len() >= EVIDENCE_A_VOTER {
            return Err(NotRecorded::Enough(voter.clone()));
        }
        Ok(())
    }

    /// The entry that `transaction` makes of it.
    pub fn entry(&self, transaction: Hash) -> Recorded {
        let Subject { height, round, kind, .. } = self.subject;
        Recorded { height, round, kind, transaction }
    }
}

/// Why evidence that holds is not recorded. These words are in the results that blocks certify.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotRecorded {
    #[error("it is about height {height}, and this block's is {block}: who votes there is not known yet")]
    Ahead { height: Height, block: Height },
    #[error("transaction {by} has recorded it")]
    Known { by: Hash },
    #[error("{EVIDENCE_A_VOTER} are recorded of {0}, and more are not kept")]
    Enough(Identity),
}

/// What the state keeps of one evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    pub height: Height,
    pub round: Round,
    pub kind: Kind,
    /// The transaction that holds it.
    pub transaction: Hash,
}

/// Far more than [`EVIDENCE_A_VOTER`] entries take.
const MAX_ENTRY_BYTES: usize = 64 << 10;

/// Where the state keeps what is recorded of a voter, the oldest first.
pub fn state_key(voter: &Identity) -> Vec<u8> {
    format!("evidence/{voter}").into_bytes()
}

/// Reads what stands there.
pub fn decode(value: &[u8]) -> Result<Vec<Recorded>, CodecError> {
    codec::decode_canonical(value, MAX_ENTRY_BYTES)
}

//! Votes, proposals, the voters, and the certificate that a quorum of precommits makes.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    codec,
    crypto::{CryptoError, Domain, PublicKey, Signature, digest},
    types::{Hash, Height, Identity, Round},
};

/// The consensus mode of a network: what counts as agreement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConsensusMode {
    /// More than two thirds of the voters.
    Bft,
    /// Every voter.
    FullConsent,
}

impl ConsensusMode {
    /// The fewest votes that decide among `voters` voters.
    pub const fn quorum(self, voters: usize) -> usize {
        match self {
            Self::Bft => voters * 2 / 3 + 1,
            Self::FullConsent => voters,
        }
    }
}

/// One node entitled to vote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voter {
    pub identity: Identity,
    pub key: PublicKey,
}

/// The voters of a height, in the order of their identities, and the mode they decide in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voters {
    mode: ConsensusMode,
    voters: Vec<Voter>,
}

impl Voters {
    /// `voters` in any order; repeated identities count once.
    pub fn new(mode: ConsensusMode, mut voters: Vec<Voter>) -> Self {
        voters.sort_by(|a, b| a.identity.cmp(&b.identity));
        voters.dedup_by(|a, b| a.identity == b.identity);
        Self { mode, voters }
    }

    pub fn mode(&self) -> ConsensusMode {
        self.mode
    }

    pub fn quorum(&self) -> usize {
        self.mode.quorum(self.voters.len())
    }

    pub fn as_slice(&self) -> &[Voter] {
        &self.voters
    }

    pub fn get(&self, identity: &Identity) -> Option<&Voter> {
        let at = self.voters.binary_search_by(|voter| voter.identity.cmp(identity)).ok()?;
        self.voters.get(at)
    }

    /// Whose turn it is to propose: the voters in order, one on a height and one on a round.
    /// `None` only where there are no voters.
    pub fn proposer(&self, height: Height, round: Round) -> Option<&Voter> {
        let count = u64::try_from(self.voters.len()).ok().filter(|count| *count > 0)?;
        let turn = (height.get() % count + u64::from(round.get()) % count) % count;
        self.voters.get(usize::try_from(turn).ok()?)
    }
}

/// The two votes of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    Prevote,
    Precommit,
}

/// What a voter says: this block at this height and round, or none (nil).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vote {
    pub phase: Phase,
    pub height: Height,
    pub round: Round,
    pub block: Option<Hash>,
}

impl Vote {
    /// What the voter signs.
    pub fn digest(&self, network: &Hash) -> Hash {
        digest(Domain::Vote, network, &[&codec::encode(self)])
    }
}

/// What a proposer says: this block, and the round of the polka that unlocks it, if any.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proposal {
    pub height: Height,
    pub round: Round,
    pub polka_round: Option<Round>,
    pub block: Hash,
}

impl Proposal {
    /// What the proposer signs.
    pub fn digest(&self, network: &Hash) -> Hash {
        digest(Domain::Proposal, network, &[&codec::encode(self)])
    }
}

/// A vote with its voter and signature, not yet vouched for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedVote {
    pub voter: Identity,
    pub vote: Vote,
    pub signature: Signature,
}

impl SignedVote {
    pub fn verify(&self, network: &Hash, voters: &Voters) -> Result<(), CertificateError> {
        verify_one(voters, &self.voter, &self.vote.digest(network), &self.signature)
    }
}

/// A proposal with its proposer and signature, not yet vouched for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedProposal {
    pub proposer: Identity,
    pub proposal: Proposal,
    pub signature: Signature,
}

impl SignedProposal {
    pub fn verify(&self, network: &Hash, voters: &Voters) -> Result<(), CertificateError> {
        verify_one(voters, &self.proposer, &self.proposal.digest(network), &self.signature)
    }
}

/// One voter's part of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommitSignature {
    pub voter: Identity,
    pub signature: Signature,
}

/// The precommits that decided a block: proof to anyone who knows the voters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    pub height: Height,
    pub round: Round,
    pub block: Hash,
    /// In the order of the voters' identities, each once.
    pub signatures: Vec<CommitSignature>,
}

/// Why a vote, proposal or certificate proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CertificateError {
    #[error("{0} is not a voter")]
    NotAVoter(Identity),
    #[error("the signature of {voter}: {reason}")]
    Signature { voter: Identity, reason: CryptoError },
    #[error("{voter} stands twice or out of order")]
    OutOfOrder { voter: Identity },
    #[error("{count} precommits where {quorum} decide")]
    NoQuorum { count: usize, quorum: usize },
}

impl Certificate {
    /// Checks every signature and the quorum. One bad signature spoils a certificate: an honest
    /// node never makes one.
    pub fn verify(&self, network: &Hash, voters: &Voters) -> Result<(), CertificateError> {
        let (count, quorum) = (self.signatures.len(), voters.quorum());
        if count < quorum || count == 0 {
            return Err(CertificateError::NoQuorum { count, quorum });
        }
        let mut seen = BTreeSet::new();
        for commit in &self.signatures {
            if voters.get(&commit.voter).is_none() {
                return Err(CertificateError::NotAVoter(commit.voter.clone()));
            }
            if seen.last().is_some_and(|last| *last >= &commit.voter) {
                return Err(CertificateError::OutOfOrder { voter: commit.voter.clone() });
            }
            seen.insert(&commit.voter);
        }
        let digest = self.vote().digest(network);
        self.signatures.iter().try_for_each(|commit| verify_one(voters, &commit.voter, &digest, &commit.signature))
    }

    /// The vote that every signature is of.
    pub fn vote(&self) -> Vote {
        Vote { phase: Phase::Precommit, height: self.height, round: self.round, block: Some(self.block) }
    }
}

fn verify_one(voters: &Voters, voter: &Identity, digest: &Hash, signature: &Signature) -> Result<(), CertificateError> {
    let known = voters.get(voter).ok_or_else(|| CertificateError::NotAVoter(voter.clone()))?;
    known.key.verify(digest, signature).map_err(|reason| CertificateError::Signature { voter: voter.clone(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SecretKey;

    const NETWORK: Hash = Hash::from_bytes([3; 32]);

    fn key(node: u8) -> SecretKey {
        SecretKey::from_bytes(&[node + 1; 32]).unwrap()
    }

    fn identity(node: u8) -> Identity {
        format!("node{node}@Org").parse().unwrap()
    }

    fn voters(mode: ConsensusMode) -> Voters {
        Voters::new(mode, (0..4).map(|i| Voter { identity: identity(i), key: key(i).public_key() }).collect())
    }

    fn certificate(signers: &[u8]) -> Certificate {
        let mut certificate =
            Certificate { height: Height::new(1), round: Round::ZERO, block: Hash::ZERO, signatures: vec![] };
        let digest = certificate.vote().digest(&NETWORK);
        certificate.signatures =
            signers.iter().map(|i| CommitSignature { voter: identity(*i), signature: key(*i).sign(&digest) }).collect();
        certificate
    }

    #[test]
    fn quorums() {
        let bft: Vec<_> = (1..=10).map(|n| ConsensusMode::Bft.quorum(n)).collect();
        assert_eq!(bft, [1, 2, 3, 3, 4, 5, 5, 6, 7, 7]);
        assert_eq!(ConsensusMode::FullConsent.quorum(7), 7);
    }

    #[test]
    fn a_certificate_needs_a_quorum_of_distinct_voters() {
        let bft = voters(ConsensusMode::Bft);
        assert_eq!(certificate(&[0, 1, 3]).verify(&NETWORK, &bft), Ok(()));
        let few = certificate(&[0, 1]).verify(&NETWORK, &bft);
        assert_eq!(few, Err(CertificateError::NoQuorum { count: 2, quorum: 3 }));
        let twice = certificate(&[0, 1, 1]).verify(&NETWORK, &bft);
        assert_eq!(twice, Err(CertificateError::OutOfOrder { voter: identity(1) }));
        let stranger = certificate(&[0, 1, 7]).verify(&NETWORK, &bft);
        assert_eq!(stranger, Err(CertificateError::NotAVoter(identity(7))));
        let all = voters(ConsensusMode::FullConsent);
        assert!(certificate(&[0, 1, 3]).verify(&NETWORK, &all).is_err());
        assert_eq!(certificate(&[0, 1, 2, 3]).verify(&NETWORK, &all), Ok(()));
        let mut moved = certificate(&[0, 1, 3]);
        moved.round = Round::new(1);
        assert!(matches!(moved.verify(&NETWORK, &bft), Err(CertificateError::Signature { .. })));
        assert!(certificate(&[]).verify(&NETWORK, &Voters::new(ConsensusMode::FullConsent, vec![])).is_err());
    }

    #[test]
    fn the_proposer_goes_round_and_is_there_for_any_height_and_round() {
        let voters = voters(ConsensusMode::Bft);
        let at = |h, r| voters.proposer(Height::new(h), Round::new(r)).unwrap().identity.clone();
        assert_eq!(at(1, 0), identity(1));
        assert_eq!(at(1, 1), identity(2));
        assert_eq!(at(4, 0), identity(0));
        let _ = at(u64::MAX, u32::MAX);
    }
}

//! Our types in the shape the consensus library wants.
//!
//! Nothing is decided here. The library is generic over a `Context`; ours has the identity of a
//! voter for its address, the hash of a block for its value, one vote a voter for its power, and
//! no vote extensions.

use std::sync::Arc;

use arc_malachitebft_core_consensus as library;
use arc_malachitebft_core_types as library_types;

pub(super) use library::{
    Effect, Error as EngineError, Input as EngineInput, LivenessMsg, LocallyProposedValue, Params, ProposedValue,
    Resumable, SignedConsensusMsg, State, process,
};
pub(super) use library_types::{
    CommitCertificate as EngineCommit, NilOrVal, PolkaCertificate as EnginePolka, Round as EngineRound,
    RoundCertificate as EngineRoundCertificate, SignedMessage, ThresholdParam, ThresholdParams, Timeout, TimeoutKind,
    Validity, ValueOrigin, ValuePayload, VoteExtensionPolicy,
};
pub(super) use library_types::{PolkaSignature, RoundCertificateType, RoundSignature, VoteType};

use super::api::{PROPOSALS_A_ROUND, ROUNDS_AHEAD};
use crate::{
    crypto::{CryptoError, PublicKey, Signature},
    types::{Hash, Height, Identity, Round},
    vote::{ConsensusMode, Voter, Voters},
};

// Admission and the library must draw the same lines, or what one takes the other drops unseen.
const _: () = assert!(ROUNDS_AHEAD == library::MAX_FUTURE_ROUND_LOOKAHEAD);
const _: () = assert!(PROPOSALS_A_ROUND == library::full_proposal::MAX_PROPOSALS_PER_ROUND);

/// Our instance of the library.
#[derive(Debug, Clone)]
pub(super) struct Engine;

/// A vote with its voter, which the library counts as part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EngineVote {
    pub kind: VoteType,
    pub height: Height,
    pub round: EngineRound,
    pub value: NilOrVal<Hash>,
    pub voter: Identity,
}

/// A proposal with its proposer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EngineProposal {
    pub height: Height,
    pub round: EngineRound,
    pub polka_round: EngineRound,
    pub block: Hash,
    pub proposer: Identity,
}

/// The voters of a height; there is at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Electorate {
    voters: Arc<Voters>,
    first: Voter,
}

impl Electorate {
    pub fn new(voters: Voters) -> Option<Self> {
        let first = voters.as_slice().first()?.clone();
        Some(Self { voters: Arc::new(voters), first })
    }

    pub fn voters(&self) -> &Voters {
        &self.voters
    }

    /// Total: unverified input must not be able to reach a round without a proposer.
    pub fn proposer(&self, height: Height, round: EngineRound) -> &Voter {
        let round = Round::new(round.as_u32().unwrap_or(0));
        self.voters.proposer(height, round).unwrap_or(&self.first)
    }
}

/// What the library must count as agreement, so that it and [`Voters::quorum`] say the same.
///
/// Full consent is "more than 999,999 in 1,000,000", which for fewer voters than a million is all
/// of them, whatever their number.
pub(super) fn thresholds(mode: ConsensusMode) -> ThresholdParams {
    let quorum = match mode {
        ConsensusMode::Bft => ThresholdParam::TWO_F_PLUS_ONE,
        ConsensusMode::FullConsent => ThresholdParam::new(999_999, 1_000_000),
    };
    ThresholdParams { quorum, honest: ThresholdParam::F_PLUS_ONE }
}

impl library_types::Context for Engine {
    type Address = Identity;
    type Height = Height;
    type ProposalPart = NoPart;
    type Proposal = EngineProposal;
    type Validator = Voter;
    type ValidatorSet = Electorate;
    type Timeouts = library_types::LinearTimeouts;
    type Value = Hash;
    type Vote = EngineVote;
    type Extension = ();
    type SigningScheme = Ecdsa;

    fn select_proposer<'a>(&self, voters: &'a Electorate, height: Height, round: EngineRound) -> &'a Voter {
        voters.proposer(height, round)
    }

    fn new_proposal(
        &self,
        height: Height,
        round: EngineRound,
        block: Hash,
        polka_round: EngineRound,
        proposer: Identity,
    ) -> EngineProposal {
        EngineProposal { height, round, polka_round, block, proposer }
    }

    fn new_prevote(&self, height: Height, round: EngineRound, value: NilOrVal<Hash>, voter: Identity) -> EngineVote {
        EngineVote { kind: VoteType::Prevote, height, round, value, voter }
    }

    fn new_precommit(&self, height: Height, round: EngineRound, value: NilOrVal<Hash>, voter: Identity) -> EngineVote {
        EngineVote { kind: VoteType::Precommit, height, round, value, voter }
    }
}

impl library_types::Height for Height {
    const ZERO: Self = Self::GENESIS;
    const INITIAL: Self = Self::new(1);

    fn increment_by(&self, n: u64) -> Self {
        Self::new(self.get().saturating_add(n))
    }

    fn decrement_by(&self, n: u64) -> Option<Self> {
        self.get().checked_sub(n).map(Self::new)
    }

    fn as_u64(&self) -> u64 {
        self.get()
    }
}

impl library_types::Address for Identity {}

impl library_types::Value for Hash {
    type Id = Self;

    fn id(&self) -> Self {
        *self
    }
}

impl library_types::Validator<Engine> for Voter {
    fn address(&self) -> &Identity {
        &self.identity
    }

    fn public_key(&self) -> &PublicKey {
        &self.key
    }

    fn voting_power(&self) -> u64 {
        1
    }
}

impl library_types::ValidatorSet<Engine> for Electorate {
    fn count(&self) -> usize {
        self.voters.as_slice().len()
    }

    fn total_voting_power(&self) -> u64 {
        self.voters.as_slice().len() as u64
    }

    fn get_by_address(&self, address: &Identity) -> Option<&Voter> {
        self.voters.get(address)
    }

    fn get_by_index(&self, index: usize) -> Option<&Voter> {
        self.voters.as_slice().get(index)
    }
}

impl library_types::Vote<Engine> for EngineVote {
    fn height(&self) -> Height {
        self.height
    }

    fn round(&self) -> EngineRound {
        self.round
    }

    fn value(&self) -> &NilOrVal<Hash> {
        &self.value
    }

    fn take_value(self) -> NilOrVal<Hash> {
        self.value
    }

    fn vote_type(&self) -> VoteType {
        self.kind
    }

    fn validator_address(&self) -> &Identity {
        &self.voter
    }

    fn extension(&self) -> Option<&SignedMessage<Engine, ()>> {
        None
    }

    fn take_extension(&mut self) -> Option<SignedMessage<Engine, ()>> {
        None
    }

    fn extend(self, _: SignedMessage<Engine, ()>) -> Self {
        self
    }
}

impl library_types::Proposal<Engine> for EngineProposal {
    fn height(&self) -> Height {
        self.height
    }

    fn round(&self) -> EngineRound {
        self.round
    }

    fn value(&self) -> &Hash {
        &self.block
    }

    fn take_value(self) -> Hash {
        self.block
    }

    fn pol_round(&self) -> EngineRound {
        self.polka_round
    }

    fn validator_address(&self) -> &Identity {
        &self.proposer
    }
}

/// Block bodies do not pass through the library, so there are no parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NoPart;

impl library_types::ProposalPart<Engine> for NoPart {
    fn is_first(&self) -> bool {
        true
    }

    fn is_last(&self) -> bool {
        true
    }
}

/// Signatures as the library sees them: something it carries about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ecdsa;

impl library_types::SigningScheme for Ecdsa {
    type DecodingError = CryptoError;
    type Signature = Signature;
    type PublicKey = PublicKey;
    /// The library never sees a key.
    type PrivateKey = ();

    fn decode_signature(bytes: &[u8]) -> Result<Signature, CryptoError> {
        bytes.try_into().map(Signature::from_bytes).map_err(|_| CryptoError::SignatureEncoding)
    }

    fn encode_signature(signature: &Signature) -> Vec<u8> {
        signature.as_bytes().to_vec()
    }

    fn decode_public_key(bytes: &[u8]) -> Result<PublicKey, CryptoError> {
        bytes.try_into().map_err(|_| CryptoError::PublicKey).and_then(PublicKey::from_bytes)
    }

    fn encode_public_key(key: &PublicKey) -> Vec<u8> {
        key.to_bytes().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{consensus::api::MAX_VOTERS, crypto::SecretKey};

    #[test]
    fn the_library_and_the_certificates_count_alike() {
        for mode in [ConsensusMode::Bft, ConsensusMode::FullConsent] {
            let ThresholdParams { quorum, honest } = thresholds(mode);
            for voters in 1..=MAX_VOTERS {
                let (least, total) = (mode.quorum(voters) as u64, voters as u64);
                assert!(quorum.is_met(least, total) && !quorum.is_met(least - 1, total), "{mode:?}, {voters}");
                let least = super::super::wire::honest(voters) as u64;
                assert!(honest.is_met(least, total) && !honest.is_met(least - 1, total), "{mode:?}, {voters}");
                assert!(least <= mode.quorum(voters) as u64, "{mode:?}, {voters}: a quorum has an honest voter");
            }
        }
    }

    #[test]
    fn any_round_has_a_proposer_nil_too() {
        for count in [1, 4] {
            let key = |n: u8| SecretKey::from_bytes(&[n + 1; 32]).unwrap().public_key();
            let voter = |n: u8| Voter { identity: format!("node{n}@Org").parse().unwrap(), key: key(n) };
            let voters = Voters::new(ConsensusMode::Bft, (0..count).map(voter).collect());
            let electorate = Electorate::new(voters).unwrap();
            for height in [0, 1, 4, u64::MAX].map(Height::new) {
                let proposer = |round| electorate.proposer(height, round).clone();
                assert_eq!(proposer(EngineRound::Nil), proposer(EngineRound::new(0)));
                assert!(electorate.voters().get(&proposer(EngineRound::new(u32::MAX)).identity).is_some());
            }
        }
    }
}

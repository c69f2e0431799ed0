//! Our types in the shape the consensus library wants, and back.
//!
//! Nothing is decided here. The library is generic over a `Context`; ours has the identity of a
//! voter for its address, the hash of a block for its value, one vote a voter for its power, and
//! no vote extensions. The library's rounds may be nil; ours never are, so reading one back can
//! fail, which [`Core`](super::Core) reports as a fault.

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
use library_types::{PolkaSignature, RoundCertificateType, RoundSignature, VoteType};

use super::{
    timers::{Timer, TimerKind},
    wire::{PolkaCertificate, RoundCertificate, RoundReason, RoundVote},
};
use crate::{
    crypto::{CryptoError, PublicKey, Signature},
    types::{Hash, Height, Identity, Round},
    vote::{
        Certificate, CommitSignature, ConsensusMode, Phase, Proposal, SignedProposal, SignedVote, Vote, Voter, Voters,
    },
};

/// Our instance of the library.
#[derive(Debug, Clone)]
pub(super) struct Engine;

/// A vote with its voter, which the library counts as part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EngineVote {
    kind: VoteType,
    height: Height,
    round: EngineRound,
    value: NilOrVal<Hash>,
    voter: Identity,
}

/// A proposal with its proposer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EngineProposal {
    height: Height,
    round: EngineRound,
    polka_round: EngineRound,
    block: Hash,
    proposer: Identity,
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

pub(super) fn round_in(round: Round) -> EngineRound {
    EngineRound::new(round.get())
}

pub(super) fn round_out(round: EngineRound) -> Option<Round> {
    round.as_u32().map(Round::new)
}

fn value_in(block: Option<Hash>) -> NilOrVal<Hash> {
    block.map_or(NilOrVal::Nil, NilOrVal::Val)
}

fn value_out(value: &NilOrVal<Hash>) -> Option<Hash> {
    match value {
        NilOrVal::Nil => None,
        NilOrVal::Val(block) => Some(*block),
    }
}

pub(super) fn kind_in(phase: Phase) -> VoteType {
    match phase {
        Phase::Prevote => VoteType::Prevote,
        Phase::Precommit => VoteType::Precommit,
    }
}

fn kind_out(kind: VoteType) -> Phase {
    match kind {
        VoteType::Prevote => Phase::Prevote,
        VoteType::Precommit => Phase::Precommit,
    }
}

pub(super) fn vote_in(signed: &SignedVote) -> SignedMessage<Engine, EngineVote> {
    let SignedVote { voter, vote, signature } = signed;
    let vote = EngineVote {
        kind: kind_in(vote.phase),
        height: vote.height,
        round: round_in(vote.round),
        value: value_in(vote.block),
        voter: voter.clone(),
    };
    SignedMessage::new(vote, *signature)
}

pub(super) fn bare_vote_out(vote: &EngineVote) -> Option<Vote> {
    let round = round_out(vote.round)?;
    Some(Vote { phase: kind_out(vote.kind), height: vote.height, round, block: value_out(&vote.value) })
}

pub(super) fn vote_out(signed: &SignedMessage<Engine, EngineVote>) -> Option<SignedVote> {
    let vote = bare_vote_out(&signed.message)?;
    Some(SignedVote { voter: signed.message.voter.clone(), vote, signature: signed.signature })
}

pub(super) fn proposal_in(signed: &SignedProposal) -> SignedMessage<Engine, EngineProposal> {
    let SignedProposal { proposer, proposal, signature } = signed;
    let proposal = EngineProposal {
        height: proposal.height,
        round: round_in(proposal.round),
        polka_round: proposal.polka_round.map_or(EngineRound::Nil, round_in),
        block: proposal.block,
        proposer: proposer.clone(),
    };
    SignedMessage::new(proposal, *signature)
}

pub(super) fn bare_proposal_out(proposal: &EngineProposal) -> Option<Proposal> {
    Some(Proposal {
        height: proposal.height,
        round: round_out(proposal.round)?,
        polka_round: round_out(proposal.polka_round),
        block: proposal.block,
    })
}

pub(super) fn proposal_out(signed: &SignedMessage<Engine, EngineProposal>) -> Option<SignedProposal> {
    let proposal = bare_proposal_out(&signed.message)?;
    Some(SignedProposal { proposer: signed.message.proposer.clone(), proposal, signature: signed.signature })
}

pub(super) fn polka_in(certificate: &PolkaCertificate) -> EnginePolka<Engine> {
    let signature = |one: &CommitSignature| PolkaSignature::new(one.voter.clone(), one.signature);
    EnginePolka {
        height: certificate.height,
        round: round_in(certificate.round),
        value_id: certificate.block,
        polka_signatures: certificate.signatures.iter().map(signature).collect(),
    }
}

pub(super) fn polka_out(certificate: &EnginePolka<Engine>) -> Option<PolkaCertificate> {
    let signature =
        |one: &PolkaSignature<Engine>| CommitSignature { voter: one.address.clone(), signature: one.signature };
    Some(PolkaCertificate {
        height: certificate.height,
        round: round_out(certificate.round)?,
        block: certificate.value_id,
        signatures: certificate.polka_signatures.iter().map(signature).collect(),
    })
}

pub(super) fn round_certificate_in(certificate: &RoundCertificate) -> EngineRoundCertificate<Engine> {
    let cert_type = match certificate.reason {
        RoundReason::Skip => RoundCertificateType::Skip,
        RoundReason::Precommit => RoundCertificateType::Precommit,
    };
    let vote = |one: &RoundVote| {
        RoundSignature::new(kind_in(one.phase), value_in(one.block), one.voter.clone(), one.signature)
    };
    EngineRoundCertificate {
        height: certificate.height,
        round: round_in(certificate.round),
        cert_type,
        round_signatures: certificate.votes.iter().map(vote).collect(),
    }
}

pub(super) fn round_certificate_out(certificate: &EngineRoundCertificate<Engine>) -> Option<RoundCertificate> {
    let reason = match certificate.cert_type {
        RoundCertificateType::Skip => RoundReason::Skip,
        RoundCertificateType::Precommit => RoundReason::Precommit,
    };
    let vote = |one: &RoundSignature<Engine>| RoundVote {
        voter: one.address.clone(),
        phase: kind_out(one.vote_type),
        block: value_out(&one.value_id),
        signature: one.signature,
    };
    let round = round_out(certificate.round)?;
    let votes = certificate.round_signatures.iter().map(vote).collect();
    Some(RoundCertificate { height: certificate.height, round, reason, votes })
}

/// The library keeps precommits as they arrived; a certificate has them in the voters' order.
pub(super) fn commit_out(certificate: &EngineCommit<Engine>) -> Option<Certificate> {
    let mut signatures: Vec<_> = certificate
        .commit_signatures
        .iter()
        .map(|one| CommitSignature { voter: one.address.clone(), signature: one.signature })
        .collect();
    signatures.sort_by(|a, b| a.voter.cmp(&b.voter));
    signatures.dedup_by(|a, b| a.voter == b.voter);
    let round = round_out(certificate.round)?;
    Some(Certificate { height: certificate.height, round, block: certificate.value_id, signatures })
}

pub(super) fn timeout_in(timer: Timer) -> Timeout {
    let kind = match timer.kind {
        TimerKind::Propose => TimeoutKind::Propose,
        TimerKind::Prevote => TimeoutKind::Prevote,
        TimerKind::Precommit => TimeoutKind::Precommit,
        TimerKind::Rebroadcast => TimeoutKind::Rebroadcast,
    };
    Timeout::new(round_in(timer.round), kind)
}

/// `None` also for the alarm that ends a finalisation period, of which we have none.
pub(super) fn timeout_out(height: Height, timeout: Timeout) -> Option<Timer> {
    let kind = match timeout.kind {
        TimeoutKind::Propose => TimerKind::Propose,
        TimeoutKind::Prevote => TimerKind::Prevote,
        TimeoutKind::Precommit => TimerKind::Precommit,
        TimeoutKind::Rebroadcast => TimerKind::Rebroadcast,
        TimeoutKind::FinalizeHeight(_) => return None,
    };
    Some(Timer { height, round: round_out(timeout.round)?, kind })
}

//! Our values into the library's, and back.
//!
//! The library's rounds may be nil; ours never are, so reading one back can fail, which
//! [`Core`](super::Core) reports as a fault.

use super::{
    engine::{
        Engine, EngineCommit, EnginePolka, EngineProposal, EngineRound, EngineRoundCertificate, EngineVote, NilOrVal,
        PolkaSignature, RoundCertificateType, RoundSignature, SignedMessage, Timeout, TimeoutKind, VoteType,
    },
    timers::{Timer, TimerKind},
    wire::{PolkaCertificate, RoundCertificate, RoundReason, RoundVote},
};
use crate::{
    types::{Hash, Height, Round},
    vote::{Certificate, CommitSignature, Phase, Proposal, SignedProposal, SignedVote, Vote},
};

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

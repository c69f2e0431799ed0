//! Where the library's effects are turned into [`Output`]s.
//!
//! The library yields an effect, wants an answer and goes on; an error as the answer it would turn
//! into "done" without a word. So no effect is carried out here: it becomes an output, for the
//! shell to carry out or to die over, and the answer never fails.
//!
//! **Abstaining.** The library does not know of a refused signature. It gets its vote back with
//! [`UNSIGNED`], fails to "verify" it, does not count it, and hands it over for publishing, where
//! it is dropped. Its round goes on as if the vote had been lost. The vote is kept in `unsigned`,
//! so that the signer can be asked again.
//!
//! **Replay.** While the log is replayed nothing is signed, logged or sent. Our own votes stand in
//! the log like anybody's and are counted where they stand, so the library is given the very
//! sequence it was given before the crash, also where a vote had been signed late.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    api::{BodyEntry, Fault, LogEntry, Output, Signer},
    convert,
    engine::{
        Effect, Engine, EngineCommit, EngineInput, EngineProposal, EngineRound, EngineVote, LivenessMsg, Resumable,
        SignedConsensusMsg, SignedMessage, Timeout,
    },
    guard::VoteGuard,
    timers::{Timeouts, Timer},
    wire::Wire,
};
use crate::{
    crypto::Signature,
    types::{Height, Identity, Round},
    vote::{Certificate, Phase, Proposal, SignedProposal, Vote},
};
use arc_malachitebft_core_consensus::{Resume, VoteExtensionError};
use arc_malachitebft_core_types::CertificateError;

/// What stands where a signature was refused. R and S are zero, so no verifier takes it.
pub(super) const UNSIGNED: Signature = Signature::from_bytes([0; 64]);

pub(super) struct Desk {
    pub me: Identity,
    pub height: Height,
    pub timeouts: Timeouts,
    pub quorum: usize,
    pub replaying: bool,
    pub decided: bool,
    /// The decision, until all else has been said: the vote that made it ours still has to leave.
    pub decision: Option<Certificate>,
    pub guard: VoteGuard,
    /// The alarms that are set; others that go off are stale.
    pub timers: BTreeSet<Timer>,
    /// The round from which on rounds grow: that of the start, or in which the network last healed.
    pub calm_round: Round,
    /// Votes of this round that the library believes cast and the signer refused.
    pub unsigned: BTreeMap<Phase, Vote>,
    pub unsigned_proposal: Option<Proposal>,
    /// The round we were asked to build a block for and have not.
    pub wants_block: Option<Round>,
    /// Proposals we have just made.
    pub made: Vec<SignedProposal>,
    pub outputs: Vec<Output>,
}

impl Desk {
    /// Answers one effect.
    pub fn handle(&mut self, effect: Effect<Engine>, signer: &mut dyn Signer) -> Resume<Engine> {
        match effect {
            Effect::CancelAllTimeouts(resume) => {
                self.cancel_all();
                resume.resume_with(())
            }
            Effect::CancelTimeout(timeout, resume) => {
                self.cancel(timeout);
                resume.resume_with(())
            }
            Effect::ScheduleTimeout(timeout, resume) => {
                match convert::timeout_out(self.height, timeout) {
                    Some(timer) => self.schedule(timer),
                    None => self.fault(Fault::Unexpected("an alarm without a round")),
                }
                resume.resume_with(())
            }
            Effect::StartRound(_, _, _, _, resume) => {
                self.unsigned.clear();
                self.unsigned_proposal = None;
                self.wants_block = None;
                resume.resume_with(())
            }
            Effect::PublishConsensusMsg(message, resume) => {
                self.publish(message);
                resume.resume_with(())
            }
            Effect::PublishLivenessMsg(message, resume) => {
                self.publish_liveness(message);
                resume.resume_with(())
            }
            Effect::RepublishVote(vote, resume) => {
                self.publish_vote(&vote);
                resume.resume_with(())
            }
            Effect::RepublishRoundCertificate(certificate, resume) => {
                self.broadcast(convert::round_certificate_out(&certificate).map(Wire::Round));
                resume.resume_with(())
            }
            Effect::GetValue(_, round, _, resume) => {
                self.ask_for_block(round);
                resume.resume_with(())
            }
            Effect::RestreamProposal(_, round, _, _, block, resume) => {
                let refused = self.unsigned_proposal.as_ref().is_some_and(|proposal| proposal.block == block);
                if let Some(round) = convert::round_out(round).filter(|_| !refused) {
                    self.emit(Output::SendBody { round, block });
                }
                resume.resume_with(())
            }
            Effect::Decide(certificate, _, resume) => {
                self.decide(&certificate);
                resume.resume_with(())
            }
            // Evidence was handed out as it was found, and the next height has a core of its own.
            Effect::Finalize(_, _, _, resume) => resume.resume_with(()),
            Effect::SignVote(vote, resume) => {
                let signature = self.sign_engine_vote(&vote, signer);
                resume.resume_with(SignedMessage::new(vote, signature))
            }
            Effect::SignProposal(proposal, resume) => {
                let signature = self.sign_engine_proposal(&proposal, signer);
                resume.resume_with(SignedMessage::new(proposal, signature))
            }
            // Nothing unverified gets as far as this, and what is in the log was verified before.
            Effect::VerifySignature(message, _, resume) => resume.resume_with(message.signature != UNSIGNED),
            Effect::VerifyPolkaCertificate(_, _, _, resume) => resume.resume_with(Ok(())),
            Effect::VerifyRoundCertificate(_, _, _, resume) => resume.resume_with(Ok(())),
            // Made of votes the library has counted itself. It panics at a "no", so the count is
            // checked in `decide`.
            Effect::VerifyCommitCertificate(_, _, _, resume) => resume.resume_with(Ok(())),
            Effect::WalAppend(_, input, resume) => {
                self.log(input);
                resume.resume_with(())
            }
            // The rest belongs to what is not used: vote extensions, and decisions by the library
            // on certificates fetched from others (those are stored without a core).
            Effect::VerifyExtendedCommitCertificate(_, _, _, _, resume) => {
                self.fault(Fault::Unexpected("the check of an extended certificate"));
                resume.resume_with(Err(CertificateError::VerificationError(None)))
            }
            Effect::CertVerifiedSyncValue(_, _, resume) => {
                self.fault(Fault::Unexpected("a synced block"));
                resume.resume_with(())
            }
            Effect::CertRejectedSyncValue(_, _, _, resume) => {
                self.fault(Fault::Unexpected("the blame for a synced block"));
                resume.resume_with(())
            }
            Effect::ExtendVote(_, _, _, _, resume) => {
                self.fault(Fault::Unexpected("a vote extension"));
                resume.resume_with(None)
            }
            Effect::VerifyVoteExtension(_, _, _, _, _, _, resume) => {
                self.fault(Fault::Unexpected("the check of a vote extension"));
                resume.resume_with(Err(VoteExtensionError::InvalidVoteExtension))
            }
        }
    }

    /// Asks guard and signer; says so if there is no signature. `None` also during replay.
    pub fn sign_vote(&mut self, vote: &Vote, signer: &mut dyn Signer) -> Option<Signature> {
        if self.replaying {
            self.unsigned.insert(vote.phase, vote.clone());
            return None;
        }
        if let Err(reason) = self.guard.vote(vote) {
            // For good: asking again would not change what we have said.
            self.unsigned.remove(&vote.phase);
            self.fault(Fault::Guard(reason));
            return None;
        }
        let signature = signer.sign_vote(vote);
        if signature.is_some() {
            self.unsigned.remove(&vote.phase);
        } else {
            self.unsigned.insert(vote.phase, vote.clone());
            self.fault(Fault::VoteNotSigned { phase: vote.phase, round: vote.round });
        }
        signature
    }

    /// As [`Self::sign_vote`], for our proposal.
    pub fn sign_proposal(&mut self, proposal: &Proposal, signer: &mut dyn Signer) -> Option<Signature> {
        self.unsigned_proposal = None;
        if !self.replaying {
            if let Err(reason) = self.guard.proposal(proposal) {
                self.fault(Fault::Guard(reason));
                return None;
            }
            if let Some(signature) = signer.sign_proposal(proposal) {
                return Some(signature);
            }
            self.fault(Fault::ProposalNotSigned(proposal.round));
        }
        self.unsigned_proposal = Some(proposal.clone());
        None
    }

    /// Nothing follows a decision, though the library goes on to the end of its list.
    pub fn schedule(&mut self, timer: Timer) {
        if self.decided {
            return;
        }
        self.timers.insert(timer);
        let grown = Round::new(timer.round.get().saturating_sub(self.calm_round.get()));
        self.emit(Output::Schedule(timer, self.timeouts.duration(timer.kind, grown)));
    }

    pub fn publish_vote(&mut self, vote: &SignedMessage<Engine, EngineVote>) {
        if vote.signature != UNSIGNED {
            self.broadcast(convert::vote_out(vote).map(Wire::Vote));
        }
    }

    pub fn broadcast(&mut self, message: Option<Wire>) {
        match message {
            Some(message) => self.emit(Output::Broadcast(message)),
            None => self.fault(Fault::Unexpected("a message without a round")),
        }
    }

    /// An output, unless it is of the past.
    pub fn emit(&mut self, output: Output) {
        if !self.replaying {
            self.outputs.push(output);
        }
    }

    pub fn fault(&mut self, fault: Fault) {
        self.outputs.push(Output::Fault(fault));
    }

    fn sign_engine_vote(&mut self, vote: &EngineVote, signer: &mut dyn Signer) -> Signature {
        let vote = convert::bare_vote_out(vote);
        vote.and_then(|vote| self.sign_vote(&vote, signer)).unwrap_or(UNSIGNED)
    }

    fn sign_engine_proposal(&mut self, proposal: &EngineProposal, signer: &mut dyn Signer) -> Signature {
        let proposal = convert::bare_proposal_out(proposal);
        proposal.and_then(|proposal| self.sign_proposal(&proposal, signer)).unwrap_or(UNSIGNED)
    }

    fn publish(&mut self, message: SignedConsensusMsg<Engine>) {
        match message {
            SignedConsensusMsg::Vote(vote) => self.publish_vote(&vote),
            SignedConsensusMsg::Proposal(proposal) if proposal.signature == UNSIGNED => {}
            SignedConsensusMsg::Proposal(proposal) => {
                let proposal = convert::proposal_out(&proposal);
                let new_block = proposal
                    .as_ref()
                    .filter(|signed| signed.proposer == self.me && signed.proposal.polka_round.is_none())
                    .map(|signed| Output::SendBody { round: signed.proposal.round, block: signed.proposal.block });
                self.broadcast(proposal.map(Wire::Proposal));
                new_block.into_iter().for_each(|output| self.emit(output));
            }
        }
    }

    fn publish_liveness(&mut self, message: LivenessMsg<Engine>) {
        match message {
            LivenessMsg::Vote(vote) => self.publish_vote(&vote),
            LivenessMsg::PolkaCertificate(polka) => self.broadcast(convert::polka_out(&polka).map(Wire::Polka)),
            LivenessMsg::SkipRoundCertificate(certificate) => {
                self.broadcast(convert::round_certificate_out(&certificate).map(Wire::Round));
            }
        }
    }

    fn cancel(&mut self, timeout: Timeout) {
        let timer = convert::timeout_out(self.height, timeout);
        if let Some(timer) = timer.filter(|timer| self.timers.remove(timer)) {
            self.emit(Output::Cancel(timer));
        }
    }

    fn cancel_all(&mut self) {
        if !self.timers.is_empty() {
            self.timers.clear();
            self.emit(Output::CancelAll);
        }
    }

    fn ask_for_block(&mut self, round: EngineRound) {
        self.wants_block = convert::round_out(round);
        if let Some(round) = self.wants_block {
            self.emit(Output::NeedBlock { round });
        }
    }

    fn decide(&mut self, certificate: &EngineCommit<Engine>) {
        match convert::commit_out(certificate).filter(|certificate| certificate.signatures.len() >= self.quorum) {
            Some(certificate) => {
                self.cancel_all();
                self.decided = true;
                self.decision = Some(certificate);
            }
            None => self.fault(Fault::Unexpected("a decision without a quorum")),
        }
    }

    fn log(&mut self, input: EngineInput<Engine>) {
        if self.decided {
            return;
        }
        let entry = match input {
            EngineInput::Vote(vote) => convert::vote_out(&vote).map(LogEntry::Vote),
            EngineInput::Proposal(proposal) => convert::proposal_out(&proposal).map(LogEntry::Proposal),
            EngineInput::PolkaCertificate(polka) => convert::polka_out(&polka).map(LogEntry::Polka),
            EngineInput::TimeoutElapsed(timeout) => convert::timeout_out(self.height, timeout).map(LogEntry::Timeout),
            EngineInput::ProposedValue(value, _) => convert::round_out(value.round).map(|round| {
                let valid = value.validity.is_valid();
                LogEntry::Body(BodyEntry { height: value.height, round, block: value.value, valid })
            }),
            _ => None,
        };
        match entry {
            Some(entry) => {
                if let LogEntry::Proposal(proposal) = &entry
                    && proposal.proposer == self.me
                {
                    self.made.push(proposal.clone());
                }
                self.emit(Output::Log(entry));
            }
            None => self.fault(Fault::Unexpected("a log entry that has no form")),
        }
    }
}

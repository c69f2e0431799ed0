//! What must hold in every run, watched from outside: it sees what honest nodes send and commit,
//! and knows nothing of the core.

use std::collections::BTreeMap;

use minidlt_protocol::{
    consensus::{Status, Wire},
    types::{Hash, Height, Round},
    vote::{Certificate, Phase, Voters},
};

use super::world::Block;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    Fork { height: Height, blocks: [Hash; 2] },
    InvalidBlock { height: Height, block: Hash },
    BadCertificate { height: Height, node: usize },
    WrongPlace { height: Height, node: usize },
    MissingBody { height: Height, node: usize },
    DoubleVote { node: usize, height: Height, round: Round, phase: Phase },
    DoubleProposal { node: usize, height: Height, round: Round },
    Unsigned { node: usize },
    Stuck { heights: Vec<u64> },
    DecidedWithout { node: usize, at: u64 },
    Fault { node: usize, fault: String },
    Replay { node: usize, lived: Box<Status>, replayed: Box<Status> },
}

pub struct Checker {
    network: Hash,
    voters: Voters,
    decided: BTreeMap<Height, Hash>,
    votes: BTreeMap<(usize, Height, Round, Phase), Option<Hash>>,
    proposals: BTreeMap<(usize, Height, Round), (Option<Round>, Hash)>,
    pub violations: Vec<Violation>,
}

impl Checker {
    pub fn new(network: Hash, voters: Voters) -> Self {
        let (decided, votes, proposals) = Default::default();
        Self { network, voters, decided, votes, proposals, violations: Vec::new() }
    }

    /// An honest node lets this message leave.
    pub fn sent(&mut self, node: usize, message: &Wire) {
        if message.clone().verify(&self.network, &self.voters).is_err() {
            self.violations.push(Violation::Unsigned { node });
        }
        match message {
            // Others' proposals may be passed on.
            Wire::Proposal(signed) if signed.proposer == super::world::identity(node) => {
                let (height, round) = (signed.proposal.height, signed.proposal.round);
                let said = (signed.proposal.polka_round, signed.proposal.block);
                if *self.proposals.entry((node, height, round)).or_insert(said) != said {
                    self.violations.push(Violation::DoubleProposal { node, height, round });
                }
            }
            Wire::Vote(signed) if signed.voter == super::world::identity(node) => {
                let vote = &signed.vote;
                let (height, round, phase) = (vote.height, vote.round, vote.phase);
                if *self.votes.entry((node, height, round, phase)).or_insert(vote.block) != vote.block {
                    self.violations.push(Violation::DoubleVote { node, height, round, phase });
                }
            }
            _ => {}
        }
    }

    /// An honest node adds this block to its chain, whose last block is `previous`.
    pub fn committed(&mut self, node: usize, previous: Hash, block: &Block, certificate: &Certificate) {
        let (height, hash) = (certificate.height, certificate.block);
        if certificate.verify(&self.network, &self.voters).is_err() {
            self.violations.push(Violation::BadCertificate { height, node });
        }
        if block.hash() != hash || block.height != height || block.previous != previous {
            self.violations.push(Violation::WrongPlace { height, node });
        }
        if !block.good {
            self.violations.push(Violation::InvalidBlock { height, block: hash });
        }
        let first = *self.decided.entry(height).or_insert(hash);
        if first != hash {
            self.violations.push(Violation::Fork { height, blocks: [first, hash] });
        }
    }

    pub fn heights(&self) -> usize {
        self.decided.len()
    }
}

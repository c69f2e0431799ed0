//! What must hold in every run, watched from outside: it sees what honest nodes send and commit,
//! and knows nothing of the core.

use std::collections::{BTreeMap, BTreeSet};

use minidlt_protocol::{
    consensus::{Status, Wire},
    crypto::Signature,
    types::{Hash, Height, Identity, Round},
    vote::{Certificate, CommitSignature, ConsensusMode, Phase, Vote, Voters},
};

use super::{
    voters::{Change, Members, members_at, voters},
    world::Block,
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    Fork {
        height: Height,
        blocks: [Hash; 2],
    },
    InvalidBlock {
        height: Height,
        block: Hash,
    },
    BadCertificate {
        height: Height,
        node: usize,
    },
    WrongPlace {
        height: Height,
        node: usize,
    },
    MissingBody {
        height: Height,
        node: usize,
    },
    /// A node took others for the voters of a height than its chain says.
    OtherVoters {
        height: Height,
        node: usize,
    },
    /// It spoke at a height at which it does not vote, or with another key than its own there.
    NotAVoter {
        height: Height,
        node: usize,
    },
    DoubleVote {
        node: usize,
        height: Height,
        round: Round,
        phase: Phase,
    },
    DoubleProposal {
        node: usize,
        height: Height,
        round: Round,
    },
    Unsigned {
        node: usize,
    },
    Stuck {
        heights: Vec<u64>,
    },
    DecidedWithout {
        node: usize,
        at: u64,
    },
    Fault {
        node: usize,
        fault: String,
    },
    Replay {
        node: usize,
        lived: Box<Status>,
        replayed: Box<Status>,
    },
}

pub struct Checker {
    network: Hash,
    mode: ConsensusMode,
    first: Members,
    /// What each decided block changes.
    changes: Vec<Vec<Change>>,
    voters: BTreeMap<Height, Voters>,
    decided: BTreeMap<Height, Hash>,
    votes: BTreeMap<(usize, Height, Round, Phase), Option<Hash>>,
    proposals: BTreeMap<(usize, Height, Round), (Option<Round>, Hash)>,
    /// Signatures that hold: most certificates come several times.
    signed: BTreeSet<(Identity, Hash, [u8; 64])>,
    pub violations: Vec<Violation>,
}

impl Checker {
    pub fn new(network: Hash, mode: ConsensusMode, first: Members) -> Self {
        let (decided, votes, proposals, signed, voters, changes) = Default::default();
        let violations = Vec::new();
        Self { network, mode, first, changes, voters, decided, votes, proposals, signed, violations }
    }

    /// By the rule, from the blocks that were decided.
    fn voters(&mut self, height: Height) -> Option<&Voters> {
        if !self.voters.contains_key(&height) {
            let members = members_at(&self.first, &self.changes, height)?;
            self.voters.insert(height, voters(self.mode, &members));
        }
        self.voters.get(&height)
    }

    /// An honest node says something at this height, signed so.
    fn speaks(&mut self, node: usize, height: Height, digest: Hash, signature: &Signature) {
        let me = super::world::identity(node);
        let voter = self.voters(height).and_then(|voters| voters.get(&me).cloned());
        if voter.is_none_or(|voter| voter.key.verify(&digest, signature).is_err()) {
            self.violations.push(Violation::NotAVoter { height, node });
        }
    }

    /// An honest node lets this message leave.
    pub fn sent(&mut self, node: usize, message: &Wire) {
        match message {
            // Others' proposals may be passed on.
            Wire::Proposal(signed) if signed.proposer == super::world::identity(node) => {
                let (height, round) = (signed.proposal.height, signed.proposal.round);
                let said = (signed.proposal.polka_round, signed.proposal.block);
                if !self.proposals.contains_key(&(node, height, round)) {
                    self.speaks(node, height, signed.proposal.digest(&self.network), &signed.signature);
                }
                if *self.proposals.entry((node, height, round)).or_insert(said) != said {
                    self.violations.push(Violation::DoubleProposal { node, height, round });
                }
            }
            Wire::Vote(signed) if signed.voter == super::world::identity(node) => {
                let vote = &signed.vote;
                let (height, round, phase) = (vote.height, vote.round, vote.phase);
                if !self.votes.contains_key(&(node, height, round, phase)) {
                    self.speaks(node, height, vote.digest(&self.network), &signed.signature);
                }
                if *self.votes.entry((node, height, round, phase)).or_insert(vote.block) != vote.block {
                    self.violations.push(Violation::DoubleVote { node, height, round, phase });
                }
            }
            _ => {}
        }
    }

    /// Reckoned here once more, by nothing but the signatures.
    fn proves(&mut self, certificate: &Certificate) -> bool {
        let Certificate { height, round, block, signatures } = certificate;
        let Some(voters) = self.voters(*height).cloned() else { return false };
        let all = voters.as_slice();
        let signers: BTreeSet<_> = signatures.iter().map(|one| &one.voter).collect();
        let enough = match voters.mode() {
            ConsensusMode::Bft => 3 * signers.len() > 2 * all.len(),
            ConsensusMode::FullConsent => signers.len() == all.len(),
        };
        let vote = Vote { phase: Phase::Precommit, height: *height, round: *round, block: Some(*block) };
        let digest = vote.digest(&self.network);
        let mut signed = |one: &CommitSignature| {
            let known = (one.voter.clone(), digest, *one.signature.as_bytes());
            if self.signed.contains(&known) {
                return true;
            }
            let voter = all.iter().find(|voter| voter.identity == one.voter);
            let holds = voter.is_some_and(|voter| voter.key.verify(&digest, &one.signature).is_ok());
            if holds {
                self.signed.insert(known);
            }
            holds
        };
        enough && signers.len() == signatures.len() && signatures.iter().all(&mut signed)
    }

    /// An honest node adds this block to its chain, whose last block is `previous`.
    pub fn committed(&mut self, node: usize, previous: Hash, block: &Block, certificate: &Certificate, by: &Voters) {
        let (height, hash) = (certificate.height, certificate.block);
        // Two sets can decide one height only if two nodes differ in this.
        if self.voters(height) != Some(by) {
            self.violations.push(Violation::OtherVoters { height, node });
        }
        if !self.proves(certificate) {
            self.violations.push(Violation::BadCertificate { height, node });
        }
        if block.hash() != hash || block.height != height || block.previous != previous {
            self.violations.push(Violation::WrongPlace { height, node });
        }
        if !block.good {
            self.violations.push(Violation::InvalidBlock { height, block: hash });
        }
        if !self.decided.contains_key(&height) {
            self.changes.push(block.changes.clone());
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

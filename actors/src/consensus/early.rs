//! Messages of the height after the one being decided, kept until this node gets there: the others
//! may be a step ahead. Authenticated already; bounded a sender, so nobody crowds out another.

use std::collections::BTreeMap;

use minidlt_protocol::{
    message::CheckedConsensus,
    types::{Height, Identity},
};

/// Most messages kept of one sender: a proposal and votes of some rounds.
const MAX_A_SENDER: usize = 32;
/// Most bodies among them, each at most as large as a block's list of leaves.
const MAX_BODIES_A_SENDER: usize = 2;

#[derive(Default)]
pub struct Early {
    height: Height,
    messages: BTreeMap<Identity, Vec<CheckedConsensus>>,
}

/// The height that a content is about.
pub fn height_of(content: &CheckedConsensus) -> Height {
    match content {
        CheckedConsensus::Message(message) => message.get().height(),
        CheckedConsensus::Body(block) => block.header.height,
    }
}

impl Early {
    /// Keeps a message of the height after `current`; what is further ahead will be fetched.
    pub fn keep(&mut self, current: Height, sender: &Identity, content: CheckedConsensus) {
        let height = height_of(&content);
        if height != current.next() {
            return;
        }
        if self.height != height {
            self.messages.clear();
            self.height = height;
        }
        let kept = self.messages.entry(sender.clone()).or_default();
        let is_body = |content: &CheckedConsensus| matches!(content, CheckedConsensus::Body(_));
        let bodies = kept.iter().filter(|kept| is_body(kept)).count();
        if kept.len() < MAX_A_SENDER && !(is_body(&content) && bodies >= MAX_BODIES_A_SENDER) {
            kept.push(content);
        }
    }

    pub fn has(&self, height: Height) -> bool {
        self.height == height && !self.messages.is_empty()
    }

    /// The messages of this height with their senders, each sender's in the order they came.
    pub fn take(&mut self, height: Height) -> Vec<(Identity, CheckedConsensus)> {
        if self.height != height {
            return Vec::new();
        }
        let messages = std::mem::take(&mut self.messages);
        messages.into_iter().flat_map(|(sender, kept)| kept.into_iter().map(move |m| (sender.clone(), m))).collect()
    }

    pub fn forget_up_to(&mut self, height: Height) {
        if self.height <= height {
            self.messages.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use minidlt_protocol::{
        block::{CompactBlock, Header},
        consensus::Wire,
        crypto::SecretKey,
        types::{Hash, Round, Timestamp},
        vote::{ConsensusMode, Phase, SignedVote, Vote, Voter, Voters},
    };

    use super::*;

    fn who(name: &str) -> Identity {
        format!("{name}@Org01").parse().unwrap()
    }

    fn vote(height: u64, round: u32) -> CheckedConsensus {
        let key = SecretKey::from_bytes(&[1; 32]).unwrap();
        let (voter, network) = (who("node0"), Hash::ZERO);
        let voters = Voters::new(ConsensusMode::Bft, vec![Voter { identity: voter.clone(), key: key.public_key() }]);
        let vote = Vote { phase: Phase::Prevote, height: Height::new(height), round: Round::new(round), block: None };
        let signature = key.sign(&vote.digest(&network));
        let wire = Wire::Vote(SignedVote { voter, vote, signature });
        CheckedConsensus::Message(wire.verify(&network, &voters).unwrap())
    }

    fn body(height: u64, created: u64) -> CheckedConsensus {
        let header = Header {
            height: Height::new(height),
            round: Round::ZERO,
            created: Timestamp::from_millis(created),
            previous: Hash::ZERO,
            proposer: who("node0"),
            transactions_root: Hash::ZERO,
            results_root: Hash::ZERO,
            state_root: Hash::ZERO,
        };
        CheckedConsensus::Body(CompactBlock { header, leaves: Vec::new() })
    }

    #[test]
    fn a_flood_of_one_sender_crowds_out_no_other_and_nothing_further_ahead_is_kept() {
        let (mut early, now) = (Early::default(), Height::new(4));
        for round in 0..1_000 {
            early.keep(now, &who("liar"), vote(5, round));
            early.keep(now, &who("liar"), vote(6, round));
        }
        early.keep(now, &who("honest"), vote(5, 0));
        let senders: Vec<_> = early.take(Height::new(5)).into_iter().map(|(sender, _)| sender).collect();
        assert_eq!(senders.iter().filter(|sender| **sender == who("liar")).count(), MAX_A_SENDER);
        assert_eq!(senders.iter().filter(|sender| **sender == who("honest")).count(), 1);
        assert!(early.take(Height::new(6)).is_empty());
    }

    #[test]
    fn bodies_are_few_and_leave_room_for_votes() {
        let (mut early, now) = (Early::default(), Height::new(4));
        (0..10).for_each(|at| early.keep(now, &who("liar"), body(5, at)));
        early.keep(now, &who("liar"), vote(5, 0));
        assert_eq!(early.take(Height::new(5)).len(), MAX_BODIES_A_SENDER + 1);
    }

    #[test]
    fn what_is_decided_is_forgotten() {
        let mut early = Early::default();
        early.keep(Height::new(4), &who("a"), vote(5, 0));
        early.forget_up_to(Height::new(4));
        assert!(early.has(Height::new(5)));
        early.forget_up_to(Height::new(5));
        assert!(!early.has(Height::new(5)));
    }
}

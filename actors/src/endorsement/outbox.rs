//! What waits to be sent to one node: answers to it, and what it is to endorse.

use std::collections::VecDeque;

use minidlt_protocol::{
    endorsement::{Answer, EndorsementContent},
    limits::{MAX_PROPOSED, MAX_PROPOSED_BYTES},
    transaction::TransactionBytes,
    types::{Hash, Identity},
};

use crate::fair::Fair;

#[derive(Default)]
pub struct Outbox {
    answers: VecDeque<Answer>,
    /// A line for each who submitted them here.
    proposals: Fair<Identity, (Hash, TransactionBytes)>,
    /// One that did not fit into the batch before.
    left_over: Option<(Hash, TransactionBytes)>,
    /// A batch is being stamped.
    stamping: bool,
    /// What the last batch proposed.
    proposed: Vec<Hash>,
}

impl Outbox {
    pub fn answer(&mut self, answers: impl IntoIterator<Item = Answer>) {
        self.answers.extend(answers);
    }

    pub fn propose(&mut self, caller: &Identity, id: Hash, transaction: TransactionBytes) {
        self.proposals.push(caller, transaction.as_slice().len(), (id, transaction));
    }

    /// The next batch, unless one is being stamped or nothing waits; answers first, for somebody waits for them.
    /// Of what is to be proposed, only what is still `wanted`.
    pub fn next(&mut self, wanted: impl Fn(&Hash) -> bool) -> Option<EndorsementContent> {
        if self.stamping {
            return None;
        }
        let content = match self.answers.is_empty() {
            true => self.proposal(wanted).map(EndorsementContent::Propose),
            false => {
                let count = self.answers.len().min(MAX_PROPOSED);
                Some(EndorsementContent::Answers(self.answers.drain(..count).collect()))
            }
        };
        self.stamping = content.is_some();
        content
    }

    fn proposal(&mut self, wanted: impl Fn(&Hash) -> bool) -> Option<Vec<TransactionBytes>> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        self.proposed.clear();
        while batch.len() < MAX_PROPOSED {
            let Some((id, transaction)) = self.left_over.take().or_else(|| self.proposals.pop()) else { break };
            if !wanted(&id) {
                continue;
            }
            bytes += transaction.as_slice().len();
            if bytes > MAX_PROPOSED_BYTES {
                self.left_over = Some((id, transaction));
                break;
            }
            self.proposed.push(id);
            batch.push(transaction);
        }
        (!batch.is_empty()).then_some(batch)
    }

    pub fn last_proposed(&self) -> &[Hash] {
        &self.proposed
    }

    pub fn stamped(&mut self) {
        self.stamping = false;
    }

    /// There is nobody to send it to.
    pub fn clear(&mut self) {
        *self = Self { stamping: self.stamping, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transaction(n: u8, bytes: usize) -> (Hash, TransactionBytes) {
        (Hash::from_bytes([n; 32]), vec![n; bytes].into())
    }

    fn proposed(content: Option<EndorsementContent>) -> Vec<u8> {
        match content {
            Some(EndorsementContent::Propose(list)) => list.iter().map(|one| one.as_slice()[0]).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_batch_at_a_time_within_its_bounds_and_what_is_not_wanted_any_more_is_left_out() {
        let (one, other): (Identity, Identity) = ("one@Org0".parse().unwrap(), "other@Org0".parse().unwrap());
        let mut outbox = Outbox::default();
        for n in 0..5 {
            let (id, bytes) = transaction(n, MAX_PROPOSED_BYTES / 2);
            outbox.propose(&one, id, bytes);
        }
        let (id, bytes) = transaction(9, 10);
        outbox.propose(&other, id, bytes);
        let wanted = |id: &Hash| id.as_bytes()[0] != 1;
        assert_eq!(proposed(outbox.next(wanted)), [0, 9], "the other's turn comes soon");
        assert_eq!(outbox.last_proposed(), [0, 9].map(|n| Hash::from_bytes([n; 32])));
        assert_eq!(outbox.next(wanted), None, "while that is being stamped");
        outbox.stamped();
        assert_eq!(proposed(outbox.next(wanted)), [2, 3]);
        outbox.stamped();
        assert_eq!(proposed(outbox.next(wanted)), [4]);
        outbox.stamped();
        assert_eq!(outbox.next(wanted), None);
    }
}

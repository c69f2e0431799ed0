//! The transactions that were taken and then could be in no block any more, since who signed them lost the
//! right to, or has another key: their submitters may ask why.

use std::collections::{BTreeMap, VecDeque};

use minidlt_protocol::{transaction::Refusal, types::Hash};

/// How many are remembered.
const MAX_REJECTED: usize = 10_000;

/// What was rejected lately, and why.
#[derive(Default)]
pub struct Rejected {
    reasons: BTreeMap<Hash, Refusal>,
    order: VecDeque<Hash>,
}

impl Rejected {
    pub fn add(&mut self, id: Hash, reason: Refusal) {
        if self.reasons.insert(id, reason).is_none() {
            self.order.push_back(id);
        }
        if self.order.len() > MAX_REJECTED {
            self.order.pop_front().map(|oldest| self.reasons.remove(&oldest));
        }
    }

    pub fn get(&self, id: &Hash) -> Option<&Refusal> {
        self.reasons.get(id)
    }
}

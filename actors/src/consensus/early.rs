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

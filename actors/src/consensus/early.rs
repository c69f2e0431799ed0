//! Messages of the height after the one being decided, kept until this node gets there: the others
//! may be a step ahead. Authenticated already; bounded a sender, so nobody crowds out another.

use std::collections::BTreeMap;

use minidlt_protocol::{
    message::CheckedConsensus,
    types::{Height, Identity},
};

/// Most messages kept of one sender: a proposal, its body and votes of some rounds.
const MAX_A_SENDER: usize = 32;

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
        if kept.len() < MAX_A_SENDER {
            kept.push(content);
        }
    }

    pub fn has(&self, height: Height) -> bool {
        self.height == height && !self.messages.is_empty()
    }

    /// The messages of this height, each sender's in the order they came.
    pub fn take(&mut self, height: Height) -> Vec<CheckedConsensus> {
        if self.height != height {
            return Vec::new();
        }
        std::mem::take(&mut self.messages).into_values().flatten().collect()
    }

    pub fn forget_up_to(&mut self, height: Height) {
        if self.height <= height {
            self.messages.clear();
        }
    }
}

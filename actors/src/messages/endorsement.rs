//! To the Endorsement actor, from this node's API.

use std::time::Duration;

use actix::Message;
use minidlt_protocol::{
    endorsement::Said,
    transaction::{Refusal, TransactionBytes},
    types::{Hash, Identity},
};

/// Collects for each what it needs of peers' endorsements, and submits it with them. Answers each with its id
/// once the Mempool has taken it.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Vec<Result<Hash, NotTaken>>")]
pub struct Collect {
    /// Who submits them, by its certificate: not always their author.
    pub caller: Identity,
    pub transactions: Vec<TransactionBytes>,
    /// How long this may take, but for the Mempool's part.
    pub within: Duration,
}

/// Why one was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotTaken {
    pub refusal: Refusal,
    /// What the nodes that were to endorse it said; nothing where none were asked.
    pub said: Vec<Said>,
}

impl From<Refusal> for NotTaken {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, said: vec![] }
    }
}

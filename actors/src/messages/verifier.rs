//! To the Verifiers, threads that check signatures. Their queue has no bound of its own, so each
//! caller bounds what it has in flight.

use actix::Message;
use bytes::Bytes;
use minidlt_protocol::{
    block::SharedTransaction,
    endorsement::EndorsementContent,
    message::{CheckedConsensus, MessageError, PoolContent, SyncContent},
    transaction::{Refusal, TransactionBytes},
    types::{Identity, Timestamp},
};

/// A frame whose stamp holds; for consensus also the vote or proposal within.
#[derive(Debug, Clone)]
pub enum Opened {
    /// About a height so far ahead that this node does not know who votes there: it will fetch its blocks.
    Ahead,
    Pool(PoolContent),
    Endorsement(EndorsementContent),
    Consensus(CheckedConsensus),
    Sync(SyncContent),
    Text(String),
}

/// Opens a frame that came from the node at the other end of a connection.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Opened, MessageError>")]
pub struct Open {
    pub frame: Bytes,
    pub connected: Identity,
}

/// Checks transactions all through: form, time, author's standing, not yet committed, signature.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Vec<Result<SharedTransaction, Refusal>>")]
pub struct VerifyTransactions {
    pub transactions: Vec<TransactionBytes>,
    /// This node, where the author itself submitted them here.
    pub gateway: Option<Identity>,
    pub rules: Rules,
}

/// What is asked of a transaction beyond its form and signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rules {
    /// What it does could be done now, by those who signed it.
    Submitted,
    /// What it does could be done now, if all whose consent it needs gave it.
    Endorsing,
    /// What blocks ask and no more, by the time of a proposed one: all must judge it alike.
    InBlock(Timestamp),
}

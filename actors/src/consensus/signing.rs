//! The way to the Signer, who holds the key and the log of the height.
//!
//! The core needs a signature before it can go on, so asking for one waits. The Signer waits for
//! nobody but the disk, so the wait ends. All else is sent without waiting, and the Signer takes it
//! in order: what is appended before a stamp is on disk before the stamped message leaves.

use std::sync::Arc;

use actix::{Message, Recipient};
use futures_executor::block_on;
use minidlt_protocol::{
    block::{Block, CompactBlock, SharedTransaction},
    codec,
    consensus::{self, LogEntry},
    crypto::Signature,
    limits::{BLOCK_OVERHEAD_BYTES, MAX_BLOCK_BYTES},
    registry::Registry,
    types::{Hash, Height},
    vote::{Proposal, Vote},
};
use serde::{Deserialize, Serialize};

use super::bodies::{Bodies, Body};
use crate::{
    fatal,
    messages::signer::{AppendLog, HeightDone, SignProposal, SignVote, Stamp},
};

/// The core's part of a height's log.
pub type Log = Vec<LogEntry>;

/// An entry of the height's log: the core's, or a block it speaks of.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogRecord {
    Core(LogEntry),
    Block(Block),
}

impl LogRecord {
    pub fn block(block: &CompactBlock, transactions: &[SharedTransaction]) -> Self {
        let transactions = transactions.iter().map(|transaction| transaction.bytes.clone()).collect();
        Self::Block(Block { header: block.header.clone(), transactions })
    }
}

/// Reads a height's log back: the core's entries in order, the blocks into `bodies`. The blocks'
/// signatures are checked again: the log's checksums tell damage, not intent.
pub fn restore(records: Vec<Vec<u8>>, network: &Hash, registry: &Registry, bodies: &mut Bodies) -> Log {
    let mut log = Log::new();
    for (at, bytes) in records.iter().enumerate() {
        match codec::decode(bytes, MAX_BLOCK_BYTES + BLOCK_OVERHEAD_BYTES) {
            Ok(LogRecord::Core(entry)) => log.push(entry),
            Ok(LogRecord::Block(block)) => match verify(&block, network, registry) {
                Ok(transactions) => {
                    let (header, leaves) = (block.header.clone(), block.leaves());
                    let block = CompactBlock { header, leaves };
                    bodies.complete(block.header.hash(network), Body { block, transactions });
                }
                Err(reason) => {
                    fatal::stop(format!("entry {at} of the height's log holds a block that is not valid: {reason}"))
                }
            },
            Err(error) => fatal::stop(format!("entry {at} of the height's log is not of this program: {error}")),
        }
    }
    log
}

fn verify(block: &Block, network: &Hash, registry: &Registry) -> Result<Vec<SharedTransaction>, String> {
    let parsed = block.parse(network).map_err(|error| error.to_string())?;
    parsed
        .into_iter()
        .map(|transaction| transaction.verify(registry).map(Arc::new).map_err(|error| error.to_string()))
        .collect()
}

/// What Consensus asks of the Signer.
pub struct SignerLinks {
    pub vote: Recipient<SignVote>,
    pub proposal: Recipient<SignProposal>,
    pub append: Recipient<AppendLog>,
    pub stamp: Recipient<Stamp>,
    pub done: Recipient<HeightDone>,
}

impl SignerLinks {
    pub fn append(&self, height: Height, record: &LogRecord) {
        tell(&self.append, AppendLog { height, entries: vec![codec::encode(record)] });
    }

    pub fn stamp(&self, stamp: Stamp) {
        tell(&self.stamp, stamp);
    }

    pub fn done(&self, done: HeightDone) {
        tell(&self.done, done);
    }
}

/// What Consensus puts there is bounded by the pace of rounds, a few messages each, far below what the
/// Signer's mailbox takes; and each signature waits for all of it.
fn tell<M>(to: &Recipient<M>, message: M)
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    if let Err(error) = to.try_send(message) {
        fatal::stop(format!("the signer is gone: {error}"));
    }
}

impl consensus::Signer for SignerLinks {
    fn sign_vote(&mut self, vote: &Vote) -> Option<Signature> {
        block_on(self.vote.send(SignVote(vote.clone())))
            .unwrap_or_else(|error| fatal::stop(format!("the signer is gone: {error}")))
    }

    fn sign_proposal(&mut self, proposal: &Proposal) -> Option<Signature> {
        block_on(self.proposal.send(SignProposal(proposal.clone())))
            .unwrap_or_else(|error| fatal::stop(format!("the signer is gone: {error}")))
    }
}

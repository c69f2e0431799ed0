//! The way to the Signer, who holds the key and the log of the height.
//!
//! The core needs a signature before it can go on, so asking for one waits. The Signer waits for the
//! disk and for a place in the Listener's mailbox, and the Listener for nobody, so the wait ends. All else gathers here while the core's outputs are carried
//! out, and goes in one message: what is logged before a publication is on disk before it leaves.
//! What is logged alone waits for the next signature or publication, since nobody knows of it yet.

use std::{mem::take, sync::Arc};

use actix::{Message, Recipient};
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
    messages::signer::{Entries, Publish, SignProposal, SignVote, Stamp},
    post::{post_blocking, wait},
};

/// What gathers for the log before it is handed over unasked, in bytes.
const GATHERED_BYTES: usize = 1 << 20;

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

/// The addresses of the Signer.
pub struct SignerLinks {
    pub vote: Recipient<SignVote>,
    pub proposal: Recipient<SignProposal>,
    pub publish: Recipient<Publish>,
}

/// What Consensus asks of the Signer.
pub struct SignerDesk {
    links: SignerLinks,
    /// Not handed over yet.
    log: Entries,
    gathered_bytes: usize,
    stamps: Vec<Stamp>,
}

impl SignerDesk {
    pub fn new(links: SignerLinks) -> Self {
        Self { links, log: Entries::default(), gathered_bytes: 0, stamps: Vec::new() }
    }

    pub fn append(&mut self, height: Height, record: &LogRecord) {
        // What was logged of an earlier height and led to nothing is not missed.
        if self.log.height != height {
            (self.log, self.gathered_bytes) = (Entries { height, entries: Vec::new() }, 0);
        }
        let entry = codec::encode(record);
        self.gathered_bytes += entry.len();
        self.log.entries.push(entry);
        if self.gathered_bytes > GATHERED_BYTES {
            self.hand_over();
        }
    }

    pub fn publish(&mut self, stamp: Stamp) {
        self.stamps.push(stamp);
    }

    /// Hands over what is to be published, and what goes before it.
    pub fn flush(&mut self) {
        if !self.stamps.is_empty() {
            self.hand_over();
        }
    }

    /// Waits only where the Signer's mailbox is full.
    fn hand_over(&mut self) {
        let publish = Publish { before: self.take_log(), stamps: take(&mut self.stamps) };
        let sent = post_blocking(&self.links.publish, publish);
        sent.unwrap_or_else(|error| fatal::stop(format!("the signer is gone: {error}")));
    }

    fn take_log(&mut self) -> Entries {
        self.gathered_bytes = 0;
        take(&mut self.log)
    }
}

/// Waits for a signature.
fn ask<M>(signer: &Recipient<M>, request: M) -> Option<Signature>
where
    M: Message<Result = Option<Signature>> + Send + 'static,
{
    wait(signer.send(request)).unwrap_or_else(|error| fatal::stop(format!("the signer is gone: {error}")))
}

impl consensus::Signer for SignerDesk {
    fn sign_vote(&mut self, vote: &Vote) -> Option<Signature> {
        let before = self.take_log();
        ask(&self.links.vote, SignVote { before, vote: vote.clone() })
    }

    fn sign_proposal(&mut self, proposal: &Proposal) -> Option<Signature> {
        let before = self.take_log();
        ask(&self.links.proposal, SignProposal { before, proposal: proposal.clone() })
    }
}

//! Blocks, and the rules by which a block may follow the head of the chain.
//!
//! `transactions_root` is of this block's transactions; `results_root` and `state_root` are of the
//! state after the block before, so that a proposer need not execute before proposing and a voter
//! not before voting.

use std::{collections::BTreeSet, sync::Arc};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    codec::{self, CodecError},
    crypto::{Domain, digest},
    limits::{BLOCK_OVERHEAD_BYTES, CLOCK_WINDOW_MILLIS, MAX_BLOCK_BYTES, MAX_BLOCK_TRANSACTIONS},
    merkle,
    registry::Registry,
    transaction::{Refusal, Transaction, TransactionBytes},
    types::{Hash, Height, Identity, Round, Timestamp},
    verified::Verified,
    vote::{Certificate, CertificateError, Voters},
};

/// What a block's hash is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    pub height: Height,
    /// The round it was first proposed in; the certificate has the round it was decided in.
    pub round: Round,
    pub created: Timestamp,
    /// The hash of the block before; of the first block, the network's id.
    pub previous: Hash,
    pub proposer: Identity,
    pub transactions_root: Hash,
    pub results_root: Hash,
    pub state_root: Hash,
}

impl Header {
    pub fn hash(&self, network: &Hash) -> Hash {
        digest(Domain::Block, network, &[&codec::encode(self)])
    }
}

/// A block as it is stored and sent to those catching up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Block {
    pub header: Header,
    pub transactions: Vec<TransactionBytes>,
}

impl Block {
    /// Decodes a stored or received block; the bytes must be its one encoding.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode_canonical(bytes, MAX_BLOCK_BYTES + BLOCK_OVERHEAD_BYTES)
    }

    /// The leaves of its transactions' tree.
    pub fn leaves(&self) -> Vec<Hash> {
        self.transactions.iter().map(|bytes| merkle::leaf_hash(bytes.as_slice())).collect()
    }

    /// Parses every transaction, without checking signatures.
    pub fn parse(&self, network: &Hash) -> Result<Vec<Transaction>, BlockError> {
        let parse = |(position, bytes): (usize, &TransactionBytes)| {
            Transaction::parse(bytes.clone(), network).map_err(|reason| BlockError::Transaction { position, reason })
        };
        self.transactions.iter().enumerate().map(parse).collect()
    }
}

/// A block and the certificate that decided it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertifiedBlock {
    pub block: Block,
    pub certificate: Certificate,
}

impl CertifiedBlock {
    /// About how many bytes it takes in a message.
    pub fn about_bytes(&self) -> usize {
        /// More than a header, or one signature with the longest of names, takes as encoded.
        const PART_BYTES: usize = 512;
        let transactions: usize = self.block.transactions.iter().map(|bytes| bytes.as_slice().len() + 5).sum();
        transactions + PART_BYTES * (1 + self.certificate.signatures.len())
    }
}

/// A proposal without its transactions, which every mempool should hold already: their leaf hashes
/// and not their ids, so that it is one block also where an author signed one body twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompactBlock {
    pub header: Header,
    pub leaves: Vec<Hash>,
}

/// What the next block builds on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    pub height: Height,
    pub hash: Hash,
    pub created: Timestamp,
    pub results_root: Hash,
    pub state_root: Hash,
    /// How many blocks have changed the state.
    pub state_version: u64,
    /// The version whose root the head block's own header carries: the one before what it wrote.
    pub certified_version: u64,
    /// How many transactions the head block holds.
    pub transactions: usize,
}

/// Why a block may not follow the head.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BlockError {
    #[error("its {what} is {found}, expected {expected}")]
    Mismatch { what: &'static str, found: String, expected: String },
    #[error("it was created at {created} ms, before the block it follows ({previous} ms)")]
    GoesBack { created: Timestamp, previous: Timestamp },
    #[error("it was created at {created} ms, more than {CLOCK_WINDOW_MILLIS} ms from this node's clock ({now} ms)")]
    ClockWindow { created: Timestamp, now: Timestamp },
    #[error("{count} transactions, at most {MAX_BLOCK_TRANSACTIONS} are accepted")]
    TooMany { count: usize },
    #[error("{size} bytes of transactions, at most {MAX_BLOCK_BYTES} are accepted")]
    TooLarge { size: usize },
    #[error("transaction {position}: {reason}")]
    Transaction { position: usize, reason: Refusal },
    #[error("transaction {position} ({id}) stands twice")]
    Repeated { position: usize, id: Hash },
}

/// The name of the link in [`BlockError::Mismatch`].
const PREVIOUS: &str = "previous hash";

fn same<T: PartialEq + std::fmt::Display>(what: &'static str, found: &T, expected: &T) -> Result<(), BlockError> {
    if found == expected {
        return Ok(());
    }
    Err(BlockError::Mismatch { what, found: found.to_string(), expected: expected.to_string() })
}

impl Header {
    /// Checks that this header may follow `head`: links, roots, proposer, time.
    pub fn check_follows(&self, head: &Head, voters: &Voters) -> Result<(), BlockError> {
        same("height", &self.height, &head.height.next())?;
        same(PREVIOUS, &self.previous, &head.hash)?;
        same("results root", &self.results_root, &head.results_root)?;
        same("state root", &self.state_root, &head.state_root)?;
        if self.created < head.created {
            return Err(BlockError::GoesBack { created: self.created, previous: head.created });
        }
        match voters.proposer(self.height, self.round) {
            Some(voter) => same("proposer", &self.proposer, &voter.identity),
            None => same("proposer", &self.proposer.to_string(), &"a voter".to_owned()),
        }
    }

    /// A voter's further check of a block that follows `head`, proposed in `round`: is its time near
    /// mine? A block proposed again in a later round may be as old as the wait was long, so only the
    /// future is shut to it. The head's own time is never too far ahead: where all clocks have gone
    /// back, the ledger's time stands still until they get there.
    pub fn check_clock(&self, head: &Head, round: Round, now: Timestamp) -> Result<(), BlockError> {
        let ahead = self.created > now.plus_millis(CLOCK_WINDOW_MILLIS).max(head.created);
        let behind = self.created.plus_millis(CLOCK_WINDOW_MILLIS) < now && self.round == round;
        if ahead || behind { Err(BlockError::ClockWindow { created: self.created, now }) } else { Ok(()) }
    }

    /// Checks the transactions of a block with this header, all but their signatures: that those that were
    /// checked before were so with the keys that hold now. `registry` is as of the block before.
    pub fn check_transactions<'a>(
        &self,
        transactions: impl Iterator<Item = &'a Transaction> + Clone,
        registry: &Registry,
    ) -> Result<(), BlockError> {
        let leaves: Vec<Hash> = transactions.clone().map(|transaction| transaction.leaf).collect();
        if leaves.len() > MAX_BLOCK_TRANSACTIONS {
            return Err(BlockError::TooMany { count: leaves.len() });
        }
        let size = transactions.clone().map(Transaction::size).sum();
        if size > MAX_BLOCK_BYTES {
            return Err(BlockError::TooLarge { size });
        }
        same("transactions root", &merkle::root(&leaves), &self.transactions_root)?;
        let mut seen = BTreeSet::new();
        for (position, transaction) in transactions.enumerate() {
            if !seen.insert(transaction.id) {
                return Err(BlockError::Repeated { position, id: transaction.id });
            }
            let allowed = transaction.check_time(self.created).and_then(|()| transaction.check_standing(registry));
            allowed.map_err(|reason| BlockError::Transaction { position, reason })?;
        }
        Ok(())
    }
}

/// A transaction whose signature was checked, shared by the mempool, proposals and answers.
pub type SharedTransaction = Arc<Verified<Transaction>>;

/// Builds the block that follows `head`.
pub fn build(
    head: &Head,
    round: Round,
    proposer: Identity,
    now: Timestamp,
    transactions: &[SharedTransaction],
) -> CompactBlock {
    let leaves: Vec<Hash> = transactions.iter().map(|transaction| transaction.leaf).collect();
    let header = Header {
        height: head.height.next(),
        round,
        created: now.max(head.created),
        previous: head.hash,
        proposer,
        transactions_root: merkle::root(&leaves),
        results_root: head.results_root,
        state_root: head.state_root,
    };
    CompactBlock { header, leaves }
}

/// A block that a quorum has decided and that follows the head: the only thing a store commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecidedBlock {
    pub hash: Hash,
    pub header: Header,
    pub certificate: Certificate,
    pub transactions: Vec<SharedTransaction>,
}

/// Why a block and certificate from elsewhere were not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CertifiedBlockError {
    #[error("block {height}: {reason}")]
    Block { height: Height, reason: BlockError },
    #[error("certificate of block {height}: {reason}")]
    Certificate { height: Height, reason: CertificateError },
}

impl CertifiedBlockError {
    /// It is certified, of the next height, and follows another block than the head: either the one who
    /// sent it or the head's voters have more than one chain.
    pub fn is_of_another_chain(&self) -> bool {
        matches!(self, Self::Block { reason: BlockError::Mismatch { what: PREVIOUS, .. }, .. })
    }
}

impl DecidedBlock {
    /// A block whose transactions this node checked and whose certificate this node collected.
    pub fn decided(header: Header, hash: Hash, certificate: Certificate, transactions: Vec<SharedTransaction>) -> Self {
        Self { hash, header, certificate, transactions }
    }

    /// Checks a block from elsewhere against the head it should follow. Its certificate covers its
    /// authors' signatures: a quorum checked them before it voted.
    pub fn certified(
        certified: CertifiedBlock,
        network: &Hash,
        head: &Head,
        registry: &Registry,
    ) -> Result<Self, CertifiedBlockError> {
        let CertifiedBlock { block, certificate } = certified;
        let height = block.header.height;
        let voters = registry.voters_at(height);
        let block_error = |reason| CertifiedBlockError::Block { height, reason };
        let hash = block.header.hash(network);
        same("certificate's block", &certificate.block, &hash).map_err(block_error)?;
        same("certificate's height", &certificate.height, &height).map_err(block_error)?;
        certificate.verify(network, voters).map_err(|reason| CertifiedBlockError::Certificate { height, reason })?;
        block.header.check_follows(head, voters).map_err(block_error)?;
        let parsed = block.parse(network).map_err(block_error)?;
        block.header.check_transactions(parsed.iter(), registry).map_err(block_error)?;
        let transactions = parsed.into_iter().map(|transaction| Arc::new(Verified::vouch(transaction))).collect();
        Ok(Self { hash, header: block.header, certificate, transactions })
    }

    /// The block as it is stored and sent.
    pub fn block(&self) -> Block {
        let transactions = self.transactions.iter().map(|transaction| transaction.bytes.clone()).collect();
        Block { header: self.header.clone(), transactions }
    }
}

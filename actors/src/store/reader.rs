//! Reading the ledger: any number of readers, on any thread, that never wait for the writer.
//!
//! Entries are only ever added, each block's in one write, so what one read found a later read
//! finds too, and no snapshot has to be held for an answer to be of whole blocks.

use std::{path::Path, sync::Arc};

use minidlt_protocol::{
    block::{Block, CertifiedBlock, Head, Header},
    evidence::Recorded,
    receipt::{CertifiedHeader, Receipt},
    registry::Registry,
    state::{self, Outcome, StateError},
    state_proof::{STATE_PROOF_VERSION, StateProof},
    transaction::TransactionBytes,
    types::{Hash, Height, Identity},
    vote::Certificate,
};
use rocksdb::checkpoint::Checkpoint;
use thiserror::Error;
use tokio::sync::watch;

use super::{
    database::Database,
    receipts::Receipts,
    schema::{Family, decode_certificate, decode_height, decode_place, height_key},
};
use crate::members::Members;

/// The store could not be read, or holds what it never wrote.
#[derive(Debug, Clone, Error)]
#[error("the ledger cannot be read: {0}")]
pub struct ReadError(pub String);

impl From<StateError> for ReadError {
    fn from(error: StateError) -> Self {
        Self(error.to_string())
    }
}

impl From<rocksdb::Error> for ReadError {
    fn from(error: rocksdb::Error) -> Self {
        Self(error.to_string())
    }
}

/// A committed transaction and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    pub height: Height,
    /// Its place in the block, from 0.
    pub position: usize,
    pub outcome: Outcome,
}

/// A handle for reading; cheap to clone.
#[derive(Clone)]
pub struct Reader {
    pub(super) database: Arc<Database>,
    members: Members,
    receipts: Arc<Receipts>,
}

impl Reader {
    pub(super) fn new(database: Arc<Database>, members: Members) -> Self {
        Self { database, members, receipts: Arc::default() }
    }

    pub fn network(&self) -> Hash {
        self.database.network
    }

    /// The head; kept in memory, free to ask.
    pub fn head(&self) -> Head {
        self.members.head()
    }

    /// Who is enrolled, as of the head or a later block; kept in memory, free to ask.
    pub fn registry(&self) -> Arc<Registry> {
        self.members.registry()
    }

    /// The same for those who read nothing else.
    pub fn members(&self) -> Members {
        self.members.clone()
    }

    /// Changes with each commit, after it is on disk.
    pub fn heads(&self) -> watch::Receiver<Head> {
        self.members.heads()
    }

    pub fn contains(&self, id: &Hash) -> Result<bool, ReadError> {
        Ok(self.database.get(Family::Transactions, id.as_bytes())?.is_some())
    }

    pub fn locate(&self, id: &Hash) -> Result<Option<Located>, ReadError> {
        let Some(bytes) = self.database.get(Family::Transactions, id.as_bytes())? else { return Ok(None) };
        let broken = |reason: String| ReadError(format!("index entry of transaction {id}: {reason}"));
        let (height, position, outcome) = decode_place(&bytes).map_err(|error| broken(error.to_string()))?;
        let position = usize::try_from(position).map_err(|error| broken(error.to_string()))?;
        Ok(Some(Located { height, position, outcome }))
    }

    pub fn transaction(&self, id: &Hash) -> Result<Option<(Located, TransactionBytes)>, ReadError> {
        let Some(located) = self.locate(id)? else { return Ok(None) };
        let Located { height, position, .. } = located;
        let block = self.block(height)?.ok_or_else(|| ReadError(format!("block {height} is missing")))?;
        let bytes = block.transactions.get(position).cloned();
        let bytes = bytes.ok_or_else(|| ReadError(format!("block {height} has no transaction {position}")))?;
        Ok(Some((located, bytes)))
    }

    /// Blocks from height 1 on; block 0 is the genesis.
    pub fn block(&self, height: Height) -> Result<Option<Block>, ReadError> {
        let Some(bytes) = self.database.get(Family::Blocks, &height_key(height))? else { return Ok(None) };
        let block = Block::decode(&bytes).map_err(|error| ReadError(format!("block {height}: {error}")))?;
        Ok(Some(block))
    }

    pub fn certificate(&self, height: Height) -> Result<Option<Certificate>, ReadError> {
        let Some(bytes) = self.database.get(Family::Certificates, &height_key(height))? else { return Ok(None) };
        let certificate =
            decode_certificate(&bytes).map_err(|error| ReadError(format!("certificate of block {height}: {error}")))?;
        Ok(Some(certificate))
    }

    /// A block with its certificate, for those catching up.
    pub fn certified_block(&self, height: Height) -> Result<Option<CertifiedBlock>, ReadError> {
        let Some(block) = self.block(height)? else { return Ok(None) };
        let certificate = self.certificate(height)?;
        let certificate = certificate.ok_or_else(|| ReadError(format!("certificate of block {height} is missing")))?;
        Ok(Some(CertifiedBlock { block, certificate }))
    }

    /// A block's header with just the signatures that decide it; none for genesis.
    pub fn certified_header(&self, height: Height) -> Result<Option<CertifiedHeader>, ReadError> {
        let Some(CertifiedBlock { block, certificate }) = self.certified_block(height)? else { return Ok(None) };
        self.certify(block.header, certificate).map(Some)
    }

    /// A header with just the signatures of its height's voters that decide it.
    pub(super) fn certify(&self, header: Header, certificate: Certificate) -> Result<CertifiedHeader, ReadError> {
        let voters = self.voters_at(header.height)?;
        Ok(CertifiedHeader::new(&self.database.network, header, certificate, &voters))
    }

    /// The blocks from `from` on: at most `max`, and no more once their transactions and
    /// signatures have `limit_bytes`, but the first whatever its size, which fits a frame.
    pub fn blocks(&self, from: Height, limit_bytes: usize, max: usize) -> Result<Vec<CertifiedBlock>, ReadError> {
        let (mut blocks, mut bytes, mut height) = (Vec::new(), 0usize, from.max(Height::new(1)));
        let head = self.head().height;
        while height <= head && blocks.len() < max {
            let certified = self.certified_block(height)?;
            let certified = certified.ok_or_else(|| ReadError(format!("block {height} is missing")))?;
            bytes = bytes.saturating_add(certified.about_bytes());
            if bytes > limit_bytes && !blocks.is_empty() {
                break;
            }
            blocks.push(certified);
            height = height.next();
        }
        Ok(blocks)
    }

    pub fn height_of(&self, hash: &Hash) -> Result<Option<Height>, ReadError> {
        let Some(bytes) = self.database.get(Family::Hashes, hash.as_bytes())? else { return Ok(None) };
        let height = decode_height(&bytes);
        Ok(Some(height.ok_or_else(|| ReadError(format!("index entry of block {hash}: not a height")))?))
    }

    /// A receipt; `None` where the transaction is unknown or the block after its own, which
    /// certifies its result, is not yet there.
    pub fn receipt(&self, id: &Hash) -> Result<Option<Receipt>, ReadError> {
        self.receipts.make(self, id)
    }

    /// What is recorded of a voter at the head, the oldest first.
    pub fn evidence(&self, voter: &Identity) -> Result<Vec<Recorded>, ReadError> {
        Ok(state::recorded(&*self.database, self.head().state_version, voter)?)
    }

    /// An entry of the state that the head's header certifies: the one after the block before it, whose
    /// height comes with it.
    pub fn entry(&self, key: &str) -> Result<(Height, Option<Vec<u8>>), ReadError> {
        let head = self.head();
        let value = state::value(&*self.database, head.certified_version, key.as_bytes())?;
        Ok((head.height.previous().unwrap_or(Height::GENESIS), value))
    }

    /// The proof of what [`Self::entry`] gives; `None` before the first block, which has the first header.
    pub fn state_proof(&self, key: &str) -> Result<Option<StateProof>, ReadError> {
        let head = self.head();
        let Some(header) = self.certified_header(head.height)? else { return Ok(None) };
        let proven = self.proven(key, head.certified_version)?;
        let (network, voter_changes) = (self.network(), self.voter_changes(head.height)?);
        Ok(Some(StateProof { minidlt_state_proof: STATE_PROOF_VERSION, network, voter_changes, proven, header }))
    }

    /// Copies the ledger as of now into `directory`, which must not exist yet. A node can be
    /// started on the copy, and `verify` run on it.
    pub fn backup(&self, directory: &Path) -> Result<(), ReadError> {
        Ok(Checkpoint::new(&self.database.db)?.create_checkpoint(directory)?)
    }
}

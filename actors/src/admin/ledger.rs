//! What the API asks of the ledger: the part of [`Reader`] it needs, so that it can be tested
//! against a chain in memory.

use std::path::Path;

use minidlt_protocol::{
    block::{Block, Head},
    evidence::Recorded,
    receipt::Receipt,
    registry::EntryKey,
    state_proof::StateProof,
    transaction::TransactionBytes,
    types::{Hash, Height, Identity},
    vote::Certificate,
};
use tokio::sync::watch;

use crate::store::{
    Changed,
    reader::{Located, ReadError, Reader},
};

pub trait Ledger: Send + Sync + 'static {
    fn head(&self) -> Head;
    /// Changes with each commit, after it is on disk.
    fn heads(&self) -> watch::Receiver<Head>;
    fn locate(&self, id: &Hash) -> Result<Option<Located>, ReadError>;
    fn transaction(&self, id: &Hash) -> Result<Option<(Located, TransactionBytes)>, ReadError>;
    /// Blocks from height 1 on.
    fn block(&self, height: Height) -> Result<Option<Block>, ReadError>;
    fn certificate(&self, height: Height) -> Result<Option<Certificate>, ReadError>;
    fn height_of(&self, hash: &Hash) -> Result<Option<Height>, ReadError>;
    fn receipt(&self, id: &Hash) -> Result<Option<Receipt>, ReadError>;
    /// Copies the ledger as of now into a directory that is not there yet.
    fn backup(&self, directory: &Path) -> Result<(), ReadError>;
    /// What is recorded of a voter at the head, the oldest first.
    fn evidence(&self, voter: &Identity) -> Result<Vec<Recorded>, ReadError>;
    /// An entry of the state that the head's header certifies, and the height of the block that left it so.
    fn entry(&self, key: &str) -> Result<(Height, Option<Vec<u8>>), ReadError>;
    /// The proof of that entry, or of its absence; `None` before the first block.
    fn state_proof(&self, key: &str) -> Result<Option<StateProof>, ReadError>;
    /// Which transactions changed an entry of the registry, the oldest first: `limit` of them, after `after`.
    fn history(&self, key: &EntryKey, after: Option<Changed>, limit: usize) -> Result<Vec<Changed>, ReadError>;
}

impl Ledger for Reader {
    fn head(&self) -> Head {
        self.head()
    }

    fn heads(&self) -> watch::Receiver<Head> {
        self.heads()
    }

    fn locate(&self, id: &Hash) -> Result<Option<Located>, ReadError> {
        self.locate(id)
    }

    fn transaction(&self, id: &Hash) -> Result<Option<(Located, TransactionBytes)>, ReadError> {
        self.transaction(id)
    }

    fn block(&self, height: Height) -> Result<Option<Block>, ReadError> {
        self.block(height)
    }

    fn certificate(&self, height: Height) -> Result<Option<Certificate>, ReadError> {
        self.certificate(height)
    }

    fn height_of(&self, hash: &Hash) -> Result<Option<Height>, ReadError> {
        self.height_of(hash)
    }

    fn receipt(&self, id: &Hash) -> Result<Option<Receipt>, ReadError> {
        self.receipt(id)
    }

    fn backup(&self, directory: &Path) -> Result<(), ReadError> {
        self.backup(directory)
    }

    fn evidence(&self, voter: &Identity) -> Result<Vec<Recorded>, ReadError> {
        self.evidence(voter)
    }

    fn entry(&self, key: &str) -> Result<(Height, Option<Vec<u8>>), ReadError> {
        self.entry(key)
    }

    fn state_proof(&self, key: &str) -> Result<Option<StateProof>, ReadError> {
        self.state_proof(key)
    }

    fn history(&self, key: &EntryKey, after: Option<Changed>, limit: usize) -> Result<Vec<Changed>, ReadError> {
        self.history(key, after, limit)
    }
}

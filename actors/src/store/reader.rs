//! Reading the ledger: any number of readers, on any thread, that never wait for the writer.

use minidlt_protocol::{
    block::{Block, Head},
    receipt::Receipt,
    state::Outcome,
    transaction::TransactionBytes,
    types::{Hash, Height},
    vote::Certificate,
};
use thiserror::Error;

/// The store could not be read, or holds what it never wrote.
#[derive(Debug, Clone, Error)]
#[error("the ledger cannot be read: {0}")]
pub struct ReadError(pub String);

/// A committed transaction and its place.
#[derive(Debug, Clone)]
pub struct Located {
    pub height: Height,
    /// Its place in the block, from 0.
    pub position: usize,
    pub outcome: Outcome,
}

/// A handle for reading; cheap to clone.
#[derive(Clone)]
pub struct Reader {}

#[allow(unused_variables)]
impl Reader {
    pub fn network(&self) -> Hash {
        unimplemented!()
    }
    /// The head; kept in memory, free to ask.
    pub fn head(&self) -> Head {
        unimplemented!()
    }
    /// Changes with each commit, after it is on disk.
    pub fn heads(&self) -> tokio::sync::watch::Receiver<Head> {
        unimplemented!()
    }
    pub fn contains(&self, id: &Hash) -> Result<bool, ReadError> {
        unimplemented!()
    }
    pub fn locate(&self, id: &Hash) -> Result<Option<Located>, ReadError> {
        unimplemented!()
    }
    pub fn transaction(&self, id: &Hash) -> Result<Option<(Located, TransactionBytes)>, ReadError> {
        unimplemented!()
    }
    /// Blocks from height 1 on; block 0 is the genesis.
    pub fn block(&self, height: Height) -> Result<Option<Block>, ReadError> {
        unimplemented!()
    }
    pub fn certificate(&self, height: Height) -> Result<Option<Certificate>, ReadError> {
        unimplemented!()
    }
    pub fn height_of(&self, hash: &Hash) -> Result<Option<Height>, ReadError> {
        unimplemented!()
    }
    /// A receipt; `None` where the transaction is unknown or the block after its own, which
    /// certifies its result, is not yet there.
    pub fn receipt(&self, id: &Hash) -> Result<Option<Receipt>, ReadError> {
        unimplemented!()
    }
    /// Transactions by author or by time of their block, newest last, from a cursor; see the API.
    pub fn state_proof(&self, key: &[u8]) -> Result<(Option<Vec<u8>>, Vec<u8>), ReadError> {
        unimplemented!()
    }
    /// Blocks with their certificates from a height on, at most so many bytes and blocks.
    pub fn blocks(
        &self,
        from: Height,
        limit_bytes: usize,
        most: usize,
    ) -> Result<Vec<minidlt_protocol::block::CertifiedBlock>, ReadError> {
        unimplemented!()
    }
}

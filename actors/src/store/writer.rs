//! Committing: one decided block, one synced write, all or nothing.

use std::sync::Arc;

use minidlt_protocol::{
    block::{BlockError, DecidedBlock, Head},
    codec, merkle,
    registry::Registry,
    state::{self, Execution, StateError, StateUpdate},
    types::{Hash, Height},
};
use rocksdb::{DB, FlushOptions, WriteBatch, WriteOptions};
use thiserror::Error;
use tokio::sync::watch;

use super::{
    database::{Database, handle},
    history,
    schema::{Family, Place, decode_place, height_key, meta, seal},
};

/// The only way to write a ledger; there is one of it.
pub struct Writer {
    database: Arc<Database>,
    heads: watch::Sender<Head>,
    registries: watch::Sender<Arc<Registry>>,
}

/// Why a decided block was not committed. Consensus and Sync check all but `Write` before, so any
/// of these stops the node.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CommitError {
    #[error(transparent)]
    DoesNotFollow(#[from] BlockError),
    #[error("its hash is {computed}, it came as {claimed}")]
    Hash { computed: Hash, claimed: Hash },
    #[error("its certificate is for block {block} at height {height}")]
    Certificate { block: Hash, height: Height },
    #[error("its transactions' root is {computed}, its header has {claimed}")]
    TransactionsRoot { computed: Hash, claimed: Hash },
    #[error("its transaction {id} is in block {height} already")]
    AlreadyCommitted { id: Hash, height: Height },
    #[error(transparent)]
    State(#[from] StateError),
    #[error("the ledger cannot be read or written: {0}")]
    Write(String),
}

impl Writer {
    pub(super) fn new(
        database: Arc<Database>,
        heads: watch::Sender<Head>,
        registries: watch::Sender<Arc<Registry>>,
    ) -> Self {
        Self { database, heads, registries }
    }

    /// Who is enrolled, as of the head.
    pub fn registry(&self) -> Arc<Registry> {
        self.registries.borrow().clone()
    }

    /// Executes and writes a block. When this returns it is on disk, and readers see it whole;
    /// before, and after an error, they see nothing of it.
    pub fn commit(&mut self, block: &DecidedBlock) -> Result<Head, CommitError> {
        self.check_follows(block)?;
        self.check_new(block)?;
        let head = self.heads.borrow().clone();
        let transactions = block.transactions.iter().map(|transaction| &***transaction);
        let (before, created) = (self.registry(), block.header.created);
        let execution = state::execute(&*self.database, &before, &head, created, transactions)?;
        let mut batch = self.database.batch();
        let certified_version = head.state_version;
        let (state_version, state_root) = self.put_execution(&mut batch, &head, &execution)?;
        let registry = execution.registry.clone();
        let head = Head {
            height: block.header.height,
            hash: block.hash,
            created: block.header.created,
            results_root: execution.results_root,
            state_root,
            state_version,
            certified_version,
            transactions: block.transactions.len(),
        };
        self.put_block(&mut batch, block, execution);
        batch.put_cf(handle(&self.database.db, Family::Meta), meta::HEAD, seal(&head));
        self.database.db.write_opt(batch, &synced()).map_err(write_error)?;
        // Who sees the new head sees who is enrolled then.
        if !Arc::ptr_eq(&registry, &before) {
            self.registries.send_replace(registry);
        }
        self.heads.send_replace(head.clone());
        Ok(head)
    }

    /// Sorts into tables what is only in the log, so that the next start has nothing to read again.
    pub fn flush(&self) -> Result<(), rocksdb::Error> {
        let families = Family::ALL.map(|family| handle(&self.database.db, family));
        self.database.db.flush_cfs_opt(&families, &FlushOptions::default())
    }

    fn check_follows(&self, block: &DecidedBlock) -> Result<(), CommitError> {
        let computed = block.header.hash(&self.database.network);
        if computed != block.hash {
            return Err(CommitError::Hash { computed, claimed: block.hash });
        }
        let certificate = &block.certificate;
        if (certificate.block, certificate.height) != (block.hash, block.header.height) {
            return Err(CommitError::Certificate { block: certificate.block, height: certificate.height });
        }
        let leaves: Vec<Hash> = block.transactions.iter().map(|transaction| transaction.leaf).collect();
        let (computed, claimed) = (merkle::root(&leaves), block.header.transactions_root);
        if computed != claimed {
            return Err(CommitError::TransactionsRoot { computed, claimed });
        }
        let voters = self.registry().voters_at(block.header.height).clone();
        Ok(block.header.check_follows(&self.heads.borrow(), &voters)?)
    }

    /// An id is committed at most once, ever.
    fn check_new(&self, block: &DecidedBlock) -> Result<(), CommitError> {
        let family = handle(&self.database.db, Family::Transactions);
        let mut ids: Vec<&Hash> = block.transactions.iter().map(|transaction| &transaction.id).collect();
        ids.sort_unstable();
        if let Some(twice) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(CommitError::AlreadyCommitted { id: *twice[0], height: block.header.height });
        }
        let found = self.database.db.batched_multi_get_cf(family, ids.iter().map(|id| id.as_bytes()), true);
        for (id, found) in ids.into_iter().zip(found) {
            if let Some(place) = found.map_err(write_error)? {
                let (height, ..) = decode_place(&place).map_err(|error| CommitError::Write(error.to_string()))?;
                return Err(CommitError::AlreadyCommitted { id: *id, height });
            }
        }
        Ok(())
    }

    /// A block that changes nothing costs the state's tree nothing.
    fn put_execution(
        &self,
        batch: &mut WriteBatch,
        head: &Head,
        execution: &Execution,
    ) -> Result<(u64, Hash), CommitError> {
        if execution.writes.is_empty() {
            return Ok((head.state_version, head.state_root));
        }
        let version = head.state_version + 1;
        let update = state::update(&*self.database, version, &execution.writes)?;
        put_state(&self.database.db, batch, &update);
        for (family, key, value) in history::entries(head.height.next(), execution, version) {
            batch.put_cf(handle(&self.database.db, family), key, value);
        }
        Ok((version, update.root))
    }

    fn put_block(&self, batch: &mut WriteBatch, block: &DecidedBlock, execution: Execution) {
        let db = &self.database.db;
        let height = block.header.height;
        let key = height_key(height);
        batch.put_cf(handle(db, Family::Blocks), key, codec::encode(&block.block()));
        batch.put_cf(handle(db, Family::Certificates), key, codec::encode(&block.certificate));
        batch.put_cf(handle(db, Family::Hashes), block.hash.as_bytes(), key);
        let index = handle(db, Family::Transactions);
        for ((transaction, outcome), position) in block.transactions.iter().zip(execution.outcomes).zip(0..) {
            let place: Place = (height, position, outcome);
            batch.put_cf(index, transaction.id.as_bytes(), codec::encode(&place));
        }
    }
}

pub(super) fn put_state(db: &DB, batch: &mut WriteBatch, update: &StateUpdate) {
    for (table, key, value) in &update.entries {
        batch.put_cf(handle(db, Family::State(*table)), key, value);
    }
}

/// Nothing is told before it would survive the machine's losing power.
pub(super) fn synced() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    options
}

fn write_error(error: rocksdb::Error) -> CommitError {
    CommitError::Write(error.to_string())
}

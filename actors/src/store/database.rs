//! The open database: point reads, and the state's tables.

use std::{fs::File, sync::Arc};

use minidlt_protocol::{
    genesis::Genesis,
    state::{StateError, StateReader, Table},
    types::{Hash, Identity},
};
use rocksdb::{ColumnFamily, DB, DBPinnableSlice, Direction, IteratorMode, WriteBatch};

use super::{mark::Mark, schema::Family};

/// What the writer and all readers share; closed with the last of them.
pub struct Database {
    pub db: DB,
    /// None where nothing is written.
    pub mark: Option<Mark>,
    pub genesis: Arc<Genesis>,
    pub network: Hash,
    pub node: Identity,
    /// Held for its lock, which tells other processes that the ledger is in use.
    pub _lock: Option<File>,
}

/// The handle of a family, all of which every database here was opened with.
pub fn handle(db: &DB, family: Family) -> &ColumnFamily {
    db.cf_handle(family.name()).expect("a database is opened with all families")
}

impl Database {
    /// What a write begins with. RocksDB keeps log data in the order of the batch, and in its log alone.
    pub fn batch(&self) -> WriteBatch {
        let mut batch = WriteBatch::default();
        if let Some(mark) = &self.mark {
            batch.put_log_data(mark);
        }
        batch
    }

    pub fn get(&self, family: Family, key: &[u8]) -> Result<Option<DBPinnableSlice<'_>>, rocksdb::Error> {
        self.db.get_pinned_cf(handle(&self.db, family), key)
    }
}

impl StateReader for Database {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        let found = self.db.get_cf(handle(&self.db, Family::State(table)), key);
        found.map_err(|error| StateError(error.to_string()))
    }

    fn floor(&self, table: Table, key: &[u8]) -> Result<Option<(Vec<u8>, Vec<u8>)>, StateError> {
        let mode = IteratorMode::From(key, Direction::Reverse);
        let first = self.db.iterator_cf(handle(&self.db, Family::State(table)), mode).next().transpose();
        let first = first.map_err(|error| StateError(error.to_string()))?;
        Ok(first.map(|(key, value)| (key.into_vec(), value.into_vec())))
    }

    fn keys(&self) -> Result<Vec<Vec<u8>>, StateError> {
        let all = self.db.iterator_cf(handle(&self.db, Family::State(Table::Keys)), IteratorMode::Start);
        all.map(|row| Ok(row.map_err(|error| StateError(error.to_string()))?.1.into_vec())).collect()
    }
}

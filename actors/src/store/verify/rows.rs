//! What is stored, as of one instant.

use minidlt_protocol::types::Height;
use rocksdb::{DB, IteratorMode, ReadOptions, SnapshotWithThreadMode};

use super::{
    super::{
        database::handle,
        schema::{Family, decode_height},
    },
    FirstBad, bad,
};

/// Read ahead so much when reading all of a family, in bytes.
const READ_AHEAD_BYTES: usize = 1 << 20;

pub struct Rows<'a> {
    db: &'a DB,
    snapshot: SnapshotWithThreadMode<'a, DB>,
}

pub type Row = (Box<[u8]>, Box<[u8]>);

impl<'a> Rows<'a> {
    pub fn new(db: &'a DB) -> Self {
        Self { db, snapshot: db.snapshot() }
    }

    /// The value under `key`; `height` is named where it cannot be read.
    pub fn get(&self, family: Family, key: &[u8], height: Height) -> Result<Option<Vec<u8>>, FirstBad> {
        self.snapshot.get_cf(handle(self.db, family), key).map_err(|error| unreadable(height, family, &error))
    }

    pub fn all(&self, family: Family) -> impl Iterator<Item = Result<Row, rocksdb::Error>> {
        let mut options = ReadOptions::default();
        // The node's own reads should still find in the cache what they had there.
        options.fill_cache(false);
        options.set_verify_checksums(true);
        options.set_readahead_size(READ_AHEAD_BYTES);
        self.snapshot.iterator_cf_opt(handle(self.db, family), options, IteratorMode::Start)
    }

    /// The values of a family by height.
    pub fn by_height(&self, family: Family) -> Column<impl Iterator<Item = Result<Row, rocksdb::Error>>> {
        Column { family, rows: self.all(family) }
    }
}

pub fn unreadable(height: Height, family: Family, error: &rocksdb::Error) -> FirstBad {
    bad(height, format_args!("{}: cannot be read: {error}", family.name()))
}

/// A family that has one entry a height, from 1 on.
pub struct Column<I> {
    family: Family,
    rows: I,
}

impl<I: Iterator<Item = Result<Row, rocksdb::Error>>> Column<I> {
    /// The value of the next height, which must be `height`.
    pub fn at(&mut self, height: Height) -> Result<Box<[u8]>, FirstBad> {
        let name = self.family.name();
        let row = self.rows.next().transpose().map_err(|error| unreadable(height, self.family, &error))?;
        let (key, value) = row.ok_or_else(|| bad(height, format_args!("{name}: its entry is missing")))?;
        match decode_height(&key) {
            Some(found) if found == height => Ok(value),
            Some(found) if found > height => Err(bad(height, format_args!("{name}: its entry is missing"))),
            _ => Err(bad(height, format_args!("{name}: an entry too many, under {}", hex::encode(key)))),
        }
    }

    /// There must be nothing after the last height.
    pub fn end(mut self, last: Height) -> Result<(), FirstBad> {
        match self.rows.next() {
            None => Ok(()),
            Some(Err(error)) => Err(unreadable(last, self.family, &error)),
            Some(Ok((key, _))) => {
                let (name, key) = (self.family.name(), hex::encode(key));
                Err(bad(last, format_args!("{name}: an entry beyond the head, under {key}")))
            }
        }
    }
}

//! What is stored where. Every value is either sealed with its hash or recomputed by `verify`.
//!
//! | family | key | value |
//! |---|---|---|
//! | `default` | a name of [`meta`] | sealed: schema version, network's id, node's identity, head |
//! | `blocks` | height, 8 bytes big-endian | the encoded block |
//! | `certificates` | height | the encoded certificate this node collected or fetched |
//! | `transactions` | transaction's id | [`Place`]: where it is and what came of it |
//! | `hashes` | block's hash | height |
//! | `state-nodes`, `-values`, `-keys` | as of `protocol::state::Table` | the state's tree |
//! | `versions` | height | sealed: the state's version after this block, which changed it |
//! | `history` | an entry's key in the state, a zero byte, height, place in the block (8 bytes each) | sealed: nothing |

use minidlt_protocol::{
    codec::{self, CodecError},
    limits::BLOCK_OVERHEAD_BYTES,
    merkle,
    state::{Outcome, Table},
    types::Height,
    vote::Certificate,
};
use rocksdb::{BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode, Options};
use serde::{Serialize, de::DeserializeOwned};

/// The version of this layout; a ledger of another one is not touched.
pub const SCHEMA: u32 = 2;

/// A column family. RocksDB always has `default`, so that is put to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    Meta,
    Blocks,
    Certificates,
    Transactions,
    Hashes,
    State(Table),
    /// Which blocks changed the state.
    Versions,
    /// Which transactions changed which entry of the registry.
    History,
}

impl Family {
    pub const ALL: [Self; 10] = [
        Self::Meta,
        Self::Blocks,
        Self::Certificates,
        Self::Transactions,
        Self::Hashes,
        Self::State(Table::Nodes),
        Self::State(Table::Values),
        Self::State(Table::Keys),
        Self::Versions,
        Self::History,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Meta => "default",
            Self::Blocks => "blocks",
            Self::Certificates => "certificates",
            Self::Transactions => "transactions",
            Self::Hashes => "hashes",
            Self::State(Table::Nodes) => "state-nodes",
            Self::State(Table::Values) => "state-values",
            Self::State(Table::Keys) => "state-keys",
            Self::Versions => "versions",
            Self::History => "history",
        }
    }
}

/// The keys of [`Family::Meta`].
pub mod meta {
    pub const SCHEMA: &[u8] = b"schema";
    pub const NETWORK: &[u8] = b"network";
    pub const NODE: &[u8] = b"node";
    pub const HEAD: &[u8] = b"head";
    pub const ALL: [&[u8]; 4] = [HEAD, NETWORK, NODE, SCHEMA];
}

/// A transaction's height, its place in the block from 0, and its outcome.
pub type Place = (Height, u32, Outcome);

/// Most bytes of an index or meta entry; an outcome's reason is the longest part.
const MAX_ENTRY_BYTES: usize = 64 << 10;

const SEAL_BYTES: usize = 32;

/// An entry that nothing in the chain could prove wrong gets its hash behind it.
pub fn seal<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = codec::encode(value);
    let seal = merkle::leaf_hash(&bytes);
    bytes.extend_from_slice(seal.as_bytes());
    bytes
}

pub fn unseal<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Result<T, String> {
    let split = bytes.len().checked_sub(SEAL_BYTES).ok_or("it is too short")?;
    let (value, seal) = bytes.split_at(split);
    if merkle::leaf_hash(value).as_bytes() != seal {
        return Err("its checksum does not match".into());
    }
    codec::decode_canonical(value, MAX_ENTRY_BYTES).map_err(|error| error.to_string())
}

pub fn decode_place(bytes: &[u8]) -> Result<Place, CodecError> {
    codec::decode_canonical(bytes, MAX_ENTRY_BYTES)
}

pub fn decode_certificate(bytes: &[u8]) -> Result<Certificate, CodecError> {
    codec::decode_canonical(bytes, BLOCK_OVERHEAD_BYTES)
}

pub fn height_key(height: Height) -> [u8; 8] {
    height.get().to_be_bytes()
}

pub fn decode_height(bytes: &[u8]) -> Option<Height> {
    bytes.try_into().ok().map(u64::from_be_bytes).map(Height::new)
}

/// Memory: these bound what RocksDB takes to about 100 MiB, of the node's 400.
const BLOCK_CACHE_BYTES: usize = 32 << 20;
const WRITE_BUFFER_BYTES: usize = 16 << 20;
const ALL_WRITE_BUFFERS_BYTES: usize = 48 << 20;
/// Bounds both the disk taken by, and the time to read again at start, what is not yet sorted.
const MAX_LOG_BYTES: u64 = 64 << 20;
pub const MAX_OPEN_FILES: usize = 256;
const BACKGROUND_JOBS: i32 = 2;
const BLOOM_BITS_PER_KEY: f64 = 10.0;
const INFO_LOG_BYTES: usize = 1 << 20;

pub fn database_options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_max_open_files(MAX_OPEN_FILES as i32);
    options.set_max_background_jobs(BACKGROUND_JOBS);
    options.set_db_write_buffer_size(ALL_WRITE_BUFFERS_BYTES);
    options.set_max_total_wal_size(MAX_LOG_BYTES);
    // The default would silently drop all writes after a damaged one. Every write here was synced
    // and promised: only a torn last one, which never was, may be dropped.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_max_log_file_size(INFO_LOG_BYTES);
    options.set_keep_log_file_num(2);
    options.set_stats_dump_period_sec(0);
    options
}

pub fn families() -> Vec<ColumnFamilyDescriptor> {
    let cache = Cache::new_lru_cache(BLOCK_CACHE_BYTES);
    let descriptor = |family: Family| ColumnFamilyDescriptor::new(family.name(), family_options(family, &cache));
    Family::ALL.into_iter().map(descriptor).collect()
}

fn family_options(family: Family, cache: &Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    // Else indexes and filters would be held beside the cache, unbounded.
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    if matches!(family, Family::Transactions | Family::Hashes) {
        table.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
    }
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_write_buffer_size(WRITE_BUFFER_BYTES);
    options.set_compression_type(DBCompressionType::Lz4);
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_breaks_with_any_byte() {
        let sealed = seal(&"node0@Org01");
        assert_eq!(unseal::<String>(&sealed), Ok("node0@Org01".to_owned()));
        for at in 0..sealed.len() {
            let mut flipped = sealed.clone();
            flipped[at] ^= 1;
            assert!(unseal::<String>(&flipped).is_err(), "byte {at}");
        }
        assert!(unseal::<String>(&sealed[..SEAL_BYTES - 1]).is_err());
    }

    #[test]
    fn a_place_comes_back_as_it_went() {
        for outcome in [Outcome::Ok, Outcome::Failed { reason: "no such user".into() }] {
            let place: Place = (Height::new(7), 3, outcome);
            assert_eq!(decode_place(&codec::encode(&place)), Ok(place));
        }
    }
}

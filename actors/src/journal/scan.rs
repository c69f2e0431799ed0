//! Batches as bytes: making one, and finding those of a file.

use minidlt_protocol::types::Height;
use openssl::sha::Sha256;

use super::{
    Record,
    head::{HEAD_BYTES, MARK_BYTES, Secret},
    length,
};

const CHECKSUM_BYTES: usize = 16;
/// Mark, length, height.
const FIELDS_BYTES: usize = MARK_BYTES + 4 + 8;
pub const BATCH_HEAD_BYTES: usize = FIELDS_BYTES + CHECKSUM_BYTES;

/// What a file holds.
#[derive(Debug)]
pub struct Scan {
    /// Of its first batch; `None` where that is bad.
    pub height: Option<Height>,
    /// Where the valid batches of that height end.
    pub end: usize,
    pub records: Vec<Record>,
    /// A batch of that height was begun at the end.
    pub torn: bool,
    /// The latest height of valid batches anywhere after the end.
    pub latest_after_end: Option<Height>,
}

/// The bytes of a batch that is to stand at `offset`.
pub fn batch(secret: &Secret, height: Height, offset: u64, records: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BATCH_HEAD_BYTES + records.len());
    bytes.extend_from_slice(&secret.mark);
    bytes.extend_from_slice(&length(records));
    bytes.extend_from_slice(&height.get().to_be_bytes());
    let checksum = checksum(secret, &bytes, offset, records);
    bytes.extend_from_slice(&checksum);
    bytes.extend_from_slice(records);
    bytes
}

/// Looks through a file whose head holds `secret`.
pub fn scan(secret: &Secret, bytes: &[u8]) -> Scan {
    let mut found = Scan { height: None, end: HEAD_BYTES, records: Vec::new(), torn: false, latest_after_end: None };
    while let Some((height, records, next)) = batch_at(secret, bytes, found.end) {
        if found.height.is_some_and(|first| first != height) {
            break;
        }
        found.height = Some(height);
        found.records.extend(records);
        found.end = next;
    }
    found.torn = fields_at(secret, bytes, found.end).is_some_and(|(height, _)| {
        batch_at(secret, bytes, found.end).is_none() && found.height.is_none_or(|first| first == height)
    });
    // Every place costs but a look at the mark, whatever others' bytes look like: they cannot hold it.
    let after = (found.end..bytes.len()).filter_map(|at| batch_at(secret, bytes, at));
    found.latest_after_end = after.map(|(height, ..)| height).max();
    found
}

/// The key goes first. That no more could be appended under the same checksum, two things see to: the
/// length is among the fields, and half of the hash is not told.
fn checksum(secret: &Secret, fields: &[u8], offset: u64, records: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = Sha256::new();
    hasher.update(&secret.key);
    hasher.update(fields);
    hasher.update(&offset.to_be_bytes());
    hasher.update(records);
    let mut half = [0; CHECKSUM_BYTES];
    half.copy_from_slice(&hasher.finish()[..CHECKSUM_BYTES]);
    half
}

/// Height and length, where a batch seems to begin.
fn fields_at(secret: &Secret, bytes: &[u8], at: usize) -> Option<(Height, usize)> {
    let rest = bytes.get(at..)?.strip_prefix(&secret.mark)?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (height, _) = rest.split_first_chunk::<8>()?;
    Some((Height::new(u64::from_be_bytes(*height)), usize::try_from(u32::from_be_bytes(*length)).ok()?))
}

/// Height, records and end of the valid batch that begins here.
fn batch_at(secret: &Secret, bytes: &[u8], at: usize) -> Option<(Height, Vec<Record>, usize)> {
    let (height, length) = fields_at(secret, bytes, at)?;
    let (fields, rest) = bytes.get(at..)?.split_at_checked(FIELDS_BYTES)?;
    let (sum, rest) = rest.split_first_chunk::<CHECKSUM_BYTES>()?;
    let records = rest.get(..length)?;
    if checksum(secret, fields, at as u64, records) != *sum {
        return None;
    }
    Some((height, Record::decode_all(records)?, at + BATCH_HEAD_BYTES + length))
}

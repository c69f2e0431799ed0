//! What is kept beside the state so that its past can be asked: which blocks made a new version of it, and
//! which transactions changed which of its entries.

use std::sync::Arc;

use minidlt_protocol::{
    codec,
    lineage::VoterChange,
    registry::{EntryKey, VoterEntry, VoterSet},
    state::{self, Execution},
    state_proof::{Base64, Proven},
    types::Height,
    vote::Voters,
};
use rocksdb::{Direction, IteratorMode};

use super::{
    database::{Database, handle},
    reader::{ReadError, Reader},
    schema::{Family, decode_height, height_key, seal, unseal},
};

/// A change of an entry: the block, and the place of the transaction in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Changed {
    pub height: Height,
    pub position: u64,
}

/// What is written beside a block that made this version of the state.
pub fn entries(height: Height, execution: &Execution, version: u64) -> Vec<(Family, Vec<u8>, Vec<u8>)> {
    let version = (Family::Versions, height_key(height).to_vec(), seal(&version));
    let changed = execution.changed.iter().map(|(key, position)| {
        let place = [prefix(key).as_slice(), &height_key(height), &position.to_be_bytes()].concat();
        (Family::History, place, seal(&()))
    });
    [version].into_iter().chain(changed).collect()
}

/// No key of an entry holds a zero byte, so none is the beginning of another's.
fn prefix(key: &EntryKey) -> Vec<u8> {
    let mut prefix = key.to_bytes();
    prefix.push(0);
    prefix
}

impl Database {
    /// The state's version after the block of this height.
    pub fn version_at(&self, height: Height) -> Result<u64, ReadError> {
        let key = height_key(height);
        let mode = IteratorMode::From(&key, Direction::Reverse);
        match self.db.iterator_cf(handle(&self.db, Family::Versions), mode).next().transpose()? {
            Some((_, value)) => {
                unseal(&value).map_err(|reason| ReadError(format!("versions, up to {height}: {reason}")))
            }
            None => Ok(0),
        }
    }
}

impl Reader {
    /// The transactions that changed an entry after genesis, the oldest first: `limit` of them, after `after`.
    pub fn history(&self, key: &EntryKey, after: Option<Changed>, limit: usize) -> Result<Vec<Changed>, ReadError> {
        let prefix = prefix(key);
        let from = after.map_or_else(
            || prefix.clone(),
            |Changed { height, position }| {
                [prefix.as_slice(), &height_key(height), &position.saturating_add(1).to_be_bytes()].concat()
            },
        );
        let mode = IteratorMode::From(&from, Direction::Forward);
        let mut changes = Vec::new();
        for row in self.database.db.iterator_cf(handle(&self.database.db, Family::History), mode) {
            let (row, _) = row?;
            let Some(place) = row.strip_prefix(prefix.as_slice()) else { break };
            if changes.len() == limit {
                break;
            }
            let parts = place.split_first_chunk::<8>().and_then(|(height, position)| {
                Some(Changed { height: decode_height(height)?, position: decode_height(position)?.get() })
            });
            changes.push(parts.ok_or_else(|| ReadError(format!("history of {key}: an entry without its place")))?);
        }
        Ok(changes)
    }

    /// Who voted at this height.
    pub fn voters_at(&self, height: Height) -> Result<Arc<Voters>, ReadError> {
        let registry = self.registry();
        if let Some(known) = registry.voter_sets.remembered_at(height) {
            return Ok(known.clone());
        }
        let Some(from) = self.voter_changes_up_to(height)?.pop() else {
            return Ok(self.database.genesis.registry().orderers().into());
        };
        let version = self.database.version_at(before(from))?;
        let key = EntryKey::Voters(from);
        let value = state::value(&*self.database, version, &key.to_bytes())?;
        let missing = || ReadError(format!("{key} is missing in version {version} of the state"));
        let entries: Vec<VoterEntry> = codec::decode_canonical(&value.ok_or_else(missing)?, MAX_VOTERS_BYTES)
            .map_err(|error| ReadError(format!("{key}: {error}")))?;
        Ok(VoterSet::of_entries(registry.mode, from, entries).voters)
    }

    /// The proof of every change of voters that was in force at this height.
    pub fn voter_changes(&self, height: Height) -> Result<Vec<VoterChange>, ReadError> {
        let change = |from: Height| {
            let last = from.previous().unwrap_or_default();
            let header = self.certified_header(last)?;
            let header = header.ok_or_else(|| ReadError(format!("block {last} is missing")))?;
            let proven = self.proven(&EntryKey::Voters(from).to_string(), self.database.version_at(before(from))?)?;
            Ok(VoterChange { header, proven })
        };
        self.voter_changes_up_to(height)?.into_iter().map(change).collect()
    }

    /// From which heights on other voters voted, up to this one.
    fn voter_changes_up_to(&self, height: Height) -> Result<Vec<Height>, ReadError> {
        let mut heights = Vec::new();
        let mode = IteratorMode::From(VOTERS, Direction::Forward);
        for row in self.database.db.iterator_cf(handle(&self.database.db, Family::History), mode) {
            let (row, _) = row?;
            let key = row.strip_prefix(VOTERS).and_then(|rest| rest.split(|byte| *byte == 0).next());
            let Some(from) = key.and_then(|from| std::str::from_utf8(from).ok()?.parse().ok()) else { break };
            if from > height.get() {
                break;
            }
            heights.push(Height::new(from));
        }
        Ok(heights)
    }

    /// What the state of this version holds under a key, with the proof of it.
    pub(super) fn proven(&self, key: &str, version: u64) -> Result<Proven, ReadError> {
        let (value, proof) = state::prove(&*self.database, version, key.as_bytes())?;
        let proven = Proven { key: key.to_owned(), value: value.map(Base64), proof: Base64(proof) };
        proven.check_bounds().map_err(|error| ReadError(format!("the proof of {key}: {error}")))?;
        Ok(proven)
    }
}

const VOTERS: &[u8] = b"voters/";
/// Far more than the most voters take.
const MAX_VOTERS_BYTES: usize = 1 << 20;

/// The block that made those vote who vote from `from` on.
fn before(from: Height) -> Height {
    Height::new(from.get().saturating_sub(minidlt_protocol::registry::IN_FORCE_AFTER))
}

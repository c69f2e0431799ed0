//! Who voted when, from genesis on, to anyone with the genesis file alone.
//!
//! ```text
//! genesis → voters of height 1 … ← certificate(h + 1) → header(h + 1).state_root → voters of h + 2 …
//! ```
//!
//! A change of voters that block h made is in the state that header h + 1 carries the root of, and the
//! voters before it certify that header. So each step is proven by those who voted before it. What this
//! trusts: that no quorum of former voters lies together about a height after they had ceased to vote.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    codec,
    genesis::Genesis,
    limits::MAX_BULK_TRANSACTION_BYTES,
    receipt::{CertifiedHeader, ReceiptError},
    registry::{EntryKey, VoterEntry, VoterSet, in_force},
    state_proof::{Proven, ProvenError},
    types::Height,
    vote::{ConsensusMode, Voters},
};

/// One change of voters: the last header that the voters before it certify, and the entry of the state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VoterChange {
    pub header: CertifiedHeader,
    pub proven: Proven,
}

/// Why a change of voters is not proven.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LineageError {
    #[error("voter_changes[{at}]: {reason}")]
    Header { at: usize, reason: Box<ReceiptError> },
    #[error("voter_changes[{at}].proven.{reason}")]
    Proven { at: usize, reason: ProvenError },
    #[error("voter_changes[{at}].proven.key: {found}, expected {expected}")]
    Key { at: usize, found: String, expected: EntryKey },
    #[error("voter_changes[{at}].proven.value: {reason}")]
    Value { at: usize, reason: String },
    #[error("voter_changes[{at}]: out of order, or after all that it is needed for")]
    Order { at: usize },
}

/// Checks the changes up to `last`, the highest height whose voters are asked for, and gives all sets.
pub fn follow(genesis: &Genesis, changes: &[VoterChange], last: Height) -> Result<Lineage, LineageError> {
    let (network, registry) = (genesis.id(), genesis.registry());
    let mode = registry.mode;
    let mut lineage = Lineage(vec![registry.voter_sets.last().clone()]);
    for (at, VoterChange { header, proven }) in changes.iter().enumerate() {
        let height = header.header.height;
        let from = height.next();
        if from > last || from <= lineage.last().from {
            return Err(LineageError::Order { at });
        }
        let held = header.verify("header", &network, lineage.at(height));
        held.map_err(|reason| LineageError::Header { at, reason: reason.into() })?;
        let expected = EntryKey::Voters(from);
        if proven.key != expected.to_string() {
            return Err(LineageError::Key { at, found: codec::clip(&proven.key), expected });
        }
        proven.verify(&header.header.state_root).map_err(|reason| LineageError::Proven { at, reason })?;
        lineage.0.push(set(mode, from, proven).map_err(|reason| LineageError::Value { at, reason })?);
    }
    Ok(lineage)
}

fn set(mode: ConsensusMode, from: Height, proven: &Proven) -> Result<VoterSet, String> {
    let value = proven.value.as_ref().ok_or("there is none")?;
    let entries: Vec<VoterEntry> =
        codec::decode_canonical(&value.0, MAX_BULK_TRANSACTION_BYTES).map_err(|error| error.to_string())?;
    Ok(VoterSet::of_entries(mode, from, entries))
}

/// All sets of voters from genesis up to some height, the first first; never none.
pub struct Lineage(Vec<VoterSet>);

impl Lineage {
    pub fn at(&self, height: Height) -> &Voters {
        &in_force(&self.0, height).voters
    }

    fn last(&self) -> &VoterSet {
        &self.0[self.0.len() - 1]
    }
}

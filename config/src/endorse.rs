//! What a peer endorses, as its operator wants it: over and above what the network's rules allow.

use std::collections::BTreeSet;

use minidlt_protocol::types::Name;

use crate::{error::Problem, raw::RawEndorse};

/// Most types of records that a node may be told to endorse.
pub const MAX_TYPES: usize = 1_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endorse {
    /// All that could be committed.
    Everything,
    Nothing,
    /// Records of these types, and no changes.
    RecordTypes(BTreeSet<Name>),
}

impl RawEndorse {
    pub(crate) fn check(self) -> Result<Endorse, Problem> {
        match self {
            Self::Word(word) => match word.as_str() {
                "everything" => Ok(Endorse::Everything),
                "nothing" => Ok(Endorse::Nothing),
                _ => Err(Problem::Endorse(word)),
            },
            Self::Types(types) if types.is_empty() => Err(Problem::Endorse("[]".into())),
            Self::Types(types) if types.len() > MAX_TYPES => {
                Err(Problem::Bound { value: types.len() as u64, least: 1, most: MAX_TYPES as u64 })
            }
            Self::Types(types) => {
                let names = types.into_iter().map(|text| text.parse().map_err(Problem::Name));
                Ok(Endorse::RecordTypes(names.collect::<Result<_, _>>()?))
            }
        }
    }
}

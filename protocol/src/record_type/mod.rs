//! Types of records: what a record of one must be made of, and whose consent it needs.
//!
//! A record names its type. Whether it fits is asked by the registry as of the block before its own, like all
//! that a block asks: one that does not fit makes the block that holds it invalid. A record without a type is
//! not looked into.

mod keywords;
mod schema;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::{
    keywords::{DRAFT, MAX_AUTOMATON_BYTES, MAX_PATTERN_BYTES, MAX_PATTERNS, MAX_SUBSCHEMAS},
    schema::{
        MAX_CHECKS, MAX_CHECKS_A_RECORD, MAX_PATTERN_READS, MAX_SCHEMA_BYTES, Misfit, Schema, SchemaError, check_form,
    },
};
use crate::{
    registry::{Policy, Registry, Standing},
    types::Name,
};

/// A type as it stands, and how often it was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordType {
    /// JSON Schema, of 2020-12.
    pub schema: Schema,
    /// Who has to sign a record of it, besides its author being a submitter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// While it is not active, no record of it is taken.
    #[serde(default, skip_serializing_if = "Standing::is_active")]
    pub standing: Standing,
    pub revision: u64,
}

/// Why a record of a type was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TypeRefused {
    #[error("there is no record type '{0}' on this ledger")]
    Unknown(Name),
    #[error("record type '{name}' is {standing}: no record of it is taken")]
    Standing { name: Name, standing: Standing },
    #[error("record {record} does not fit the schema of record type '{name}': {reason}")]
    Misfit { name: Name, record: usize, reason: Misfit },
    #[error(
        "the policy of record type '{name}' is not met; missing: {missing}. Have it endorsed and submit it with the endorsements"
    )]
    Policy { name: Name, missing: String },
}

impl TypeRefused {
    /// A stable name for problem types and counters.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "unknown-record-type",
            Self::Standing { .. } => "record-type-suspended",
            Self::Misfit { .. } => "record-does-not-fit",
            Self::Policy { .. } => "policy-not-met",
        }
    }
}

/// A type of which records are taken.
pub fn active<'a>(name: &Name, registry: &'a Registry) -> Result<&'a RecordType, TypeRefused> {
    let found = registry.record_types.get(name).ok_or_else(|| TypeRefused::Unknown(name.clone()))?;
    match found.standing {
        Standing::Active => Ok(found),
        standing => Err(TypeRefused::Standing { name: name.clone(), standing }),
    }
}

//! A schema, compiled: what it is kept as, and putting it to records.
//!
//! The engine is crate `boon`. All nodes must come to the same answer, so its version is pinned, and
//! [`super::keywords`] leaves it nothing to fetch, to recurse into, or to order by hash. What it says of a
//! misfit is for people: a record that does not fit is in no block.

use std::{fmt, sync::Arc};

use boon::{CompileError, Compiler, Draft, ErrorKind, SchemaIndex, Schemas, UrlLoader, ValidationError};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::Value;
use thiserror::Error;

use super::keywords::{self, DRAFT, Load, MAX_PATTERNS, MAX_SUBSCHEMAS};
use crate::{
    codec::{self, Profile, clip},
    transaction::Content,
};

/// Largest schema, in bytes as encoded.
pub const MAX_SCHEMA_BYTES: usize = 16 << 10;
/// Most looks that a schema takes at one record: its [`Load::checks`] times the values the record is made of.
pub const MAX_CHECKS_A_RECORD: u64 = 1 << 18;
/// The same for all records of a transaction together.
pub const MAX_CHECKS: u64 = 1 << 20;
/// Most bytes read by patterns: [`Load::patterns`] times the bytes of all records of a transaction.
pub const MAX_PATTERN_READS: u64 = 4 << 20;

/// Where the engine thinks the schema is from. Nothing is there.
const LOCATION: &str = "urn:minidlt:schema";

/// Why a schema is not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SchemaError {
    #[error("{size} bytes, at most {MAX_SCHEMA_BYTES} are possible")]
    TooLarge { size: usize },
    #[error("not JSON in CBOR: {0}")]
    Form(String),
    #[error("'$schema' is {0:?}; schemas are of {DRAFT}")]
    Draft(String),
    #[error("the keyword {keyword:?} at {at} is not known here; protocol/README.md lists those that are")]
    Keyword { keyword: String, at: String },
    #[error("the pattern {pattern:?} at {at}: {reason}")]
    Pattern { pattern: String, at: String, reason: String },
    #[error("more than {MAX_SUBSCHEMAS} schemas within it")]
    TooMany,
    #[error("more than {MAX_PATTERNS} patterns within it")]
    TooManyPatterns,
    #[error("{0}")]
    Invalid(String),
}

/// What is wrong with a record.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Misfit {
    #[error("at {at}: {reason}")]
    Value { at: String, reason: String },
    #[error("checking it takes more than {limit} looks; make the records smaller, or fewer in a transaction")]
    Checks { limit: u64 },
    #[error("its patterns read more than {MAX_PATTERN_READS} bytes; make the records smaller, or fewer")]
    PatternReads,
}

/// A JSON Schema that records are checked against. Two are the same if their bytes are.
#[derive(Clone)]
pub struct Schema(Arc<Compiled>);

struct Compiled {
    content: Content,
    schemas: Schemas,
    index: SchemaIndex,
    load: Load,
}

impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        self.0.content == other.0.content
    }
}

impl Eq for Schema {}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Schema").field(&self.0.content).finish()
    }
}

impl Serialize for Schema {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.content.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Schema {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::compile(&Content::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// Checks what can be told of a schema at a glance: that it is JSON, and not too large.
pub fn check_form(content: &Content) -> Result<(), SchemaError> {
    let size = content.as_bytes().len();
    if size > MAX_SCHEMA_BYTES {
        return Err(SchemaError::TooLarge { size });
    }
    codec::scan(content.as_bytes(), Profile::Json).map_err(|error| SchemaError::Form(error.to_string()))
}

impl Schema {
    pub fn compile(content: &Content) -> Result<Self, SchemaError> {
        check_form(content)?;
        let json = content.to_json().map_err(|error| SchemaError::Form(error.to_string()))?;
        let load = keywords::walk(&json)?;
        let mut compiler = Compiler::new();
        compiler.set_default_draft(Draft::V2020_12);
        compiler.use_loader(Box::new(Nowhere));
        compiler.add_resource(LOCATION, json).map_err(|error| invalid(&error))?;
        let mut schemas = Schemas::new();
        let index = compiler.compile(LOCATION, &mut schemas).map_err(|error| invalid(&error))?;
        Ok(Self(Arc::new(Compiled { content: content.clone(), schemas, index, load })))
    }

    pub fn content(&self) -> &Content {
        &self.0.content
    }

    /// Checks the records of one transaction; answers which is the first that does not fit, and why.
    pub fn check(&self, records: &[Content]) -> Result<(), (usize, Misfit)> {
        let Load { checks, patterns } = self.0.load;
        let (mut looks, mut reads) = (0u64, 0u64);
        for (at, record) in records.iter().enumerate() {
            let unreadable = |error: codec::CodecError| Misfit::Value { at: "/".into(), reason: error.to_string() };
            let value = record.to_json().map_err(|error| (at, unreadable(error)))?;
            let takes = checks.saturating_mul(keywords::values(&value));
            looks = looks.saturating_add(takes);
            reads = reads.saturating_add(patterns.saturating_mul(record.as_bytes().len() as u64));
            let over = [(takes, MAX_CHECKS_A_RECORD), (looks, MAX_CHECKS)].into_iter().find(|(had, limit)| had > limit);
            if let Some((_, limit)) = over {
                return Err((at, Misfit::Checks { limit }));
            }
            if reads > MAX_PATTERN_READS {
                return Err((at, Misfit::PatternReads));
            }
            let fits = self.0.schemas.validate(&value, self.0.index);
            fits.map_err(|error| (at, misfit(&error)))?;
        }
        Ok(())
    }
}

/// Whatever the engine would load, there is none: a schema is whole in itself.
struct Nowhere;

impl UrlLoader for Nowhere {
    fn load(&self, url: &str) -> Result<Value, Box<dyn std::error::Error>> {
        Err(format!("{url} is not loaded: a schema is whole in itself").into())
    }
}

fn invalid(error: &CompileError) -> SchemaError {
    SchemaError::Invalid(match error {
        CompileError::ValidationError { src, .. } => misfit(src).to_string(),
        other => clip(&format!("{other:#}")),
    })
}

/// The first reason, in the order of the schema. Where one of several schemas had to fit, that none did, and
/// what the first lacks.
fn misfit(error: &ValidationError<'_, '_>) -> Misfit {
    let chosen = |kind: &ErrorKind<'_, '_>| {
        matches!(kind, ErrorKind::AnyOf | ErrorKind::OneOf(_) | ErrorKind::Contains | ErrorKind::MinContains { .. })
    };
    let mut found = error;
    while let (Some(cause), false) = (found.causes.first(), chosen(&found.kind)) {
        found = cause;
    }
    let mut leaf = found;
    while let Some(cause) = leaf.causes.first() {
        leaf = cause;
    }
    let at = match found.instance_location.tokens.is_empty() {
        true => "/".to_owned(),
        false => clip(&found.instance_location.to_string()),
    };
    let reason = match std::ptr::eq(found, leaf) {
        true => clip(&found.kind.to_string()),
        false => format!("{}: {}", clip(&found.kind.to_string()), clip(&leaf.kind.to_string())),
    };
    Misfit::Value { at, reason }
}

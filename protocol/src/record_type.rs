//! Schemas of records' contents: a closed part of JSON Schema (draft 2020-12), checked by every node
//! alike. A keyword outside this part is refused, never ignored, so that no schema means less than it
//! says. Without `$ref`, `allOf`, `anyOf`, `pattern` and `uniqueItems` each value is met by one schema
//! at most: a check's work is the content's size times the logarithm of the schema's.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use serde_json::{Map, Number, Value};
use thiserror::Error;

use crate::codec::clip;

/// Most bytes of a schema, as compact JSON.
pub const MAX_SCHEMA_BYTES: usize = 16 * 1024;
/// Most schemas within each other, the outermost included.
pub const MAX_SCHEMA_DEPTH: usize = 16;
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Why a schema was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SchemaError {
    #[error("the schema has {size} bytes, at most {MAX_SCHEMA_BYTES} are accepted")]
    Oversized { size: usize },
    #[error("schemas within each other deeper than {MAX_SCHEMA_DEPTH} levels")]
    TooDeep,
    #[error("a schema must be an object")]
    NotAnObject,
    #[error("keyword {0} is not supported")]
    Unsupported(String),
    #[error("keyword {keyword} must be {expected}")]
    Invalid { keyword: &'static str, expected: &'static str },
}

/// Where a content does not meet its schema; the first place in the order of checking.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}", clip(&format!("{keyword}: expected {expected} at \"{pointer}\"")))]
pub struct Mismatch {
    /// A JSON pointer (RFC 6901).
    pub pointer: String,
    pub keyword: &'static str,
    pub expected: String,
}

/// A schema ready to check contents.
#[derive(Debug, Clone, Default)]
pub struct Schema {
    kind: Option<String>,
    choices: Option<BTreeSet<String>>,
    bounds: BTreeMap<&'static str, Number>,
    required: BTreeSet<String>,
    properties: BTreeMap<String, Schema>,
    closed: bool,
    items: Option<Box<Schema>>,
}

const KINDS: [&str; 7] = ["null", "boolean", "object", "array", "number", "string", "integer"];
const COUNTS: [&str; 4] = ["minLength", "maxLength", "minItems", "maxItems"];
const RANGES: [&str; 2] = ["minimum", "maximum"];

impl Schema {
    pub fn compile(value: &Value) -> Result<Self, SchemaError> {
        // First, as it ends at the depth allowed: what it took, can be written without a deep stack.
        let schema = Self::build(value, 1)?;
        match value.to_string().len() {
            size if size > MAX_SCHEMA_BYTES => Err(SchemaError::Oversized { size }),
            _ => Ok(schema),
        }
    }

    fn build(value: &Value, depth: usize) -> Result<Self, SchemaError> {
        if depth > MAX_SCHEMA_DEPTH {
            return Err(SchemaError::TooDeep);
        }
        let mut schema = Self::default();
        for (keyword, value) in value.as_object().ok_or(SchemaError::NotAnObject)? {
            schema.keyword(keyword, value, depth)?;
        }
        Ok(schema)
    }

    fn keyword(&mut self, keyword: &str, value: &Value, depth: usize) -> Result<(), SchemaError> {
        let invalid = |keyword, expected| SchemaError::Invalid { keyword, expected };
        match keyword {
            "$schema" if depth == 1 && value == DIALECT => {}
            "$schema" => return Err(invalid("$schema", "that of draft 2020-12, outermost")),
            "title" | "description" if value.is_string() => {}
            "type" => {
                let kind = value.as_str().filter(|kind| KINDS.contains(kind));
                self.kind = Some(kind.ok_or(invalid("type", "the name of one type"))?.to_string());
            }
            "enum" => {
                let choices = value
                    .as_array()
                    .and_then(|all| all.iter().map(|one| one.as_str().map(str::to_string)).collect::<Option<_>>());
                self.choices = Some(choices.ok_or(invalid("enum", "an array of strings"))?);
            }
            "required" => {
                for name in value.as_array().ok_or(invalid("required", "an array of strings"))? {
                    let name = name.as_str().ok_or(invalid("required", "an array of strings"))?;
                    self.required.insert(name.to_string());
                }
            }
            "properties" => {
                for (name, value) in value.as_object().ok_or(invalid("properties", "an object"))? {
                    self.properties.insert(name.clone(), Self::build(value, depth + 1)?);
                }
            }
            "additionalProperties" => {
                let open = value.as_bool().ok_or(invalid("additionalProperties", "true or false"))?;
                self.closed = !open;
            }
            "items" => self.items = Some(Box::new(Self::build(value, depth + 1)?)),
            _ => {
                let known = COUNTS.into_iter().chain(RANGES).find(|known| *known == keyword);
                let known = known.ok_or_else(|| SchemaError::Unsupported(clip(keyword)))?;
                match value {
                    Value::Number(number) if RANGES.contains(&known) || number.is_u64() => {
                        self.bounds.insert(known, number.clone());
                    }
                    _ => return Err(invalid(known, "a number, and a whole one from 0 for lengths")),
                }
            }
        }
        Ok(())
    }

    /// Checks a content: its type, `enum`, bounds, then what is in it, names in the order of bytes.
    pub fn check(&self, content: &Value) -> Result<(), Mismatch> {
        self.check_at(content).map_err(|flaw| Mismatch { pointer: clip(&flaw.pointer), ..flaw })
    }

    fn check_at(&self, content: &Value) -> Result<(), Mismatch> {
        let miss =
            |keyword, expected: String| Err(Mismatch { pointer: String::new(), keyword, expected: clip(&expected) });
        if let Some(kind) = self.kind.as_ref().filter(|kind| !is_kind(content, kind)) {
            return miss("type", kind.clone());
        }
        if self.choices.as_ref().is_some_and(|choices| !content.as_str().is_some_and(|text| choices.contains(text))) {
            return miss("enum", "one of the values listed".to_string());
        }
        for (keyword, bound) in &self.bounds {
            if measured(keyword, content).is_some_and(|found| {
                compare(&found, bound) == if keyword.starts_with("min") { Ordering::Less } else { Ordering::Greater }
            }) {
                return miss(keyword, bound.to_string());
            }
        }
        match content {
            Value::Object(members) => self.check_members(members),
            Value::Array(items) => match &self.items {
                Some(schema) => items
                    .iter()
                    .enumerate()
                    .try_for_each(|(at, item)| schema.check_at(item).map_err(|flaw| flaw.within(&at.to_string()))),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn check_members(&self, members: &Map<String, Value>) -> Result<(), Mismatch> {
        let miss =
            |keyword, expected: &str| Err(Mismatch { pointer: String::new(), keyword, expected: clip(expected) });
        if let Some(name) = self.required.iter().find(|name| !members.contains_key(*name)) {
            return miss("required", name);
        }
        // The least, whatever order the map has.
        let other = members.keys().filter(|name| !self.properties.contains_key(*name)).min();
        if let Some(name) = other.filter(|_| self.closed) {
            return miss("additionalProperties", &format!("no {name}"));
        }
        // By the content's members: a schema may have more names than all of them together.
        let flaws = members.iter().filter_map(|(name, member)| {
            let flaw = self.properties.get(name)?.check_at(member).err()?;
            Some((name, flaw))
        });
        match flaws.min_by_key(|(name, _)| *name) {
            Some((name, flaw)) => Err(flaw.within(&name.replace('~', "~0").replace('/', "~1"))),
            None => Ok(()),
        }
    }
}

impl Mismatch {
    /// Built from the inside out, so that a content without flaws costs no pointers.
    fn within(mut self, step: &str) -> Self {
        self.pointer.insert_str(0, &format!("/{step}"));
        self
    }
}

fn is_kind(content: &Value, kind: &str) -> bool {
    match content {
        Value::Null => kind == "null",
        Value::Bool(_) => kind == "boolean",
        Value::Object(_) => kind == "object",
        Value::Array(_) => kind == "array",
        Value::String(_) => kind == "string",
        // 1.0 is an integer, too (JSON Schema Core, 4.2.1).
        Value::Number(number) => {
            kind == "number"
                || kind == "integer"
                    && (!number.is_f64() || number.as_f64().is_some_and(|float| float.trunc() == float))
        }
    }
}

fn measured(keyword: &str, content: &Value) -> Option<Number> {
    match content {
        Value::String(text) if keyword.ends_with("Length") => Some(text.chars().count().into()),
        Value::Array(items) if keyword.ends_with("Items") => Some(items.len().into()),
        Value::Number(number) if RANGES.contains(&keyword) => Some(number.clone()),
        _ => None,
    }
}

/// Whole numbers exactly; with a fraction as IEEE 754 has it, which is the same everywhere.
fn compare(left: &Number, right: &Number) -> Ordering {
    match (left.as_i128(), right.as_i128()) {
        (Some(left), Some(right)) => left.cmp(&right),
        _ => left.as_f64().partial_cmp(&right.as_f64()).unwrap_or(Ordering::Equal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_trade_is_checked_and_the_first_flaw_named() {
        let schema = Schema::compile(&json!({"type": "object", "required": ["ISIN", "price"], "additionalProperties": false,
            "properties": {"ISIN": {"type": "string", "minLength": 12, "maxLength": 12}, "price": {"type": "number", "minimum": 0}}}))
        .unwrap();
        assert_eq!(schema.check(&json!({"ISIN": "US5949181045", "price": 39.81})), Ok(()));
        let reason = |content: Value| schema.check(&content).unwrap_err().to_string();
        assert_eq!(reason(json!({"ISIN": "US5949181045", "price": -1})), "minimum: expected 0 at \"/price\"");
        assert_eq!(reason(json!({"ISIN": "US", "price": -1})), "minLength: expected 12 at \"/ISIN\"");
        assert_eq!(reason(json!({"price": 1})), "required: expected ISIN at \"\"");
        assert_eq!(
            reason(json!({"ISIN": "", "price": 1, "b": 1, "a": 1})),
            "additionalProperties: expected no a at \"\""
        );
    }

    #[test]
    fn what_is_not_supported_too_deep_or_too_large_is_refused() {
        for keyword in ["$ref", "allOf", "anyOf", "pattern", "uniqueItems", "multipleOf", "format"] {
            assert_eq!(Schema::compile(&json!({keyword: "x"})).unwrap_err(), SchemaError::Unsupported(keyword.into()));
        }
        let deep = (0..MAX_SCHEMA_DEPTH).fold(json!({}), |inner, _| json!({"items": inner}));
        assert_eq!(Schema::compile(&deep).unwrap_err(), SchemaError::TooDeep);
        let large = Schema::compile(&json!({"title": "x".repeat(MAX_SCHEMA_BYTES)}));
        assert!(matches!(large, Err(SchemaError::Oversized { .. })));
    }
}

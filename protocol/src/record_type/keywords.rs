//! Which schemas are taken: a closed list of keywords, and what a schema made of them can cost.
//!
//! Of JSON Schema 2020-12 these are left out, each refused by its name, as is one that is misspelt:
//!
//! | left out | why |
//! |---|---|
//! | `$ref`, `$dynamicRef`, `$id`, `$anchor`, `$defs`, … | nothing is fetched; no schema comes back to itself; each part of it is put to each value at most once |
//! | `unevaluatedItems`, `unevaluatedProperties` | they cost more than a walk through the value |
//! | `format`, `contentEncoding`, `contentMediaType`, `contentSchema` | what they say differs between libraries and their versions; `pattern` says it |
//! | `multipleOf` | 19.99 is no multiple of 0.01 in binary fractions |
//! | `uniqueItems` | the library compares by hashes that 0.0 and -0.0 do not share, with keys of each process |
//!
//! Patterns are those of crate `regex`, which never backtracks, less all that depends on a version of
//! Unicode: no `\p{…}`, `\b`, `\<`, `\>`, no flags. `\d`, `\w` are ASCII, as in ECMA-262. The engine makes a
//! pattern's deterministic automaton as it reads; where that is too large to be kept it reads a hundred times
//! more slowly. So only a pattern is taken whose automaton, made whole, is small.

use regex_automata::{
    dfa::{dense, regex},
    nfa::thompson,
};
use serde_json::{Map, Value};

use super::SchemaError;
use crate::codec::clip;

/// Most schemas within a schema, itself included.
pub const MAX_SUBSCHEMAS: usize = 500;
/// Longest pattern, in bytes.
pub const MAX_PATTERN_BYTES: usize = 256;
/// How large a pattern's automaton may be, in bytes, in each direction.
pub const MAX_AUTOMATON_BYTES: usize = 256 << 10;
/// Most patterns of a schema.
pub const MAX_PATTERNS: usize = 64;
/// The only version of JSON Schema.
pub const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

/// They say something to people.
const ANNOTATIONS: &[&str] =
    &["$schema", "$comment", "title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"];
/// They hold for a value itself.
const ASSERTIONS: &[&str] = &[
    "type",
    "enum",
    "const",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "minContains",
    "maxContains",
    "minProperties",
    "maxProperties",
    "required",
    "dependentRequired",
];
/// A schema for the value itself.
const IN_PLACE: &[&str] = &["not", "if", "then", "else"];
/// A list of such.
const IN_PLACE_LISTS: &[&str] = &["allOf", "anyOf", "oneOf"];
/// Schemas for members and items, of which one holds for each.
const EXCLUSIVE: &[&str] = &["additionalProperties", "items"];
/// A schema for members or items beside the others.
const FURTHER: &[&str] = &["contains", "propertyNames"];
/// Maps and lists of schemas.
const MAPS: &[&str] = &["properties", "patternProperties", "dependentSchemas", "prefixItems"];

/// The most that a schema can do to one value: how often it looks, and with how many patterns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    pub checks: u64,
    pub patterns: u64,
}

impl Load {
    fn and(self, other: Self) -> Self {
        Self {
            checks: self.checks.saturating_add(other.checks),
            patterns: self.patterns.saturating_add(other.patterns),
        }
    }

    /// Where one of both holds, never both.
    fn or(self, other: Self) -> Self {
        Self { checks: self.checks.max(other.checks), patterns: self.patterns.max(other.patterns) }
    }
}

/// Walks a schema: refuses what is not on the list, and answers what it can cost. Whether a keyword's value
/// has the right shape is the library's to say.
pub fn walk(schema: &Value) -> Result<Load, SchemaError> {
    Walk { subschemas: 0, patterns: 0 }.schema(schema, "")
}

struct Walk {
    subschemas: usize,
    patterns: u64,
}

impl Walk {
    fn schema(&mut self, schema: &Value, at: &str) -> Result<Load, SchemaError> {
        self.subschemas += 1;
        if self.subschemas > MAX_SUBSCHEMAS {
            return Err(SchemaError::TooMany);
        }
        let mut load = Load { checks: 1, patterns: 0 };
        let Value::Object(members) = schema else { return Ok(load) };
        let mut exclusive = Load::default();
        for (keyword, value) in members {
            check_keyword(keyword, value, at)?;
            let at = format!("{at}/{keyword}");
            let own = own(keyword, value, &at)?;
            self.patterns += own.patterns;
            if self.patterns > MAX_PATTERNS as u64 {
                return Err(SchemaError::TooManyPatterns);
            }
            load = load.and(own);
            match keyword.as_str() {
                "properties" | "prefixItems" => {
                    for (name, part) in parts(value) {
                        exclusive = exclusive.or(self.schema(part, &format!("{at}/{name}"))?);
                    }
                }
                "patternProperties" | "dependentSchemas" | "allOf" | "anyOf" | "oneOf" => {
                    for (name, part) in parts(value) {
                        load = load.and(self.schema(part, &format!("{at}/{name}"))?);
                    }
                }
                one if EXCLUSIVE.contains(&one) => exclusive = exclusive.or(self.schema(value, &at)?),
                one if IN_PLACE.contains(&one) || FURTHER.contains(&one) => load = load.and(self.schema(value, &at)?),
                _ => {}
            }
        }
        Ok(load.and(exclusive))
    }
}

fn check_keyword(keyword: &str, value: &Value, at: &str) -> Result<(), SchemaError> {
    let lists = [ANNOTATIONS, ASSERTIONS, IN_PLACE, IN_PLACE_LISTS, EXCLUSIVE, FURTHER, MAPS];
    if !lists.iter().any(|list| list.contains(&keyword)) {
        return Err(SchemaError::Keyword { keyword: clip(keyword), at: place(at) });
    }
    match value {
        Value::String(draft) if keyword == "$schema" && draft.trim_end_matches('#') != DRAFT => {
            Err(SchemaError::Draft(clip(draft)))
        }
        _ => Ok(()),
    }
}

/// What a keyword costs where no schema is within it.
fn own(keyword: &str, value: &Value, at: &str) -> Result<Load, SchemaError> {
    let checks = match keyword {
        "enum" | "const" | "required" | "dependentRequired" => values(value),
        _ => 0,
    };
    let patterns = match (keyword, value) {
        ("pattern", Value::String(pattern)) => {
            check_pattern(pattern, at)?;
            1
        }
        ("patternProperties", Value::Object(members)) => {
            members.keys().try_for_each(|pattern| check_pattern(pattern, at))?;
            members.len() as u64
        }
        _ => 0,
    };
    Ok(Load { checks, patterns })
}

fn parts(value: &Value) -> Vec<(String, &Value)> {
    match value {
        Value::Object(members) => members.iter().map(|(name, part)| (name.clone(), part)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(index, part)| (index.to_string(), part)).collect(),
        _ => vec![],
    }
}

/// How many values it is made of, itself included.
pub fn values(value: &Value) -> u64 {
    let within = |members: &Map<String, Value>| members.values().map(values).sum::<u64>();
    1 + match value {
        Value::Object(members) => within(members),
        Value::Array(items) => items.iter().map(values).sum(),
        _ => 0,
    }
}

fn check_pattern(pattern: &str, at: &str) -> Result<(), SchemaError> {
    let refused = |reason: &str| SchemaError::Pattern { pattern: clip(pattern), at: place(at), reason: clip(reason) };
    if pattern.len() > MAX_PATTERN_BYTES {
        return Err(refused("it is longer than 256 bytes"));
    }
    let ascii = in_ascii(pattern).map_err(refused)?;
    let (limit, steps) = (Some(MAX_AUTOMATON_BYTES), Some(2 * MAX_AUTOMATON_BYTES));
    let bounded = dense::Config::new().dfa_size_limit(limit).determinize_size_limit(steps);
    // Before that: what is repeated a million times is not even written out.
    let written_out = thompson::Config::new().nfa_size_limit(limit);
    match regex::Builder::new().dense(bounded).thompson(written_out).build(&ascii) {
        Ok(_) => Ok(()),
        Err(error) if error.is_size_limit_exceeded() => {
            Err(refused("its automaton is too large: repeat less, begin it with ^, or use maxLength"))
        }
        Err(error) => Err(refused(&whole(&error))),
    }
}

/// What is behind an error as well: the outermost says the least.
fn whole(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), whole)
}

/// The pattern with the classes of ECMA-262, or what in it depends on a version of Unicode.
fn in_ascii(pattern: &str) -> Result<String, &'static str> {
    let mut ascii = String::with_capacity(pattern.len());
    let mut rest = pattern.chars();
    while let Some(character) = rest.next() {
        match character {
            '(' if rest.as_str().starts_with('?') && !rest.as_str().starts_with("?:") => {
                return Err("of the groups that begin with '(?' only '(?:' is taken");
            }
            '\\' => match rest.next() {
                Some('p' | 'P' | 'b' | 'B' | '<' | '>') => {
                    return Err(r"\p, \P, \b, \B, \< and \> depend on the version of Unicode");
                }
                Some('d') => ascii.push_str("[0-9]"),
                Some('D') => ascii.push_str("[^0-9]"),
                Some('w') => ascii.push_str("[A-Za-z0-9_]"),
                Some('W') => ascii.push_str("[^A-Za-z0-9_]"),
                Some('s') => ascii.push_str(r"[ \t\n\r\x0b\x0c\u00a0\ufeff\u2003\u2029]"),
                Some('S') => ascii.push_str(r"[^ \t\n\r\x0b\x0c\u00a0\ufeff\u2003\u2029]"),
                Some(other) => ascii.extend(['\\', other]),
                None => ascii.push('\\'),
            },
            _ => ascii.push(character),
        }
    }
    Ok(ascii)
}

/// A place in a schema, for people.
fn place(at: &str) -> String {
    if at.is_empty() { "its top".into() } else { clip(at) }
}

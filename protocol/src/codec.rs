//! CBOR, the one encoding of everything hashed, signed, sent or stored.
//!
//! This is the only module that touches `serde_cbor`, which is archived
//! (RUSTSEC-2021-0127), so that it can be replaced here alone. Nothing reaches it unscanned:
//! [`scan`] first walks the bytes and refuses what is oversized, too deep, indefinite, tagged,
//! not in shortest form, or has a repeated key (RFC 8949, sections 4.2.1 and 5.6).

use std::collections::BTreeSet;

use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

/// Deepest nesting of arrays and maps accepted, the outermost included.
pub const MAX_DEPTH: usize = 32;

/// Most items (numbers, strings, arrays, maps, and what is in them) accepted in one value. A byte of
/// input can be an item, and an item decoded takes up to some fifty bytes: without this bound a
/// frame of empty strings would swell to most of a gigabyte.
pub const MAX_ITEMS: usize = 1 << 20;

/// Most characters of a decoder's message that are passed on: it may quote the input.
const MAX_REASON_BYTES: usize = 200;

/// Why bytes were not accepted as CBOR of the expected shape.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CodecError {
    #[error("{size} bytes where at most {limit} are accepted")]
    Oversized { size: usize, limit: usize },
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    #[error("made of more than {MAX_ITEMS} items")]
    TooMany,
    #[error("ends in the middle of a value, at byte {at}")]
    Truncated { at: usize },
    #[error("{extra} bytes after the end of the value")]
    Trailing { extra: usize },
    #[error("{what} at byte {at}")]
    Refused { what: &'static str, at: usize },
    #[error("not of the expected shape: {0}")]
    Shape(String),
    #[error("not in the one encoding this value has")]
    NotCanonical,
}

/// Which CBOR items are welcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// What the protocol's own types are made of.
    Protocol,
    /// What JSON can say: no byte strings, keys are text, numbers are finite.
    Json,
}

/// Encodes a value of ours. Our types have no way to fail: no maps with odd keys, no I/O.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    serde_cbor::to_vec(value).expect("types of the protocol always encode")
}

/// Decodes bytes of at most `limit` bytes that hold exactly one value.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, CodecError> {
    check_size(bytes, limit)?;
    scan(bytes, Profile::Protocol)?;
    serde_cbor::from_slice(bytes).map_err(shape)
}

fn shape(error: serde_cbor::Error) -> CodecError {
    CodecError::Shape(clip(&error.to_string()))
}

/// The beginning of a decoder's message, which may quote all of a hostile input: on one line, and no
/// longer in a log or in JSON than it looks.
pub(crate) fn clip(reason: &str) -> String {
    let mut clipped = String::new();
    for character in reason.chars() {
        match character.is_control() {
            true => clipped.extend(character.escape_default()),
            false => clipped.push(character),
        }
        if clipped.len() >= MAX_REASON_BYTES {
            break;
        }
    }
    clipped
}

/// As [`decode`], and the bytes must be the very ones [`encode`] gives: one value, one encoding.
pub fn decode_canonical<T: DeserializeOwned + Serialize>(bytes: &[u8], limit: usize) -> Result<T, CodecError> {
    let value = decode(bytes, limit)?;
    if encode(&value) == bytes { Ok(value) } else { Err(CodecError::NotCanonical) }
}

/// Turns scanned CBOR of [`Profile::Json`] into JSON.
pub fn to_json(bytes: &[u8], limit: usize) -> Result<serde_json::Value, CodecError> {
    check_size(bytes, limit)?;
    scan(bytes, Profile::Json)?;
    serde_cbor::from_slice(bytes).map_err(shape)
}

/// Turns CBOR of [`Profile::Protocol`] into JSON for people, whatever type it is of: byte strings become
/// hexadecimal text, as those of our types do.
pub fn to_readable(bytes: &[u8], limit: usize) -> Result<serde_json::Value, CodecError> {
    check_size(bytes, limit)?;
    scan(bytes, Profile::Protocol)?;
    readable(serde_cbor::from_slice(bytes).map_err(shape)?)
}

/// Of a scanned value, which is nested no deeper than [`MAX_DEPTH`].
fn readable(value: serde_cbor::Value) -> Result<serde_json::Value, CodecError> {
    use serde_cbor::Value;
    let shape = |what: &str| CodecError::Shape(what.to_owned());
    Ok(match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => value.into(),
        Value::Integer(value) => match (u64::try_from(value), i64::try_from(value)) {
            (Ok(value), _) => value.into(),
            (_, Ok(value)) => value.into(),
            _ => return Err(shape("an integer beyond 64 bits")),
        },
        Value::Float(value) => value.into(),
        Value::Bytes(bytes) => hex::encode(bytes).into(),
        Value::Text(text) => text.into(),
        Value::Array(items) => items.into_iter().map(readable).collect::<Result<_, _>>()?,
        Value::Map(entries) => {
            let entry = |(key, value)| match key {
                Value::Text(key) => Ok((key, readable(value)?)),
                _ => Err(shape("a map key that is not text")),
            };
            serde_json::Value::Object(entries.into_iter().map(entry).collect::<Result<_, _>>()?)
        }
        _ => return Err(shape("neither a number, nor text, nor bytes, nor made of those")),
    })
}

fn check_size(bytes: &[u8], limit: usize) -> Result<(), CodecError> {
    if bytes.len() > limit {
        return Err(CodecError::Oversized { size: bytes.len(), limit });
    }
    Ok(())
}

/// Checks that `bytes` are exactly one acceptable item, without building anything.
pub fn scan(bytes: &[u8], profile: Profile) -> Result<(), CodecError> {
    let mut scanner = Scanner { bytes, at: 0, profile, unique_keys: true, items: 0 };
    scanner.item(1)?;
    match bytes.len() - scanner.at {
        0 => Ok(()),
        extra => Err(CodecError::Trailing { extra }),
    }
}

/// The length in bytes of the first item of a CBOR sequence (RFC 8742).
pub fn first_item(bytes: &[u8]) -> Result<usize, CodecError> {
    let mut scanner = Scanner { bytes, at: 0, profile: Profile::Protocol, unique_keys: false, items: 0 };
    scanner.item(1)?;
    Ok(scanner.at)
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    profile: Profile,
    /// Off when keys are read a second time: nested maps would otherwise double the work a level.
    unique_keys: bool,
    /// How many items have been begun.
    items: usize,
}

/// The major types of RFC 8949, section 3.1, that get a name here.
mod major {
    pub const UNSIGNED: u8 = 0;
    pub const NEGATIVE: u8 = 1;
    pub const BYTES: u8 = 2;
    pub const TEXT: u8 = 3;
    pub const ARRAY: u8 = 4;
    pub const MAP: u8 = 5;
    pub const SIMPLE: u8 = 7;
}

impl<'a> Scanner<'a> {
    fn item(&mut self, depth: usize) -> Result<(), CodecError> {
        self.items += 1;
        if self.items > MAX_ITEMS {
            return Err(CodecError::TooMany);
        }
        let start = self.at;
        let refused = |what| Err(CodecError::Refused { what, at: start });
        let first = self.take(1)?[0];
        let (kind, info) = (first >> 5, first & 0x1f);
        if kind == major::SIMPLE {
            return self.simple(info, start);
        }
        let argument = self.argument(info, start)?;
        match kind {
            major::UNSIGNED => Ok(()),
            major::NEGATIVE if argument > i64::MAX as u64 => refused("a negative number below -2^63"),
            major::NEGATIVE => Ok(()),
            major::BYTES if self.profile == Profile::Json => refused("a byte string where JSON has none"),
            major::BYTES => self.take_long(argument).map(|_| ()),
            major::TEXT => self.text(argument, start).map(|_| ()),
            major::ARRAY | major::MAP if depth >= MAX_DEPTH => Err(CodecError::TooDeep),
            major::ARRAY => (0..argument).try_for_each(|_| self.item(depth + 1)),
            major::MAP => self.map(argument, depth),
            _ => refused("a tag"),
        }
    }

    /// A map's keys are usually in ascending order; only when they are not is a set needed to
    /// tell that none repeats.
    fn map(&mut self, entries: u64, depth: usize) -> Result<(), CodecError> {
        let first_key_at = self.at;
        let mut last: Option<&'a [u8]> = None;
        let mut seen: Option<BTreeSet<&'a [u8]>> = None;
        for entry in 0..entries {
            let start = self.at;
            if self.profile == Profile::Json && self.bytes.get(start).is_some_and(|b| b >> 5 != major::TEXT) {
                return Err(CodecError::Refused { what: "a map key that is not text", at: start });
            }
            self.item(depth + 1)?;
            let key = &self.bytes[start..self.at];
            if self.unique_keys && seen.is_none() && last.is_some_and(|last| last >= key) {
                seen = Some(self.keys_before(first_key_at, entry, depth)?);
            }
            if seen.as_mut().is_some_and(|seen| !seen.insert(key)) {
                return Err(CodecError::Refused { what: "a repeated map key", at: start });
            }
            last = Some(key);
            self.item(depth + 1)?;
        }
        Ok(())
    }

    fn keys_before(&self, from: usize, entries: u64, depth: usize) -> Result<BTreeSet<&'a [u8]>, CodecError> {
        let mut again = Scanner { bytes: self.bytes, at: from, profile: self.profile, unique_keys: false, items: 0 };
        let mut keys = BTreeSet::new();
        for _ in 0..entries {
            let start = again.at;
            again.item(depth + 1)?;
            keys.insert(&self.bytes[start..again.at]);
            again.item(depth + 1)?;
        }
        Ok(keys)
    }

    fn simple(&mut self, info: u8, start: usize) -> Result<(), CodecError> {
        let finite = match info {
            20..=22 => true,
            25 => u16::from_be_bytes(self.take_array()?) & 0x7c00 != 0x7c00,
            26 => f32::from_be_bytes(self.take_array()?).is_finite(),
            27 => f64::from_be_bytes(self.take_array()?).is_finite(),
            _ => return Err(CodecError::Refused { what: "a simple value other than false, true, null", at: start }),
        };
        if finite { Ok(()) } else { Err(CodecError::Refused { what: "a number that is not finite", at: start }) }
    }

    fn argument(&mut self, info: u8, start: usize) -> Result<u64, CodecError> {
        let (value, least) = match info {
            0..=23 => return Ok(u64::from(info)),
            24 => (u64::from(self.take(1)?[0]), 24),
            25 => (u64::from(u16::from_be_bytes(self.take_array()?)), 1 << 8),
            26 => (u64::from(u32::from_be_bytes(self.take_array()?)), 1 << 16),
            27 => (u64::from_be_bytes(self.take_array()?), 1 << 32),
            31 => return Err(CodecError::Refused { what: "an indefinite length", at: start }),
            _ => return Err(CodecError::Refused { what: "a reserved length", at: start }),
        };
        if value < least {
            return Err(CodecError::Refused { what: "a number not in its shortest form", at: start });
        }
        Ok(value)
    }

    fn text(&mut self, length: u64, start: usize) -> Result<&'a str, CodecError> {
        std::str::from_utf8(self.take_long(length)?)
            .map_err(|_| CodecError::Refused { what: "text that is not UTF-8", at: start })
    }

    fn take_long(&mut self, length: u64) -> Result<&'a [u8], CodecError> {
        let length = usize::try_from(length).map_err(|_| CodecError::Truncated { at: self.bytes.len() })?;
        self.take(length)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], CodecError> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or(CodecError::Truncated { at: self.bytes.len() })?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn take_array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        Ok(self.take(N)?.try_into().expect("take gives what was asked"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(serde_json::Value::from),
            any::<i64>().prop_map(serde_json::Value::from),
            any::<u64>().prop_map(serde_json::Value::from),
            prop::num::f64::NORMAL.prop_map(serde_json::Value::from),
            ".{0,12}".prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(5, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(serde_json::Value::from),
                prop::collection::btree_map(".{0,8}", inner, 0..8)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn json_comes_back_as_it_went(value in json()) {
            let bytes = encode(&value);
            prop_assert_eq!(to_json(&bytes, bytes.len()).unwrap(), value);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let _ = decode::<serde_json::Value>(&bytes, 256);
            let _ = to_json(&bytes, 256);
            let _ = first_item(&bytes);
        }

        #[test]
        fn a_flipped_byte_never_decodes_canonically_to_the_same(value in json(), at in any::<prop::sample::Index>(), flip in 1u8..) {
            let mut bytes = encode(&value);
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            if let Ok(other) = decode_canonical::<serde_json::Value>(&bytes, bytes.len()) {
                // -0.0 equals 0.0 and is still another encoding, so the bytes are compared.
                prop_assert_ne!(encode(&other), encode(&value));
            }
        }
    }

    /// Maps in maps, each level with its keys in the wrong order, so that every level is read again.
    #[test]
    fn keys_out_of_order_cost_no_more_than_a_reading_a_level() {
        let mut value = vec![0x00];
        for level in 0..MAX_DEPTH - 1 {
            let wide = if level == 0 { 20_000u16 } else { 1 };
            let mut map = vec![0xb9];
            map.extend((wide + 1).to_be_bytes());
            if wide + 1 < 256 {
                map = vec![0xa0 | (wide + 1) as u8];
            }
            map.extend([0x19, 0xff, 0xff]);
            map.extend(&value);
            for key in (1_000..1_000 + wide).rev() {
                map.push(0x19);
                map.extend(key.to_be_bytes());
                map.push(0x00);
            }
            value = map;
        }
        assert_eq!(scan(&value, Profile::Protocol), Ok(()));
        let mut scanner = Scanner { bytes: &value, at: 0, profile: Profile::Protocol, unique_keys: true, items: 0 };
        assert_eq!(scanner.item(1), Ok(()));
        assert!(scanner.items < 50_000, "an item counts once, however often its bytes are read");
    }

    #[test]
    fn each_bound_is_refused_by_name() {
        let nested = [vec![0x81; MAX_DEPTH], vec![0x00]].concat();
        let cases: [(&[u8], CodecError); 11] = [
            (&nested, CodecError::TooDeep),
            (&[0x18, 0x17], CodecError::Refused { what: "a number not in its shortest form", at: 0 }),
            (&[0x9f, 0xff], CodecError::Refused { what: "an indefinite length", at: 0 }),
            (&[0xc0, 0x00], CodecError::Refused { what: "a tag", at: 0 }),
            (&[0xa2, 0x61, 0x61, 0x00, 0x61, 0x61, 0x00], CodecError::Refused { what: "a repeated map key", at: 4 }),
            (
                &[0xa3, 0x61, 0x62, 0x00, 0x61, 0x61, 0x00, 0x61, 0x62, 0x00],
                CodecError::Refused { what: "a repeated map key", at: 7 },
            ),
            (&[0x00, 0x00], CodecError::Trailing { extra: 1 }),
            (&[0x62, 0x61], CodecError::Truncated { at: 2 }),
            (&[0x61, 0xff], CodecError::Refused { what: "text that is not UTF-8", at: 0 }),
            (&[0xf9, 0x7e, 0x00], CodecError::Refused { what: "a number that is not finite", at: 0 }),
            (&[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], CodecError::Truncated { at: 9 }),
        ];
        for (bytes, expected) in cases {
            assert_eq!(scan(bytes, Profile::Protocol), Err(expected), "{bytes:02x?}");
        }
        assert!(scan(&nested[1..], Profile::Protocol).is_ok());
        assert_eq!(decode::<u8>(&[0x01], 0), Err(CodecError::Oversized { size: 1, limit: 0 }));
        assert!(scan(&[0x41, 0x00], Profile::Protocol).is_ok());
        assert!(scan(&[0x41, 0x00], Profile::Json).is_err());
        assert!(scan(&[0xa1, 0x00, 0x00], Profile::Json).is_err());
    }

    #[test]
    fn anything_of_ours_reads_as_its_type_does_in_json() {
        use crate::types::{Hash, Height};
        let value = (Height::new(u64::MAX), i64::MIN, Hash::from_bytes([0xab; 32]), [None, Some("text")], 1.5, true);
        let shown = to_readable(&encode(&value), 100).unwrap();
        assert_eq!(shown, serde_json::to_value(value).unwrap());
        let map = BTreeMap::from([("b", 1), ("a", 2)]);
        assert_eq!(to_readable(&encode(&map), 100).unwrap().to_string(), r#"{"a":2,"b":1}"#);
        assert!(matches!(to_readable(&encode(&BTreeMap::from([(1, 2)])), 100), Err(CodecError::Shape(_))));
        assert!(matches!(to_readable(&encode(&map), 3), Err(CodecError::Oversized { .. })));
        assert!(to_readable(&[0x61], 100).is_err(), "cut short");
    }
}

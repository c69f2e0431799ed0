//! Newtypes for what must not be mixed up: heights, rounds, times, hashes, names.
//!
//! In CBOR a hash is 32 bytes; in JSON and YAML it is 64 hexadecimal digits. Neither heights nor
//! rounds convert from bare numbers by accident, and their arithmetic is checked.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use thiserror::Error;

use crate::codec::clip;

/// A block's place in the chain; genesis is height 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Height(u64);

impl Height {
    pub const GENESIS: Self = Self(0);

    pub const fn new(height: u64) -> Self {
        Self(height)
    }

    pub const fn get(self) -> u64 {
        self.0
    }

    /// The height after this one; the last height has itself for a successor, which no chain
    /// reaches.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The height before this one, if there is one.
    pub fn previous(self) -> Option<Self> {
        self.0.checked_sub(1).map(Self)
    }
}

impl fmt::Display for Height {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An attempt to decide a height; the first is round 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Round(u32);

impl Round {
    pub const ZERO: Self = Self(0);

    pub const fn new(round: u32) -> Self {
        Self(round)
    }

    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Milliseconds since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    pub const fn millis(self) -> u64 {
        self.0
    }

    pub const fn plus_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    pub const fn minus_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_sub(millis))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A SHA-256 hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hash([u8; 32]);

impl Hash {
    pub const ZERO: Self = Self([0; 32]);

    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first eight digits, for logs.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..4])
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that should have been a hash.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("a hash is 64 hexadecimal digits")]
pub struct InvalidHash;

impl FromStr for Hash {
    type Err = InvalidHash;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| InvalidHash)?;
        Ok(Self(bytes))
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        fixed_bytes::serialize(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        fixed_bytes::deserialize(deserializer).map(Self)
    }
}

/// Bytes of a fixed length: a byte string in CBOR, hexadecimal text where people read.
pub(crate) mod fixed_bytes {
    use super::*;

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&hex::encode(bytes))
        } else {
            serializer.serialize_bytes(bytes)
        }
    }

    pub fn deserialize<'de, const N: usize, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; N], D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            let mut bytes = [0; N];
            hex::decode_to_slice(&text, &mut bytes).map_err(|_| {
                D::Error::custom(format!("expected {} hexadecimal digits, got {:?}", 2 * N, clip(&text)))
            })?;
            Ok(bytes)
        } else {
            let bytes = serde_bytes::ByteBuf::deserialize(deserializer)?;
            <[u8; N]>::try_from(bytes.as_slice())
                .map_err(|_| D::Error::custom(format!("expected {N} bytes, got {}", bytes.len())))
        }
    }
}

/// Most characters in a name.
pub const MAX_NAME_CHARS: usize = 64;

/// The name of a node, user, organisation, network or policy: 1 to 64 of `A-Z a-z 0-9 . _ -`, the
/// first a letter or digit, so that it is safe in a file name, a URL and a certificate's subject.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// Text that should have been a name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not a name: 1 to {MAX_NAME_CHARS} letters, digits, '.', '_' or '-', a letter or digit first")]
pub struct InvalidName(String);

impl Name {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let first_ok = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if first_ok && text.len() <= MAX_NAME_CHARS && text.chars().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidName(clip(text)))
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Who a node or user is: its name within its organisation. Written `name@organisation`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    pub name: Name,
    pub organisation: Name,
}

impl Identity {
    pub fn new(name: Name, organisation: Name) -> Self {
        Self { name, organisation }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.organisation)
    }
}

impl FromStr for Identity {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, organisation) = text.split_once('@').ok_or_else(|| InvalidName(clip(text)))?;
        Ok(Self::new(name.parse()?, organisation.parse()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_everywhere() {
        for good in ["node0", "Org01", "a", "x.y_z-1"] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        let long = "a".repeat(MAX_NAME_CHARS + 1);
        for bad in ["", ".hidden", "-flag", "a/b", "a b", "é", "a@b", long.as_str()] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
        assert_eq!("n@o".parse::<Identity>().unwrap().to_string(), "n@o");
        assert!("n".parse::<Identity>().is_err());
    }

    #[test]
    fn a_hash_is_bytes_in_cbor_and_hex_in_json() {
        let hash = Hash::from_bytes([7; 32]);
        assert_eq!(crate::codec::encode(&hash).len(), 34);
        assert_eq!(serde_json::to_string(&hash).unwrap(), format!("\"{}\"", "07".repeat(32)));
        assert_eq!(hash.to_string().parse::<Hash>(), Ok(hash));
        assert!("07".parse::<Hash>().is_err());
    }
}

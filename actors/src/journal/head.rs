//! The head of a log's files: what nobody outside can put into a batch.
//!
//! A log holds bytes that others chose: a submitter's text, a peer's message. So that none of them can
//! look like a batch, each batch begins with a mark, and its checksum with a key, that were drawn when
//! the log was made. They have nothing to do with the node's signing key, which may be changed.
//!
//! ```text
//! head     := magic(4) version(4) mark(8) key(32) checksum(32) zeros    up to HEAD_BYTES
//! checksum := SHA-256 over what stands before it
//! ```
//!
//! Both files have the same. A head is written once, before there is a log, and has sectors of its own,
//! so no torn write touches it: one that does not hold is damage. It is never taken for the head of a
//! file without batches, since then what the other file holds would look like the latest.

use openssl::{error::ErrorStack, rand::rand_bytes, sha::sha256};

/// A sector, or several: no disk writes more as a whole.
pub const HEAD_BYTES: usize = 4 << 10;
/// The version of the files' layout.
pub const VERSION: u32 = 1;
pub const MARK_BYTES: usize = 8;

const MAGIC: [u8; 4] = *b"mdlj";
const KEY_BYTES: usize = 32;

/// What the batches of one log have in common.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    pub mark: [u8; MARK_BYTES],
    pub key: [u8; KEY_BYTES],
}

/// Why a file's head is not one.
#[derive(Debug, PartialEq, Eq)]
pub enum BadHead {
    Damaged,
    OtherVersion(u32),
}

impl Secret {
    pub fn draw() -> Result<Self, ErrorStack> {
        let mut secret = Self { mark: [0; MARK_BYTES], key: [0; KEY_BYTES] };
        rand_bytes(&mut secret.mark)?;
        rand_bytes(&mut secret.key)?;
        Ok(secret)
    }

    pub fn head(&self) -> Vec<u8> {
        self.head_of_version(VERSION)
    }

    /// Reads that of a whole file.
    pub fn of(file: &[u8]) -> Result<Self, BadHead> {
        let head = file.get(..HEAD_BYTES).ok_or(BadHead::Damaged)?;
        let (version, secret) = Self::parse(head).ok_or(BadHead::Damaged)?;
        if secret.head_of_version(version) != head {
            return Err(BadHead::Damaged);
        }
        if version == VERSION { Ok(secret) } else { Err(BadHead::OtherVersion(version)) }
    }

    pub fn head_of_version(&self, version: u32) -> Vec<u8> {
        let mut head = [&MAGIC[..], &version.to_be_bytes(), &self.mark, &self.key].concat();
        let checksum = sha256(&head);
        head.extend_from_slice(&checksum);
        head.resize(HEAD_BYTES, 0);
        head
    }

    fn parse(head: &[u8]) -> Option<(u32, Self)> {
        let (version, rest) = head.strip_prefix(&MAGIC)?.split_first_chunk()?;
        let (mark, rest) = rest.split_first_chunk()?;
        let (key, _) = rest.split_first_chunk()?;
        Some((u32::from_be_bytes(*version), Self { mark: *mark, key: *key }))
    }
}

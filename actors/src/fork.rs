//! What is kept of a fork: both certified headers, in a file beside the ledger, so that the node does
//! not vote after a restart either, and anybody can check who signed both.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use minidlt_protocol::{
    receipt::CertifiedHeader,
    types::{Hash, Identity, Timestamp},
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::whole_file;

/// The file's name, in the node's data directory.
pub const FORK_FILE: &str = "fork.json";
/// Most bytes of it: two headers and the signatures of a quorum of the most voters there can be.
const MAX_BYTES: u64 = 1 << 20;
/// Nothing in it is secret.
const MODE: u32 = 0o666;

/// Two blocks of one height, each certified by a quorum: more than a third of the voters signed both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fork {
    /// Of this node's chain.
    pub ours: CertifiedHeader,
    pub theirs: CertifiedHeader,
    /// The node that showed it.
    pub shown_by: Identity,
    pub seen: Timestamp,
}

impl Fork {
    /// Whether it is of this network, which each header's hash is over.
    pub fn is_of(&self, network: &Hash) -> bool {
        self.ours.header.hash(network) == self.ours.hash
    }

    /// The voters who signed both.
    pub fn liars(&self) -> Vec<Identity> {
        let signed = |header: &CertifiedHeader, voter: &Identity| {
            header.certificate.signatures.iter().any(|signature| signature.voter == *voter)
        };
        let ours = self.ours.certificate.signatures.iter().map(|signature| &signature.voter);
        ours.filter(|voter| signed(&self.theirs, voter)).cloned().collect()
    }
}

/// Why the file cannot be read. A node that cannot tell whether it saw a fork must not start.
#[derive(Debug, Error)]
#[error("{path}: {reason}: the node keeps here the proof of a fork, and does not start without being able to read it")]
pub struct ForkError {
    path: PathBuf,
    reason: String,
}

/// What an earlier run of this node saw.
pub fn load(data_dir: &Path) -> Result<Option<Fork>, ForkError> {
    let path = data_dir.join(FORK_FILE);
    let failed = |reason: String| ForkError { path: path.clone(), reason };
    match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error.to_string())),
        Ok(found) if found.len() > MAX_BYTES => return Err(failed(format!("more than {MAX_BYTES} bytes"))),
        Ok(_) => {}
    }
    let bytes = fs::read(&path).map_err(|error| failed(error.to_string()))?;
    serde_json::from_slice(&bytes).map(Some).map_err(|error| failed(error.to_string()))
}

/// Keeps it, whole or not at all, on disk once this answers.
pub fn store(data_dir: &Path, fork: &Fork) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(fork)?;
    text.push(b'\n');
    whole_file::write(data_dir, FORK_FILE, MODE, &text)
}

//! `minidlt verify-receipt`: receipts and state proofs against the genesis file alone, offline.

use std::{
    fmt,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use minidlt_config::load_genesis;
use minidlt_protocol::{
    codec,
    genesis::Genesis,
    receipt::{MAX_RECEIPT_BYTES, Receipt},
    registry::EntryKey,
    state::Outcome,
    state_proof::{MAX_STATE_PROOF_BYTES, MAX_VALUE_BYTES, StateProof},
    types::Hash,
};
use thiserror::Error;

use super::Failure;
use crate::client::{ClientError, files::read_text, time::rfc3339};

/// Check receipts and state proofs offline against the genesis file; exits 1 if any is bad, else 2 if any cannot be read
#[derive(Debug, clap::Args)]
pub struct VerifyReceipt {
    /// The receipts and state proofs
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// The genesis file of the network they should be from
    #[arg(long, value_name = "FILE")]
    genesis: PathBuf,
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Flaw {
    Bad(String),
    /// Nothing is known of the proof, if there is one.
    Unreadable(String),
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bad(what) => write!(f, "bad: {what}"),
            Self::Unreadable(what) => write!(f, "unreadable: {what}"),
        }
    }
}

#[derive(Debug, Default, Error)]
#[error("{bad} of {all} proofs are bad{}", also_unreadable(*unreadable))]
struct Bad {
    bad: usize,
    unreadable: usize,
    all: usize,
}

fn also_unreadable(count: usize) -> String {
    if count == 0 { String::new() } else { format!(", {count} cannot be read") }
}

#[derive(Debug, Error)]
#[error("{unreadable} of {all} proofs cannot be read")]
struct Unreadable {
    unreadable: usize,
    all: usize,
}

impl VerifyReceipt {
    pub fn run(self) -> Result<(), Failure> {
        let genesis = load_genesis(&self.genesis)?;
        let mut found = Bad { all: self.files.len(), ..Bad::default() };
        let mut printed = Ok(());
        for file in &self.files {
            let told = match verify(file, &genesis) {
                Ok(line) => writeln!(io::stdout(), "ok: {line}"),
                Err(flaw) => {
                    found.count(&flaw);
                    writeln!(io::stdout(), "{flaw}")
                }
            };
            printed = printed.and(told);
        }
        // Whether all are good counts for more than whether anybody reads of it.
        found.verdict()?;
        printed.map_err(Failure::from)
    }
}

impl Bad {
    fn count(&mut self, flaw: &Flaw) {
        match flaw {
            Flaw::Bad(_) => self.bad += 1,
            Flaw::Unreadable(_) => self.unreadable += 1,
        }
    }

    fn verdict(self) -> Result<(), Failure> {
        match (self.bad, self.unreadable) {
            (0, 0) => Ok(()),
            (0, unreadable) => Err(Failure::usage(Unreadable { unreadable, all: self.all })),
            _ => Err(Failure::failed(self)),
        }
    }
}

/// Largest file read.
const MAX_BYTES: usize =
    if MAX_RECEIPT_BYTES > MAX_STATE_PROOF_BYTES { MAX_RECEIPT_BYTES } else { MAX_STATE_PROOF_BYTES };

/// What a good file proves, or the file and what is bad about it.
fn verify(file: &Path, genesis: &Genesis) -> Result<String, Flaw> {
    let text = read_text(file, MAX_BYTES).map_err(|error| match error {
        ClientError::Unreadable { .. } => Flaw::Unreadable(error.to_string()),
        _ => Flaw::Bad(error.to_string()),
    })?;
    let proven = if is_state_proof(&text) { state_proof(&text, genesis) } else { receipt(&text, genesis) };
    proven.map_err(|what| Flaw::Bad(format!("{}: {what}", file.display())))
}

/// By the field that names the format, whatever else is wrong with it. Within a receipt's texts the
/// quotation marks would have backslashes.
fn is_state_proof(text: &str) -> bool {
    text.contains("\"minidlt_state_proof\":")
}

fn receipt(text: &str, genesis: &Genesis) -> Result<String, String> {
    let receipt = Receipt::from_text(text).map_err(|error| error.to_string())?;
    let transaction = receipt.verify(genesis).map_err(|error| error.to_string())?;
    let result = match &receipt.result {
        Outcome::Ok => "ok".to_owned(),
        Outcome::Failed { reason } => format!("failed ({reason})"),
    };
    let time = rfc3339(receipt.block.header.created);
    let Receipt { id, height, .. } = &receipt;
    Ok(format!(
        "transaction {id} of {} in block {height} of {} at {time}, result {result}",
        transaction.author,
        network(genesis, &receipt.network)
    ))
}

/// Its name; of one that the genesis carries on, which network it is, too.
fn network(genesis: &Genesis, id: &Hash) -> String {
    let name = &genesis.network;
    if genesis.predecessor.is_some() && genesis.id() != *id { format!("{name} ({id})") } else { name.to_string() }
}

/// The time is that of the next block, whose header has the state's root: until then nothing had changed.
fn state_proof(text: &str, genesis: &Genesis) -> Result<String, String> {
    let proof = StateProof::from_text(text).map_err(|error| error.to_string())?;
    let height = proof.verify(genesis).map_err(|error| error.to_string())?;
    let key = &proof.proven.key;
    let stands = match &proof.proven.value {
        Some(value) => {
            // What is not of the registry, such as recorded evidence, has no form of its own.
            let value = match key.parse::<EntryKey>() {
                Ok(entry) => entry.readable(&value.0),
                Err(_) => codec::to_readable(&value.0, MAX_VALUE_BYTES),
            };
            format!("{key} is {}", value.map_err(|error| format!("proven.value: {error}"))?)
        }
        None => format!("there is no {key}"),
    };
    let time = rfc3339(proof.header.header.created);
    Ok(format!("{stands} as of block {height} of {} at {time}", network(genesis, &proof.network)))
}

#[cfg(test)]
mod tests;

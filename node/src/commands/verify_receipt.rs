//! `minidlt verify-receipt`: receipts against the genesis file alone, offline.

use std::path::{Path, PathBuf};

use minidlt_config::load_genesis;
use minidlt_protocol::{
    genesis::Genesis,
    receipt::{MAX_RECEIPT_BYTES, Receipt},
    state::Outcome,
};
use thiserror::Error;

use super::Failure;
use crate::client::{files::read_text, time::rfc3339};

/// Check receipts offline against the genesis file; exits 1 if any is bad
#[derive(Debug, clap::Args)]
pub struct VerifyReceipt {
    /// The receipts
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// The genesis file of the network they should be from
    #[arg(long, value_name = "FILE")]
    genesis: PathBuf,
}

#[derive(Debug, Error)]
#[error("{bad} of {all} receipts are bad")]
struct Bad {
    bad: usize,
    all: usize,
}

impl VerifyReceipt {
    pub fn run(self) -> Result<(), Failure> {
        let genesis = load_genesis(&self.genesis)?;
        let mut bad = 0;
        for file in &self.files {
            match verify(file, &genesis) {
                Ok(line) => println!("ok: {line}"),
                Err(what) => {
                    bad += 1;
                    println!("bad: {what}");
                }
            }
        }
        if bad == 0 { Ok(()) } else { Err(Failure::failed(Bad { bad, all: self.files.len() })) }
    }
}

/// What a good receipt proves, or the file and what is bad about it.
fn verify(file: &Path, genesis: &Genesis) -> Result<String, String> {
    let text = read_text(file, MAX_RECEIPT_BYTES).map_err(|error| error.to_string())?;
    let bad = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let receipt = Receipt::from_text(&text).map_err(|error| bad(&error))?;
    let transaction = receipt.verify(genesis).map_err(|error| bad(&error))?;
    let result = match &receipt.result {
        Outcome::Ok => "ok".to_owned(),
        Outcome::Failed { reason } => format!("failed ({reason})"),
    };
    let time = rfc3339(receipt.block.header.created);
    let Receipt { id, height, .. } = &receipt;
    Ok(format!(
        "transaction {id} of {} in block {height} of {} at {time}, result {result}",
        transaction.author, genesis.network
    ))
}

#[cfg(test)]
mod tests;

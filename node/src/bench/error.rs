//! Why a bench gave no result.

use std::{io, path::PathBuf};

use thiserror::Error;

use super::reached::Reached;
use crate::{client::ClientError, interrupt::Signal};

#[derive(Debug, Error)]
pub enum BenchError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("{}: cannot {action}: {reason}", path.display())]
    File { path: PathBuf, action: &'static str, reason: io::Error },
    #[error("`minidlt {command}` cannot be run: {reason}")]
    Run { command: String, reason: io::Error },
    #[error("`minidlt {command}` failed: {output}")]
    Failed { command: String, output: String },
    #[error("{node} ended by itself ({status}); the end of its log:\n{log}")]
    Ended { node: String, status: String, log: String },
    #[error("{node} was not ready within {seconds} s ({answer}); the end of its log:\n{log}")]
    NotReady { node: String, seconds: u64, answer: String, log: String },
    #[error("no row of {wanted} free ports was found from {from} on")]
    NoPorts { wanted: usize, from: u16 },
    #[error("a transaction of {records} records would not be accepted: {refusal}; try fewer --records-per-transaction")]
    Transaction { records: usize, refusal: minidlt_protocol::transaction::Refusal },
    #[error("signals cannot be caught: {0}")]
    Signals(io::Error),
    #[error("interrupted by {signal} while {reached}{}", ending(*throwaway))]
    Interrupted { signal: Signal, reached: Reached, throwaway: bool },
}

/// What became of a throwaway cluster.
fn ending(throwaway: bool) -> &'static str {
    if throwaway { "; the cluster was ended and its files removed" } else { "" }
}

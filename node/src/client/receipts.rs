//! Fetching receipts. A receipt needs the block after its transaction's, so a node may ask for a
//! little patience. It is worth what it proves, so none is kept that does not verify: not even the
//! user's own node is taken at its word.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use actix_rt::time::sleep;
use futures_util::StreamExt as _;
use minidlt_protocol::{
    genesis::Genesis,
    receipt::{Receipt, ReceiptError},
    types::Hash,
};

use super::{api::NodeClient, error::ClientError, files::write_whole, progress::Progress};

const DEFAULT_PAUSE: Duration = Duration::from_secs(1);
const MAX_UNDER_WAY: usize = 8;
/// How many missing receipts are told in full.
const MAX_TOLD: usize = 10;

/// What is known of the transaction beforehand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Another node had it committed: one that does not know it yet is only late.
    Committed,
    Nothing,
}

/// Fetches one receipt, trying again for as long as `patience` lasts, and checks it.
pub async fn fetch(
    node: &NodeClient,
    id: &Hash,
    genesis: &Genesis,
    known: Known,
    patience: Duration,
) -> Result<String, ClientError> {
    let bad = |reason| ClientError::BadReceipt { url: node.url().to_string(), id: *id, reason: Box::new(reason) };
    let began = Instant::now();
    loop {
        let error = match node.receipt(id).await {
            Ok(text) => return check(&text, id, genesis).map(|()| text).map_err(bad),
            Err(error) => error,
        };
        let later = match error.problem_kind() {
            Some("receipt-not-ready") => true,
            Some("not-found") => known == Known::Committed,
            _ => error.is_transient(),
        };
        if !later || began.elapsed() >= patience {
            return Err(error);
        }
        sleep(error.retry_after().unwrap_or(DEFAULT_PAUSE)).await;
    }
}

/// As `verify-receipt` does, and that it is the one that was asked for.
fn check(text: &str, id: &Hash, genesis: &Genesis) -> Result<(), ReceiptError> {
    let receipt = Receipt::from_text(text)?;
    if receipt.id != *id {
        let (found, expected) = (receipt.id.to_string(), id.to_string());
        return Err(ReceiptError::Mismatch { what: "id", found, expected });
    }
    receipt.verify(genesis).map(drop)
}

/// What came of fetching many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Verified, and in the directory.
    pub good: usize,
    /// Came, but do not verify.
    pub bad: usize,
    /// Did not come.
    pub missing: usize,
}

/// Fetches many into `directory`, as `<id>.json` each. Says of each bad one, and of the first that
/// are missing, which it is and why.
pub async fn fetch_all(
    nodes: &[NodeClient],
    ids: &[Hash],
    genesis: &Genesis,
    directory: &Path,
    patience: Duration,
    progress: &mut Progress,
) -> Result<Fetched, ClientError> {
    std::fs::create_dir_all(directory).map_err(|reason| ClientError::File {
        path: directory.into(),
        action: "be made",
        reason,
    })?;
    // Spread over all nodes: each has every receipt.
    let asked = ids.iter().zip(nodes.iter().cycle()).map(|(id, node)| async move {
        let text = fetch(node, id, genesis, Known::Committed, patience).await;
        (id, text)
    });
    let mut coming = futures_util::stream::iter(asked).buffer_unordered(MAX_UNDER_WAY);
    let mut fetched = Fetched::default();
    while let Some((id, text)) = coming.next().await {
        match text {
            Ok(text) => {
                write_whole(&directory.join(format!("{id}.json")), &text)?;
                fetched.good += 1;
            }
            Err(error @ ClientError::BadReceipt { .. }) => {
                fetched.bad += 1;
                progress.note(&error.to_string());
            }
            Err(error) => {
                fetched.missing += 1;
                if fetched.missing <= MAX_TOLD {
                    progress.note(&format!("no receipt of {id}: {error}; try `minidlt receipt {id}` later"));
                }
            }
        }
        progress.update(fetched.good as u64, ids.len() as u64, "receipts");
    }
    progress.finish();
    Ok(fetched)
}

/// Says which transaction a node does not know.
pub fn not_found(error: ClientError, id: &Hash) -> ClientError {
    if error.problem_kind() == Some("not-found") {
        return ClientError::NoTransaction { id: *id, refusal: Box::new(error) };
    }
    error
}

#[cfg(test)]
pub mod fixture;
#[cfg(test)]
mod tests;

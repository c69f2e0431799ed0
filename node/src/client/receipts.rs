//! Fetching receipts. A receipt needs the block after its transaction's, so a node may ask for a
//! little patience.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use actix_rt::time::sleep;
use futures_util::StreamExt as _;
use minidlt_protocol::{receipt::Receipt, types::Hash};

use super::{api::NodeClient, error::ClientError, files::write_whole, progress::Progress};

const DEFAULT_PAUSE: Duration = Duration::from_secs(1);
const MAX_UNDER_WAY: usize = 8;
/// How many failures are told in full.
const MAX_TOLD: usize = 10;

/// What is known of the transaction beforehand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Another node had it committed: one that does not know it yet is only late.
    Committed,
    Nothing,
}

/// Fetches one receipt, trying again for as long as `patience` lasts.
pub async fn fetch(node: &NodeClient, id: &Hash, known: Known, patience: Duration) -> Result<String, ClientError> {
    let began = Instant::now();
    loop {
        let error = match node.receipt(id).await {
            Ok(text) => return check(node, id, text),
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

/// That it is what was asked for; whether it holds is for `verify-receipt` to say.
fn check(node: &NodeClient, id: &Hash, text: String) -> Result<String, ClientError> {
    let wrong = |what: String| ClientError::Unexpected { url: node.url().to_string(), what };
    let receipt = Receipt::from_text(&text).map_err(|error| wrong(format!("a receipt that is not one: {error}")))?;
    if receipt.id != *id {
        return Err(wrong(format!("the receipt of {} where that of {id} was asked for", receipt.id)));
    }
    Ok(text)
}

/// Fetches many into `directory`, as `<id>.json` each; tells how many it got.
pub async fn fetch_all(
    nodes: &[NodeClient],
    ids: &[Hash],
    directory: &Path,
    patience: Duration,
    progress: &mut Progress,
) -> Result<usize, ClientError> {
    std::fs::create_dir_all(directory).map_err(|reason| ClientError::File {
        path: directory.into(),
        action: "be made",
        reason,
    })?;
    // Spread over all nodes: each has every receipt.
    let fetched = ids.iter().zip(nodes.iter().cycle());
    let fetched = fetched.map(|(id, node)| async move { (id, fetch(node, id, Known::Committed, patience).await) });
    let mut fetched = futures_util::stream::iter(fetched).buffer_unordered(MAX_UNDER_WAY);
    let (mut got, mut failed) = (0, 0);
    while let Some((id, text)) = fetched.next().await {
        match text {
            Ok(text) => {
                write_whole(&directory.join(format!("{id}.json")), &text)?;
                got += 1;
            }
            Err(error) => {
                failed += 1;
                if failed <= MAX_TOLD {
                    progress.note(&format!("no receipt of {id}: {error}; try `minidlt receipt {id}` later"));
                }
            }
        }
        progress.update(got as u64, ids.len() as u64, "receipts");
    }
    progress.finish();
    Ok(got)
}

/// Says which transaction a node does not know.
pub fn not_found(error: ClientError, id: &Hash) -> ClientError {
    if error.problem_kind() == Some("not-found") {
        return ClientError::Usage(format!(
            "no transaction {id} on this ledger; is it the right --node and id? ({error})"
        ));
    }
    error
}

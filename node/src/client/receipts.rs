//! Fetching receipts. A receipt needs the block after its transaction's, so a node may ask for a
//! little patience. It is worth what it proves, so none is kept that does not verify: not even the
//! user's own node is taken at its word.

use std::{
    cell::Cell,
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
    let began = Instant::now();
    loop {
        let error = match fetch_once(node, id, genesis).await {
            Ok(text) => return Ok(text),
            Err(error) => error,
        };
        if !comes_later(&error, known) || began.elapsed() >= patience {
            return Err(error);
        }
        sleep(error.retry_after().unwrap_or(DEFAULT_PAUSE)).await;
    }
}

async fn fetch_once(node: &NodeClient, id: &Hash, genesis: &Genesis) -> Result<String, ClientError> {
    let bad = |reason| ClientError::BadReceipt { url: node.url().to_string(), id: *id, reason: Box::new(reason) };
    let text = node.receipt(id).await?;
    check(&text, id, genesis).map(|()| text).map_err(bad)
}

fn comes_later(error: &ClientError, known: Known) -> bool {
    match error.problem_kind() {
        Some("receipt-not-ready") => true,
        Some("not-found") => known == Known::Committed,
        _ => error.is_transient(),
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

/// Fetches many into `directory`, as `<id>.json` each. Says of each bad one, though another node may
/// have given a good one, and of the first that are missing, which it is and why.
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
    let network = &Network { nodes, lost: vec![Cell::new(false); nodes.len()] };
    let asked = ids.iter().enumerate().map(|(first, id)| async move {
        let answer = network.fetch(first, id, genesis, patience).await;
        (id, answer)
    });
    let mut coming = futures_util::stream::iter(asked).buffer_unordered(MAX_UNDER_WAY);
    let mut fetched = Fetched::default();
    while let Some((id, Answer { text, bad, last })) = coming.next().await {
        bad.iter().for_each(|error| progress.note(&error.to_string()));
        if let Some(text) = text {
            write_whole(&directory.join(format!("{id}.json")), &text)?;
            fetched.good += 1;
        } else if !bad.is_empty() {
            fetched.bad += 1;
        } else {
            fetched.missing += 1;
            if fetched.missing <= MAX_TOLD {
                progress.note(&missing(id, last.as_ref()));
            }
        }
        progress.update(fetched.good as u64, ids.len() as u64, "verified");
    }
    progress.finish();
    Ok(fetched)
}

fn missing(id: &Hash, last: Option<&ClientError>) -> String {
    let why = last.map(|error| format!(": {error}")).unwrap_or_default();
    format!("no receipt of {id}{why}; `minidlt receipt {id}`, with the same --as, may get it later")
}

/// What came of asking for one receipt.
#[derive(Default)]
struct Answer {
    text: Option<String>,
    /// Of each node that gave one that proves nothing.
    bad: Vec<ClientError>,
    /// What the last node said that gave none.
    last: Option<ClientError>,
}

/// Any node will do: each has every receipt.
struct Network<'a> {
    nodes: &'a [NodeClient],
    /// Which of them could not be reached: those are asked last, for finding out can take long.
    lost: Vec<Cell<bool>>,
}

impl Network<'_> {
    /// The nodes' numbers, spread by `first`.
    fn order(&self, first: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.nodes.len()).collect();
        order.rotate_left(first % self.nodes.len().max(1));
        order.sort_by_key(|at| self.lost[*at].get());
        order
    }

    /// Asks one node after the other without a pause, and all of them again where one may have it later.
    async fn fetch(&self, first: usize, id: &Hash, genesis: &Genesis, patience: Duration) -> Answer {
        let (began, mut order, mut answer) = (Instant::now(), self.order(first), Answer::default());
        loop {
            let mut again = Vec::new();
            let mut pause: Option<Duration> = None;
            for at in order {
                let result = fetch_once(&self.nodes[at], id, genesis).await;
                self.lost[at].set(matches!(result, Err(ClientError::Unreachable { .. })));
                let error = match result {
                    Ok(text) => return Answer { text: Some(text), ..answer },
                    // What this one says of it is of no use however often it is asked.
                    Err(error @ ClientError::BadReceipt { .. }) => {
                        answer.bad.push(error);
                        continue;
                    }
                    Err(error) => error,
                };
                if comes_later(&error, Known::Committed) {
                    again.push(at);
                    pause = pause.max(Some(error.retry_after().unwrap_or(DEFAULT_PAUSE)));
                } else if !error.may_be_this_nodes() && !matches!(error, ClientError::Certificate { .. }) {
                    // All would say the same.
                    return Answer { last: Some(error), ..answer };
                }
                answer.last = Some(error);
            }
            match pause {
                Some(pause) if began.elapsed() < patience => sleep(pause).await,
                _ => return answer,
            }
            order = again;
        }
    }
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

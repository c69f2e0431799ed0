//! Bringing one transaction onto the ledger, and waiting until it is decided.

use std::time::{Duration, Instant};

use minidlt_protocol::transaction::{SignedTransaction, TransactionBytes};
use tokio::time::sleep;

use crate::client::{
    answers::{Fate, State},
    api::NodeClient,
    error::ClientError,
};

/// Between two tries, where the node says nothing of it.
const PAUSE: Duration = Duration::from_secs(1);
/// How long no node may take it before this is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Submits a transaction to the first of these nodes that takes it, and waits until it is committed, dumped or
/// rejected. Submitting again is harmless, so what may be one node's fault is tried at the next.
pub async fn decide(nodes: &[NodeClient], signed: &SignedTransaction) -> Result<Fate, ClientError> {
    let bytes = TransactionBytes::from(signed);
    let mut nodes = nodes.iter().cycle();
    let nothing = || ClientError::Usage("no node to talk to; give one with --node https://HOST:PORT".into());
    let mut node = nodes.next().ok_or_else(nothing)?;
    let mut heard = Instant::now();
    loop {
        match ask(node, &bytes).await {
            Ok(fate) if fate.status != State::Pending => return Ok(fate),
            Ok(_) => heard = Instant::now(),
            Err(error) if (error.is_transient() || error.may_be_this_nodes()) && heard.elapsed() < PATIENCE => {
                sleep(error.retry_after().unwrap_or(PAUSE).min(PATIENCE)).await;
                node = nodes.next().unwrap_or(node);
            }
            Err(error) => return Err(error),
        }
    }
}

async fn ask(node: &NodeClient, bytes: &TransactionBytes) -> Result<Fate, ClientError> {
    let fate = node.submit_and_wait(bytes.as_slice().to_vec()).await?;
    if fate.status != State::Pending {
        return Ok(fate);
    }
    // What was taken can still be rejected, by what was committed before it.
    node.fate(&fate.id).await
}

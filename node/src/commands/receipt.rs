//! `minidlt receipt`: fetches the proof that a transaction was committed.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    time::Duration,
};

use minidlt_protocol::types::Hash;

use super::Failure;
use crate::client::{
    connect::ConnectNode,
    files::write_whole,
    receipts::{Known, fetch, not_found},
    run::block_on,
    time::parse_duration,
};

/// Fetch a transaction's receipt, the proof that it was committed, and check it
#[derive(Debug, clap::Args)]
pub struct ReceiptCommand {
    #[command(flatten)]
    connect: ConnectNode,
    /// The transaction's id
    #[arg(value_name = "ID")]
    id: Hash,
    /// Where to write it [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// How long to wait for the block after the transaction's, without which there is no receipt
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    timeout: Duration,
}

impl ReceiptCommand {
    pub fn run(self) -> Result<(), Failure> {
        block_on(async {
            let session = self.connect.session()?;
            let (node, _) = session.first_alive().await?;
            let text = fetch(&node, &self.id, &session.user.genesis, Known::Nothing, self.timeout)
                .await
                .map_err(|error| not_found(error, &self.id))?;
            match &self.out {
                Some(path) => write_whole(path, &text)?,
                None => write!(io::stdout(), "{text}")?,
            }
            Ok(())
        })
    }
}

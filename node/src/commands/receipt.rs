//! `minidlt receipt`: fetches the proof that a transaction was committed.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use minidlt_protocol::types::Hash;

use crate::client::{
    ClientError,
    connect::ConnectNode,
    files::write_whole,
    receipts::{fetch, not_found},
    run::block_on,
    time::parse_duration,
};

/// Fetch a transaction's receipt, the proof that it was committed
#[derive(Debug, clap::Args)]
pub struct Args {
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

pub fn run(args: Args) -> Result<ExitCode, ClientError> {
    block_on(async {
        let node = args.connect.node().await?;
        let text = fetch(&node, &args.id, args.timeout).await.map_err(|error| not_found(error, &args.id))?;
        match &args.out {
            Some(path) => write_whole(path, &text)?,
            None => print!("{text}"),
        }
        Ok(ExitCode::SUCCESS)
    })
}

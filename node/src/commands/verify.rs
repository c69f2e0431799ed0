//! `minidlt verify`: the whole ledger of a stopped node, offline.

use std::{path::PathBuf, process::ExitCode};

use minidlt_actors::store::verify::verify_directory;
use minidlt_config::{ConfigError, load_genesis};

/// Checks the whole chain of a node that is not running: hashes, links, roots, signatures,
/// certificates, state and indexes
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The node's directory, such as network/node0
    node: PathBuf,
    /// The genesis file [default: genesis.yaml beside the node's directory]
    #[arg(long, value_name = "FILE")]
    genesis: Option<PathBuf>,
    /// The ledger, or a backup of it [default: data in the node's directory]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Prints one line, `ok: …` or `bad: …`; the latter is exit code 1. The error is of the genesis
/// file, without which nothing can be said.
pub fn run(args: &Args) -> Result<ExitCode, ConfigError> {
    let genesis = args.genesis.clone().unwrap_or_else(|| args.node.join("..").join("genesis.yaml"));
    let data = args.data.clone().unwrap_or_else(|| args.node.join("data"));
    let genesis = load_genesis(&genesis)?;
    match verify_directory(&data, &genesis) {
        Ok(summary) => {
            println!("ok: {summary}");
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            println!("bad: {error}");
            Ok(ExitCode::FAILURE)
        }
    }
}

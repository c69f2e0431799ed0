//! The flags that lie over a node's file, for every command that reads one.

use clap::Args;
use minidlt_config::Flags;

#[derive(Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "In place of what a node's config.yaml says")]
pub struct NodeFlags {
    /// The genesis file
    #[arg(long, value_name = "FILE")]
    genesis: Option<String>,
    /// Where the ledger and the log of votes are kept
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Where to listen for peers
    #[arg(long, value_name = "IP:PORT")]
    peers_listen: Option<String>,
    /// Where to serve the API
    #[arg(long, value_name = "IP:PORT")]
    api_listen: Option<String>,
    /// Where to serve health and metrics; loopback only
    #[arg(long, value_name = "IP:PORT")]
    health_listen: Option<String>,
    /// How much to log: off, error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

impl From<NodeFlags> for Flags {
    fn from(flags: NodeFlags) -> Self {
        let NodeFlags { genesis, data_dir, peers_listen, api_listen, health_listen, log_level } = flags;
        Self { genesis, data_dir, peers_listen, api_listen, health_listen, log_level }
    }
}

//! `minidlt verify`: the whole ledger of a stopped node, offline.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use minidlt_actors::store::verify::verify_directory;
use minidlt_config::load_genesis;

use super::Failure;

/// Check the whole chain of a node that is not running: hashes, links, roots, signatures,
/// certificates, state and indexes.
#[derive(clap::Args)]
pub struct Verify {
    /// The node's directory, such as network/node0.
    node: PathBuf,
    /// The genesis file [default: genesis.yaml beside the node's directory].
    #[arg(long, value_name = "FILE")]
    genesis: Option<PathBuf>,
    /// The ledger, or a backup of it [default: data/ledger in the node's directory].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl Verify {
    /// Prints one line; what is bad is a failure that names the first bad height.
    pub fn run(self) -> Result<(), Failure> {
        let genesis = self.genesis.unwrap_or_else(|| self.node.join("../genesis.yaml"));
        let data = self.data.unwrap_or_else(|| self.node.join("data/ledger"));
        let summary = verify_directory(&data, &load_genesis(&genesis)?).map_err(Failure::failed)?;
        writeln!(io::stdout(), "ok: {summary}")?;
        Ok(())
    }
}

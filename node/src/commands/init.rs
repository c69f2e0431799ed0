//! `minidlt init`: lays out a network.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::{Args, ValueEnum};
use minidlt_config::network::{DEFAULT_BASE_PORT, Local, Network};
use minidlt_protocol::vote::ConsensusMode;

use super::Failure;
use crate::init::{InitError, lay_out};

/// Write keys, certificates, genesis and node files of a new network.
#[derive(Args)]
pub struct Init {
    /// How many nodes, one an organisation, all on this machine.
    #[arg(long, default_value_t = 4, conflicts_with = "network")]
    nodes: usize,
    /// A YAML file of organisations, nodes and users, to lay out instead.
    #[arg(long, value_name = "FILE")]
    network: Option<PathBuf>,
    /// Where to; it must not exist or be empty.
    #[arg(long)]
    dir: PathBuf,
    /// What counts as agreement: more than two thirds of the voters (bft, unless FILE says
    /// otherwise), or all of them.
    #[arg(long)]
    consensus: Option<Consensus>,
    /// The port of node 0's API; peers and health are the next two, node 1 follows 10 further.
    #[arg(long, default_value_t = DEFAULT_BASE_PORT)]
    base_port: u16,
}

#[derive(Clone, Copy, ValueEnum)]
enum Consensus {
    Bft,
    FullConsent,
}

impl From<Consensus> for ConsensusMode {
    fn from(consensus: Consensus) -> Self {
        match consensus {
            Consensus::Bft => Self::Bft,
            Consensus::FullConsent => Self::FullConsent,
        }
    }
}

impl Init {
    pub fn run(self) -> Result<(), Failure> {
        let consensus = self.consensus.map(ConsensusMode::from);
        let network = match &self.network {
            Some(file) => Network::load(file, consensus, self.base_port)?,
            None => Network::local(Local {
                nodes: self.nodes,
                consensus: consensus.unwrap_or(ConsensusMode::Bft),
                base_port: self.base_port,
            })?,
        };
        let genesis = lay_out(&network, &self.dir)?;
        let dir = self.dir.display();
        let nodes: Vec<&str> = network.nodes.iter().map(|node| node.name.as_str()).collect();
        let mut out = io::stdout().lock();
        writeln!(out, "network {} in {dir}, genesis {}", network.name, genesis.id())?;
        writeln!(out, "nodes: {}; start each with: minidlt start {dir}/NODE", nodes.join(", "))?;
        Ok(())
    }
}

impl From<InitError> for Failure {
    fn from(error: InitError) -> Self {
        match error {
            InitError::Exists(_) | InitError::NoName(_) => Self::usage(error),
            InitError::Io { .. }
            | InitError::Openssl(_)
            | InitError::Yaml(_)
            | InitError::Genesis(_)
            | InitError::Name(_) => Self::failed(error),
        }
    }
}

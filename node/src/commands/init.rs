//! `minidlt init`: lays out a network.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use actix_rt::task::spawn_blocking;
use clap::{Args, ValueEnum};
use minidlt_config::network::{DEFAULT_BASE_PORT, Local, Network};
use minidlt_protocol::{genesis::Genesis, vote::ConsensusMode};

use super::Failure;
use crate::{
    client::run::block_on,
    init::{InitError, Stop, lay_out, leftovers},
    interrupt::Interrupts,
    say,
};

/// Write keys, certificates, genesis and node files of a new network
#[derive(Debug, Args)]
pub struct Init {
    /// How many nodes, one an organisation, all on this machine
    #[arg(long, value_name = "N", default_value_t = 4, conflicts_with = "network")]
    nodes: usize,
    /// A YAML file of organisations, nodes and users to lay out in place of --nodes; config/README.md describes it
    #[arg(long, value_name = "FILE")]
    network: Option<PathBuf>,
    /// Where to; it must not exist or be empty
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// What counts as agreement: more than two thirds of the voters, or all of them [default: as FILE says, or bft]
    #[arg(long, value_name = "MODE")]
    consensus: Option<Consensus>,
    /// The port of node 0's API; its peers and health are on the next two, node 1 follows 10 further
    #[arg(long, value_name = "PORT", default_value_t = DEFAULT_BASE_PORT)]
    base_port: u16,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
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
        for left in leftovers(&self.dir) {
            say::warn(InitError::Leftover(left));
        }
        let nodes: Vec<String> = network.nodes.iter().map(|node| node.name.to_string()).collect();
        let name = network.name.clone();
        let genesis = block_on(lay_out_unless_told_to_end(network, self.dir.clone()))?;
        let dir = self.dir.display();
        let mut out = io::stdout().lock();
        writeln!(out, "network {name} in {dir}, genesis {}", genesis.id())?;
        writeln!(out, "nodes: {}; start each with: minidlt start {dir}/NODE", nodes.join(", "))?;
        Ok(())
    }
}

/// On a thread of its own, for it blocks, and a signal must be heard meanwhile. Where the network was
/// there already when the signal came, it stays.
async fn lay_out_unless_told_to_end(network: Network, dir: PathBuf) -> Result<Genesis, Failure> {
    let mut interrupts = Interrupts::listen()?;
    let stop = Stop::default();
    let told = stop.clone();
    let mut layout = spawn_blocking(move || lay_out(&network, &dir, &told));
    let outcome = tokio::select! {
        outcome = &mut layout => outcome,
        signal = interrupts.next() => {
            stop.set(signal);
            layout.await
        }
    };
    outcome.expect("laying out does not panic").map_err(Failure::from)
}

//! `minidlt init`: lays out a network.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use actix_rt::task::spawn_blocking;
use clap::{Args, ValueEnum};
use minidlt_config::{
    load_genesis,
    network::{DEFAULT_BASE_PORT, Joining, Local, Network},
};
use minidlt_protocol::{types::Name, vote::ConsensusMode};

use super::Failure;
use crate::{
    client::{ClientError, run::block_on},
    init::{InitError, Stop, lay_out, lay_out_joining, leftovers},
    interrupt::Interrupts,
    say,
};

/// Write keys, certificates, genesis and node files of a new network, or those of an organisation that joins one
#[derive(Debug, Args)]
pub struct Init {
    /// How many nodes, one an organisation, all on this machine
    #[arg(long, value_name = "N", default_value_t = 4, conflicts_with = "network")]
    nodes: usize,
    /// A YAML file of organisations, nodes and users to lay out in place of --nodes; config/README.md describes it
    #[arg(long, value_name = "FILE")]
    network: Option<PathBuf>,
    /// The genesis file of a network that an organisation joins: a node and an admin of it are written, beside a copy
    #[arg(long, value_name = "FILE", requires = "organisation", conflicts_with_all = ["network", "nodes", "consensus"])]
    join: Option<PathBuf>,
    /// The organisation that joins
    #[arg(long, value_name = "NAME", requires = "join")]
    organisation: Option<Name>,
    /// Where the others find the node of the organisation that joins: a host name or an IP address
    #[arg(long, value_name = "HOST", requires = "join", default_value = "127.0.0.1")]
    host: String,
    /// Where to; it must not exist or be empty
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// What counts as agreement: more than two thirds of the voters, or all of them [default: as FILE says, or bft]
    #[arg(long, value_name = "MODE")]
    consensus: Option<Consensus>,
    /// The port of the first node's API; its peers and health are on the next two, the next node follows 10 further
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
        for left in leftovers(&self.dir) {
            say::warn(InitError::Leftover(left));
        }
        match (&self.join, &self.organisation) {
            (Some(genesis), Some(organisation)) => self.join(genesis, organisation),
            _ => self.new_network(),
        }
    }

    fn new_network(&self) -> Result<(), Failure> {
        let consensus = self.consensus.map(ConsensusMode::from);
        let network = match &self.network {
            Some(file) => Network::load(file, consensus, self.base_port)?,
            None => Network::local(Local {
                nodes: self.nodes,
                consensus: consensus.unwrap_or(ConsensusMode::Bft),
                base_port: self.base_port,
            })?,
        };
        let nodes: Vec<String> = network.nodes.iter().map(|node| node.name.to_string()).collect();
        let (name, at) = (network.name.clone(), self.dir.clone());
        let genesis = block_on(unless_told_to_end(move |stop| lay_out(&network, &at, stop)))?;
        let dir = self.dir.display();
        let mut out = io::stdout().lock();
        writeln!(out, "network {name} in {dir}, genesis {}", genesis.id())?;
        writeln!(out, "nodes: {}; start each with: minidlt start {dir}/NODE", nodes.join(", "))?;
        Ok(())
    }

    fn join(&self, path: &Path, organisation: &Name) -> Result<(), Failure> {
        let genesis = load_genesis(path)?;
        if genesis.organisations.iter().any(|other| other.name == *organisation) {
            let known = format!(
                "{organisation} is an organisation of this network already; give the new one a name of its own"
            );
            return Err(ClientError::Usage(known).into());
        }
        let network = Network::joining(Joining {
            network: genesis.network.clone(),
            nodes: genesis.nodes.len(),
            organisation: organisation.clone(),
            host: self.host.clone(),
            base_port: self.base_port,
        })?;
        let (node, admin) = (network.nodes[0].clone(), network.users[0].name.clone());
        let (name, id) = (genesis.network.clone(), genesis.id());
        let at = self.dir.clone();
        let keys = block_on(unless_told_to_end(move |stop| lay_out_joining(&network, &genesis, &at, stop)))?;
        let (dir, (node_key, admin_key)) = (self.dir.display(), (&keys.nodes[0], &keys.users[0]));
        let (address, node) = (node.at(node.peers_port()), &node.name);
        let mut out = io::stdout().lock();
        writeln!(out, "organisation {organisation} in {dir}, to join network {name}, genesis {id}")?;
        writeln!(
            out,
            "1. give the others {dir}/organisations/{organisation}/ca.crt, to be added with, and endorsed:\n   minidlt \
             organisation add {organisation} --ca ca.crt --admin {admin} --admin-key {admin_key} --admin-gateways NODE@ORGANISATION"
        )?;
        writeln!(
            out,
            "2. minidlt node enrol {node}@{organisation} --key {node_key} --address {address} --roles peer \
             --as {dir}/users/{admin} --node URL\n3. minidlt start {dir}/{node}"
        )?;
        Ok(())
    }
}

/// On a thread of its own, for it blocks, and a signal must be heard meanwhile. Where the network was
/// there already when the signal came, it stays.
async fn unless_told_to_end<T: Send + 'static>(
    lay_out: impl FnOnce(&Stop) -> Result<T, InitError> + Send + 'static,
) -> Result<T, Failure> {
    let mut interrupts = Interrupts::listen()?;
    let stop = Stop::default();
    let told = stop.clone();
    let mut layout = spawn_blocking(move || lay_out(&told));
    let outcome = tokio::select! {
        outcome = &mut layout => outcome,
        signal = interrupts.next() => {
            stop.set(signal);
            layout.await
        }
    };
    outcome.expect("laying out does not panic").map_err(Failure::from)
}

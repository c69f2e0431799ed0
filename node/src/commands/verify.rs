//! `minidlt verify`: the whole ledger of a stopped node, offline.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use minidlt_actors::store::{
    OpenError, network_of,
    verify::{VerifyError, verify_directory},
};
use minidlt_config::{NODE_FILE, load_genesis, raw::Defaults};
use minidlt_protocol::genesis::Genesis;
use serde::Deserialize;
use serde_yaml::{Mapping, Value};
use thiserror::Error;

use super::Failure;
use crate::client::{ClientError, files::read_text};

/// Check the whole chain of a node that is not running, or of a backup: hashes, links, roots, signatures, state
#[derive(Debug, clap::Args)]
pub struct Verify {
    /// The node's directory, such as network/node0; its keys are not needed
    #[arg(value_name = "NODE", required_unless_present_all = ["genesis", "data"])]
    node: Option<PathBuf>,
    /// The genesis file [default: the one that the node's config.yaml names]
    #[arg(long, value_name = "FILE")]
    genesis: Option<PathBuf>,
    /// The ledger, or a backup of it [default: ledger in the data_dir that the node's config.yaml names]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Where the ledger was looked for in vain.
#[derive(Debug, Error)]
enum NoLedger {
    #[error("--data {}: there is no such directory; give a ledger's, such as network/node0/data/ledger", .0.display())]
    Flag(PathBuf),
    #[error(
        "{} (data_dir in {}) is not there; start the node once, or say with --data where its ledger is",
        ledger.display(), file.display()
    )]
    ByFile { ledger: PathBuf, file: PathBuf },
    #[error(
        "neither {} nor {} is there; give a node's directory, such as network/node0, or its ledger's with --data",
        file.display(), ledger.display()
    )]
    Neither { ledger: PathBuf, file: PathBuf },
}

impl Verify {
    /// Prints one line; what is bad is a failure that names the first bad height.
    pub fn run(self) -> Result<(), Failure> {
        let (genesis, ledger) = self.places()?;
        let genesis = load_genesis(&genesis)?;
        let summary = verify_directory(&ledger, of_its_network(&genesis, &ledger)).map_err(failure)?;
        writeln!(io::stdout(), "ok: {summary}")?;
        Ok(())
    }

    /// The genesis file and the ledger. The node's file is read only where a flag leaves one open.
    fn places(self) -> Result<(PathBuf, PathBuf), Failure> {
        let data = self.data.map(given).transpose()?;
        if let (Some(genesis), Some(data)) = (&self.genesis, &data) {
            return Ok((genesis.clone(), data.clone()));
        }
        // There is a node where one of the flags is missing: the arguments are declared so.
        let places = NodePlaces::read(&self.node.unwrap_or_default())?;
        let ledger = data.map_or_else(|| places.ledger(), Ok)?;
        Ok((self.genesis.unwrap_or(places.genesis), ledger))
    }
}

/// A ledger may be of a network that this one carries on, kept by a node of both.
fn of_its_network<'a>(genesis: &'a Genesis, ledger: &Path) -> &'a Genesis {
    let network = genesis.predecessor.as_ref().and_then(|_| network_of(ledger).ok());
    network.and_then(|network| genesis.of_network(&network)).map_or(genesis, |(genesis, _)| genesis)
}

/// Its node is running: nothing was verified, and nothing is wrong with it.
#[derive(Debug, Error)]
#[error("{0}; stop the node, or verify a copy with --data")]
struct InUse(OpenError);

/// A ledger that cannot be opened for other reasons may be damaged, which is what is asked here.
fn failure(error: VerifyError) -> Failure {
    match error {
        VerifyError::Open(error @ OpenError::Locked(_)) => Failure::usage(InUse(error)),
        error => Failure::failed(error),
    }
}

fn given(data: PathBuf) -> Result<PathBuf, Failure> {
    if data.is_dir() { Ok(data) } else { Err(Failure::usage(NoLedger::Flag(data))) }
}

/// The keys of a node's file that are needed here. A backup may lack the private keys that the others
/// name, and another machine its ports, so nothing more is read of them.
#[derive(Debug, PartialEq, Eq, Deserialize)]
struct NodeKeys {
    genesis: PathBuf,
    data_dir: PathBuf,
}

/// Where a node keeps things, by its file or, without one, by default.
struct NodePlaces {
    file: PathBuf,
    genesis: PathBuf,
    ledger: PathBuf,
}

/// Far more than a node's file needs; what `minidlt_config` takes, too.
const MAX_FILE_BYTES: usize = 1 << 20;

impl NodePlaces {
    /// `node` is its directory or its file.
    fn read(node: &Path) -> Result<Self, Failure> {
        let file = if node.is_file() { node.to_owned() } else { node.join(NODE_FILE) };
        let text = if file.exists() { read_text(&file, MAX_FILE_BYTES)? } else { String::new() };
        let keys = node_keys(&text).map_err(|error| {
            let what = format!("{error}; correct the YAML, or say with --genesis and --data where they are");
            ClientError::Content { path: file.clone(), what }
        })?;
        let directory = file.parent().unwrap_or(Path::new(""));
        let (genesis, ledger) = (directory.join(keys.genesis), directory.join(keys.data_dir).join("ledger"));
        Ok(Self { genesis, ledger, file })
    }

    fn ledger(&self) -> Result<PathBuf, Failure> {
        if self.ledger.is_dir() {
            return Ok(self.ledger.clone());
        }
        let (ledger, file) = (self.ledger.clone(), self.file.clone());
        let known = file.exists();
        Err(Failure::usage(if known { NoLedger::ByFile { ledger, file } } else { NoLedger::Neither { ledger, file } }))
    }
}

/// What the file leaves out has the default that it has for a node that starts.
fn node_keys(text: &str) -> Result<NodeKeys, serde_yaml::Error> {
    let mut keys: Mapping = serde_yaml::from_value(serde_yaml::to_value(Defaults::default())?)?;
    if !text.trim().is_empty() {
        keys.extend(serde_yaml::from_str::<Mapping>(text)?);
    }
    serde_yaml::from_value(Value::Mapping(keys))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn verify(node: &Path) -> Verify {
        Verify { node: Some(node.into()), genesis: None, data: None }
    }

    #[test]
    fn the_nodes_file_says_where_its_ledger_is_and_its_keys_are_not_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let node = directory.path().join("node0");
        fs::create_dir_all(node.join("disk/ledger")).unwrap();
        let text = "identity: {name: node0, organisation: Org01}\nkey: gone.key\ndata_dir: disk\napi_listen: nowhere\n";
        fs::write(node.join(NODE_FILE), text).unwrap();
        let expected = (node.join("../genesis.yaml"), node.join("disk/ledger"));
        assert_eq!(verify(&node).places().unwrap(), expected);
        assert_eq!(verify(&node.join(NODE_FILE)).places().unwrap(), expected, "the file does as well");

        let backup = directory.path().join("backup");
        fs::create_dir(&backup).unwrap();
        let (genesis, data) = (Some(PathBuf::from("g.yaml")), Some(backup.clone()));
        let with_data = Verify { data: data.clone(), ..verify(&node) };
        assert_eq!(with_data.places().unwrap(), (node.join("../genesis.yaml"), backup.clone()));
        let without_node = Verify { node: None, genesis, data };
        assert_eq!(without_node.places().unwrap(), (PathBuf::from("g.yaml"), backup));
    }

    #[test]
    fn by_default_it_is_where_a_node_keeps_it_and_in_vain_all_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let node = directory.path().join("node0");
        let said = |verify: Verify| verify.places().unwrap_err().to_string();
        let neither = said(verify(&node));
        assert!(neither.contains("node0/config.yaml") && neither.contains("node0/data/ledger"), "{neither}");
        fs::create_dir_all(node.join("data/ledger")).unwrap();
        assert_eq!(verify(&node).places().unwrap().1, node.join("data/ledger"));

        fs::write(node.join(NODE_FILE), "data_dir: disk\n").unwrap();
        let by_file = said(verify(&node));
        assert!(by_file.contains("node0/disk/ledger (data_dir in ") && by_file.contains("config.yaml"), "{by_file}");
        let flag = said(Verify { data: Some("nowhere".into()), ..verify(&node) });
        assert!(flag.starts_with("--data nowhere: "), "{flag}");
        fs::write(node.join(NODE_FILE), "data_dir: [1]\n").unwrap();
        assert!(said(verify(&node)).contains("config.yaml"));
    }
}

//! Validated settings of a node.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use log::LevelFilter;
use minidlt_protocol::{
    crypto::{PublicKey, SecretKey},
    genesis::Genesis,
    types::{Hash, Identity},
};

use crate::{
    authority::Authority,
    endorse::Endorse,
    error::{ConfigError, Origin, Problem},
    genesis::read_genesis,
    keys::{KeyFiles, read_signing_key},
    layers::{Flags, Layers},
    limits::Limits,
    raw::{NodeFile, RawIdentity, RawTls},
    tls::{NODE, Tls, TlsFiles},
};

/// The name of a node's file within its directory.
pub const NODE_FILE: &str = "config.yaml";

/// All a node needs to know to start. It holds private keys, so it is not `Debug`.
pub struct Settings {
    /// The node file's directory.
    pub directory: PathBuf,
    pub identity: Identity,
    pub genesis: Genesis,
    pub genesis_path: PathBuf,
    /// The genesis' hash.
    pub network: Hash,
    /// The organisations' certificate authorities, from the genesis.
    pub authority: Arc<Authority>,
    /// The node's signing key.
    pub key: SecretKey,
    /// Where it is, and the one that takes its place.
    pub key_files: KeyFiles,
    pub data_dir: PathBuf,
    pub peers_listen: SocketAddr,
    pub api_listen: SocketAddr,
    pub health_listen: SocketAddr,
    /// It may have run out, or no CA of the genesis may have issued it.
    pub tls: Tls,
    pub log_level: LevelFilter,
    /// What this node endorses, if it is a peer.
    pub endorse: Endorse,
    pub limits: Limits,
    /// What will soon need doing; to be logged at start.
    pub warnings: Vec<String>,
}

/// Reads a node's settings: `path` is its directory or its file. The environment is the process'.
pub fn load(path: &Path, flags: Flags) -> Result<Settings, ConfigError> {
    load_with(path, environment(), &flags)
}

fn environment() -> impl Iterator<Item = (String, String)> {
    let variables = std::env::vars_os();
    variables.map(|(name, value)| (name.to_string_lossy().into(), value.to_string_lossy().into()))
}

/// As [`load`], with the environment given.
pub(crate) fn load_with(
    path: &Path,
    environment: impl Iterator<Item = (String, String)>,
    flags: &Flags,
) -> Result<Settings, ConfigError> {
    let (check, raw) = Check::read(path, environment, flags)?;
    check.settings(raw)
}

/// Where a node's certificate and its key are, whatever they and all else are like: to renew them.
pub fn tls_files(path: &Path) -> Result<TlsFiles, ConfigError> {
    let (check, raw) = Check::read(path, environment(), &Flags::default())?;
    Ok(check.tls_files(&check.identity(&raw.identity)?, &raw.tls))
}

/// The checks, in the order in which one needs another's outcome.
struct Check {
    layers: Layers,
    directory: PathBuf,
}

impl Check {
    fn read(
        path: &Path,
        environment: impl Iterator<Item = (String, String)>,
        flags: &Flags,
    ) -> Result<(Self, NodeFile), ConfigError> {
        let file = if path.is_dir() { path.join(NODE_FILE) } else { path.to_owned() };
        let layers = Layers::read(&file, environment, flags)?;
        let raw = layers.extract()?;
        let directory = file.parent().unwrap_or(Path::new("")).to_owned();
        Ok((Self { layers, directory }, raw))
    }

    fn tls_files(&self, identity: &Identity, raw: &RawTls) -> TlsFiles {
        TlsFiles {
            identity: identity.clone(),
            directory: self.directory.clone(),
            certificate: self.path("tls.certificate", &raw.certificate),
            key: self.path("tls.key", &raw.key),
        }
    }

    fn settings(self, raw: NodeFile) -> Result<Settings, ConfigError> {
        let identity = self.identity(&raw.identity)?;
        let log_level = raw.log_level.parse().map_err(|_| self.wrong("log_level", Problem::Level(raw.log_level)))?;
        let endorse = raw.endorse.check().map_err(|problem| self.wrong("endorse", problem))?;
        let api_listen = self.address("api_listen", &raw.api_listen)?;
        let peers_listen = self.address("peers_listen", &raw.peers_listen)?;
        let health_listen = self.address("health_listen", &raw.health_listen)?;
        if !health_listen.ip().is_loopback() {
            return Err(self.wrong("health_listen", Problem::NotLoopback(raw.health_listen)));
        }
        self.distinct_ports([
            ("api_listen", api_listen),
            ("peers_listen", peers_listen),
            ("health_listen", health_listen),
        ])?;

        let genesis_path = self.path("genesis", &raw.genesis);
        let (genesis, authority) = self.genesis(&genesis_path)?;
        let peers = genesis.nodes.iter().filter(|node| node.identity() != identity).count();
        let limits = raw.limits.check(peers).map_err(|(key, problem)| self.wrong(key, problem))?;

        let key_path = self.path("key", &raw.key);
        let key = read_signing_key(&key_path).map_err(|problem| self.wrong("key", problem))?;
        let mut warnings = Vec::new();
        warnings.extend(self.check_key(&key_path, &identity, key.public_key(), &genesis)?);
        let tls =
            self.tls_files(&identity, &raw.tls).read().map_err(|fault| self.wrong(fault.part.key(), fault.problem))?;
        warnings.extend(tls.doubts(&authority, NODE));

        Ok(Settings {
            data_dir: self.data_dir(&raw.data_dir)?,
            directory: self.directory,
            identity,
            network: genesis.id(),
            genesis,
            genesis_path,
            authority: Arc::new(authority),
            key,
            key_files: KeyFiles::new(key_path),
            peers_listen,
            api_listen,
            health_listen,
            tls,
            log_level,
            endorse,
            limits,
            warnings,
        })
    }

    fn wrong(&self, key: &str, problem: Problem) -> ConfigError {
        ConfigError::key(key, self.layers.origin(key), problem)
    }

    /// What the file or the defaults name lies beside the file; what was typed, where it was typed.
    fn path(&self, key: &str, value: &str) -> PathBuf {
        match self.layers.origin(key) {
            Origin::Default | Origin::File(_) => self.directory.join(value),
            Origin::Environment(_) | Origin::Flag(_) => PathBuf::from(value),
        }
    }

    fn identity(&self, raw: &RawIdentity) -> Result<Identity, ConfigError> {
        let name = |key: &str, text: &str| text.parse().map_err(|error| self.wrong(key, Problem::Name(error)));
        Ok(Identity::new(name("identity.name", &raw.name)?, name("identity.organisation", &raw.organisation)?))
    }

    fn address(&self, key: &str, text: &str) -> Result<SocketAddr, ConfigError> {
        let address: SocketAddr = text.parse().map_err(|_| self.wrong(key, Problem::Address(text.to_owned())))?;
        if address.port() == 0 { Err(self.wrong(key, Problem::PortZero(text.to_owned()))) } else { Ok(address) }
    }

    fn distinct_ports(&self, listeners: [(&'static str, SocketAddr); 3]) -> Result<(), ConfigError> {
        for (at, (key, address)) in listeners.iter().enumerate() {
            let port = address.port();
            if let Some((other, _)) = listeners[..at].iter().find(|(_, earlier)| earlier.port() == port) {
                return Err(self.wrong(key, Problem::SamePort { port, other }));
            }
        }
        Ok(())
    }

    fn genesis(&self, path: &Path) -> Result<(Genesis, Authority), ConfigError> {
        read_genesis(path).map_err(|error| match error {
            ConfigError::File { path, problem } => match *problem {
                Problem::Unreadable(error) => self.wrong("genesis", Problem::UnreadablePath { path, error }),
                _ => ConfigError::File { path, problem },
            },
            other => other,
        })
    }

    /// No node has another's key. One of the genesis had its own from there; it may have been replaced on the
    /// ledger since, or, where it is not in the genesis, the node enrolled: the ledger will tell. A mistyped
    /// name is caught by the certificate's subject.
    fn check_key(
        &self,
        path: &Path,
        identity: &Identity,
        found: PublicKey,
        genesis: &Genesis,
    ) -> Result<Option<String>, ConfigError> {
        let (path, identity) = (path.to_owned(), identity.clone());
        let others = genesis.nodes.iter().filter(|node| node.identity() != identity);
        if let Some(owner) = others.map(|node| (node.public_key, node.identity())).find(|(key, _)| *key == found) {
            let (_, owner) = owner;
            return Err(self.wrong("key", Problem::ForeignKey { path, identity, owner }));
        }
        Ok(match genesis.nodes.iter().find(|node| node.identity() == identity) {
            Some(node) if node.public_key == found => None,
            Some(node) => {
                let expected = Box::new(node.public_key);
                let problem = Problem::WrongKey { path, identity, found: Box::new(found), expected };
                Some(format!("{problem}; unless it was replaced on the ledger since, what it signs is refused"))
            }
            None => {
                Some(format!("{identity} is not in the genesis; peers accept it once a transaction has enrolled it"))
            }
        })
    }

    /// The directory itself is made at the first start, what it lies in must be there.
    fn data_dir(&self, text: &str) -> Result<PathBuf, ConfigError> {
        let path = self.path("data_dir", text);
        let seen = if path.exists() { &path } else { path.parent().unwrap_or(&path) };
        let seen = if seen.as_os_str().is_empty() { Path::new(".") } else { seen };
        match seen.read_dir() {
            Ok(_) => Ok(path),
            Err(error) => Err(self.wrong("data_dir", Problem::UnreadablePath { path: seen.to_owned(), error })),
        }
    }
}

#[cfg(test)]
mod tests;

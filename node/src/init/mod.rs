//! Laying out a network: every key, certificate and file its nodes and users start from.
//!
//! Everything is written to a sibling directory that is renamed at the end, so that a network is
//! there whole or not at all. SIGINT, SIGTERM and SIGHUP remove that directory, for there are private
//! keys in it; what a SIGKILL leaves is told of by the next run.
//!
//! ```text
//! DIR/genesis.yaml  DIR/ca.crt                        public, the same for everybody
//! DIR/organisations/Org01/{ca.crt,ca.key}             an organisation's authority
//! DIR/node0/{config.yaml,node.key,tls.crt,tls.key,data/{signer-0.log,signer-1.log}}
//! DIR/users/admin/{user.yaml,user.key,tls.crt,tls.key,tls.p12}
//! ```

pub mod certificates;
mod directory;
mod genesis;
mod members;

use std::{
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use minidlt_config::network::Network;
use minidlt_protocol::{
    crypto::PublicKey,
    genesis::{Genesis, GenesisError},
    registry::Organisation,
    types::{InvalidName, Timestamp},
};
use thiserror::Error;

use certificates::Authority;
use directory::Staging;
pub use directory::{Stop, leftovers, write_private};

use crate::interrupt::Signal;

/// The password of every `tls.p12`, documented: browsers want one, and the file is its owner's alone.
pub const P12_PASSWORD: &str = "minidlt";

/// Why a network was not laid out.
#[derive(Debug, Error)]
pub enum InitError {
    #[error("{} is there already and not empty; choose another directory or remove it", .0.display())]
    Exists(PathBuf),
    #[error(
        "{} names no directory of its own; give a name below it, such as {}",
        .0.display(), .0.join("network").display()
    )]
    NoName(PathBuf),
    #[error(
        "{} is a link or a mount point, which cannot be replaced; give a name below it, such as {}",
        .0.display(), .0.join("network").display()
    )]
    NotReplaceable(PathBuf),
    #[error("{} is left from an init that was killed, and holds private keys; remove it", .0.display())]
    Leftover(PathBuf),
    #[error("interrupted by {0}: nothing was laid out, and what was written is removed")]
    Stopped(Signal),
    #[error("{} cannot be written: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("OpenSSL failed: {0}")]
    Openssl(#[from] openssl::error::ErrorStack),
    #[error("cannot be written as YAML: {0}")]
    Yaml(#[from] serde_yaml::Error),
    #[error("this network cannot be: {0}")]
    Genesis(#[from] GenesisError),
    #[error(transparent)]
    Name(#[from] InvalidName),
}

/// The public keys of what was laid out, in the network's order.
pub struct Keys {
    pub nodes: Vec<PublicKey>,
    pub users: Vec<PublicKey>,
}

/// Writes `network` to `dir`, which must not exist or be empty. Told to stop, it leaves nothing.
pub fn lay_out(network: &Network, dir: &Path, stop: &Stop) -> Result<Genesis, InitError> {
    let staging = Staging::new(dir, stop.clone())?;
    let (authorities, keys) = write_members(network, &[], &staging)?;
    let genesis = genesis::assemble(network, &authorities, &keys.nodes, &keys.users, now())?;
    genesis.check()?;
    write_genesis(&genesis, &staging)?;
    staging.publish()?;
    Ok(genesis)
}

fn write_genesis(genesis: &Genesis, staging: &Staging) -> Result<(), InitError> {
    let head = "# Block 0, the same on every node: its content's hash is the network's id.\n";
    staging.public("genesis.yaml", [head, &serde_yaml::to_string(genesis)?].concat().as_bytes())
}

/// Writes the members of an organisation that joins, beside the genesis of the network.
pub fn lay_out_joining(network: &Network, genesis: &Genesis, dir: &Path, stop: &Stop) -> Result<Keys, InitError> {
    let staging = Staging::new(dir, stop.clone())?;
    let (_, keys) = write_members(network, &genesis.organisations, &staging)?;
    write_genesis(genesis, &staging)?;
    staging.publish()?;
    Ok(keys)
}

/// Members, their organisations' authorities, and a bundle of these and `others`.
fn write_members(
    network: &Network,
    others: &[Organisation],
    staging: &Staging,
) -> Result<(Vec<Authority>, Keys), InitError> {
    let mut authorities = Vec::with_capacity(network.organisations.len());
    let mut bundle: Vec<u8> = others.iter().flat_map(|other| other.ca.bytes()).collect();
    for organisation in &network.organisations {
        let authority = Authority::new(organisation)?;
        let at = format!("organisations/{organisation}");
        staging.private_directory(&at)?;
        staging.public(&format!("{at}/ca.crt"), &authority.certificate_pem()?)?;
        staging.private(&format!("{at}/ca.key"), &authority.key_pem()?)?;
        bundle.extend(authority.certificate_pem()?);
        authorities.push(authority);
    }
    staging.public("ca.crt", &bundle)?;

    let members = members::Members { network, authorities: &authorities, staging };
    let keys = Keys { nodes: members.write_nodes()?, users: members.write_users()? };
    Ok((authorities, keys))
}

/// A clock before 1970 is no clock: the epoch will do.
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;

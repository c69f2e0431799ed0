//! Reading the genesis, and checking of it what the protocol cannot: its certificates.

use std::path::Path;

use minidlt_protocol::{genesis::Genesis, limits::MAX_GENESIS_BYTES, registry::Node};

use crate::{
    authority::Authority,
    error::{ConfigError, Problem},
    files::{parse_yaml, read_text},
};

/// Reads and checks a genesis file.
pub fn load_genesis(path: &Path) -> Result<Genesis, ConfigError> {
    read_genesis(path).map(|(genesis, _)| genesis)
}

/// Reads a genesis file that may be a successor to be signed: all but that it is signed by all who must is checked.
pub fn load_unsigned_genesis(path: &Path) -> Result<Genesis, ConfigError> {
    let genesis: Genesis = parse_yaml(path, &read_text(path, MAX_GENESIS_BYTES)?)?;
    let wrong = |error| ConfigError::file(path, Problem::Genesis(error));
    genesis.check_unsigned().map_err(wrong).map(|()| genesis)
}

/// The genesis with its organisations' authorities.
pub(crate) fn read_genesis(path: &Path) -> Result<(Genesis, Authority), ConfigError> {
    let genesis: Genesis = parse_yaml(path, &read_text(path, MAX_GENESIS_BYTES)?)?;
    let wrong = |problem| ConfigError::file(path, problem);
    genesis.check().map_err(|error| wrong(Problem::Genesis(error)))?;
    if genesis.predecessor.is_some() {
        // What is in it came by transactions; what of it does not hold is passed over, as on the chain before.
        let active = genesis.organisations.iter().filter(|one| one.standing.is_active());
        let (authority, _) = Authority::of_those_that_hold(active);
        return Ok((genesis, authority));
    }
    let authority = Authority::new(&genesis.organisations).map_err(|bad| wrong(Problem::Ca(bad)))?;
    genesis.nodes.iter().try_for_each(check_address).map_err(wrong)?;
    Ok((genesis, authority))
}

fn check_address(node: &Node) -> Result<(), Problem> {
    let parts = node.address.rsplit_once(':');
    let good = parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0));
    if good {
        return Ok(());
    }
    let what = format!("address {:?} is not host:port", node.address);
    Err(Problem::GenesisEntry { list: "nodes", name: node.identity().to_string(), what })
}

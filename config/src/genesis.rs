//! Reading the genesis, and checking of it what the protocol cannot: its certificates.

use std::{collections::BTreeMap, path::Path};

use minidlt_protocol::{
    genesis::Genesis,
    limits::MAX_GENESIS_BYTES,
    registry::{Node, Organisation},
};

use crate::{
    error::{ConfigError, Problem},
    files::{parse_yaml, read_text},
    tls::{Authorities, parse_authority},
};

/// Reads and checks a genesis file.
pub fn load_genesis(path: &Path) -> Result<Genesis, ConfigError> {
    read_genesis(path).map(|(genesis, _)| genesis)
}

/// The genesis with its organisations' authorities, parsed.
pub(crate) fn read_genesis(path: &Path) -> Result<(Genesis, Authorities), ConfigError> {
    let genesis: Genesis = parse_yaml(path, &read_text(path, MAX_GENESIS_BYTES)?)?;
    let wrong = |problem| ConfigError::file(path, problem);
    genesis.check().map_err(|error| wrong(Problem::Genesis(error)))?;
    let authorities = authorities(&genesis.organisations).map_err(wrong)?;
    genesis.nodes.iter().try_for_each(check_address).map_err(wrong)?;
    Ok((genesis, authorities))
}

/// Two organisations with one authority could speak in each other's name.
fn authorities(organisations: &[Organisation]) -> Result<Authorities, Problem> {
    let entry = |name: String, what| Problem::GenesisEntry { list: "organisations", name, what };
    let (mut parsed, mut owners) = (Authorities::new(), BTreeMap::new());
    for organisation in organisations {
        let name = organisation.name.to_string();
        let authority = parse_authority(&organisation.ca).map_err(|what| entry(name.clone(), what))?;
        let key = authority.public_key()?.public_key_to_der()?;
        if let Some(other) = owners.insert(key, name.clone()) {
            return Err(entry(name, format!("ca has the key of {other}'s ca")));
        }
        parsed.insert(organisation.name.clone(), authority);
    }
    Ok(parsed)
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

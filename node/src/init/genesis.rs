//! Block 0 of a network just laid out.

use std::collections::BTreeMap;

use minidlt_config::network::Network;
use minidlt_protocol::{
    crypto::PublicKey,
    genesis::{Genesis, Timeouts},
    registry::{Node, Organisation, Policy, Role, User},
    types::{InvalidName, Name, Timestamp},
};
use openssl::error::ErrorStack;

use super::{InitError, certificates::Authority};

/// The policies every network starts with: who may make an orderer, who may change organisations.
const POLICIES: [&str; 2] = ["orderers", "organisations"];

/// Puts the genesis together; keys are in the order of the network's nodes and users.
pub fn assemble(
    network: &Network,
    authorities: &[Authority],
    node_keys: &[PublicKey],
    user_keys: &[PublicKey],
    created: Timestamp,
) -> Result<Genesis, InitError> {
    let nodes: Vec<Node> = network
        .nodes
        .iter()
        .zip(node_keys)
        .map(|(node, key)| Node {
            name: node.name.clone(),
            organisation: node.organisation.clone(),
            public_key: *key,
            roles: node.roles.clone(),
            address: node.at(node.peers_port()),
        })
        .collect();
    let users = network
        .users
        .iter()
        .zip(user_keys)
        .map(|(user, key)| User {
            name: user.name.clone(),
            organisation: user.organisation.clone(),
            public_key: *key,
            roles: user.roles.clone(),
            gateways: user.gateways.iter().filter_map(|at| nodes.get(*at)).map(Node::identity).collect(),
        })
        .collect();
    Ok(Genesis {
        network: network.name.clone(),
        created,
        consensus: network.consensus,
        timeouts: Timeouts::default(),
        synchronise: network.synchronise,
        organisations: authorities.iter().map(organisation).collect::<Result<_, _>>()?,
        nodes,
        users,
        policies: policies(&network.organisations)?,
    })
}

fn organisation(authority: &Authority) -> Result<Organisation, ErrorStack> {
    let ca = String::from_utf8_lossy(&authority.certificate_pem()?).into_owned();
    Ok(Organisation { name: authority.organisation().clone(), ca, former_ca: None })
}

fn policies(organisations: &[Name]) -> Result<BTreeMap<Name, Policy>, InvalidName> {
    let majority = organisations.len() / 2 + 1;
    let admin = |organisation: &Name| Policy::Leaf { organisation: organisation.clone(), role: Role::Admin };
    let policy = Policy::AtLeast { at_least: majority, of: organisations.iter().map(admin).collect() };
    POLICIES.iter().map(|name| Ok((name.parse()?, policy.clone()))).collect()
}

//! Block 0 of a network just laid out.

use std::collections::BTreeMap;

use minidlt_config::network::Network;
use minidlt_protocol::{
    crypto::PublicKey,
    genesis::{Genesis, Timeouts},
    registry::{Node, Organisation, Policy, User, default_policy, policies},
    types::{Identity, InvalidName, Name, Timestamp},
};
use openssl::error::ErrorStack;

use super::{InitError, certificates::Authority};

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
        .map(|(node, key)| {
            let identity = Identity::new(node.name.clone(), node.organisation.clone());
            Node::new(identity, *key, node.roles.clone(), node.at(node.peers_port()))
        })
        .collect();
    let users = network
        .users
        .iter()
        .zip(user_keys)
        .map(|(user, key)| {
            let identity = Identity::new(user.name.clone(), user.organisation.clone());
            let gateways = user.gateways.iter().filter_map(|at| nodes.get(*at)).map(Node::identity);
            User::new(identity, *key, user.roles.clone(), gateways.collect())
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
        policies: policies()?,
        predecessor: None,
    })
}

fn organisation(authority: &Authority) -> Result<Organisation, ErrorStack> {
    let ca = String::from_utf8_lossy(&authority.certificate_pem()?).into_owned();
    Ok(Organisation::new(authority.organisation().clone(), ca))
}

/// Those every network has, written out so that its members see them.
fn policies() -> Result<BTreeMap<Name, Policy>, InvalidName> {
    policies::ALL.iter().map(|name| Ok((name.parse()?, default_policy()))).collect()
}

//! The network file: what `minidlt init` is to lay out. Users of one machine need none:
//! [`Network::local`] is the same for N organisations of one node each.

use std::{collections::BTreeSet, net::IpAddr, path::Path};

use minidlt_protocol::{
    limits::{MAX_MEMBERS, MAX_VOTERS},
    registry::{NodeRole, Role},
    sync::Synchronise,
    types::Name,
    vote::ConsensusMode,
};
use serde::Deserialize;

use crate::{
    error::{ConfigError, Origin, Problem},
    files::{MAX_FILE_BYTES, parse_yaml, read_text},
};

/// The API of node 0; its peers and its health follow, and each next node is a stride further.
pub const DEFAULT_BASE_PORT: u16 = 3401;
/// How far the ports of two nodes lie apart.
pub const PORT_STRIDE: u16 = 10;

const DEFAULT_NAME: &str = "minidlt";
const ADMIN: &str = "admin";
const TRADER: &str = "trader";
const ADMIN_ROLES: [Role; 6] =
    [Role::Admin, Role::UserInvoker, Role::NodeInvoker, Role::PolicyInvoker, Role::ContractInvoker, Role::Submitter];

/// The network file as written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct NetworkFile {
    network: Option<Name>,
    consensus: Option<ConsensusMode>,
    #[serde(default)]
    synchronise: Synchronise,
    organisations: Vec<Name>,
    nodes: Vec<RawNode>,
    #[serde(default)]
    users: Vec<RawUser>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNode {
    name: Option<Name>,
    organisation: Name,
    #[serde(default = "local_host")]
    host: String,
    roles: Option<BTreeSet<NodeRole>>,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawUser {
    name: Name,
    organisation: Name,
    roles: BTreeSet<Role>,
    gateways: Option<Vec<Name>>,
}

/// A network to lay out, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    pub name: Name,
    pub consensus: ConsensusMode,
    pub synchronise: Synchronise,
    pub organisations: Vec<Name>,
    pub nodes: Vec<NetworkNode>,
    pub users: Vec<NetworkUser>,
}

/// A node to lay out; its name is its directory's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkNode {
    pub name: Name,
    pub organisation: Name,
    /// Where others find it: a host name or an IP address.
    pub host: String,
    pub roles: BTreeSet<NodeRole>,
    /// Its API's; the peers' is the next, health the one after.
    pub port: u16,
}

/// A user to lay out; its name is its directory's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkUser {
    pub name: Name,
    pub organisation: Name,
    pub roles: BTreeSet<Role>,
    /// The nodes it may submit through, as places in the network's `nodes`.
    pub gateways: Vec<usize>,
}

impl NetworkNode {
    pub fn peers_port(&self) -> u16 {
        self.port + 1
    }

    pub fn health_port(&self) -> u16 {
        self.port + 2
    }

    /// `host:port`, an IPv6 address in brackets.
    pub fn at(&self, port: u16) -> String {
        match self.host.parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => format!("[{address}]:{port}"),
            _ => format!("{}:{port}", self.host),
        }
    }

    /// Is it reached from this machine only?
    pub fn is_local(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

/// How many nodes, how agreed, from which port on: what the flags of `init` say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Local {
    pub nodes: usize,
    pub consensus: ConsensusMode,
    pub base_port: u16,
}

/// An organisation that joins a network: what the flags of `init --join` say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joining {
    /// The network's name, and how many nodes it began with.
    pub network: Name,
    pub nodes: usize,
    pub organisation: Name,
    /// Where others find its node.
    pub host: String,
    pub base_port: u16,
}

impl Network {
    /// One node and one admin of an organisation that is new to the network.
    pub fn joining(joining: Joining) -> Result<Self, ConfigError> {
        let flag = |name: &str, problem| ConfigError::key(name, Origin::Flag(format!("--{name}")), problem);
        let name = |text: String| text.parse::<Name>().map_err(|error| flag("organisation", Problem::Name(error)));
        let Joining { network, nodes, organisation, host, base_port } = joining;
        let node = RawNode {
            name: Some(name(format!("node{nodes}"))?),
            organisation: organisation.clone(),
            host,
            roles: None,
            port: None,
        };
        let admin = RawUser {
            name: name(format!("{ADMIN}-{organisation}"))?,
            organisation: organisation.clone(),
            roles: ADMIN_ROLES.into(),
            gateways: None,
        };
        let file = NetworkFile {
            network: Some(network),
            consensus: None,
            synchronise: Synchronise::default(),
            organisations: vec![organisation],
            nodes: vec![node],
            users: vec![admin],
        };
        file.check(base_port, |key, problem| match key {
            "nodes.0.host" => flag("host", problem),
            _ if key.starts_with("nodes") => flag("base-port", problem),
            _ => flag("organisation", problem),
        })
    }

    /// `Org01` with `node0`, `Org02` with `node1`, and so on, all on this machine.
    pub fn local(local: Local) -> Result<Self, ConfigError> {
        let flag = |name: &str, problem| ConfigError::key(name, Origin::Flag(format!("--{name}")), problem);
        if !(1..=MAX_VOTERS).contains(&local.nodes) {
            let problem = Problem::Bound { value: local.nodes as u64, least: 1, most: MAX_VOTERS as u64 };
            return Err(flag("nodes", problem));
        }
        let names = (1..=local.nodes).map(|number| format!("Org{number:02}").parse());
        let organisations: Vec<Name> =
            names.collect::<Result<_, _>>().map_err(|error| flag("nodes", Problem::Name(error)))?;
        let node = |organisation: &Name| RawNode {
            name: None,
            organisation: organisation.clone(),
            host: local_host(),
            roles: None,
            port: None,
        };
        let nodes = organisations.iter().map(node).collect();
        let file = NetworkFile {
            network: None,
            consensus: Some(local.consensus),
            synchronise: Synchronise::default(),
            organisations,
            nodes,
            users: Vec::new(),
        };
        file.check(local.base_port, |key, problem| {
            if key.starts_with("nodes") { flag("base-port", problem) } else { flag(key, problem) }
        })
    }

    /// Reads a network file. `consensus` and `base_port` are the flags': they hold where the file is
    /// silent on `port`, and `consensus` over the file.
    pub fn load(path: &Path, consensus: Option<ConsensusMode>, base_port: u16) -> Result<Self, ConfigError> {
        let file: NetworkFile = parse_yaml(path, &read_text(path, MAX_FILE_BYTES)?)?;
        let file = NetworkFile { consensus: consensus.or(file.consensus), ..file };
        file.check(base_port, |key, problem| ConfigError::key(key, Origin::File(path.to_owned()), problem))
    }
}

impl NetworkFile {
    fn check(self, base_port: u16, wrong: impl Fn(&str, Problem) -> ConfigError) -> Result<Network, ConfigError> {
        for (list, count) in [("organisations", self.organisations.len()), ("nodes", self.nodes.len())] {
            if !(1..=MAX_MEMBERS).contains(&count) {
                let problem = Problem::Bound { value: count as u64, least: 1, most: MAX_MEMBERS as u64 };
                return Err(wrong(list, problem));
            }
        }
        let name = match self.network {
            Some(name) => name,
            None => DEFAULT_NAME.parse().map_err(|error| wrong("network", Problem::Name(error)))?,
        };
        repeated("organisations", self.organisations.iter()).map_err(|key| wrong(&key, Problem::Twice))?;
        let check = Check { organisations: &self.organisations, wrong };
        let nodes = check.nodes(self.nodes, base_port)?;
        let users = match self.users {
            users if users.is_empty() => check.default_users(&nodes)?,
            users => check.users(users, &nodes)?,
        };
        Ok(Network {
            name,
            consensus: self.consensus.unwrap_or(ConsensusMode::Bft),
            synchronise: self.synchronise,
            organisations: self.organisations,
            nodes,
            users,
        })
    }
}

struct Check<'a, W> {
    organisations: &'a [Name],
    wrong: W,
}

impl<W: Fn(&str, Problem) -> ConfigError> Check<'_, W> {
    fn nodes(&self, raw: Vec<RawNode>, base_port: u16) -> Result<Vec<NetworkNode>, ConfigError> {
        let mut nodes = Vec::with_capacity(raw.len());
        for (at, node) in raw.into_iter().enumerate() {
            let key = |part: &str| format!("nodes.{at}.{part}");
            self.listed(&key("organisation"), &node.organisation)?;
            if !is_host(&node.host) {
                let problem = Problem::Wrong(format!("{:?} is neither a host name nor an IP address", node.host));
                return Err((self.wrong)(&key("host"), problem));
            }
            let port = node.port.map_or_else(|| nth_port(base_port, at), Some);
            let Some(port) = port.filter(|port| *port > 0 && port.checked_add(2).is_some()) else {
                let value = node.port.map_or(u64::from(base_port) + 10 * at as u64, u64::from);
                let problem = Problem::Bound { value, least: 1, most: u64::from(u16::MAX) - 2 };
                return Err((self.wrong)(&key("port"), problem));
            };
            let name = match node.name {
                Some(name) => name,
                None => {
                    format!("node{at}").parse().map_err(|error| (self.wrong)(&key("name"), Problem::Name(error)))?
                }
            };
            let roles = node.roles.unwrap_or_else(|| BTreeSet::from([NodeRole::Peer, NodeRole::Orderer]));
            nodes.push(NetworkNode { name, organisation: node.organisation, host: node.host, roles, port });
        }
        repeated("nodes", nodes.iter().map(|node| &node.name)).map_err(|key| (self.wrong)(&key, Problem::Twice))?;
        self.ports_apart(&nodes)?;
        Ok(nodes)
    }

    /// Two nodes of one host need three ports each.
    fn ports_apart(&self, nodes: &[NetworkNode]) -> Result<(), ConfigError> {
        let mut taken = BTreeSet::new();
        for (at, node) in nodes.iter().enumerate() {
            let host = if node.is_local() { "localhost" } else { node.host.as_str() };
            for port in [node.port, node.peers_port(), node.health_port()] {
                if !taken.insert((host, port)) {
                    return Err((self.wrong)(
                        &format!("nodes.{at}.port"),
                        Problem::SamePort { port, other: "another node of this host" },
                    ));
                }
            }
        }
        Ok(())
    }

    fn users(&self, raw: Vec<RawUser>, nodes: &[NetworkNode]) -> Result<Vec<NetworkUser>, ConfigError> {
        repeated("users", raw.iter().map(|user| &user.name)).map_err(|key| (self.wrong)(&key, Problem::Twice))?;
        let mut users = Vec::with_capacity(raw.len());
        for (at, user) in raw.into_iter().enumerate() {
            self.listed(&format!("users.{at}.organisation"), &user.organisation)?;
            let gateways = match user.gateways {
                None => nodes_of(&user.organisation, nodes),
                Some(names) => names.iter().map(|name| self.gateway(at, name, nodes)).collect::<Result<_, _>>()?,
            };
            users.push(NetworkUser { name: user.name, organisation: user.organisation, roles: user.roles, gateways });
        }
        self.governed(&users)?;
        Ok(users)
    }

    /// The policies ask for admins of a majority of organisations, so each needs one.
    fn governed(&self, users: &[NetworkUser]) -> Result<(), ConfigError> {
        let has_admin = |organisation: &Name| {
            users.iter().any(|user| user.organisation == *organisation && user.roles.contains(&Role::Admin))
        };
        match self.organisations.iter().find(|organisation| !has_admin(organisation)) {
            Some(organisation) => Err((self.wrong)("users", Problem::NoAdmin(organisation.clone()))),
            None => Ok(()),
        }
    }

    /// An admin an organisation, and one who may only submit, through any node.
    fn default_users(&self, nodes: &[NetworkNode]) -> Result<Vec<NetworkUser>, ConfigError> {
        let mut users = Vec::with_capacity(self.organisations.len() + 1);
        for (at, organisation) in self.organisations.iter().enumerate() {
            let name = if at == 0 { ADMIN.to_owned() } else { format!("{ADMIN}-{organisation}") };
            let gateways = nodes_of(organisation, nodes);
            users.push(self.default_user(name, organisation, BTreeSet::from(ADMIN_ROLES), gateways)?);
        }
        let submitter = BTreeSet::from([Role::Submitter]);
        if let Some(first) = self.organisations.first() {
            let mut gateways: Vec<usize> = (0..nodes.len()).collect();
            // Stable, so that its own organisation's nodes are asked first, then the others in order.
            gateways.sort_by_key(|at| nodes[*at].organisation != *first);
            users.push(self.default_user(TRADER.to_owned(), first, submitter, gateways)?);
        }
        Ok(users)
    }

    fn default_user(
        &self,
        name: String,
        organisation: &Name,
        roles: BTreeSet<Role>,
        gateways: Vec<usize>,
    ) -> Result<NetworkUser, ConfigError> {
        let name = name.parse().map_err(|error| (self.wrong)("users", Problem::Name(error)))?;
        Ok(NetworkUser { name, organisation: organisation.clone(), roles, gateways })
    }

    fn gateway(&self, at: usize, name: &Name, nodes: &[NetworkNode]) -> Result<usize, ConfigError> {
        nodes.iter().position(|node| node.name == *name).ok_or_else(|| {
            let problem = Problem::Unlisted { what: "the node", name: name.to_string() };
            (self.wrong)(&format!("users.{at}.gateways"), problem)
        })
    }

    fn listed(&self, key: &str, organisation: &Name) -> Result<(), ConfigError> {
        if self.organisations.contains(organisation) {
            return Ok(());
        }
        let problem = Problem::Unlisted { what: "the organisation", name: organisation.to_string() };
        Err((self.wrong)(key, problem))
    }
}

fn local_host() -> String {
    "127.0.0.1".to_owned()
}

fn nth_port(base_port: u16, at: usize) -> Option<u16> {
    PORT_STRIDE.checked_mul(u16::try_from(at).ok()?)?.checked_add(base_port)
}

fn nodes_of(organisation: &Name, nodes: &[NetworkNode]) -> Vec<usize> {
    (0..nodes.len()).filter(|at| nodes[*at].organisation == *organisation).collect()
}

/// The key of the first name that stands twice.
fn repeated<'a>(list: &str, names: impl Iterator<Item = &'a Name>) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    match names.into_iter().find(|name| !seen.insert(*name)) {
        Some(name) => Err(format!("{list}: {name}")),
        None => Ok(()),
    }
}

/// An IP address, or a DNS name as certificates take them (RFC 1123, 2.1).
fn is_host(host: &str) -> bool {
    let label = |label: &str| {
        let edges = label.starts_with(|c: char| c.is_ascii_alphanumeric())
            && label.ends_with(|c: char| c.is_ascii_alphanumeric());
        edges && label.len() <= 63 && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    host.parse::<IpAddr>().is_ok() || (host.len() <= 253 && host.split('.').all(label))
}

#[cfg(test)]
mod tests;

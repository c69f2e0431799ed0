//! The directories of nodes and users.

use minidlt_actors::journal;
use minidlt_config::{
    generate_key,
    network::{Network, NetworkNode, NetworkUser},
    user::{USER_FILE, UserFile},
};
use minidlt_protocol::{crypto::PublicKey, genesis::GenesisError, types::Identity};
use serde::Serialize;

use super::{
    InitError, P12_PASSWORD,
    certificates::{Authority, Purpose},
    directory::Staging,
};

/// Writes members' directories with the authorities' help.
pub struct Members<'a> {
    pub network: &'a Network,
    pub authorities: &'a [Authority],
    pub staging: &'a Staging,
}

/// What `init` writes of a node's file; what it leaves out has its default.
#[derive(Serialize)]
struct NodeConfig {
    identity: Identity,
    genesis: &'static str,
    key: &'static str,
    data_dir: &'static str,
    api_listen: String,
    peers_listen: String,
    health_listen: String,
    tls: TlsConfig,
    log_level: &'static str,
}

#[derive(Serialize)]
struct TlsConfig {
    certificate: &'static str,
    key: &'static str,
}

impl NodeConfig {
    fn new(node: &NetworkNode) -> Self {
        // A host name says where others find the node, not which of its interfaces to listen on.
        let interface = if node.is_local() { "127.0.0.1" } else { "0.0.0.0" };
        Self {
            identity: Identity::new(node.name.clone(), node.organisation.clone()),
            genesis: "../genesis.yaml",
            key: "node.key",
            data_dir: "data",
            api_listen: format!("{interface}:{}", node.port),
            peers_listen: format!("{interface}:{}", node.peers_port()),
            health_listen: format!("127.0.0.1:{}", node.health_port()),
            tls: TlsConfig { certificate: "tls.crt", key: "tls.key" },
            log_level: "info",
        }
    }
}

impl Members<'_> {
    /// Returns the nodes' public keys, in the network's order.
    pub fn write_nodes(&self) -> Result<Vec<PublicKey>, InitError> {
        self.network.nodes.iter().map(|node| self.write_node(node)).collect()
    }

    /// Returns the users' public keys, in the network's order.
    pub fn write_users(&self) -> Result<Vec<PublicKey>, InitError> {
        self.network.users.iter().map(|user| self.write_user(user)).collect()
    }

    fn write_node(&self, node: &NetworkNode) -> Result<PublicKey, InitError> {
        let at = node.name.as_str();
        let config = NodeConfig::new(node);
        self.staging.private_directory(at)?;
        self.staging.private_directory(&format!("{at}/{}", config.data_dir))?;
        // A node without it does not vote: it would not know whether it had before.
        for (file, nothing_signed) in journal::of_a_new_node()? {
            self.staging.private(&format!("{at}/{}/{file}", config.data_dir), &nothing_signed)?;
        }
        let head = "# Paths are relative to this file. All keys, defaults and bounds: config/README.md.\n";
        let text = [head, &serde_yaml::to_string(&config)?].concat();
        self.staging.public(&format!("{at}/{}", minidlt_config::NODE_FILE), text.as_bytes())?;
        let purpose = Purpose::Node { host: &node.host };
        self.write_member(at, config.key, &config.identity, &purpose)
    }

    fn write_user(&self, user: &NetworkUser) -> Result<PublicKey, InitError> {
        let at = format!("users/{}", user.name);
        let identity = Identity::new(user.name.clone(), user.organisation.clone());
        let file = UserFile::new(identity.clone(), self.urls(user));
        self.staging.private_directory(&at)?;
        let head = "# Paths are relative to this file. The password of tls.p12 is: minidlt\n";
        let text = [head, &serde_yaml::to_string(&file)?].concat();
        self.staging.public(&format!("{at}/{USER_FILE}"), text.as_bytes())?;
        self.write_member(&at, "user.key", &identity, &Purpose::User)
    }

    /// A user without gateways may still look: at any node.
    fn urls(&self, user: &NetworkUser) -> Vec<String> {
        let nodes = &self.network.nodes;
        let url = |node: &NetworkNode| format!("https://{}", node.at(node.port));
        let own: Vec<String> = user.gateways.iter().filter_map(|at| nodes.get(*at)).map(url).collect();
        if own.is_empty() { nodes.iter().map(url).collect() } else { own }
    }

    fn write_member(
        &self,
        at: &str,
        key_file: &str,
        identity: &Identity,
        purpose: &Purpose<'_>,
    ) -> Result<PublicKey, InitError> {
        let key = generate_key()?;
        self.staging.private(&format!("{at}/{key_file}"), &key.pem)?;
        let issued = self.authority(identity)?.issue(identity, purpose)?;
        self.staging.public(&format!("{at}/tls.crt"), &issued.certificate_pem()?)?;
        self.staging.private(&format!("{at}/tls.key"), &issued.key_pem()?)?;
        if let Purpose::User = purpose {
            let bundle = issued.pkcs12(&identity.to_string(), P12_PASSWORD)?;
            self.staging.private(&format!("{at}/tls.p12"), &bundle)?;
        }
        Ok(key.public_key)
    }

    fn authority(&self, member: &Identity) -> Result<&Authority, InitError> {
        let own = self.authorities.iter().find(|authority| *authority.organisation() == member.organisation);
        let missing = || GenesisError::Missing {
            list: "network",
            name: member.to_string(),
            what: "organisation",
            missing: member.organisation.to_string(),
        };
        own.ok_or_else(|| missing().into())
    }
}

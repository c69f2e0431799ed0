//! Block 0: who the members are at the start, and the rules they agreed on. The hash of its
//! encoding is the network's id.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    codec,
    crypto::{Domain, digest},
    limits::{MAX_GENESIS_BYTES, MAX_MEMBERS, MAX_POLICIES, MAX_VOTERS},
    registry::{Entry, Node, Organisation, Policy, PolicyEntry, PolicyError, Registry, Role, User},
    successor::{self, Predecessor, SuccessorError},
    sync::Synchronise,
    types::{Hash, Identity, Name, Timestamp},
    vote::ConsensusMode,
};

/// The content of block 0, as YAML in `genesis.yaml` and as CBOR in the hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Genesis {
    pub network: Name,
    pub created: Timestamp,
    pub consensus: ConsensusMode,
    pub timeouts: Timeouts,
    /// Who must match before a node takes part after a start.
    #[serde(default)]
    pub synchronise: Synchronise,
    pub organisations: Vec<Organisation>,
    pub nodes: Vec<Node>,
    pub users: Vec<User>,
    pub policies: std::collections::BTreeMap<Name, Policy>,
    /// Where this is the successor of another network: what it carries on. The lists above are then what is in there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predecessor: Option<Box<Predecessor>>,
}

/// How long a round waits, in milliseconds; each grows by `delta` a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timeouts {
    pub propose_ms: u64,
    pub vote_ms: u64,
    pub delta_ms: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { propose_ms: 1_000, vote_ms: 500, delta_ms: 250 }
    }
}

/// Longest first wait of a round, and longest growth a round, in milliseconds.
pub const MAX_TIMEOUT_MILLIS: u64 = 60_000;

/// What is wrong with a genesis.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GenesisError {
    #[error("{list}: empty, at least one is needed")]
    Empty { list: &'static str },
    #[error("{list}: {count} entries, at most {limit} are accepted")]
    TooMany { list: &'static str, count: usize, limit: usize },
    #[error("{list}: {name} stands twice")]
    Duplicate { list: &'static str, name: String },
    #[error("{list}: {name} and {other} have the same {what}")]
    Shared { list: &'static str, name: String, other: String, what: &'static str },
    #[error("{list}: {name} names {what} {missing}, which is not listed")]
    Missing { list: &'static str, name: String, what: &'static str, missing: String },
    #[error("nodes: none has the role 'orderer', so nobody could decide a block")]
    NoOrderer,
    #[error("organisations: {0} has no user with the role 'admin', so nobody could change its members")]
    NoAdmin(Name),
    #[error("policies: {name}: {reason}")]
    Policy { name: Name, reason: PolicyError },
    #[error("{size} bytes encoded, at most {MAX_GENESIS_BYTES} are accepted")]
    Oversized { size: usize },
    #[error("timeouts.{key}: {value} is not between {least} and {MAX_TIMEOUT_MILLIS}")]
    Timeout { key: &'static str, value: u64, least: u64 },
    #[error("predecessor: {0}")]
    Successor(#[from] Box<SuccessorError>),
}

impl Genesis {
    /// The network's id. Of a successor's signatures any that suffice do, so they are not in it.
    pub fn id(&self) -> Hash {
        let encoded = match &self.predecessor {
            None => codec::encode(self),
            Some(_) => codec::encode(&self.without_signatures()),
        };
        digest(Domain::Genesis, &Hash::ZERO, &[&encoded])
    }

    /// The registry as of block 0. Nobody is in that of a successor whose state cannot be read, which is refused when
    /// it is checked.
    pub fn registry(&self) -> Registry {
        if let Some(predecessor) = &self.predecessor {
            return predecessor.registry(self.consensus).unwrap_or_else(|_| Registry::new(self.consensus, []));
        }
        let organisations = self.organisations.iter().cloned().map(Entry::Organisation);
        let nodes = self.nodes.iter().cloned().map(Entry::Node);
        let users = self.users.iter().cloned().map(Entry::User);
        let policy = |policy: &Policy| PolicyEntry { policy: policy.clone(), revision: 0 };
        let policies = self.policies.iter().map(|(name, rule)| Entry::Policy(name.clone(), policy(rule)));
        Registry::new(self.consensus, organisations.chain(nodes).chain(users).chain(policies))
    }

    /// Checks all that can be checked without files. Certificates are checked where there is TLS.
    pub fn check(&self) -> Result<(), GenesisError> {
        let consent = |(predecessor, registry)| successor::check_consent(predecessor, &registry);
        self.check_all_but_consent()?.map_or(Ok(()), consent).map_err(Box::new)?;
        Ok(())
    }

    /// As [`Self::check`], but a successor need not have all the signatures that it needs; those that it has must hold.
    pub fn check_unsigned(&self) -> Result<(), GenesisError> {
        self.check_all_but_consent().map(|_| ())
    }

    /// Where this is a successor, whom its signatures are to be asked of.
    fn check_all_but_consent(&self) -> Result<Option<(&Predecessor, Registry)>, GenesisError> {
        let succession = match &self.predecessor {
            None => {
                self.check_members()?;
                None
            }
            // Its members came to be by the rules of governance.
            Some(predecessor) => Some((&**predecessor, self.check_successor(predecessor).map_err(Box::new)?)),
        };
        self.check_together()?;
        Ok(succession)
    }

    fn check_members(&self) -> Result<(), GenesisError> {
        size("organisations", self.organisations.len(), MAX_MEMBERS)?;
        size("nodes", self.nodes.len(), MAX_MEMBERS)?;
        size("users", self.users.len(), MAX_MEMBERS)?;
        unique("organisations", self.organisations.iter().map(|org| org.name.to_string()))?;
        let nodes = || self.nodes.iter().map(|node| node.identity().to_string());
        let users = || self.users.iter().map(|user| user.identity().to_string());
        unique("nodes", nodes())?;
        unique("users", users())?;
        // An endorser is looked up by identity alone.
        unique("nodes and users", nodes().chain(users()))?;
        self.check_references()?;
        self.check_sharing()
    }

    /// What all of it must be able to do.
    fn check_together(&self) -> Result<(), GenesisError> {
        let registry = self.registry();
        self.check_policies(&registry)?;
        let admin = |name: &&Name| registry.holders(name, Role::Admin.into()) > 0;
        if let Some(name) = registry.active_organisations().find(|name| !admin(name)) {
            return Err(GenesisError::NoAdmin(name.clone()));
        }
        match registry.orderers().as_slice().len() {
            0 => return Err(GenesisError::NoOrderer),
            count if count > MAX_VOTERS => {
                return Err(GenesisError::TooMany { list: "nodes with role orderer", count, limit: MAX_VOTERS });
            }
            _ => {}
        }
        let Timeouts { propose_ms, vote_ms, delta_ms } = self.timeouts;
        for (key, value, least) in [("propose_ms", propose_ms, 10), ("vote_ms", vote_ms, 10), ("delta_ms", delta_ms, 1)]
        {
            if !(least..=MAX_TIMEOUT_MILLIS).contains(&value) {
                return Err(GenesisError::Timeout { key, value, least });
            }
        }
        match codec::encode(self).len() {
            size if size > MAX_GENESIS_BYTES => Err(GenesisError::Oversized { size }),
            _ => Ok(()),
        }
    }

    fn check_policies(&self, registry: &Registry) -> Result<(), GenesisError> {
        if self.policies.len() > MAX_POLICIES {
            let (list, count, limit) = ("policies", self.policies.len(), MAX_POLICIES);
            return Err(GenesisError::TooMany { list, count, limit });
        }
        self.policies.iter().try_for_each(|(name, policy)| {
            policy
                .check(false)
                .and_then(|()| policy.check_meetable(registry))
                .map_err(|reason| GenesisError::Policy { name: name.clone(), reason })
        })
    }

    fn check_references(&self) -> Result<(), GenesisError> {
        let organisations: BTreeSet<&Name> = self.organisations.iter().map(|org| &org.name).collect();
        let nodes: BTreeSet<Identity> = self.nodes.iter().map(Node::identity).collect();
        let missing =
            |list, name: String, what, missing: String| Err(GenesisError::Missing { list, name, what, missing });
        for node in &self.nodes {
            if !organisations.contains(&node.organisation) {
                return missing("nodes", node.identity().to_string(), "organisation", node.organisation.to_string());
            }
        }
        for user in &self.users {
            if !organisations.contains(&user.organisation) {
                return missing("users", user.identity().to_string(), "organisation", user.organisation.to_string());
            }
            if let Some(gateway) = user.gateways.iter().find(|gateway| !nodes.contains(gateway)) {
                return missing("users", user.identity().to_string(), "gateway", gateway.to_string());
            }
        }
        Ok(())
    }

    /// No two members share a key, no two nodes an address: one vote each, and no signature that is
    /// both a node's and a user's.
    fn check_sharing(&self) -> Result<(), GenesisError> {
        let nodes = || self.nodes.iter();
        distinct("nodes", "public_key", nodes().map(|n| (n.public_key.to_string(), n.identity().to_string())))?;
        distinct("nodes", "address", nodes().map(|n| (n.address.clone(), n.identity().to_string())))?;
        let users = || self.users.iter().map(|u| (u.public_key.to_string(), u.identity().to_string()));
        distinct("users", "public_key", users())?;
        let nodes = nodes().map(|n| (n.public_key.to_string(), n.identity().to_string()));
        distinct("nodes and users", "public_key", nodes.chain(users()))
    }
}

fn size(list: &'static str, count: usize, limit: usize) -> Result<(), GenesisError> {
    match count {
        0 => Err(GenesisError::Empty { list }),
        count if count > limit => Err(GenesisError::TooMany { list, count, limit }),
        _ => Ok(()),
    }
}

fn unique(list: &'static str, names: impl Iterator<Item = String>) -> Result<(), GenesisError> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name.clone()) {
            return Err(GenesisError::Duplicate { list, name });
        }
    }
    Ok(())
}

fn distinct(
    list: &'static str,
    what: &'static str,
    pairs: impl Iterator<Item = (String, String)>,
) -> Result<(), GenesisError> {
    let mut seen = std::collections::BTreeMap::new();
    for (value, name) in pairs {
        if let Some(other) = seen.insert(value, name.clone()) {
            return Err(GenesisError::Shared { list, name: other, other: name, what });
        }
    }
    Ok(())
}

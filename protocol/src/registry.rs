//! The member registry: organisations, nodes, users, policies. It lives in the ledger's state and
//! is the same on every node; nothing else says who may do what.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    crypto::PublicKey,
    limits::MAX_POLICY_DEPTH,
    types::{Identity, Name},
    vote::{ConsensusMode, Voter, Voters},
};

/// What a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Admin,
    ContractInvoker,
    UserInvoker,
    NodeInvoker,
    PolicyInvoker,
    Submitter,
    Auditor,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Admin => "admin",
            Self::ContractInvoker => "contractinvoker",
            Self::UserInvoker => "userinvoker",
            Self::NodeInvoker => "nodeinvoker",
            Self::PolicyInvoker => "policyinvoker",
            Self::Submitter => "submitter",
            Self::Auditor => "auditor",
        })
    }
}

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeRole {
    /// Verifies, endorses, keeps the ledger.
    Peer,
    /// Votes and proposes.
    Orderer,
}

/// An organisation and the authorities whose certificates are its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Organisation {
    pub name: Name,
    /// Its certificate authority's certificate, PEM.
    pub ca: String,
    /// The one that it had before, believed too while members renew their certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former_ca: Option<String>,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    pub name: Name,
    pub organisation: Name,
    pub public_key: PublicKey,
    pub roles: BTreeSet<NodeRole>,
    /// Where its peers reach it: `host:port`.
    pub address: String,
}

impl Node {
    pub fn identity(&self) -> Identity {
        Identity::new(self.name.clone(), self.organisation.clone())
    }

    pub fn votes(&self) -> bool {
        self.roles.contains(&NodeRole::Orderer)
    }
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    pub name: Name,
    pub organisation: Name,
    pub public_key: PublicKey,
    pub roles: BTreeSet<Role>,
    /// The nodes it may submit through.
    pub gateways: BTreeSet<Identity>,
}

impl User {
    pub fn identity(&self) -> Identity {
        Identity::new(self.name.clone(), self.organisation.clone())
    }
}

/// A boolean expression over who endorsed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Policy {
    Any { any: Vec<Policy> },
    All { all: Vec<Policy> },
    AtLeast { at_least: usize, of: Vec<Policy> },
    Leaf { organisation: Name, role: Role },
}

/// What is wrong with a policy.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PolicyError {
    #[error("nested deeper than {MAX_POLICY_DEPTH} levels")]
    TooDeep,
    #[error("at_least {at_least} of {count}: it must be between 1 and the number of parts")]
    AtLeast { at_least: usize, count: usize },
    #[error("a list without parts, which would allow everything or nothing")]
    Empty,
}

impl Policy {
    /// The parts it is made of; none if it is a leaf.
    pub fn parts(&self) -> &[Self] {
        match self {
            Self::Any { any: parts } | Self::All { all: parts } | Self::AtLeast { of: parts, .. } => parts,
            Self::Leaf { .. } => &[],
        }
    }

    /// Refuses what is always or never met whoever endorses, and what is too deep to decode.
    pub fn check(&self) -> Result<(), PolicyError> {
        self.check_below(MAX_POLICY_DEPTH)
    }

    fn check_below(&self, levels: usize) -> Result<(), PolicyError> {
        let levels = levels.checked_sub(1).ok_or(PolicyError::TooDeep)?;
        let count = self.parts().len();
        match self {
            Self::AtLeast { at_least, .. } if !(1..=count).contains(at_least) => {
                return Err(PolicyError::AtLeast { at_least: *at_least, count });
            }
            Self::Any { .. } | Self::All { .. } if count == 0 => return Err(PolicyError::Empty),
            _ => {}
        }
        self.parts().iter().try_for_each(|part| part.check_below(levels))
    }
}

/// Everybody and everything enrolled, at one height.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registry {
    pub mode: ConsensusMode,
    pub organisations: BTreeMap<Name, Organisation>,
    pub nodes: BTreeMap<Identity, Node>,
    pub users: BTreeMap<Identity, User>,
    pub policies: BTreeMap<Name, Policy>,
}

impl Registry {
    /// A user in good standing.
    pub fn active_user(&self, identity: &Identity) -> Option<&User> {
        self.users.get(identity)
    }

    /// A node in good standing.
    pub fn active_node(&self, identity: &Identity) -> Option<&Node> {
        self.nodes.get(identity)
    }

    /// The public key of a node or user.
    pub fn key_of(&self, identity: &Identity) -> Option<PublicKey> {
        let user = || self.active_user(identity).map(|user| user.public_key);
        self.active_node(identity).map(|node| node.public_key).or_else(user)
    }

    /// The key of a node that votes.
    pub fn voter_key(&self, identity: &Identity) -> Option<PublicKey> {
        self.active_node(identity).filter(|node| node.votes()).map(|node| node.public_key)
    }

    /// The nodes that vote.
    pub fn voters(&self) -> Voters {
        let voters = self.nodes.values().filter(|node| node.votes());
        let voters = voters.map(|node| Voter { identity: node.identity(), key: node.public_key });
        Voters::new(self.mode, voters.collect())
    }
}

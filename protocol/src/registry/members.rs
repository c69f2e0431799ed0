//! Organisations, nodes and users: what the ledger knows of each.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

use crate::{
    crypto::PublicKey,
    types::{Identity, Name, Timestamp},
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

/// Whether a member may act. Nobody is ever forgotten: what it signed stays on the ledger, and its
/// name is never another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    #[default]
    Active,
    /// Not now; it can be active again.
    Suspended,
    /// Never again.
    Revoked,
}

impl Standing {
    pub fn is_active(&self) -> bool {
        *self == Self::Active
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Revoked => "revoked",
        })
    }
}

fn is_first(revision: &u64) -> bool {
    *revision == 0
}

/// An organisation and the authority whose certificates are its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Organisation {
    pub name: Name,
    /// Its certificate authority's certificate, PEM.
    pub ca: String,
    /// The one before, PEM, still believed until it is dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former_ca: Option<String>,
    /// Active, or revoked when it was removed.
    #[serde(default, skip_serializing_if = "Standing::is_active")]
    pub standing: Standing,
    /// How often it was changed. A change names the revision that it is of.
    #[serde(default, skip_serializing_if = "is_first")]
    pub revision: u64,
}

impl Organisation {
    pub fn new(name: Name, ca: String) -> Self {
        Self { name, ca, former_ca: None, standing: Standing::Active, revision: 0 }
    }
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    pub name: Name,
    pub organisation: Name,
    pub public_key: PublicKey,
    /// The key before, with which it may stamp messages for some time still: a node that is behind does
    /// not know the new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former_key: Option<FormerKey>,
    pub roles: BTreeSet<NodeRole>,
    /// Where its peers reach it: `host:port`.
    pub address: String,
    #[serde(default, skip_serializing_if = "Standing::is_active")]
    pub standing: Standing,
    /// How often it was changed. A change names the revision that it is of.
    #[serde(default, skip_serializing_if = "is_first")]
    pub revision: u64,
}

/// A key that was replaced, and until when it is still good for stamps. It is not for votes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FormerKey {
    pub public_key: PublicKey,
    pub until: Timestamp,
}

impl Node {
    pub fn new(identity: Identity, public_key: PublicKey, roles: BTreeSet<NodeRole>, address: String) -> Self {
        let Identity { name, organisation } = identity;
        Self {
            name,
            organisation,
            public_key,
            former_key: None,
            roles,
            address,
            standing: Standing::Active,
            revision: 0,
        }
    }

    pub fn identity(&self) -> Identity {
        Identity::new(self.name.clone(), self.organisation.clone())
    }

    /// In good standing and an orderer.
    pub fn votes(&self) -> bool {
        self.standing.is_active() && self.roles.contains(&NodeRole::Orderer)
    }

    /// The keys with which it may stamp a message at `now`, the current one first.
    pub fn stamp_keys(&self, now: Timestamp) -> impl Iterator<Item = &PublicKey> {
        let former = self.former_key.iter().filter(move |former| now <= former.until);
        std::iter::once(&self.public_key).chain(former.map(|former| &former.public_key))
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
    #[serde(default, skip_serializing_if = "Standing::is_active")]
    pub standing: Standing,
    /// How often it was changed. A change names the revision that it is of.
    #[serde(default, skip_serializing_if = "is_first")]
    pub revision: u64,
}

impl User {
    pub fn new(identity: Identity, public_key: PublicKey, roles: BTreeSet<Role>, gateways: BTreeSet<Identity>) -> Self {
        let Identity { name, organisation } = identity;
        Self { name, organisation, public_key, roles, gateways, standing: Standing::Active, revision: 0 }
    }

    pub fn identity(&self) -> Identity {
        Identity::new(self.name.clone(), self.organisation.clone())
    }
}

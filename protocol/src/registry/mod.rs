//! The member registry: organisations, nodes, users, policies, types of records, voters. It lives in the ledger's state, is
//! changed only by transactions, and is the same on every node; nothing else says who may do what.
//!
//! A [`Registry`] is the state's entries in memory, and what can be told from them alone. [`entries`] says
//! how they stand in the state.

mod entries;
mod members;
mod policy;
mod voters;

use std::{collections::BTreeMap, sync::Arc};

pub use self::{
    entries::{Entry, EntryKey, InvalidEntryKey},
    members::{FormerKey, Node, NodeRole, Organisation, Role, Standing, User},
    policy::{Case, Explanation, Policy, PolicyError, SignerRole, UnknownRole},
    voters::{IN_FORCE_AFTER, REMEMBERED, VoterEntry, VoterSet, VoterSets, in_force},
};
use crate::{
    crypto::PublicKey,
    record_type::RecordType,
    types::{Height, Identity, Name},
    vote::{ConsensusMode, Voter, Voters},
};
use serde::{Deserialize, Serialize};

/// A policy as it stands, and how often it was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyEntry {
    pub policy: Policy,
    pub revision: u64,
}

/// The policies that every network has; where genesis names none, [`default_policy`] is in force.
pub mod policies {
    /// Who becomes or ceases to be an orderer.
    pub const ORDERERS: &str = "orderers";
    /// Which organisations there are, and their CAs.
    pub const ORGANISATIONS: &str = "organisations";
    /// The policies, and the types of records.
    pub const POLICIES: &str = "policies";
    pub const ALL: [&str; 3] = [ORDERERS, ORGANISATIONS, POLICIES];
}

/// Admins of more than half of the organisations.
pub fn default_policy() -> Policy {
    Policy::Majority { majority: Role::Admin.into() }
}

/// Everybody and everything enrolled, as of one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registry {
    pub mode: ConsensusMode,
    pub organisations: BTreeMap<Name, Organisation>,
    pub nodes: BTreeMap<Identity, Node>,
    pub users: BTreeMap<Identity, User>,
    pub policies: BTreeMap<Name, PolicyEntry>,
    pub record_types: BTreeMap<Name, RecordType>,
    pub voter_sets: VoterSets,
    /// How many active members of an organisation have a role, where any.
    holders: BTreeMap<(Name, SignerRole), usize>,
    /// Whose key this is.
    keys: BTreeMap<PublicKey, Identity>,
    addresses: BTreeMap<String, Identity>,
}

impl Registry {
    /// A user in good standing.
    pub fn active_user(&self, identity: &Identity) -> Option<&User> {
        self.users.get(identity).filter(|user| user.standing.is_active())
    }

    /// A node in good standing.
    pub fn active_node(&self, identity: &Identity) -> Option<&Node> {
        self.nodes.get(identity).filter(|node| node.standing.is_active())
    }

    /// A node that others listen to while this height comes: one in good standing, or one that lost it and
    /// still votes there. Without its vote, that height might never be decided.
    pub fn heard_node(&self, identity: &Identity, height: Height) -> Option<&Node> {
        let votes = || self.voters_at(height).get(identity).is_some();
        self.nodes.get(identity).filter(|node| node.standing.is_active() || votes())
    }

    /// The public key of a node or user in good standing.
    pub fn key_of(&self, identity: &Identity) -> Option<PublicKey> {
        let user = || self.active_user(identity).map(|user| user.public_key);
        self.active_node(identity).map(|node| node.public_key).or_else(user)
    }

    /// Whether this is an organisation that was not removed.
    pub fn is_active(&self, organisation: &Name) -> bool {
        self.organisations.get(organisation).is_some_and(|organisation| organisation.standing.is_active())
    }

    pub fn active_organisations(&self) -> impl Iterator<Item = &Name> {
        self.organisations.values().filter(|one| one.standing.is_active()).map(|one| &one.name)
    }

    /// How many active members of an organisation have a role.
    pub fn holders(&self, organisation: &Name, role: SignerRole) -> usize {
        self.holders.get(&(organisation.clone(), role)).copied().unwrap_or_default()
    }

    /// Whether this member is active and has this role.
    pub fn has_role(&self, identity: &Identity, role: SignerRole) -> bool {
        match role {
            SignerRole::User(role) => self.active_user(identity).is_some_and(|user| user.roles.contains(&role)),
            SignerRole::Node(role) => self.active_node(identity).is_some_and(|node| node.roles.contains(&role)),
        }
    }

    /// Who has this key, also when revoked: nobody else may.
    pub fn owner_of_key(&self, key: &PublicKey) -> Option<&Identity> {
        self.keys.get(key)
    }

    pub fn node_at(&self, address: &str) -> Option<&Identity> {
        self.addresses.get(address)
    }

    /// A policy; of those that every network has, the default where none was set.
    pub fn policy(&self, name: &str) -> Option<Policy> {
        let set = name.parse::<Name>().ok().and_then(|name| self.policies.get(&name));
        let always = policies::ALL.contains(&name);
        set.map(|entry| entry.policy.clone()).or_else(|| always.then(default_policy))
    }

    /// The voters of a height. Those of the next two heights are known; for one further ahead it is those
    /// known last.
    pub fn voters_at(&self, height: Height) -> &Arc<Voters> {
        self.voter_sets.at(height)
    }

    /// The nodes that vote once what was changed is in force.
    pub fn orderers(&self) -> Voters {
        let voters = self.nodes.values().filter(|node| node.votes());
        let voters = voters.map(|node| Voter { identity: node.identity(), key: node.public_key });
        Voters::new(self.mode, voters.collect())
    }

    /// After block `height`: where other nodes vote now, or with other keys, those are the voters from
    /// [`IN_FORCE_AFTER`] on. Answers the entries that this writes and removes.
    pub fn follow_orderers(&mut self, height: Height) -> Vec<EntryKey> {
        let voters = self.orderers();
        if *self.voter_sets.last().voters.as_ref() == voters {
            return vec![];
        }
        let from = Height::new(height.get().saturating_add(IN_FORCE_AFTER));
        let forgotten = self.voter_sets.push(VoterSet { from, voters: Arc::new(voters) });
        let forgotten = forgotten.map(|set| EntryKey::Voters(set.from));
        forgotten.into_iter().chain([EntryKey::Voters(from)]).collect()
    }
}

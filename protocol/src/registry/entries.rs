//! How the registry stands in the ledger's state, entry by entry, and the one way to change it: an entry
//! is put in the place of the one before. What is counted and looked up beside follows.
//!
//! | key | value |
//! |---|---|
//! | `organisation/Org01` | [`Organisation`] |
//! | `node/node0@Org01` | [`Node`] |
//! | `user/trader@Org01` | [`User`] |
//! | `policy/orderers` | [`PolicyEntry`] |
//! | `record-type/trade` | [`RecordType`] |
//! | `voters/00000000000000000042` | who votes from height 42 on: a list of [`VoterEntry`] |

use std::{collections::BTreeMap, fmt, str::FromStr};

use thiserror::Error;

use super::{Node, Organisation, PolicyEntry, Registry, SignerRole, Standing, User, VoterEntry, VoterSet, VoterSets};
use crate::{
    codec::{self, CodecError},
    crypto::PublicKey,
    limits::{MAX_BULK_TRANSACTION_BYTES, MAX_GENESIS_BYTES},
    record_type::RecordType,
    types::{Height, Identity, Name},
    vote::ConsensusMode,
};

/// What an entry is of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryKey {
    Organisation(Name),
    Node(Identity),
    User(Identity),
    Policy(Name),
    RecordType(Name),
    /// By the first height in which they vote.
    Voters(Height),
}

impl fmt::Display for EntryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Organisation(name) => write!(f, "organisation/{name}"),
            Self::Node(identity) => write!(f, "node/{identity}"),
            Self::User(identity) => write!(f, "user/{identity}"),
            Self::Policy(name) => write!(f, "policy/{name}"),
            Self::RecordType(name) => write!(f, "record-type/{name}"),
            Self::Voters(from) => write!(f, "voters/{:020}", from.get()),
        }
    }
}

impl EntryKey {
    /// The key in the state.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.to_string().into_bytes()
    }

    /// What a key of the state is of; `None` where it is nothing of the registry.
    pub fn of_bytes(key: &[u8]) -> Option<Self> {
        std::str::from_utf8(key).ok()?.parse().ok()
    }

    /// A value of the state under this key, as JSON for people.
    pub fn readable(&self, value: &[u8]) -> Result<serde_json::Value, CodecError> {
        match self {
            // A schema is JSON within bytes.
            Self::RecordType(_) => {
                let found: RecordType = decode(value)?;
                serde_json::to_value(found).map_err(|error| CodecError::Shape(codec::clip(&error.to_string())))
            }
            // Nothing was ever written that is larger than a genesis.
            _ => codec::to_readable(value, MAX_GENESIS_BYTES),
        }
    }

    /// The name of all entries of its kind.
    pub fn collection(&self) -> &'static str {
        match self {
            Self::User(_) => "users",
            Self::Node(_) => "nodes",
            Self::Organisation(_) => "organisations",
            Self::Policy(_) => "policies",
            Self::RecordType(_) => "record-types",
            Self::Voters(_) => "voters",
        }
    }

    /// Its name among those of its kind.
    pub fn name(&self) -> String {
        self.to_string().split_once('/').map_or_else(String::new, |(_, name)| name.to_owned())
    }
}

/// Text that should have named an entry.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{0:?} names no entry; write user/NAME@ORGANISATION, node/NAME@ORGANISATION, organisation/NAME, policy/NAME, \
     record-type/NAME or voters/HEIGHT, the height with 20 digits"
)]
pub struct InvalidEntryKey(String);

impl FromStr for EntryKey {
    type Err = InvalidEntryKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let key = match text.split_once('/') {
            Some(("user", name)) => name.parse().ok().map(Self::User),
            Some(("node", name)) => name.parse().ok().map(Self::Node),
            Some(("organisation", name)) => name.parse().ok().map(Self::Organisation),
            Some(("policy", name)) => name.parse().ok().map(Self::Policy),
            Some(("record-type", name)) => name.parse().ok().map(Self::RecordType),
            Some(("voters", from)) if from.len() == 20 => from.parse().ok().map(Height::new).map(Self::Voters),
            _ => None,
        };
        key.ok_or_else(|| InvalidEntryKey(codec::clip(text)))
    }
}

/// A member, a policy or a type of records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    Organisation(Organisation),
    Node(Node),
    User(User),
    Policy(Name, PolicyEntry),
    RecordType(Name, RecordType),
}

impl Entry {
    pub fn key(&self) -> EntryKey {
        match self {
            Self::Organisation(organisation) => EntryKey::Organisation(organisation.name.clone()),
            Self::Node(node) => EntryKey::Node(node.identity()),
            Self::User(user) => EntryKey::User(user.identity()),
            Self::Policy(name, _) => EntryKey::Policy(name.clone()),
            Self::RecordType(name, _) => EntryKey::RecordType(name.clone()),
        }
    }

    /// Roles in which it may sign.
    fn held(&self) -> Vec<(Name, SignerRole)> {
        match self {
            Self::Node(node) if node.standing.is_active() => {
                node.roles.iter().map(|role| (node.organisation.clone(), (*role).into())).collect()
            }
            Self::User(user) if user.standing.is_active() => {
                user.roles.iter().map(|role| (user.organisation.clone(), (*role).into())).collect()
            }
            _ => vec![],
        }
    }

    fn key_and_owner(&self) -> Option<(PublicKey, Identity)> {
        match self {
            Self::Node(node) => Some((node.public_key, node.identity())),
            Self::User(user) => Some((user.public_key, user.identity())),
            Self::Organisation(_) | Self::Policy(..) | Self::RecordType(..) => None,
        }
    }
}

impl Registry {
    /// A registry of these entries, whose voters vote from genesis on.
    pub fn new(mode: ConsensusMode, entries: impl IntoIterator<Item = Entry>) -> Self {
        let none = VoterSet::of_entries(mode, Height::GENESIS, vec![]);
        let mut registry = Self {
            mode,
            organisations: BTreeMap::new(),
            nodes: BTreeMap::new(),
            users: BTreeMap::new(),
            policies: BTreeMap::new(),
            record_types: BTreeMap::new(),
            voter_sets: VoterSets::new(none),
            holders: BTreeMap::new(),
            keys: BTreeMap::new(),
            addresses: BTreeMap::new(),
        };
        for entry in entries {
            registry.put(entry);
        }
        let voters = registry.orderers().into();
        registry.voter_sets = VoterSets::new(VoterSet { from: Height::GENESIS, voters });
        registry
    }

    /// A registry read from the state, in any order of its keys. Others than the registry's are passed over.
    pub fn read(
        mode: ConsensusMode,
        entries: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>,
    ) -> Result<Self, CodecError> {
        let (mut members, mut sets) = (Vec::new(), BTreeMap::new());
        for (key, value) in entries {
            match EntryKey::of_bytes(&key) {
                Some(EntryKey::Organisation(_)) => members.push(Entry::Organisation(decode(&value)?)),
                Some(EntryKey::Node(_)) => members.push(Entry::Node(decode(&value)?)),
                Some(EntryKey::User(_)) => members.push(Entry::User(decode(&value)?)),
                Some(EntryKey::Policy(name)) => members.push(Entry::Policy(name, decode(&value)?)),
                Some(EntryKey::RecordType(name)) => members.push(Entry::RecordType(name, decode(&value)?)),
                Some(EntryKey::Voters(from)) => {
                    sets.insert(from, VoterSet::of_entries(mode, from, decode::<Vec<VoterEntry>>(&value)?));
                }
                None => {}
            }
        }
        let mut registry = Self::new(mode, members);
        let mut sets = sets.into_values();
        if let Some(oldest) = sets.next() {
            registry.voter_sets = VoterSets::new(oldest);
            sets.for_each(|set| {
                registry.voter_sets.push(set);
            });
        }
        Ok(registry)
    }

    /// Puts an entry in the place of the one before, which it answers.
    pub fn put(&mut self, entry: Entry) -> Option<Entry> {
        let before = self.take(&entry.key());
        for held in entry.held() {
            *self.holders.entry(held).or_default() += 1;
        }
        if let Some((key, owner)) = entry.key_and_owner() {
            self.keys.insert(key, owner);
        }
        match entry {
            Entry::Organisation(organisation) => {
                self.organisations.insert(organisation.name.clone(), organisation);
            }
            Entry::Node(node) => {
                // A revoked one's is free for who comes after it.
                if node.standing != Standing::Revoked {
                    self.addresses.insert(node.address.clone(), node.identity());
                }
                self.nodes.insert(node.identity(), node);
            }
            Entry::User(user) => {
                self.users.insert(user.identity(), user);
            }
            Entry::Policy(name, policy) => {
                self.policies.insert(name, policy);
            }
            Entry::RecordType(name, record_type) => {
                self.record_types.insert(name, record_type);
            }
        }
        before
    }

    /// Takes an entry away.
    pub fn take(&mut self, key: &EntryKey) -> Option<Entry> {
        let entry = match key {
            EntryKey::Organisation(name) => self.organisations.remove(name).map(Entry::Organisation),
            EntryKey::Node(identity) => self.nodes.remove(identity).map(Entry::Node),
            EntryKey::User(identity) => self.users.remove(identity).map(Entry::User),
            EntryKey::Policy(name) => self.policies.remove(name).map(|policy| Entry::Policy(name.clone(), policy)),
            EntryKey::RecordType(name) => {
                self.record_types.remove(name).map(|one| Entry::RecordType(name.clone(), one))
            }
            EntryKey::Voters(_) => None,
        }?;
        for held in entry.held() {
            if let Some(count) = self.holders.get_mut(&held) {
                *count -= 1;
                if *count == 0 {
                    self.holders.remove(&held);
                }
            }
        }
        if let Some((key, _)) = entry.key_and_owner() {
            self.keys.remove(&key);
        }
        if let Entry::Node(node) = &entry
            && self.addresses.get(&node.address) == Some(&node.identity())
        {
            self.addresses.remove(&node.address);
        }
        Some(entry)
    }

    /// An entry as it stands in the state; `None` where there is none.
    pub fn encoded(&self, key: &EntryKey) -> Option<Vec<u8>> {
        match key {
            EntryKey::Organisation(name) => self.organisations.get(name).map(codec::encode),
            EntryKey::Node(identity) => self.nodes.get(identity).map(codec::encode),
            EntryKey::User(identity) => self.users.get(identity).map(codec::encode),
            EntryKey::Policy(name) => self.policies.get(name).map(codec::encode),
            EntryKey::RecordType(name) => self.record_types.get(name).map(codec::encode),
            EntryKey::Voters(from) => {
                self.voter_sets.iter().find(|set| set.from == *from).map(|set| codec::encode(&set.entries()))
            }
        }
    }

    /// The keys of all its entries.
    pub fn keys(&self) -> impl Iterator<Item = EntryKey> {
        let organisations = self.organisations.keys().cloned().map(EntryKey::Organisation);
        let nodes = self.nodes.keys().cloned().map(EntryKey::Node);
        let users = self.users.keys().cloned().map(EntryKey::User);
        let policies = self.policies.keys().cloned().map(EntryKey::Policy);
        let record_types = self.record_types.keys().cloned().map(EntryKey::RecordType);
        let voters = self.voter_sets.iter().map(|set| EntryKey::Voters(set.from));
        organisations.chain(nodes).chain(users).chain(policies).chain(record_types).chain(voters)
    }
}

fn decode<T: serde::de::DeserializeOwned + serde::Serialize>(value: &[u8]) -> Result<T, CodecError> {
    codec::decode_canonical(value, MAX_BULK_TRANSACTION_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entrys_key_is_written_as_it_is_read() {
        let keys =
            ["user/trader@Org01", "node/node0@Org01", "organisation/Org01", "policy/orderers", "record-type/trade"];
        let names = ["trader@Org01", "node0@Org01", "Org01", "orderers", "trade"];
        for ((text, name), collection) in
            keys.into_iter().zip(names).zip(["users", "nodes", "organisations", "policies", "record-types"])
        {
            let key: EntryKey = text.parse().unwrap();
            assert_eq!((key.to_string().as_str(), key.name().as_str(), key.collection()), (text, name, collection));
        }
        for bad in [
            "",
            "user",
            "user/",
            "user/x",
            "users/x@y",
            "policy/a/b",
            "organisation/a@b",
            "evidence/x@y",
            "voters/1",
            "/x",
        ] {
            assert!(bad.parse::<EntryKey>().is_err(), "{bad}");
        }
    }
}

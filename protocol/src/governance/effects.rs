//! What each change does: the entries it puts in the place of others. Nothing is put that breaks what must
//! hold afterwards ([`super::invariants`]).

use std::collections::BTreeSet;

use super::{
    AddOrganisation, Change, ChangeNode, ChangeOrganisation, ChangeRefused, ChangeUser, EnrolNode, EnrolUser,
    RemoveOrganisation, SetPolicy, SetRecordType, invariants,
};
use crate::{
    crypto::PublicKey,
    record_type::{RecordType, Schema},
    registry::{Entry, EntryKey, FormerKey, Node, Organisation, PolicyEntry, Registry, Role, Standing, User},
    types::{Identity, Timestamp},
};

/// Makes a change in a block created at `created`, or leaves the registry as it was. Answers the keys of the
/// entries that are others now.
pub fn apply(change: &Change, registry: &mut Registry, created: Timestamp) -> Result<Vec<EntryKey>, ChangeRefused> {
    let entries = entries(change, registry, created)?;
    let keys: Vec<EntryKey> = entries.iter().map(Entry::key).collect();
    let before: Vec<Option<Entry>> = entries.into_iter().map(|entry| registry.put(entry)).collect();
    if let Err(broken) = invariants::check(registry, &keys, &before) {
        for (key, entry) in keys.iter().zip(before) {
            registry.take(key);
            entry.map(|entry| registry.put(entry));
        }
        return Err(broken);
    }
    Ok(keys)
}

fn entries(change: &Change, registry: &Registry, created: Timestamp) -> Result<Vec<Entry>, ChangeRefused> {
    Ok(match change {
        Change::EnrolUser(enrol) => vec![Entry::User(enrol_user(enrol, registry)?)],
        Change::ChangeUser(change) => vec![Entry::User(change_user(change, registry)?)],
        Change::EnrolNode(enrol) => vec![Entry::Node(enrol_node(enrol, registry)?)],
        Change::ChangeNode(change) => vec![Entry::Node(change_node(change, registry, created)?)],
        Change::AddOrganisation(add) => add_organisation(add, registry)?,
        Change::ChangeOrganisation(change) => vec![Entry::Organisation(change_organisation(change, registry)?)],
        Change::RemoveOrganisation(remove) => remove_organisation(remove, registry)?,
        Change::SetPolicy(set) => vec![set_policy(set, registry)?],
        Change::SetRecordType(set) => vec![set_record_type(set, registry)?],
    })
}

fn enrol_user(enrol: &EnrolUser, registry: &Registry) -> Result<User, ChangeRefused> {
    check_new_member(&enrol.user, &enrol.public_key, registry)?;
    check_user(&enrol.roles, &enrol.gateways, registry)?;
    Ok(User::new(enrol.user.clone(), enrol.public_key, enrol.roles.clone(), enrol.gateways.clone()))
}

fn change_user(change: &ChangeUser, registry: &Registry) -> Result<User, ChangeRefused> {
    let key = || EntryKey::User(change.user.clone());
    let before = registry.users.get(&change.user).ok_or_else(|| ChangeRefused::Missing(key()))?;
    check_changeable(key, before.standing, (change.revision, before.revision))?;
    let mut user = before.clone();
    if let Some(public_key) = change.public_key {
        check_key_is_free(&public_key, registry)?;
        user.public_key = public_key;
    }
    if let Some(roles) = &change.roles {
        user.roles.clone_from(roles);
    }
    if let Some(gateways) = &change.gateways {
        user.gateways.clone_from(gateways);
        check_gateways(gateways, registry)?;
    }
    user.standing = change.standing.unwrap_or(user.standing);
    if user.roles.is_empty() {
        return Err(ChangeRefused::NoRole);
    }
    if user == *before {
        return Err(ChangeRefused::Nothing(key()));
    }
    user.revision += 1;
    Ok(user)
}

fn enrol_node(enrol: &EnrolNode, registry: &Registry) -> Result<Node, ChangeRefused> {
    check_new_member(&enrol.node, &enrol.public_key, registry)?;
    check_address(&enrol.address, registry)?;
    if enrol.roles.is_empty() {
        return Err(ChangeRefused::NoRole);
    }
    Ok(Node::new(enrol.node.clone(), enrol.public_key, enrol.roles.clone(), enrol.address.clone()))
}

fn change_node(change: &ChangeNode, registry: &Registry, created: Timestamp) -> Result<Node, ChangeRefused> {
    let key = || EntryKey::Node(change.node.clone());
    let before = registry.nodes.get(&change.node).ok_or_else(|| ChangeRefused::Missing(key()))?;
    check_changeable(key, before.standing, (change.revision, before.revision))?;
    let mut node = before.clone();
    match (change.public_key, change.former_key) {
        (Some(public_key), former) => {
            check_key_is_free(&public_key, registry)?;
            if former.is_some_and(|former| former.until <= created) {
                return Err(ChangeRefused::FormerKey);
            }
            node.public_key = public_key;
            node.former_key = former.map(|former| FormerKey { public_key: before.public_key, until: former.until });
        }
        (None, Some(_)) => return Err(ChangeRefused::FormerKey),
        (None, None) => {}
    }
    if let Some(address) = change.address.as_ref().filter(|address| **address != before.address) {
        check_address(address, registry)?;
        node.address.clone_from(address);
    }
    if let Some(roles) = &change.roles {
        node.roles.clone_from(roles);
    }
    node.standing = change.standing.unwrap_or(node.standing);
    if node.roles.is_empty() {
        return Err(ChangeRefused::NoRole);
    }
    if node == *before {
        return Err(ChangeRefused::Nothing(key()));
    }
    node.revision += 1;
    Ok(node)
}

fn add_organisation(add: &AddOrganisation, registry: &Registry) -> Result<Vec<Entry>, ChangeRefused> {
    let organisation = Organisation::new(add.organisation.clone(), add.ca.clone());
    if registry.organisations.contains_key(&add.organisation) {
        return Err(ChangeRefused::Exists(EntryKey::Organisation(add.organisation.clone())));
    }
    let admin = Identity::new(add.admin.name.clone(), add.organisation.clone());
    check_key_is_free(&add.admin.public_key, registry)?;
    check_gateways(&add.admin.gateways, registry)?;
    let roles = add.admin.roles.iter().copied().chain([Role::Admin]).collect();
    let admin = User::new(admin, add.admin.public_key, roles, add.admin.gateways.clone());
    Ok(vec![Entry::Organisation(organisation), Entry::User(admin)])
}

fn change_organisation(change: &ChangeOrganisation, registry: &Registry) -> Result<Organisation, ChangeRefused> {
    let key = || EntryKey::Organisation(change.organisation.clone());
    let before = registry.organisations.get(&change.organisation).ok_or_else(|| ChangeRefused::Missing(key()))?;
    check_changeable(key, before.standing, (change.revision, before.revision))?;
    let mut organisation = before.clone();
    organisation.former_ca = None;
    if let Some(ca) = change.ca.as_ref().filter(|ca| **ca != before.ca) {
        organisation.former_ca = Some(std::mem::replace(&mut organisation.ca, ca.clone()));
    }
    if organisation == *before {
        return Err(ChangeRefused::Nothing(key()));
    }
    organisation.revision += 1;
    Ok(organisation)
}

fn remove_organisation(remove: &RemoveOrganisation, registry: &Registry) -> Result<Vec<Entry>, ChangeRefused> {
    let key = || EntryKey::Organisation(remove.organisation.clone());
    let before = registry.organisations.get(&remove.organisation).ok_or_else(|| ChangeRefused::Missing(key()))?;
    check_changeable(key, before.standing, (remove.revision, before.revision))?;
    let revoked = Standing::Revoked;
    let organisation = Organisation { standing: revoked, revision: before.revision + 1, ..before.clone() };
    let nodes = registry.nodes.values().filter(|node| node.organisation == remove.organisation);
    let nodes = nodes.filter(|node| node.standing != revoked);
    let nodes = nodes.map(|node| Node { standing: revoked, revision: node.revision + 1, ..node.clone() });
    let users = registry.users.values().filter(|user| user.organisation == remove.organisation);
    let users = users.filter(|user| user.standing != revoked);
    let users = users.map(|user| User { standing: revoked, revision: user.revision + 1, ..user.clone() });
    let members = nodes.map(Entry::Node).chain(users.map(Entry::User));
    Ok([Entry::Organisation(organisation)].into_iter().chain(members).collect())
}

fn set_policy(set: &SetPolicy, registry: &Registry) -> Result<Entry, ChangeRefused> {
    let key = || EntryKey::Policy(set.name.clone());
    let before = registry.policies.get(&set.name);
    let revision = match (set.revision, before) {
        (None, None) => 0,
        (None, Some(_)) => return Err(ChangeRefused::Exists(key())),
        (Some(_), None) => return Err(ChangeRefused::Missing(key())),
        (Some(named), Some(before)) => {
            check_changeable(key, Standing::Active, (named, before.revision))?;
            if before.policy == set.policy {
                return Err(ChangeRefused::Nothing(key()));
            }
            before.revision + 1
        }
    };
    Ok(Entry::Policy(set.name.clone(), PolicyEntry { policy: set.policy.clone(), revision }))
}

fn set_record_type(set: &SetRecordType, registry: &Registry) -> Result<Entry, ChangeRefused> {
    let key = || EntryKey::RecordType(set.name.clone());
    let before = registry.record_types.get(&set.name);
    let revision = match (set.revision, before) {
        (None, None) => 0,
        (None, Some(_)) => return Err(ChangeRefused::Exists(key())),
        (Some(_), None) => return Err(ChangeRefused::Missing(key())),
        (Some(named), Some(before)) => {
            check_changeable(key, before.standing, (named, before.revision))?;
            before.revision + 1
        }
    };
    // As it is where it stays the same: what all share is not compiled twice.
    let schema = match before.filter(|before| *before.schema.content() == set.schema) {
        Some(before) => before.schema.clone(),
        None => Schema::compile(&set.schema)?,
    };
    let (policy, standing) = (set.policy.clone(), set.standing.unwrap_or_default());
    let same = |before: &RecordType| (&before.schema, &before.policy, before.standing) == (&schema, &policy, standing);
    if before.is_some_and(same) {
        return Err(ChangeRefused::Nothing(key()));
    }
    Ok(Entry::RecordType(set.name.clone(), RecordType { schema, policy, standing, revision }))
}

fn check_changeable(
    key: impl Fn() -> EntryKey,
    standing: Standing,
    (named, found): (u64, u64),
) -> Result<(), ChangeRefused> {
    if standing == Standing::Revoked {
        return Err(ChangeRefused::Revoked(key()));
    }
    if named != found {
        return Err(ChangeRefused::Stale { key: key(), named, found });
    }
    Ok(())
}

/// An endorser is looked up by identity alone, so a node's name is not a user's either.
fn check_new_member(identity: &Identity, public_key: &PublicKey, registry: &Registry) -> Result<(), ChangeRefused> {
    if !registry.is_active(&identity.organisation) {
        return Err(ChangeRefused::Organisation(identity.organisation.clone()));
    }
    if registry.users.contains_key(identity) {
        return Err(ChangeRefused::Exists(EntryKey::User(identity.clone())));
    }
    if registry.nodes.contains_key(identity) {
        return Err(ChangeRefused::Exists(EntryKey::Node(identity.clone())));
    }
    check_key_is_free(public_key, registry)
}

fn check_key_is_free(public_key: &PublicKey, registry: &Registry) -> Result<(), ChangeRefused> {
    registry.owner_of_key(public_key).map_or(Ok(()), |owner| Err(ChangeRefused::KeyTaken(owner.clone())))
}

fn check_user(roles: &BTreeSet<Role>, gateways: &BTreeSet<Identity>, registry: &Registry) -> Result<(), ChangeRefused> {
    if roles.is_empty() {
        return Err(ChangeRefused::NoRole);
    }
    check_gateways(gateways, registry)
}

fn check_gateways(gateways: &BTreeSet<Identity>, registry: &Registry) -> Result<(), ChangeRefused> {
    let unknown = gateways.iter().find(|gateway| registry.active_node(gateway).is_none());
    unknown.map_or(Ok(()), |gateway| Err(ChangeRefused::Gateway(gateway.clone())))
}

fn check_address(address: &str, registry: &Registry) -> Result<(), ChangeRefused> {
    let port = |(host, port): (&str, &str)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0);
    if address.len() > MAX_ADDRESS_BYTES || !address.rsplit_once(':').is_some_and(port) {
        return Err(ChangeRefused::Address(crate::codec::clip(address)));
    }
    match registry.node_at(address) {
        Some(owner) => Err(ChangeRefused::AddressTaken { address: address.to_owned(), owner: owner.clone() }),
        None => Ok(()),
    }
}

/// The longest host name (RFC 1035, 2.3.4) and a port.
const MAX_ADDRESS_BYTES: usize = 255 + 6;

//! What holds after every change: each organisation has an admin who can act, somebody votes, every policy
//! can be met, and nothing is more than its bound. Only what a change touched is looked at, so that a change
//! costs about the same in a large network.

use super::ChangeRefused;
use crate::{
    limits::{
        MAX_MEMBERS, MAX_NODES_AN_ORGANISATION, MAX_POLICIES, MAX_RECORD_TYPES, MAX_USERS_AN_ORGANISATION, MAX_VOTERS,
    },
    registry::{Entry, EntryKey, Node, Registry, Role, policies},
    types::Name,
};

/// Checks a registry in which the entries of `keys` were put in the place of those `before`.
pub fn check(registry: &Registry, keys: &[EntryKey], before: &[Option<Entry>]) -> Result<(), ChangeRefused> {
    bounds(registry)?;
    for key in keys {
        match key {
            EntryKey::User(user) => {
                admin_left(registry, &user.organisation)?;
                let of_it = registry.users.keys().filter(|other| other.organisation == user.organisation).count();
                at_most("users of this organisation", of_it, MAX_USERS_AN_ORGANISATION)?;
            }
            EntryKey::Organisation(name) => admin_left(registry, name)?,
            EntryKey::Policy(name) => policy(registry, name.as_str())?,
            EntryKey::RecordType(name) => record_type(registry, name)?,
            EntryKey::Node(node) => {
                let of_it = registry.nodes.keys().filter(|other| other.organisation == node.organisation).count();
                at_most("nodes of this organisation", of_it, MAX_NODES_AN_ORGANISATION)?;
            }
            EntryKey::Voters(_) => {}
        }
    }
    let orderers = before.iter().flatten().any(|entry| matches!(entry, Entry::Node(node) if node.votes()));
    if orderers && registry.orderers().as_slice().is_empty() {
        return Err(ChangeRefused::NoOrderer);
    }
    if keys.iter().zip(before).any(|(key, before)| may_lack(key, before.as_ref())) {
        let all = registry.policies.keys().map(Name::as_str).chain(policies::ALL);
        all.into_iter().try_for_each(|name| policy(registry, name))?;
        registry.record_types.keys().try_for_each(|name| record_type(registry, name))?;
    }
    Ok(())
}

/// Whether somebody may be gone, or be outvoted, whom a policy needs.
fn may_lack(key: &EntryKey, before: Option<&Entry>) -> bool {
    match key {
        EntryKey::Organisation(_) => true,
        EntryKey::User(_) | EntryKey::Node(_) => before.is_some(),
        EntryKey::Policy(_) | EntryKey::RecordType(_) | EntryKey::Voters(_) => false,
    }
}

fn bounds(registry: &Registry) -> Result<(), ChangeRefused> {
    let counts = [
        ("organisations", registry.organisations.len(), MAX_MEMBERS),
        ("nodes", registry.nodes.len(), MAX_MEMBERS),
        ("users", registry.users.len(), MAX_MEMBERS),
        ("policies", registry.policies.len(), MAX_POLICIES),
        ("record types", registry.record_types.len(), MAX_RECORD_TYPES),
        ("orderers", registry.nodes.values().filter(|node| Node::votes(node)).count(), MAX_VOTERS),
    ];
    counts.into_iter().try_for_each(|(what, count, limit)| at_most(what, count, limit))
}

fn at_most(what: &'static str, count: usize, limit: usize) -> Result<(), ChangeRefused> {
    if count > limit { Err(ChangeRefused::TooMany { what, count, limit }) } else { Ok(()) }
}

fn admin_left(registry: &Registry, organisation: &Name) -> Result<(), ChangeRefused> {
    if registry.is_active(organisation) && registry.holders(organisation, Role::Admin.into()) == 0 {
        return Err(ChangeRefused::NoAdmin(organisation.clone()));
    }
    Ok(())
}

fn policy(registry: &Registry, name: &str) -> Result<(), ChangeRefused> {
    let Some((name, policy)) = name.parse::<Name>().ok().zip(registry.policy(name)) else { return Ok(()) };
    let checked = policy.check(false).and_then(|()| policy.check_meetable(registry));
    checked.map_err(|reason| ChangeRefused::BadPolicy { name, reason })
}

/// A type of which no record is taken needs nobody: else one given up long ago would hold everybody in place.
fn record_type(registry: &Registry, name: &Name) -> Result<(), ChangeRefused> {
    let found = registry.record_types.get(name).and_then(|one| Some((one.policy.as_ref()?, one.standing)));
    let Some((policy, standing)) = found else { return Ok(()) };
    let meetable = || if standing.is_active() { policy.check_meetable(registry) } else { Ok(()) };
    let checked = policy.check(true).and_then(|()| meetable());
    checked.map_err(|reason| ChangeRefused::BadTypePolicy { name: name.clone(), reason })
}

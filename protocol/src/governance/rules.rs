//! Who may make which change: one table, and the function that reads it.

use std::collections::BTreeSet;

use super::{Change, ChangeNode, ChangeRefused, ChangeUser, EnrolNode, EnrolUser};
use crate::{
    registry::{Case, Explanation, Node, NodeRole, Registry, Role, policies},
    types::{Identity, Name},
};

/// Who may author a kind of operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// As in the transaction's operation.
    pub operation: &'static str,
    /// One of these is needed; none where anybody may, a node too.
    pub roles: &'static [Role],
    /// Of the organisation of whom it is about.
    pub same_organisation: bool,
    pub endorsed_by: &'static str,
}

const USERS: &[Role] = &[Role::UserInvoker, Role::Admin];
const ADMIN: &[Role] = &[Role::Admin];
const NODES: &[Role] = &[Role::NodeInvoker];
const POLICIES: &[Role] = &[Role::PolicyInvoker];
const ADMINS_ALONE: &str =
    "nobody; where the user has or gets another role than `submitter` and `auditor`, its author is an admin";
const RECORDS: &str = "nobody; a record of a type: the type's policy, if it has one";
const ORDERERS: &str = "policy `orderers`, where the node becomes or ceases to be an active orderer";

/// The authors of every operation.
pub const RULES: &[Rule] = &[
    Rule { operation: "record", roles: &[Role::Submitter], same_organisation: false, endorsed_by: RECORDS },
    Rule { operation: "evidence", roles: &[], same_organisation: false, endorsed_by: "nobody" },
    Rule { operation: "enrol_user", roles: USERS, same_organisation: true, endorsed_by: ADMINS_ALONE },
    Rule { operation: "change_user", roles: USERS, same_organisation: true, endorsed_by: ADMINS_ALONE },
    Rule { operation: "enrol_node", roles: NODES, same_organisation: true, endorsed_by: ORDERERS },
    Rule { operation: "change_node", roles: NODES, same_organisation: true, endorsed_by: ORDERERS },
    Rule {
        operation: "add_organisation",
        roles: ADMIN,
        same_organisation: false,
        endorsed_by: "policy `organisations`",
    },
    Rule {
        operation: "change_organisation",
        roles: ADMIN,
        same_organisation: true,
        endorsed_by: "policy `organisations`",
    },
    Rule {
        operation: "remove_organisation",
        roles: ADMIN,
        same_organisation: false,
        endorsed_by: "policy `organisations`, and `orderers` where it has an active orderer",
    },
    Rule { operation: "set_policy", roles: POLICIES, same_organisation: false, endorsed_by: "policy `policies`" },
    Rule { operation: "set_record_type", roles: POLICIES, same_organisation: false, endorsed_by: "policy `policies`" },
];

impl Change {
    /// As in [`RULES`] and in JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::EnrolUser(_) => "enrol_user",
            Self::ChangeUser(_) => "change_user",
            Self::EnrolNode(_) => "enrol_node",
            Self::ChangeNode(_) => "change_node",
            Self::AddOrganisation(_) => "add_organisation",
            Self::ChangeOrganisation(_) => "change_organisation",
            Self::RemoveOrganisation(_) => "remove_organisation",
            Self::SetPolicy(_) => "set_policy",
            Self::SetRecordType(_) => "set_record_type",
        }
    }

    /// One of these is needed.
    pub fn roles(&self) -> &'static [Role] {
        RULES.iter().find(|rule| rule.operation == self.name()).map_or(ADMIN, |rule| rule.roles)
    }

    /// Whose members alone may make it, if not all may.
    fn organisation(&self) -> Option<&Name> {
        match self {
            Self::EnrolUser(EnrolUser { user, .. }) | Self::ChangeUser(ChangeUser { user, .. }) => {
                Some(&user.organisation)
            }
            Self::EnrolNode(EnrolNode { node, .. }) | Self::ChangeNode(ChangeNode { node, .. }) => {
                Some(&node.organisation)
            }
            Self::ChangeOrganisation(change) => Some(&change.organisation),
            Self::AddOrganisation(_) | Self::RemoveOrganisation(_) | Self::SetPolicy(_) | Self::SetRecordType(_) => {
                None
            }
        }
    }

    /// Whether only an admin may make it: the keys and roles of those who govern are an organisation's power,
    /// and who may enrol users could take it.
    fn is_about_power(&self, registry: &Registry) -> bool {
        let power = |roles: &BTreeSet<Role>| roles.iter().any(|role| !matches!(role, Role::Submitter | Role::Auditor));
        match self {
            Self::EnrolUser(enrol) => power(&enrol.roles),
            Self::ChangeUser(change) => {
                let has = registry.users.get(&change.user).is_some_and(|user| power(&user.roles));
                has || change.roles.as_ref().is_some_and(power)
            }
            _ => false,
        }
    }

    /// The policies it needs.
    pub fn policies(&self, registry: &Registry) -> Vec<&'static str> {
        match self {
            Self::EnrolUser(_) | Self::ChangeUser(_) => vec![],
            Self::EnrolNode(enrol) if enrol.roles.contains(&NodeRole::Orderer) => vec![policies::ORDERERS],
            Self::EnrolNode(_) => vec![],
            Self::ChangeNode(change) => {
                let votes = registry.nodes.get(&change.node).is_some_and(Node::votes);
                let would = registry.nodes.get(&change.node).is_some_and(|node| {
                    let roles = change.roles.as_ref().unwrap_or(&node.roles);
                    roles.contains(&NodeRole::Orderer) && change.standing.unwrap_or(node.standing).is_active()
                });
                if votes == would { vec![] } else { vec![policies::ORDERERS] }
            }
            Self::AddOrganisation(_) | Self::ChangeOrganisation(_) => vec![policies::ORGANISATIONS],
            Self::RemoveOrganisation(remove) => {
                let votes = |node: &Node| node.organisation == remove.organisation && node.votes();
                let orderers = registry.nodes.values().any(votes).then_some(policies::ORDERERS);
                [policies::ORGANISATIONS].into_iter().chain(orderers).collect()
            }
            Self::SetPolicy(_) | Self::SetRecordType(_) => vec![policies::POLICIES],
        }
    }
}

/// Whether these signers, the author first, may make a change of this registry.
pub fn permit(change: &Change, signers: &[Identity], registry: &Registry) -> Result<(), ChangeRefused> {
    let author = signers.first().and_then(|author| registry.active_user(author));
    let Some(author) = author else {
        let unknown = signers.first().cloned();
        return Err(unknown.map_or(ChangeRefused::NoRole, ChangeRefused::Author));
    };
    let roles = if change.is_about_power(registry) { ADMIN } else { change.roles() };
    if !roles.iter().any(|role| author.roles.contains(role)) {
        return Err(ChangeRefused::Role { author: author.identity(), roles });
    }
    if let Some(organisation) = change.organisation().filter(|name| **name != author.organisation) {
        return Err(ChangeRefused::OtherOrganisation { author: author.identity(), organisation: organisation.clone() });
    }
    for (name, explanation) in explain(change, signers, registry) {
        if !explanation.met {
            return Err(ChangeRefused::Policy { name, missing: explanation.missing() });
        }
    }
    Ok(())
}

/// What of each policy that a change needs is met by these signers.
pub fn explain(change: &Change, signers: &[Identity], registry: &Registry) -> Vec<(&'static str, Explanation)> {
    let case = Case { registry, signers, contents: &[] };
    let needed = change.policies(registry).into_iter();
    needed.filter_map(|name| Some((name, registry.policy(name)?.explain(&case)))).collect()
}

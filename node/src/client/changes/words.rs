//! What a change did, in words.

use std::fmt;

use minidlt_protocol::{
    governance::{
        AddOrganisation, Change, ChangeNode, ChangeOrganisation, ChangeUser, RemoveOrganisation, SetRecordType,
    },
    registry::Standing,
    transaction::Operation,
};

/// Whom it is about, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    pub whom: String,
    pub what: &'static str,
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.whom, self.what)
    }
}

impl From<&Operation> for Done {
    fn from(operation: &Operation) -> Self {
        match operation {
            Operation::Change(change) => change.as_ref().into(),
            Operation::Record { .. } => Self { whom: "the record".into(), what: "kept" },
            Operation::Evidence(_) => Self { whom: "the evidence".into(), what: "kept" },
        }
    }
}

impl From<&Change> for Done {
    fn from(change: &Change) -> Self {
        let (whom, what) = match change {
            Change::EnrolUser(enrol) => (format!("user {}", enrol.user), "enrolled"),
            Change::ChangeUser(change @ ChangeUser { user, public_key, .. }) => {
                (format!("user {user}"), changed(change.standing, public_key.is_some()))
            }
            Change::EnrolNode(enrol) => (format!("node {}", enrol.node), "enrolled"),
            Change::ChangeNode(change @ ChangeNode { node, public_key, .. }) => {
                (format!("node {node}"), changed(change.standing, public_key.is_some()))
            }
            Change::AddOrganisation(AddOrganisation { organisation, .. }) => {
                (format!("organisation {organisation}"), "added")
            }
            Change::ChangeOrganisation(ChangeOrganisation { organisation, ca, .. }) => {
                let what = if ca.is_some() { "given another CA" } else { "rid of its former CA" };
                (format!("organisation {organisation}"), what)
            }
            Change::RemoveOrganisation(RemoveOrganisation { organisation, .. }) => {
                (format!("organisation {organisation}"), "removed")
            }
            Change::SetPolicy(set) => (format!("policy {}", set.name), "set"),
            Change::SetRecordType(SetRecordType { name, standing, .. }) => {
                let what = match standing {
                    Some(Standing::Suspended) => "suspended",
                    Some(Standing::Revoked) => "revoked",
                    Some(Standing::Active) => "resumed",
                    None => "set",
                };
                (format!("record type {name}"), what)
            }
        };
        Self { whom, what }
    }
}

fn changed(standing: Option<Standing>, has_new_key: bool) -> &'static str {
    match standing {
        Some(Standing::Active) => "resumed",
        Some(Standing::Suspended) => "suspended",
        Some(Standing::Revoked) => "revoked",
        None if has_new_key => "given another key",
        None => "changed",
    }
}

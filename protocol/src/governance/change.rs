//! What a change says. In JSON: `{"change": {"enrol_user": {…}}}`.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    crypto::PublicKey,
    registry::{NodeRole, Policy, Role, Standing},
    transaction::Content,
    types::{Identity, Name, Timestamp},
};

/// One change of the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Change {
    EnrolUser(EnrolUser),
    ChangeUser(ChangeUser),
    EnrolNode(EnrolNode),
    ChangeNode(ChangeNode),
    AddOrganisation(AddOrganisation),
    ChangeOrganisation(ChangeOrganisation),
    RemoveOrganisation(RemoveOrganisation),
    SetPolicy(SetPolicy),
    SetRecordType(SetRecordType),
}

/// A new user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolUser {
    pub user: Identity,
    pub public_key: PublicKey,
    pub roles: BTreeSet<Role>,
    pub gateways: BTreeSet<Identity>,
}

/// What is left out stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeUser {
    pub user: Identity,
    /// That of the user now; it is one more afterwards.
    pub revision: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<PublicKey>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<BTreeSet<Role>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateways: Option<BTreeSet<Identity>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standing: Option<Standing>,
}

/// A new node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolNode {
    pub node: Identity,
    pub public_key: PublicKey,
    pub roles: BTreeSet<NodeRole>,
    pub address: String,
}

/// What is left out stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeNode {
    pub node: Identity,
    /// That of the node now; it is one more afterwards.
    pub revision: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<PublicKey>,
    /// With a new key: what becomes of the one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former_key: Option<FormerKeyFor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<BTreeSet<NodeRole>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standing: Option<Standing>,
}

/// How long a replaced key is still good for stamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FormerKeyFor {
    pub until: Timestamp,
}

/// A new organisation with its first admin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddOrganisation {
    pub organisation: Name,
    /// Its CA's certificate, PEM.
    pub ca: String,
    pub admin: FirstAdmin,
}

/// An organisation's first admin. Its gateways may be other organisations' nodes, until it has its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirstAdmin {
    pub name: Name,
    pub public_key: PublicKey,
    /// Besides `admin`.
    pub roles: BTreeSet<Role>,
    pub gateways: BTreeSet<Identity>,
}

/// Another CA: the one before is believed, too, until it is dropped by a further change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeOrganisation {
    pub organisation: Name,
    pub revision: u64,
    /// The new CA's certificate, PEM; left out, the former one is dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

/// Its members are revoked with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveOrganisation {
    pub organisation: Name,
    pub revision: u64,
}

/// A new policy, or another rule for one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetPolicy {
    pub name: Name,
    /// That of the policy now; left out where it was never set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    pub policy: Policy,
}

/// A new type of records, or all of one anew: what is left out is not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetRecordType {
    pub name: Name,
    /// That of the type now; left out where it is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// JSON Schema of 2020-12, less what [`crate::record_type`] leaves out.
    pub schema: Content,
    /// Who has to sign a record of it; left out, its author alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// Left out, it is active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standing: Option<Standing>,
}

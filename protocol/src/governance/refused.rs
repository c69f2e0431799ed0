//! Why a change was not made.

use thiserror::Error;

use crate::{
    record_type::SchemaError,
    registry::{EntryKey, PolicyError, Role},
    types::{Identity, Name},
};

/// Why a change was not made. In a block these words are the reason of the result, which all nodes certify.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ChangeRefused {
    #[error("{0} is not a user in good standing")]
    Author(Identity),
    #[error("{author} has none of the roles that this needs: {}", list(roles))]
    Role { author: Identity, roles: &'static [Role] },
    #[error("{author} is of another organisation: only members of {organisation} may do this")]
    OtherOrganisation { author: Identity, organisation: Name },
    #[error("policy '{name}' is not met; missing: {missing}. Have it endorsed and submit it with the endorsements")]
    Policy { name: &'static str, missing: String },
    #[error("{0} is there already; a name is never given twice, not even after a revocation")]
    Exists(EntryKey),
    #[error("{0} is not there")]
    Missing(EntryKey),
    #[error("{key} has revision {found} by now, this is a change of revision {named}; look at it and sign anew")]
    Stale { key: EntryKey, named: u64, found: u64 },
    #[error("{0} is revoked, which is for ever; enrol another")]
    Revoked(EntryKey),
    #[error("it changes nothing of {0}")]
    Nothing(EntryKey),
    #[error("organisation {0} is not of this network")]
    Organisation(Name),
    #[error("gateway {0} is not a node in good standing")]
    Gateway(Identity),
    #[error("this public key is {0}'s; each member has its own")]
    KeyTaken(Identity),
    #[error("{address} is {owner}'s address")]
    AddressTaken { address: String, owner: Identity },
    #[error("{0:?} is no address: it reads host:port")]
    Address(String),
    #[error("a user needs a role, a node too")]
    NoRole,
    #[error("'former_key' goes with a new public key, and ends later than this block")]
    FormerKey,
    #[error("{0} would be left without an admin who is active; enrol another first")]
    NoAdmin(Name),
    #[error("nobody could decide a block any more: no node would be an active orderer")]
    NoOrderer,
    #[error("{count} {what}, at most {limit} are possible")]
    TooMany { what: &'static str, count: usize, limit: usize },
    #[error("policy '{name}': {reason}")]
    BadPolicy { name: Name, reason: PolicyError },
    #[error("the policy of record type '{name}': {reason}")]
    BadTypePolicy { name: Name, reason: PolicyError },
    #[error("the schema: {0}")]
    Schema(#[from] SchemaError),
}

fn list(roles: &[Role]) -> String {
    roles.iter().map(|role| format!("'{role}'")).collect::<Vec<_>>().join(", ")
}

impl ChangeRefused {
    /// A stable name for problem types and counters.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Author(_) => "author-standing",
            Self::Role { .. } => "role-missing",
            Self::OtherOrganisation { .. } => "other-organisation",
            Self::Policy { .. } => "policy-not-met",
            Self::Exists(_) => "already-there",
            Self::Missing(_) => "not-there",
            Self::Stale { .. } => "stale-revision",
            Self::Revoked(_) => "revoked",
            Self::Nothing(_) => "no-change",
            Self::Organisation(_) => "unknown-organisation",
            Self::Gateway(_) => "unknown-gateway",
            Self::KeyTaken(_) => "key-taken",
            Self::AddressTaken { .. } => "address-taken",
            Self::Address(_) => "bad-address",
            Self::NoRole => "no-role",
            Self::FormerKey => "bad-former-key",
            Self::NoAdmin(_) => "no-admin-left",
            Self::NoOrderer => "no-orderer-left",
            Self::TooMany { .. } => "too-many",
            Self::BadPolicy { .. } | Self::BadTypePolicy { .. } => "bad-policy",
            Self::Schema(_) => "bad-schema",
        }
    }
}

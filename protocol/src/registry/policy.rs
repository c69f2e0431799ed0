//! Policies: boolean expressions over who signed a transaction, its author and its endorsers.
//!
//! | expression | is met when |
//! |---|---|
//! | `{organisation: Org01, role: admin}` | somebody of that organisation, of that role, signed |
//! | `{majority: admin}` | somebody of that role signed in more than half of the organisations there are |
//! | `{organisation_in: /seller, role: peer}` | each record names an organisation at this place (RFC 6901), and somebody of that role signed there; for record types alone |
//! | `{any: […]}`, `{all: […]}`, `{at_least: n, of: […]}` | so many of its parts are met |
//!
//! A role is a user's, or a node's (`peer`, `orderer`). A policy is kept on the ledger only while it can be
//! met: each part that it needs has somebody who could sign.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use thiserror::Error;

use super::{NodeRole, Registry, Role};
use crate::{
    limits::{MAX_NAMED_PARTS, MAX_POLICY_DEPTH},
    types::{Identity, Name},
};

/// A user's role or a node's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SignerRole {
    User(Role),
    Node(NodeRole),
}

impl SignerRole {
    const ALL: [Self; 9] = [
        Self::User(Role::Admin),
        Self::User(Role::ContractInvoker),
        Self::User(Role::UserInvoker),
        Self::User(Role::NodeInvoker),
        Self::User(Role::PolicyInvoker),
        Self::User(Role::Submitter),
        Self::User(Role::Auditor),
        Self::Node(NodeRole::Peer),
        Self::Node(NodeRole::Orderer),
    ];
}

impl fmt::Display for SignerRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(role) => role.fmt(f),
            Self::Node(NodeRole::Peer) => f.write_str("peer"),
            Self::Node(NodeRole::Orderer) => f.write_str("orderer"),
        }
    }
}

impl From<Role> for SignerRole {
    fn from(role: Role) -> Self {
        Self::User(role)
    }
}

impl From<NodeRole> for SignerRole {
    fn from(role: NodeRole) -> Self {
        Self::Node(role)
    }
}

/// Text that should have been a role.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not a role; roles are {list}", list = SignerRole::ALL.map(|role| role.to_string()).join(", "))]
pub struct UnknownRole(String);

impl FromStr for SignerRole {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|role| role.to_string() == text);
        known.ok_or_else(|| UnknownRole(crate::codec::clip(text)))
    }
}

impl Serialize for SignerRole {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SignerRole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// A boolean expression over who signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Policy {
    Any { any: Vec<Policy> },
    All { all: Vec<Policy> },
    AtLeast { at_least: usize, of: Vec<Policy> },
    Majority { majority: SignerRole },
    Named { organisation_in: String, role: SignerRole },
    Leaf { organisation: Name, role: SignerRole },
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
    #[error("organisation_in {0:?}: only a record type's policy has contents to look in")]
    NoContents(String),
    #[error("organisation_in {0:?} is not a JSON pointer: it begins with '/' (RFC 6901)")]
    Pointer(String),
    #[error("{count} parts look into records with 'organisation_in', at most {MAX_NAMED_PARTS} may")]
    TooManyNamed { count: usize },
    #[error("it could never be met: {0}")]
    Unmeetable(String),
}

impl Policy {
    /// The parts it is made of; none if it is a leaf.
    pub fn parts(&self) -> &[Self] {
        match self {
            Self::Any { any: parts } | Self::All { all: parts } | Self::AtLeast { of: parts, .. } => parts,
            Self::Majority { .. } | Self::Named { .. } | Self::Leaf { .. } => &[],
        }
    }

    /// How many of its parts must be met.
    fn least(&self) -> usize {
        match self {
            Self::Any { .. } => 1,
            Self::AtLeast { at_least, .. } => *at_least,
            _ => self.parts().len(),
        }
    }

    /// Refuses what is always or never met whoever endorses, and what is too deep to decode. `records`:
    /// it is a record type's.
    pub fn check(&self, records: bool) -> Result<(), PolicyError> {
        self.check_below(MAX_POLICY_DEPTH, records)?;
        // Each is looked up in each record of a transaction, on every node.
        match self.named() {
            count if count > MAX_NAMED_PARTS => Err(PolicyError::TooManyNamed { count }),
            _ => Ok(()),
        }
    }

    /// How many of its parts look into records.
    fn named(&self) -> usize {
        usize::from(matches!(self, Self::Named { .. })) + self.parts().iter().map(Self::named).sum::<usize>()
    }

    /// Whether records' contents are needed to tell who has to sign.
    pub fn looks_into_records(&self) -> bool {
        self.named() > 0
    }

    fn check_below(&self, levels: usize, records: bool) -> Result<(), PolicyError> {
        let levels = levels.checked_sub(1).ok_or(PolicyError::TooDeep)?;
        let count = self.parts().len();
        match self {
            Self::AtLeast { at_least, .. } if !(1..=count).contains(at_least) => {
                return Err(PolicyError::AtLeast { at_least: *at_least, count });
            }
            Self::Any { .. } | Self::All { .. } if count == 0 => return Err(PolicyError::Empty),
            Self::Named { organisation_in, .. } if !records => {
                return Err(PolicyError::NoContents(crate::codec::clip(organisation_in)));
            }
            Self::Named { organisation_in, .. } if !organisation_in.starts_with('/') => {
                return Err(PolicyError::Pointer(crate::codec::clip(organisation_in)));
            }
            _ => {}
        }
        self.parts().iter().try_for_each(|part| part.check_below(levels, records))
    }

    /// Whether it could be met if everybody who may sign did; else what is lacking.
    pub fn check_meetable(&self, registry: &Registry) -> Result<(), PolicyError> {
        self.lacking(registry).map_err(PolicyError::Unmeetable)
    }

    fn lacking(&self, registry: &Registry) -> Result<(), String> {
        match self {
            Self::Leaf { organisation, .. } if !registry.is_active(organisation) => {
                Err(format!("{organisation} is no organisation of this network"))
            }
            Self::Leaf { organisation, role } => match registry.holders(organisation, *role) {
                0 => Err(format!("nobody of {organisation} is {role}")),
                _ => Ok(()),
            },
            Self::Majority { majority } => {
                let all = registry.active_organisations().count();
                let able = registry.active_organisations().filter(|name| registry.holders(name, *majority) > 0).count();
                match able > all / 2 {
                    true => Ok(()),
                    false => Err(format!("{able} of {all} organisations have a {majority}, which is no majority")),
                }
            }
            // Whom the records will name is not known.
            Self::Named { .. } => Ok(()),
            Self::Any { .. } | Self::All { .. } | Self::AtLeast { .. } => {
                let (least, count) = (self.least(), self.parts().len());
                let lacking: Vec<_> = self.parts().iter().filter_map(|part| part.lacking(registry).err()).collect();
                match count - lacking.len() >= least {
                    true => Ok(()),
                    false => Err(format!("{least} of {count} are needed, and {}", lacking.join("; "))),
                }
            }
        }
    }

    /// What of it is met by these signers.
    pub fn explain(&self, case: &Case) -> Explanation {
        let parts: Vec<_> = self.parts().iter().map(|part| part.explain(case)).collect();
        match self {
            Self::Leaf { organisation, role } => {
                let by = case.signers_in(organisation, *role);
                Explanation::leaf(format!("{role} of {organisation}"), by, Some((organisation.clone(), *role)))
            }
            Self::Majority { majority } => {
                let all = case.registry.active_organisations().count();
                let signed: Vec<_> =
                    case.registry.active_organisations().map(|name| case.signers_in(name, *majority)).collect();
                let count = signed.iter().filter(|by| !by.is_empty()).count();
                let rule = format!("{majority} of {} of the {all} organisations ({count} signed)", all / 2 + 1);
                let lacks = case.registry.active_organisations().zip(&signed).filter(|(_, by)| by.is_empty());
                let lacks = lacks.map(|(name, _)| (name.clone(), *majority)).collect();
                Explanation { met: count > all / 2, rule, by: signed.concat(), parts, lacks }
            }
            Self::Named { organisation_in, role } => {
                // Many records name few organisations; one that names none is as good as all that do not.
                let named = case.contents.iter().map(|content| case.named_in(content, organisation_in));
                let named: BTreeSet<Option<Name>> = named.collect();
                let parts: Vec<_> =
                    named.iter().map(|name| case.explain_named(name.as_ref(), organisation_in, *role)).collect();
                let rule = format!("{role} of the organisation at {organisation_in} of each record");
                Explanation::of_parts(parts.iter().all(|part| part.met), rule, parts)
            }
            Self::Any { .. } | Self::All { .. } | Self::AtLeast { .. } => {
                let (least, count) = (self.least(), parts.len());
                let met = parts.iter().filter(|part| part.met).count() >= least;
                Explanation::of_parts(met, format!("{least} of these {count}"), parts)
            }
        }
    }
}

/// What a policy is asked about.
pub struct Case<'a> {
    pub registry: &'a Registry,
    /// Who signed, and whose signature holds: the author and the endorsers.
    pub signers: &'a [Identity],
    /// The records' contents, where the policy is a record type's.
    pub contents: &'a [serde_json::Value],
}

impl Case<'_> {
    fn signers_in(&self, organisation: &Name, role: SignerRole) -> Vec<Identity> {
        let of_it = |who: &&Identity| who.organisation == *organisation && self.registry.has_role(who, role);
        self.signers.iter().filter(of_it).cloned().collect()
    }

    /// The organisation of this network that a record names at this place.
    fn named_in(&self, content: &serde_json::Value, pointer: &str) -> Option<Name> {
        let named = content.pointer(pointer).and_then(|value| value.as_str()?.parse::<Name>().ok());
        named.filter(|name| self.registry.is_active(name))
    }

    fn explain_named(&self, organisation: Option<&Name>, pointer: &str, role: SignerRole) -> Explanation {
        let (by, rule) = match organisation {
            Some(organisation) => (self.signers_in(organisation, role), format!("{role} of {organisation}")),
            None => (vec![], format!("{role} of an organisation, which {pointer} of a record does not name")),
        };
        Explanation::leaf(rule, by, organisation.map(|organisation| (organisation.clone(), role)))
    }
}

/// A policy with what of it is met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    pub met: bool,
    /// In words.
    pub rule: String,
    /// Whose signatures count for it, where it is a leaf.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub by: Vec<Identity>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Explanation>,
    /// Whose signature would count for it and is not there, where it is a leaf: of which organisation, in
    /// which role.
    #[serde(skip)]
    lacks: Vec<(Name, SignerRole)>,
}

/// Most leaves that are named as missing in an error.
const MISSING_NAMED: usize = 8;

impl Explanation {
    /// Of one that somebody of this organisation meets by signing in this role, if anybody can.
    fn leaf(rule: String, by: Vec<Identity>, wanted: Option<(Name, SignerRole)>) -> Self {
        let met = !by.is_empty();
        let lacks = wanted.into_iter().filter(|_| !met).collect();
        Self { met, rule, by, parts: vec![], lacks }
    }

    fn of_parts(met: bool, rule: String, parts: Vec<Self>) -> Self {
        Self { met, rule, by: vec![], parts, lacks: vec![] }
    }

    /// Whose signatures would bring it nearer to being met where it is not; more of them may be named than are
    /// needed.
    pub fn missing_signers(&self) -> BTreeSet<(Name, SignerRole)> {
        if self.met {
            return BTreeSet::new();
        }
        self.lacks.iter().cloned().chain(self.parts.iter().flat_map(Self::missing_signers)).collect()
    }

    /// The leaves that are missing where it is not met, in the order they stand in; more of them may be
    /// named than are needed.
    pub fn missing(&self) -> String {
        let mut leaves = Vec::new();
        self.collect_missing(&mut leaves);
        let more = leaves.len().saturating_sub(MISSING_NAMED);
        leaves.truncate(MISSING_NAMED);
        let named = leaves.join(", ");
        if more > 0 { format!("{named} and {more} more") } else { named }
    }

    fn collect_missing<'a>(&'a self, leaves: &mut Vec<&'a str>) {
        match self.parts.is_empty() {
            _ if self.met => {}
            true => leaves.push(&self.rule),
            false => self.parts.iter().for_each(|part| part.collect_missing(leaves)),
        }
    }
}

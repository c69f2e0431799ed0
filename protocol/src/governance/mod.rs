//! Changes of the registry: who may make which, what each does, and what must hold after all of them.
//!
//! A change is an operation of a transaction. It is asked for twice, by the same function:
//! [`permit`] and [`apply`] on the registry as it is when the transaction comes in, so that the submitter is
//! refused by name; and in the block, after the changes before it there. What does not hold there is
//! committed as failed: the first of two conflicting changes wins, since each names the `revision` of what
//! it changes.
//!
//! [`RULES`] is the table of authors; the README shows the same.

mod change;
mod effects;
mod invariants;
mod refused;
mod rules;

pub use self::{
    change::{
        AddOrganisation, Change, ChangeNode, ChangeOrganisation, ChangeUser, EnrolNode, EnrolUser, FirstAdmin,
        FormerKeyFor, RemoveOrganisation, SetPolicy, SetRecordType,
    },
    effects::apply,
    refused::ChangeRefused,
    rules::{RULES, Rule, explain, permit},
};

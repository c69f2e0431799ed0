//! Agreement on the next block: Tendermint with its locking rule, from Malachite's core crates.
mod api;
mod core;
mod desk;
mod engine;
mod guard;
mod timers;
mod wire;

pub use self::{
    api::{
        BodyEntry, Equivocation, Fault, Input, LogEntry, MAX_VOTERS, Output, PROPOSALS_A_ROUND, ROUNDS_AHEAD, Refusal,
        Settings, Signer, StartError, Status, Step,
    },
    core::Core,
    guard::{GuardError, VoteGuard},
    timers::{Timeouts, Timer, TimerKind},
    wire::{LAST_ROUND, PolkaCertificate, RoundCertificate, RoundReason, RoundVote, Verified, Wire, WireError},
};

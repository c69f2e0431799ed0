//! Agreement on the next block: Tendermint with its locking rule ("The latest gossip on BFT
//! consensus", Buchman, Kwon, Milosevic, 2018, arXiv:1807.04938), by Malachite's core crates, behind
//! a small interface that a simulator and an actor drive alike. No clock, no I/O, no threads, no
//! randomness.
//!
//! ```text
//!   network ── Wire::verify ──▶ Input::Message ─┐                        ┌─▶ Log, Broadcast, SendBody
//!   mempool ── a block ───────▶ Input::Built ───┤   admission ─▶ library │
//!   checks  ── a verdict ─────▶ Input::Body ────┼─▶    Core::step     ───┼─▶ NeedBlock, NeedBody
//!   clock   ── an alarm ──────▶ Input::Timeout ─┘   desk ◀─ its effects  │
//!   disk    ── LogEntry… ─────▶ Core::start                              └─▶ Schedule, Cancel, Decided
//! ```
//!
//! # One height, one core
//!
//! A [`Core`] agrees on one block and is then thrown away. The next height gets a new one, with the
//! voters of that height. So stale alarms, thresholds made for other voters and certificates of the
//! past cannot exist. A node that is not a voter has no core: it takes decided blocks with their
//! certificates, as does a node that has fallen behind, and drops its core when it does.
//!
//! # The shell's part
//!
//! 1. [`Core::start`] with the height's log, then [`Core::step`] for each input; after each, carry
//!    out the outputs in order, in one go. No output may be skipped, and none may fail: a shell that
//!    cannot write its log must die rather than go on.
//! 2. [`Output::Log`] appends. Before [`Output::Broadcast`] and [`Output::SendBody`] all that was
//!    appended is synced to disk, with the bodies it speaks of. That is the promise that keeps a node
//!    from voting twice: nothing has left that the log does not show.
//! 3. A body is stored (not necessarily synced) before [`Input::Built`] or [`Input::Body`] says so.
//! 4. [`Output::Decided`] is the last output of a core. Block and certificate become durable in one
//!    write, which ends the height's log. A crash before it is harmless: the log leads to the same
//!    decision again.
//! 5. Bodies and messages of the next height arrive before it begins: keep some. Bodies of decided
//!    blocks are still asked for: serve them.
//! 6. Loss is healed by rebroadcasting within a height, and by fetching decided blocks from others
//!    between heights. Both are needed: a node that has decided no longer votes.
//!
//! # Modes
//!
//! | | quorum | honest minimum, to skip rounds |
//! |---|---|---|
//! | `bft` | more than 2/3 | more than 1/3 |
//! | `full-consent` | all | more than 1/3 |
//!
//! In full consent one missing voter halts the height, in the round it is in; when it is back,
//! rebroadcasts complete it.
//!
//! # Where we leave the library's own ways
//!
//! - **Values.** Consensus is on a block's hash (`ProposalAndParts`). The library learns of a body
//!   only its verdict, and only of blocks that a proposal, signed by its round's proposer, names.
//! - **Signatures.** They are checked before the core, on other threads; [`Verified`] is the proof.
//! - **Refused signatures.** The library has no notion of them; see the module `desk`.
//! - **Replay.** The library signs again in replay and stops if it then says something else. Here
//!   nothing is signed in replay; our votes stand in the log, and are counted where they stand.
//! - **Decided blocks of others.** They do not pass through the library: such a certificate skips
//!   rounds, is not in the log, and made a restarted node vote twice.
//! - **Rebroadcasts.** The library repeats votes; the core also repeats its proposal with its body,
//!   asks again for missing bodies, and asks the signer again.
//! - **Rounds** end at [`LAST_ROUND`].
//! - **Evidence** is handed out when it is found, not when the height ends.
//!
//! The library reads the clock once, when a height starts, and uses it only for a target time, which
//! is not set. It tells its doings to `tracing`; filter `arc_malachitebft*` to warnings.

mod admission;
mod api;
mod convert;
mod core;
mod desk;
mod engine;
mod guard;
mod recovery;
#[cfg(test)]
mod tests;
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

//! Records in, committed transactions out.
//!
//! ```text
//! file → records → hiding → signing ═ bounded queue ═▶ pipeline ⇄ POST, events, statuses
//!        └────────── own thread ─────────┘
//! ```
//!
//! What was signed once is never signed again: after a broken connection or a full mempool the same
//! bytes go out, so nothing can be committed twice. What is kept in memory is bounded by the queue
//! and by how many transactions may wait to be committed.

pub mod pipeline;
pub mod signing;
pub mod source;
pub mod tally;
#[cfg(test)]
mod tests;

pub use self::{
    pipeline::{Options, Outcome, submit_all},
    signing::{Prepared, Signer},
    source::Source,
    tally::Tally,
};

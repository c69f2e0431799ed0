//! One actix actor a file, each a thin shell that does I/O and calls `protocol`.

#![forbid(unsafe_code)]

pub mod admin;
mod checking;
pub mod clock;
pub mod consensus;
pub mod endorsement;
mod fair;
pub mod fatal;
pub mod fork;
pub mod frame;
pub mod journal;
pub mod listener;
pub mod log_limit;
pub mod members;
pub mod mempool;
pub mod messages;
pub mod metrics;
mod post;
pub mod progress;
pub mod reporter;
pub mod restore;
pub mod session;
pub mod shares;
pub mod signer;
pub mod store;
pub mod sync;
pub mod tls;
pub mod verifier;
mod whole_file;
pub mod wiring;

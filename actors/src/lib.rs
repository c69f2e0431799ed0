//! One actix actor a file, each a thin shell that does I/O and calls `protocol`.

#![forbid(unsafe_code)]

pub mod clock;
pub mod fatal;
pub mod frame;
pub mod journal;
pub mod listener;
pub mod log_limit;
pub mod messages;
pub mod metrics;
pub mod session;
pub mod signer;
pub mod store;
pub mod tls;
pub mod verifier;

//! One actix actor a file, each a thin shell that does I/O and calls `protocol`.

#![forbid(unsafe_code)]

pub mod clock;
pub mod consensus;
pub mod fatal;
pub mod mempool;
pub mod admin;
pub mod messages;
pub mod metrics;
pub mod store;
pub mod sync;

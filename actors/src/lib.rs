//! One actix actor a file, each a thin shell that does I/O and calls `protocol`.

#![forbid(unsafe_code)]

pub mod admin;
pub mod messages;
pub mod metrics;
pub mod store;

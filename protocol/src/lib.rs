//! Everything all nodes of a minidlt network must agree on.
//!
//! No I/O, no clock, no threads, no randomness, no iteration over hash maps, no panic on input:
//! time and keys are passed in, results are handed back. The README beside the sources says why.

#![forbid(unsafe_code)]

pub mod codec;
pub mod consensus;
pub mod crypto;
pub mod merkle;
pub mod types;
pub mod vote;

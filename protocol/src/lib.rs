//! Everything all nodes of a minidlt network must agree on.
//!
//! No I/O, no clock, no threads, no randomness, no iteration over hash maps, no panic on input:
//! time and keys are passed in, results are handed back. The README beside the sources says why.

#![forbid(unsafe_code)]

pub mod block;
pub mod codec;
pub mod consensus;
pub mod crypto;
pub mod endorsement;
pub mod evidence;
pub mod genesis;
pub mod governance;
pub mod limits;
pub mod lineage;
pub mod mempool;
pub mod merkle;
pub mod message;
pub mod receipt;
pub mod record_type;
pub mod registry;
pub mod spelling;
pub mod state;
pub mod state_proof;
pub mod successor;
pub mod sync;
pub mod transaction;
pub mod types;
pub mod verified;
pub mod view;
pub mod vote;

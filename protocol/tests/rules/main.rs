//! The rules all nodes share, each refusal reached, and each tried with random input.

#[path = "../common/mod.rs"]
mod common;

mod blocks;
mod endorsement;
mod evidence;
mod genesis;
mod governance;
mod governance_table;
mod mempool;
mod messages;
mod receipts;
mod record_types;
mod state;
mod state_proofs;
mod successors;
mod transactions;

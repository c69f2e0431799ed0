//! The client's side of a node's HTTP API: what the commands that talk to a network share.
//!
//! | module | holds |
//! |---|---|
//! | [`tls`] | TLS 1.3 with the user's certificate, trusting the genesis' nodes alone |
//! | [`connect`] | the flags that say who asks which nodes |
//! | [`api`] | one node: requests, and answers in the shapes of [`answers`] |
//! | [`events`] | the stream of committed blocks, resumed after every break |
//! | [`records`] | CSV, JSON and JSON lines into records, without loss |
//! | [`receipts`] | fetched, and kept if they verify |
//! | [`state_proofs`] | likewise |
//! | [`changes`] | of members and policies: made, endorsed in files, followed until they are decided |
//! | [`hiding`] | fields replaced by salted hashes before they leave the machine |
//! | [`submission`] | records in, committed transactions out |
//!
//! Everything runs on one thread but reading and signing, which has its own.

pub mod answers;
pub mod api;
pub mod changes;
pub mod connect;
pub mod error;
pub mod events;
pub mod files;
pub mod hiding;
pub mod progress;
pub mod receipts;
pub mod records;
pub mod run;
pub mod state_proofs;
pub mod submission;
pub mod time;
pub mod tls;

pub use self::{
    api::{NodeClient, NodeUrl},
    error::ClientError,
};

//! What actors say to each other, by concern. Actors import these, never each other; only the
//! wiring knows all actors.
//!
//! ```text
//! bytes → Listener → Session → Verifier → Mempool / Consensus → Store → Committed → Admin, Sync
//!                        ↑                      │
//!                        └──────── Signer ←─────┘   every outgoing content is stamped there
//! ```

pub mod consensus;
pub mod endorsement;
pub mod evidence;
pub mod mempool;
pub mod network;
pub mod signer;
pub mod store;
pub mod sync;
pub mod verifier;

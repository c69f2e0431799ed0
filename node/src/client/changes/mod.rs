//! Changes of the ledger's members and policies: made for one user, kept in a file while others endorse them,
//! brought onto the ledger and followed until they are decided.
//!
//! ```text
//! a change ─ Signer ─▶ Draft ─────────────────────────────▶ decide ─▶ Fate
//!                        └─▶ FILE ─ endorse ─▶ FILE ─▶ read ─┘
//! ```

mod deciding;
mod draft;
mod entries;
mod keys;
mod words;

pub use self::{
    deciding::decide,
    draft::{Draft, DraftError},
    entries::{find, revision},
    keys::public_key,
    words::Done,
};

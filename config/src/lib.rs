//! Settings of nodes and users, read and validated.
//!
//! A file's shape ([`raw`]) is not yet settings: it is read in layers (defaults, then the node
//! file, then the environment, then flags), and [`Settings`] come out only if every value, path,
//! key and certificate holds. What does not hold is one line that names the key, where it came
//! from, what is wrong and what to do. The README beside the sources lists all keys and bounds.

#![forbid(unsafe_code)]

pub mod authority;
mod endorse;
mod error;
mod files;
#[cfg(test)]
mod fixture;
mod genesis;
mod keys;
mod layers;
mod limits;
pub mod network;
pub mod raw;
mod settings;
pub mod tls;
pub mod user;

pub use endorse::Endorse;
pub use error::{ConfigError, Origin, Problem};
pub use genesis::{load_genesis, load_unsigned_genesis};
pub use keys::{KeyFiles, NewKey, generate_key, read_key};
pub use layers::{ENVIRONMENT_PREFIX, Flags};
pub use limits::Limits;
pub use settings::{NODE_FILE, Settings, load, tls_files};

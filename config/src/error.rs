//! What can be wrong with a configuration, each as one line.

use std::{fmt, io, path::PathBuf};

use minidlt_protocol::{
    crypto::PublicKey,
    genesis::GenesisError,
    types::{Identity, Name},
};
use thiserror::Error;

use crate::{
    authority::{BadCa, Refusal},
    files::one_line,
};

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Default,
    File(PathBuf),
    /// The variable's name.
    Environment(String),
    /// The flag as typed, with its dashes.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("by default"),
            Self::File(path) => write!(f, "in {}", path.display()),
            Self::Environment(variable) => write!(f, "from the environment variable {variable}"),
            Self::Flag(flag) => write!(f, "from the flag {flag}"),
        }
    }
}

/// A configuration that is not accepted: always one line.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// One key of a file of ours.
    #[error("{key} {origin}: {problem}")]
    Key { key: String, origin: Origin, problem: Box<Problem> },
    /// A file as a whole.
    #[error("{}: {problem}", path.display())]
    File { path: PathBuf, problem: Box<Problem> },
}

impl ConfigError {
    pub(crate) fn key(key: impl Into<String>, origin: Origin, problem: Problem) -> Self {
        // A key may be anything that somebody wrote.
        Self::Key { key: one_line(&key.into()), origin, problem: Box::new(problem) }
    }

    pub(crate) fn file(path: impl Into<PathBuf>, problem: Problem) -> Self {
        Self::File { path: path.into(), problem: Box::new(problem) }
    }

    pub fn problem(&self) -> &Problem {
        match self {
            Self::Key { problem, .. } | Self::File { problem, .. } => problem,
        }
    }
}

/// What is wrong, and what to do about it.
#[derive(Debug, Error)]
pub enum Problem {
    #[error("cannot be read: {0}; check the path and its permissions")]
    Unreadable(io::Error),
    #[error("{} cannot be read: {error}; check the path and its permissions", path.display())]
    UnreadablePath { path: PathBuf, error: io::Error },
    #[error("more than {limit} bytes, which no such file needs; is it the right one?")]
    TooLarge { limit: usize },
    #[error("not UTF-8 text; is it the right file?")]
    NotText,
    #[error("{0}; correct the YAML")]
    Syntax(String),

    #[error("is not known; use one of {expected}, or remove it")]
    UnknownKey { expected: String },
    #[error("is missing; add it")]
    Missing,
    #[error("found {found}, expected {expected}; correct it")]
    WrongType { found: String, expected: String },
    #[error("{0}; correct it")]
    Wrong(String),
    #[error("{0}; choose another")]
    Name(minidlt_protocol::types::InvalidName),

    #[error("{0:?} is not an IP address with a port; write one such as 127.0.0.1:3401")]
    Address(String),
    #[error("{0:?} has port 0, where nobody could find it; write a port from 1 to 65535")]
    PortZero(String),
    #[error("{0:?} can be reached from other machines; write a loopback address such as 127.0.0.1:3403")]
    NotLoopback(String),
    #[error("port {port} is that of {other} too; give each its own")]
    SamePort { port: u16, other: &'static str },
    #[error("{value} is not from {least} to {most}; choose one that is")]
    Bound { value: u64, least: u64, most: u64 },
    #[error("{value} leaves too few connections besides those with {peers} other nodes; raise it to {least} at least")]
    FewSessions { value: u64, peers: u64, least: u64 },
    #[error("{0:?} is not a level; use off, error, warn, info, debug or trace")]
    Level(String),
    #[error("{0:?} is nothing to endorse; write everything, nothing or a list of types of records, such as [trade]")]
    Endorse(String),
    #[error("{0:?} is not the URL of a node; write one such as https://127.0.0.1:3401")]
    Url(String),
    #[error("stands twice; keep one")]
    Twice,
    #[error("none of {0} has the role admin, so nobody could enrol its members; add one")]
    NoAdmin(Name),
    #[error("names {what} {name}, which is not listed; add it or correct the name")]
    Unlisted { what: &'static str, name: String },

    #[error("{} has mode {mode:04o}, so others than its owner can read it; run: chmod 600 {}", path.display(), path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error("{} holds no private key in unencrypted PEM; write one with 'minidlt keygen'", path.display())]
    NotAKey { path: PathBuf },
    #[error("{} holds a key that is not of the curve secp256k1; write one with 'minidlt keygen'", path.display())]
    WrongCurve { path: PathBuf },
    #[error(
        "{} has the public key {found}, but the genesis gives {identity} the key {expected}; use the key made for it",
        path.display()
    )]
    WrongKey { path: PathBuf, identity: Identity, found: Box<PublicKey>, expected: Box<PublicKey> },
    #[error("{} is the key of {owner}, not of {identity}; use the key made for it", path.display())]
    ForeignKey { path: PathBuf, identity: Identity, owner: Identity },

    #[error("{0}; correct the genesis, the same on every node")]
    Genesis(GenesisError),
    #[error("{0}; correct the genesis, the same on every node")]
    Ca(BadCa),
    #[error("{list}: {name}: {what}; correct the genesis, the same on every node")]
    GenesisEntry { list: &'static str, name: String, what: String },

    #[error("{} holds no certificate in PEM; use the one its organisation issued", path.display())]
    NotACertificate { path: PathBuf },
    #[error("{} holds no private key in unencrypted PEM; use the one its certificate was made for", path.display())]
    NotATlsKey { path: PathBuf },
    #[error("{} is not the key of the certificate {}; use the pair made together", key.display(), certificate.display())]
    NotAPair { key: PathBuf, certificate: PathBuf },
    #[error(
        "{} names the subject {subject}, but this is CN={}, O={}; use the certificate issued for it",
        path.display(), identity.name, identity.organisation
    )]
    WrongSubject { path: PathBuf, subject: String, identity: Identity },
    #[error("{} expired on {when}; renew it: {renewal}", path.display())]
    Expired { path: PathBuf, when: String, renewal: String },
    #[error("{} is not valid before {when}; check this machine's clock, or have a new one issued", path.display())]
    NotYetValid { path: PathBuf, when: String },
    #[error("{}: {refusal}; have the organisation issue a new one, or use the right genesis", path.display())]
    Certificate { path: PathBuf, refusal: Refusal },
    #[error("OpenSSL failed: {0}; check the installation")]
    Openssl(openssl::error::ErrorStack),
}

impl From<openssl::error::ErrorStack> for Problem {
    fn from(error: openssl::error::ErrorStack) -> Self {
        Self::Openssl(error)
    }
}

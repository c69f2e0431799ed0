//! Why a connection with another node, or the attempt at one, ended.

use std::io;

use minidlt_protocol::{
    message::MessageError,
    types::{Hash, Identity},
};
use openssl::error::ErrorStack;
use thiserror::Error;

use crate::{frame::FrameError, tls::TlsRefusal};

#[derive(Debug, Error)]
pub enum Ended {
    #[error("it cannot be reached: {0}")]
    Unreachable(io::Error),
    #[error("its certificate was refused: {0}")]
    UntrustedCertificate(String),
    #[error("TLS failed: {0}")]
    Tls(String),
    #[error(transparent)]
    Refused(#[from] TlsRefusal),
    #[error("{found} answers where {expected} should")]
    OtherNode { expected: Identity, found: Identity },
    #[error("{0} is to be dialled by this node, not to dial it")]
    WrongSide(Identity),
    #[error("the handshake was not done in time")]
    HandshakeTimeout,
    #[error("it is of network {theirs}, this is {ours}")]
    OtherNetwork { theirs: Hash, ours: Hash },
    #[error("its first message is not an Alive")]
    NotAlive,
    #[error("its Alive is bound to another connection: somebody relays it")]
    OtherBinding,
    #[error("{0}")]
    Message(#[from] MessageError),
    #[error("{0} of its messages were refused, the last one: {1}")]
    TooManyRefused(u32, MessageError),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("it connected anew")]
    Replaced,
    #[error("this node is shutting down")]
    ShuttingDown,
}

impl Ended {
    /// A stable name for counters.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::UntrustedCertificate(_) => "untrusted-certificate",
            Self::Tls(_) => "tls",
            Self::Refused(refusal) => refusal.kind(),
            Self::OtherNode { .. } => "other-node",
            Self::WrongSide(_) => "wrong-side",
            Self::HandshakeTimeout => "handshake-timeout",
            Self::OtherNetwork { .. } => "other-network",
            Self::NotAlive => "not-alive",
            Self::OtherBinding => "other-binding",
            Self::Message(error) => error.kind(),
            Self::TooManyRefused(..) => "too-many-refused",
            Self::Frame(error) => error.kind(),
            Self::Replaced => "replaced",
            Self::ShuttingDown => "shutting-down",
        }
    }
}

impl From<ErrorStack> for Ended {
    fn from(error: ErrorStack) -> Self {
        Self::Tls(error.to_string())
    }
}

impl From<actix::MailboxError> for Ended {
    /// Actors are stopped by a shut-down alone.
    fn from(_: actix::MailboxError) -> Self {
        Self::ShuttingDown
    }
}

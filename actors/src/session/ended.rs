//! Why a connection with another node did not become a session, or why its session ended.

use std::io;

use minidlt_protocol::{
    message::MessageError,
    types::{Hash, Identity},
};
use openssl::error::ErrorStack;
use thiserror::Error;

use crate::{frame::FrameError, shares::Source, tls::TlsRefusal};

#[derive(Debug, Error)]
pub enum Ended {
    #[error("the system gives none: {0}")]
    NotAccepted(io::Error),
    #[error("{0} handshakes are under way, the most this node takes at once")]
    HandshakesFull(usize),
    #[error("{share} handshakes with {with} are under way, the most that one source may have")]
    SourceShareFull { with: Source, share: usize },
    #[error("it cannot be reached: {0}")]
    Unreachable(io::Error),
    #[error("the certificate for {subject} that it shows was refused: {reason}")]
    UntrustedCertificate { subject: String, reason: String },
    #[error("TLS failed: {0}")]
    Tls(String),
    #[error(transparent)]
    Refused(#[from] TlsRefusal),
    #[error("it is not a node in good standing any more")]
    NotEnrolled,
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
    /// A stable name for counters: one a reason, no two alike. A table in this crate's README tells
    /// what to do about each.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotAccepted(_) => "accept-failed",
            Self::HandshakesFull(_) => "handshakes-full",
            Self::SourceShareFull { .. } => "source-share-full",
            Self::Unreachable(_) => "unreachable",
            Self::UntrustedCertificate { .. } => "untrusted-certificate",
            Self::Tls(_) => "tls",
            Self::Refused(refusal) => refusal.kind(),
            Self::OtherNode { .. } => "other-node",
            Self::NotEnrolled => "not-enrolled",
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

impl Ended {
    /// Nothing came of connecting in all its time.
    pub fn is_unanswered(&self) -> bool {
        matches!(self, Self::Unreachable(error) if error.kind() == io::ErrorKind::TimedOut)
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

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        net::{IpAddr, Ipv4Addr},
        time::Duration,
    };

    use minidlt_protocol::{codec::CodecError, consensus::WireError, crypto::CryptoError, types::Timestamp};

    use minidlt_config::authority::Purpose;

    use super::*;

    fn somebody() -> Identity {
        "node0@Org01".parse().unwrap()
    }

    fn messages() -> Vec<MessageError> {
        let (now, sender) = (Timestamp::from_millis(1), somebody());
        vec![
            CodecError::TooDeep.into(),
            MessageError::Size { said: 1, found: 2 },
            MessageError::Window { timestamp: now, now },
            MessageError::UnknownSender(somebody()),
            MessageError::OtherSender { said: somebody(), connected: somebody() },
            MessageError::OtherRecipient(somebody()),
            MessageError::Signature { sender: sender.clone(), reason: CryptoError::HighS },
            MessageError::Content { sender, reason: WireError::NotAVoter(somebody()) },
        ]
    }

    fn frames() -> Vec<FrameError> {
        let second = Duration::from_secs(1);
        vec![
            FrameError::Oversized { announced: 2, limit: 1 },
            FrameError::Closed,
            FrameError::Torn,
            FrameError::Idle(second),
            FrameError::Stalled(second),
            FrameError::Io(io::ErrorKind::ConnectionReset.into()),
        ]
    }

    fn others() -> Vec<Ended> {
        let error = || io::Error::from(io::ErrorKind::ConnectionRefused);
        vec![
            Ended::NotAccepted(error()),
            Ended::HandshakesFull(1),
            Ended::SourceShareFull { with: Source::from(IpAddr::from(Ipv4Addr::LOCALHOST)), share: 1 },
            Ended::Unreachable(error()),
            Ended::UntrustedCertificate { subject: "node0@Org01".into(), reason: "expired".into() },
            Ended::Tls("cut off".into()),
            TlsRefusal::NoCertificate.into(),
            TlsRefusal::Subject("CN").into(),
            TlsRefusal::UnknownOrganisation(somebody().organisation).into(),
            TlsRefusal::OtherAuthority { identity: somebody(), purpose: Purpose::Client, reason: "expired".into() }
                .into(),
            TlsRefusal::NotANode(somebody()).into(),
            Ended::OtherNode { expected: somebody(), found: somebody() },
            Ended::NotEnrolled,
            Ended::WrongSide(somebody()),
            Ended::HandshakeTimeout,
            Ended::OtherNetwork { theirs: Hash::ZERO, ours: Hash::ZERO },
            Ended::NotAlive,
            Ended::OtherBinding,
            Ended::TooManyRefused(16, CodecError::TooDeep.into()),
            Ended::Replaced,
            Ended::ShuttingDown,
        ]
    }

    #[test]
    fn no_two_reasons_have_one_name_and_the_readme_has_them_all() {
        let messages = messages().into_iter().map(Ended::from);
        let frames = frames().into_iter().map(Ended::from);
        let all: Vec<Ended> = others().into_iter().chain(messages).chain(frames).collect();
        let kinds: BTreeSet<&str> = all.iter().map(Ended::kind).collect();
        assert_eq!(kinds.len(), all.len());
        let readme = include_str!("../../README.md");
        let untold: Vec<&&str> = kinds.iter().filter(|kind| !readme.contains(&format!("`{kind}`"))).collect();
        assert!(untold.is_empty(), "{untold:?}");
    }
}

//! What can go wrong on the client's side, each said in one line with what to do about it.

use std::{fmt, io, path::PathBuf, time::Duration};

use minidlt_config::ConfigError;
use minidlt_protocol::{receipt::ReceiptError, registry::EntryKey, state_proof::StateProofError, types::Hash};
use serde::Deserialize;
use thiserror::Error;

use super::{changes::DraftError, hiding::HidingError, records::RecordError};

#[derive(Debug, Error)]
pub enum ClientError {
    /// One that was named to be read.
    #[error("{}: cannot be read: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: io::Error },
    /// One that was to be written.
    #[error("{}: cannot {action}: {reason}", path.display())]
    File { path: PathBuf, action: &'static str, reason: io::Error },
    #[error("{}: {what}", path.display())]
    Content { path: PathBuf, what: String },
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] openssl::error::ErrorStack),
    #[error("--node {0:?} is not a node's address; write one such as https://127.0.0.1:3401")]
    Url(String),
    #[error("{url} cannot be reached: {reason}")]
    Unreachable { url: String, reason: String },
    #[error(
        "{url} is not trusted: its certificate, for {subject}, is refused: {reason}; nothing was sent to it; \
         check the address and --as, ask that node's organisation, or give another --node"
    )]
    Certificate { url: String, subject: String, reason: String },
    /// By an alert of TLS, after which nothing can be asked.
    #[error("{url} refuses this user's certificate ({reason}); check --as and --node")]
    RefusesUs { url: String, reason: String },
    #[error("{url} refused: {problem}")]
    Refused { url: String, problem: Problem, retry_after: Option<Duration> },
    #[error("{url} answered in a way this version does not understand: {what}")]
    Unexpected { url: String, what: String },
    #[error("{url} gave a receipt of {id} that proves nothing: {reason}; it is not kept; give another --node")]
    BadReceipt { url: String, id: Hash, reason: Box<ReceiptError> },
    #[error("{url} gave a state proof of {key} that proves nothing: {reason}; it is not kept; give another --node")]
    BadStateProof { url: String, key: String, reason: Box<StateProofError> },
    #[error("no transaction {id} on this ledger; is it the right --node and id? ({refusal})")]
    NoTransaction { id: Hash, refusal: Box<ClientError> },
    #[error("{url} knows no {key}")]
    NoEntry { url: String, key: EntryKey },
    /// A transaction's file that reads well, and is not to be used.
    #[error("{}: {reason}", path.display())]
    Draft { path: PathBuf, reason: Box<DraftError> },
    #[error("{url} belongs to network {theirs}, the user's directory to {ours}; give another --node or --as")]
    OtherNetwork { url: String, theirs: String, ours: String },
    #[error("none of {tried} nodes answers; the last: {last}")]
    NoneAnswers { tried: usize, last: Box<ClientError> },
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Hiding(#[from] HidingError),
    #[error("{0}")]
    Usage(String),
}

impl ClientError {
    /// Whether the same request may succeed later, or at another node.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { problem, .. } => problem.is_transient(),
            _ => false,
        }
    }

    /// What to say where none of so many nodes answered, the last of them with this.
    pub fn none_answers(tried: usize, last: Self) -> Self {
        if tried <= 1 { last } else { Self::NoneAnswers { tried, last: Box::new(last) } }
    }

    /// Whether the fault may be this node's alone, so that another is to be asked. What all would say
    /// is not, nor is what makes a node suspect.
    pub fn may_be_this_nodes(&self) -> bool {
        match self {
            // Also a node that did not answer in time.
            Self::Unreachable { .. } | Self::Unexpected { .. } => true,
            Self::Refused { problem, .. } => problem.status >= 500 || matches!(problem.status, 408 | 429),
            _ => false,
        }
    }

    /// How long the node asks to wait before the next try.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The kind of the problem, where a node answered with one.
    pub fn problem_kind(&self) -> Option<&str> {
        match self {
            Self::Refused { problem, .. } => Some(problem.kind()),
            _ => None,
        }
    }
}

/// An error as a node tells it (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Problem {
    #[serde(rename = "type", default)]
    pub uri: String,
    #[serde(default)]
    pub title: String,
    #[serde(default)]
    pub status: u16,
    #[serde(default)]
    pub detail: String,
}

impl Problem {
    /// What a node that answers without a problem document must have meant.
    pub fn of_status(status: u16, title: &str) -> Self {
        Self { uri: "about:blank".into(), title: title.into(), status, detail: String::new() }
    }

    /// The last part of its URI, such as `mempool-full`.
    pub fn kind(&self) -> &str {
        self.uri.rsplit(':').next().unwrap_or_default()
    }

    /// Whether the same bytes may be taken later.
    pub fn is_transient(&self) -> bool {
        let full = matches!(self.kind(), "mempool-full" | "user-share-full" | "far-future-transaction" | "not-ready");
        full || matches!(self.status, 429 | 502 | 503 | 504)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.title.as_str(), self.detail.as_str()) {
            ("", "") => write!(f, "{} (status {})", self.kind(), self.status),
            (title, "") => write!(f, "{title} (status {})", self.status),
            ("", detail) => f.write_str(detail),
            (title, detail) => write!(f, "{title}: {detail}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_reads_as_one_line_and_says_whether_to_come_again() {
        let text = r#"{"type":"urn:minidlt:problem:user-share-full","title":"Share full","status":429,
                       "detail":"trader@Org01 has its whole share of the mempool waiting","extra":1}"#;
        let problem: Problem = serde_json::from_str(text).unwrap();
        assert_eq!(problem.kind(), "user-share-full");
        assert!(problem.is_transient());
        assert_eq!(problem.to_string(), "Share full: trader@Org01 has its whole share of the mempool waiting");
        assert!(!Problem::of_status(403, "Forbidden").is_transient());
        assert_eq!(Problem::of_status(403, "Forbidden").to_string(), "Forbidden (status 403)");
    }

    #[test]
    fn another_node_is_asked_where_this_one_may_be_at_fault() {
        let url = || "https://localhost:3401".to_owned();
        let refused = |status| ClientError::Refused {
            url: url(),
            problem: Problem::of_status(status, "refused"),
            retry_after: None,
        };
        for status in [408, 429, 500, 502, 503, 504] {
            assert!(refused(status).may_be_this_nodes(), "{status}");
        }
        for status in [400, 401, 403, 404, 409, 422] {
            assert!(!refused(status).may_be_this_nodes(), "{status} is the same everywhere");
        }
        assert!(ClientError::Unreachable { url: url(), reason: "timeout".into() }.may_be_this_nodes());
        assert!(ClientError::Unexpected { url: url(), what: "<html>".into() }.may_be_this_nodes());
        let other = ClientError::OtherNetwork { url: url(), theirs: "a".into(), ours: "b".into() };
        assert!(!other.may_be_this_nodes());
        let suspect = ClientError::Certificate { url: url(), subject: "CN=x".into(), reason: "expired".into() };
        assert!(!suspect.may_be_this_nodes());
    }

    #[test]
    fn of_several_nodes_the_last_one_speaks_for_all() {
        let last = || ClientError::Unreachable { url: "https://h:1".into(), reason: "refused".into() };
        assert_eq!(ClientError::none_answers(1, last()).to_string(), "https://h:1 cannot be reached: refused");
        let said = ClientError::none_answers(4, last()).to_string();
        assert_eq!(said, "none of 4 nodes answers; the last: https://h:1 cannot be reached: refused");
    }
}

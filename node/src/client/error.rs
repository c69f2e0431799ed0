//! What can go wrong on the client's side, each said in one line with what to do about it.

use std::{fmt, io, path::PathBuf, time::Duration};

use minidlt_config::ConfigError;
use serde::Deserialize;
use thiserror::Error;

use super::{hiding::HidingError, records::RecordError};

#[derive(Debug, Error)]
pub enum ClientError {
    #[error("{}: cannot {action}: {reason}", path.display())]
    File { path: PathBuf, action: &'static str, reason: io::Error },
    #[error("{}: {what}", path.display())]
    Content { path: PathBuf, what: String },
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] openssl::error::ErrorStack),
    #[error("{0:?} is not a node's address; expected https://HOST:PORT")]
    Url(String),
    #[error("{url} cannot be reached: {reason}")]
    Unreachable { url: String, reason: String },
    #[error("{url} refused: {problem}")]
    Refused { url: String, problem: Problem, retry_after: Option<Duration> },
    #[error("{url} answered in a way this version does not understand: {what}")]
    Unexpected { url: String, what: String },
    #[error("{url} belongs to network {theirs}, the user's directory to {ours}; give another --node or --as")]
    OtherNetwork { url: String, theirs: String, ours: String },
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
}

//! What a node answers, as far as the commands read it. Unknown fields are passed over, so that a
//! newer node can say more.

use std::fmt;

use minidlt_protocol::{
    state::Outcome,
    successor::Origin,
    types::{Hash, Height, Identity, Timestamp},
};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;

use super::{error::Problem, time::rfc3339};

/// `GET /v1/status`
#[derive(Debug, Clone, Deserialize)]
pub struct Status {
    pub node: Identity,
    pub network: Network,
    pub consensus: Consensus,
    pub voting: Voting,
    pub fork: Option<Fork>,
    pub predecessor: Option<Origin>,
    pub height: Height,
    pub head: Hash,
    pub created: Timestamp,
    #[serde(default)]
    pub peers: Vec<Peer>,
    #[serde(default)]
    pub certificates: Certificates,
    pub mempool: Mempool,
    #[serde(default)]
    pub evidence: Vec<Evidence>,
    pub uptime_s: u64,
    pub version: String,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Network {
    pub name: String,
    pub id: Hash,
}

/// Where the agreement on the next block stands.
#[derive(Debug, Clone, Deserialize)]
pub struct Consensus {
    pub mode: String,
    /// Whether there is anything to agree on; while there is not, nobody is missing.
    pub active: bool,
    pub height: Height,
    pub round: u32,
    #[serde(default)]
    pub accepted_by: Vec<Identity>,
    #[serde(default)]
    pub missing: Vec<Identity>,
}

/// Whether the node proposes and votes; a reason where it does not.
#[derive(Debug, Clone, Deserialize)]
pub struct Voting {
    pub state: String,
    pub reason: Option<String>,
}

/// Two certified blocks of one height.
#[derive(Debug, Clone, Deserialize)]
pub struct Fork {
    pub ours: Place,
    pub theirs: Place,
    pub shown_by: Identity,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Place {
    pub hash: Hash,
    pub header: At,
}

#[derive(Debug, Clone, Deserialize)]
pub struct At {
    pub height: Height,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Peer {
    pub name: String,
    pub organisation: String,
    pub address: String,
    pub state: String,
    pub height: Option<Height>,
    /// Why it is not connected.
    pub last_error: Option<String>,
    /// Of the certificate that it shows, while it is connected.
    pub certificate: Option<Validity>,
}

/// How long the node's own certificate lasts, and its organisation's CAs.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Certificates {
    pub own: Option<Validity>,
    pub ca: Option<Validity>,
    pub former_ca: Option<Validity>,
}

/// When a certificate runs out.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Validity {
    pub expires: Timestamp,
    /// Whole days; below 0 where it is past.
    pub days_left: i64,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Mempool {
    pub transactions: u64,
    pub bytes: u64,
}

/// What the ledger has recorded against a voter.
#[derive(Debug, Clone, Deserialize)]
pub struct Evidence {
    pub voter: Identity,
    pub height: Height,
    pub round: u32,
    pub kind: String,
    pub transaction: Hash,
}

/// A block, without what is in its transactions.
#[derive(Debug, Clone, Deserialize)]
pub struct BlockSummary {
    pub height: Height,
    pub hash: Hash,
    pub created: Timestamp,
    /// Nobody proposed block 0.
    pub proposer: Option<Identity>,
    #[serde(default)]
    pub content: Vec<IgnoredAny>,
}

/// One frame of the stream of events with `view=ids`.
#[derive(Debug, Clone, Deserialize)]
pub struct CommittedIds {
    pub height: Height,
    pub hash: Hash,
    pub created: Timestamp,
    pub proposer: Option<Identity>,
    pub ids: Vec<Hash>,
}

/// A block as a line: its height, hash, number of transactions, proposer and time.
struct Line<'a>(Height, Hash, usize, Option<&'a Identity>, Timestamp);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(height, hash, count, proposer, created) = self;
        let proposer = proposer.map_or_else(|| "genesis".into(), Identity::to_string);
        write!(f, "{height:>8}  {hash}  {count:>5} transactions  {proposer}  {}", rfc3339(*created))
    }
}

impl fmt::Display for BlockSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Line(self.height, self.hash, self.content.len(), self.proposer.as_ref(), self.created).fmt(f)
    }
}

impl fmt::Display for CommittedIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Line(self.height, self.hash, self.ids.len(), self.proposer.as_ref(), self.created).fmt(f)
    }
}

/// `POST /v1/transactions` with many: one entry for each, in the order they were sent.
#[derive(Debug, Clone, Deserialize)]
pub struct Submitted {
    pub transactions: Vec<SubmittedEntry>,
}

/// Either `status` or `problem` is there.
#[derive(Debug, Clone, Deserialize)]
pub struct SubmittedEntry {
    pub status: Option<State>,
    pub problem: Option<Problem>,
}

/// Where a transaction stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Pending,
    Committed,
    Rejected,
    Dumped,
}

/// `GET /v1/transactions/{id}`
#[derive(Debug, Clone, Deserialize)]
pub struct TransactionStatus {
    pub status: State,
    /// Why it was dumped.
    pub reason: Option<String>,
    #[serde(default)]
    pub missing: Vec<Identity>,
}

/// What became of one transaction, as `POST /v1/transactions` and `GET /v1/transactions/{id}` tell it.
#[derive(Debug, Clone, Deserialize)]
pub struct Fate {
    pub id: Hash,
    pub status: State,
    /// Where it is committed.
    pub height: Option<Height>,
    pub result: Option<Outcome>,
    /// Why it was rejected.
    pub reason: Option<String>,
    /// Why it was dumped.
    pub detail: Option<String>,
}

/// `POST /v1/transactions/explain`
#[derive(Debug, Clone, Deserialize)]
pub struct Explained {
    pub policies: Vec<NeededPolicy>,
    pub refusal: Option<ExplainedRefusal>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct NeededPolicy {
    pub policy: String,
    #[serde(flatten)]
    pub part: Part,
}

/// A policy, or a part of one, and what of it is met.
#[derive(Debug, Clone, Deserialize)]
pub struct Part {
    pub met: bool,
    pub rule: String,
    #[serde(default)]
    pub by: Vec<Identity>,
    #[serde(default)]
    pub parts: Vec<Part>,
}

/// Why a transaction would be refused if it were submitted now.
#[derive(Debug, Clone, Deserialize)]
pub struct ExplainedRefusal {
    pub detail: String,
}

/// A page of `GET /v1/users/{user}/history` and the like.
#[derive(Debug, Clone, Deserialize)]
pub struct History {
    pub changes: Vec<HistoryEntry>,
    pub next: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct HistoryEntry {
    pub height: Height,
    pub created: Timestamp,
    pub id: Hash,
    pub author: Identity,
    #[serde(default)]
    pub endorsers: Vec<Identity>,
    pub operation: Value,
}

//! What `/metrics` shows (OpenMetrics text). One struct, shared by all actors; counting never
//! fails and never waits. A table in this crate's README has every counter's reasons, and what to
//! do about each.

use std::sync::atomic::AtomicU64;

use minidlt_config::tls::Validity;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// The label of a counter a reason.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reason {
    pub reason: String,
}

/// A counter a reason.
pub type ByReason = Family<Reason, Counter<u64, AtomicU64>>;

/// Which certificate: `own`, `ca`, `former_ca`, or `peer`, the first to run out of those connected.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Certificate {
    pub certificate: &'static str,
}

pub struct Metrics {
    pub registry: Registry,
    pub height: Gauge,
    pub round: Gauge,
    pub peers_connected: Gauge,
    pub forks: Gauge,
    pub voting: Gauge,
    pub mempool_transactions: Gauge,
    pub mempool_bytes: Gauge,
    /// When they run out, in seconds since 1970.
    pub certificate_expires: Family<Certificate, Gauge>,
    pub transactions_committed: Counter,
    pub transactions_dumped: Counter,
    pub blocks_fetched: Counter,
    /// Endorsements that this node gave.
    pub endorsements_given: Counter,
    /// Transactions for which this node collects endorsements.
    pub endorsements_collecting: Gauge,
    /// Endorsements of other nodes that this node got.
    pub endorsements_collected: Counter,
    /// What this node was to endorse and did not.
    pub endorsements_refused: ByReason,
    pub submissions_refused: ByReason,
    pub messages_refused: ByReason,
    /// Connections with other nodes that did not become a session.
    pub connections_refused: ByReason,
    pub sessions_ended: ByReason,
    pub frames_dropped: ByReason,
    pub requests_refused: ByReason,
}

impl Metrics {
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("minidlt"),
            height: Gauge::default(),
            round: Gauge::default(),
            peers_connected: Gauge::default(),
            forks: Gauge::default(),
            voting: Gauge::default(),
            mempool_transactions: Gauge::default(),
            mempool_bytes: Gauge::default(),
            certificate_expires: Family::default(),
            transactions_committed: Counter::default(),
            transactions_dumped: Counter::default(),
            blocks_fetched: Counter::default(),
            endorsements_given: Counter::default(),
            endorsements_collecting: Gauge::default(),
            endorsements_collected: Counter::default(),
            endorsements_refused: ByReason::default(),
            submissions_refused: ByReason::default(),
            messages_refused: ByReason::default(),
            connections_refused: ByReason::default(),
            sessions_ended: ByReason::default(),
            frames_dropped: ByReason::default(),
            requests_refused: ByReason::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("height", "Height of the last committed block", self.height.clone());
        registry.register("round", "Round of the height being agreed on", self.round.clone());
        registry.register("peers_connected", "Other nodes connected", self.peers_connected.clone());
        registry.register("forks", "1 where two certified blocks of one height were seen", self.forks.clone());
        registry.register("voting", "1 while this node may propose and vote", self.voting.clone());
        registry.register("mempool_transactions", "Transactions waiting", self.mempool_transactions.clone());
        registry.register("mempool_bytes", "Bytes of transactions waiting", self.mempool_bytes.clone());
        let expires = self.certificate_expires.clone();
        registry.register("certificate_expires_seconds", "When a certificate runs out, since 1970", expires);
        let committed = self.transactions_committed.clone();
        registry.register("transactions_committed", "Transactions committed since start", committed);
        let dumped = self.transactions_dumped.clone();
        registry.register("transactions_dumped", "Transactions that expired without being committed", dumped);
        registry.register("blocks_fetched", "Blocks got from other nodes when behind", self.blocks_fetched.clone());
        let (given, collected) = (self.endorsements_given.clone(), self.endorsements_collected.clone());
        registry.register("endorsements_given", "Endorsements that this node gave", given);
        registry.register("endorsements_collected", "Endorsements of other nodes that this node got", collected);
        let collecting = self.endorsements_collecting.clone();
        registry.register("endorsements_collecting", "Transactions being endorsed by others for this node", collecting);
        let by_reason = [
            ("endorsements_refused", "What this node was to endorse and did not", &self.endorsements_refused),
            ("submissions_refused", "Transactions refused", &self.submissions_refused),
            ("messages_refused", "Messages of other nodes refused", &self.messages_refused),
            ("connections_refused", "Connections that became no session", &self.connections_refused),
            ("sessions_ended", "Sessions with other nodes that ended", &self.sessions_ended),
            ("frames_dropped", "Outgoing frames dropped, their queue being full", &self.frames_dropped),
            ("requests_refused", "API requests refused", &self.requests_refused),
        ];
        for (name, help, family) in by_reason {
            registry.register(name, help, family.clone());
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Counts one for `reason`.
pub fn count(family: &ByReason, reason: &str) {
    family.get_or_create(&Reason { reason: reason.to_owned() }).inc();
}

/// Tells when a certificate runs out; nothing where there is none.
pub fn certificate_gauge(metrics: &Metrics, certificate: &'static str, validity: Option<Validity>) {
    let (family, label) = (&metrics.certificate_expires, Certificate { certificate });
    match validity {
        Some(validity) => {
            family.get_or_create(&label).set(validity.seconds());
        }
        None => {
            family.remove(&label);
        }
    }
}

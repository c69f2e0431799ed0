//! What is done now and then about transactions that nothing was heard of.

use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use minidlt_protocol::types::{Hash, Timestamp};

use super::{Pipeline, Tally};
use crate::client::{
    answers::{State, TransactionStatus},
    error::ClientError,
    time::{now, rfc3339},
};

/// After so long without being committed a transaction is asked about.
const STALE: Duration = Duration::from_secs(10);
/// After so long past its expiry a transaction nobody decides on is given up.
const UNDECIDED_MILLIS: u64 = 60_000;

/// After so long past its expiry a transaction that is dumped for certain is so without its node's word on why.
const WHY_MILLIS: u64 = 10_000;

fn names(status: &TransactionStatus) -> String {
    let names: Vec<String> = status.missing.iter().map(ToString::to_string).collect();
    if names.is_empty() { String::new() } else { format!(" (missing: {})", names.join(", ")) }
}

/// Why it was dumped, in words.
fn why(status: &TransactionStatus) -> String {
    match status.reason.as_deref() {
        Some("nobody-missing") => " (nobody's acceptance was missing)".to_owned(),
        _ => names(status),
    }
}

impl Pipeline<'_> {
    pub(super) fn on_tick(&mut self) {
        let Tally { signed, accepted, committed, .. } = self.outcome.tally;
        if self.options.wait {
            self.progress.update(committed, signed, &format!("committed, {accepted} accepted"));
            self.dump_expired();
            self.give_up_undecided();
            self.ask_about_stale();
        } else {
            self.progress.update(accepted, signed, "accepted");
        }
    }

    /// A block after their expiry is committed, and they were in none up to it. A node is asked why of one
    /// of them, for all: they waited for the same blocks.
    pub(super) fn dump_expired(&mut self) {
        let expired = self.expired_before(self.ledger_time);
        let taken = |id: &&Hash| self.waiting.get(id).is_some_and(|waiting| waiting.accepted.is_some());
        if let Some(id) = expired.iter().find(taken).or(expired.first()) {
            self.ask(*id);
        }
    }

    /// What was learnt of one of them. The block's news may be here before the node's mempool has it; a node
    /// that does not say why for long, or cannot, leaves it unsaid.
    fn on_why(&mut self, expires: Timestamp, answer: Result<TransactionStatus, ClientError>) {
        let why = match answer {
            Ok(status) if status.status == State::Dumped => {
                let words = why(&status);
                self.outcome.missing.extend(status.missing);
                words
            }
            Ok(_) if now() < expires.plus_millis(WHY_MILLIS) => return,
            _ => String::new(),
        };
        self.expired_before(self.ledger_time).iter().for_each(|id| self.dumped(id, &why));
    }

    fn give_up_undecided(&mut self) {
        for id in self.expired_before(now().minus_millis(UNDECIDED_MILLIS)) {
            let Some(waiting) = self.give_up(&id) else { continue };
            let fate = if waiting.sent { "undecided" } else { "not sent" };
            let (expired, missing) = (rfc3339(waiting.prepared.expires), &self.last_missing);
            self.progress.note(&format!("{fate} {id}: it expired at {expired}, and no block came since{missing}"));
        }
    }

    fn expired_before(&self, time: Timestamp) -> Vec<Hash> {
        let expired = self.waiting.values().filter(|waiting| waiting.prepared.expires < time);
        expired.map(|waiting| waiting.prepared.id).collect()
    }

    fn ask_about_stale(&mut self) {
        if self.last_news.elapsed() < STALE || !self.question.is_empty() {
            return;
        }
        let stale = self.waiting.values().filter_map(|w| Some((w.accepted?, w.prepared.id))).min();
        let Some((_, id)) = stale else { return };
        self.last_news = Instant::now();
        self.ask(id);
    }

    /// Asks about one at a time.
    fn ask(&mut self, id: Hash) {
        let (true, Some(node)) = (self.question.is_empty(), self.nodes.get(self.at).cloned()) else { return };
        self.question.push(async move { (id, node.transaction(&id).await) }.boxed_local());
    }

    pub(super) fn on_status(&mut self, id: &Hash, answer: Result<TransactionStatus, ClientError>) {
        let expires = self.waiting.get(id).map(|waiting| waiting.prepared.expires);
        let committed = matches!(&answer, Ok(TransactionStatus { status: State::Committed, .. }));
        if let Some(expires) = expires.filter(|expires| *expires < self.ledger_time && !committed) {
            return self.on_why(expires, answer);
        }
        match answer {
            Ok(status) => match status.status {
                State::Committed => self.committed(id),
                State::Dumped => self.dumped(id, &why(&status)),
                State::Rejected => self.rejected(id, None),
                State::Pending => self.say_missing(&status),
            },
            // A node that was started anew has forgotten what waited; the same bytes go out again.
            Err(error) if error.problem_kind() == Some("not-found") => {
                let lost = self.waiting.values().filter(|w| w.accepted.is_some_and(|at| at.elapsed() > STALE));
                let lost: Vec<Hash> = lost.map(|w| w.prepared.id).collect();
                self.progress
                    .note(&format!("{} transactions were forgotten by the node; sending them again", lost.len()));
                self.ready.extend(lost);
            }
            Err(error) if error.may_be_this_nodes() => {
                self.progress.note(&format!("{error}; trying again"));
                self.at = (self.at + 1) % self.nodes.len().max(1);
            }
            Err(error) => self.outcome.error = Some(error),
        }
    }

    fn say_missing(&mut self, status: &TransactionStatus) {
        let missing = names(status);
        if missing != self.last_missing {
            self.progress.note(&format!("still waiting for {} transactions{missing}", self.waiting.len()));
            self.last_missing = missing;
        }
    }
}

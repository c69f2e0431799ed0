//! Telling of connections that did not become a session.

use std::{collections::BTreeMap, fmt::Display, sync::Arc};

use crate::{
    log_limit::{LogLimit, OneLine},
    metrics::{Metrics, count},
    session::ended::Ended,
};

pub struct Refusals {
    metrics: Arc<Metrics>,
    /// A limit a kind, so that one kind of stranger cannot hide another. Kinds are few.
    log: BTreeMap<&'static str, LogLimit>,
}

impl Refusals {
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, log: BTreeMap::new() }
    }

    /// Counts it, and logs it within the limit of its kind.
    pub fn tell(&mut self, who: impl Display, why: &Ended) {
        count(&self.metrics.connections_refused, why.kind());
        if let Some(more) = self.log.entry(why.kind()).or_default().allow() {
            log::warn!("no connection with {who}: {}{more}", OneLine(why));
        }
    }
}

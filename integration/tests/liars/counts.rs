//! What the honest nodes have counted, a lie at a time.

use std::{cell::RefCell, collections::BTreeMap};

use minidlt_integration::{Cluster, Samples, counted, until};

use crate::HONEST;

pub const REFUSED: &str = "minidlt_messages_refused_total";
/// Of these only those that come as gossip are looked at: clients, too, submit what is known already.
const SUBMISSIONS: &str = "minidlt_submissions_refused_total";
const CONNECTIONS: &str = "minidlt_connections_refused_total";
const ENDED: &str = "minidlt_sessions_ended_total";
/// A proposer whose height takes long says its block again.
const ORDINARY: &str = "unasked-body";

/// The counters of each honest node as they were, and as they should be by now.
pub struct Counts<'a> {
    cluster: &'a Cluster,
    before: RefCell<Vec<Samples>>,
}

impl<'a> Counts<'a> {
    pub fn of(cluster: &'a Cluster) -> Self {
        let before = HONEST.map(|node| samples(cluster, node)).into();
        Self { cluster, before: RefCell::new(before) }
    }

    /// Each node has counted this lie, so often, under this reason, and under no other.
    pub fn refused(&self, what: &str, reason: &str, times: u32) {
        self.all(what, &[counted(REFUSED, reason)], times);
    }

    /// As above, of a transaction.
    pub fn transaction_refused(&self, what: &str, reason: &str) {
        let name = counted(SUBMISSIONS, reason);
        for (i, node) in HONEST.into_iter().enumerate() {
            let before = self.before.borrow()[i].value(&name);
            let value = || self.cluster.samples(node, &[SUBMISSIONS]).value(&name);
            until(&format!("node {node} counts {what}: {reason}"), || value() > before);
        }
        self.all(what, &[], 1);
    }

    /// As above, of a connection.
    pub fn connection_refused(&self, what: &str, reason: &str) {
        self.all(what, &[counted(CONNECTIONS, reason)], 1);
    }

    /// Each node has counted this lie, once or more often.
    pub fn refused_some(&self, what: &str, reason: &str) {
        let name = counted(REFUSED, reason);
        for (i, node) in HONEST.into_iter().enumerate() {
            let before = self.before.borrow()[i].value(&name);
            let value = || samples(self.cluster, node).value(&name);
            until(&format!("node {node} counts {what}: {reason}"), || value() > before);
            self.before.borrow_mut()[i] = samples(self.cluster, node);
        }
    }

    /// Each node has refused just so many messages, whatever for, and has then ended the session.
    pub fn all_refused(&self, what: &str, times: u32) {
        let ended = counted(ENDED, "too-many-refused");
        for (i, node) in HONEST.into_iter().enumerate() {
            let now = || samples(self.cluster, node);
            let before = self.before.borrow()[i].clone();
            until(&format!("node {node} ends the session"), || now().value(&ended) > before.value(&ended));
            let changes = now().since(&before);
            let refused: f64 = changes.iter().filter(|(name, _)| is_exact(name)).map(|(_, times)| times).sum();
            assert_eq!(refused, f64::from(times), "node {node}: {what}: {changes:?}");
            self.before.borrow_mut()[i] = now();
        }
    }

    /// Nobody has counted anything.
    pub fn nothing(&self, what: &str) {
        self.all(what, &[], 0);
    }

    fn all(&self, what: &str, names: &[String], times: u32) {
        let expected: BTreeMap<String, f64> = names.iter().map(|name| (name.clone(), f64::from(times))).collect();
        for (i, node) in HONEST.into_iter().enumerate() {
            let changes = || {
                let now = samples(self.cluster, node);
                let mut changes = now.since(&self.before.borrow()[i]);
                changes.retain(|name, _| is_exact(name));
                (now, changes)
            };
            let enough = |changes: &BTreeMap<String, f64>| {
                expected.iter().all(|(name, times)| changes.get(name).is_some_and(|counted| counted >= times))
            };
            until(&format!("node {node} counts {what}: {expected:?}"), || enough(&changes().1));
            let (now, changes) = changes();
            assert_eq!(changes, expected, "node {node}: {what}");
            self.before.borrow_mut()[i] = now;
        }
    }
}

/// Whether nothing but a lie makes it grow.
fn is_exact(name: &str) -> bool {
    !name.starts_with(SUBMISSIONS) && !name.starts_with(ENDED) && name != counted(REFUSED, ORDINARY)
}

fn samples(cluster: &Cluster, node: usize) -> Samples {
    cluster.samples(node, &[REFUSED, SUBMISSIONS, CONNECTIONS, ENDED])
}

//! What clients remember of the transactions they submitted: every answer counts, and none is taken
//! back by another.

use std::collections::BTreeMap;

use serde_json::Value;

/// Where a node said that a transaction is.
pub type Place = (u64, u64);

/// What was heard of one transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fate {
    /// A node took it (202).
    pub accepted: bool,
    /// Each place that a node said it is committed at: one, unless nodes contradict each other.
    pub committed: Vec<Place>,
    /// A node said that it never will be: why.
    pub dumped: Option<String>,
    /// A node refused it for ever: why.
    pub refused: Option<String>,
    /// How often it was submitted.
    pub tries: u32,
}

impl Fate {
    /// Nothing more is to be heard of it.
    pub fn is_known(&self) -> bool {
        !self.committed.is_empty() || self.dumped.is_some() || self.refused.is_some()
    }

    /// Takes an answer to its submission. What says only that it may be tried again changes nothing.
    pub fn hear(&mut self, status: u16, body: &str) {
        let answer: Value = serde_json::from_str(body).unwrap_or_default();
        match (status, answer["status"].as_str()) {
            (200, Some("committed")) => {
                let place = (answer["height"].as_u64(), answer["position"].as_u64());
                let (Some(height), Some(position)) = place else { panic!("committed, but where? {body}") };
                if !self.committed.contains(&(height, position)) {
                    self.committed.push((height, position));
                }
            }
            (200, Some("dumped")) => self.dumped = Some(body.to_owned()),
            (202, _) => self.accepted = true,
            // Too much at once, a request that took too long, or a node that is not ready.
            (408 | 429 | 500.., _) => {}
            _ => self.refused = Some(format!("{status}: {body}")),
        }
    }
}

/// All that clients remember, by transaction id.
#[derive(Debug, Clone, Default)]
pub struct Memory(pub BTreeMap<String, Fate>);

impl Memory {
    /// The fates of those that this is true of.
    pub fn count(&self, is_so: impl Fn(&Fate) -> bool) -> usize {
        self.0.values().filter(|fate| is_so(fate)).count()
    }

    /// Adds what another client remembers, of other transactions or of the same.
    pub fn add(&mut self, other: Self) {
        for (id, heard) in other.0 {
            let fate = self.0.entry(id).or_default();
            fate.accepted |= heard.accepted;
            fate.tries += heard.tries;
            fate.dumped = fate.dumped.take().or(heard.dumped);
            fate.refused = fate.refused.take().or(heard.refused);
            let news = heard.committed.into_iter().filter(|place| !fate.committed.contains(place));
            let news: Vec<Place> = news.collect();
            fate.committed.extend(news);
        }
    }
}

//! Counters and gauges as `/metrics` shows them, so that a test can say what changed and that nothing
//! else did.

use std::collections::{BTreeMap, BTreeSet};

/// The samples of some families, by name and labels as they are written there.
#[derive(Debug, Clone, PartialEq)]
pub struct Samples(BTreeMap<String, f64>);

impl Samples {
    /// Those of `families`, full names, in the text of `/metrics`.
    pub fn parse(text: &str, families: &[&str]) -> Self {
        let wanted = |line: &&str| {
            let is_of = |family: &&str| line.strip_prefix(*family).is_some_and(|rest| rest.starts_with([' ', '{']));
            families.iter().any(is_of)
        };
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse::<f64>().ok()?))
        };
        Self(text.lines().filter(wanted).filter_map(sample).collect())
    }

    /// All of them together.
    pub fn sum(&self) -> f64 {
        self.0.values().sum()
    }

    /// The sample of this name; a counter that nothing was counted by is not shown.
    pub fn value(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// What is not as it was, and by how much.
    pub fn since(&self, before: &Self) -> BTreeMap<String, f64> {
        let names: BTreeSet<&String> = self.0.keys().chain(before.0.keys()).collect();
        let changes = names.into_iter().map(|name| (name.clone(), self.value(name) - before.value(name)));
        changes.filter(|(_, change)| *change != 0.0).collect()
    }
}

/// The name of the sample that counts `reason`.
pub fn counted(family: &str, reason: &str) -> String {
    format!("{family}{{reason=\"{reason}\"}}")
}

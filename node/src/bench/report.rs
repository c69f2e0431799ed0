//! What came out, as flat keys with their units in their names.

use std::{fmt, time::Duration};

use serde_json::{Value, json};

use super::{
    Plan,
    load::{Fate, Measured, Used},
    statistics::{percentile, ratio},
};

/// What was known before the load.
pub struct Facts<'a> {
    pub consensus: String,
    pub nodes: usize,
    pub cores: usize,
    pub verify_time: Duration,
    pub bound_per_s: f64,
    pub plan: &'a Plan,
}

/// Keys and values, in the order they are shown.
pub struct Report(Vec<(String, Value)>);

impl Report {
    pub fn new(facts: &Facts<'_>, measured: &Measured) -> Self {
        let mut report = Self(Vec::new());
        report.add("version", json!(env!("CARGO_PKG_VERSION")));
        report.add("nodes", json!(facts.nodes));
        report.add("consensus", json!(facts.consensus));
        report.add("cores", json!(facts.cores));
        report.add("load", json!(if facts.plan.rate_per_s.is_some() { "open-loop" } else { "closed-loop" }));
        report.add("duration_s", rounded((measured.to - measured.from).as_secs_f64()));
        report.add("rate_per_s", facts.plan.rate_per_s.map_or(Value::Null, rounded));
        report.add("records_per_transaction", json!(measured.records_per_transaction));
        report.add("verify_us", rounded(facts.verify_time.as_secs_f64() * 1e6));
        report.add("bound_per_s", rounded(facts.bound_per_s));
        report.add_counts(facts, measured);
        report.add_latency(measured);
        report.add_blocks(measured);
        report.add_usage(measured);
        report
    }

    fn add(&mut self, key: impl Into<String>, value: Value) {
        self.0.push((key.into(), value));
    }

    /// Of those scheduled in the measured time; rates are of commits seen in it.
    fn add_counts(&mut self, facts: &Facts<'_>, measured: &Measured) {
        let within = |at: Duration| measured.from <= at && at < measured.to;
        let scheduled = || measured.sent.iter().filter(|sent| within(sent.from));
        let fated = |fate: fn(Fate) -> bool| scheduled().filter(|sent| fate(sent.fate)).count();
        self.add("submitted", json!(scheduled().count()));
        self.add("committed", json!(fated(|fate| matches!(fate, Fate::Committed(_)))));
        self.add("refused", json!(fated(|fate| fate == Fate::Refused)));
        self.add("unanswered", json!(fated(|fate| fate == Fate::Unanswered)));
        self.add("pending_at_end", json!(fated(|fate| fate == Fate::UnderWay)));
        let seen = measured.sent.iter().filter(|sent| matches!(sent.fate, Fate::Committed(at) if within(at))).count();
        let committed_per_s = seen as f64 / (measured.to - measured.from).as_secs_f64();
        self.add("committed_per_s", rounded(committed_per_s));
        self.add("records_per_s", rounded(committed_per_s * measured.records_per_transaction as f64));
        self.add("ratio", rounded(ratio(committed_per_s, facts.bound_per_s)));
        self.add("ran_out_of_transactions", json!(measured.ran_out));
    }

    fn add_latency(&mut self, measured: &Measured) {
        let scheduled = measured.sent.iter().filter(|sent| measured.from <= sent.from && sent.from < measured.to);
        let latency = scheduled.filter_map(|sent| match sent.fate {
            Fate::Committed(at) => Some(at.saturating_sub(sent.from)),
            _ => None,
        });
        let mut latencies: Vec<Duration> = latency.collect();
        latencies.sort_unstable();
        for (name, percent) in [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("max", 100.0)] {
            let value = percentile(&latencies, percent).map(|latency| rounded(latency.as_secs_f64() * 1e3));
            self.add(format!("latency_{name}_ms"), value.unwrap_or_default());
        }
    }

    fn add_blocks(&mut self, measured: &Measured) {
        let count = measured.blocks.len() as f64;
        let transactions: usize = measured.blocks.iter().map(|block| block.transactions).sum();
        let bytes: usize = measured.blocks.iter().map(|block| block.bytes).sum();
        self.add("block_count", json!(measured.blocks.len()));
        self.add("block_transactions_mean", rounded(ratio(transactions as f64, count)));
        self.add("block_bytes_mean", rounded(ratio(bytes as f64, count)));
    }

    fn add_usage(&mut self, measured: &Measured) {
        for (number, Used { before, halfway, after }) in measured.nodes.iter().enumerate() {
            self.add(format!("node{number}_cpu_seconds"), rounded(after.cpu_seconds - before.cpu_seconds));
            self.add(format!("node{number}_peak_memory_mib"), rounded(after.peak_mib));
            self.add(format!("node{number}_rss_mib_at_warmup"), rounded(before.rss_mib));
            self.add(format!("node{number}_rss_mib_halfway"), rounded(halfway.rss_mib));
            self.add(format!("node{number}_rss_mib_at_end"), rounded(after.rss_mib));
        }
        let Used { before, after, .. } = measured.client;
        self.add("client_cpu_seconds", rounded(after.cpu_seconds - before.cpu_seconds));
    }

    /// A JSON object with a key a line.
    pub fn to_json(&self) -> String {
        let lines: Vec<String> = self.0.iter().map(|(key, value)| format!("  \"{key}\": {value}")).collect();
        format!("{{\n{}\n}}\n", lines.join(",\n"))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(key, value)| writeln!(f, "{key:<28} {value}"))
    }
}

/// Three places are more than any of these numbers is good for.
fn rounded(value: f64) -> Value {
    json!((value * 1e3).round() / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{
        Mode,
        load::{BlockSeen, Sent},
        process::Usage,
    };

    #[test]
    fn only_the_measured_time_counts() {
        let at = Duration::from_millis;
        let sent = |from, fate| Sent { from: at(from), fate };
        let measured = Measured {
            from: at(1000),
            to: at(3000),
            sent: vec![
                sent(900, Fate::Committed(at(1100))),
                sent(1000, Fate::Committed(at(1010))),
                sent(1500, Fate::Refused),
                sent(2000, Fate::Committed(at(2030))),
                sent(2990, Fate::Committed(at(3040))),
                sent(2995, Fate::UnderWay),
            ],
            blocks: vec![BlockSeen { transactions: 3, bytes: 900 }, BlockSeen { transactions: 0, bytes: 0 }],
            records_per_transaction: 10,
            nodes: vec![Used {
                before: Usage { cpu_seconds: 1.0, ..Usage::default() },
                halfway: Usage { rss_mib: 7.0, ..Usage::default() },
                after: Usage { cpu_seconds: 3.5, ..Usage::default() },
            }],
            ..Measured::default()
        };
        let plan = Plan {
            nodes: 1,
            consensus: Mode::Bft,
            duration: at(2000),
            rate_per_s: None,
            records_per_transaction: 10,
            network: None,
        };
        let facts = Facts {
            consensus: "bft".into(),
            nodes: 1,
            cores: 2,
            verify_time: Duration::from_micros(40),
            bound_per_s: 3.0,
            plan: &plan,
        };
        let report: Value = serde_json::from_str(&Report::new(&facts, &measured).to_json()).unwrap();
        for (key, expected) in [
            ("submitted", json!(5)),
            ("committed", json!(3)),
            ("refused", json!(1)),
            ("pending_at_end", json!(1)),
            ("committed_per_s", json!(1.5)),
            ("records_per_s", json!(15.0)),
            ("ratio", json!(0.5)),
            ("latency_p50_ms", json!(30.0)),
            ("latency_max_ms", json!(50.0)),
            ("block_count", json!(2)),
            ("block_transactions_mean", json!(1.5)),
            ("node0_cpu_seconds", json!(2.5)),
            ("node0_rss_mib_halfway", json!(7.0)),
            ("rate_per_s", Value::Null),
            ("verify_us", json!(40.0)),
        ] {
            assert_eq!(report[key], expected, "{key}");
        }
    }
}

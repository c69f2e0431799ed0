//! `minidlt bench`: how fast a cluster is; see [`crate::bench`].

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use minidlt_protocol::limits::{MAX_RECORDS, MAX_VOTERS};
use thiserror::Error;

use super::Failure;
use crate::{
    bench::{self, Mode, Plan},
    client::{files::write_whole, run::block_on, time::parse_duration},
};

/// Measure the speed of a throwaway cluster on this machine, or of a running network
#[derive(Debug, clap::Args)]
pub struct Bench {
    /// How many nodes the throwaway cluster has
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = node_count)]
    nodes: usize,
    /// bft or full-consent
    #[arg(long, value_name = "MODE", default_value = "bft")]
    consensus: Mode,
    /// How long to measure, after a warm-up of 2 s; such as 15s or 5m, at most 24h
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = measured_time)]
    duration: Duration,
    /// Transactions a second [default: as many as the cluster can do]
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// How many records share a transaction, and so a signature
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = record_count)]
    records_per_transaction: usize,
    /// Also write the results here, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Load this running network, as its user trader, in place of a throwaway cluster; its ledger keeps what is loaded
    #[arg(long, value_name = "DIR", conflicts_with_all = ["nodes", "consensus"])]
    network: Option<PathBuf>,
}

const LONGEST: Duration = Duration::from_secs(24 * 3600);

fn node_count(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| (1..=MAX_VOTERS).contains(count));
    count.ok_or_else(|| format!("expected a number from 1 to {MAX_VOTERS}"))
}

fn record_count(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| (1..=MAX_RECORDS).contains(count));
    count.ok_or_else(|| format!("expected a number from 1 to {MAX_RECORDS}"))
}

fn measured_time(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text)?;
    let fits = !duration.is_zero() && duration <= LONGEST;
    fits.then_some(duration).ok_or_else(|| "expected more than nothing and at most 24h".into())
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0 && *rate <= 1e6);
    rate.ok_or_else(|| "expected a number above 0, at most a million".into())
}

/// Told before the bench and not after it.
#[derive(Debug, Error)]
enum Unwritable {
    #[error("--json {}: there is no directory {}; make it or write elsewhere", file.display(), directory.display())]
    NoDirectory { file: PathBuf, directory: PathBuf },
    #[error("--json {}: this is a directory; give a file", .0.display())]
    Directory(PathBuf),
}

fn check_writable(file: &Path) -> Result<(), Failure> {
    if file.is_dir() {
        return Err(Failure::usage(Unwritable::Directory(file.into())));
    }
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() && !parent.is_dir() => {
            Err(Failure::usage(Unwritable::NoDirectory { file: file.into(), directory: parent.into() }))
        }
        _ => Ok(()),
    }
}

impl Bench {
    pub fn run(self) -> Result<(), Failure> {
        self.json.as_deref().map_or(Ok(()), check_writable)?;
        let plan = Plan {
            nodes: self.nodes,
            consensus: self.consensus,
            duration: self.duration,
            rate_per_s: self.rate,
            records_per_transaction: self.records_per_transaction,
            network: self.network,
        };
        let report = block_on(bench::run(plan))?;
        // What took so long to find out is to be seen even where the file cannot be written.
        let printed = write!(io::stdout(), "{report}");
        if let Some(path) = &self.json {
            write_whole(path, &report.to_json())?;
        }
        printed.map_err(Failure::from)
    }
}

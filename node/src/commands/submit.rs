//! `minidlt submit`: signs records and brings them onto the ledger.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use minidlt_protocol::limits::{MAX_LIFETIME_MILLIS, MAX_RECORDS};
use thiserror::Error;

use super::Failure;
use crate::client::{
    ClientError,
    connect::ConnectNode,
    hiding::Hider,
    progress::Progress,
    receipts::fetch_all,
    records::{self, Format},
    run::block_on,
    submission::{Options, Outcome, Signer, Source, Tally, submit_all},
    time::parse_duration,
};

/// Sign and submit records from a JSON, JSON lines or CSV file
#[derive(Debug, clap::Args)]
pub struct Submit {
    #[command(flatten)]
    connect: ConnectNode,
    /// The file, or - for standard input
    file: PathBuf,
    /// json, jsonl or csv [default: as the file's name ends]
    #[arg(long)]
    format: Option<Format>,
    /// Wait until all are committed; exit 0 only if they were
    #[arg(long)]
    wait: bool,
    /// Fetch each transaction's receipt into this directory, as ID.json; waits as --wait does
    #[arg(long, value_name = "DIR")]
    receipts: Option<PathBuf>,
    /// How many records share a transaction, and so a signature and a fate
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = record_count)]
    records_per_transaction: usize,
    /// Replace these fields by salted hashes before they leave this machine
    #[arg(long, value_name = "FIELD,…", value_delimiter = ',')]
    hash: Vec<String>,
    /// Where to keep the salts and values behind the hashes [default: FILE.openings.jsonl]
    #[arg(long, value_name = "FILE", requires = "hash")]
    openings: Option<PathBuf>,
    /// How long a transaction may wait to be committed before it is dumped, at most a day
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = lifetime)]
    lifetime: Duration,
}

/// Room for the block after the last one to come, without which there is no receipt.
const RECEIPT_PATIENCE: Duration = Duration::from_secs(60);
/// So few ids are printed.
const MAX_IDS_PRINTED: usize = 10;

fn record_count(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| (1..=MAX_RECORDS).contains(count));
    count.ok_or_else(|| format!("expected a number from 1 to {MAX_RECORDS}"))
}

fn lifetime(text: &str) -> Result<Duration, String> {
    let most = Duration::from_millis(MAX_LIFETIME_MILLIS);
    let lifetime = parse_duration(text)?;
    let fits = !lifetime.is_zero() && lifetime <= most;
    fits.then_some(lifetime).ok_or_else(|| "expected more than nothing and at most 24h".into())
}

#[derive(Debug, Error)]
enum Incomplete {
    #[error("not all records were committed: {0}")]
    NotAll(Tally),
    #[error("{error}; {tally}")]
    Stopped { error: ClientError, tally: Tally },
    #[error("{missing} receipts are missing; {tally}")]
    Receipts { missing: usize, tally: Tally },
}

impl Submit {
    pub fn run(self) -> Result<(), Failure> {
        block_on(self.submit())
    }

    async fn submit(self) -> Result<(), Failure> {
        let session = self.connect.session()?;
        let (alive, status) = session.first_alive().await?;
        let mut nodes = session.nodes.clone();
        nodes.sort_by_key(|node| node.url() != alive.url());
        let records = records::open(&self.file, self.format).map_err(ClientError::from)?;
        let hider = self.hider().map_err(ClientError::from)?;
        let millis = u64::try_from(self.lifetime.as_millis()).unwrap_or(MAX_LIFETIME_MILLIS);
        let source = Source {
            records,
            hider,
            signer: Signer::new(session.user, millis)?,
            records_per_transaction: self.records_per_transaction,
            file: self.file.display().to_string(),
        };
        // One more than are printed tells that there are too many to print.
        let keep_ids = if self.receipts.is_some() { usize::MAX } else { MAX_IDS_PRINTED + 1 };
        let options = Options { wait: self.wait || self.receipts.is_some(), keep_ids };
        let mut progress = Progress::new("records");
        let outcome = submit_all(nodes.clone(), status.height, source.start(), options, &mut progress).await;

        let mut missing = 0;
        if let Some(directory) = &self.receipts {
            let mut progress = Progress::new("receipts");
            let got = fetch_all(&nodes, &outcome.ids, directory, RECEIPT_PATIENCE, &mut progress).await?;
            println!("{got} receipts in {}", directory.display());
            missing = outcome.ids.len() - got;
        }
        conclude(outcome, options.wait, missing)
    }

    fn hider(&self) -> Result<Option<Hider>, crate::client::hiding::HidingError> {
        if self.hash.is_empty() {
            return Ok(None);
        }
        let path = self.openings.clone().unwrap_or_else(|| default_openings(&self.file));
        println!("salts and values behind the hashes go to {}; keep it safe and secret", path.display());
        Hider::new(self.hash.clone(), &path).map(Some)
    }
}

fn default_openings(file: &Path) -> PathBuf {
    let mut name = if file == Path::new("-") { "stdin".into() } else { file.as_os_str().to_owned() };
    name.push(".openings.jsonl");
    name.into()
}

/// The last line, on success and on failure, has the tally.
fn conclude(outcome: Outcome, waited: bool, missing_receipts: usize) -> Result<(), Failure> {
    let Outcome { tally, ids, error, input_error, .. } = outcome;
    if ids.len() <= MAX_IDS_PRINTED {
        ids.iter().for_each(|id| println!("transaction {id}"));
    }
    println!("{tally}");
    let done = if waited { tally.committed } else { tally.accepted };
    if let Some(error) = error.or(input_error) {
        return Err(Failure::failed(Incomplete::Stopped { error, tally }));
    }
    if done < tally.signed {
        return Err(Failure::failed(Incomplete::NotAll(tally)));
    }
    if missing_receipts > 0 {
        return Err(Failure::failed(Incomplete::Receipts { missing: missing_receipts, tally }));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openings_lie_beside_their_file() {
        assert_eq!(default_openings(Path::new("a/trades.csv")), Path::new("a/trades.csv.openings.jsonl"));
        assert_eq!(default_openings(Path::new("-")), Path::new("stdin.openings.jsonl"));
    }

    #[test]
    fn only_all_committed_is_success() {
        let all = Tally { signed: 3, accepted: 3, committed: 3, ..Tally::default() };
        let outcome = |tally| Outcome { tally, ..Outcome::default() };
        assert!(conclude(outcome(all), true, 0).is_ok());
        assert!(conclude(outcome(all), true, 1).is_err());
        let pending = Tally { committed: 0, pending: 3, ..all };
        assert!(conclude(outcome(pending), false, 0).is_ok());
        let rejected = conclude(outcome(Tally { committed: 2, rejected: 1, ..all }), true, 0).unwrap_err();
        assert!(rejected.to_string().ends_with("2 committed, 1 rejected, 0 dumped"), "{rejected}");
        let mut stopped = outcome(all);
        stopped.input_error = Some(ClientError::Usage("line 3: not JSON".into()));
        assert!(conclude(stopped, true, 0).is_err());
    }
}

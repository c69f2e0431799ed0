//! `minidlt submit`: signs records and brings them onto the ledger.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use minidlt_config::user::UserSettings;
use minidlt_protocol::{
    genesis::Genesis,
    limits::{MAX_LIFETIME_MILLIS, MAX_RECORDS},
    types::{Hash, Name},
};
use thiserror::Error;

use super::Failure;
use crate::{
    client::{
        ClientError, NodeClient,
        changes::Draft,
        connect::ConnectNode,
        hiding::Hider,
        progress::Progress,
        receipts::{Fetched, fetch_all},
        records::{self, Format, Records},
        run::block_on,
        submission::{Options, Outcome, Signer, Source, Tally, submit_all},
        time::parse_duration,
    },
    interrupt::{Interrupts, Signal},
    say,
};

/// Sign records from a JSON, JSON lines or CSV file and submit them
#[derive(Debug, clap::Args)]
pub struct Submit {
    #[command(flatten)]
    connect: ConnectNode,
    /// The file, or - for standard input
    file: PathBuf,
    /// json (one record, or an array of them), jsonl or csv [default: as the file's name ends]
    #[arg(long)]
    format: Option<Format>,
    /// Wait until all are committed; exit 0 only if they were
    #[arg(long)]
    wait: bool,
    /// Show each block that is committed meanwhile; waits as --wait does
    #[arg(long)]
    blocks: bool,
    /// Fetch each transaction's receipt, check it, and write it to this directory as ID.json; waits as --wait does
    #[arg(long, value_name = "DIR")]
    receipts: Option<PathBuf>,
    /// How many records share a transaction, and so a signature and a fate
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = record_count)]
    records_per_transaction: usize,
    /// The type of all of them, which they must fit
    #[arg(long = "type", value_name = "NAME")]
    record_type: Option<Name>,
    /// Write the records, of one transaction, to FILE, to be endorsed and sent, and submit nothing
    #[arg(long, value_name = "FILE", conflicts_with_all = ["wait", "blocks", "receipts"])]
    out: Option<PathBuf>,
    /// Replace these fields by salted hashes before they leave this machine
    #[arg(long, value_name = "FIELD,…", value_delimiter = ',')]
    hash: Vec<String>,
    /// Where to keep the salts and values behind the hashes [default: FILE.openings.jsonl]
    #[arg(long, value_name = "FILE", requires = "hash")]
    openings: Option<PathBuf>,
    /// How long a transaction may wait to be committed before it is dumped, such as 30s or 1h, at most 24h
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

/// How long a transaction may live, as a command is given it.
pub fn lifetime(text: &str) -> Result<Duration, String> {
    let most = Duration::from_millis(MAX_LIFETIME_MILLIS);
    let lifetime = parse_duration(text)?;
    let fits = !lifetime.is_zero() && lifetime <= most;
    fits.then_some(lifetime).ok_or_else(|| "expected more than nothing and at most 24h".into())
}

#[derive(Debug, Error)]
enum Incomplete {
    #[error("not all records were committed: {0}")]
    NotCommitted(Tally),
    #[error("not all records were accepted: {0}")]
    NotAccepted(Tally),
    #[error("{error}; {tally}")]
    Stopped { error: ClientError, tally: Tally },
    #[error("{missing} receipts are missing, {bad} are bad; {tally}")]
    Receipts { missing: usize, bad: usize, tally: Tally },
    #[error("interrupted by {signal}: {} records sent, {tally}{}", tally.sent(), lacking(*missing))]
    Interrupted { signal: Signal, tally: Tally, missing: usize },
}

fn lacking(receipts: usize) -> String {
    if receipts == 0 { String::new() } else { format!("; {receipts} receipts are missing") }
}

#[derive(Debug, Error)]
#[error("--receipts {}: this directory cannot be made: {reason}", path.display())]
struct NoDirectory {
    path: PathBuf,
    reason: io::Error,
}

impl Submit {
    pub fn run(self) -> Result<(), Failure> {
        block_on(self.submit())
    }

    fn waits(&self) -> bool {
        self.wait || self.blocks || self.receipts.is_some()
    }

    async fn submit(self) -> Result<(), Failure> {
        let session = self.connect.session()?;
        // What can be wrong here is told before a node is asked. A pipe may be long in coming, so this
        // is also before signals are caught.
        let records = records::open(&self.file, self.format).map_err(ClientError::from)?;
        if let Some(out) = &self.out {
            let network = session.user.network;
            return write_draft(self.source(records, session.user)?, &network, out).await;
        }
        self.make_receipts_directory()?;
        let mut interrupts = Interrupts::listen()?;
        let (alive, status) = tokio::select! {
            found = session.first_alive() => found?,
            signal = interrupts.next() => {
                let nothing = Outcome { interrupted: Some(signal), ..Outcome::default() };
                return conclude(nothing, self.waits(), Fetched::default());
            }
        };
        let mut nodes = session.nodes.clone();
        nodes.sort_by_key(|node| node.url() != alive.url());
        let genesis = session.user.genesis.clone();
        let source = self.source(records, session.user)?;
        // One more than are printed tells that there are too many to print.
        let keep_ids = if self.receipts.is_some() { usize::MAX } else { MAX_IDS_PRINTED + 1 };
        let options = Options { wait: self.waits(), blocks: self.blocks, keep_ids };
        let mut progress = Progress::new("records");
        let source = source.start();
        let submitting = submit_all(nodes.clone(), status.height, source, options, &mut interrupts, &mut progress);
        let mut outcome = submitting.await;

        let mut fetched = None;
        if let Some(directory) = &self.receipts {
            fetched = Some(fetch_receipts(&nodes, &mut outcome, &genesis, directory, &mut interrupts).await);
        }
        // Whether all went well counts for more than whether anybody reads of it.
        let printed = self.print(&outcome, fetched);
        conclude(outcome, options.wait, fetched.unwrap_or_default())?;
        printed.map_err(Failure::from)
    }

    fn source(&self, records: Records, user: UserSettings) -> Result<Source, ClientError> {
        let hider = self.hider()?;
        let millis = u64::try_from(self.lifetime.as_millis()).unwrap_or(MAX_LIFETIME_MILLIS);
        Ok(Source {
            records,
            hider,
            signer: Signer::new(user, millis)?,
            records_per_transaction: self.records_per_transaction,
            record_type: self.record_type.clone(),
            file: self.file.display().to_string(),
        })
    }

    fn make_receipts_directory(&self) -> Result<(), Failure> {
        let Some(path) = &self.receipts else { return Ok(()) };
        fs::create_dir_all(path).map_err(|reason| Failure::usage(NoDirectory { path: path.clone(), reason }))
    }

    /// The last line, on success and on failure, has the tally.
    fn print(&self, outcome: &Outcome, fetched: Option<Fetched>) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if let (Some(fetched), Some(directory)) = (fetched, &self.receipts) {
            writeln!(out, "{} receipts in {}", fetched.good, directory.display())?;
        }
        if outcome.ids.len() <= MAX_IDS_PRINTED {
            outcome.ids.iter().try_for_each(|id| writeln!(out, "transaction {id}"))?;
        }
        if !outcome.missing.is_empty() {
            let names: Vec<String> = outcome.missing.iter().map(ToString::to_string).collect();
            writeln!(out, "dumped while the acceptance of {} was missing", names.join(", "))?;
        }
        writeln!(out, "{}", outcome.tally)
    }

    fn hider(&self) -> Result<Option<Hider>, crate::client::hiding::HidingError> {
        if self.hash.is_empty() {
            return Ok(None);
        }
        let path = self.openings.clone().unwrap_or_else(|| default_openings(&self.file));
        say::note(format_args!("salts and values behind the hashes go to {}; keep it safe and secret", path.display()));
        Hider::new(self.hash.clone(), &path).map(Some)
    }
}

/// Writes the one transaction that comes of the records.
async fn write_draft(source: Source, network: &Hash, out: &Path) -> Result<(), Failure> {
    let mut signed = source.start();
    let first = signed.recv().await.transpose()?;
    let first = first.ok_or_else(|| ClientError::Usage("there is no record".into()))?;
    if signed.recv().await.transpose()?.is_some() {
        let what = "--out takes what one transaction holds; see --records-per-transaction";
        return Err(ClientError::Usage(what.into()).into());
    }
    let count = first.records;
    Draft::of(first.bytes, network).map_err(Failure::usage)?.write(out)?;
    let records = if count == 1 { "record" } else { "records" };
    writeln!(io::stdout(), "{count} {records} to be kept; have {} endorsed", out.display())?;
    Ok(())
}

fn default_openings(file: &Path) -> PathBuf {
    let mut name = if file == Path::new("-") { "stdin".into() } else { file.as_os_str().to_owned() };
    name.push(".openings.jsonl");
    name.into()
}

/// Fetches receipts until a signal comes. Where it is cut short, the outcome has why.
async fn fetch_receipts(
    nodes: &[NodeClient],
    outcome: &mut Outcome,
    genesis: &Genesis,
    directory: &Path,
    interrupts: &mut Interrupts,
) -> Fetched {
    if outcome.interrupted.is_none() {
        let mut progress = Progress::new("receipts");
        let fetching = fetch_all(nodes, &outcome.ids, genesis, directory, RECEIPT_PATIENCE, &mut progress);
        tokio::select! {
            fetched = fetching => match fetched {
                Ok(fetched) => return fetched,
                Err(error) => outcome.error = outcome.error.take().or(Some(error)),
            },
            signal = interrupts.next() => outcome.interrupted = Some(signal),
        }
        progress.finish();
    }
    as_they_lie_there(directory, &outcome.ids)
}

/// Each is there whole and verified, or not at all.
fn as_they_lie_there(directory: &Path, ids: &[Hash]) -> Fetched {
    let good = ids.iter().filter(|id| directory.join(format!("{id}.json")).exists()).count();
    Fetched { good, bad: 0, missing: ids.len() - good }
}

fn conclude(outcome: Outcome, waited: bool, fetched: Fetched) -> Result<(), Failure> {
    let Outcome { tally, error, input_error, interrupted, .. } = outcome;
    let Fetched { missing, bad, .. } = fetched;
    if let Some(signal) = interrupted {
        return Err(Failure::interrupted(signal, Incomplete::Interrupted { signal, tally, missing }));
    }
    if let Some(error) = error.or(input_error) {
        return Err(Failure::failed(Incomplete::Stopped { error, tally }));
    }
    if waited && tally.committed < tally.signed {
        return Err(Failure::failed(Incomplete::NotCommitted(tally)));
    }
    if tally.accepted < tally.signed {
        return Err(Failure::failed(Incomplete::NotAccepted(tally)));
    }
    if missing > 0 || bad > 0 {
        return Err(Failure::failed(Incomplete::Receipts { missing, bad, tally }));
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
        let none = Fetched::default();
        assert!(conclude(outcome(all), true, none).is_ok());
        assert!(conclude(outcome(all), true, Fetched { missing: 1, ..none }).is_err());
        let bad = conclude(outcome(all), true, Fetched { good: 2, bad: 1, missing: 0 }).unwrap_err();
        assert!(bad.to_string().starts_with("0 receipts are missing, 1 are bad; "), "{bad}");
        let pending = Tally { committed: 0, pending: 3, ..all };
        assert!(conclude(outcome(pending), false, none).is_ok());
        let rejected = conclude(outcome(Tally { committed: 2, rejected: 1, ..all }), true, none).unwrap_err();
        assert!(rejected.to_string().ends_with("2 committed, 1 rejected, 0 dumped"), "{rejected}");
        let mut stopped = outcome(all);
        stopped.input_error = Some(ClientError::Usage("line 3: not JSON".into()));
        assert!(conclude(stopped, true, none).is_err());
    }

    #[test]
    fn an_interruption_says_what_was_done() {
        let tally = Tally { signed: 9, accepted: 7, committed: 4, undecided: 3, unsent: 2, ..Tally::default() };
        let outcome = Outcome { tally, interrupted: Some(Signal::Interrupt), ..Outcome::default() };
        let fetched = Fetched { good: 1, bad: 0, missing: 3 };
        assert_eq!(
            conclude(outcome, true, fetched).unwrap_err().to_string(),
            "interrupted by SIGINT: 7 records sent, 4 committed, 0 rejected, 0 dumped, \
             3 undecided (they may yet be committed), 2 not sent; 3 receipts are missing"
        );
    }

    #[test]
    fn receipts_are_counted_as_they_lie_there() {
        let directory = tempfile::tempdir().unwrap();
        let ids = [Hash::from_bytes([1; 32]), Hash::from_bytes([2; 32])];
        fs::write(directory.path().join(format!("{}.json", ids[1])), "{}").unwrap();
        fs::write(directory.path().join(format!("{}.json.part", ids[0])), "{").unwrap();
        assert_eq!(as_they_lie_there(directory.path(), &ids), Fetched { good: 1, bad: 0, missing: 1 });
    }
}

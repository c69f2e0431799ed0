//! `minidlt bench`: how fast a cluster is, and how near to what the machine allows.
//!
//! Every node checks each author's signature once, so a cluster on one machine cannot commit more
//! than `bound = cores / (nodes × verify time)` transactions a second, each with one signature. The
//! bench measures the verify time first and sets what was committed against that bound.
//!
//! | module | holds |
//! |---|---|
//! | [`verify`] | the time one signature check takes |
//! | [`cluster`] | a throwaway cluster of real node processes, ended whatever happens |
//! | [`presign`] | transactions signed beforehand, so that signing is not measured |
//! | [`pace`] | when each transaction is due |
//! | [`load`] | sending what is due, and noting when it was committed |
//! | [`process`] | CPU time and memory of the nodes and of the bench itself |
//! | [`reached`] | how far it has come, for whoever interrupts it |
//! | [`report`] | what came out: flat keys with units |
//!
//! With a rate, arrivals are scheduled beforehand and latency counts from the scheduled moment, so
//! that a cluster that stalls is charged for what had to wait (no coordinated omission). Without
//! one, a bounded number of transactions is kept under way to find the most it can do.

mod cluster;
mod error;
mod load;
mod pace;
mod presign;
mod process;
mod reached;
mod report;
mod statistics;
mod verify;

use std::{path::PathBuf, thread, time::Duration};

use self::{
    cluster::Cluster,
    pace::Pace,
    presign::Presigned,
    reached::{Stage, Tracker},
};
pub use self::{cluster::Mode, error::BenchError, report::Report};
use crate::{client::connect, interrupt::Interrupts, say::note};

/// Before the measured time, so that connections stand and caches are warm.
const WARM_UP: Duration = Duration::from_secs(2);
/// How many transactions are kept under way where no rate is given.
const MAX_UNDER_WAY: usize = 4_000;
/// How far beyond the bound transactions are signed beforehand where no rate is given.
const RESERVE: f64 = 1.1;

/// What to measure.
#[derive(Debug, Clone)]
pub struct Plan {
    pub nodes: usize,
    pub consensus: Mode,
    pub duration: Duration,
    /// Transactions a second; as many as possible where there is none.
    pub rate_per_s: Option<f64>,
    pub records_per_transaction: usize,
    /// A network that runs already, in place of a throwaway cluster.
    pub network: Option<PathBuf>,
}

/// Runs the whole of it; Ctrl-C, SIGTERM and SIGHUP end it and the cluster.
pub async fn run(plan: Plan) -> Result<Report, BenchError> {
    let mut interrupts = Interrupts::listen().map_err(BenchError::Signals)?;
    let (tracker, throwaway) = (Tracker::default(), plan.network.is_none());
    tokio::select! {
        // First: Ctrl-C ends the nodes, too, and theirs is not the news.
        biased;
        signal = interrupts.next() => {
            Err(BenchError::Interrupted { signal, reached: tracker.reached(), throwaway })
        }
        report = measure(plan, tracker.clone()) => report,
    }
}

async fn measure(plan: Plan, tracker: Tracker) -> Result<Report, BenchError> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let verify_time = verify::median_time();
    note(format_args!("one signature check takes {:.1} µs", verify_time.as_secs_f64() * 1e6));

    let mut cluster = match &plan.network {
        Some(_) => None,
        None => Some(Cluster::start(plan.nodes, plan.consensus)?),
    };
    let directory = plan.network.clone().or_else(|| cluster.as_ref().map(|cluster| cluster.directory().to_owned()));
    let user = directory.unwrap_or_default().join("users").join("trader");
    if let Some(cluster) = &mut cluster {
        note(format_args!("waiting for {} nodes to be ready", plan.nodes));
        cluster.ready().await?;
    }
    let session = connect::open(&user, None, &[])?;
    let (_, status) = session.first_alive().await?;
    let nodes = session.nodes.len();
    let bound_per_s = cores as f64 / (nodes as f64 * verify_time.as_secs_f64());

    let pace = plan.rate_per_s.map_or(Pace::Closed { under_way: MAX_UNDER_WAY }, |per_s| Pace::Open { per_s });
    let seconds = (WARM_UP + plan.duration).as_secs_f64();
    let wanted = plan.rate_per_s.unwrap_or(bound_per_s * RESERVE) * seconds;
    tracker.enter(Stage::Signing);
    note(format_args!("signing up to {wanted:.0} transactions beforehand"));
    let presigned = Presigned::sign(&user, wanted.ceil() as usize, plan.records_per_transaction, cores).await?;

    tracker.enter(Stage::Loading);
    note(format_args!("loading {nodes} nodes for {seconds} s"));
    let pids: Vec<u32> = cluster.as_ref().map(Cluster::pids).unwrap_or_default();
    let load = load::Load { presigned, pace, duration: plan.duration, tracker };
    let measured = load::run(session.nodes, status.height, load, &pids).await?;
    if let Some(cluster) = &mut cluster {
        cluster.check_alive()?;
    }
    if let Some(complaint) = &measured.complaint {
        note(format_args!("not all were taken: {complaint}"));
    }
    if measured.ran_out {
        let sent = measured.sent.len();
        note(format_args!("all {sent} signed transactions were sent before the end, so the result is too low"));
    }
    let facts = report::Facts { consensus: status.consensus.mode, nodes, cores, verify_time, bound_per_s, plan: &plan };
    Ok(Report::new(&facts, &measured))
}

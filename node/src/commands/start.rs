//! `minidlt start`: runs a node until it is told to end, by SIGINT, SIGTERM or the API. SIGHUP tells it to look at
//! its certificate's files now.

use std::{
    io::{self, Write},
    path::PathBuf,
    process,
};

use actix_rt::{
    System,
    signal::unix::{SignalKind, signal},
};
use clap::Args;
use log::{LevelFilter, info, warn};
use minidlt_actors::{fatal, wiring};
use minidlt_config::Settings;
use minidlt_protocol::types::Height;

use super::{Failure, flags::NodeFlags};
use crate::interrupt::Interrupts;

/// Run a node until Ctrl-C, SIGTERM or an administrator stops it; it logs to standard error, and looks at its
/// certificate's files on SIGHUP
#[derive(Debug, Args)]
pub struct Start {
    /// The node's directory, such as network/node0
    #[arg(value_name = "DIR")]
    path: PathBuf,
    /// For a node that has lost its record of votes, where the others cannot decide without it: its
    /// operator's word that it has never voted at this height or above
    #[arg(long, value_name = "HEIGHT")]
    vote_from: Option<u64>,
    #[command(flatten)]
    flags: NodeFlags,
}

impl Start {
    pub fn run(self) -> Result<(), Failure> {
        let settings = minidlt_config::load(&self.path, self.flags.into())?;
        log_to_stderr(settings.log_level);
        abort_on_panic();
        settings.warnings.iter().for_each(|warning| warn!("{warning}"));
        raise_descriptors(wiring::descriptors(&settings));
        fatal::exit(match System::new().block_on(serve(settings, self.vote_from.map(Height::new))) {
            Ok(()) => 0,
            Err(failure) => failure.tell(),
        })
    }
}

async fn serve(settings: Settings, vote_from: Option<Height>) -> Result<(), Failure> {
    let (me, network) = (settings.identity.clone(), settings.genesis.network.clone());
    let mut interrupts = Interrupts::listen_beside_hang_up()?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let node = wiring::start(settings, vote_from).await?;
    info!("{me} of network {network} serves its API at https://{}", node.api);
    let stop = node.stop.clone();
    let why = loop {
        tokio::select! {
            signal = interrupts.next() => break signal.to_string(),
            () = stop.notified() => break "an administrator".to_owned(),
            _ = hang_up.recv() => node.renew.notify_one(),
        }
    };
    info!("stopping, as told by {why}");
    node.end().await;
    info!("stopped");
    Ok(())
}

/// A database that cannot open a file ends the node, so the limit that most systems begin with, 1,024, is
/// raised as far as the system lets it.
fn raise_descriptors(needed: u64) {
    let raised = rlimit::Resource::NOFILE.get().and_then(|(soft, hard)| match soft.max(needed.min(hard)) {
        wanted if wanted > soft => rlimit::Resource::NOFILE.set(wanted, hard).map(|()| wanted),
        enough => Ok(enough),
    });
    match raised {
        Ok(limit) if limit >= needed => {}
        Ok(limit) => warn!(
            "this process may open {limit} files, and its connections may come to {needed}: a flood of them can stop \
             this node. Raise the hard limit (ulimit -Hn, or LimitNOFILE of its service)"
        ),
        Err(error) => warn!("the limit of open files cannot be raised to {needed}: {error}"),
    }
}

/// One line an event, to standard error. The level can be changed while the node runs, so the
/// logger passes everything that the `log` crate's own limit lets through.
fn log_to_stderr(level: LevelFilter) {
    env_logger::Builder::new()
        .filter_level(LevelFilter::Trace)
        .filter_module("arc_malachitebft", LevelFilter::Warn)
        // It warns of bad signatures of this node's own votes when it replays those that are yet to be
        // signed; those of others are checked before it hears of them.
        .filter_module("arc_malachitebft_core_consensus::handle::vote", LevelFilter::Error)
        .filter_module("informalsystems_malachitebft", LevelFilter::Warn)
        .filter_module("actix_server", LevelFilter::Warn)
        .filter_module("actix_http", LevelFilter::Warn)
        .filter_module("h2", LevelFilter::Error)
        .filter_module("mio", LevelFilter::Warn)
        .format_target(false)
        .format_timestamp_millis()
        .init();
    log::set_max_level(level);
}

/// A panic in any thread ends the process: a node with a part missing is worse than none.
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        let _nothing_left_to_do = io::stderr().flush();
        process::abort();
    }));
}

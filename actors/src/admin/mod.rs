//! The HTTP API: how users, operators and programs drive a node. HTTPS with TLS 1.3 and client
//! certificates; who may do what comes from the ledger's registry. `openapi.json` beside this file
//! is the contract, [`limits`] has every bound.
//!
//! ```text
//! connection → connections::admit → auth::on_connect: certificate → member?
//! request    → finish (bound, count, explain) → members_only → within_share → handler
//! handler    → Mempool, Consensus, …; → Ledger (reads only)
//! ```
//!
//! Handlers hold no state of the ledger: they ask its actors by message and read its snapshots.

mod auth;
mod backup;
mod blocks;
mod body;
mod connections;
mod control;
mod events;
mod exact;
mod explain;
pub mod health;
mod history;
mod ledger;
pub mod limits;
mod openapi;
mod prepare;
mod problem;
mod registry;
mod routes;
mod shares;
mod status;
mod submit;
mod transactions;
mod turns;
mod wait;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use actix::{Message, Recipient};
use actix_web::{App, HttpServer, dev::ServerHandle, http::KeepAlive, middleware, web};
use minidlt_protocol::{
    genesis::Genesis,
    successor::Origin,
    types::{Hash, Height, Identity},
};
use openssl::ssl::SslAcceptorBuilder;
use tokio::sync::{Notify, Semaphore, watch};

use self::{
    connections::Connections,
    events::Frames,
    limits::{
        CONNECTION_WINDOW_BYTES, PAGES, PREPARATIONS, PREPARATIONS_A_CALLER, REFUSALS, REPLAYS, STREAM_WINDOW_BYTES,
    },
    problem::Problem,
    shares::Bound,
    turns::Turns,
};
pub use self::{ledger::Ledger, limits::Limits};
use crate::{
    log_limit::LogLimit,
    members::Members,
    messages::{
        consensus::GetConsensusStatus,
        endorsement::Collect,
        mempool::{FindPending, GetMempoolStatus, Submit},
        network::GetPeers,
        signer::Stamp,
        sync::GetSyncStatus,
    },
    metrics::Metrics,
    shares::{Shares, share_of},
    store::reader::ReadError,
    tls::Live,
};

/// Where the Mempool takes its messages.
#[derive(Clone)]
pub struct MempoolRecipients {
    pub submit: Recipient<Submit>,
    pub find: Recipient<FindPending>,
    pub status: Recipient<GetMempoolStatus>,
}

/// What a check of the whole chain found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// The head it was checked up to.
    pub height: Height,
    pub first_bad: Option<BadBlock>,
}

/// A block that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadBlock {
    pub height: Height,
    pub reason: String,
}

/// Checks the whole chain; called on a blocking thread, one call at a time.
pub type VerifyChain = Arc<dyn Fn() -> Result<Verification, ReadError> + Send + Sync>;

/// What the API is wired to.
pub struct Api {
    pub ledger: Arc<dyn Ledger>,
    pub members: Members,
    pub tls: Arc<Live>,
    pub genesis: Arc<Genesis>,
    pub me: Identity,
    pub mempool: MempoolRecipients,
    pub endorsement: Recipient<Collect>,
    pub consensus: Recipient<GetConsensusStatus>,
    pub peers: Recipient<GetPeers>,
    pub sync: Recipient<GetSyncStatus>,
    /// Where copies of the ledger are put.
    pub backups: PathBuf,
    pub signer: Recipient<Stamp>,
    /// Notified once when an administrator stops the node.
    pub stop: Arc<Notify>,
    pub verify: VerifyChain,
    pub metrics: Arc<Metrics>,
    pub limits: Limits,
}

/// What all handlers share.
struct State {
    api: Api,
    network: Hash,
    /// Where the network came from. It takes a hash over all of the old genesis, so no request makes it.
    origin: Option<Origin>,
    started: Instant,
    connections: Connections,
    strangers: Mutex<LogLimit>,
    /// Requests under way.
    requests: Bound,
    /// Answers under way that say that the node has no room for a request.
    refusals: Arc<Semaphore>,
    /// Memory for bodies, in KiB.
    bodies: Bound,
    /// Memory for large answers, in KiB.
    answers: Bound,
    /// Requests that wait for a commit.
    waiters: Bound,
    subscribers: Bound,
    /// Frames of old or large blocks on their way.
    replays: Turns,
    /// Pages of blocks being made.
    pages: Turns,
    /// A place here goes with the work, and not with the request, whose caller may hang up.
    verifying: Arc<Semaphore>,
    backing_up: Arc<Semaphore>,
    preparing: Arc<Semaphore>,
    preparing_callers: Arc<Shares<Identity>>,
    frames: Frames,
    /// Turns true when the server stops, to end what would otherwise go on for ever.
    closing: watch::Receiver<bool>,
}

impl State {
    fn new(api: Api, closing: watch::Receiver<bool>) -> Self {
        let Limits { requests, body_bytes, bodies_bytes, answers_bytes, waiters, subscribers, .. } = api.limits;
        let bodies = bodies_bytes / 1024;
        Self {
            network: api.genesis.id(),
            origin: api.genesis.predecessor.as_ref().map(|predecessor| predecessor.origin()),
            started: Instant::now(),
            strangers: Mutex::default(),
            connections: Connections::new(api.limits.workers * api.limits.connections_per_worker),
            requests: Bound::new(requests),
            refusals: Arc::new(Semaphore::new(REFUSALS)),
            // A share takes any one body.
            bodies: Bound::with_share(bodies, share_of(bodies).max(body_bytes.div_ceil(1024))),
            answers: Bound::new(answers_bytes / 1024),
            waiters: Bound::new(waiters),
            subscribers: Bound::new(subscribers),
            replays: Turns::new(REPLAYS),
            pages: Turns::new(PAGES),
            verifying: Arc::new(Semaphore::new(1)),
            backing_up: Arc::new(Semaphore::new(1)),
            preparing: Arc::new(Semaphore::new(PREPARATIONS)),
            preparing_callers: Shares::new(PREPARATIONS_A_CALLER),
            frames: Frames::default(),
            closing,
            api,
        }
    }

    /// Ends when the server stops.
    async fn closed(&self) {
        // An error means that the server is gone, which is the same.
        let _ = self.closing.clone().wait_for(|closing| *closing).await;
    }

    /// Asks an actor a question that changes nothing, so that it may be given up.
    async fn ask<M>(&self, whom: &str, recipient: &Recipient<M>, message: M) -> Result<M::Result, Problem>
    where
        M: Message + Send,
        M::Result: Send,
    {
        match tokio::time::timeout(self.api.limits.ask_time, recipient.send(message)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(Problem::not_ready(format!("{whom} does not answer: {error}"))),
            Err(_) => Err(Problem::not_ready(format!("{whom} does not answer in time"))),
        }
    }
}

/// Runs what reads or encodes much where it keeps no other request waiting.
async fn blocking<T, F>(work: F) -> Result<T, Problem>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, Problem> + Send + 'static,
{
    web::block(work).await.map_err(|_| Problem::not_ready("the node is stopping"))?
}

/// A server that runs.
pub struct Running {
    pub address: SocketAddr,
    handle: ServerHandle,
    closing: watch::Sender<bool>,
}

/// How long requests under way may take to end when the server stops, in seconds.
const STOP_SECONDS: u64 = 5;
/// How long a connection is kept for a caller who was answered before its body was read, so that
/// it can read that answer.
const LINGER: Duration = Duration::from_secs(2);
const BACKLOG: u32 = 1_024;

impl Running {
    /// Takes no more connections, ends event streams and waits, and returns when all is answered
    /// or the time for that is over.
    pub async fn stop(self) {
        self.closing.send_replace(true);
        self.handle.stop(true).await;
    }
}

/// Serves the API on a listener that is already bound; the acceptor is [`Live::acceptor`].
/// Call it within an actix system.
pub fn start(api: Api, listener: TcpListener, acceptor: SslAcceptorBuilder) -> io::Result<Running> {
    let address = listener.local_addr()?;
    let (closing, closed) = watch::channel(false);
    let limits = api.limits;
    let state = web::Data::new(State::new(api, closed));
    let connected = state.clone();
    let server = HttpServer::new(move || {
        App::new()
            .app_data(state.clone())
            .app_data(
                web::QueryConfig::default().error_handler(|error, _| Problem::bad_request(error.to_string()).into()),
            )
            .wrap(middleware::from_fn(shares::within_share))
            .wrap(middleware::from_fn(auth::members_only))
            .wrap(middleware::from_fn(problem::finish))
            .configure(routes::configure)
    })
    .on_connect(move |connection, data| {
        if connections::admit(&connected, connection, data) {
            auth::on_connect(&connected, connection, data);
        }
    })
    .workers(limits.workers)
    .worker_max_blocking_threads(limits.blocking_threads)
    .h2_initial_window_size(STREAM_WINDOW_BYTES)
    .h2_initial_connection_window_size(CONNECTION_WINDOW_BYTES)
    .backlog(BACKLOG)
    .max_connections(limits.connections_per_worker)
    .max_connection_rate(limits.handshakes_per_worker)
    .client_request_timeout(limits.head_time)
    .client_disconnect_timeout(LINGER)
    .keep_alive(KeepAlive::Timeout(limits.keep_alive))
    .shutdown_timeout(STOP_SECONDS)
    .disable_signals()
    .listen_openssl(listener, acceptor)?
    .run();
    let handle = server.handle();
    actix_web::rt::spawn(async move {
        if let Err(error) = server.await {
            log::error!("API: {error}");
        }
    });
    Ok(Running { address, handle, closing })
}

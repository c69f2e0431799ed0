//! Who is connected to whom: the one place that knows all actors.
//!
//! Built downstream first, each made with the addresses of those it hands on to. Three edges go
//! back up and are handed over once both ends are there: the Listener's routes, whom the Mempool
//! wakes, and whom Consensus tells that it is behind.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
    thread::available_parallelism,
    time::Duration,
};

use actix::{Actor, Addr, Arbiter};
use minidlt_config::{Settings, tls::Tls};
use minidlt_protocol::{
    consensus::Timeouts,
    genesis,
    mempool::Mempool as Pool,
    sync::{Place, VoteRecord},
    types::Height,
    vote::Voters,
};
use thiserror::Error;
use tokio::{sync::Notify, task::JoinHandle};

use crate::{
    admin::{self, Api, BadBlock, MempoolRecipients, Verification, health},
    consensus::{self, Consensus, Follow, SignerLinks},
    endorsement::{self, Endorsement},
    fork::{self, ForkError},
    journal::JournalError,
    listener::{self, Listener},
    mempool::{self, Mempool, Wake},
    messages::{
        network::{Begin, CloseAll, Routes},
        signer::ReadLog,
        store::Flush,
    },
    metrics::Metrics,
    reporter::{self, Reporter},
    restore,
    signer::{Keys, Signer},
    store::{self, Store},
    sync::{self, Sync},
    tls::{Credentials, Live, Renewal, TlsError},
    verifier::{NearVerifier, Verifier, is_committed},
};

/// Why a node did not start; one line each.
#[derive(Debug, Error)]
pub enum StartError {
    #[error("{key}: {address}: {reason}; is another program using it?")]
    Port { key: &'static str, address: SocketAddr, reason: io::Error },
    #[error("data_dir: {0}")]
    Store(#[from] store::OpenError),
    #[error("data_dir: {}: {}", .0.display(), .1)]
    Journal(PathBuf, JournalError),
    #[error("data_dir: {0}")]
    Fork(#[from] ForkError),
    #[error(
        "--vote-from {}: this node has a record of its votes, in {}, and needs no word on it; leave the flag out",
        .0, .1.display()
    )]
    VoteFrom(Height, PathBuf),
    #[error("tls: {0}")]
    Tls(#[from] TlsError),
    #[error("{0} cannot be served: {1}")]
    Serve(&'static str, io::Error),
    #[error("a part of the node ended while the node was starting: {0}")]
    Mailbox(#[from] actix::MailboxError),
}

/// A node that runs.
pub struct Running {
    /// Notified when an administrator asks for the node's end.
    pub stop: Arc<Notify>,
    /// Notified when its operator wants its certificate's files looked at now.
    pub renew: Arc<Notify>,
    pub api: SocketAddr,
    renewing: JoinHandle<()>,
    listener: Addr<Listener>,
    server: admin::Running,
    health: health::RunningHealth,
    store: Addr<Store>,
    /// In the order they end in: those that the data comes through, then those of the disk.
    arbiters: [Arbiter; 4],
    disk: [Arbiter; 2],
}

/// Files of a node beside those below: its logs, keys, the event loops' own.
const OTHER_FILES: usize = 128;

/// How many file descriptors a node uses at most, by its own bounds.
pub fn descriptors(settings: &Settings) -> u64 {
    let api = admin::Limits::default();
    let connections = api.workers * api.connections_per_worker + health::CONNECTIONS + settings.limits.sessions;
    (connections + store::MAX_OPEN_FILES + OTHER_FILES) as u64
}

/// Starts a node. Ports are bound before anything is written to disk but the ledger's lock. `vote_from` is
/// its operator's word that it has never voted at this height or above, where its record of that is lost.
pub async fn start(settings: Settings, vote_from: Option<Height>) -> Result<Running, StartError> {
    let Settings { identity: me, genesis, network, authority, key, key_files, data_dir, tls, limits, endorse, .. } =
        settings;
    let bind = |key, address| TcpListener::bind(address).map_err(|reason| StartError::Port { key, address, reason });
    let genesis = Arc::new(genesis);
    let store_settings =
        store::Settings { directory: data_dir.join(restore::LEDGER), genesis: genesis.clone(), node: me.clone() };
    let (writer, reader) = store::open(store_settings)?;
    let api_socket = bind("api_listen", settings.api_listen)?;
    let peers_socket = bind("peers_listen", settings.peers_listen)?;
    let health_socket = bind("health_listen", settings.health_listen)?;

    let (members, metrics) = (reader.members(), Arc::new(Metrics::new()));
    let Tls { certificate, key: tls_key, files } = tls;
    let credentials = Credentials { chain: vec![certificate], key: tls_key };
    let live = Live::new(me.clone(), credentials, authority, metrics.clone())?;
    let [network_arbiter, mempool_arbiter, consensus_arbiter, endorsement_arbiter] =
        [Arbiter::new(), Arbiter::new(), Arbiter::new(), Arbiter::new()];
    // These two wait for the disk, and nobody else with them.
    let [signer_arbiter, store_arbiter] = [Arbiter::new(), Arbiter::new()];

    let store = Store::start_in_arbiter(&store_arbiter.handle(), |_| Store::new(writer));
    let acceptor = live.acceptor()?;
    let listener_settings = listener::Settings {
        me: me.clone(),
        network,
        members: members.clone(),
        tls: live.clone(),
        metrics: metrics.clone(),
        limits: listener::Limits { connections: limits.sessions, ..listener::Limits::default() },
    };
    let listener = Listener::new(listener_settings, peers_socket);
    let listener = Listener::start_in_arbiter(&network_arbiter.handle(), |_| listener);
    let keys = Keys::new(me.clone(), key, key_files, members.clone());
    let held = keys.held();
    let journal_error = |error| StartError::Journal(data_dir.clone(), error);
    let mut signer =
        Signer::open(me.clone(), network, keys, &data_dir, listener.clone().recipient()).map_err(journal_error)?;
    if let Some(from) = vote_from {
        if !signer.has_signed_nothing() {
            return Err(StartError::VoteFrom(from, data_dir));
        }
        signer.vote_from(from).map_err(journal_error)?;
    }
    let (record, seen_fork) = (signer.record(), fork::load(&data_dir)?);
    let next = reader.head().height.next();
    if let VoteRecord::Kept(from) = record
        && next < from
    {
        log::warn!(
            "the record of votes goes on at height {from}: blocks {next} and up are fetched from other nodes first"
        );
    }
    let signer = Signer::start_in_arbiter(&signer_arbiter.handle(), |_| signer);

    let checks = Verifier::new(me.clone(), network, members.clone(), is_committed(reader.clone()));
    let near = |arbiter: &Arbiter| {
        let verifier = NearVerifier(checks.clone());
        NearVerifier::start_in_arbiter(&arbiter.handle(), |_| verifier)
    };
    let (urgent, near_mempool) = (near(&network_arbiter), near(&mempool_arbiter));
    let near_endorsement = near(&endorsement_arbiter);
    let bulk = checks.start(available_parallelism().map_or(1, usize::from));

    let mempool_links = mempool::Links {
        verifiers: bulk.clone().recipient(),
        near: near_mempool.recipient(),
        signer: signer.clone().recipient(),
        reader: reader.clone(),
    };
    let mempool = Mempool::new(me.clone(), Pool::new(limits.mempool), mempool_links, metrics.clone());
    let mempool = Mempool::start_in_arbiter(&mempool_arbiter.handle(), |_| mempool);

    let endorsement_links = endorsement::Links {
        verifiers: bulk.clone().recipient(),
        near: near_endorsement.recipient(),
        stamp: signer.clone().recipient(),
        sign: signer.clone().recipient(),
        mempool: mempool.clone().recipient(),
        members: members.clone(),
    };
    let endorsement_limits = endorsement::Limits::default();
    let endorsement_settings = endorsement::Settings { me: me.clone(), network, endorse, limits: endorsement_limits };
    let endorsement = Endorsement::new(endorsement_settings, endorsement_links, metrics.clone());
    let endorsement = Endorsement::start_in_arbiter(&endorsement_arbiter.handle(), |_| endorsement);

    let reporter_links = reporter::Links {
        signer: signer.clone().recipient(),
        mempool: mempool.clone().recipient(),
        reader: reader.clone(),
    };
    let reporter = Reporter::new(me.clone(), reporter_links);
    let reporter = Reporter::start_in_arbiter(&mempool_arbiter.handle(), |_| reporter);

    let log = signer.send(ReadLog).await?;
    let consensus_links = consensus::Links {
        pick: mempool.clone().recipient(),
        assemble: mempool.clone().recipient(),
        hold: mempool.clone().recipient(),
        mempool: mempool.clone().recipient(),
        store: store.clone().recipient(),
        reporter: reporter.recipient(),
        reader: reader.clone(),
    };
    let signer_links = SignerLinks {
        vote: signer.clone().recipient(),
        proposal: signer.clone().recipient(),
        publish: signer.clone().recipient(),
    };
    let (timeouts, voter) = (timeouts(&genesis.timeouts), me.clone());
    let (shared, voters_keys) = (metrics.clone(), held.clone());
    // The core is not `Send`, so the actor that holds it is made where it runs.
    let consensus = Consensus::start_in_arbiter(&consensus_arbiter.handle(), move |_| {
        Consensus::new((voter, voters_keys), timeouts, consensus_links, signer_links, log, shared)
    });
    mempool.send(Wake(consensus.clone().recipient())).await?;

    let sync_links = sync::Links {
        fetched: consensus.clone().recipient(),
        take_part: consensus.clone().recipient(),
        say_again: consensus.clone().recipient(),
        halt: consensus.clone().recipient(),
        signer: signer.clone().recipient(),
        sign_draft: signer.clone().recipient(),
        vote_from: signer.clone().recipient(),
        reader: reader.clone(),
        keys: held,
    };
    let head = reader.head();
    let (voters, coming) = sync::voters(&reader.registry(), head.height);
    let sync_settings = minidlt_protocol::sync::Settings {
        me: me.clone(),
        voters: Voters::clone(&voters),
        coming: Voters::clone(&coming),
        policy: genesis.synchronise,
        record,
        head: Place { height: head.height, block: head.hash },
    };
    let sync = Sync::new(sync_settings, sync_links, data_dir.clone(), seen_fork, metrics.clone());
    let sync = Sync::start_in_arbiter(&network_arbiter.handle(), |_| sync);
    consensus.send(Follow(sync.clone().recipient())).await?;

    let stop = Arc::new(Notify::new());
    let verified = reader.clone();
    let api = Api {
        ledger: Arc::new(reader),
        members: members.clone(),
        tls: live.clone(),
        genesis,
        me: me.clone(),
        mempool: MempoolRecipients {
            submit: mempool.clone().recipient(),
            find: mempool.clone().recipient(),
            status: mempool.clone().recipient(),
        },
        endorsement: endorsement.clone().recipient(),
        consensus: consensus.clone().recipient(),
        peers: listener.clone().recipient(),
        sync: sync.clone().recipient(),
        backups: data_dir.join("backups"),
        signer: signer.clone().recipient(),
        stop: stop.clone(),
        verify: Arc::new(move || {
            let height = verified.head().height;
            let first_bad = store::verify::verify(&verified).err();
            let first_bad = first_bad.map(|bad| BadBlock { height: bad.height, reason: bad.what });
            Ok(Verification { height, first_bad })
        }),
        metrics: metrics.clone(),
        limits: admin::Limits {
            requests: limits.requests,
            subscribers: limits.subscribers,
            ..admin::Limits::default()
        },
    };
    let server = admin::start(api, api_socket, acceptor).map_err(|error| StartError::Serve("the API", error))?;
    let health = health::Health { members, me, peers: listener.clone().recipient(), metrics };
    let health = health::start(health, health_socket).map_err(|error| StartError::Serve("health", error))?;

    let routes = Routes {
        stamp: signer.recipient(),
        urgent: urgent.recipient(),
        bulk: bulk.recipient(),
        pool: mempool.recipient(),
        consensus: consensus.recipient(),
        endorsement: endorsement.clone().recipient(),
        sync: sync.clone().recipient(),
        changed: vec![sync.recipient(), endorsement.recipient()],
    };
    listener.send(Begin(routes)).await?;
    let arbiters = [endorsement_arbiter, consensus_arbiter, mempool_arbiter, network_arbiter];
    let disk = [signer_arbiter, store_arbiter];
    let renew = Arc::new(Notify::new());
    let renewing = actix_rt::spawn(Renewal::new(files, live).run(renew.clone()));
    let api = server.address;
    Ok(Running { stop, renew, api, renewing, listener, server, health, store, arbiters, disk })
}

impl Running {
    /// Ends in the order of the data's flow: no more requests, no more peers, no more rounds; then
    /// the Store, flushed. What the Signer had not synced was never sent.
    pub async fn end(self) {
        self.renewing.abort();
        self.server.stop().await;
        if let Err(error) = self.listener.send(CloseAll).await {
            log::warn!("the connections with other nodes were not closed in order: {error}");
        }
        self.health.stop().await;
        drop(self.listener);
        end(self.arbiters).await;
        if let Err(error) = self.store.send(Flush).await {
            log::warn!("the ledger was not flushed: {error}");
        }
        end(self.disk).await;
    }
}

async fn end(arbiters: impl IntoIterator<Item = Arbiter>) {
    for arbiter in arbiters {
        arbiter.stop();
        // Off this thread, which must go on: it hands transactions to the Verifiers' threads.
        let _ended = actix_rt::task::spawn_blocking(move || arbiter.join()).await;
    }
}

/// How long a round waits, from the genesis' three numbers.
fn timeouts(genesis: &genesis::Timeouts) -> Timeouts {
    let [propose, vote, delta] = [genesis.propose_ms, genesis.vote_ms, genesis.delta_ms].map(Duration::from_millis);
    Timeouts {
        propose,
        propose_more: 2 * delta,
        prevote: vote,
        prevote_more: delta,
        precommit: vote,
        precommit_more: delta,
        rebroadcast: propose + vote,
        ..Timeouts::default()
    }
}

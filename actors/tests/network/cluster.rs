//! The network parts of several nodes in one process, on loopback, and what they hear.

use std::{
    net::TcpListener,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::{Actor, Addr, Context, Handler};
use minidlt_actors::{
    journal::Journal,
    listener::{Backoff, Limits, Listener, Settings},
    members::Members,
    messages::{
        network::{Begin, Class, CloseAll, FromPeer, GetPeers, Peer, PeerChanged, Routes},
        signer::Stamp,
    },
    metrics::{ByReason, Metrics, Reason},
    signer::{Keys, Signer},
    tls::{Authority, Credentials, Live},
    verifier::{NearVerifier, Verifier},
};
use minidlt_config::KeyFiles;
use minidlt_protocol::{
    block::Head,
    consensus::Wire,
    crypto::SecretKey,
    endorsement::EndorsementContent,
    genesis::{Genesis, Timeouts},
    message::{CheckedConsensus, ConsensusContent, Content, PoolContent, Recipient, SyncContent},
    registry::{Node, NodeRole, Organisation, Registry, Role, User},
    types::{Hash, Height, Identity, Round, Timestamp},
    vote::{ConsensusMode, Phase, SignedVote, Vote},
};
use tempfile::TempDir;
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use crate::certificates::Ca;

/// Longer than anything here takes; only a failing test waits for it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Quick, but not so that a busy machine breaks them. Silence has no end in most tests: the other end
/// that they hold says nothing by itself.
pub fn limits() -> Limits {
    let backoff = Backoff { least: Duration::from_millis(10), most: Duration::from_millis(100) };
    Limits { handshake: Duration::from_secs(3), idle: PATIENCE, stall: PATIENCE, backoff, ..Limits::default() }
}

pub fn identity(n: usize) -> Identity {
    format!("node{n}@Org{n}").parse().unwrap()
}

pub fn key(n: usize) -> SecretKey {
    SecretKey::from_bytes(&[n as u8 + 1; 32]).unwrap()
}

/// The keys of node `n`, whose files are in this directory.
pub fn keys(n: usize, directory: &Path, members: Members) -> Keys {
    Keys::new(identity(n), key(n), KeyFiles::new(directory.join("node.key")), members)
}

/// What a node's actors heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    Pool(Identity, PoolContent),
    Consensus(Identity, CheckedConsensus),
    Sync(Identity, SyncContent),
    Endorsement(Identity, EndorsementContent),
    Changed(Identity, bool),
}

struct Ear(mpsc::UnboundedSender<Heard>);

impl Actor for Ear {
    type Context = Context<Self>;
}

impl Ear {
    fn hear(&self, heard: Heard) {
        let _test_over = self.0.send(heard);
    }
}

impl Handler<FromPeer<PoolContent>> for Ear {
    type Result = ();
    fn handle(&mut self, FromPeer { peer, content }: FromPeer<PoolContent>, _: &mut Self::Context) {
        self.hear(Heard::Pool(peer, content));
    }
}

impl Handler<FromPeer<CheckedConsensus>> for Ear {
    type Result = ();
    fn handle(&mut self, FromPeer { peer, content }: FromPeer<CheckedConsensus>, _: &mut Self::Context) {
        self.hear(Heard::Consensus(peer, content));
    }
}

impl Handler<FromPeer<SyncContent>> for Ear {
    type Result = ();
    fn handle(&mut self, FromPeer { peer, content }: FromPeer<SyncContent>, _: &mut Self::Context) {
        self.hear(Heard::Sync(peer, content));
    }
}

impl Handler<FromPeer<EndorsementContent>> for Ear {
    type Result = ();
    fn handle(&mut self, FromPeer { peer, content }: FromPeer<EndorsementContent>, _: &mut Self::Context) {
        self.hear(Heard::Endorsement(peer, content));
    }
}

impl Handler<PeerChanged> for Ear {
    type Result = ();
    fn handle(&mut self, PeerChanged { peer, connected }: PeerChanged, _: &mut Self::Context) {
        self.hear(Heard::Changed(peer, connected));
    }
}

/// A genesis of `n` organisations with a node each, and a user of Org0 called `trader`.
pub struct Network {
    pub cas: Vec<Ca>,
    pub genesis: Genesis,
    sockets: Vec<Option<TcpListener>>,
}

impl Network {
    pub fn new(n: usize) -> Self {
        let cas: Vec<Ca> = (0..n).map(|n| Ca::new(&format!("Org{n}"))).collect();
        let sockets: Vec<TcpListener> = (0..n).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let organisation = |n: usize| Organisation::new(identity(n).organisation, cas[n].pem());
        let nodes = sockets.iter().enumerate().map(|(n, socket)| node(n, socket.local_addr().unwrap().to_string()));
        let trader = User::new(
            "trader@Org0".parse().unwrap(),
            key(100).public_key(),
            [Role::Submitter].into(),
            [identity(0)].into(),
        );
        let genesis = Genesis {
            network: "test".parse().unwrap(),
            created: Timestamp::from_millis(1),
            consensus: ConsensusMode::Bft,
            timeouts: Timeouts::default(),
            synchronise: Default::default(),
            organisations: (0..n).map(organisation).collect(),
            nodes: nodes.collect(),
            users: vec![trader],
            policies: Default::default(),
            predecessor: None,
        };
        Self { cas, genesis, sockets: sockets.into_iter().map(Some).collect() }
    }

    pub fn id(&self) -> Hash {
        self.genesis.id()
    }

    pub fn registry(&self) -> Registry {
        self.genesis.registry()
    }

    pub fn authority(&self) -> Arc<Authority> {
        Arc::new(Authority::new(&self.genesis.organisations).unwrap())
    }

    /// What node `n` shows and believes.
    pub fn tls(&self, n: usize, metrics: Arc<Metrics>) -> Arc<Live> {
        Live::new(identity(n), self.credentials(n), self.authority(), metrics).unwrap()
    }

    pub fn credentials(&self, n: usize) -> Credentials {
        self.cas[n].issue(identity(n).name.as_str(), identity(n).organisation.as_str())
    }

    pub fn address(&self, n: usize) -> &str {
        &self.genesis.nodes[n].address
    }

    /// Another port of the loopback, on which node `n` is started from now on. Its registry knows nothing of it.
    pub fn move_node(&mut self, n: usize) -> String {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap().to_string();
        self.sockets[n] = Some(socket);
        address
    }

    /// Starts node `n`, also again after it was stopped.
    pub async fn start(&mut self, n: usize, limits: Limits) -> TestNode {
        let socket = self.sockets[n].take().unwrap_or_else(|| TcpListener::bind(self.address(n)).unwrap());
        let (metrics, network) = (Arc::new(Metrics::new()), self.id());
        let tls = self.tls(n, metrics.clone());
        let (head_sender, head) = watch::channel(head(n as u64));
        let (registries, registry) = watch::channel(Arc::new(self.registry()));
        let members = Members::new(head.clone(), registry);
        let settings = Settings {
            me: identity(n),
            network,
            members: members.clone(),
            tls: tls.clone(),
            metrics: metrics.clone(),
            limits,
        };
        let listener = Listener::new(settings, socket).start();
        let directory = new_node();
        let keys = keys(n, directory.path(), members.clone());
        let signer = Signer::open(identity(n), network, keys, directory.path(), listener.clone().recipient());
        let signer = signer.unwrap().start();
        let verifier = Verifier::new(identity(n), network, members, Arc::new(|_| Ok(false)));
        let (sender, heard) = mpsc::unbounded_channel();
        let ear = Ear(sender).start();
        let routes = Routes {
            stamp: signer.clone().recipient(),
            urgent: NearVerifier(verifier.clone()).start().recipient(),
            bulk: verifier.start(1).recipient(),
            pool: ear.clone().recipient(),
            consensus: ear.clone().recipient(),
            sync: ear.clone().recipient(),
            endorsement: ear.clone().recipient(),
            changed: vec![ear.recipient()],
        };
        listener.send(Begin(routes)).await.unwrap();
        TestNode { listener, signer, metrics, tls, registries, heard, _head: head_sender, _directory: directory }
    }
}

/// Node `n`, at this address.
pub fn node(n: usize, address: String) -> Node {
    Node::new(identity(n), key(n).public_key(), [NodeRole::Peer, NodeRole::Orderer].into(), address)
}

/// The data directory of a node that has never signed anything.
pub fn new_node() -> TempDir {
    let directory = TempDir::new().unwrap();
    drop(Journal::begin_at(directory.path(), Height::GENESIS).unwrap());
    directory
}

pub fn head(height: u64) -> Head {
    Head {
        height: Height::new(height),
        hash: Hash::ZERO,
        created: Timestamp::from_millis(1),
        results_root: Hash::ZERO,
        state_root: Hash::ZERO,
        state_version: 0,
        certified_version: 0,
        transactions: 0,
    }
}

pub struct TestNode {
    pub listener: Addr<Listener>,
    pub signer: Addr<Signer>,
    pub metrics: Arc<Metrics>,
    pub tls: Arc<Live>,
    /// Who is enrolled, to this node.
    pub registries: watch::Sender<Arc<Registry>>,
    heard: mpsc::UnboundedReceiver<Heard>,
    _head: watch::Sender<Head>,
    _directory: TempDir,
}

impl TestNode {
    pub async fn stamp(&self, recipient: Recipient, class: Class, content: Content) {
        self.signer.send(Stamp { recipient, class, content }).await.unwrap();
    }

    /// Hears until `wanted` has been; the rest is passed over.
    pub async fn hear(&mut self, wanted: impl Fn(&Heard) -> bool) -> Heard {
        let hearing = async {
            loop {
                let heard = self.heard.recv().await.expect("the ear lives as long as the node");
                if wanted(&heard) {
                    return heard;
                }
            }
        };
        timeout(PATIENCE, hearing).await.expect("it was never heard")
    }

    pub async fn hear_change(&mut self, peer: usize, connected: bool) {
        self.hear(|heard| *heard == Heard::Changed(identity(peer), connected)).await;
    }

    pub async fn close(&self) {
        self.listener.send(CloseAll).await.unwrap();
    }

    /// Some connection did not become a session, for this reason.
    pub async fn refused_connection(&self, reason: &str) {
        counted(&self.metrics.connections_refused, reason, 1).await;
    }

    pub async fn ended_session(&self, reason: &str) {
        counted(&self.metrics.sessions_ended, reason, 1).await;
    }

    pub async fn refused_message(&self, reason: &str) {
        counted(&self.metrics.messages_refused, reason, 1).await;
    }

    /// What the node says of a peer.
    pub async fn view(&self, peer: usize) -> Peer {
        let peers = self.listener.send(GetPeers).await.unwrap();
        peers.into_iter().find(|view| view.identity == identity(peer)).unwrap()
    }
}

/// How much was counted for `reason`.
pub fn count_of(family: &ByReason, reason: &str) -> u64 {
    family.get_or_create(&Reason { reason: reason.to_owned() }).get()
}

/// Waits until so much was counted for `reason`. Counters tell nobody, hence the looking again.
pub async fn counted(family: &ByReason, reason: &str, count: u64) {
    let since = Instant::now();
    while count_of(family, reason) < count {
        assert!(since.elapsed() < PATIENCE, "{} of {count} were counted for {reason:?}", count_of(family, reason));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub fn gossip(bytes: &[u8]) -> Content {
    Content::Pool(PoolContent::Gossip(vec![bytes.to_vec().into()]))
}

/// A prevote of node `voter` for nothing, signed with this key.
pub fn vote(network: Hash, voter: usize, key: &SecretKey) -> Content {
    let vote = Vote { phase: Phase::Prevote, height: Height::new(1), round: Round::ZERO, block: None };
    let signature = key.sign(&vote.digest(&network));
    Content::Consensus(ConsensusContent::Wire(Wire::Vote(SignedVote { voter: identity(voter), vote, signature })))
}

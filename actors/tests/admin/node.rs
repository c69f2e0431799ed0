//! A node behind the API: one actor that answers for all, and clients with certificates.

use std::{
    collections::BTreeMap,
    net::TcpListener,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use actix::{Actor, Addr, Context, Handler, MessageResult};
use awc::{
    Client, ClientResponse, Connector,
    http::{Method, StatusCode},
};
use minidlt_actors::{
    admin::{Api, BadBlock, Ledger, Limits, MempoolRecipients, Running, Verification, start},
    members::Members,
    messages::{
        consensus::{ConsensusStatus, GetConsensusStatus},
        endorsement::{Collect, NotTaken},
        mempool::{Cause, FindPending, GetMempoolStatus, MempoolStatus, Submit, Waiting},
        network::{GetPeers, Peer, PeerState},
        signer::Stamp,
        sync::{GetSyncStatus, SyncStatus, Voting, VotingState},
    },
    metrics::Metrics,
    tls::{Authority, Live},
};
use minidlt_protocol::{
    block::SharedTransaction,
    endorsement::{Reason, Said},
    registry::Registry,
    transaction::{Refusal, Transaction},
    types::{Hash, Height, Round, Timestamp},
};
use openssl::ssl::{SslConnector, SslMethod};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::{Notify, watch};

use super::network::{Chain, ME, Network, Paper, identity};

/// Mempool, consensus, network and signer in one, with the protocol's own rules of admission.
pub struct Fake {
    network: Hash,
    members: Members,
    chain: Arc<Chain>,
    pub pending: BTreeMap<Hash, SharedTransaction>,
    pub dumped: Vec<Hash>,
    pub rejected: Option<Refusal>,
    pub cause: Cause,
    full: bool,
    stamps: Arc<Mutex<Vec<Stamp>>>,
}

impl Actor for Fake {
    type Context = Context<Self>;
}

fn now() -> Timestamp {
    Timestamp::from_millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64)
}

impl Fake {
    fn admit(&mut self, bytes: minidlt_protocol::transaction::TransactionBytes) -> Result<Hash, Refusal> {
        let parsed = Transaction::parse(bytes, &self.network)?;
        parsed.check_time(now())?;
        let registry = self.members.registry();
        parsed.authorise(&registry, Some(&identity(ME)))?;
        let id = parsed.id;
        if self.chain.locate(&id).unwrap().is_some() {
            return Err(Refusal::AlreadyCommitted);
        }
        if self.pending.contains_key(&id) {
            return Err(Refusal::AlreadyPending);
        }
        if self.full {
            return Err(Refusal::MempoolFull("transactions"));
        }
        parsed.check_consent(&registry)?;
        self.pending.insert(id, Arc::new(parsed.verify(&registry)?));
        Ok(id)
    }
}

impl Handler<Submit> for Fake {
    type Result = MessageResult<Submit>;

    fn handle(&mut self, Submit { transactions, .. }: Submit, _: &mut Context<Self>) -> Self::Result {
        MessageResult(transactions.into_iter().map(|bytes| self.admit(bytes)).collect())
    }
}

/// Nobody endorses anything, and each is asked about what lacks it alone.
impl Handler<Collect> for Fake {
    type Result = MessageResult<Collect>;

    fn handle(&mut self, Collect { transactions, .. }: Collect, _: &mut Context<Self>) -> Self::Result {
        let registry = self.members.registry();
        let lacking = |bytes| {
            let parsed = Transaction::parse(bytes, &self.network)?;
            let refusal = parsed.check_consent(&registry).expect_err("what lacks nothing is not collected for");
            let reason = Reason::new("operator", "this node's operator endorses nothing");
            Err(NotTaken { refusal, said: vec![Said { peer: identity("node1@Org02"), reason }] })
        };
        MessageResult(transactions.into_iter().map(lacking).collect())
    }
}

impl Handler<FindPending> for Fake {
    type Result = MessageResult<FindPending>;

    fn handle(&mut self, FindPending(id): FindPending, _: &mut Context<Self>) -> Self::Result {
        MessageResult(match self.pending.get(&id) {
            Some(_) if self.dumped.contains(&id) => {
                Waiting::Dumped { expires: Timestamp::from_millis(7), cause: self.cause.clone() }
            }
            Some(transaction) => {
                let rejected = self.rejected.clone().map(Waiting::Rejected);
                rejected.unwrap_or_else(|| Waiting::Pending(transaction.clone()))
            }
            None => Waiting::Unknown,
        })
    }
}

impl Handler<GetMempoolStatus> for Fake {
    type Result = MessageResult<GetMempoolStatus>;

    fn handle(&mut self, _: GetMempoolStatus, _: &mut Context<Self>) -> Self::Result {
        MessageResult(MempoolStatus { transactions: self.pending.len(), bytes: 0 })
    }
}

impl Handler<GetConsensusStatus> for Fake {
    type Result = MessageResult<GetConsensusStatus>;

    fn handle(&mut self, _: GetConsensusStatus, _: &mut Context<Self>) -> Self::Result {
        let active = !self.pending.is_empty();
        let while_active = |who: &str| if active { vec![identity(who)] } else { Vec::new() };
        MessageResult(ConsensusStatus {
            active,
            height: self.chain.head().height.next(),
            round: Round::ZERO,
            block: None,
            accepted_by: while_active(ME),
            missing: while_active("node3@Org02"),
        })
    }
}

impl Handler<GetPeers> for Fake {
    type Result = MessageResult<GetPeers>;

    fn handle(&mut self, _: GetPeers, _: &mut Context<Self>) -> Self::Result {
        let peer = |name: &str, state| Peer {
            identity: identity(name),
            address: "localhost:3412".into(),
            state,
            height: Some(Height::new(3)),
            last_error: None,
            certificate: None,
        };
        MessageResult(vec![
            peer("node1@Org02", PeerState::Connected),
            peer("node2@Org01", PeerState::Connected),
            peer("node3@Org02", PeerState::Disconnected),
        ])
    }
}

impl Handler<GetSyncStatus> for Fake {
    type Result = MessageResult<GetSyncStatus>;

    fn handle(&mut self, _: GetSyncStatus, _: &mut Context<Self>) -> Self::Result {
        let voting = Voting { state: VotingState::Voting, from: Some(Height::new(1)), reason: None };
        MessageResult(SyncStatus { voting, fork: None })
    }
}

impl Handler<Stamp> for Fake {
    type Result = ();

    fn handle(&mut self, stamp: Stamp, _: &mut Context<Self>) {
        self.stamps.lock().unwrap().push(stamp);
    }
}

/// Changes the fake from within.
#[derive(actix::Message)]
#[rtype(result = "()")]
pub struct Change(pub fn(&mut Fake));

impl Handler<Change> for Fake {
    type Result = ();

    fn handle(&mut self, Change(change): Change, _: &mut Context<Self>) {
        change(self);
    }
}

impl Fake {
    pub fn fill(&mut self) {
        self.full = true;
    }

    pub fn dump_all(&mut self) {
        self.dumped = self.pending.keys().copied().collect();
    }
}

/// A running API and what stands behind it.
pub struct Node {
    pub network: Network,
    pub chain: Arc<Chain>,
    pub members: Members,
    /// Who is enrolled, to the node.
    pub registries: watch::Sender<Arc<Registry>>,
    pub fake: Addr<Fake>,
    pub stamps: Arc<Mutex<Vec<Stamp>>>,
    pub stop: Arc<Notify>,
    pub metrics: Arc<Metrics>,
    pub tls: Arc<Live>,
    pub running: Running,
    _directory: TempDir,
    /// Whether its clients speak HTTP/2.
    pub http2: bool,
}

impl Node {
    pub fn start() -> Self {
        Self::with(Limits { frame_time: Duration::from_secs(1), ..Limits::default() })
    }

    pub fn with(limits: Limits) -> Self {
        let network = Network::new();
        let chain = Chain::new(&network.genesis);
        let (registries, registry) = watch::channel(Arc::new(network.genesis.registry()));
        let members = Members::new(chain.heads(), registry);
        let stamps = Arc::new(Mutex::default());
        let fake = Fake {
            network: network.genesis.id(),
            members: members.clone(),
            chain: chain.clone(),
            pending: BTreeMap::new(),
            dumped: Vec::new(),
            rejected: None,
            cause: Cause::Missing(Arc::from(vec![identity("node3@Org02")])),
            full: false,
            stamps: stamps.clone(),
        }
        .start();
        let (stop, metrics) = (Arc::new(Notify::new()), Arc::new(Metrics::new()));
        let directory = TempDir::new().unwrap();
        let authority = Arc::new(Authority::new(&network.genesis.organisations).unwrap());
        let own = network.paper(ME, "Org01").credentials();
        let tls = Live::new(identity(ME), own, authority, metrics.clone()).unwrap();
        let acceptor = tls.acceptor().unwrap();
        let bad = BadBlock { height: Height::new(2), reason: "its hash".into() };
        let verification = Verification { height: Height::new(3), first_bad: Some(bad) };
        let api = Api {
            ledger: chain.clone(),
            members: members.clone(),
            tls: tls.clone(),
            genesis: Arc::new(network.genesis.clone()),
            me: identity(ME),
            mempool: MempoolRecipients {
                submit: fake.clone().recipient(),
                find: fake.clone().recipient(),
                status: fake.clone().recipient(),
            },
            endorsement: fake.clone().recipient(),
            consensus: fake.clone().recipient(),
            peers: fake.clone().recipient(),
            sync: fake.clone().recipient(),
            backups: directory.path().join("backups"),
            signer: fake.clone().recipient(),
            stop: stop.clone(),
            verify: Arc::new(move || Ok(verification.clone())),
            metrics: metrics.clone(),
            limits: Limits { workers: 1, ..limits },
        };
        let running = start(api, TcpListener::bind("127.0.0.1:0").unwrap(), acceptor).unwrap();
        Self {
            network,
            chain,
            members,
            registries,
            fake,
            stamps,
            stop,
            metrics,
            tls,
            running,
            _directory: directory,
            http2: true,
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.running.address.port())
    }

    pub fn connector(&self, paper: Option<&Paper>) -> openssl::ssl::SslConnectorBuilder {
        let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
        builder.cert_store_mut().add_cert(self.network.authorities["Org01"].certificate.clone()).unwrap();
        if let Some(Paper { certificate, key }) = paper {
            builder.set_certificate(certificate).unwrap();
            builder.set_private_key(key).unwrap();
        }
        builder
    }

    pub fn client_with(&self, paper: Option<&Paper>) -> Client {
        let mut connector = self.connector(paper);
        if self.http2 {
            connector.set_alpn_protos(b"\x02h2\x08http/1.1").unwrap();
        }
        let connector = Connector::new().openssl(connector.build());
        Client::builder().connector(connector).timeout(Duration::from_secs(20)).finish()
    }

    /// A client with a proper certificate.
    pub fn client(&self, who: &str) -> Client {
        let organisation = identity(who).organisation;
        self.client_with(Some(&self.network.paper(who, organisation.as_str())))
    }

    pub async fn call(&self, who: &str, method: Method, path: &str, kind: &str, body: impl Into<Vec<u8>>) -> Answer {
        let mut request = self.client(who).request(method, self.url(path));
        if !kind.is_empty() {
            request = request.content_type(kind);
        }
        Answer::read(request.send_body(body.into()).await.unwrap()).await
    }

    pub async fn get(&self, who: &str, path: &str) -> Answer {
        self.call(who, Method::GET, path, "", "").await
    }
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: awc::http::header::HeaderMap,
    pub text: String,
}

impl Answer {
    pub async fn read<S>(mut response: ClientResponse<S>) -> Self
    where
        S: futures_util::Stream<Item = Result<bytes::Bytes, awc::error::PayloadError>> + Unpin,
    {
        let text = response.body().limit(64 << 20).await.unwrap();
        let text = String::from_utf8(text.to_vec()).unwrap();
        Self { status: response.status(), headers: response.headers().clone(), text }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The kind of problem it is, and that it is a proper one.
    pub fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.text);
        let json = self.json();
        assert_eq!(json["status"], self.status.as_u16(), "{json}");
        assert!(json["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{json}");
        json["type"].as_str().unwrap().strip_prefix("urn:minidlt:problem:").unwrap().to_owned()
    }
}

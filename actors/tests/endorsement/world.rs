//! One node's Endorsement actor, with the real Verifiers, and a desk that stands for all it hands on to.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use actix::{Actor, Addr, Context, Handler, MessageResult, Recipient};
use minidlt_actors::{
    clock,
    endorsement::{Endorsement, Limits, Links, Settings},
    members::Members,
    messages::{
        endorsement::{Collect, NotTaken},
        mempool::Submit,
        network::{FromPeer, PeerChanged},
        signer::{SignEndorsements, Stamp},
        verifier::VerifyTransactions,
    },
    metrics::{ByReason, Metrics, Reason},
    verifier::{NearVerifier, Verifier},
};
use minidlt_config::Endorse;
use minidlt_protocol::{
    block::Head,
    crypto::SecretKey,
    endorsement::{Answer, EndorsementContent, Verdict},
    genesis::{Genesis, Timeouts},
    governance::{Change, SetPolicy},
    message::{Content, Recipient as To},
    registry::{Entry, Node, NodeRole, Organisation, Policy, PolicyEntry, Registry, Role, User, policies},
    transaction::{Body, Operation, Refusal, SignedTransaction, Transaction, TransactionBytes, id_of},
    types::{Hash, Height, Identity, Name, Timestamp},
    vote::ConsensusMode,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};

/// Longer than anything here takes; only a failing test waits for it.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// This node; beside it its organisation has node 1, Org1 has nodes 2 and 3, Org2 has node 4.
pub const ME: usize = 0;
const ORGANISATIONS: [usize; 5] = [0, 0, 1, 1, 2];

pub fn node(n: usize) -> Identity {
    format!("node{n}@Org{}", ORGANISATIONS[n]).parse().unwrap()
}

pub fn key(seed: usize) -> SecretKey {
    SecretKey::from_bytes(&[seed as u8 + 1; 32]).unwrap()
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// Admins who may set policies: the one through node 0, the other through node 2.
pub const AUTHOR: (&str, usize) = ("author@Org0", 100);
pub const OTHER: (&str, usize) = ("other@Org1", 101);

pub fn peer(organisation: usize) -> Policy {
    Policy::Leaf { organisation: name(&format!("Org{organisation}")), role: NodeRole::Peer.into() }
}

pub fn all(parts: impl Into<Vec<Policy>>) -> Policy {
    Policy::All { all: parts.into() }
}

fn genesis() -> Genesis {
    let user = |(who, seed): (&str, usize), gateway: usize| {
        let roles = [Role::Admin, Role::PolicyInvoker].into();
        User::new(who.parse().unwrap(), key(seed).public_key(), roles, [node(gateway)].into())
    };
    let nodes = (0..5).map(|n| {
        let roles = [NodeRole::Peer, NodeRole::Orderer].into();
        Node::new(node(n), key(n).public_key(), roles, format!("127.0.0.1:{}", 5_000 + n))
    });
    Genesis {
        network: name("test"),
        created: Timestamp::from_millis(1),
        consensus: ConsensusMode::Bft,
        timeouts: Timeouts::default(),
        synchronise: Default::default(),
        organisations: (0..3).map(|n| Organisation::new(name(&format!("Org{n}")), format!("CA of {n}"))).collect(),
        nodes: nodes.collect(),
        users: vec![user(AUTHOR, 0), user(OTHER, 2)],
        predecessor: None,
        policies: Default::default(),
    }
}

/// What the actor sent: to a node, or to the Mempool.
#[derive(Debug)]
pub enum Sent {
    To(Identity, EndorsementContent),
    Submitted(Identity, Vec<TransactionBytes>),
}

/// Signer and Mempool in one.
struct Desk {
    sent: mpsc::UnboundedSender<Sent>,
    network: Hash,
    members: Members,
    /// What the next submissions are refused for.
    refusals: Arc<Mutex<VecDeque<Refusal>>>,
}

impl Actor for Desk {
    type Context = Context<Self>;
}

impl Handler<Stamp> for Desk {
    type Result = ();

    fn handle(&mut self, Stamp { recipient, content, .. }: Stamp, _: &mut Self::Context) {
        let (To::One(peer), Content::Endorsement(content)) = (recipient, content) else { panic!("to one node alone") };
        let _test_over = self.sent.send(Sent::To(peer, content.check().expect("within its bounds")));
    }
}

impl Handler<SignEndorsements> for Desk {
    type Result = MessageResult<SignEndorsements>;

    fn handle(&mut self, SignEndorsements(list): SignEndorsements, _: &mut Self::Context) -> Self::Result {
        MessageResult(list.iter().map(|transaction| key(ME).sign(&transaction.id)).collect())
    }
}

impl Handler<Submit> for Desk {
    type Result = MessageResult<Submit>;

    fn handle(&mut self, Submit { caller, transactions }: Submit, _: &mut Self::Context) -> Self::Result {
        let registry = self.members.registry();
        let admit = |bytes: &TransactionBytes| {
            let verified = Transaction::parse(bytes.clone(), &self.network)?.verify(&registry)?;
            verified.rehearse(&registry, clock::now())?;
            self.refusals.lock().unwrap().pop_front().map_or(Ok(verified.id), Err)
        };
        let outcomes = transactions.iter().map(admit).collect();
        let _test_over = self.sent.send(Sent::Submitted(caller, transactions));
        MessageResult(outcomes)
    }
}

pub struct World {
    pub network: Hash,
    pub actor: Addr<Endorsement>,
    pub metrics: Arc<Metrics>,
    /// What the Mempool refuses next.
    pub refusals: Arc<Mutex<VecDeque<Refusal>>>,
    /// Who is enrolled, to the node.
    pub registries: watch::Sender<Arc<Registry>>,
    sent: mpsc::UnboundedReceiver<Sent>,
    nonce: u64,
    _heads: watch::Sender<Head>,
}

/// How the node is told apart from another test's.
pub struct Options {
    pub policy: Policy,
    pub endorse: Endorse,
    pub limits: Limits,
    /// What is on the ledger already.
    pub committed: fn(&Hash) -> bool,
    /// In place of the real ones.
    pub verifiers: Option<Recipient<VerifyTransactions>>,
}

impl Default for Options {
    fn default() -> Self {
        let limits = Limits { answer: PATIENCE, collect: PATIENCE };
        let policy = all([peer(1), peer(2)]);
        Self { policy, endorse: Endorse::Everything, limits, committed: |_| false, verifiers: None }
    }
}

impl World {
    /// Connected with all but its own organisation's other node.
    pub async fn new(options: Options) -> Self {
        let Options { policy, endorse, limits, committed, verifiers } = options;
        let genesis = genesis();
        let (network, mut registry) = (genesis.id(), genesis.registry());
        registry.put(Entry::Policy(name(policies::POLICIES), PolicyEntry { policy, revision: 0 }));
        let (registries, registry) = watch::channel(Arc::new(registry));
        let (head_sender, head) = watch::channel(head());
        let members = Members::new(head, registry);
        let (metrics, refusals) = (Arc::new(Metrics::new()), Arc::new(Mutex::default()));
        let (sender, sent) = mpsc::unbounded_channel();
        let desk = Desk { sent: sender, network, members: members.clone(), refusals: Arc::clone(&refusals) }.start();
        let verifier = Verifier::new(node(ME), network, members.clone(), Arc::new(move |id| Ok(committed(id))));
        let near = NearVerifier(verifier.clone()).start().recipient();
        let links = Links {
            near: verifiers.clone().unwrap_or(near),
            verifiers: verifiers.unwrap_or_else(|| verifier.start(1).recipient()),
            stamp: desk.clone().recipient(),
            sign: desk.clone().recipient(),
            mempool: desk.recipient(),
            members,
        };
        let settings = Settings { me: node(ME), network, endorse, limits };
        let actor = Endorsement::new(settings, links, metrics.clone()).start();
        let world = Self { network, actor, metrics, refusals, registries, sent, nonce: 0, _heads: head_sender };
        for n in 2..5 {
            world.connected(n, true).await;
        }
        world
    }

    pub async fn connected(&self, n: usize, connected: bool) {
        self.actor.send(PeerChanged { peer: node(n), connected }).await.unwrap();
    }

    /// A change of a policy, which needs the consent that `policies` asks for.
    pub fn change(&mut self, (author, seed): (&str, usize)) -> TransactionBytes {
        self.nonce += 1;
        let change = Change::SetPolicy(SetPolicy { name: name("another"), revision: None, policy: peer(0) });
        let now = clock::now();
        let body = Body {
            network: self.network,
            author: author.parse().unwrap(),
            created: now,
            expires: now.plus_millis(60_000),
            nonce: self.nonce,
            operation: Operation::Change(change.into()),
        };
        (&SignedTransaction::sign(&body, &key(seed))).into()
    }

    pub fn id(&self, bytes: &TransactionBytes) -> Hash {
        let (signed, _) = minidlt_protocol::transaction::open(bytes.as_slice()).unwrap();
        id_of(&self.network, &signed.body)
    }

    /// Submits these to be endorsed; the answers come by and by.
    pub fn collect(&self, list: Vec<TransactionBytes>, within: Duration) -> JoinHandle<Vec<Result<Hash, NotTaken>>> {
        let collect = Collect { caller: AUTHOR.0.parse().unwrap(), transactions: list, within };
        let answer = self.actor.send(collect);
        actix_rt::spawn(async move { timeout(PATIENCE, answer).await.expect("it was never answered").unwrap() })
    }

    pub async fn sent(&mut self) -> Sent {
        timeout(PATIENCE, self.sent.recv()).await.expect("nothing was sent").unwrap()
    }

    /// What is proposed next, to whom.
    pub async fn proposed(&mut self) -> (Identity, Vec<TransactionBytes>) {
        match self.sent().await {
            Sent::To(peer, EndorsementContent::Propose(transactions)) => (peer, transactions),
            other => panic!("{other:?}"),
        }
    }

    /// One transaction is proposed to each of so many nodes; to whom, in order.
    pub async fn proposed_to(&mut self, count: usize) -> Vec<Identity> {
        let mut whom = Vec::new();
        for _ in 0..count {
            let (peer, transactions) = self.proposed().await;
            assert_eq!(transactions.len(), 1);
            whom.push(peer);
        }
        whom.sort();
        whom
    }

    /// What is answered next, to whom.
    pub async fn answers(&mut self) -> (Identity, Vec<Answer>) {
        match self.sent().await {
            Sent::To(peer, EndorsementContent::Answers(answers)) => (peer, answers),
            other => panic!("{other:?}"),
        }
    }

    /// Who endorsed what is submitted next: it holds in all.
    pub async fn submitted(&mut self) -> Vec<Identity> {
        let Sent::Submitted(caller, transactions) = self.sent().await else { panic!("not submitted") };
        assert_eq!((caller.to_string().as_str(), transactions.len()), (AUTHOR.0, 1));
        let parsed = Transaction::parse(transactions[0].clone(), &self.network).unwrap();
        parsed.endorsements.into_iter().map(|one| one.endorser).collect()
    }

    pub async fn nothing_is_sent(&mut self) {
        // All that was told the actor before is done once it has taken this.
        self.connected(4, true).await;
        assert!(self.sent.try_recv().is_err());
    }

    pub async fn says(&self, peer: &Identity, content: EndorsementContent) {
        self.actor.send(FromPeer { peer: peer.clone(), content }).await.unwrap();
    }

    pub async fn answer(&self, peer: &Identity, id: Hash, verdict: Verdict) {
        self.says(peer, EndorsementContent::Answers(vec![Answer { id, verdict }])).await;
    }

    pub async fn endorse(&self, peer: &Identity, id: Hash) {
        self.answer(peer, id, Verdict::Endorsed(key_of(peer).sign(&id))).await;
    }

    pub fn count(&self, family: impl Fn(&Metrics) -> &ByReason, reason: &str) -> u64 {
        family(&self.metrics).get_or_create(&Reason { reason: reason.to_owned() }).get()
    }
}

pub fn key_of(peer: &Identity) -> SecretKey {
    key((0..5).find(|n| node(*n) == *peer).unwrap())
}

pub fn head() -> Head {
    Head {
        height: Height::new(1),
        hash: Hash::ZERO,
        created: Timestamp::from_millis(1),
        results_root: Hash::ZERO,
        state_root: Hash::ZERO,
        state_version: 0,
        certified_version: 0,
        transactions: 0,
    }
}

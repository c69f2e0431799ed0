//! The Reporter: what a core finds comes to the Mempool as this node's own transaction, once, in this
//! node's turn, and not where the ledger has it.

#[path = "store/support.rs"]
mod support;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use actix::{Actor, Addr, Arbiter, Context, Handler, MessageResult, ResponseFuture};
use minidlt_actors::{
    consensus::{self, Consensus, SignerLinks},
    journal::Journal,
    messages::{
        consensus::TakePart,
        evidence::Report,
        mempool::{Assemble, Ended, Hold, Pick, Submit},
        network::{FromPeer, Outgoing},
        store::{Commit, Committed},
    },
    metrics::{Metrics, Reason},
    reporter::{self, Reporter},
    signer::{Held, Keys, Signer},
    store::{Writer, reader::Reader},
};
use minidlt_config::KeyFiles;
use minidlt_protocol::{
    block::SharedTransaction,
    consensus::{Timeouts, Wire},
    evidence::Evidence,
    message::{CheckedConsensus, ConsensusContent},
    transaction::{Operation, Refusal, Transaction, TransactionBytes},
    types::{Hash, Height},
    vote::SignedVote,
};
use support::{Network, identity, node_key};
use tempfile::TempDir;
use tokio::{sync::mpsc, time::timeout};

/// Longer than anything here takes; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Of height 1 the first turn is node 3's, the second node 0's.
const FIRST: u8 = 3;
const SECOND: u8 = 0;

/// Mempool, Store and Listener in one.
struct Desk {
    network: Hash,
    /// What the next submissions are refused for.
    refusals: VecDeque<Refusal>,
    submitted: mpsc::UnboundedSender<TransactionBytes>,
}

impl Actor for Desk {
    type Context = Context<Self>;
}

impl Handler<Submit> for Desk {
    type Result = MessageResult<Submit>;
    fn handle(&mut self, Submit { transactions, .. }: Submit, _: &mut Self::Context) -> Self::Result {
        let answer = |bytes: TransactionBytes| {
            let parsed = Transaction::parse(bytes.clone(), &self.network).unwrap();
            self.submitted.send(bytes).unwrap();
            self.refusals.pop_front().map_or(Ok(parsed.id), Err)
        };
        MessageResult(transactions.into_iter().map(answer).collect())
    }
}

impl Handler<Pick> for Desk {
    type Result = MessageResult<Pick>;
    fn handle(&mut self, _: Pick, _: &mut Self::Context) -> Self::Result {
        MessageResult(Vec::new())
    }
}

impl Handler<Assemble> for Desk {
    type Result = ResponseFuture<Option<Vec<SharedTransaction>>>;
    fn handle(&mut self, _: Assemble, _: &mut Self::Context) -> Self::Result {
        Box::pin(std::future::pending())
    }
}

impl Handler<Hold> for Desk {
    type Result = ();
    fn handle(&mut self, _: Hold, _: &mut Self::Context) {}
}

impl Handler<Commit> for Desk {
    type Result = ResponseFuture<Committed>;
    fn handle(&mut self, _: Commit, _: &mut Self::Context) -> Self::Result {
        Box::pin(std::future::pending())
    }
}

impl Handler<Ended> for Desk {
    type Result = ();
    fn handle(&mut self, _: Ended, _: &mut Self::Context) {}
}

impl Handler<Outgoing> for Desk {
    type Result = ();
    fn handle(&mut self, _: Outgoing, _: &mut Self::Context) {}
}

struct Node {
    me: u8,
    network: Network,
    writer: Writer,
    reader: Reader,
    desk: Addr<Desk>,
    signer: Addr<Signer>,
    held: Held,
    reporter: Addr<Reporter>,
    submitted: mpsc::UnboundedReceiver<TransactionBytes>,
    _directory: TempDir,
}

impl Node {
    fn start(me: u8, refusals: impl Into<VecDeque<Refusal>>) -> Self {
        let (directory, network) = (TempDir::new().unwrap(), Network::new());
        drop(Journal::begin_at(directory.path(), Height::GENESIS).unwrap());
        let (writer, reader) = network.open(&directory.path().join("ledger")).unwrap();
        let (sender, submitted) = mpsc::unbounded_channel();
        let desk = Desk { network: network.id, refusals: refusals.into(), submitted: sender }.start();
        let outgoing = desk.clone().recipient();
        let files = KeyFiles::new(directory.path().join("node.key"));
        let keys = Keys::new(identity(me), node_key(me), files, reader.members());
        let held = keys.held();
        let signer = Signer::open(identity(me), network.id, keys, directory.path(), outgoing);
        // On a thread of its own: Consensus waits for its signatures.
        let signer = signer.unwrap();
        let signer = Signer::start_in_arbiter(&Arbiter::new().handle(), |_| signer);
        let links = reporter::Links {
            signer: signer.clone().recipient(),
            mempool: desk.clone().recipient(),
            reader: reader.clone(),
        };
        let reporter = Reporter::new(identity(me), links).start();
        Self { me, network, writer, reader, desk, signer, held, reporter, submitted, _directory: directory }
    }

    async fn report(&self, evidence: Evidence) {
        self.reporter.send(Report(evidence)).await.unwrap();
    }

    /// The evidence in the next transaction submitted, which holds in all and is this node's.
    async fn submitted(&mut self) -> Evidence {
        let transaction = self.transaction().await;
        let Operation::Evidence(evidence) = transaction.body().unwrap().operation else { panic!("another operation") };
        *evidence
    }

    async fn transaction(&mut self) -> Transaction {
        let bytes = timeout(PATIENCE, self.submitted.recv()).await.expect("nothing was submitted").unwrap();
        let parsed = Transaction::parse(bytes, &self.network.id).unwrap();
        parsed.authorise(&self.network.registry, Some(&identity(self.me))).unwrap();
        let verified = parsed.verify(&self.network.registry).unwrap();
        assert_eq!(verified.author, identity(self.me));
        verified.into_inner()
    }

    fn commit(&mut self, transaction: Transaction) {
        let block = self.network.decide(&self.reader.head(), vec![transaction]);
        self.writer.commit(&block).unwrap();
    }

    /// Commits what another node reports.
    fn commit_report(&mut self, evidence: Evidence) {
        self.commit(self.network.report(&self.reader.head(), 1, evidence));
    }

    /// Consensus at the first height, before this node.
    fn consensus(&self, metrics: Arc<Metrics>) -> Addr<Consensus> {
        let desk = &self.desk;
        let links = consensus::Links {
            pick: desk.clone().recipient(),
            assemble: desk.clone().recipient(),
            hold: desk.clone().recipient(),
            mempool: desk.clone().recipient(),
            store: desk.clone().recipient(),
            reporter: self.reporter.clone().recipient(),
            reader: self.reader.clone(),
        };
        let signer = SignerLinks {
            vote: self.signer.clone().recipient(),
            proposal: self.signer.clone().recipient(),
            publish: self.signer.clone().recipient(),
        };
        let me = (identity(self.me), self.held.clone());
        Consensus::new(me, Timeouts::default(), links, signer, Default::default(), metrics).start()
    }

    fn heard(&self, vote: SignedVote) -> FromPeer<CheckedConsensus> {
        let peer = vote.voter.clone();
        let content = ConsensusContent::Wire(Wire::Vote(vote));
        FromPeer { peer, content: content.verify(&self.network.id, &self.network.registry.orderers()).unwrap() }
    }
}

#[actix_rt::test]
async fn two_votes_that_a_core_hears_are_reported() {
    let mut node = Node::start(FIRST, []);
    let metrics = Arc::new(Metrics::new());
    let consensus = node.consensus(metrics.clone());
    consensus.send(TakePart(Height::new(1))).await.unwrap();
    // The one for a block came first: in the report the lesser does.
    for block in [Some(7), None] {
        consensus.send(node.heard(node.network.prevote(1, 1, block))).await.unwrap();
    }
    assert_eq!(node.submitted().await, node.network.lie(1, 1));
    let counted = metrics.messages_refused.get_or_create(&Reason { reason: "equivocation".into() }).get();
    assert_eq!(counted, 1);
}

#[actix_rt::test]
async fn of_one_voter_one_report_is_under_way() {
    let mut node = Node::start(FIRST, []);
    let (lie, other) = (node.network.lie(1, 1), node.network.lie(2, 1));
    node.report(lie.clone()).await;
    node.report(lie.clone()).await;
    let report = node.transaction().await;
    node.report(lie.clone()).await;
    node.report(node.network.lie(1, 2)).await;
    node.report(other.clone()).await;
    assert_eq!(node.submitted().await, other, "of the first voter nothing more is said");

    // Once that is committed, its voter's next lie is reported, and the same is not.
    node.commit(report);
    let next = node.network.lie(1, 2);
    node.report(lie).await;
    node.report(next.clone()).await;
    assert_eq!(node.submitted().await, next);
}

#[actix_rt::test]
async fn who_is_not_first_waits_and_is_silent_about_what_is_recorded_by_then() {
    let mut node = Node::start(SECOND, []);
    let (recorded, not_recorded) = (node.network.lie(1, 1), node.network.lie(2, 1));
    node.report(recorded.clone()).await;
    node.report(not_recorded.clone()).await;
    node.commit_report(recorded.clone());
    assert_eq!(node.submitted().await, not_recorded, "the one before it in time was recorded meanwhile");

    // The first lie's voter is free to be reported anew, and is not for what is known.
    let mut first = Node::start(FIRST, []);
    first.commit_report(recorded.clone());
    first.report(recorded).await;
    first.report(not_recorded.clone()).await;
    assert_eq!(first.submitted().await, not_recorded);
}

#[actix_rt::test]
async fn a_full_mempool_is_asked_again_and_another_refusal_ends_it() {
    let mut node = Node::start(FIRST, [Refusal::MempoolFull("too many"), Refusal::AlreadyPending]);
    let lie = node.network.lie(1, 1);
    node.report(lie.clone()).await;
    assert_eq!(node.submitted().await, lie);
    assert_eq!(node.submitted().await, lie, "again, a turn later");
    // That was refused for good; what the core finds next is taken up.
    let next = node.network.lie(2, 1);
    node.report(next.clone()).await;
    assert_eq!(node.submitted().await, next);
    node.report(lie.clone()).await;
    assert_eq!(node.submitted().await, lie);
}

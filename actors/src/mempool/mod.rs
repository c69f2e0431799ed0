//! The Mempool: the pool of transactions waiting for a block, and their way to the other nodes.
//!
//! | in | from | leads to |
//! |---|---|---|
//! | `Submit` | Admin | checked by the Verifiers in turns, pooled, gossiped to all in batches |
//! | `PoolContent::Gossip` | Session | checked, pooled; not passed on: the gateway has sent it to all |
//! | `Pick`, `Assemble` | Consensus | transactions for a block of ours, or of another's |
//! | `PoolContent::Get`, `Got` | Session | what a proposal names and a pool lacks |
//! | `Ended` | Consensus | leaves the pool; what expired is dumped |
//!
//! Gossip clocks itself: while one batch is being stamped the next one gathers, so that a lone
//! transaction leaves at once and a thousand leave under one signature. What waits to be checked, or to be
//! gossiped, is served in turns: no user, and no node, keeps another waiting longer than itself.

mod dumped;
mod rejected;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, MessageResult, Recipient, ResponseActFuture,
    ResponseFuture, SpawnHandle, WrapFuture, fut,
};
use minidlt_protocol::{
    block::{CompactBlock, SharedTransaction},
    limits::{MAX_BLOCK_BYTES, MAX_BLOCK_TRANSACTIONS},
    mempool::Mempool as Pool,
    merkle,
    message::{Content, PoolContent, Recipient as To},
    registry::Registry,
    transaction::{Refusal, TransactionBytes},
    types::{Hash, Identity, Timestamp},
};
use tokio::sync::oneshot;

use crate::{
    checking::{Checked, Checking, JOB_TRANSACTIONS, Whose, verified},
    clock,
    fair::Fair,
    fatal,
    messages::{
        consensus::Work,
        mempool::{Assemble, Ended, FindPending, GetMempoolStatus, Hold, MempoolStatus, Pick, Submit, Waiting},
        network::{Class, FromPeer},
        signer::Stamp,
        store::Committed,
        verifier::{Rules, VerifyTransactions},
    },
    metrics::{Metrics, count},
    store::reader::Reader,
};
use dumped::{Dumped, Height};
use rejected::Rejected;

/// Most bytes of transactions in one gossip message.
const GOSSIP_BYTES: usize = 512 << 10;
/// Most bytes waiting to be gossiped; what is over it reaches the others with a proposal.
const MAX_OUTBOX_BYTES: usize = 64 << 20;
/// How long a proposal may wait for gossip to bring its transactions before they are asked for.
const GRACE: Duration = Duration::from_millis(15);
/// How long until they are asked for again, then of all.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// What the Mempool hands on to.
pub struct Links {
    /// On a thread a core.
    pub verifiers: Recipient<VerifyTransactions>,
    /// On the Mempool's own thread.
    pub near: Recipient<VerifyTransactions>,
    pub signer: Recipient<Stamp>,
    pub reader: Reader,
}

/// The actor.
pub struct Mempool {
    me: Identity,
    pool: Pool,
    links: Links,
    /// Consensus, once it is there.
    consensus: Option<Recipient<Work>>,
    metrics: Arc<Metrics>,
    checking: Checking,
    /// Told Consensus of work, and it has not answered yet.
    waking: bool,
    /// Transactions of the height's proposed blocks, by leaf hash.
    held: BTreeMap<Hash, SharedTransaction>,
    /// To be gossiped, a line for each author.
    outbox: Fair<Identity, TransactionBytes>,
    outbox_bytes: usize,
    stamping: bool,
    assembling: Option<Assembling>,
    dumped: Dumped,
    rejected: Rejected,
    /// That the waiting transactions were checked against.
    registry: Arc<Registry>,
}

/// A proposed block whose transactions are being gathered.
struct Assembling {
    hash: Hash,
    leaves: Vec<Hash>,
    created: Timestamp,
    from: Identity,
    asked: bool,
    found: Vec<Option<SharedTransaction>>,
    missing: BTreeMap<Hash, usize>,
    /// Those of them that were got, and were checked or are being.
    got: BTreeSet<Hash>,
    replies: Vec<oneshot::Sender<Vec<SharedTransaction>>>,
    timer: Option<SpawnHandle>,
}

/// Tells the Mempool whom to wake: Consensus is made after it.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Wake(pub Recipient<Work>);

impl Mempool {
    pub fn new(me: Identity, pool: Pool, links: Links, metrics: Arc<Metrics>) -> Self {
        Self {
            me,
            pool,
            checking: Checking::new(links.verifiers.clone(), links.near.clone(), Rules::Submitted),
            registry: links.reader.registry(),
            links,
            consensus: None,
            metrics,
            waking: false,
            held: BTreeMap::new(),
            outbox: Fair::default(),
            outbox_bytes: 0,
            stamping: false,
            assembling: None,
            dumped: Dumped::default(),
            rejected: Rejected::default(),
        }
    }

    /// Has transactions checked, in turns with those of others. The results are in the order given.
    fn check(&mut self, whose: Whose, transactions: &[TransactionBytes]) -> ResponseActFuture<Self, Checked> {
        let gateway = matches!(whose, Whose::User(_)).then(|| self.me.clone());
        let count = transactions.len();
        let checked = self.checking.check(&whose, transactions, gateway.as_ref());
        Box::pin(checked.into_actor(self).map(move |checked, actor, _| {
            actor.checking.ended(&whose, count);
            checked
        }))
    }

    /// Puts a checked transaction into the pool, and into the block being assembled.
    fn admit(&mut self, transaction: SharedTransaction) -> Result<Hash, Refusal> {
        self.offer_to_assembly(&transaction);
        let id = transaction.id;
        // Who is enrolled may have changed while it was being checked.
        transaction.check_standing(&self.registry)?;
        self.pool.insert(transaction, clock::now())?;
        Ok(id)
    }

    fn after_admissions(&mut self, ctx: &mut Context<Self>) {
        self.show();
        if self.waking || self.pool.is_empty() {
            return;
        }
        let Some(consensus) = &self.consensus else { return };
        self.waking = true;
        let told = consensus.send(Work).into_actor(self).map(|_ended_at_shutdown, actor, _| actor.waking = false);
        ctx.spawn(told);
    }

    fn show(&self) {
        self.metrics.mempool_transactions.set(self.pool.len() as i64);
        self.metrics.mempool_bytes.set(self.pool.bytes() as i64);
    }

    fn gossip(&mut self, author: &Identity, transaction: TransactionBytes) {
        let size = transaction.as_slice().len();
        if self.outbox_bytes + size > MAX_OUTBOX_BYTES {
            count(&self.metrics.frames_dropped, "gossip-outbox-full");
            return;
        }
        self.outbox_bytes += size;
        self.outbox.push(author, size, transaction);
    }

    fn flush_gossip(&mut self, ctx: &mut Context<Self>) {
        if self.stamping || self.outbox.is_empty() {
            return;
        }
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while let Some(transaction) = self.outbox.pop() {
            bytes += transaction.as_slice().len();
            batch.push(transaction);
            if bytes >= GOSSIP_BYTES {
                break;
            }
        }
        self.outbox_bytes -= bytes;
        self.stamping = true;
        let stamp = Stamp {
            recipient: To::All,
            class: Class::Transactions,
            content: Content::Pool(PoolContent::Gossip(batch)),
        };
        let stamped = self.links.signer.send(stamp).into_actor(self).map(|answer, actor, ctx| {
            if let Err(error) = answer {
                fatal::stop(format!("the signer is gone: {error}"));
            }
            actor.stamping = false;
            actor.flush_gossip(ctx);
        });
        ctx.spawn(stamped);
    }

    fn offer_to_assembly(&mut self, transaction: &SharedTransaction) {
        let Some(assembling) = &mut self.assembling else { return };
        if let Some(position) = assembling.missing.remove(&transaction.leaf) {
            assembling.found[position] = Some(transaction.clone());
        }
    }

    fn finish_assembly_if_complete(&mut self, ctx: &mut Context<Self>) {
        if self.assembling.as_ref().is_none_or(|assembling| !assembling.missing.is_empty()) {
            return;
        }
        let Some(assembling) = self.assembling.take() else { return };
        if let Some(timer) = assembling.timer {
            ctx.cancel_future(timer);
        }
        let found: Vec<SharedTransaction> = assembling.found.into_iter().flatten().collect();
        for reply in assembling.replies {
            // Consensus may have moved on and dropped the other end.
            let _moved_on = reply.send(found.clone());
        }
    }

    fn drop_assembly(&mut self, ctx: &mut Context<Self>) {
        if let Some(timer) = self.assembling.take().and_then(|assembling| assembling.timer) {
            ctx.cancel_future(timer);
        }
    }

    fn ask_for_missing(&mut self, ctx: &mut Context<Self>) {
        let Some(assembling) = &mut self.assembling else { return };
        let request = PoolContent::Get { block: assembling.hash, leaves: assembling.missing.keys().copied().collect() };
        // Whoever proposed it may be gone; whoever accepted it has them, too.
        let whom = if assembling.asked { To::All } else { To::One(assembling.from.clone()) };
        assembling.asked = true;
        let stamp = Stamp { recipient: whom, class: Class::Transactions, content: Content::Pool(request) };
        if self.links.signer.try_send(stamp).is_err() {
            count(&self.metrics.frames_dropped, "signer-full");
        }
        assembling.timer = Some(ctx.run_later(ASK_AGAIN, |actor, ctx| actor.ask_for_missing(ctx)));
    }
}

impl Actor for Mempool {
    type Context = Context<Self>;
}

impl Handler<Wake> for Mempool {
    type Result = ();

    fn handle(&mut self, Wake(consensus): Wake, _: &mut Self::Context) {
        self.consensus = Some(consensus);
    }
}

impl Handler<Submit> for Mempool {
    type Result = ResponseActFuture<Self, Vec<Result<Hash, Refusal>>>;

    fn handle(&mut self, Submit { caller, transactions }: Submit, _: &mut Self::Context) -> Self::Result {
        let place = match self.checking.room_for(&caller, transactions.len()) {
            Ok(place) => place,
            Err(full) => return Box::pin(fut::ready(vec![Err(full); transactions.len()])),
        };
        let checked = self.check(Whose::User(caller), &transactions).map(move |checked, actor, ctx| {
            drop(place);
            let admitted = checked
                .into_iter()
                .map(|checked| {
                    let transaction = checked?;
                    let (author, bytes) = (transaction.author.clone(), transaction.bytes.clone());
                    let id = actor.admit(transaction)?;
                    actor.gossip(&author, bytes);
                    Ok(id)
                })
                .collect();
            actor.flush_gossip(ctx);
            actor.finish_assembly_if_complete(ctx);
            actor.after_admissions(ctx);
            admitted
        });
        Box::pin(checked)
    }
}

impl Handler<FromPeer<PoolContent>> for Mempool {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, FromPeer { peer, content }: FromPeer<PoolContent>, ctx: &mut Self::Context) -> Self::Result {
        match content {
            PoolContent::Get { block, leaves } => self.answer_get(peer, block, leaves),
            PoolContent::Gossip(transactions) if transactions.len() > MAX_BLOCK_TRANSACTIONS => {
                count(&self.metrics.messages_refused, "too-many-transactions");
                Box::pin(fut::ready(()))
            }
            PoolContent::Gossip(transactions) => self.take_gossip(peer, transactions, ctx),
            PoolContent::Got { block, transactions } => self.take_got(&block, transactions, ctx),
        }
    }
}

impl Mempool {
    fn take_gossip(
        &mut self,
        peer: Identity,
        transactions: Vec<TransactionBytes>,
        ctx: &mut Context<Self>,
    ) -> ResponseActFuture<Self, ()> {
        let mut new = transactions;
        new.retain(|bytes| self.pool.by_leaf(&merkle::leaf_hash(bytes.as_slice())).is_none());
        let checked = self.check(Whose::Peer(peer.clone()), &new).map(Self::admit_all);
        if self.checking.must_wait(&peer) {
            return Box::pin(checked);
        }
        ctx.spawn(checked);
        Box::pin(fut::ready(()))
    }

    /// What a proposed block lacks does not wait for its turn: consensus waits for it. It is no more than
    /// that block, and each of it once, whoever sends it.
    fn take_got(
        &mut self,
        block: &Hash,
        transactions: Vec<TransactionBytes>,
        ctx: &mut Context<Self>,
    ) -> ResponseActFuture<Self, ()> {
        if let Some(Assembling { missing, got, created, .. }) =
            self.assembling.as_mut().filter(|assembling| assembling.hash == *block)
        {
            let mut wanted = transactions;
            wanted.retain(|bytes| {
                let leaf = merkle::leaf_hash(bytes.as_slice());
                missing.contains_key(&leaf) && got.insert(leaf)
            });
            let rules = Rules::InBlock(*created);
            let jobs = wanted.chunks(JOB_TRANSACTIONS).map(|job| {
                self.links.verifiers.send(VerifyTransactions { transactions: job.to_vec(), gateway: None, rules })
            });
            ctx.spawn(verified(jobs.collect()).into_actor(self).map(Self::admit_all));
        }
        Box::pin(fut::ready(()))
    }

    fn admit_all(checked: Checked, actor: &mut Self, ctx: &mut Context<Self>) {
        for checked in checked {
            if let Err(refusal) = checked.and_then(|transaction| actor.admit(transaction)) {
                count(&actor.metrics.submissions_refused, &format!("gossip-{}", refusal.kind()));
            }
        }
        actor.finish_assembly_if_complete(ctx);
        actor.after_admissions(ctx);
    }
}

impl Mempool {
    fn find(&self, leaf: &Hash) -> Option<&SharedTransaction> {
        self.held.get(leaf).or_else(|| self.pool.by_leaf(leaf))
    }

    /// Answers with what is here, each once. The asking session reads on only when the answer has
    /// been stamped, so that asking cannot outrun answering.
    fn answer_get(&self, peer: Identity, block: Hash, leaves: Vec<Hash>) -> ResponseActFuture<Self, ()> {
        let (mut transactions, mut bytes) = (Vec::new(), 0);
        let leaves: BTreeSet<Hash> = leaves.into_iter().take(MAX_BLOCK_TRANSACTIONS).collect();
        for transaction in leaves.iter().filter_map(|leaf| self.find(leaf)) {
            bytes += transaction.size();
            if bytes > MAX_BLOCK_BYTES {
                break;
            }
            transactions.push(transaction.bytes.clone());
        }
        if transactions.is_empty() {
            return Box::pin(fut::ready(()));
        }
        let content = Content::Pool(PoolContent::Got { block, transactions });
        let stamp = Stamp { recipient: To::One(peer), class: Class::Transactions, content };
        Box::pin(self.links.signer.send(stamp).into_actor(self).map(|_ended_at_shutdown, _, _| ()))
    }
}

impl Handler<Hold> for Mempool {
    type Result = ();

    fn handle(&mut self, Hold(transactions): Hold, _: &mut Self::Context) {
        self.held.extend(transactions.into_iter().map(|transaction| (transaction.leaf, transaction)));
    }
}

impl Handler<Pick> for Mempool {
    type Result = MessageResult<Pick>;

    fn handle(&mut self, Pick { created }: Pick, _: &mut Self::Context) -> Self::Result {
        let picked = self.pool.pick(created);
        // One that was committed while it was being checked has slipped in; it leaves here.
        let (committed, fresh): (Vec<_>, Vec<_>) =
            picked.into_iter().partition(|transaction| match self.links.reader.contains(&transaction.id) {
                Ok(committed) => committed,
                Err(error) => fatal::stop(error),
            });
        for transaction in committed {
            self.pool.remove(&transaction.id);
        }
        MessageResult(fresh)
    }
}

impl Handler<Assemble> for Mempool {
    type Result = ResponseFuture<Option<Vec<SharedTransaction>>>;

    fn handle(&mut self, Assemble { hash, block, from }: Assemble, ctx: &mut Self::Context) -> Self::Result {
        let CompactBlock { header, leaves } = block;
        let (reply, answer) = oneshot::channel();
        if let Some(same) = self.assembling.as_mut().filter(|one| one.hash == hash && one.leaves == leaves) {
            same.asked &= same.from == from;
            same.from = from;
            same.replies.retain(|reply| !reply.is_closed());
            same.replies.push(reply);
            return Box::pin(async move { answer.await.ok() });
        }
        self.drop_assembly(ctx);
        let found: Vec<_> = leaves.iter().map(|leaf| self.find(leaf).cloned()).collect();
        let missing: BTreeMap<Hash, usize> =
            leaves.iter().enumerate().filter(|(at, _)| found[*at].is_none()).map(|(at, leaf)| (*leaf, at)).collect();
        if missing.is_empty() {
            return Box::pin(std::future::ready(Some(found.into_iter().flatten().collect())));
        }
        let timer = Some(ctx.run_later(GRACE, |actor, ctx| actor.ask_for_missing(ctx)));
        let (created, replies, asked) = (header.created, vec![reply], false);
        let got = BTreeSet::new();
        self.assembling = Some(Assembling { hash, leaves, created, from, asked, found, missing, got, replies, timer });
        Box::pin(async move { answer.await.ok() })
    }
}

impl Handler<Ended> for Mempool {
    type Result = ();

    fn handle(&mut self, Ended { committed, stalls, fetched }: Ended, ctx: &mut Self::Context) {
        let Committed { head, block, registry } = committed;
        for transaction in &block.transactions {
            self.pool.remove(&transaction.id);
        }
        self.held.clear();
        self.drop_assembly(ctx);
        let expired = self.pool.expire(head.created);
        self.metrics.transactions_dumped.inc_by(expired.len() as u64);
        let height = Height { created: head.created, stalls, fetched };
        self.dumped.add(height, expired.iter().map(|transaction| (transaction.id, transaction.expires)));
        self.follow(registry);
        self.after_admissions(ctx);
    }
}

impl Mempool {
    /// Where other members may do other things now: what they could not submit any more, no block may hold.
    fn follow(&mut self, registry: Arc<Registry>) {
        if Arc::ptr_eq(&self.registry, &registry) {
            return;
        }
        let before = std::mem::replace(&mut self.registry, registry);
        for (id, reason) in self.pool.refused_by(&before, &self.registry) {
            count(&self.metrics.submissions_refused, &format!("waiting-{}", reason.kind()));
            self.pool.remove(&id);
            self.rejected.add(id, reason);
        }
    }
}

impl Handler<FindPending> for Mempool {
    type Result = MessageResult<FindPending>;

    fn handle(&mut self, FindPending(id): FindPending, _: &mut Self::Context) -> Self::Result {
        let dumped = || self.dumped.get(&id);
        let pending = self.pool.get(&id).map(|transaction| Waiting::Pending(transaction.clone()));
        let rejected = || self.rejected.get(&id).cloned().map(Waiting::Rejected);
        MessageResult(pending.or_else(dumped).or_else(rejected).unwrap_or(Waiting::Unknown))
    }
}

impl Handler<GetMempoolStatus> for Mempool {
    type Result = MessageResult<GetMempoolStatus>;

    fn handle(&mut self, _: GetMempoolStatus, _: &mut Self::Context) -> Self::Result {
        MessageResult(MempoolStatus { transactions: self.pool.len(), bytes: self.pool.bytes() })
    }
}

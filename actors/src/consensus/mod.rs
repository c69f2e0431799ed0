//! Consensus: the round. A thin shell around `protocol::consensus::Core`, one core a height: it
//! gives the core the clock, the disk and the network, and carries out what the core says.
//!
//! ```text
//!            Work, a peer's message, a block to seal
//!                            │
//!  idle ─────────────────────▼──────────── deciding ── Decided ──► committing ──► idle, next height
//!    ▲                                         │                       ▲
//!    └── Fetched: certified by others ─────────┴───────────────────────┘
//! ```
//!
//! A height starts once Sync has said that this node takes part in it, and when there is something to
//! agree on, so that an idle network writes nothing. A
//! block that holds transactions is followed, after [`SEAL_AFTER`], by an empty one if by nothing
//! else: the header after is what certifies results.
//!
//! | output of the core | here |
//! |---|---|
//! | `Log` | appended to the Signer's log |
//! | `Broadcast`, `SendBody` | stamped by the Signer, who first syncs all that was appended |
//! | `NeedBlock` | picked from the Mempool, logged, `Built` |
//! | `NeedBody` | assembled by the Mempool, checked, logged, `Body` |
//! | `Decided` | committed by the Store, then the next height |

mod bodies;
mod early;
mod signing;
mod watch;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, Handler, MessageResult, Recipient, ResponseActFuture, SpawnHandle,
    WrapFuture,
};
use log::{debug, info, warn};
use minidlt_protocol::{
    block::{self, CertifiedBlock, CompactBlock, DecidedBlock, Head, SharedTransaction},
    consensus::{Core, Input, Output, Settings, Timeouts, Timer, Wire},
    message::{CheckedConsensus, ConsensusContent, Content, Recipient as To},
    registry::Registry,
    types::{Hash, Height, Identity, Round},
    vote::{Certificate, Voters},
};
use tokio::sync::oneshot;

pub use self::signing::SignerLinks;
use self::{
    bodies::{Bodies, Body},
    early::Early,
    signing::{Log, LogRecord, SignerDesk},
    watch::{PATIENCE, Watch},
};
use crate::{
    clock, fatal,
    messages::{
        consensus::{Behind, ConsensusStatus, Fetched, GetConsensusStatus, Halt, NotTaken, SayAgain, TakePart, Work},
        evidence::Report,
        mempool::{Assemble, Ended, Hold, Pick, Stall},
        network::{Class, FromPeer},
        signer::Stamp,
        store::{Commit, Committed},
    },
    metrics::{Metrics, count},
    signer::Held,
    store::reader::Reader,
};

/// How long a block with transactions waits for a successor before an empty one is proposed.
const SEAL_AFTER: Duration = Duration::from_millis(500);

/// What Consensus hands on to.
pub struct Links {
    pub pick: Recipient<Pick>,
    pub assemble: Recipient<Assemble>,
    pub hold: Recipient<Hold>,
    pub mempool: Recipient<Ended>,
    pub store: Recipient<Commit>,
    pub reporter: Recipient<Report>,
    pub reader: Reader,
}

/// Where the answer to `Fetched` goes.
type FetchedReply = oneshot::Sender<Result<(), NotTaken>>;

/// The actor.
pub struct Consensus {
    me: Identity,
    /// This node's keys: where the ledger has another for it, it cannot vote.
    keys: Held,
    /// As of the head.
    registry: Arc<Registry>,
    timeouts: Timeouts,
    links: Links,
    signer: SignerDesk,
    /// Sync, once it is there.
    sync: Option<Recipient<Behind>>,
    metrics: Arc<Metrics>,
    head: Head,
    core: Option<Core>,
    /// From this height on this node may take part; none before Sync has said so, and after a fork.
    takes_part: Option<Height>,
    /// There was something to agree on while it might not.
    wanted: bool,
    /// A decided block is on its way to the disk.
    committing: bool,
    seal: Option<SpawnHandle>,
    timers: BTreeMap<Timer, SpawnHandle>,
    /// Whom the height under way waits for, and when that is looked at next.
    watch: Option<Watch>,
    look: Option<SpawnHandle>,
    /// What the height that is being committed waited for.
    stalls: Vec<Stall>,
    bodies: Bodies,
    early: Early,
    /// What the log held of the height that a crash interrupted: where the ledger is behind it, for the
    /// time when this node gets there. Without it the node would not know what it is locked on.
    interrupted: Option<(Height, Vec<Vec<u8>>)>,
    /// The same, read, of the height that comes.
    log: Log,
    /// Whom to answer when the fetched block under way is on disk.
    fetched: Option<FetchedReply>,
    /// A fetched block that came while another was being committed.
    waiting: Option<(CertifiedBlock, FetchedReply)>,
}

/// Tells Consensus whom to tell that it is behind: Sync is made after it.
#[derive(actix::Message)]
#[rtype(result = "()")]
pub struct Follow(pub Recipient<Behind>);

impl Consensus {
    pub fn new(
        (me, keys): (Identity, Held),
        timeouts: Timeouts,
        links: Links,
        signer: SignerLinks,
        log: (Height, Vec<Vec<u8>>),
        metrics: Arc<Metrics>,
    ) -> Self {
        let (head, registry) = (links.reader.head(), links.reader.registry());
        Self {
            me,
            keys,
            registry,
            timeouts,
            links,
            signer: SignerDesk::new(signer),
            sync: None,
            metrics,
            head,
            core: None,
            takes_part: None,
            wanted: false,
            committing: false,
            seal: None,
            timers: BTreeMap::new(),
            watch: None,
            look: None,
            stalls: Vec::new(),
            bodies: Bodies::default(),
            early: Early::default(),
            interrupted: Some(log),
            log: Log::new(),
            fetched: None,
            waiting: None,
        }
    }

    fn height(&self) -> Height {
        self.head.height.next()
    }

    /// Reads the log of the height that comes, if that is the one that was interrupted.
    fn read_log(&mut self) {
        let coming = self.height();
        let Some((height, records)) = self.interrupted.take_if(|(height, _)| *height <= coming) else { return };
        if height == coming {
            let network = self.links.reader.network();
            self.log = signing::restore(records, &network, &self.registry, &mut self.bodies);
            self.hold(self.bodies.transactions());
        }
    }

    /// Of the height that comes.
    fn voters(&self) -> &Voters {
        self.registry.voters_at(self.height())
    }

    /// It votes in the height that comes, with a key that it has.
    fn is_voter(&self) -> bool {
        self.voters().get(&self.me).is_some_and(|voter| self.keys.borrow().contains(&voter.key))
    }

    /// Starts the height, if it is not under way. Nodes that do not vote follow by Sync alone.
    fn start(&mut self, ctx: &mut Context<Self>) {
        if self.core.is_some() || self.committing || !self.is_voter() {
            return;
        }
        if self.takes_part.is_none_or(|from| self.height() < from) {
            self.wanted = true;
            return;
        }
        self.wanted = false;
        self.show_voting();
        self.cancel_seal(ctx);
        let settings = Settings {
            me: self.me.clone(),
            voters: self.voters().clone(),
            height: self.height(),
            timeouts: self.timeouts,
        };
        let log = std::mem::take(&mut self.log);
        match Core::start(settings, log, &mut self.signer) {
            Ok((core, outputs)) => {
                self.watch = Some(Watch::start(core.round(), clock::now()));
                self.look_later(ctx);
                self.core = Some(core);
                self.carry_out(outputs, ctx);
            }
            Err(error) => fatal::stop(format!("height {} cannot start: {error}", self.height())),
        }
        for (sender, checked) in self.early.take(self.height()) {
            self.take_in(sender, checked, ctx);
        }
    }

    fn step(&mut self, input: Input, ctx: &mut Context<Self>) {
        let Some(core) = &mut self.core else { return };
        let outputs = core.step(input, &mut self.signer);
        self.carry_out(outputs, ctx);
    }

    fn carry_out(&mut self, outputs: Vec<Output>, ctx: &mut Context<Self>) {
        for output in outputs {
            match output {
                Output::Log(entry) => self.signer.append(self.height(), &LogRecord::Core(entry)),
                Output::Broadcast(wire) => {
                    let class = if matches!(wire, Wire::Proposal(_)) { Class::Proposal } else { Class::Vote };
                    self.publish(class, ConsensusContent::Wire(wire));
                }
                Output::SendBody { block, .. } => {
                    if let Some(Body { block, .. }) = self.bodies.get(&block) {
                        let content = ConsensusContent::Body(block.clone());
                        self.publish(Class::Proposal, content);
                    }
                }
                Output::Schedule(timer, after) => self.schedule(timer, after, ctx),
                Output::Cancel(timer) => {
                    self.timers.remove(&timer).map(|handle| ctx.cancel_future(handle));
                }
                Output::CancelAll => self.cancel_timers(ctx),
                Output::NeedBlock { round } => self.build(round, ctx),
                Output::NeedBody { round, proposer, block } => {
                    self.bodies.want(block, round, proposer);
                    self.find_body(block, ctx);
                }
                Output::Decided(certificate) => self.on_decided(certificate, ctx),
                Output::Equivocation(lie) => {
                    count(&self.metrics.messages_refused, "equivocation");
                    warn!("height {}: a voter contradicts itself: {lie:?}", self.height());
                    if self.links.reporter.try_send(Report(lie.into())).is_err() {
                        warn!("height {}: the reporter is too busy to report it", self.height());
                    }
                }
                Output::Refused(refusal) => debug!("height {}: not taken: {refusal}", self.height()),
                Output::Fault(fault) => warn!("height {}: {fault}", self.height()),
            }
        }
        self.signer.flush();
        if let Some(core) = &self.core {
            self.metrics.round.set(i64::from(core.round().get()));
        }
        self.watch_round(ctx);
    }

    /// A round that has ended without a decision is looked at a last time.
    fn watch_round(&mut self, ctx: &mut Context<Self>) {
        let (Some(core), Some(watch)) = (&self.core, &mut self.watch) else { return };
        if core.round() != watch.round() {
            let now = clock::now();
            watch.look(core.missing(watch.round()), now);
            watch.enter(core.round(), now);
            self.look_later(ctx);
        }
    }

    fn look_later(&mut self, ctx: &mut Context<Self>) {
        let look = ctx.run_later(PATIENCE, |actor, ctx| {
            if let (Some(core), Some(watch)) = (&actor.core, &mut actor.watch) {
                watch.look(core.missing(watch.round()), clock::now());
                actor.look_later(ctx);
            }
        });
        self.look.replace(look).map(|replaced| ctx.cancel_future(replaced));
    }

    fn end_watch(&mut self, ctx: &mut Context<Self>) {
        self.look.take().map(|look| ctx.cancel_future(look));
        self.stalls = self.watch.take().map(|watch| watch.end(clock::now())).unwrap_or_default();
    }

    fn publish(&mut self, class: Class, content: ConsensusContent) {
        self.signer.publish(Stamp { recipient: To::All, class, content: Content::Consensus(content) });
    }

    fn schedule(&mut self, timer: Timer, after: Duration, ctx: &mut Context<Self>) {
        let handle = ctx.run_later(after, move |actor, ctx| {
            actor.timers.remove(&timer);
            actor.step(Input::Timeout(timer), ctx);
        });
        if let Some(replaced) = self.timers.insert(timer, handle) {
            ctx.cancel_future(replaced);
        }
    }

    fn cancel_timers(&mut self, ctx: &mut Context<Self>) {
        for (_, handle) in std::mem::take(&mut self.timers) {
            ctx.cancel_future(handle);
        }
    }

    /// Builds a block of what the Mempool has, keeps it, and proposes it.
    fn build(&mut self, round: Round, ctx: &mut Context<Self>) {
        let height = self.height();
        let created = clock::now().max(self.head.created);
        let picked = self.links.pick.send(Pick { created }).into_actor(self).map(move |picked, actor, ctx| {
            let transactions = picked.unwrap_or_else(|error| fatal::stop(format!("the mempool is gone: {error}")));
            if actor.height() != height || actor.core.is_none() {
                return;
            }
            let block = block::build(&actor.head, round, actor.me.clone(), created, &transactions);
            if block.leaves.is_empty() && actor.head.transactions == 0 {
                // Nothing to say and nothing to seal: somebody's message started this height. An
                // idle network cannot be made to write faster than this.
                ctx.run_later(SEAL_AFTER, move |actor, ctx| actor.propose(height, round, block, transactions, ctx));
            } else {
                actor.propose(height, round, block, transactions, ctx);
            }
        });
        ctx.spawn(picked);
    }

    fn propose(
        &mut self,
        height: Height,
        round: Round,
        block: CompactBlock,
        transactions: Vec<SharedTransaction>,
        ctx: &mut Context<Self>,
    ) {
        if self.height() != height || self.core.is_none() {
            return;
        }
        let hash = block.header.hash(&self.links.reader.network());
        self.keep_body(hash, block, transactions);
        self.step(Input::Built { round, block: hash }, ctx);
    }

    /// A checked body goes into the log before the core hears of it: the core may vote for it, and
    /// a vote's block must be at hand after a crash. The Mempool holds its transactions for others
    /// who lack them, whatever becomes of the pool.
    fn keep_body(&mut self, hash: Hash, block: CompactBlock, transactions: Vec<SharedTransaction>) {
        self.signer.append(self.height(), &LogRecord::block(&block, &transactions));
        self.hold(transactions.clone());
        self.bodies.complete(hash, Body { block, transactions });
    }

    fn hold(&self, transactions: Vec<SharedTransaction>) {
        // It is told with every body, and a full mailbox costs one answer to one who asks again.
        if self.links.hold.try_send(Hold(transactions)).is_err() {
            warn!("height {}: the mempool is too busy to hold a block's transactions", self.height());
        }
    }

    /// Takes a wanted body one step further: offered, then assembled, then checked. Called again
    /// whenever the core asks again, since whom to fetch from, and the clock, may have changed.
    fn find_body(&mut self, hash: Hash, ctx: &mut Context<Self>) {
        let Some(wanted) = self.bodies.wanted(&hash) else { return };
        if self.bodies.get(&hash).is_some() {
            self.bodies.answered(&hash);
            return self.step(Input::Body { block: hash, valid: true }, ctx);
        }
        let Some((_, block)) = self.bodies.offered(&hash) else { return };
        if let Err(reason) = block.header.check_follows(&self.head, self.voters()) {
            return self.reject(hash, reason.to_string(), ctx);
        }
        if let Err(reason) = block.header.check_clock(&self.head, wanted.round, clock::now()) {
            // No verdict on the block: in a later round, or a moment later, it may be welcome.
            return warn!("height {}: block {} must wait: {reason}", self.height(), hash.short());
        }
        let (height, block) = (self.height(), block.clone());
        let assemble = Assemble { hash, block: block.clone(), from: wanted.proposer.clone() };
        let assembled = self.links.assemble.send(assemble).into_actor(self).map(move |answer, actor, ctx| {
            let answer = answer.unwrap_or_else(|error| fatal::stop(format!("the mempool is gone: {error}")));
            // Given up for another block: the core will ask again if it still wants this one.
            let Some(transactions) = answer else { return };
            if actor.height() != height || actor.committing || actor.bodies.get(&hash).is_some() {
                return;
            }
            match actor.check(&block, &transactions) {
                Ok(()) => {
                    actor.keep_body(hash, block, transactions);
                    actor.bodies.answered(&hash);
                    actor.step(Input::Body { block: hash, valid: true }, ctx);
                }
                Err(reason) => actor.reject(hash, reason, ctx),
            }
        });
        ctx.spawn(assembled);
    }

    fn check(&self, block: &CompactBlock, transactions: &[SharedTransaction]) -> Result<(), String> {
        let parsed = transactions.iter().map(|transaction| &***transaction);
        block.header.check_transactions(parsed, &self.registry).map_err(|reason| reason.to_string())?;
        for transaction in transactions {
            match self.links.reader.contains(&transaction.id) {
                Ok(false) => {}
                Ok(true) => return Err(format!("transaction {} is committed already", transaction.id)),
                Err(error) => fatal::stop(error),
            }
        }
        Ok(())
    }

    fn reject(&mut self, hash: Hash, reason: String, ctx: &mut Context<Self>) {
        warn!("height {}: block {} is not valid: {reason}", self.height(), hash.short());
        count(&self.metrics.messages_refused, "invalid-block");
        self.bodies.answered(&hash);
        self.step(Input::Body { block: hash, valid: false }, ctx);
    }

    fn on_decided(&mut self, certificate: Certificate, ctx: &mut Context<Self>) {
        let Some(Body { block, transactions }) = self.bodies.take(&certificate.block) else {
            fatal::stop(format!("height {} was decided on a block that is not here", self.height()))
        };
        let hash = certificate.block;
        self.commit(DecidedBlock::decided(block.header, hash, certificate, transactions), ctx);
    }

    fn commit(&mut self, block: DecidedBlock, ctx: &mut Context<Self>) {
        self.core = None;
        self.committing = true;
        self.end_watch(ctx);
        self.cancel_timers(ctx);
        self.cancel_seal(ctx);
        let committed =
            self.links.store.send(Commit(Arc::new(block))).into_actor(self).map(|answer, actor, ctx| match answer {
                Ok(committed) => actor.on_committed(committed, ctx),
                Err(error) => fatal::stop(format!("the store is gone: {error}")),
            });
        ctx.spawn(committed);
    }

    fn on_committed(&mut self, committed: Committed, ctx: &mut Context<Self>) {
        let head = committed.head.clone();
        debug!("height {}: block {} with {} transactions", head.height, head.hash.short(), head.transactions);
        self.show_height(head.height);
        self.metrics.transactions_committed.inc_by(head.transactions as u64);
        self.committing = false;
        self.bodies = Bodies::default();
        self.log.clear();
        self.head = head;
        self.registry = committed.registry.clone();
        self.show_voting();
        // The Mempool answers with `Work` if it has more. It must hear of every block, so this waits
        // for a place in its mailbox.
        let ended = Ended { committed, stalls: std::mem::take(&mut self.stalls), fetched: self.fetched.is_some() };
        let told = self.links.mempool.send(ended).into_actor(self).map(|answer, _, _| {
            if let Err(error) = answer {
                fatal::stop(format!("the mempool is gone: {error}"));
            }
        });
        ctx.spawn(told);
        if let Some(reply) = self.fetched.take() {
            let _given_up = reply.send(Ok(()));
        }
        if let Some((block, reply)) = self.waiting.take() {
            self.take_fetched(block, reply, ctx);
        }
        self.early.forget_up_to(self.head.height);
        // Whatever there was to agree on, it is asked for again below, or by the Mempool.
        self.wanted = false;
        self.read_log();
        if self.early.has(self.height()) || !self.log.is_empty() {
            self.start(ctx);
        } else if self.head.transactions > 0 && !self.committing {
            self.seal = Some(ctx.run_later(SEAL_AFTER, |actor, ctx| actor.start(ctx)));
        }
    }

    /// Votes in the height that comes.
    fn show_voting(&self) {
        let votes = self.is_voter() && self.takes_part.is_some_and(|from| self.height() >= from);
        self.metrics.voting.set(i64::from(votes));
    }

    fn show_height(&self, height: Height) {
        self.metrics.height.set(i64::try_from(height.get()).unwrap_or(i64::MAX));
    }

    fn cancel_seal(&mut self, ctx: &mut Context<Self>) {
        self.seal.take().map(|seal| ctx.cancel_future(seal));
    }

    /// Commits a block that others decided, if it holds; answers once it is on disk.
    fn take_fetched(&mut self, block: CertifiedBlock, reply: FetchedReply, ctx: &mut Context<Self>) {
        let known = block.block.header.height <= self.head.height;
        let network = self.links.reader.network();
        // Sync may have given up waiting for any of these answers.
        let _given_up = match DecidedBlock::certified(block, &network, &self.head, &self.registry) {
            _ if known => reply.send(Ok(())),
            Err(refused) => {
                reply.send(Err(NotTaken { reason: refused.to_string(), forked: refused.is_of_another_chain() }))
            }
            Ok(block) => {
                debug!("height {}: got block {} from a peer", self.height(), block.hash.short());
                self.fetched = Some(reply);
                return self.commit(block, ctx);
            }
        };
    }

    fn take_in(&mut self, peer: Identity, checked: CheckedConsensus, ctx: &mut Context<Self>) {
        match checked {
            CheckedConsensus::Message(message) => self.step(Input::Message(message), ctx),
            CheckedConsensus::Body(block) => {
                let hash = block.header.hash(&self.links.reader.network());
                if self.bodies.offer(hash, &peer, block) {
                    self.find_body(hash, ctx);
                } else {
                    count(&self.metrics.messages_refused, "unasked-body");
                }
            }
        }
    }
}

impl Actor for Consensus {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.show_height(self.head.height);
        self.read_log();
        if !self.log.is_empty() {
            info!("height {}: to be taken up where it was interrupted", self.height());
            self.start(ctx);
        } else if self.head.transactions > 0 {
            self.seal = Some(ctx.run_later(SEAL_AFTER, |actor, ctx| actor.start(ctx)));
        }
    }
}

impl Handler<TakePart> for Consensus {
    type Result = ();

    fn handle(&mut self, TakePart(from): TakePart, ctx: &mut Self::Context) {
        self.takes_part = Some(from);
        self.show_voting();
        if self.wanted {
            self.start(ctx);
        }
    }
}

impl Handler<SayAgain> for Consensus {
    type Result = ();

    fn handle(&mut self, SayAgain { healed }: SayAgain, ctx: &mut Self::Context) {
        self.step(Input::SayAgain { healed }, ctx);
    }
}

impl Handler<Halt> for Consensus {
    type Result = ();

    fn handle(&mut self, _: Halt, ctx: &mut Self::Context) {
        self.takes_part = None;
        self.core = None;
        self.end_watch(ctx);
        self.cancel_timers(ctx);
        self.cancel_seal(ctx);
        self.show_voting();
    }
}

impl Handler<Follow> for Consensus {
    type Result = ();

    fn handle(&mut self, Follow(sync): Follow, _: &mut Self::Context) {
        self.sync = Some(sync);
    }
}

impl Handler<Work> for Consensus {
    type Result = ();

    fn handle(&mut self, _: Work, ctx: &mut Self::Context) {
        self.start(ctx);
    }
}

impl Handler<FromPeer<CheckedConsensus>> for Consensus {
    type Result = ();

    fn handle(&mut self, FromPeer { peer, content }: FromPeer<CheckedConsensus>, ctx: &mut Self::Context) {
        let height = early::height_of(&content);
        if height <= self.head.height {
            return debug!("{peer} speaks of height {height}, which is decided");
        }
        let signed = matches!(content, CheckedConsensus::Message(_));
        if height == self.height() && !self.committing {
            // A body is no reason to start: nobody signed that it is wanted.
            if signed {
                self.start(ctx);
            }
            return self.take_in(peer, content, ctx);
        }
        // A height just ahead is kept for when this node gets there.
        self.early.keep(self.height(), &peer, content);
        if let (true, Some(sync), Some(decided)) = (signed && !self.committing, &self.sync, height.previous()) {
            // A full mailbox means that Sync has heard it already.
            let _told_already = sync.try_send(Behind { peer, height: decided });
        }
    }
}

impl Handler<Fetched> for Consensus {
    type Result = ResponseActFuture<Self, Result<(), NotTaken>>;

    fn handle(&mut self, Fetched(block): Fetched, ctx: &mut Self::Context) -> Self::Result {
        let (reply, answer) = oneshot::channel();
        if self.committing {
            self.waiting = Some((block, reply));
        } else {
            self.take_fetched(block, reply, ctx);
        }
        let given_up = || NotTaken { reason: "another block was fetched instead".into(), forked: false };
        let answered = async move { answer.await.unwrap_or_else(|_| Err(given_up())) };
        Box::pin(answered.into_actor(self))
    }
}

impl Handler<GetConsensusStatus> for Consensus {
    type Result = MessageResult<GetConsensusStatus>;

    fn handle(&mut self, _: GetConsensusStatus, _: &mut Self::Context) -> Self::Result {
        let status = self.core.as_ref().map(Core::status);
        let block = self.bodies.proposed();
        let accepted = |voter: &Identity| {
            status.as_ref().is_some_and(|status| status.prevotes.get(voter).is_some_and(Option::is_some))
        };
        // While nothing is to be agreed on, nobody is waited for.
        let voters = self.voters().as_slice().iter().filter(|_| status.is_some());
        let (accepted_by, missing) = voters.map(|voter| voter.identity.clone()).partition(accepted);
        MessageResult(ConsensusStatus {
            active: status.is_some(),
            height: self.height(),
            round: status.as_ref().map(|status| status.round).unwrap_or_default(),
            block,
            accepted_by,
            missing,
        })
    }
}

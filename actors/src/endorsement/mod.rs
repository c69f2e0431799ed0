//! Endorsement: transactions that need the signatures of organisations' peers get them here, and this node gives
//! its own to those of other gateways.
//!
//! ```text
//! Admin ── Collect ──▶ checked ──▶ collecting ── Propose ──▶ peers     (this file and collecting.rs: the gateway)
//!   ▲                                 │  ▲───── Answers ─────  ▲ │
//!   └──── id, or who said what ───────┤                        │ ▼
//!                                     ▼             checked, own rules, signed      (endorsing.rs: the peer)
//!                                  Mempool
//! ```
//!
//! The rules of collecting are `minidlt_protocol::endorsement`'s. What goes to a node goes in batches: while one is
//! being stamped the next one gathers, so that a lone transaction leaves at once, and a burst in few messages.

mod collecting;
mod endorsing;
mod outbox;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Recipient, ResponseActFuture, WrapFuture, fut};
use minidlt_config::Endorse;
use minidlt_protocol::{
    endorsement::EndorsementContent,
    message::{Content, Recipient as To},
    types::{Hash, Identity},
};
use tokio::sync::Semaphore;

use crate::{
    checking::Checking,
    fatal,
    log_limit::LogLimit,
    members::Members,
    messages::{
        mempool::Submit,
        network::{Class, FromPeer, PeerChanged},
        signer::{SignEndorsements, Stamp},
        verifier::{Rules, VerifyTransactions},
    },
    metrics::Metrics,
};
use collecting::{Collecting, TakenBack};
use outbox::Outbox;

/// What the actor hands on to.
pub struct Links {
    /// On a thread a core.
    pub verifiers: Recipient<VerifyTransactions>,
    /// On the actor's own thread.
    pub near: Recipient<VerifyTransactions>,
    pub stamp: Recipient<Stamp>,
    pub sign: Recipient<SignEndorsements>,
    pub mempool: Recipient<Submit>,
    pub members: Members,
}

/// How long things may take. Of the tests' own where they would wait for it.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For a node to answer, before another of its organisation is asked.
    pub answer: Duration,
    /// Longest for all of a transaction's endorsements.
    pub collect: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { answer: Duration::from_secs(1), collect: Duration::from_secs(5) }
    }
}

/// What the actor is made of.
pub struct Settings {
    pub me: Identity,
    /// The genesis' hash.
    pub network: Hash,
    pub endorse: Endorse,
    pub limits: Limits,
}

/// The actor.
pub struct Endorsement {
    me: Identity,
    network: Hash,
    links: Links,
    limits: Limits,
    /// What this node endorses.
    endorse: Endorse,
    metrics: Arc<Metrics>,
    checking: Checking,
    connected: BTreeSet<Identity>,
    outboxes: BTreeMap<Identity, Outbox>,
    collecting: Collecting,
    taken_back: TakenBack,
    /// A turn with the Signer, one at a time: a vote waits behind one small batch at most.
    signing: Arc<Semaphore>,
    refusals: LogLimit,
}

impl Endorsement {
    pub fn new(settings: Settings, links: Links, metrics: Arc<Metrics>) -> Self {
        let Settings { me, network, endorse, limits } = settings;
        Self {
            me,
            network,
            endorse,
            checking: Checking::new(links.verifiers.clone(), links.near.clone(), Rules::Endorsing),
            links,
            limits,
            metrics,
            connected: BTreeSet::new(),
            outboxes: BTreeMap::new(),
            collecting: Collecting::default(),
            taken_back: TakenBack::default(),
            signing: Arc::new(Semaphore::new(1)),
            refusals: LogLimit::default(),
        }
    }

    /// What waits to be sent to a node; none where it is not connected.
    fn outbox(&mut self, peer: &Identity) -> Option<&mut Outbox> {
        self.connected.contains(peer).then(|| self.outboxes.entry(peer.clone()).or_default())
    }

    /// Sends a node what waits for it, in batches; the next when the last was stamped.
    fn flush(&mut self, peer: &Identity, ctx: &mut Context<Self>) {
        let collecting = &self.collecting;
        let Some(outbox) = self.outboxes.get_mut(peer) else { return };
        let Some(content) = outbox.next(|id| collecting.expects(id, peer)) else { return };
        if let EndorsementContent::Propose(_) = content {
            self.await_answers(peer, ctx);
        }
        let content = Content::Endorsement(content);
        let stamp = Stamp { recipient: To::One(peer.clone()), class: Class::Transactions, content };
        let peer = peer.clone();
        let stamped = self.links.stamp.send(stamp).into_actor(self).map(move |answer, actor, ctx| {
            there(answer, "signer");
            if let Some(outbox) = actor.outboxes.get_mut(&peer) {
                outbox.stamped();
            }
            actor.flush(&peer, ctx);
        });
        ctx.spawn(stamped);
    }

    fn flush_all(&mut self, ctx: &mut Context<Self>) {
        let peers: Vec<Identity> = self.outboxes.keys().cloned().collect();
        peers.iter().for_each(|peer| self.flush(peer, ctx));
    }

    /// A batch was handed to the Signer: what it asks for is waited for so long.
    fn await_answers(&mut self, peer: &Identity, ctx: &mut Context<Self>) {
        let Some(outbox) = self.outboxes.get(peer) else { return };
        let (asked, peer): (Vec<Hash>, _) = (outbox.last_proposed().to_vec(), peer.clone());
        ctx.run_later(self.limits.answer, move |actor, ctx| actor.answers_are_due(&peer, &asked, ctx));
    }
}

/// The answer of one that must be there as long as this actor is.
fn there<T, E: std::fmt::Display>(answer: Result<T, E>, whose: &str) -> T {
    answer.unwrap_or_else(|error| fatal::stop(format!("the {whose} is gone: {error}")))
}

impl Actor for Endorsement {
    type Context = Context<Self>;
}

impl Handler<FromPeer<EndorsementContent>> for Endorsement {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, from: FromPeer<EndorsementContent>, ctx: &mut Self::Context) -> Self::Result {
        let FromPeer { peer, content } = from;
        match content {
            EndorsementContent::Propose(transactions) => self.proposed(peer, transactions, ctx),
            EndorsementContent::Answers(answers) => {
                self.answered(&peer, answers, ctx);
                Box::pin(fut::ready(()))
            }
        }
    }
}

impl Handler<PeerChanged> for Endorsement {
    type Result = ();

    fn handle(&mut self, PeerChanged { peer, connected }: PeerChanged, ctx: &mut Self::Context) {
        if connected {
            self.connected.insert(peer);
        } else {
            self.connected.remove(&peer);
            // A batch may be at the Signer: what waits behind it has nobody to go to.
            if let Some(outbox) = self.outboxes.get_mut(&peer) {
                outbox.clear();
            }
            self.lost(&peer, ctx);
        }
    }
}

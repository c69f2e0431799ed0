//! Sync: who is there, who is ahead, and fetching what is missing.
//!
//! Every second this node tells all where it stands (`Alive`). When a peer says that it is ahead,
//! one peer at a time is asked for the blocks from the next height on (`Synchronise`), and only
//! the one asked is listened to. Each block is checked and committed by Consensus before the next.
//! A peer that does not answer in time, or answers with what does not hold, is left alone for a
//! while and another is asked.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, Handler, Recipient, ResponseActFuture, SpawnHandle, WrapFuture, fut,
};
use log::{info, warn};
use minidlt_protocol::{
    block::CertifiedBlock,
    message::{Alive, Content, Recipient as To, SyncContent},
    types::{Height, Identity},
};
use tokio::time::Instant;

use crate::{
    messages::{
        consensus::{Behind, Fetched},
        network::{Class, FromPeer, PeerChanged},
        signer::Stamp,
    },
    metrics::{Metrics, count},
    store::reader::Reader,
};

/// How often a node says that it is there.
pub const ALIVE_EVERY: Duration = Duration::from_secs(1);
/// How long an asked peer may take until another is asked.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// How long a peer that failed is not asked again.
const LEAVE_ALONE: Duration = Duration::from_secs(10);
/// Most bytes of blocks in one answer.
const ANSWER_BYTES: usize = 4 << 20;
/// Most blocks in one answer.
const ANSWER_BLOCKS: usize = 500;

/// What Sync hands on to.
pub struct Links {
    pub consensus: Recipient<Fetched>,
    pub signer: Recipient<Stamp>,
    pub reader: Reader,
}

#[derive(Default)]
struct PeerInfo {
    /// The Listener has told of it.
    connected: bool,
    height: Option<Height>,
    left_alone_until: Option<Instant>,
    /// An answer to it is being read from the store.
    serving: bool,
}

/// The one request under way.
struct Request {
    peer: Identity,
    from: Height,
    timer: SpawnHandle,
}

/// The actor.
pub struct Sync {
    links: Links,
    metrics: Arc<Metrics>,
    /// Connected peers.
    peers: BTreeMap<Identity, PeerInfo>,
    request: Option<Request>,
    /// Who was asked last: the next one ahead is asked next, so that no peer, whatever height it
    /// tells, is the only one asked.
    last_asked: Option<Identity>,
    /// Blocks of an answer are being committed.
    committing: bool,
    /// The height at the last tick: one behind for a moment is no reason to ask.
    height_at_tick: Height,
}

impl Sync {
    pub fn new(links: Links, metrics: Arc<Metrics>) -> Self {
        Self {
            links,
            metrics,
            peers: BTreeMap::new(),
            request: None,
            last_asked: None,
            committing: false,
            height_at_tick: Height::GENESIS,
        }
    }

    fn tell(&self, recipient: To, content: SyncContent) {
        let stamp = Stamp { recipient, class: Class::Sync, content: Content::Sync(content) };
        if self.links.signer.try_send(stamp).is_err() {
            count(&self.metrics.frames_dropped, "signer-full");
        }
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        let head = self.links.reader.head();
        let alive = Alive { network: self.links.reader.network(), height: head.height, head: head.hash, binding: None };
        self.tell(To::All, SyncContent::Alive(alive));
        if self.height_at_tick == head.height {
            self.ask(ctx);
        }
        self.height_at_tick = head.height;
    }

    /// Asks the next peer that is ahead, if any is and no request is under way.
    fn ask(&mut self, ctx: &mut Context<Self>) {
        if self.request.is_some() || self.committing {
            return;
        }
        let (height, now) = (self.links.reader.head().height, Instant::now());
        let ahead = self
            .peers
            .iter()
            .filter(|(_, info)| info.left_alone_until.is_none_or(|until| until <= now))
            .filter(|(_, info)| info.height.is_some_and(|theirs| theirs > height))
            .min_by_key(|(peer, _)| (Some(*peer) <= self.last_asked.as_ref(), *peer));
        let Some((peer, info)) = ahead else { return };
        info!("height {height}: asking {peer} (height {}) for blocks", info.height.unwrap_or_default());
        let (peer, from) = (peer.clone(), height.next());
        self.last_asked = Some(peer.clone());
        self.tell(To::One(peer.clone()), SyncContent::Synchronise { from });
        let timer = ctx.run_later(ANSWER_WITHIN, |actor, ctx| {
            if let Some(request) = actor.request.take() {
                actor.leave_alone(&request.peer, "it did not answer in time");
                actor.ask(ctx);
            }
        });
        self.request = Some(Request { peer, from, timer });
    }

    fn leave_alone(&mut self, peer: &Identity, why: &str) {
        warn!("catching up: {peer} is left alone for {} s: {why}", LEAVE_ALONE.as_secs());
        count(&self.metrics.messages_refused, "catch-up");
        if let Some(info) = self.peers.get_mut(peer) {
            info.left_alone_until = Some(Instant::now() + LEAVE_ALONE);
        }
    }

    /// Reads blocks off this thread; one answer at a time a peer.
    fn serve(&mut self, peer: Identity, from: Height, ctx: &mut Context<Self>) {
        let Some(info) = self.peers.get_mut(&peer).filter(|info| !info.serving) else { return };
        info.serving = true;
        let reader = self.links.reader.clone();
        let read = actix_rt::task::spawn_blocking(move || reader.blocks(from, ANSWER_BYTES, ANSWER_BLOCKS));
        let (signer, asking) = (self.links.signer.clone(), peer.clone());
        let answered = async move {
            let blocks = match read.await {
                Ok(Ok(blocks)) => blocks,
                Ok(Err(error)) => return warn!("blocks from height {from} for {asking}: {error}"),
                Err(error) => return warn!("blocks from height {from} for {asking}: reading was broken off: {error}"),
            };
            let content = Content::Sync(SyncContent::Blocks(blocks));
            let stamp = Stamp { recipient: To::One(asking), class: Class::Sync, content };
            // Waits until it is stamped: asking cannot outrun answering.
            let _ended_at_shutdown = signer.send(stamp).await;
        };
        ctx.spawn(answered.into_actor(self).map(move |(), actor, _| {
            if let Some(info) = actor.peers.get_mut(&peer) {
                info.serving = false;
            }
        }));
    }

    /// Commits an answer block by block; the first that does not hold ends it.
    fn commit(&mut self, peer: Identity, from: Height, blocks: Vec<CertifiedBlock>) -> ResponseActFuture<Self, ()> {
        self.committing = true;
        let consensus = self.links.consensus.clone();
        let committed = async move {
            let mut count = 0u64;
            for block in blocks {
                match consensus.send(Fetched(block)).await {
                    Ok(Ok(())) => count += 1,
                    Ok(Err(reason)) => return (count, Some(reason)),
                    Err(error) => return (count, Some(format!("consensus is gone: {error}"))),
                }
            }
            (count, None)
        };
        Box::pin(committed.into_actor(self).map(move |(count, refused), actor, ctx| {
            actor.committing = false;
            actor.metrics.blocks_fetched.inc_by(count);
            match refused {
                Some(reason) => actor.leave_alone(&peer, &reason),
                None if actor.links.reader.head().height < from => actor.leave_alone(&peer, "it brought nothing new"),
                None => info!("{count} blocks from {peer}, now at height {}", actor.links.reader.head().height),
            }
            actor.ask(ctx);
        }))
    }
}

impl Actor for Sync {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(ALIVE_EVERY, Self::tick);
    }
}

impl Handler<PeerChanged> for Sync {
    type Result = ();

    fn handle(&mut self, PeerChanged { peer, connected }: PeerChanged, ctx: &mut Self::Context) {
        // A peer may have said how high it is before this is told: it has not been connected twice.
        let before = if connected {
            std::mem::replace(&mut self.peers.entry(peer.clone()).or_default().connected, true)
        } else {
            self.peers.remove(&peer).is_some()
        };
        // Whatever was asked on the connection before is not answered on another.
        if before && self.request.as_ref().is_some_and(|request| request.peer == peer) {
            if let Some(request) = self.request.take() {
                ctx.cancel_future(request.timer);
            }
            self.ask(ctx);
        }
    }
}

impl Handler<FromPeer<SyncContent>> for Sync {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, FromPeer { peer, content }: FromPeer<SyncContent>, ctx: &mut Self::Context) -> Self::Result {
        match content {
            SyncContent::Alive(alive) => {
                self.peers.entry(peer).or_default().height = Some(alive.height);
                if alive.height > self.links.reader.head().height.next() {
                    self.ask(ctx);
                }
            }
            SyncContent::Synchronise { from } => self.serve(peer, from, ctx),
            SyncContent::Blocks(blocks) => match self.request.take_if(|request| request.peer == peer) {
                Some(request) => {
                    ctx.cancel_future(request.timer);
                    return self.commit(peer, request.from, blocks);
                }
                None => count(&self.metrics.messages_refused, "unasked-blocks"),
            },
        }
        Box::pin(fut::ready(()))
    }
}

impl Handler<Behind> for Sync {
    type Result = ();

    fn handle(&mut self, Behind { peer, height }: Behind, ctx: &mut Self::Context) {
        let known = &mut self.peers.entry(peer).or_default().height;
        *known = (*known).max(Some(height));
        self.ask(ctx);
    }
}

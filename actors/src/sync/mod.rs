//! Sync: who is there, who is ahead, fetching what is missing, and from when on this node takes part.
//! A thin shell around `protocol::sync::Synchroniser`: it gives that the clock, what peers say and what
//! is on disk, and carries out what it says.
//!
//! ```text
//! PeerChanged, Alive, Standing, Blocks, Behind, a tick ──▶ Synchroniser ──▶ Alive, Synchronise, GetBlocks
//!                                                              │  ▲
//!              TakePart, SayAgain, Halt, VoteFrom ◀────────────┤  │ on disk, or not taken
//!              Fetched, one block after another   ◀────────────┘──┘
//! Synchronise, GetBlocks of a peer ──▶ Serving ──▶ Standing, Blocks
//! ```
//!
//! What a peer shows is checked here before the rules hear of it: a certificate, unless it is for a
//! block of this node's own chain; and that blocks come in order. Each fetched block is checked and
//! committed by Consensus before the next.

mod serving;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::PathBuf,
    sync::Arc,
};

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, MessageResult, Recipient, ResponseActFuture,
    WrapFuture, fut,
};
use log::{debug, error, info, warn};
use minidlt_protocol::{
    block::CertifiedBlock,
    message::{Alive, Content, Recipient as To, SyncContent},
    receipt::CertifiedHeader,
    registry::{IN_FORCE_AFTER, Registry},
    sync::{Chain, Input, Output, Participation, Place, Settings, Synchroniser, TICK_EVERY},
    types::{Hash, Height, Identity},
    vote::Voters,
};
use tokio::time::Instant;

use self::serving::{Question, Serving};
use crate::{
    clock, fatal,
    fork::{self, Fork},
    messages::{
        consensus::{Behind, Fetched, Halt, SayAgain, TakePart},
        network::{Class, FromPeer, PeerChanged},
        signer::{SignDraft, Stamp, VoteFrom},
        sync::{GetSyncStatus, SyncStatus, Voting, VotingState},
    },
    metrics::{Metrics, count},
    signer::Held,
    store::reader::Reader,
};

/// What Sync hands on to.
pub struct Links {
    pub fetched: Recipient<Fetched>,
    pub take_part: Recipient<TakePart>,
    pub say_again: Recipient<SayAgain>,
    pub halt: Recipient<Halt>,
    pub signer: Recipient<Stamp>,
    pub sign_draft: Recipient<SignDraft>,
    pub vote_from: Recipient<VoteFrom>,
    pub reader: Reader,
    /// This node's keys.
    pub keys: Held,
}

impl Chain for Reader {
    /// A ledger that cannot be read is no reason to take another's for a fork.
    fn holds(&self, place: &Place) -> bool {
        match place.height {
            Height::GENESIS => place.block == self.network(),
            height => self.height_of(&place.block).unwrap_or_else(|error| fatal::stop(error)) == Some(height),
        }
    }
}

/// The actor.
pub struct Sync {
    me: Identity,
    /// Of the height that comes, and of the one after it.
    voters: Arc<Voters>,
    coming: Arc<Voters>,
    links: Links,
    data_dir: PathBuf,
    metrics: Arc<Metrics>,
    rules: Synchroniser,
    started: Instant,
    /// The head that the rules know.
    head: Height,
    /// Whom this node has asked where it stands, until it answers.
    asked: BTreeSet<Identity>,
    /// What is being looked at, and the highest that each has shown and this node has yet to reach: all
    /// verified, with the signatures of just a quorum.
    showing: Option<CertifiedHeader>,
    shown: BTreeMap<Identity, CertifiedHeader>,
    /// Who said that it stands at this height, which is too far ahead to be judged, until it shows a lower one.
    below: BTreeMap<Identity, Height>,
    /// Whom the log named last as the one that is asked.
    responder: Option<Identity>,
    /// Accepted, not committed, with who sent them.
    fetched: VecDeque<(Identity, CertifiedBlock)>,
    committing: bool,
    serving: Serving,
    fork: Option<Fork>,
}

/// Who votes in the height after the head, and in the one after that.
pub fn voters(registry: &Registry, head: Height) -> (Arc<Voters>, Arc<Voters>) {
    let next = head.next();
    (registry.voters_at(next).clone(), registry.voters_at(next.next()).clone())
}

impl Sync {
    /// `fork` is what an earlier run of this node saw: the node then only serves.
    pub fn new(settings: Settings, links: Links, data_dir: PathBuf, fork: Option<Fork>, metrics: Arc<Metrics>) -> Self {
        metrics.forks.set(i64::from(fork.is_some()));
        Self {
            me: settings.me.clone(),
            voters: Arc::new(settings.voters.clone()),
            coming: Arc::new(settings.coming.clone()),
            head: settings.head.height,
            serving: Serving::new(settings.me.clone(), links.reader.clone(), links.sign_draft.clone()),
            rules: Synchroniser::new(settings),
            links,
            data_dir,
            metrics,
            started: Instant::now(),
            asked: BTreeSet::new(),
            showing: None,
            shown: BTreeMap::new(),
            below: BTreeMap::new(),
            responder: None,
            fetched: VecDeque::new(),
            committing: false,
            fork,
        }
    }

    fn step(&mut self, input: Input, ctx: &mut Context<Self>) {
        self.look_at_head(ctx);
        self.feed(input, ctx);
    }

    /// Tells the rules of what was committed meanwhile, by whatever way.
    fn look_at_head(&mut self, ctx: &mut Context<Self>) {
        let head = self.links.reader.head();
        if head.height > self.head {
            self.head = head.height;
            let registry = self.links.reader.registry();
            let (next, coming) = voters(&registry, head.height);
            if *next != *self.voters || *coming != *self.coming {
                (self.voters, self.coming) = (next.clone(), coming.clone());
                self.feed(Input::Voters { next: Voters::clone(&next), coming: Voters::clone(&coming) }, ctx);
            }
            self.feed(Input::Committed(Place { height: head.height, block: head.hash }), ctx);
            self.shown.retain(|_, shown| shown.header.height > head.height);
        }
    }

    fn feed(&mut self, input: Input, ctx: &mut Context<Self>) {
        let outputs = self.rules.step(self.started.elapsed(), input, &self.links.reader);
        outputs.into_iter().for_each(|output| self.carry_out(output, ctx));
    }

    /// All but `Accept` and `Unasked`, which are answers to who put in an answer.
    fn carry_out(&mut self, output: Output, ctx: &mut Context<Self>) {
        match output {
            Output::SayAlive => {
                let head = self.links.reader.head();
                let (network, height) = (self.links.reader.network(), head.height);
                let alive = Alive { network, height, head: head.hash, binding: None };
                self.tell(To::All, SyncContent::Alive(alive));
            }
            Output::Synchronise { peer, at } => {
                self.asked.insert(peer.clone());
                self.tell(To::One(peer), SyncContent::Synchronise { at });
            }
            Output::GetBlocks { peer, from, bytes } => {
                debug!("asking {peer} for blocks from height {from} on");
                if self.responder.as_ref() != Some(&peer) {
                    info!("height {}: {peer} is asked for blocks", self.head);
                    self.responder = Some(peer.clone());
                }
                self.tell(To::One(peer), SyncContent::GetBlocks { from, bytes: bytes as u64 });
            }
            Output::Accept => {}
            Output::Unasked => count(&self.metrics.messages_refused, "unasked-blocks"),
            Output::DropAccepted => self.fetched.clear(),
            Output::Blame { peer, fault } => {
                warn!("catching up: {peer}: {}", fault.kind());
                count(&self.metrics.messages_refused, fault.kind());
            }
            Output::VoteFrom(height) => {
                warn!("the record of this node's votes was lost: it signs nothing below height {height}");
                self.hand_over(self.links.vote_from.clone(), VoteFrom(height), ctx);
            }
            Output::TakePart(from) if self.fork.is_none() => {
                info!("this node takes part, from height {} on", from.max(self.head.next()));
                self.hand_over(self.links.take_part.clone(), TakePart(from), ctx);
            }
            Output::TakePart(_) => {}
            Output::SayAgain { healed } => self.hand_over(self.links.say_again.clone(), SayAgain { healed }, ctx),
            Output::Fork { peer, place } => self.on_fork(peer, place, ctx),
        }
    }

    /// Waits for a place in a mailbox. Who is gone has ended with the node.
    fn hand_over<M>(&self, to: Recipient<M>, message: M, ctx: &mut Context<Self>)
    where
        M: Message<Result = ()> + Send + 'static,
    {
        ctx.spawn(to.send(message).into_actor(self).map(|_ended_at_shutdown, _, _| ()));
    }

    fn tell(&self, recipient: To, content: SyncContent) {
        let stamp = Stamp { recipient, class: Class::Sync, content: Content::Sync(content) };
        if self.links.signer.try_send(stamp).is_err() {
            count(&self.metrics.frames_dropped, "signer-full");
        }
    }

    /// Keeps both blocks, and stops voting before anything else.
    fn on_fork(&mut self, peer: Identity, place: Place, ctx: &mut Context<Self>) {
        self.hand_over(self.links.halt.clone(), Halt, ctx);
        self.metrics.forks.set(1);
        if self.fork.is_some() {
            return;
        }
        let shown = self.showing.iter().chain(self.shown.get(&peer));
        let theirs = shown.into_iter().find(|shown| shown.hash == place.block).cloned();
        let ours = self.links.reader.certified_header(place.height).unwrap_or_else(|error| fatal::stop(error));
        let (Some(theirs), Some(ours)) = (theirs, ours) else {
            // It has shown another place since: it is asked for this one again, as the proof to keep.
            error!("{peer} has another block at height {}: this node does not vote any more", place.height);
            self.asked.insert(peer.clone());
            return self.tell(To::One(peer), SyncContent::Synchronise { at: Some(place.height) });
        };
        let fork = Fork { ours, theirs, shown_by: peer, seen: clock::now() };
        error!(
            "FORK at height {}: blocks {} (here) and {} (shown by {}) are both certified; these signed both: {}. This \
             node does not vote any more. Both are in {}; show them to all members",
            place.height,
            fork.ours.hash,
            fork.theirs.hash,
            fork.shown_by,
            fork.liars().iter().map(Identity::to_string).collect::<Vec<_>>().join(", "),
            self.data_dir.join(fork::FORK_FILE).display(),
        );
        fork::store(&self.data_dir, &fork)
            .unwrap_or_else(|error| fatal::stop(format_args!("the proof of a fork cannot be kept: {error}")));
        self.fork = Some(fork);
    }

    fn on_standing(&mut self, peer: Identity, shown: Option<CertifiedHeader>, ctx: &mut Context<Self>) {
        if !self.asked.remove(&peer) {
            return count(&self.metrics.messages_refused, "unasked-standing");
        }
        let network = self.links.reader.network();
        let place = match &shown {
            None => Place { height: Height::GENESIS, block: network },
            Some(shown) => Place { height: shown.header.height, block: shown.hash },
        };
        self.look_at_head(ctx);
        // What is of this node's chain was checked before it was committed.
        if let Some(shown) = shown.filter(|_| place.height > self.head || !self.links.reader.holds(&place)) {
            // Of a height too far ahead to tell who votes there, those known last are the best guess: mostly they
            // still do.
            let members = self.links.reader.members();
            let known = members.voters_at(place.height);
            let is_known = known.is_some();
            let voters = known.unwrap_or_else(|| members.registry().voters_at(place.height).clone());
            if let Err(reason) = shown.verify("standing", &network, &voters) {
                if !is_known {
                    return self.ask_below(peer, place);
                }
                warn!("{peer} stands nowhere: {reason}");
                return count(&self.metrics.messages_refused, "bad-standing");
            }
            if place.height <= self.head && *voters != *self.voters {
                // Who has their keys could sign anything for the heights in which they voted.
                error!(
                    "{peer} shows another block {} of height {}, signed by a quorum that does not vote any more",
                    place.block, place.height
                );
                return count(&self.metrics.messages_refused, "former-voters");
            }
            self.showing = Some(shown);
        }
        // Who said that it stands higher than it can show stands there, whatever it shows now.
        let whole = self.below.remove(&peer).is_none_or(|said| said <= place.height);
        self.feed(Input::Standing { peer: peer.clone(), place, whole }, ctx);
        let ahead = self.showing.take().filter(|shown| shown.header.height > self.head);
        if let Some(shown) = ahead
            && self.shown.get(&peer).is_none_or(|before| before.header.height <= shown.header.height)
        {
            self.shown.insert(peer, shown);
        }
    }

    /// It shows a height so far ahead that this node cannot tell who votes there: it is asked for the highest
    /// block that this node can judge. With its blocks this node gets to know more.
    fn ask_below(&mut self, peer: Identity, place: Place) {
        let at = Height::new(self.head.get().saturating_add(IN_FORCE_AFTER));
        self.below.insert(peer.clone(), place.height);
        self.asked.insert(peer.clone());
        self.tell(To::One(peer), SyncContent::Synchronise { at: Some(at) });
    }

    fn on_blocks(&mut self, peer: Identity, from: Height, mut blocks: Vec<CertifiedBlock>, ctx: &mut Context<Self>) {
        let in_order =
            |(at, block): &(u64, &CertifiedBlock)| from.get().checked_add(*at) == Some(block.block.header.height.get());
        let count = (0..).zip(&blocks).take_while(in_order).count();
        blocks.truncate(count);
        self.look_at_head(ctx);
        let bytes = blocks.iter().map(CertifiedBlock::about_bytes).sum();
        let input = Input::Answer { peer: peer.clone(), from, count: count as u64, bytes };
        let outputs = self.rules.step(self.started.elapsed(), input, &self.links.reader);
        if outputs.contains(&Output::Accept) {
            self.fetched.extend(blocks.into_iter().map(|block| (peer.clone(), block)));
        }
        outputs.into_iter().for_each(|output| self.carry_out(output, ctx));
        self.commit_next(ctx);
    }

    /// Commits what was accepted, one block at a time.
    fn commit_next(&mut self, ctx: &mut Context<Self>) {
        if self.committing {
            return;
        }
        let Some((peer, block)) = self.fetched.pop_front() else { return };
        self.committing = true;
        let committed = self.links.fetched.send(Fetched(block)).into_actor(self).map(move |answer, actor, ctx| {
            actor.committing = false;
            match answer {
                Ok(Ok(())) => {
                    actor.metrics.blocks_fetched.inc();
                    actor.look_at_head(ctx);
                    if actor.fetched.is_empty() {
                        info!("height {}: reached with blocks of other nodes", actor.head);
                    }
                }
                Ok(Err(refused)) => {
                    warn!("a block that {peer} sent does not hold: {}", refused.reason);
                    actor.step(Input::Refused { peer, forked: refused.forked }, ctx);
                }
                Err(_) => return,
            }
            actor.commit_next(ctx);
        });
        ctx.spawn(committed);
    }

    fn voting(&self) -> Voting {
        let voting = |state, from, reason: Option<String>| Voting { state, from, reason };
        let Some(voter) = self.voters.get(&self.me) else {
            return voting(VotingState::Following, None, Some("this node is no orderer".into()));
        };
        if !self.links.keys.borrow().contains(&voter.key) {
            let reason = format!(
                "the ledger has another signing key for this node, {}: put it beside the one in use, as node.key.next",
                voter.key
            );
            return voting(VotingState::Following, None, Some(reason));
        }
        if self.fork.is_some() {
            let reason = "two blocks are certified at one height: see `fork`, and show it to all members";
            return voting(VotingState::Halted, None, Some(reason.into()));
        }
        match self.rules.participation() {
            Participation::Halted => voting(VotingState::Halted, None, Some("a fork was seen".into())),
            Participation::TakesPart { from } if from <= self.head.next() => {
                voting(VotingState::Voting, Some(from), None)
            }
            Participation::TakesPart { from } => {
                let reason = format!(
                    "the record of its votes was lost: it may have voted below height {from}. If the others do not get \
                     there without it, and it is certain where it cannot have voted, start it with --vote-from HEIGHT"
                );
                voting(VotingState::Abstaining, Some(from), Some(reason))
            }
            Participation::Waits { from, matching, needed } => {
                let reason = format!(
                    "{matching} other voters have shown a block that this node has, {needed} are needed (the genesis' \
                     `synchronise`)"
                );
                voting(VotingState::Waiting, Some(from), Some(reason))
            }
            Participation::Abstains { shown, needed, others } if others >= needed => {
                let reason = format!(
                    "the record of its votes was lost: {shown} other voters have shown where they stand, {needed} are \
                     needed to know where it may have voted"
                );
                voting(VotingState::Abstaining, None, Some(reason))
            }
            Participation::Abstains { .. } => {
                let reason = "the record of its votes was lost, and the others cannot decide without it: if it is \
                              certain that it has never voted at some height or above, start it with --vote-from HEIGHT";
                voting(VotingState::Abstaining, None, Some(reason.into()))
            }
        }
    }
}

impl Actor for Sync {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if self.fork.is_some() {
            error!("this node has seen a fork: it serves its chain and does not vote; see {}", fork::FORK_FILE);
        }
        ctx.run_interval(TICK_EVERY, |actor, ctx| actor.step(Input::Tick, ctx));
        self.step(Input::Tick, ctx);
    }
}

impl Handler<PeerChanged> for Sync {
    type Result = ();

    fn handle(&mut self, PeerChanged { peer, connected }: PeerChanged, ctx: &mut Self::Context) {
        self.asked.remove(&peer);
        self.step(if connected { Input::Connected(peer) } else { Input::Gone(peer) }, ctx);
    }
}

impl Handler<FromPeer<SyncContent>> for Sync {
    type Result = ResponseActFuture<Self, ()>;

    /// Answered, so that the peer's next message is read, before anything it asks for is.
    fn handle(&mut self, FromPeer { peer, content }: FromPeer<SyncContent>, ctx: &mut Self::Context) -> Self::Result {
        match content {
            SyncContent::Alive(alive) => {
                let place = Place { height: alive.height, block: alive.head };
                self.step(Input::Claim { peer, place }, ctx);
            }
            SyncContent::Standing(shown) => self.on_standing(peer, shown, ctx),
            SyncContent::Blocks { from, blocks } => self.on_blocks(peer, from, blocks, ctx),
            SyncContent::Synchronise { at } => serving::answer(self, peer, Question::Standing { at }, ctx),
            SyncContent::GetBlocks { from, bytes } => {
                serving::answer(self, peer, Question::Blocks { from, bytes }, ctx);
            }
        }
        Box::pin(fut::ready(()))
    }
}

impl Handler<Behind> for Sync {
    type Result = ();

    fn handle(&mut self, Behind { peer, height }: Behind, ctx: &mut Self::Context) {
        self.look_at_head(ctx);
        if height > self.head {
            // It said so by its votes; which block it has there, it did not say.
            self.feed(Input::Claim { peer, place: Place { height, block: Hash::ZERO } }, ctx);
        }
    }
}

impl Handler<GetSyncStatus> for Sync {
    type Result = MessageResult<GetSyncStatus>;

    fn handle(&mut self, _: GetSyncStatus, ctx: &mut Self::Context) -> Self::Result {
        self.look_at_head(ctx);
        MessageResult(SyncStatus { voting: self.voting(), fork: self.fork.clone() })
    }
}

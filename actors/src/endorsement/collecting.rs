//! The gateway's half: what needs endorsements is checked, proposed to the peers that the rules name
//! (`minidlt_protocol::endorsement`), and handed to the Mempool when all are there.
//!
//! A transaction is collected for once, however often it is submitted meanwhile: who submits it again waits for the
//! same. Who waits is answered by its own deadline; with the last of them the collection ends. A caller that hangs up
//! changes nothing: what it submitted goes its way.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem,
};

use actix::{ActorFutureExt, AsyncContext, Context, Handler, ResponseActFuture, WrapFuture};
use futures_util::future::join_all;
use minidlt_protocol::{
    block::SharedTransaction,
    endorsement::{Answer, Collection, Next, Verdict},
    registry::Registry,
    transaction::{Refusal, TransactionBytes},
    types::{Hash, Identity},
};
use tokio::{sync::oneshot, time::Instant};

use super::{Endorsement, there};
use crate::{
    checking::{Checked, Whose},
    messages::{
        endorsement::{Collect, NotTaken},
        mempool::Submit,
    },
    metrics::count,
    shares::{Bound, Full, Place},
};

/// Most transactions being collected for, a quarter of one user; beyond it they are told to come back.
const MAX_COLLECTING: usize = 16_384;
/// Most KiB of them.
const MAX_COLLECTING_KIB: usize = 64 << 10;
/// Answers that are remembered as asked for, though they are not needed any more.
const MAX_TAKEN_BACK: usize = 16_384;

/// Of one transaction.
type Outcome = Result<Hash, NotTaken>;

struct Waiter {
    until: Instant,
    answer: oneshot::Sender<Outcome>,
}

struct UnderWay {
    transaction: SharedTransaction,
    collection: Collection,
    /// Whose line it waits in.
    caller: Identity,
    waiters: Vec<Waiter>,
    /// It has all that it needs, and the Mempool is asked to take it.
    handed_on: bool,
}

/// What is being collected for.
pub struct Collecting {
    by_id: BTreeMap<Hash, UnderWay>,
    count: Bound<Identity>,
    kibibytes: Bound<Identity>,
    /// Complete, and not yet handed on; by who submitted them.
    complete: BTreeMap<Identity, Vec<(Hash, TransactionBytes)>>,
    /// For this node itself to endorse.
    own: Vec<SharedTransaction>,
}

impl Default for Collecting {
    fn default() -> Self {
        Self {
            by_id: BTreeMap::new(),
            count: Bound::new(MAX_COLLECTING),
            kibibytes: Bound::new(MAX_COLLECTING_KIB),
            complete: BTreeMap::new(),
            own: Vec::new(),
        }
    }
}

/// Room for one transaction, given back when it is answered.
type Room = [Place<Identity>; 2];

impl Collecting {
    fn room_for(&self, caller: &Identity, transaction: &TransactionBytes) -> Result<Room, Refusal> {
        let full = |full| match full {
            Full::Whole => Refusal::CollectingFull,
            Full::Share => Refusal::CollectingShareFull(caller.clone()),
        };
        let kibibytes = transaction.as_slice().len().div_ceil(1024);
        Ok([self.count.take(caller, 1).map_err(full)?, self.kibibytes.take(caller, kibibytes).map_err(full)?])
    }

    /// Whether this node's endorsement of it would still be taken.
    pub fn expects(&self, id: &Hash, peer: &Identity) -> bool {
        self.by_id.get(id).is_some_and(|one| !one.handed_on && one.collection.expects(peer))
    }
}

/// Questions whose answers are not needed any more: whoever answers them was asked.
#[derive(Default)]
pub struct TakenBack {
    known: BTreeSet<(Identity, Hash)>,
    order: VecDeque<(Identity, Hash)>,
}

impl TakenBack {
    fn add(&mut self, peer: Identity, id: Hash) {
        if self.known.insert((peer.clone(), id)) {
            self.order.push_back((peer, id));
        }
        if self.order.len() > MAX_TAKEN_BACK
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// Whether it was asked, which it is no more after this.
    fn take(&mut self, peer: &Identity, id: &Hash) -> bool {
        self.known.remove(&(peer.clone(), *id))
    }
}

impl Handler<Collect> for Endorsement {
    type Result = ResponseActFuture<Self, Vec<Outcome>>;

    fn handle(&mut self, Collect { caller, transactions, within }: Collect, _: &mut Self::Context) -> Self::Result {
        let until = Instant::now() + within.min(self.limits.collect);
        let (mut rooms, mut fit) = (Vec::new(), Vec::new());
        let full: Vec<Option<Refusal>> = transactions
            .into_iter()
            .map(|transaction| match self.collecting.room_for(&caller, &transaction) {
                Ok(room) => {
                    rooms.push(room);
                    fit.push(transaction);
                    None
                }
                Err(refusal) => Some(refusal),
            })
            .collect();
        let (whose, total) = (Whose::User(caller.clone()), fit.len());
        let checked = self.checking.check(&whose, &fit, Some(&self.me)).into_actor(self);
        let collected = checked.then(move |checked, actor, ctx| {
            actor.checking.ended(&whose, total);
            join_all(actor.begin(&caller, checked, until, ctx)).into_actor(actor)
        });
        Box::pin(collected.map(move |outcomes, _, _| {
            drop(rooms);
            let mut outcomes = outcomes.into_iter();
            let answers = full.into_iter().filter_map(|full| match full {
                Some(refusal) => Some(Err(refusal.into())),
                None => outcomes.next(),
            });
            answers.collect()
        }))
    }
}

impl Endorsement {
    /// Begins to collect for those that hold, or joins what is under way. The answers come in the order given.
    fn begin(
        &mut self,
        caller: &Identity,
        checked: Checked,
        until: Instant,
        ctx: &mut Context<Self>,
    ) -> Vec<impl Future<Output = Outcome> + use<>> {
        let (mut answers, mut begun, mut waited) = (Vec::new(), Vec::new(), Vec::new());
        for checked in checked {
            let (answer, answered) = oneshot::channel();
            match checked {
                Ok(transaction) => {
                    waited.push(transaction.id);
                    let under_way = self.collecting.by_id.entry(transaction.id).or_insert_with(|| {
                        begun.push(transaction.id);
                        let (caller, collection) = (caller.clone(), Collection::new(&transaction));
                        UnderWay { transaction, collection, caller, waiters: vec![], handed_on: false }
                    });
                    under_way.waiters.push(Waiter { until, answer });
                }
                Err(refusal) => {
                    // It is received below.
                    let _ = answer.send(Err(refusal.into()));
                }
            }
            answers.push(answered);
        }
        let registry = self.links.members.registry();
        begun.iter().for_each(|id| self.proceed(id, &registry));
        self.after(ctx);
        if !waited.is_empty() {
            ctx.run_later(until.saturating_duration_since(Instant::now()), move |actor, ctx| {
                actor.time_is_over(&waited, ctx);
            });
        }
        let told = answers.into_iter().map(|answered| async { answered.await.unwrap_or_else(|_| Err(untold())) });
        told.collect()
    }

    /// Does what is next about a transaction. [`Self::after`] follows.
    fn proceed(&mut self, id: &Hash, registry: &Registry) {
        let Some(under_way) = self.collecting.by_id.get_mut(id).filter(|one| !one.handed_on) else { return };
        let (me, connected) = (&self.me, &self.connected);
        let can_be_asked = |peer: &Identity| peer == me || connected.contains(peer);
        match under_way.collection.next(registry, me, can_be_asked) {
            Next::Ask(peers) => {
                let (caller, transaction) = (under_way.caller.clone(), under_way.transaction.clone());
                for peer in peers {
                    match self.outbox(&peer) {
                        Some(outbox) => outbox.propose(&caller, *id, transaction.bytes.clone()),
                        None => self.collecting.own.push(transaction.clone()),
                    }
                }
            }
            Next::Complete(bytes) => {
                under_way.handed_on = true;
                let of_caller = self.collecting.complete.entry(under_way.caller.clone()).or_default();
                of_caller.push((*id, bytes));
            }
            Next::Hopeless(refusal) => {
                let said = under_way.collection.said(registry, can_be_asked, false);
                self.end(id, Err(NotTaken { refusal, said }));
            }
        }
    }

    /// Sends what has gathered: to peers, to this node's own half, to the Mempool.
    fn after(&mut self, ctx: &mut Context<Self>) {
        self.flush_all(ctx);
        let own = mem::take(&mut self.collecting.own);
        if !own.is_empty() {
            let endorsed = self.endorse(own);
            ctx.spawn(endorsed.map(|answers, actor: &mut Self, ctx: &mut Context<Self>| {
                let me = actor.me.clone();
                actor.answered(&me, answers, ctx);
            }));
        }
        for (caller, complete) in mem::take(&mut self.collecting.complete) {
            let (ids, transactions): (Vec<Hash>, Vec<TransactionBytes>) = complete.into_iter().unzip();
            let taken = self.links.mempool.send(Submit { caller, transactions }).into_actor(self);
            ctx.spawn(taken.map(move |outcomes, actor: &mut Self, _: &mut Context<Self>| {
                for (id, outcome) in ids.iter().zip(there(outcomes, "mempool")) {
                    actor.end(id, outcome.map_err(NotTaken::from));
                }
                actor.show();
            }));
        }
        self.show();
    }

    fn show(&self) {
        self.metrics.endorsements_collecting.set(self.collecting.by_id.len() as i64);
    }

    /// All that wait for a transaction hear of its end.
    fn end(&mut self, id: &Hash, outcome: Outcome) {
        let Some(under_way) = self.collecting.by_id.remove(id) else { return };
        for peer in under_way.collection.expected().filter(|peer| **peer != self.me) {
            self.taken_back.add(peer.clone(), *id);
        }
        for waiter in under_way.waiters {
            // Whoever waited may have been told before.
            let _told = waiter.answer.send(outcome.clone());
        }
    }

    /// Answers of a peer, or of this node's own half.
    pub(super) fn answered(&mut self, peer: &Identity, answers: Vec<Answer>, ctx: &mut Context<Self>) {
        let registry = self.links.members.registry();
        for Answer { id, verdict } in answers {
            if !self.collecting.expects(&id, peer) {
                // What this node was signing when another's answer ended it.
                if *peer == self.me {
                    continue;
                }
                let asked = self.taken_back.take(peer, &id) || self.is_handed_on(&id, peer);
                if !asked {
                    self.pass_over(peer, "unasked-endorsement", "answers about what it was not asked to endorse");
                }
                continue;
            }
            let Some(under_way) = self.collecting.by_id.get_mut(&id) else { continue };
            let endorsed = matches!(verdict, Verdict::Endorsed(_)) && *peer != self.me;
            match under_way.collection.answered(peer, verdict, &registry) {
                true if endorsed => drop(self.metrics.endorsements_collected.inc()),
                true => {}
                false => self.pass_over(peer, "bad-endorsement", "endorses with a signature that does not hold"),
            }
            self.proceed(&id, &registry);
        }
        self.after(ctx);
    }

    /// Whether this node was asked about one that needs no more answers.
    fn is_handed_on(&self, id: &Hash, peer: &Identity) -> bool {
        self.collecting.by_id.get(id).is_some_and(|one| one.handed_on && one.collection.expects(peer))
    }

    fn pass_over(&mut self, peer: &Identity, reason: &str, what: &str) {
        count(&self.metrics.messages_refused, reason);
        if let Some(more) = self.refusals.allow() {
            log::warn!("{peer} {what}{more}");
        }
    }

    /// What this node had been asked is due: others of its organisation are asked about what it has not answered.
    pub(super) fn answers_are_due(&mut self, peer: &Identity, asked: &[Hash], ctx: &mut Context<Self>) {
        self.give_up(peer, asked, Collection::silent, ctx);
    }

    pub(super) fn lost(&mut self, peer: &Identity, ctx: &mut Context<Self>) {
        let asked: Vec<Hash> = self.collecting.by_id.keys().copied().collect();
        self.give_up(peer, &asked, Collection::lost, ctx);
    }

    fn give_up(&mut self, peer: &Identity, ids: &[Hash], how: fn(&mut Collection, &Identity), ctx: &mut Context<Self>) {
        let registry = self.links.members.registry();
        for id in ids.iter().filter(|id| self.collecting.expects(id, peer)).collect::<Vec<_>>() {
            if let Some(under_way) = self.collecting.by_id.get_mut(id) {
                how(&mut under_way.collection, peer);
                self.proceed(id, &registry);
            }
        }
        self.after(ctx);
    }

    /// Those whose deadline is here are told what is missing.
    fn time_is_over(&mut self, ids: &[Hash], ctx: &mut Context<Self>) {
        let (now, registry) = (Instant::now(), self.links.members.registry());
        for id in ids {
            let Some(under_way) = self.collecting.by_id.get_mut(id).filter(|one| !one.handed_on) else { continue };
            let Some(refusal) = under_way.collection.lacking(&registry) else {
                // Who is enrolled has changed: nothing is missing any more.
                self.proceed(id, &registry);
                continue;
            };
            let can_be_asked = |peer: &Identity| *peer == self.me || self.connected.contains(peer);
            let said = under_way.collection.said(&registry, can_be_asked, true);
            let outcome = Err(NotTaken { refusal, said });
            let due = under_way.waiters.extract_if(.., |waiter| waiter.until <= now);
            due.for_each(|waiter| drop(waiter.answer.send(outcome.clone())));
            if under_way.waiters.is_empty() {
                self.end(id, outcome);
            }
        }
        self.after(ctx);
    }
}

/// Not while this actor lives: all that it takes it answers.
fn untold() -> NotTaken {
    Refusal::CollectingFull.into()
}

//! The Listener: connections with all other enrolled nodes, accepted or dialled.
//!
//! It owns one [`Session`] a peer at most, hands outgoing frames to them, and tells Sync who comes
//! and goes. Runs on the network arbiter, as do the sessions.
//!
//! ```text
//!             Begin                    handshake done              newer one, or the end
//! not begun ─────────→ disconnected ──────────────────→ connected ───────────────────────→ …
//!                        ↑   dials again after a wait,    │ its session ended
//!                        └── if the smaller identity ─────┘
//! ```

mod accept;
mod addresses;
mod backoff;
mod limits;
mod other;
mod refusals;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, MessageResult, WrapFuture};
use futures_util::future::try_join_all;
use minidlt_protocol::{
    message::Recipient,
    registry::{Node, Standing},
    types::{Hash, Identity},
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::sleep};

use crate::{
    fatal,
    log_limit::OneLine,
    members::Members,
    messages::network::{Begin, CloseAll, GetPeers, Outgoing, PeerChanged, Routes},
    metrics::{Metrics, certificate_gauge, count},
    session::{
        Session, SessionEnded, Surroundings,
        ended::Ended,
        handshake::{Established, Handshaker},
    },
    tls::Live,
};
use accept::{Accepted, Places};
use addresses::Known;
pub use backoff::Backoff;
pub use limits::Limits;
use other::Other;
use refusals::Refusals;

/// Messages that may wait for the Listener: the Signer waits beyond.
const MAILBOX_MESSAGES: usize = 1_024;

/// What the Listener is made of.
pub struct Settings {
    pub me: Identity,
    /// The genesis' hash.
    pub network: Hash,
    pub members: Members,
    pub tls: Arc<Live>,
    pub metrics: Arc<Metrics>,
    pub limits: Limits,
}

enum Phase {
    /// Not all is wired yet.
    Waiting(std::net::TcpListener),
    Running {
        handshaker: Arc<Handshaker>,
        learnt: Arc<watch::Sender<Known>>,
        accepting: JoinHandle<()>,
        looking_up: JoinHandle<()>,
        /// Those that are looked up.
        names: Vec<(Identity, String)>,
    },
    Closed,
}

pub struct Listener {
    settings: Settings,
    phase: Phase,
    others: BTreeMap<Identity, Other>,
    sessions_started: u64,
    /// Changes not yet told, a peer at most once: the last word counts.
    untold: VecDeque<PeerChanged>,
    telling: bool,
    /// Somebody is heard only for as long as it votes.
    outgoing: bool,
    refusals: Refusals,
}

impl Listener {
    /// `socket` is bound already, so that a port that is taken is known before anything starts. It
    /// is listened on from [`Begin`] on.
    pub fn new(settings: Settings, socket: std::net::TcpListener) -> Self {
        Self {
            others: BTreeMap::new(),
            refusals: Refusals::new(settings.metrics.clone()),
            settings,
            phase: Phase::Waiting(socket),
            sessions_started: 0,
            untold: VecDeque::new(),
            telling: false,
            outgoing: false,
        }
    }

    fn handshaker(&self) -> Option<&Arc<Handshaker>> {
        match &self.phase {
            Phase::Running { handshaker, .. } => Some(handshaker),
            Phase::Waiting(_) | Phase::Closed => None,
        }
    }

    fn begin(&mut self, routes: Routes, ctx: &mut Context<Self>) {
        let socket = match std::mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Waiting(socket) => socket,
            other => {
                self.phase = other;
                return;
            }
        };
        let listening = socket.set_nonblocking(true).and_then(|()| TcpListener::from_std(socket));
        let listening = listening.unwrap_or_else(|error| {
            fatal::stop(format_args!("the peers' port cannot be listened on: {error}"));
        });
        let Settings { me, network, members, tls, limits, metrics } = &self.settings;
        let handshaker = Arc::new(Handshaker {
            me: me.clone(),
            network: *network,
            members: members.clone(),
            tls: tls.clone(),
            routes,
            limit: limits.handshake,
            idle: limits.idle,
            beside: limits.beside,
            stall: limits.stall,
        });
        let learnt = Arc::new(watch::Sender::new(Known::default()));
        let registry = members.registry();
        let places =
            Places::new(limits.handshakes(registry.nodes.len()), limits.half_open_enrolled, learnt.subscribe());
        let (refusals, to) = (Refusals::new(metrics.clone()), ctx.address().recipient());
        let accept = accept::accept(listening, handshaker.clone(), places, refusals, to);
        let accepting = actix_rt::spawn(accept);
        let looking_up = actix_rt::spawn(addresses::look_up(vec![], learnt.clone()));
        self.phase = Phase::Running { handshaker, learnt, accepting, looking_up, names: vec![] };
        self.follow(ctx);
        self.await_changes(ctx);
    }

    /// Follows every further change of who is enrolled, and of who votes while somebody is heard for that alone.
    fn await_changes(&mut self, ctx: &mut Context<Self>) {
        let (mut members, outgoing) = (self.settings.members.clone(), self.outgoing);
        let changed = async move { members.changed(outgoing).await.map(|()| members) };
        let followed = changed.into_actor(self).map(|changed, listener, ctx| {
            // None at the node's end.
            let Some(members) = changed else { return };
            listener.settings.members = members;
            listener.follow(ctx);
            listener.await_changes(ctx);
        });
        ctx.spawn(followed);
    }

    /// Believes the CAs, and keeps up connections with just the nodes, that count now. A node that does not
    /// count itself keeps none.
    fn follow(&mut self, ctx: &mut Context<Self>) {
        let Phase::Running { learnt, looking_up, names, .. } = &mut self.phase else { return };
        let Settings { me, members, tls, .. } = &self.settings;
        let (registry, height) = (members.registry(), members.head().height.next());
        let heard = |node: &Identity| registry.heard_node(node, height).is_some();
        // One that is not enrolled yet, or suspended, as far as its own chain goes, may not be so on the others'.
        let counts = heard(me) || registry.nodes.get(me).is_none_or(|node| node.standing != Standing::Revoked);
        if !counts {
            log::error!("{me} is not a node in good standing any more: it has no connections, and follows nothing");
        }
        let nodes: BTreeMap<&Identity, &Node> =
            registry.nodes.iter().filter(|(peer, _)| counts && *peer != me && heard(peer)).collect();
        let organisations = registry
            .organisations
            .values()
            .filter(|one| one.standing.is_active() || nodes.values().any(|node| node.organisation == one.name));
        if let Err(error) = tls.set_authority(organisations) {
            log::error!("the organisations' CAs are not all believed yet: {error}");
        }
        self.outgoing =
            heard(me) && registry.active_node(me).is_none() || nodes.values().any(|node| !node.standing.is_active());
        let now = addresses::follow(learnt, nodes.iter().map(|(peer, node)| (*peer, node.address.as_str())));
        // Looking up goes on where the names are the same: begun anew with each change, it might never end.
        if now != *names {
            looking_up.abort();
            *looking_up = actix_rt::spawn(addresses::look_up(now.clone(), learnt.clone()));
            *names = now;
        }
        let gone: Vec<Identity> = self.others.keys().filter(|peer| !nodes.contains_key(peer)).cloned().collect();
        gone.iter().for_each(|peer| self.forget(peer, ctx));
        for (peer, node) in nodes {
            match self.others.get_mut(peer) {
                Some(other) => other.node = node.clone(),
                None => {
                    self.others.insert(peer.clone(), Other::new(node.clone()));
                    self.dial(peer, Duration::ZERO, ctx);
                }
            }
        }
    }

    /// Ends the connection with a node that is not in good standing any more.
    fn forget(&mut self, peer: &Identity, ctx: &mut Context<Self>) {
        let session = self.others.remove(peer).and_then(|mut other| other.take());
        if let Some(session) = session {
            log::info!("the connection with {peer} is closed: it is not a node in good standing any more");
            session.close(Ended::NotEnrolled);
            self.settings.metrics.peers_connected.dec();
            self.measure();
            self.tell(PeerChanged { peer: peer.clone(), connected: false }, ctx);
        }
    }

    /// Dials a peer after `wait`, if it is this node's part to dial.
    fn dial(&self, peer: &Identity, wait: Duration, ctx: &mut Context<Self>) {
        let Phase::Running { handshaker, learnt, .. } = &self.phase else { return };
        if self.settings.me > *peer || !self.others.contains_key(peer) {
            return;
        }
        let (known, peer) = (learnt.subscribe(), peer.clone());
        let (handshaker, listener) = (handshaker.clone(), ctx.address());
        actix_rt::spawn(async move {
            sleep(wait).await;
            let result = match addresses::of(&peer, known).await {
                Ok(addresses) => handshaker.dial(&peer, &addresses).await,
                Err(error) => Err(Ended::Unreachable(error)),
            };
            if listener.send(Dialled { peer, result }).await.is_err() {
                log::debug!("a dialled connection came after the listener's end");
            }
        });
    }

    fn dial_again(&mut self, peer: &Identity, ctx: &mut Context<Self>) {
        let Some(other) = self.others.get_mut(peer) else { return };
        let wait = other.next_wait(self.settings.limits.backoff);
        self.dial(peer, wait, ctx);
    }

    fn established(&mut self, established: Established, ctx: &mut Context<Self>) {
        let (peer, address) = (established.peer.clone(), established.address);
        let Some(routes) = self.handshaker().map(|handshaker| handshaker.routes.clone()) else {
            return self.refusals.tell(address, &Ended::ShuttingDown);
        };
        let Some(other) = self.others.get_mut(&peer) else {
            // It lost its standing while it shook hands.
            return self.refusals.tell(address, &Ended::NotEnrolled);
        };
        if other.session().is_some_and(|standing| standing.is_newer_than(established.began)) {
            return self.refusals.tell(address, &Ended::Replaced);
        }
        let Settings { limits, metrics, .. } = &self.settings;
        let surroundings = Surroundings {
            routes,
            metrics: metrics.clone(),
            ended: ctx.address().recipient(),
            bounds: limits.queues,
            most_refused: limits.most_refused,
        };
        self.sessions_started += 1;
        let session = Session::start(self.sessions_started, established, surroundings);
        // The older one may be half dead without anyone knowing; this one has just proved itself.
        match other.connected(session) {
            Some(older) => older.close(Ended::Replaced),
            None => {
                metrics.peers_connected.inc();
            }
        }
        if let Some(more) = other.may_log(true) {
            log::info!("connected with {peer} at {address}{more}");
        }
        self.measure();
        self.tell(PeerChanged { peer, connected: true }, ctx);
    }

    /// Which of the connected peers' certificates runs out first.
    fn measure(&self) {
        let sessions = self.others.values().filter_map(Other::session);
        let first = sessions.filter_map(|session| session.certificate).min();
        certificate_gauge(&self.settings.metrics, "peer", first);
    }

    fn tell(&mut self, change: PeerChanged, ctx: &mut Context<Self>) {
        self.untold.retain(|untold| untold.peer != change.peer);
        self.untold.push_back(change);
        self.tell_next(ctx);
    }

    /// One at a time, so that they arrive in order.
    fn tell_next(&mut self, ctx: &mut Context<Self>) {
        let Some(changed) = self.handshaker().map(|handshaker| handshaker.routes.changed.clone()) else { return };
        if self.telling {
            return;
        }
        let Some(change) = self.untold.pop_front() else { return };
        self.telling = true;
        let told = try_join_all(changed.iter().map(|whom| whom.send(change.clone())));
        let telling = told.into_actor(self).map(|told, listener, ctx| {
            listener.telling = false;
            match told {
                Ok(_) => listener.tell_next(ctx),
                Err(_) => log::debug!("a peer changed after the end of those it concerns"),
            }
        });
        ctx.spawn(telling);
    }
}

impl Actor for Listener {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX_MESSAGES);
    }
}

impl Handler<Begin> for Listener {
    type Result = ();

    fn handle(&mut self, Begin(routes): Begin, ctx: &mut Self::Context) {
        self.begin(routes, ctx);
    }
}

/// An attempt to dial is over.
#[derive(Message)]
#[rtype(result = "()")]
struct Dialled {
    peer: Identity,
    result: Result<Established, Ended>,
}

impl Handler<Dialled> for Listener {
    type Result = ();

    fn handle(&mut self, Dialled { peer, result }: Dialled, ctx: &mut Self::Context) {
        match result {
            Ok(established) => self.established(established, ctx),
            Err(why) => {
                self.refusals.tell(&peer, &why);
                if let Some(other) = self.others.get_mut(&peer) {
                    other.failed(&why);
                }
                // It has waited all the while; a pause would only be when the network is healed.
                match why.is_unanswered() {
                    true => self.dial(&peer, Duration::ZERO, ctx),
                    false => self.dial_again(&peer, ctx),
                }
            }
        }
    }
}

impl Handler<Accepted> for Listener {
    type Result = ();

    fn handle(&mut self, Accepted { result, place }: Accepted, ctx: &mut Self::Context) {
        match result {
            Ok(established) => self.established(established, ctx),
            Err((address, why)) => self.refusals.tell(address, &why),
        }
        drop(place);
    }
}

impl Handler<SessionEnded> for Listener {
    type Result = ();

    fn handle(&mut self, SessionEnded { peer, id, why }: SessionEnded, ctx: &mut Self::Context) {
        let Settings { limits, metrics, .. } = &self.settings;
        count(&metrics.sessions_ended, why.kind());
        let Some(other) = self.others.get_mut(&peer) else { return };
        if !other.ended(id, &why, limits.backoff.most) {
            return;
        }
        if let Some(more) = other.may_log(false) {
            log::warn!("the connection with {peer} ended: {}{more}", OneLine(why));
        }
        metrics.peers_connected.dec();
        self.measure();
        self.tell(PeerChanged { peer: peer.clone(), connected: false }, ctx);
        self.dial_again(&peer, ctx);
    }
}

impl Handler<Outgoing> for Listener {
    type Result = ();

    fn handle(&mut self, Outgoing { recipient, class, frame }: Outgoing, _: &mut Self::Context) {
        let dropped = &self.settings.metrics.frames_dropped;
        match recipient {
            Recipient::All => {
                let sessions = self.others.values().filter_map(Other::session);
                let full = sessions.filter(|session| !session.push(class, frame.clone()));
                full.for_each(|_| count(dropped, class.name()));
            }
            Recipient::One(peer) => match self.others.get(&peer).and_then(Other::session) {
                Some(session) if session.push(class, frame) => {}
                Some(_) => count(dropped, class.name()),
                None => count(dropped, "not-connected"),
            },
        }
    }
}

impl Handler<GetPeers> for Listener {
    type Result = MessageResult<GetPeers>;

    fn handle(&mut self, _: GetPeers, _: &mut Self::Context) -> Self::Result {
        let peers = self.others.iter().map(|(identity, other)| other.view(identity));
        MessageResult(peers.collect())
    }
}

impl Handler<CloseAll> for Listener {
    type Result = ();

    fn handle(&mut self, _: CloseAll, _: &mut Self::Context) {
        if let Phase::Running { accepting, looking_up, .. } = std::mem::replace(&mut self.phase, Phase::Closed) {
            accepting.abort();
            looking_up.abort();
        }
        for other in self.others.values_mut() {
            if let Some(session) = other.take() {
                session.close(Ended::ShuttingDown);
                self.settings.metrics.peers_connected.dec();
            }
        }
    }
}

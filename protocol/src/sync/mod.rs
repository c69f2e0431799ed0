//! Who is there, who is ahead, what is fetched of whom, and from when on this node may take part:
//! the rules of Alive, Synchronise and Blocks. No clock, no I/O; blocks and certificates do not pass
//! through here, only what the shell found out about them.
//!
//! ```text
//!  sessions ── Connected, Gone ──┐                          ┌─▶ SayAlive, Synchronise, GetBlocks
//!  messages ── Claim, Standing ──┤    fetching: whom to ask │
//!              Answer            ├──▶ standing: who matches ├─▶ Accept, DropAccepted, Blame
//!  commits  ── Committed,Refused ┤                          │
//!  clock    ── Tick ─────────────┘                          └─▶ VoteFrom, TakePart, SayAgain, Fork
//! ```
//!
//! # What nodes say
//!
//! | message | means |
//! |---|---|
//! | `Alive` | this node is there and claims to stand at this block; said to all, every [`ALIVE_EVERY`] |
//! | `Synchronise` | where do you stand? Asked of each peer at start and then every [`SYNCHRONISE_EVERY`] |
//! | `Standing` | the answer: the head's header and certificate, which prove it |
//! | `GetBlocks` | you alone: send blocks from here on |
//! | `Blocks` | the answer |
//!
//! A claim proves nothing and leads to one question; only proven standings are acted on.
//!
//! # Taking part
//!
//! After a start a node neither proposes nor votes until enough others *match*: the genesis' policy
//! [`Synchronise`] says how many voters, this node among them, must have shown a certified block
//! that this node's chain has, too. So it does not vote on what the others have long decided.
//!
//! # A lost record of votes
//!
//! A node that does not know what it signed must not vote in a height where it may have voted. Its chain,
//! up to h, tells who votes at h + 2 and no further. Let a quorum of *those*, without this node, have shown
//! since it started that they stood no higher than h. Any quorum that had precommitted h + 2 would have one in
//! common with it that neither lies nor has lost blocks itself, as long as those that do are no more than the
//! network survives, and who precommitted h + 2 had h + 1: so h + 2 was decided by nobody. To vote at h + 3
//! this node would have had it. So it voted at h + 2 at most, and voting is safe after
//! [`UNSAFE_HEIGHTS`] more: the others must decide two blocks without it. What voters of before show proves
//! nothing: others may long have gone on without them. Where the others cannot decide alone (full
//! consent, three voters or fewer, or too many that lost their records at once), it never becomes safe by
//! itself. So nodes are wiped or restored one at a time, the next once the last one votes.
//!
//! # Forks
//!
//! Two certified blocks at one height cannot be while fewer than a third of the voters lie. A proven
//! standing that this node's chain does not have is told as [`Output::Fork`], for ever: the shell
//! keeps both certificates and stops voting.

mod fetching;
mod standing;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

use self::fetching::Fetching;
pub use self::fetching::{ANSWER_BLOCKS, MOST_BYTES};
pub use self::standing::{Participation, Synchronise};
use crate::{
    types::{Hash, Height, Identity},
    vote::Voters,
};

/// How often a node says that it is there.
pub const ALIVE_EVERY: Duration = Duration::from_millis(500);
/// How often a [`Input::Tick`] is wanted.
pub const TICK_EVERY: Duration = Duration::from_millis(250);
/// How often each peer is asked where it stands, while nothing else is a reason to ask.
pub const SYNCHRONISE_EVERY: Duration = Duration::from_secs(5);
/// How soon it is asked again where it did not answer: either may have been lost.
pub const UNANSWERED: Duration = Duration::from_secs(1);
/// How often a peer's connecting is a reason to say again what was said: it may do so as fast as it likes.
pub const SAY_AGAIN_EVERY: Duration = Duration::from_millis(500);
/// How soon a peer is asked again where it stands, whatever it claims.
pub const ASK_AGAIN: Duration = Duration::from_millis(500);
/// How many heights after the highest proven standing a node without its record may have voted in.
pub const UNSAFE_HEIGHTS: u64 = 2;

/// A place in a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub height: Height,
    /// The hash of the block there; of genesis, the network's id.
    pub block: Hash,
}

/// What this node knows of its own votes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VoteRecord {
    /// All of them: it may sign from this height on, and knows what it signed there.
    Kept(Height),
    /// It may have voted and not know it.
    Lost,
}

/// The chain on this node's disk.
pub trait Chain {
    fn holds(&self, place: &Place) -> bool;
}

/// What a [`Synchroniser`] is set up with.
#[derive(Debug, Clone)]
pub struct Settings {
    pub me: Identity,
    /// Of the height after the head.
    pub voters: Voters,
    /// Of the height after that one, the last that the chain tells.
    pub coming: Voters,
    pub policy: Synchronise,
    pub record: VoteRecord,
    pub head: Place,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Those of the height after the head that comes, and of the one after it: told before that head is.
    Voters {
        next: Voters,
        coming: Voters,
    },
    /// A session with this node stands, perhaps in place of an earlier one.
    Connected(Identity),
    Gone(Identity),
    /// This peer says that it stands here.
    Claim {
        peer: Identity,
        place: Place,
    },
    /// This peer has shown a certificate for this place, which holds; genesis needs none.
    /// It may show less than all, of which the asker can prove more: `whole` where this is where it stands.
    Standing {
        peer: Identity,
        place: Place,
        whole: bool,
    },
    /// This peer sent so many blocks, in order, from this height on, of so many bytes. Nothing of them is
    /// checked.
    Answer {
        peer: Identity,
        from: Height,
        count: u64,
        bytes: usize,
    },
    /// Blocks up to here are on disk, by whatever way they came.
    Committed(Place),
    /// The next accepted block, which this peer had sent, did not hold. `forked`: its certificate does,
    /// but it follows another block than this node's head.
    Refused {
        peer: Identity,
        forked: bool,
    },
    Tick,
}

/// What the shell must do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Tell all where this node stands.
    SayAlive,
    /// Ask this peer where it stands; with a height, which block it has there.
    Synchronise { peer: Identity, at: Option<Height> },
    /// Ask this peer, and nobody else, for blocks from here on, about so many bytes of them.
    GetBlocks { peer: Identity, from: Height, bytes: usize },
    /// Commit the blocks of the answer just put in, one after another, after those accepted before.
    Accept,
    /// The answer just put in was not asked for: count it.
    Unasked,
    /// Forget the blocks that were accepted and are not committed yet.
    DropAccepted,
    /// Count this peer's fault; for some time others are asked for blocks before it, or it is not asked.
    Blame { peer: Identity, fault: Fault },
    /// The vote record begins anew: nothing below this height may ever be signed.
    VoteFrom(Height),
    /// From this height on this node may propose and vote.
    TakePart(Height),
    /// A voter's connection has come to stand: what was said in the round under way, it may have
    /// missed. `healed`: only now are as many voters connected as decide a block.
    SayAgain { healed: bool },
    /// This peer's standing is certified, and so is this node's other block of that height.
    Fork { peer: Identity, place: Place },
}

/// What a responder did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It did not answer in time.
    Stalled,
    /// It answered late, or with little of what it has.
    Slow,
    /// It showed that it has blocks, and sent none.
    Empty,
    /// It sent a block that does not hold.
    Lied,
}

impl Fault {
    /// A stable name for counters.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Stalled => "catch-up-stalled",
            Self::Slow => "catch-up-slow",
            Self::Empty => "catch-up-empty",
            Self::Lied => "catch-up-lied",
        }
    }
}

/// One other node, as far as it has told and shown. Kept also while it is not connected: what it
/// did wrong is not forgotten by its connecting anew.
#[derive(Debug, Clone, Default)]
struct Peer {
    connected: bool,
    claim: Option<Place>,
    standing: Option<Place>,
    /// Where it stood when it first said so.
    stood: Option<Height>,
    /// Its standing, or an earlier one, is a block of this node's chain.
    matches: bool,
    /// Its standing was compared with this node's chain, which had got as far.
    compared: bool,
    asked: Option<Duration>,
    answered: bool,
    /// It was asked for a block of this node's past, which is not where it stands.
    asked_at: bool,
    /// When its connecting last was a reason to say again what was said; whether there is one to come,
    /// and a quorum was connected by it.
    heard_again: Option<Duration>,
    to_hear_again: Option<bool>,
    /// It did not deliver: until then others are asked before it.
    passed_over_until: Duration,
    /// Lies since its last blocks that held, and until when nothing is asked of it for the last one.
    lies: u32,
    alone_until: Duration,
}

/// The state, for one node and one life of its process.
pub struct Synchroniser {
    settings: Settings,
    peers: BTreeMap<Identity, Peer>,
    head: Place,
    /// The head at the last tick: one behind for a moment is no reason to ask.
    head_at_tick: Height,
    alive_said: Option<Duration>,
    fetching: Fetching,
    /// Below this nothing may be voted for; `None` while that is not known.
    vote_from: Option<Height>,
    taking_part: bool,
    forked: bool,
    outputs: Vec<Output>,
}

impl Synchroniser {
    pub fn new(settings: Settings) -> Self {
        let vote_from = match settings.record {
            VoteRecord::Kept(from) => Some(from),
            VoteRecord::Lost => None,
        };
        Self {
            head: settings.head,
            head_at_tick: settings.head.height,
            settings,
            peers: BTreeMap::new(),
            alive_said: None,
            fetching: Fetching::default(),
            vote_from,
            taking_part: false,
            forked: false,
            outputs: Vec::new(),
        }
    }

    /// Takes one input. `now` is the time since any fixed moment; it never goes back.
    pub fn step(&mut self, now: Duration, input: Input, chain: &impl Chain) -> Vec<Output> {
        match input {
            Input::Voters { next, coming } => (self.settings.voters, self.settings.coming) = (next, coming),
            Input::Connected(peer) => self.on_connected(now, peer),
            Input::Gone(peer) => self.on_gone(now, &peer),
            Input::Claim { peer, place } => self.on_claim(now, peer, place, chain),
            Input::Standing { peer, place, whole } => self.on_standing(now, peer, (place, whole), chain),
            Input::Answer { peer, from, count, bytes } => self.on_answer(now, &peer, from, (count, bytes)),
            Input::Committed(place) => self.on_committed(now, place, chain),
            Input::Refused { peer, forked } => self.on_refused(now, &peer, forked),
            Input::Tick => self.on_tick(now),
        }
        self.decide();
        std::mem::take(&mut self.outputs)
    }

    fn on_connected(&mut self, now: Duration, peer: Identity) {
        if peer == self.settings.me {
            return;
        }
        // Whatever was asked on the connection before is not answered on another.
        self.fetching.forget(&peer);
        let before = self.connected_voters();
        let known = self.peers.entry(peer.clone()).or_default();
        known.connected = true;
        known.passed_over_until = Duration::ZERO;
        if self.settings.voters.get(&peer).is_some() {
            let quorum = self.settings.voters.quorum();
            let healed = before < quorum && self.connected_voters() >= quorum;
            if let Some(known) = self.peers.get_mut(&peer) {
                known.to_hear_again = Some(healed || known.to_hear_again == Some(true));
            }
            self.say_again(now);
        }
        self.ask(now, &peer, None);
        self.look(now);
    }

    /// To those that connected, each after a while: it goes to all, once.
    fn say_again(&mut self, now: Duration) {
        let due = |peer: &Peer| peer.heard_again.is_none_or(|heard| now >= heard + SAY_AGAIN_EVERY);
        let mut healed = None;
        for peer in self.peers.values_mut().filter(|peer| due(peer)) {
            if let Some(by_it) = peer.to_hear_again.take() {
                peer.heard_again = Some(now);
                healed = Some(healed == Some(true) || by_it);
            }
        }
        self.outputs.extend(healed.map(|healed| Output::SayAgain { healed }));
    }

    /// This node among them.
    fn connected_voters(&self) -> usize {
        let connected = |name: &Identity| self.peers.get(name).is_some_and(|peer| peer.connected);
        let voters = self.settings.voters.as_slice().iter().map(|voter| &voter.identity);
        voters.filter(|name| **name == self.settings.me || connected(name)).count()
    }

    fn on_gone(&mut self, now: Duration, peer: &Identity) {
        if let Some(known) = self.peers.get_mut(peer) {
            known.connected = false;
            known.claim = None;
        }
        self.fetching.forget(peer);
        self.look(now);
    }

    fn on_claim(&mut self, now: Duration, peer: Identity, place: Place, chain: &impl Chain) {
        let other = place.height <= self.head.height && !chain.holds(&place);
        let Some(known) = self.peers.get_mut(&peer) else { return };
        known.claim = Some(place);
        let may_ask = known.may_be_asked(now);
        if other && may_ask {
            // It says that its chain is another: it may prove it.
            self.ask(now, &peer, Some(place.height));
        } else if place.height > self.head.height.next() {
            self.look(now);
        }
    }

    fn on_tick(&mut self, now: Duration) {
        if self.alive_said.is_none_or(|said| now >= said + ALIVE_EVERY) {
            self.alive_said = Some(now);
            self.outputs.push(Output::SayAlive);
        }
        self.say_again(now);
        if let Some(peer) = self.fetching.overdue(now) {
            self.blame(now, &peer, Fault::Stalled);
        }
        let due: Vec<_> =
            self.peers.iter().filter(|(_, peer)| peer.is_due(now)).map(|(name, _)| name.clone()).collect();
        due.iter().for_each(|peer| self.ask(now, peer, None));
        if self.head_at_tick == self.head.height {
            self.look(now);
            self.ask_those_just_ahead(now);
        }
        self.head_at_tick = self.head.height;
    }

    /// Asks where it stands; the answer will be its proof.
    fn ask(&mut self, now: Duration, peer: &Identity, at: Option<Height>) {
        if let Some(known) = self.peers.get_mut(peer) {
            (known.asked, known.answered, known.asked_at) = (Some(now), false, at.is_some());
            self.outputs.push(Output::Synchronise { peer: peer.clone(), at });
        }
    }

    fn blame(&mut self, now: Duration, peer: &Identity, fault: Fault) {
        if let Some(known) = self.peers.get_mut(peer) {
            match fault {
                // A slow network may have done it, too.
                Fault::Stalled | Fault::Slow | Fault::Empty => known.passed_over_until = now + fetching::PASS_OVER,
                Fault::Lied => {
                    known.alone_until = now + fetching::leave_alone(known.lies);
                    known.lies = known.lies.saturating_add(1);
                }
            }
        }
        self.fetching.forget(peer);
        self.outputs.push(Output::Blame { peer: peer.clone(), fault });
        self.look(now);
    }
}

impl Peer {
    fn is_due(&self, now: Duration) -> bool {
        let wait = if self.answered { SYNCHRONISE_EVERY } else { UNANSWERED };
        self.connected && self.asked.is_none_or(|asked| now >= asked + wait)
    }

    fn may_be_asked(&self, now: Duration) -> bool {
        self.connected && self.asked.is_none_or(|asked| now >= asked + ASK_AGAIN)
    }
}

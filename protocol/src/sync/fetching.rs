//! Whom to fetch blocks of, and how much at once.
//!
//! One peer at a time is the responder. It is asked for the next blocks while those of its answer
//! before are being committed, and for no more than that: two answers at most are in memory. A
//! responder that does not answer in time, sends nothing or sends what does not hold is left alone,
//! longer each time, and another goes on where it stopped.

use std::{collections::VecDeque, time::Duration};

use super::{Fault, Output, Peer, Synchroniser};
use crate::types::{Height, Identity};

/// How long a responder may take for one answer.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// An answer quicker than this lets the next be twice as large; a slower one, half.
const QUICK: Duration = Duration::from_secs(1);
/// Least and most bytes of blocks asked for at once; one block may be larger. A responder whose answer is
/// not quick, or is less than half of what was asked for and does not reach as far as it has shown, is too
/// slow: the next one that is ahead comes before it.
pub const LEAST_BYTES: usize = 256 << 10;
pub const MOST_BYTES: usize = 4 << 20;
/// Most blocks in one answer, whatever their size.
pub const ANSWER_BLOCKS: u64 = 500;
/// How many answers may be accepted and not committed yet while another is asked for.
const ACCEPTED_ANSWERS: usize = 1;
/// How long a peer that did not deliver is asked after all others.
pub(super) const PASS_OVER: Duration = Duration::from_secs(10);
/// How long a peer is not asked after its first lie; twice as long after each further one, up to a most.
const LEAVE_ALONE: Duration = Duration::from_secs(10);
const LEAVE_ALONE_MOST: Duration = Duration::from_secs(320);

pub(super) fn leave_alone(lies: u32) -> Duration {
    LEAVE_ALONE.saturating_mul(1 << lies.min(16)).min(LEAVE_ALONE_MOST)
}

/// A request under way.
struct Asked {
    from: Height,
    bytes: usize,
    at: Duration,
}

/// An answer that is being committed.
struct Accepted {
    peer: Identity,
    last: Height,
}

#[derive(Default)]
pub(super) struct Fetching {
    responder: Option<Identity>,
    asked: Option<Asked>,
    accepted: VecDeque<Accepted>,
    /// The last question that this node took back, of a responder that did nothing wrong: its answer is asked
    /// for, and of no use.
    taken_back: Option<(Identity, Height)>,
    /// How much to ask for at once.
    bytes: usize,
    /// Who was responder last: the next one that is ahead comes next, so that no peer, whatever it
    /// shows, is the only one asked.
    last: Option<Identity>,
}

impl Fetching {
    /// This peer is no responder any more. What it sent and was accepted stays: it is checked block
    /// by block, whoever sent it.
    pub fn forget(&mut self, peer: &Identity) {
        if self.responder.as_ref() == Some(peer) {
            self.responder = None;
            self.asked = None;
        }
    }

    /// The responder, if its answer does not come in time.
    pub fn overdue(&self, now: Duration) -> Option<Identity> {
        let overdue = self.asked.as_ref().is_some_and(|asked| now >= asked.at + ANSWER_WITHIN);
        self.responder.clone().filter(|_| overdue)
    }

    /// Whose answers are committed to their ends by now.
    pub fn committed(&mut self, height: Height) -> Vec<Identity> {
        let mut whole = Vec::new();
        while self.accepted.front().is_some_and(|first| first.last <= height) {
            whole.extend(self.accepted.pop_front().map(|first| first.peer));
        }
        whole
    }

    /// The height that is reached once all that was accepted is committed.
    fn reach(&self, head: Height) -> Height {
        self.accepted.back().map_or(head, |last| last.last.max(head))
    }
}

impl Synchroniser {
    pub(super) fn on_answer(&mut self, now: Duration, peer: &Identity, from: Height, (count, bytes): (u64, usize)) {
        let responds = self.fetching.responder.as_ref() == Some(peer);
        let Some(asked) = self.fetching.asked.take_if(|asked| responds && asked.from == from) else {
            let late = self.fetching.taken_back.take_if(|(whom, height)| (&*whom, *height) == (peer, from));
            if late.is_none() {
                self.outputs.push(Output::Unasked);
            }
            return;
        };
        let Some(last) = count.checked_sub(1).and_then(|more| from.get().checked_add(more)).map(Height::new) else {
            return self.blame(now, peer, Fault::Empty);
        };
        let quick = now < asked.at + QUICK;
        let wanted = if quick { self.fetching.bytes * 2 } else { self.fetching.bytes / 2 };
        self.fetching.bytes = wanted.clamp(LEAST_BYTES, MOST_BYTES);
        self.fetching.accepted.push_back(Accepted { peer: peer.clone(), last });
        self.outputs.push(Output::Accept);
        // Others may have brought this node as far meanwhile.
        self.fetching.committed(self.head.height);
        let shown = self.peers.get(peer).and_then(|peer| peer.standing);
        let all = shown.is_none_or(|shown| last >= shown.height);
        if quick && (all || count >= ANSWER_BLOCKS || bytes >= asked.bytes / 2) {
            self.look(now);
        } else {
            self.blame(now, peer, Fault::Slow);
        }
    }

    pub(super) fn on_refused(&mut self, now: Duration, peer: &Identity, forked: bool) {
        // What was accepted after it follows it, and so does what was asked for.
        self.outputs.push(Output::DropAccepted);
        self.fetching.accepted.clear();
        let asked = self.fetching.asked.take().map(|asked| asked.from);
        let honest = self.fetching.responder.take().filter(|responder| responder != peer);
        self.fetching.taken_back = honest.zip(asked);
        if forked {
            self.ask(now, peer, Some(self.head.height));
        }
        self.blame(now, peer, Fault::Lied);
    }

    /// Asks for the next blocks, if there is somebody to ask and room for them.
    pub(super) fn look(&mut self, now: Duration) {
        let reach = self.fetching.reach(self.head.height);
        if self.fetching.asked.is_some() || self.fetching.accepted.len() > ACCEPTED_ANSWERS {
            return;
        }
        let ahead = |peer: &Peer| {
            peer.connected && peer.alone_until <= now && peer.standing.is_some_and(|shown| shown.height > reach)
        };
        let goes_on = |name: &Identity| self.peers.get(name).is_some_and(ahead);
        let responder = self.fetching.responder.take().filter(goes_on).or_else(|| {
            self.fetching.bytes = LEAST_BYTES;
            let order = |(name, peer): &(&Identity, &Peer)| {
                (peer.passed_over_until > now, Some(*name) <= self.fetching.last.as_ref(), (*name).clone())
            };
            let ahead = self.peers.iter().filter(|(_, peer)| ahead(peer));
            ahead.min_by_key(order).map(|(name, _)| name.clone())
        });
        let Some(peer) = responder else { return self.ask_those_far_ahead(now) };
        let (from, bytes) = (reach.next(), self.fetching.bytes);
        self.fetching.asked = Some(Asked { from, bytes, at: now });
        self.fetching.responder = Some(peer.clone());
        self.fetching.last = Some(peer.clone());
        self.outputs.push(Output::GetBlocks { peer, from, bytes });
    }

    /// Has claims of being ahead proven: nobody is fetched from before.
    fn ask_those_far_ahead(&mut self, now: Duration) {
        self.ask_those_above(now, self.head.height.next());
    }

    /// As above, when being one behind has lasted.
    pub(super) fn ask_those_just_ahead(&mut self, now: Duration) {
        self.ask_those_above(now, self.head.height);
    }

    fn ask_those_above(&mut self, now: Duration, height: Height) {
        if self.fetching.asked.is_some() || !self.fetching.accepted.is_empty() {
            return;
        }
        let claims = |peer: &Peer| {
            let above = peer.claim.is_some_and(|claim| claim.height > height);
            above && peer.alone_until <= now && peer.may_be_asked(now)
        };
        let ahead: Vec<_> = self.peers.iter().filter(|(_, peer)| claims(peer)).map(|(name, _)| name.clone()).collect();
        ahead.iter().for_each(|peer| self.ask(now, peer, None));
    }
}

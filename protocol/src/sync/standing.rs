//! Who has shown what, who matches, and what follows from it: taking part, a safe height to vote
//! from, forks.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Chain, Output, Place, Synchroniser, UNSAFE_HEIGHTS};
use crate::{
    types::{Height, Identity},
    vote::Voters,
};

/// How many voters must have shown a block that this node has, too, before this node takes part
/// after a start. This node is one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Synchronise {
    /// One other; of a network of one voter, none.
    Any,
    /// As many as decide a block.
    #[default]
    Quorum,
    /// Every voter.
    All,
}

/// Whether a node takes part, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Participation {
    /// From this height on.
    TakesPart { from: Height },
    /// So many other voters match, of so many needed; where it may vote at all, from this height on.
    Waits { from: Height, matching: usize, needed: usize },
    /// Its record is lost: so many other voters have shown where they stand, of so many needed, and it has to get
    /// there. Where
    /// there are fewer others than that, it never is safe.
    Abstains { shown: usize, needed: usize, others: usize },
    /// It has seen a fork.
    Halted,
}

impl Synchroniser {
    pub fn participation(&self) -> Participation {
        match self.vote_from {
            _ if self.forked => Participation::Halted,
            None => {
                let others = self.others_of(&self.settings.coming).count();
                Participation::Abstains { shown: self.shown().count(), needed: self.settings.coming.quorum(), others }
            }
            Some(from) if self.taking_part => Participation::TakesPart { from },
            Some(from) => Participation::Waits { from, matching: self.matching(), needed: self.needed() },
        }
    }

    pub(super) fn on_standing(
        &mut self,
        now: Duration,
        peer: Identity,
        (place, whole): (Place, bool),
        chain: &impl Chain,
    ) {
        let Some(known) = self.peers.get_mut(&peer) else { return };
        known.answered = true;
        if whole && !known.asked_at {
            known.stood = known.stood.or(Some(place.height));
        }
        // An answer about the past says what it has there, not where it stands.
        if Some(place) > known.standing && !known.asked_at {
            (known.standing, known.compared) = (Some(place), false);
        }
        self.compare(&peer, place, chain);
        self.look(now);
    }

    pub(super) fn on_committed(&mut self, now: Duration, place: Place, chain: &impl Chain) {
        if place.height <= self.head.height {
            return;
        }
        self.head = place;
        for peer in self.fetching.committed(place.height) {
            if let Some(known) = self.peers.get_mut(&peer) {
                known.lies = 0;
            }
        }
        let reached = |shown: &Place| shown.height <= place.height;
        let reached: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, peer)| !peer.compared)
            .filter_map(|(name, peer)| Some((name.clone(), peer.standing.filter(reached)?)))
            .collect();
        for (peer, shown) in reached {
            self.compare(&peer, shown, chain);
        }
        self.look(now);
    }

    /// A proven place that this node has reached is a block of its chain, or proof of a fork.
    fn compare(&mut self, peer: &Identity, place: Place, chain: &impl Chain) {
        if place.height > self.head.height {
            return;
        }
        let Some(known) = self.peers.get_mut(peer) else { return };
        known.compared |= known.standing == Some(place);
        if chain.holds(&place) {
            // All have genesis: it says nothing to who has more.
            known.matches |= place.height > Height::GENESIS || self.head.height == Height::GENESIS;
        } else {
            self.forked = true;
            self.outputs.push(Output::Fork { peer: peer.clone(), place });
        }
    }

    /// Says what has become certain by now, each thing once.
    pub(super) fn decide(&mut self) {
        if self.forked {
            return;
        }
        if self.vote_from.is_none()
            && let Some(from) = self.safe_height()
        {
            self.vote_from = Some(from);
            self.outputs.push(Output::VoteFrom(from));
        }
        if !self.taking_part
            && let Some(from) = self.vote_from
            && self.enough_match()
        {
            self.taking_part = true;
            self.outputs.push(Output::TakePart(from));
        }
    }

    /// The lowest height in which this node, whose record is lost, cannot have voted.
    fn safe_height(&self) -> Option<Height> {
        let reached = self.shown().filter(|stood| *stood <= self.head.height).count();
        let safe = || Height::new(self.head.height.get().saturating_add(UNSAFE_HEIGHTS)).next();
        (reached >= self.settings.coming.quorum()).then(safe)
    }

    fn enough_match(&self) -> bool {
        self.matching() >= self.needed()
    }

    /// How many other voters must match.
    fn needed(&self) -> usize {
        let (voters, others) = (&self.settings.voters, self.other_voters().count());
        match self.settings.policy {
            Synchronise::Any => others.min(1),
            Synchronise::Quorum => voters.quorum() - (voters.as_slice().len() - others),
            Synchronise::All => others,
        }
    }

    fn matching(&self) -> usize {
        self.other_voters().filter(|peer| peer.is_some_and(|peer| peer.matches)).count()
    }

    /// How high those stood that vote at the last height of which the chain tells who does.
    fn shown(&self) -> impl Iterator<Item = Height> {
        self.others_of(&self.settings.coming).filter_map(|peer| peer?.stood)
    }

    fn other_voters(&self) -> impl Iterator<Item = Option<&super::Peer>> {
        self.others_of(&self.settings.voters)
    }

    /// What is known of each of these but this node, if anything is.
    fn others_of<'a>(&'a self, voters: &'a Voters) -> impl Iterator<Item = Option<&'a super::Peer>> {
        let others = voters.as_slice().iter().filter(|voter| voter.identity != self.settings.me);
        others.map(|voter| self.peers.get(&voter.identity))
    }
}

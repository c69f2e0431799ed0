//! Who votes at which height.
//!
//! A change that block h made is in force from h + [`IN_FORCE_AFTER`] on. Header h + 1 carries the root of
//! the state after h, and the former voters certify it: so whoever knows them learns the new ones from that
//! header and a proof of one entry of the state, and so on from genesis to any height. No two sets decide
//! one height, since every node that gets to it has executed the blocks below.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    crypto::PublicKey,
    types::{Height, Identity},
    vote::{ConsensusMode, Voter, Voters},
};

/// How many heights after the block that changed them new voters vote first.
pub const IN_FORCE_AFTER: u64 = 2;
/// How many sets are remembered. Evidence against a voter of an older one comes too late.
pub const REMEMBERED: usize = 64;

/// Voters, and the height from which they vote until the next set does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VoterSet {
    pub from: Height,
    pub voters: Arc<Voters>,
}

/// A voter as it stands in the state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VoterEntry {
    pub voter: Identity,
    pub public_key: PublicKey,
}

impl VoterSet {
    /// As it stands in the state, under the key [`super::EntryKey::Voters`].
    pub fn entries(&self) -> Vec<VoterEntry> {
        let entry = |voter: &Voter| VoterEntry { voter: voter.identity.clone(), public_key: voter.key };
        self.voters.as_slice().iter().map(entry).collect()
    }

    pub fn of_entries(mode: ConsensusMode, from: Height, entries: Vec<VoterEntry>) -> Self {
        let voters = entries.into_iter().map(|entry| Voter { identity: entry.voter, key: entry.public_key });
        Self { from, voters: Arc::new(Voters::new(mode, voters.collect())) }
    }
}

/// The set in force at a height, of some in their order; before the first of them, the first.
pub fn in_force(sets: &[VoterSet], height: Height) -> &VoterSet {
    &sets[sets.partition_point(|set| set.from <= height).saturating_sub(1)]
}

/// The sets that are remembered, the oldest first; never none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VoterSets(Vec<VoterSet>);

impl VoterSets {
    /// `first` votes until another set is added.
    pub fn new(first: VoterSet) -> Self {
        Self(vec![first])
    }

    /// The voters of a height: for one further ahead than is known, those known last.
    pub fn at(&self, height: Height) -> &Arc<Voters> {
        &in_force(&self.0, height).voters
    }

    /// As [`Self::at`], but none for a height that is older than what is remembered.
    pub fn remembered_at(&self, height: Height) -> Option<&Arc<Voters>> {
        self.0.first().filter(|oldest| oldest.from <= height).map(|_| self.at(height))
    }

    pub fn last(&self) -> &VoterSet {
        &self.0[self.0.len() - 1]
    }

    pub fn iter(&self) -> impl Iterator<Item = &VoterSet> {
        self.0.iter()
    }

    /// Adds the set that votes from `from` on; answers the one that is forgotten for it.
    pub fn push(&mut self, set: VoterSet) -> Option<VoterSet> {
        self.0.retain(|other| other.from < set.from);
        self.0.push(set);
        (self.0.len() > REMEMBERED).then(|| self.0.remove(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SecretKey;

    fn set(from: u64, voters: u8) -> VoterSet {
        let entry = |n: u8| VoterEntry {
            voter: format!("node{n}@Org").parse().unwrap(),
            public_key: SecretKey::from_bytes(&[n; 32]).unwrap().public_key(),
        };
        VoterSet::of_entries(ConsensusMode::Bft, Height::new(from), (1..=voters).map(entry).collect())
    }

    #[test]
    fn each_height_has_the_voters_that_were_in_force() {
        let mut sets = VoterSets::new(set(0, 4));
        assert_eq!(sets.push(set(7, 5)), None);
        assert_eq!(sets.push(set(9, 3)), None);
        let count = |height| sets.at(Height::new(height)).as_slice().len();
        assert_eq!([0, 6, 7, 8, 9, 1_000].map(count), [4, 4, 5, 5, 3, 3]);
    }

    #[test]
    fn the_oldest_is_forgotten() {
        let mut sets = VoterSets::new(set(0, 4));
        for at in 1..REMEMBERED as u64 {
            assert_eq!(sets.push(set(10 * at, 5)), None);
        }
        assert_eq!(sets.push(set(10_000, 6)), Some(set(0, 4)));
        assert_eq!(sets.remembered_at(Height::new(9)), None);
        assert!(sets.remembered_at(Height::new(10)).is_some());
        assert_eq!(VoterSet::of_entries(ConsensusMode::Bft, Height::new(0), set(0, 4).entries()), set(0, 4));
    }
}

//! Who votes at which height: the changes that blocks carry, and the rule of what they do. A change in
//! block h is in force from h + 2 on, so a node that decides h knows who votes at h + 1, too, and can check
//! what reaches it early.

use std::{collections::BTreeMap, sync::Arc};

use minidlt_protocol::{
    types::Height,
    vote::{ConsensusMode, Voter, Voters},
};
use serde::Serialize;

use super::world::{identity, key_of};

/// How many heights after its block a change is in force.
const IN_FORCE_AFTER: u64 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Change {
    Add(usize),
    Remove(usize),
    /// It votes with its next key.
    Rekey(usize),
}

/// The nodes that vote, and how often each has changed its key.
pub type Members = BTreeMap<usize, u32>;

/// The rule: who votes at `height` where the blocks up to its last but one carry these changes, the
/// first block's first; `None` where they are too few to tell.
pub fn members_at(first: &Members, changes: &[Vec<Change>], height: Height) -> Option<Members> {
    let blocks = usize::try_from(height.get().saturating_sub(IN_FORCE_AFTER)).ok()?;
    let mut members = first.clone();
    for change in changes.get(..blocks)?.iter().flatten() {
        match change {
            Change::Add(node) => {
                members.entry(*node).or_insert(0);
            }
            Change::Remove(node) => {
                members.remove(node);
            }
            Change::Rekey(node) => {
                members.entry(*node).and_modify(|keys| *keys += 1);
            }
        }
    }
    Some(members)
}

pub fn voters(mode: ConsensusMode, members: &Members) -> Voters {
    let voter =
        |(node, keys): (&usize, &u32)| Voter { identity: identity(*node), key: key_of(*node, *keys).public_key() };
    Voters::new(mode, members.iter().map(voter).collect())
}

/// What a chain says of voters, height by height.
#[derive(Clone)]
pub struct Electorates {
    mode: ConsensusMode,
    changes: Vec<Vec<Change>>,
    /// Of the heights from 1 on.
    known: Vec<(Members, Arc<Voters>)>,
}

impl Electorates {
    pub fn new(mode: ConsensusMode, first: Members) -> Self {
        let set = Arc::new(voters(mode, &first));
        Self { mode, changes: Vec::new(), known: vec![(first.clone(), set.clone()), (first, set)] }
    }

    /// Those of genesis alone.
    pub fn beginning(&self) -> Self {
        Self::new(self.mode, self.known[0].0.clone())
    }

    /// The next block, with these changes.
    pub fn commit(&mut self, changes: &[Change]) {
        self.changes.push(changes.to_vec());
        let height = Height::new(self.known.len() as u64 + 1);
        let members = members_at(&self.known[0].0, &self.changes, height).expect("as many blocks as that");
        let same = self.known.last().filter(|(last, _)| *last == members).map(|(_, set)| set.clone());
        let set = same.unwrap_or_else(|| Arc::new(voters(self.mode, &members)));
        self.known.push((members, set));
    }

    pub fn members(&self, height: Height) -> Option<&Members> {
        self.known.get(height.get().checked_sub(1)? as usize).map(|(members, _)| members)
    }

    /// `None` where the chain does not tell yet.
    pub fn at(&self, height: Height) -> Option<&Arc<Voters>> {
        self.known.get(height.get().checked_sub(1)? as usize).map(|(_, set)| set)
    }

    /// The furthest that the chain tells.
    pub fn last(&self) -> Height {
        Height::new(self.known.len() as u64)
    }

    /// How many of the blocks changed anything.
    pub fn changed(&self) -> usize {
        self.changes.iter().filter(|changes| !changes.is_empty()).count()
    }
}

//! The transactions that were dumped, and what kept each waiting until it expired.
//!
//! A transaction is dumped by the first block created after its `expires`; the block before that one was
//! created before it. Between the two lies the agreement on the earlier block, which all that was not in it
//! waited for, and what came before the later one was built: so the stalls of these two heights are all
//! that is kept, however many transactions wait. Who was missing when it expired is named.

use std::collections::{BTreeMap, VecDeque};

use minidlt_protocol::types::{Hash, Timestamp};

use crate::messages::mempool::{Cause, Stall, Waiting};

/// How many dumped transactions are remembered, for answers to their submitters.
const MAX_DUMPED: usize = 10_000;

/// What is to be known of a height that has ended.
pub struct Height {
    /// When its block was created.
    pub created: Timestamp,
    pub stalls: Vec<Stall>,
    pub fetched: bool,
}

/// What was dumped lately.
#[derive(Default)]
pub struct Dumped {
    causes: BTreeMap<Hash, (Timestamp, Cause)>,
    order: VecDeque<Hash>,
    /// Of the last two heights, in order: those that may reach beyond the last block's creation.
    stalls: Vec<Stall>,
    /// The height before was fetched.
    fetched: bool,
}

impl Dumped {
    /// A height has ended, with a block created then, before which these expired.
    pub fn add(&mut self, height: Height, expired: impl Iterator<Item = (Hash, Timestamp)>) {
        let Height { created, stalls, fetched } = height;
        self.stalls.extend(stalls);
        let unseen = fetched || self.fetched;
        for (id, expires) in expired {
            let cause = self.cause(expires, unseen);
            self.insert(id, expires, cause);
        }
        self.stalls.retain(|stall| stall.until >= created);
        self.fetched = fetched;
    }

    fn cause(&self, expires: Timestamp, unseen: bool) -> Cause {
        match self.stalls.iter().rev().find(|stall| stall.since <= expires) {
            Some(stall) => Cause::Missing(stall.missing.clone()),
            None if unseen => Cause::NotSeen,
            None => Cause::NobodyMissing,
        }
    }

    fn insert(&mut self, id: Hash, expires: Timestamp, cause: Cause) {
        self.causes.insert(id, (expires, cause));
        self.order.push_back(id);
        if self.order.len() > MAX_DUMPED {
            self.order.pop_front().map(|oldest| self.causes.remove(&oldest));
        }
    }

    pub fn get(&self, id: &Hash) -> Option<Waiting> {
        self.causes.get(id).map(|(expires, cause)| Waiting::Dumped { expires: *expires, cause: cause.clone() })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const T: fn(u64) -> Timestamp = Timestamp::from_millis;

    fn stall(since: u64, until: u64, who: &str) -> Stall {
        Stall { since: T(since), until: T(until), missing: Arc::from(vec![who.parse().unwrap()]) }
    }

    fn id(n: u64) -> Hash {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&n.to_be_bytes());
        Hash::from_bytes(bytes)
    }

    fn cause_of(dumped: &Dumped, n: u64) -> Cause {
        match dumped.get(&id(n)) {
            Some(Waiting::Dumped { expires, cause }) if expires == T(n) => cause,
            other => panic!("{n}: {other:?}"),
        }
    }

    fn missing(who: &str) -> Cause {
        Cause::Missing(Arc::from(vec![who.parse().unwrap()]))
    }

    /// Each named by when it expired.
    fn dump(dumped: &mut Dumped, created: u64, stalls: Vec<Stall>, expired: &[u64]) {
        let height = Height { created: T(created), stalls, fetched: false };
        dumped.add(height, expired.iter().map(|at| (id(*at), T(*at))));
    }

    #[test]
    fn what_waited_behind_a_held_up_block_names_who_was_missing_when_it_expired() {
        let mut dumped = Dumped::default();
        dump(&mut dumped, 10, vec![stall(10, 40, "c@Org"), stall(40, 80, "d@Org")], &[]);
        dump(&mut dumped, 90, vec![], &[12, 39, 41, 85]);
        for (expired, who) in [(12, "c@Org"), (39, "c@Org"), (41, "d@Org"), (85, "d@Org")] {
            assert_eq!(cause_of(&dumped, expired), missing(who), "{expired}");
        }
    }

    #[test]
    fn what_held_up_a_block_before_the_last_is_forgotten() {
        let mut dumped = Dumped::default();
        dump(&mut dumped, 10, vec![stall(10, 80, "c@Org")], &[]);
        dump(&mut dumped, 90, vec![], &[]);
        dump(&mut dumped, 100, vec![], &[95]);
        assert_eq!(cause_of(&dumped, 95), Cause::NobodyMissing);
        assert!(dumped.stalls.is_empty());
    }

    #[test]
    fn a_stall_that_began_after_it_had_expired_is_not_its_cause() {
        let mut dumped = Dumped::default();
        dump(&mut dumped, 10, vec![], &[]);
        dump(&mut dumped, 60, vec![stall(30, 50, "c@Org")], &[20, 35]);
        assert_eq!(cause_of(&dumped, 20), Cause::NobodyMissing);
        assert_eq!(cause_of(&dumped, 35), missing("c@Org"));
    }

    #[test]
    fn a_node_that_was_away_cannot_tell() {
        let mut dumped = Dumped::default();
        let fetched = |created| Height { created: T(created), stalls: vec![], fetched: true };
        dumped.add(fetched(10), [(id(5), T(5))].into_iter());
        assert_eq!(cause_of(&dumped, 5), Cause::NotSeen);
        dump(&mut dumped, 20, vec![], &[15]);
        assert_eq!(cause_of(&dumped, 15), Cause::NotSeen, "it waited for a block that others decided");
        dump(&mut dumped, 30, vec![], &[25]);
        assert_eq!(cause_of(&dumped, 25), Cause::NobodyMissing);
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut dumped = Dumped::default();
        let all: Vec<u64> = (1..=MAX_DUMPED as u64 + 1).collect();
        dump(&mut dumped, 1_000_000, vec![], &all);
        assert!(dumped.get(&id(1)).is_none());
        assert_eq!(cause_of(&dumped, 2), Cause::NobodyMissing);
        assert_eq!(dumped.causes.len(), MAX_DUMPED);
    }
}

//! Fair queuing: a line for each who has something waiting, and whoever has been served least comes
//! next, so that one with much keeps nobody waiting who has little.
//!
//! Start-time fair queuing (Goyal, Vin, Cheng: SIGCOMM 1996), all with the same weight. Who has nothing
//! waiting saves nothing up for later, and what it had beyond others is not forgotten while others wait.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

struct Line<T> {
    /// How much its owner has been served, in the units of cost.
    served: u64,
    items: VecDeque<(u64, T)>,
}

pub struct Fair<K, T> {
    lines: BTreeMap<K, Line<T>>,
    /// Those in whose line something waits, by what they have been served.
    turns: BTreeSet<(u64, K)>,
    /// What the one who came last had been served before.
    level: u64,
}

impl<K, T> Default for Fair<K, T> {
    fn default() -> Self {
        Self { lines: BTreeMap::new(), turns: BTreeSet::new(), level: 0 }
    }
}

impl<K: Ord + Clone, T> Fair<K, T> {
    /// Lines up. `cost` is what it takes to serve it.
    pub fn push(&mut self, key: &K, cost: usize, item: T) {
        let level = self.level;
        let line = self.lines.entry(key.clone()).or_insert_with(|| Line { served: level, items: VecDeque::new() });
        if line.items.is_empty() {
            line.served = line.served.max(level);
            self.turns.insert((line.served, key.clone()));
        }
        line.items.push_back((u64::try_from(cost).unwrap_or(u64::MAX), item));
    }

    pub fn pop(&mut self) -> Option<T> {
        let (served, key) = self.turns.pop_first()?;
        self.level = served;
        let line = self.lines.get_mut(&key)?;
        let (cost, item) = line.items.pop_front()?;
        line.served = served.saturating_add(cost);
        if !line.items.is_empty() {
            self.turns.insert((line.served, key));
        } else if self.turns.is_empty() {
            // Nobody waits who could be served less for it.
            self.lines.clear();
            self.level = 0;
        }
        Some(item)
    }

    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(fair: &mut Fair<char, u32>) -> Vec<u32> {
        std::iter::from_fn(|| fair.pop()).collect()
    }

    #[test]
    fn who_has_little_waits_for_one_of_each_other_and_no_more() {
        let mut fair = Fair::default();
        for n in 0..4 {
            fair.push(&'a', 10, n);
        }
        fair.push(&'b', 10, 100);
        assert_eq!(fair.pop(), Some(0));
        fair.push(&'c', 10, 200);
        assert_eq!(drain(&mut fair), [100, 200, 1, 2, 3]);
        assert!(fair.is_empty() && fair.lines.is_empty());
    }

    #[test]
    fn what_costs_more_comes_less_often_also_where_it_comes_one_at_a_time() {
        let mut fair = Fair::default();
        let mut order = Vec::new();
        (0..9).for_each(|n| fair.push(&'a', 1, n));
        fair.push(&'b', 3, 100);
        for _ in 0..12 {
            let next = fair.pop().unwrap();
            order.push(next);
            // Its line was empty in between.
            if (100..102).contains(&next) {
                fair.push(&'b', 3, next + 1);
            }
        }
        assert_eq!(order, [0, 100, 1, 2, 3, 101, 4, 5, 6, 102, 7, 8]);
    }

    #[test]
    fn nothing_is_saved_up() {
        let mut fair = Fair::default();
        (0..5).for_each(|n| fair.push(&'a', 1, n));
        assert_eq!([fair.pop(), fair.pop(), fair.pop()], [Some(0), Some(1), Some(2)]);
        (100..103).for_each(|n| fair.push(&'b', 1, n));
        assert_eq!(drain(&mut fair), [100, 3, 101, 4, 102], "not all of b's at once");
    }
}

//! Whom a height waits for, and since when: told to the Mempool when the height ends, so that it can say
//! of a transaction that expired meanwhile whose acceptance was missing.
//!
//! A round that is decided within [`PATIENCE`] leaves nothing here. One that goes on for longer is
//! looked at as often, and once more when it ends without a decision. So who was only slower than a quorum
//! is not named, and what this costs does not grow with votes or transactions.

use std::{sync::Arc, time::Duration};

use minidlt_protocol::types::{Identity, Round, Timestamp};

use crate::messages::mempool::Stall;

/// So long a round may take before it is said to wait for somebody; then it is looked at as often.
pub const PATIENCE: Duration = Duration::from_millis(1_500);
/// A proposer with nothing to say keeps the others waiting for that long: nobody is missing then.
const _: () = assert!(PATIENCE.as_millis() >= 2 * super::SEAL_AFTER.as_millis());
/// Most changes of who is missing that are kept of a height; the latest are.
pub const MAX_STALLS: usize = 64;

/// What was seen of the height under way.
#[derive(Debug)]
pub struct Watch {
    /// The round that is watched.
    round: Round,
    /// When the height began.
    began: Timestamp,
    /// The last look.
    looked: Option<Timestamp>,
    stalls: Vec<Stall>,
}

impl Watch {
    /// The height begins, in this round.
    pub fn start(round: Round, now: Timestamp) -> Self {
        Self { round, began: now, looked: None, stalls: Vec::new() }
    }

    pub fn round(&self) -> Round {
        self.round
    }

    /// The round goes on, or has just ended, and these voters were missing in it.
    pub fn look(&mut self, missing: Vec<Identity>, now: Timestamp) {
        self.go_on(now);
        self.looked = Some(now);
        if missing.is_empty() || self.stalls.last().is_some_and(|last| last.until == now && *last.missing == *missing) {
            return;
        }
        // Between two looks it is not known when this changed; before the first one nothing else is known.
        let since = if self.stalls.is_empty() { self.began } else { now };
        if self.stalls.len() == MAX_STALLS {
            self.stalls.remove(0);
        }
        self.stalls.push(Stall { since, until: now, missing: Arc::from(missing) });
    }

    /// The next round begins.
    pub fn enter(&mut self, round: Round, now: Timestamp) {
        self.go_on(now);
        (self.round, self.looked) = (round, None);
    }

    /// What was missing at the last look was so until now.
    fn go_on(&mut self, now: Timestamp) {
        if let Some(last) = self.stalls.last_mut().filter(|last| Some(last.until) == self.looked) {
            last.until = now;
        }
    }

    /// The height is decided.
    pub fn end(mut self, now: Timestamp) -> Vec<Stall> {
        self.go_on(now);
        self.stalls
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: fn(u64) -> Timestamp = Timestamp::from_millis;

    fn who(names: &[&str]) -> Vec<Identity> {
        names.iter().map(|name| format!("{name}@Org").parse().unwrap()).collect()
    }

    fn seen(stalls: &[Stall]) -> Vec<(u64, u64, String)> {
        let names = |stall: &Stall| stall.missing.iter().map(|one| one.name.to_string()).collect::<Vec<_>>().join(" ");
        stalls.iter().map(|stall| (stall.since.millis(), stall.until.millis(), names(stall))).collect()
    }

    #[test]
    fn a_height_decided_before_a_look_waited_for_nobody() {
        assert!(Watch::start(Round::ZERO, T(10)).end(T(20)).is_empty());
    }

    #[test]
    fn the_same_voters_are_one_stall_from_the_rounds_start_to_the_decision() {
        let mut watch = Watch::start(Round::ZERO, T(10));
        watch.look(who(&["c"]), T(20));
        watch.look(who(&["c"]), T(30));
        assert_eq!(seen(&watch.end(T(33))), [(10, 33, "c".to_owned())]);
    }

    #[test]
    fn a_round_that_decides_names_nobody_though_the_one_before_it_did() {
        let mut watch = Watch::start(Round::ZERO, T(10));
        watch.look(who(&["c"]), T(20));
        watch.enter(Round::new(1), T(21));
        assert_eq!(watch.round(), Round::new(1));
        assert_eq!(seen(&watch.end(T(25))), [(10, 21, "c".to_owned())]);
    }

    #[test]
    fn each_change_of_who_is_missing_begins_another_up_to_a_bound() {
        let mut watch = Watch::start(Round::ZERO, T(0));
        watch.look(who(&["c"]), T(10));
        watch.look(who(&["c", "d"]), T(20));
        watch.look(who(&[]), T(30));
        watch.look(who(&["d"]), T(40));
        let all = [(0, 20, "c".to_owned()), (20, 30, "c d".to_owned()), (40, 45, "d".to_owned())];
        assert_eq!(seen(&watch.end(T(45))), all);

        let mut watch = Watch::start(Round::ZERO, T(0));
        for i in 0..MAX_STALLS as u64 + 2 {
            watch.look(who(&[if i % 2 == 0 { "c" } else { "d" }]), T(i + 1));
        }
        let stalls = watch.end(T(1_000));
        assert_eq!((stalls.len(), stalls[0].since), (MAX_STALLS, T(3)), "the latest are kept");
    }
}

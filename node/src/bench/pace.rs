//! When transactions are due.

use std::time::Duration;

/// How transactions follow one another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// Evenly at a rate, whatever becomes of those before.
    Open { per_s: f64 },
    /// As soon as fewer than this many are under way.
    Closed { under_way: usize },
}

/// What is due in one batch at most: a batch takes a node well under a millisecond to read.
const MAX_BATCH: usize = 256;
/// Between two looks. Arrivals within it share a request.
pub const TICK: Duration = Duration::from_millis(1);

impl Pace {
    /// How many more are due now, after `sent`, of which `under_way` are not yet committed.
    pub fn due(&self, now: Duration, sent: usize, under_way: usize) -> usize {
        let due = match self {
            Self::Open { per_s } => arrivals(*per_s, now).saturating_sub(sent),
            Self::Closed { under_way: most } => most.saturating_sub(under_way),
        };
        due.min(MAX_BATCH)
    }

    /// The moment from which the latency of a transaction counts: when it was scheduled, or where
    /// there is no schedule, when it was sent.
    pub fn counts_from(&self, number: usize, now: Duration) -> Duration {
        match self {
            Self::Open { per_s } => scheduled(*per_s, number),
            Self::Closed { .. } => now,
        }
    }

    /// Whether more would have been due before `end`, after `sent`.
    pub fn wants_more(&self, end: Duration, sent: usize) -> bool {
        match self {
            Self::Open { per_s } => scheduled(*per_s, sent) < end,
            Self::Closed { .. } => true,
        }
    }

    /// How long nothing will be due.
    pub fn idle(&self, now: Duration, sent: usize) -> Duration {
        match self {
            Self::Open { per_s } => scheduled(*per_s, sent).saturating_sub(now).max(TICK),
            Self::Closed { .. } => TICK,
        }
    }
}

fn scheduled(per_s: f64, number: usize) -> Duration {
    Duration::try_from_secs_f64(number as f64 / per_s).unwrap_or(Duration::MAX)
}

/// How many of the schedule have arrived by `now`, the first at zero.
fn arrivals(per_s: f64, now: Duration) -> usize {
    (now.as_secs_f64() * per_s).floor() as usize + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_schedule_is_fixed_beforehand() {
        let pace = Pace::Open { per_s: 100.0 };
        let at = Duration::from_millis;
        assert_eq!(pace.due(at(0), 0, 0), 1);
        assert_eq!(pace.due(at(9), 1, 1), 0);
        assert_eq!(pace.due(at(10), 1, 1), 1);
        assert_eq!(pace.counts_from(3, at(999)), at(30));
        assert_eq!(pace.idle(at(12), 2), at(8));
        assert_eq!(pace.idle(at(50), 2), TICK, "late is late, but never a busy loop");
    }

    #[test]
    fn after_a_stall_all_that_was_missed_is_due_and_charged_from_its_own_time() {
        let pace = Pace::Open { per_s: 1000.0 };
        let now = Duration::from_millis(100);
        assert_eq!(pace.due(now, 10, 10), 91);
        assert_eq!(pace.counts_from(10, now), Duration::from_millis(10));
        assert_eq!(pace.due(Duration::from_secs(10), 10, 10), MAX_BATCH);
    }

    #[test]
    fn a_closed_loop_keeps_so_many_under_way() {
        let pace = Pace::Closed { under_way: 300 };
        assert_eq!(pace.due(Duration::ZERO, 0, 0), MAX_BATCH);
        assert_eq!(pace.due(Duration::ZERO, 256, 256), 44);
        assert_eq!(pace.due(Duration::ZERO, 300, 300), 0);
        assert_eq!(pace.counts_from(7, Duration::from_millis(3)), Duration::from_millis(3));
    }

    #[test]
    fn a_schedule_that_was_kept_to_its_end_wants_no_more() {
        let end = Duration::from_secs(17);
        for per_s in [0.5_f64, 3.0, 100.0, 12_345.678] {
            let signed = (per_s * end.as_secs_f64()).ceil() as usize;
            assert!(!Pace::Open { per_s }.wants_more(end, signed), "{per_s}");
            assert!(Pace::Open { per_s }.wants_more(end, signed - 1), "{per_s}");
        }
        assert!(Pace::Closed { under_way: 1 }.wants_more(end, 1_000_000));
    }

    #[test]
    fn every_arrival_is_due_at_its_scheduled_time() {
        for per_s in [0.5, 3.0, 100.0, 12_345.678] {
            for number in 0..2000 {
                // A nanosecond for what rounding took.
                let now = scheduled(per_s, number) + Duration::from_nanos(1);
                assert!(arrivals(per_s, now) > number, "{per_s} {number}");
            }
        }
    }
}

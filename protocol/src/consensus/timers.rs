//! The clock's part of agreement: which alarms there are and how long they run.
//!
//! The core has no clock. It asks for an alarm with `Output::Schedule`, is told of its going off
//! with `Input::Timeout`, and takes only alarms it still waits for. A [`Timer`] names its height,
//! so a firing that was queued when its height ended is told from one of the next height.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::types::{Height, Round};

/// What an alarm is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimerKind {
    /// No complete proposal yet: prevote nil.
    Propose,
    /// A quorum prevoted, but not for one thing: precommit nil.
    Prevote,
    /// A quorum precommitted, but not for one block: next round.
    Precommit,
    /// Say again what was said in this round; messages get lost.
    Rebroadcast,
}

/// One alarm. Scheduling it again replaces it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timer {
    pub height: Height,
    pub round: Round,
    pub kind: TimerKind,
}

/// How long each alarm runs: its first duration, and what each further round adds, so that rounds
/// grow until messages arrive within them whatever the network's delay (the liveness argument of
/// Tendermint). Nothing runs longer than `most`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    pub propose: Duration,
    pub propose_more: Duration,
    pub prevote: Duration,
    pub prevote_more: Duration,
    pub precommit: Duration,
    pub precommit_more: Duration,
    pub rebroadcast: Duration,
    pub most: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            propose: Duration::from_millis(1000),
            propose_more: Duration::from_millis(500),
            prevote: Duration::from_millis(500),
            prevote_more: Duration::from_millis(250),
            precommit: Duration::from_millis(500),
            precommit_more: Duration::from_millis(250),
            rebroadcast: Duration::from_millis(1500),
            most: Duration::from_secs(30),
        }
    }
}

impl Timeouts {
    /// How long this kind of alarm runs in this round.
    ///
    /// Rebroadcasts do not slow down with the rounds: a lost message is as lost in the tenth round
    /// as in the first.
    pub fn duration(&self, kind: TimerKind, round: Round) -> Duration {
        let (first, more) = match kind {
            TimerKind::Propose => (self.propose, self.propose_more),
            TimerKind::Prevote => (self.prevote, self.prevote_more),
            TimerKind::Precommit => (self.precommit, self.precommit_more),
            TimerKind::Rebroadcast => (self.rebroadcast, Duration::ZERO),
        };
        first.saturating_add(more.saturating_mul(round.get())).min(self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_grow_up_to_the_most() {
        let timeouts = Timeouts::default();
        let at = |kind, round| timeouts.duration(kind, Round::new(round)).as_millis();
        assert_eq!(at(TimerKind::Propose, 0), 1000);
        assert_eq!(at(TimerKind::Propose, 2), 2000);
        assert_eq!(at(TimerKind::Precommit, u32::MAX), 30_000);
        assert_eq!(at(TimerKind::Rebroadcast, 1000), 1500);
    }
}

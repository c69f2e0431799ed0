//! The Listener's bounds on connections and their time.

use std::time::Duration;

use super::Backoff;
use crate::session::{
    BEAT_EVERY,
    queue::{BOUNDS, Bounds},
};

/// How long nothing may come from a peer. TCP sends again what was lost after 0.2, 0.6, 1.4 and 3.0 s, so
/// that a connection that lives through a cut may stay still for as long again. This lies before the last:
/// what a cut has silenced either goes on within 0.8 s of its end, or has been given up by then. And it is
/// four times what a live peer lets pass.
const IDLE: Duration = Duration::from_secs(2);
const _: () = assert!(4 * BEAT_EVERY.as_millis() <= IDLE.as_millis());

/// How long nothing may come in a dialled handshake before another begins beside it: a network healed
/// within the first is used within this time.
const BESIDE: Duration = Duration::from_secs(1);

/// How long a peer may take nothing. It is there, or it would be silent, too: it may have to write
/// blocks or check transactions before it reads on, and a slow link takes 3 KiB a second.
const STALL: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// From connecting to the other's `Alive`.
    pub handshake: Duration,
    /// How long nothing may come from a peer.
    pub idle: Duration,
    /// How long nothing may come in a dialled handshake before another begins beside it.
    pub beside: Duration,
    /// How long nothing may be taken by it.
    pub stall: Duration,
    /// A node that was cut off hears of it at the next attempt.
    pub backoff: Backoff,
    /// Most connections with other nodes at once: sessions, and handshakes of those who connected.
    pub connections: usize,
    /// Most handshakes of those who connected from where no enrolled node is, or beyond its places.
    pub half_open: usize,
    /// Handshakes for which each enrolled node has places, at its address. A second one, since a
    /// network that fails within a handshake leaves it half open here.
    pub half_open_enrolled: usize,
    /// This many refused messages end a session.
    pub most_refused: u32,
    pub queues: Bounds,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(5),
            idle: IDLE,
            beside: BESIDE,
            stall: STALL,
            backoff: Backoff { least: Duration::from_millis(100), most: Duration::from_millis(500) },
            connections: 256,
            half_open: 64,
            half_open_enrolled: 2,
            most_refused: 16,
            queues: BOUNDS,
        }
    }
}

/// Room for handshakes of those who connected.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Room {
    pub enrolled: usize,
    pub strangers: usize,
}

impl Limits {
    /// How many handshakes of those who connected there is room for: each of the `others` has a
    /// place of its own, for its session or for dialling it, which no stranger can take. Enrolled
    /// nodes have at most half of the rest to themselves.
    pub(super) fn handshakes(&self, others: usize) -> Room {
        let left = self.connections.saturating_sub(others);
        let enrolled = others.saturating_mul(self.half_open_enrolled).min(left / 2);
        Room { enrolled, strangers: self.half_open.min(left - enrolled).max(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handshakes_take_what_sessions_leave() {
        let room = |(connections, others)| Limits { connections, ..Limits::default() }.handshakes(others);
        let cases = [(256, 3), (73, 3), (72, 3), (15, 3), (14, 3), (4, 3), (3, 3), (1, 3), (256, 100)];
        let expected = [(6, 64), (6, 64), (6, 63), (6, 6), (5, 6), (0, 1), (0, 1), (0, 1), (78, 64)];
        assert_eq!(cases.map(room), expected.map(|(enrolled, strangers)| Room { enrolled, strangers }));
    }
}

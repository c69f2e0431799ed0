//! The Listener's bounds on connections and their time.

use std::time::Duration;

use super::Backoff;
use crate::session::queue::{BOUNDS, Bounds};

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// From connecting to the other's `Alive`.
    pub handshake: Duration,
    /// How long nothing may come from a peer, or be taken by it. Sync says `Alive` each second.
    pub idle: Duration,
    pub backoff: Backoff,
    /// Most connections with other nodes at once: sessions, and handshakes of those who connected.
    pub connections: usize,
    /// Most handshakes of those who connected.
    pub half_open: usize,
    /// This many refused messages end a session.
    pub most_refused: u32,
    pub queues: Bounds,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(5),
            idle: Duration::from_secs(15),
            backoff: Backoff { least: Duration::from_millis(100), most: Duration::from_secs(5) },
            connections: 256,
            half_open: 64,
            most_refused: 16,
            queues: BOUNDS,
        }
    }
}

impl Limits {
    /// How many handshakes of those who connected there is room for: each of the `others` has a
    /// place of its own, for its session or for dialling it, which no stranger can take.
    pub(super) fn handshakes(&self, others: usize) -> usize {
        self.half_open.min(self.connections.saturating_sub(others)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handshakes_take_what_sessions_leave() {
        let limits = |connections| Limits { connections, ..Limits::default() };
        let room = [(256, 3), (67, 3), (66, 3), (20, 3), (19, 3), (3, 3)];
        assert_eq!(room.map(|(all, others)| limits(all).handshakes(others)), [64, 64, 63, 17, 16, 1]);
    }
}

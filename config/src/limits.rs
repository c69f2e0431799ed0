//! The bounds a node's operator may choose, each within a bound of its own.

use minidlt_protocol::{
    limits::{MAX_BULK_TRANSACTION_BYTES, MAX_MEMBERS, MEMPOOL_BYTES, MEMPOOL_TRANSACTIONS, MEMPOOL_USER_SHARE},
    mempool::Bounds,
};

use crate::{
    error::Problem,
    raw::{RawLimits, RawMempool},
};

/// Most connections with other nodes that a node may be told to hold; enough for any genesis.
pub const MAX_SESSIONS: u64 = 16_384;
/// Connections there must be room for besides one a node of the genesis: handshakes of those who
/// connect, of which one source may have a quarter.
pub const MIN_HANDSHAKES: u64 = 16;
/// Most API requests a node may be told to serve at once.
pub const MAX_REQUESTS: u64 = 65_536;
/// Most event streams a node may be told to serve at once.
pub const MAX_SUBSCRIBERS: u64 = 16_384;
/// A mempool must take any one transaction within one user's share of it.
pub const MIN_MEMPOOL_BYTES: u64 = (MAX_BULK_TRANSACTION_BYTES * MEMPOOL_USER_SHARE) as u64;

const _: () = assert!(MIN_MEMPOOL_BYTES <= MEMPOOL_BYTES as u64);
const _: () = assert!(MAX_MEMBERS as u64 + MIN_HANDSHAKES <= MAX_SESSIONS);

/// What a node holds at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections with other nodes: sessions, and handshakes of those who connect.
    pub sessions: usize,
    /// API requests in flight.
    pub requests: usize,
    /// Websocket subscribers.
    pub subscribers: usize,
    /// Transactions waiting.
    pub mempool: Bounds,
}

impl Default for RawLimits {
    fn default() -> Self {
        Self {
            sessions: 256,
            requests: 1_024,
            subscribers: 256,
            mempool: RawMempool { transactions: MEMPOOL_TRANSACTIONS as u64, bytes: MEMPOOL_BYTES as u64 },
        }
    }
}

impl RawLimits {
    /// The limits, or the key that is out of bounds. `peers`: the genesis' other nodes.
    pub(crate) fn check(&self, peers: usize) -> Result<Limits, (&'static str, Problem)> {
        let least_sessions = peers as u64 + MIN_HANDSHAKES;
        let limits = Limits {
            sessions: within("limits.sessions", self.sessions, 1, MAX_SESSIONS)?,
            requests: within("limits.requests", self.requests, 1, MAX_REQUESTS)?,
            subscribers: within("limits.subscribers", self.subscribers, 1, MAX_SUBSCRIBERS)?,
            mempool: Bounds {
                transactions: within(
                    "limits.mempool.transactions",
                    self.mempool.transactions,
                    1,
                    MEMPOOL_TRANSACTIONS as u64,
                )?,
                bytes: within("limits.mempool.bytes", self.mempool.bytes, MIN_MEMPOOL_BYTES, MEMPOOL_BYTES as u64)?,
            },
        };
        if self.sessions < least_sessions {
            let problem = Problem::FewSessions { value: self.sessions, peers: peers as u64, least: least_sessions };
            return Err(("limits.sessions", problem));
        }
        Ok(limits)
    }
}

fn within(key: &'static str, value: u64, least: u64, most: u64) -> Result<usize, (&'static str, Problem)> {
    if (least..=most).contains(&value) {
        usize::try_from(value).map_err(|_| (key, Problem::Bound { value, least, most }))
    } else {
        Err((key, Problem::Bound { value, least, most }))
    }
}

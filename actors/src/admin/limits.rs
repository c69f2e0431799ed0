//! The bounds of the API, each with its reason. Of those marked ¼ each caller, by the identity in its
//! certificate, has a quarter and no more, so that one member cannot keep the others out: beyond its
//! own share it is told so, with 429 unless another status is given.
//!
//! | bound | default | why, and what happens beyond it |
//! |---|---|---|
//! | `workers` | 2 | threads that serve requests; work that takes long goes to blocking threads |
//! | `blocking_threads` | 8 | a worker's, for what reads or encodes much: pages in memory at once; more wait |
//! | `connections_per_worker` | 512 | file descriptors; more wait in the kernel's backlog |
//! | connections from one source | ¼ of all | an IPv4 address or an IPv6 /64: closed at once |
//! | `handshakes_per_worker` | 64 | TLS handshakes at once, each costs CPU; more wait |
//! | [`STREAM_WINDOW_BYTES`], [`CONNECTION_WINDOW_BYTES`] | 256 KiB, 512 KiB | HTTP/2: come, not read yet; it waits |
//! | `requests` ¼ | 1,024 | under way, HTTP/2 streams included, until their answers are taken: 429 |
//! | [`REFUSALS`] | 64 | answers that say so, on their way at once; more have no body, but `Retry-After` |
//! | `answers_bytes` ¼ | 256 MiB | of answers larger than [`SMALL_ANSWER_BYTES`] that were not taken yet: 429 |
//! | `body_bytes` | 8 MiB | one request's body: 413, before it is read where its length is told |
//! | `bodies_bytes` ¼ | 64 MiB | what has come of all bodies; a new one waits half of `body_time` for room: 429 |
//! | `batch` | 10,000 | transactions in one request, as many as a block holds: 413 |
//! | `waiters` ¼ | 512 | requests that wait for a commit: 429, before anything is submitted |
//! | [`WAITED_TRANSACTIONS`] | 1,000 | in a request that waits, looked up after each block: 413, as for `waiters` |
//! | `max_wait` | 60 s | the longest such wait: 400 |
//! | `subscribers` ¼ | 256 | event streams: 503, also beyond a share |
//! | `frame_time` | 10 s | for a subscriber to take one frame, or a ping: closed with 1008 |
//! | [`REPLAYS`] | 16, a caller ¼ | frames of old or large blocks in memory, each a stream's own; other streams wait |
//! | [`PAGES`] | 8, a caller ¼ | pages of blocks being made; other requests wait |
//! | `ask_time` | 5 s | for another part of the node to answer a question: 503 |
//! | `head_time` | 5 s | for a request's head to come: 408 |
//! | `body_time` | 30 s | for a request's body to come: 408 |
//! | `keep_alive` | 75 s | of an idle connection: closed |
//! | `write_time` | 30 s | that sent bytes stay unacknowledged, or the peer's window closed: dropped |
//! | [`PAGE_BLOCKS`], [`PAGE_BYTES`] | 100, 8 MiB | blocks in one answer, whichever comes first; more on the next page |
//! | [`PAGE_CHANGES`] | 20 | of an entry in one answer, a block read for each; takes a turn of [`PAGES`]: 400 |
//! | [`MESSAGE_BYTES`] | 1,024 | an administrator's text to all nodes: 413 |
//! | [`PREPARATION_BYTES`] | 2 MiB | JSON of a transaction to prepare, twice the largest's own bytes: 413 |
//! | [`EXPLANATION_BYTES`] | 256 KiB | JSON of a signed change to explain, room for the largest's 64 KiB and all signatures: 413 |
//! | [`PREPARATIONS`] | 2 | at once, as JSON taken apart may need 100 times its bytes; more wait |
//! | [`PREPARATION_WAIT`] | 1 s | for a turn to prepare: 429 |
//! | [`PREPARATIONS_A_CALLER`] | 4 | of one caller, with those that wait for a turn: 429 |
//! | [`SMALL_BODY_BYTES`] | 64 KiB | bodies of administrators' requests: 413 |
//! | [`EVENT_MESSAGE_BYTES`] | 4 KiB | what a subscriber may send, which is control frames only: closed |
//! | head of a request | 128 KiB, 96 headers | fixed in actix-http: 400 or 431 |
//! | linger | 2 s | for a caller refused before its body was read to read why: closed |
//! | shut-down | 5 s | for requests under way to be answered: dropped |
//! | backlog | 1,024 | connections not yet accepted: the kernel makes them wait |

use std::time::Duration;

use minidlt_protocol::limits::{MAX_BULK_TRANSACTION_BYTES, MAX_TRANSACTION_BYTES};

/// What one node's API takes on; see the table above.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub workers: usize,
    pub blocking_threads: usize,
    pub connections_per_worker: usize,
    pub handshakes_per_worker: usize,
    pub requests: usize,
    pub answers_bytes: usize,
    pub body_bytes: usize,
    pub bodies_bytes: usize,
    pub batch: usize,
    pub waiters: usize,
    pub max_wait: Duration,
    pub subscribers: usize,
    pub frame_time: Duration,
    pub ask_time: Duration,
    pub head_time: Duration,
    pub body_time: Duration,
    pub keep_alive: Duration,
    pub write_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            workers: 2,
            blocking_threads: 8,
            connections_per_worker: 512,
            handshakes_per_worker: 64,
            requests: 1_024,
            answers_bytes: 256 << 20,
            body_bytes: 8 << 20,
            bodies_bytes: 64 << 20,
            batch: 10_000,
            waiters: 512,
            max_wait: Duration::from_secs(60),
            subscribers: 256,
            frame_time: Duration::from_secs(10),
            ask_time: Duration::from_secs(5),
            head_time: Duration::from_secs(5),
            body_time: Duration::from_secs(30),
            keep_alive: Duration::from_secs(75),
            write_time: Duration::from_secs(30),
        }
    }
}

pub const STREAM_WINDOW_BYTES: u32 = 256 << 10;
pub const CONNECTION_WINDOW_BYTES: u32 = 512 << 10;
pub const REFUSALS: usize = 64;
pub const SMALL_ANSWER_BYTES: u64 = 64 << 10;
pub const REPLAYS: usize = 16;
pub const PAGES: usize = 8;
pub const PAGE_BLOCKS: u64 = 100;
pub const PAGE_BYTES: usize = 8 << 20;
pub const PAGE_CHANGES: usize = 20;
pub const MESSAGE_BYTES: usize = 1_024;
pub const WAITED_TRANSACTIONS: usize = 1_000;
pub const PREPARATION_BYTES: usize = 2 * MAX_BULK_TRANSACTION_BYTES;
pub const EXPLANATION_BYTES: usize = 4 * MAX_TRANSACTION_BYTES;
pub const PREPARATIONS: usize = 2;
pub const PREPARATIONS_A_CALLER: usize = 4;
pub const PREPARATION_WAIT: Duration = Duration::from_secs(1);
pub const SMALL_BODY_BYTES: usize = 64 << 10;
pub const EVENT_MESSAGE_BYTES: usize = 4 << 10;

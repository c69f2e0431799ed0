//! Sending what is due, and noting when each transaction was committed.
//!
//! Commit times are those at which one node's stream of events told of the block, which is after
//! the block was on that node's disk.

use std::{
    cell::RefCell,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use actix_rt::time::{sleep, sleep_until, timeout};
use minidlt_protocol::types::Height;
use tokio::sync::{Notify, Semaphore};

use super::{WARM_UP, error::BenchError, pace::Pace, presign::Presigned, process::Usage, reached::Tracker};
use crate::client::{
    ClientError, NodeClient,
    answers::{CommittedIds, State, SubmittedEntry},
    events::{Events, View},
};

/// Requests under way at once, over all nodes: a few connections each.
const MAX_REQUESTS: usize = 32;
/// How long what was sent may still be committed after the load has ended.
const DRAIN: Duration = Duration::from_secs(10);
/// How long the stream of events may be away.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a process had used at the start of the measured time, halfway, and at its end.
#[derive(Debug, Clone, Copy, Default)]
pub struct Used {
    pub before: Usage,
    pub halfway: Usage,
    pub after: Usage,
}

/// What was seen, all times counted from the beginning of the load.
#[derive(Debug, Default)]
pub struct Measured {
    /// The measured time.
    pub from: Duration,
    pub to: Duration,
    /// One for each transaction sent, in order.
    pub sent: Vec<Sent>,
    /// Blocks committed in the measured time.
    pub blocks: Vec<BlockSeen>,
    pub records_per_transaction: usize,
    /// Of each node.
    pub nodes: Vec<Used>,
    pub client: Used,
    /// Why requests failed or transactions were refused, the first time.
    pub complaint: Option<String>,
    /// All that was signed had been sent before the end, and more was wanted.
    pub ran_out: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sent {
    /// From when its latency counts.
    pub from: Duration,
    pub fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fate {
    UnderWay,
    Committed(Duration),
    Refused,
    /// The request failed, so nobody knows.
    Unanswered,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockSeen {
    pub transactions: usize,
    pub bytes: usize,
}

/// What to send, and how.
pub struct Load {
    pub presigned: Presigned,
    pub pace: Pace,
    /// Measured, after the warm-up.
    pub duration: Duration,
    pub tracker: Tracker,
}

struct Shared {
    began: Instant,
    presigned: Presigned,
    tracker: Tracker,
    measured: RefCell<Measured>,
    under_way: RefCell<usize>,
    /// Something was settled, so more may be due.
    settled: Notify,
}

/// Loads `nodes`, whose chain is `head` high, for the warm-up and the measured time after it.
pub async fn run(nodes: Vec<NodeClient>, head: Height, load: Load, pids: &[u32]) -> Result<Measured, BenchError> {
    let Load { presigned, pace, duration, tracker } = load;
    let events = Events::new(nodes.clone(), View::Ids, Some(head.next())).with_patience(PATIENCE);
    let measured = Measured {
        from: WARM_UP,
        to: WARM_UP + duration,
        records_per_transaction: presigned.records_per_transaction,
        ..Measured::default()
    };
    let shared = Rc::new(Shared {
        began: Instant::now(),
        presigned,
        tracker,
        measured: RefCell::new(measured),
        under_way: RefCell::new(0),
        settled: Notify::new(),
    });
    let watching = actix_rt::spawn(watch(shared.clone(), events));
    let usage = actix_rt::spawn(sample(shared.clone(), pids.to_vec()));
    send_all(&shared, &nodes, pace).await;
    // Aborted or panicked, neither of which happens here, there would be no samples.
    let _ = usage.await;

    let deadline = Instant::now() + DRAIN;
    while *shared.under_way.borrow() > 0 && !watching.is_finished() {
        if timeout(deadline.saturating_duration_since(Instant::now()), shared.settled.notified()).await.is_err() {
            break;
        }
    }
    if watching.is_finished() {
        if let Ok(Err(error)) = watching.await {
            return Err(error.into());
        }
    } else {
        watching.abort();
    }
    Ok(shared.measured.take())
}

async fn send_all(shared: &Rc<Shared>, nodes: &[NodeClient], pace: Pace) {
    let requests = Arc::new(Semaphore::new(MAX_REQUESTS));
    let total = shared.presigned.transactions.len();
    let end = shared.measured.borrow().to;
    let mut nodes = nodes.iter().cycle();
    let mut next = 0;
    loop {
        let now = shared.now();
        if now >= end {
            return;
        }
        if next >= total {
            shared.measured.borrow_mut().ran_out = pace.wants_more(end, total);
            sleep_until((shared.began + end).into()).await;
            return;
        }
        let due = pace.due(now, next, *shared.under_way.borrow()).min(total - next);
        if due == 0 {
            tokio::select! {
                () = sleep(pace.idle(now, next)) => {}
                () = shared.settled.notified(), if matches!(pace, Pace::Closed { .. }) => {}
            }
            continue;
        }
        // Never fails: the semaphore is not closed.
        let (Ok(permit), Some(node)) = (requests.clone().acquire_owned().await, nodes.next()) else { return };
        let now = shared.now();
        let sent = (next..next + due).map(|number| Sent { from: pace.counts_from(number, now), fate: Fate::UnderWay });
        shared.measured.borrow_mut().sent.extend(sent);
        shared.tracker.submitted(due);
        *shared.under_way.borrow_mut() += due;
        let (shared, node) = (shared.clone(), node.clone());
        actix_rt::spawn(async move {
            shared.send(&node, next..next + due).await;
            drop(permit);
        });
        next += due;
    }
}

impl Shared {
    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    async fn send(&self, node: &NodeClient, range: std::ops::Range<usize>) {
        let sequence = self.presigned.transactions[range.clone()].iter().flat_map(|bytes| bytes.as_slice()).copied();
        match node.submit(sequence.collect()).await {
            Ok(submitted) => {
                for (number, SubmittedEntry { status, problem }) in range.zip(submitted.transactions) {
                    if status.is_none_or(|status| matches!(status, State::Rejected | State::Dumped)) {
                        self.settle(number, Fate::Refused);
                        self.complain(|| problem.map_or_else(|| "refused".into(), |problem| problem.to_string()));
                    }
                }
            }
            Err(error) => {
                let refused = matches!(error, ClientError::Refused { .. });
                let fate = if refused { Fate::Refused } else { Fate::Unanswered };
                range.for_each(|number| self.settle(number, fate));
                self.complain(|| error.to_string());
            }
        }
    }

    /// The first word on a transaction counts, unless it was that nobody knows.
    fn settle(&self, number: usize, fate: Fate) {
        let mut measured = self.measured.borrow_mut();
        let Some(sent) = measured.sent.get_mut(number) else { return };
        match sent.fate {
            Fate::UnderWay => {
                *self.under_way.borrow_mut() -= 1;
                sent.fate = fate;
                self.settled.notify_one();
            }
            Fate::Unanswered => sent.fate = fate,
            Fate::Committed(_) | Fate::Refused => return,
        }
        match fate {
            Fate::Committed(_) => self.tracker.committed(),
            Fate::Refused => self.tracker.refused(),
            Fate::UnderWay | Fate::Unanswered => {}
        }
    }

    fn complain(&self, what: impl FnOnce() -> String) {
        self.measured.borrow_mut().complaint.get_or_insert_with(what);
    }

    fn on_block(&self, block: &CommittedIds) {
        let now = self.now();
        let mut seen = BlockSeen { transactions: block.ids.len(), bytes: 0 };
        for id in &block.ids {
            if let Some(number) = self.presigned.places.get(id) {
                seen.bytes += self.presigned.transactions[*number].as_slice().len();
                self.settle(*number, Fate::Committed(now));
            }
        }
        let mut measured = self.measured.borrow_mut();
        if measured.from <= now && now < measured.to {
            measured.blocks.push(seen);
        }
    }
}

async fn watch(shared: Rc<Shared>, mut events: Events) -> Result<(), ClientError> {
    loop {
        let event = events.next().await?;
        let block = serde_json::from_str(&event.text)
            .map_err(|error| ClientError::Unexpected { url: "the stream of events".into(), what: error.to_string() })?;
        shared.on_block(&block);
    }
}

/// Notes what all have used at both ends of the measured time, and halfway.
async fn sample(shared: Rc<Shared>, pids: Vec<u32>) {
    let (from, to) = (shared.measured.borrow().from, shared.measured.borrow().to);
    let all = || pids.iter().copied().map(Usage::of).chain([Usage::own()]).collect::<Vec<_>>();
    let mut samples = Vec::new();
    for at in [from, (from + to) / 2, to] {
        sleep_until((shared.began + at).into()).await;
        samples.push(all());
    }
    let used = |process| Used { before: samples[0][process], halfway: samples[1][process], after: samples[2][process] };
    let mut measured = shared.measured.borrow_mut();
    measured.nodes = (0..pids.len()).map(used).collect();
    measured.client = used(pids.len());
}

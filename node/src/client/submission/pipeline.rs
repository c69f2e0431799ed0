//! The loop between the signing thread and the nodes.
//!
//! | input | what it does |
//! |---|---|
//! | signed transactions | sent in batches, while few enough are under way |
//! | a node's answer | each is accepted, committed, refused for ever, or to be sent again |
//! | a committed block | its transactions are done; what expired before it is dumped, and a node is asked why |
//! | a tick | progress; what has waited long is asked about, and sent again where it was lost |
//! | a signal | the end, with what is known until then |

mod overdue;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    time::{Duration, Instant},
};

use actix_rt::time::{interval, sleep_until};
use futures_util::{FutureExt as _, StreamExt as _, future::LocalBoxFuture, stream::FuturesUnordered};
use minidlt_protocol::{
    limits::{MEMPOOL_TRANSACTIONS, MEMPOOL_USER_SHARE},
    types::{Hash, Height, Identity, Timestamp},
};
use tokio::sync::mpsc;

use super::{signing::Prepared, source::Signed, tally::Tally};
use crate::{
    client::{
        answers::{CommittedIds, State, Submitted, SubmittedEntry, TransactionStatus},
        api::NodeClient,
        error::{ClientError, Problem},
        events::{Event, Events, View},
        progress::Progress,
        time::rfc3339,
    },
    interrupt::{Interrupts, Signal},
};

const MAX_BATCH_TRANSACTIONS: usize = 500;
/// One bulk transaction fits.
const MAX_BATCH_BYTES: usize = 1 << 20;
const MAX_POSTS: usize = 4;
/// Half a user's share of a mempool, so that a second run of the same user has room.
const MAX_OUTSTANDING: usize = MEMPOOL_TRANSACTIONS / MEMPOOL_USER_SHARE / 2;
const MAX_OUTSTANDING_BYTES: usize = 64 << 20;
const TICK: Duration = Duration::from_millis(500);
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long to go on without the stream of events.
const PATIENCE: Duration = Duration::from_secs(120);
/// So many failures in a row, over more than half a minute, are the end.
const MAX_FAILURES: u32 = 12;
/// So many rejections are told in full, and so many that are undecided at the end.
const MAX_TOLD: u64 = 10;

#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Go on until each is committed, rejected or dumped.
    pub wait: bool,
    /// Show each block as it commits.
    pub blocks: bool,
    /// Keep so many ids of what was accepted or committed, the first ones.
    pub keep_ids: usize,
}

/// What came of it all.
#[derive(Debug, Default)]
pub struct Outcome {
    pub tally: Tally,
    pub ids: Vec<Hash>,
    /// Whose acceptance was missing when what was dumped expired.
    pub missing: BTreeSet<Identity>,
    /// Why not all of the input was read. What came before it was brought to its end.
    pub input_error: Option<ClientError>,
    /// Why it ended early; the tally still holds.
    pub error: Option<ClientError>,
    /// What told it to end early; the tally still holds.
    pub interrupted: Option<Signal>,
}

struct Waiting {
    prepared: Prepared,
    /// Whether a node may have it.
    sent: bool,
    /// When a node took it.
    accepted: Option<Instant>,
}

type EventsReceiver = mpsc::Receiver<Result<Event, ClientError>>;
type Post = (Vec<Hash>, Result<Submitted, ClientError>);

struct Pipeline<'a> {
    options: Options,
    nodes: Vec<NodeClient>,
    /// The node to send to.
    at: usize,
    progress: &'a mut Progress,
    outcome: Outcome,
    waiting: HashMap<Hash, Waiting>,
    waiting_bytes: usize,
    /// In `waiting`, to be sent.
    ready: VecDeque<Hash>,
    posts: FuturesUnordered<LocalBoxFuture<'static, Post>>,
    not_before: Instant,
    failures: u32,
    /// The time of the last block seen.
    ledger_time: Timestamp,
    last_news: Instant,
    question: FuturesUnordered<LocalBoxFuture<'static, (Hash, Result<TransactionStatus, ClientError>)>>,
    told: u64,
    /// Who had not accepted what waits when a node was last asked, in words.
    last_missing: String,
}

/// Sends everything `source` gives to the first of `nodes` that answers; there must be one. `head` is
/// a height of the chain from before anything was sent.
pub async fn submit_all(
    nodes: Vec<NodeClient>,
    head: Height,
    mut source: mpsc::Receiver<Signed>,
    options: Options,
    interrupts: &mut Interrupts,
    progress: &mut Progress,
) -> Outcome {
    let mut events = options.wait.then(|| {
        let events = Events::new(nodes.clone(), View::Ids, Some(head.next()));
        events.with_patience(PATIENCE).spawn()
    });
    let mut pipeline = Pipeline::new(nodes, options, progress);
    let mut tick = interval(TICK);
    let mut source_open = true;
    while (source_open || !pipeline.waiting.is_empty()) && !pipeline.is_ended() {
        pipeline.send_ready();
        let may_send = !pipeline.ready.is_empty() && pipeline.posts.len() < MAX_POSTS;
        let mut arrived = Vec::new();
        tokio::select! {
            count = source.recv_many(&mut arrived, MAX_BATCH_TRANSACTIONS), if source_open && pipeline.has_room() => {
                source_open = count > 0;
                arrived.into_iter().for_each(|signed| pipeline.take(signed));
            }
            Some((ids, answer)) = pipeline.posts.next() => pipeline.on_answer(&ids, answer),
            event = next_event(&mut events) => pipeline.on_event(event),
            Some((id, answer)) = pipeline.question.next() => pipeline.on_status(&id, answer),
            () = sleep_until(pipeline.not_before.into()), if may_send => {}
            _ = tick.tick() => pipeline.on_tick(),
            signal = interrupts.next() => pipeline.outcome.interrupted = Some(signal),
        }
    }
    pipeline.finish()
}

async fn next_event(events: &mut Option<EventsReceiver>) -> Result<CommittedIds, ClientError> {
    let event = match events {
        None => std::future::pending().await,
        Some(events) => events.recv().await,
    };
    let unexpected = |what: String| ClientError::Unexpected { url: "the stream of events".into(), what };
    let text = event.ok_or_else(|| unexpected("it ended".into()))??.text;
    serde_json::from_str(&text).map_err(|error| unexpected(error.to_string()))
}

impl<'a> Pipeline<'a> {
    fn new(nodes: Vec<NodeClient>, options: Options, progress: &'a mut Progress) -> Self {
        Self {
            options,
            nodes,
            at: 0,
            progress,
            outcome: Outcome::default(),
            waiting: HashMap::new(),
            waiting_bytes: 0,
            ready: VecDeque::new(),
            posts: FuturesUnordered::new(),
            not_before: Instant::now(),
            failures: 0,
            ledger_time: Timestamp::default(),
            last_news: Instant::now(),
            question: FuturesUnordered::new(),
            told: 0,
            last_missing: String::new(),
        }
    }

    fn is_ended(&self) -> bool {
        self.outcome.error.is_some() || self.outcome.interrupted.is_some()
    }

    fn has_room(&self) -> bool {
        self.waiting.len() < MAX_OUTSTANDING && self.waiting_bytes < MAX_OUTSTANDING_BYTES
    }

    fn take(&mut self, signed: Signed) {
        match signed {
            Ok(prepared) => {
                self.outcome.tally.signed += prepared.records as u64;
                self.waiting_bytes += prepared.bytes.as_slice().len();
                self.ready.push_back(prepared.id);
                self.waiting.insert(prepared.id, Waiting { prepared, sent: false, accepted: None });
            }
            Err(error) => self.outcome.input_error = Some(error),
        }
    }

    fn send_ready(&mut self) {
        while self.posts.len() < MAX_POSTS && Instant::now() >= self.not_before {
            let (mut ids, mut sequence) = (Vec::new(), Vec::new());
            while let Some(waiting) = self.ready.front().map(|id| self.waiting.get(id)) {
                // What was committed while it waited to be sent again is gone.
                let Some(Waiting { prepared, .. }) = waiting else {
                    self.ready.pop_front();
                    continue;
                };
                let bytes = prepared.bytes.as_slice();
                let full = ids.len() >= MAX_BATCH_TRANSACTIONS || sequence.len() + bytes.len() > MAX_BATCH_BYTES;
                if full && !ids.is_empty() {
                    break;
                }
                sequence.extend_from_slice(bytes);
                ids.push(prepared.id);
                self.ready.pop_front();
            }
            let (false, Some(node)) = (ids.is_empty(), self.nodes.get(self.at).cloned()) else { return };
            ids.iter().for_each(|id| self.mark_sent(id));
            self.posts.push(async move { (ids, node.submit(sequence).await) }.boxed_local());
        }
    }

    fn mark_sent(&mut self, id: &Hash) {
        if let Some(waiting) = self.waiting.get_mut(id) {
            waiting.sent = true;
        }
    }

    fn on_answer(&mut self, ids: &[Hash], answer: Result<Submitted, ClientError>) {
        match answer {
            Ok(submitted) if submitted.transactions.len() == ids.len() => {
                self.failures = 0;
                ids.iter().zip(submitted.transactions).for_each(|(id, entry)| self.on_entry(id, entry));
            }
            Ok(submitted) => {
                let what = format!("{} entries for {} transactions", submitted.transactions.len(), ids.len());
                self.outcome.error = Some(ClientError::Unexpected { url: self.node_name(), what });
            }
            Err(error) if error.is_transient() => self.send_again(ids, error),
            Err(error) => self.outcome.error = Some(error),
        }
    }

    fn send_again(&mut self, ids: &[Hash], error: ClientError) {
        ids.iter().rev().for_each(|id| self.ready.push_front(*id));
        // Several requests that fail together are one failure.
        let first = Instant::now() >= self.not_before;
        let unreachable = matches!(error, ClientError::Unreachable { .. });
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(5)).min(LONGEST_PAUSE);
        self.pause(error.retry_after().unwrap_or(pause));
        if !unreachable || !first {
            return;
        }
        self.failures += 1;
        if self.failures >= MAX_FAILURES {
            self.outcome.error = Some(error);
        } else {
            self.progress.note(&format!("{error}; trying again"));
            self.at = (self.at + 1) % self.nodes.len().max(1);
        }
    }

    fn pause(&mut self, pause: Duration) {
        self.not_before = self.not_before.max(Instant::now() + pause);
    }

    fn on_entry(&mut self, id: &Hash, entry: SubmittedEntry) {
        match (entry.status, entry.problem) {
            (Some(State::Committed), _) => self.committed(id),
            (Some(State::Pending), _) => self.accepted(id),
            (Some(State::Rejected), problem) => self.rejected(id, problem.as_ref()),
            (Some(State::Dumped), _) => self.dumped(id, ""),
            (None, Some(problem)) => match problem.kind() {
                "already-pending" => self.accepted(id),
                "already-committed" => self.committed(id),
                _ if problem.is_transient() => {
                    self.ready.push_back(*id);
                    self.pause(Duration::from_secs(1));
                }
                _ => self.rejected(id, Some(&problem)),
            },
            (None, None) => self.rejected(id, None),
        }
    }

    fn accepted(&mut self, id: &Hash) {
        let Some(waiting) = self.waiting.get_mut(id) else { return };
        let again = waiting.accepted.replace(Instant::now()).is_some();
        if !again {
            self.outcome.tally.accepted += waiting.prepared.records as u64;
        }
        if !self.options.wait {
            self.outcome.tally.pending += self.remove(id).map_or(0, |waiting| waiting.prepared.records as u64);
            self.keep_id(id);
        }
    }

    fn committed(&mut self, id: &Hash) {
        let Some(waiting) = self.remove(id) else { return };
        let records = waiting.prepared.records as u64;
        self.outcome.tally.accepted += if waiting.accepted.is_none() { records } else { 0 };
        self.outcome.tally.committed += records;
        self.last_news = Instant::now();
        self.keep_id(id);
    }

    fn rejected(&mut self, id: &Hash, problem: Option<&Problem>) {
        let Some(waiting) = self.remove(id) else { return };
        self.outcome.tally.rejected += waiting.prepared.records as u64;
        let reason = problem.map_or_else(|| "no reason given".into(), Problem::to_string);
        self.tell(&format!("rejected {id}: {reason}"));
    }

    fn dumped(&mut self, id: &Hash, why: &str) {
        let Some(waiting) = self.remove(id) else { return };
        self.outcome.tally.dumped += waiting.prepared.records as u64;
        let expired = rfc3339(waiting.prepared.expires);
        // However many they are: which ones is told nowhere else.
        self.progress.note(&format!("dumped {id}: it expired at {expired}, and no block up to then holds it{why}"));
    }

    fn tell(&mut self, text: &str) {
        self.told += 1;
        if self.told <= MAX_TOLD {
            self.progress.note(text);
        } else if self.told == MAX_TOLD + 1 {
            self.progress.note("… and more of the kind");
        }
    }

    fn remove(&mut self, id: &Hash) -> Option<Waiting> {
        let waiting = self.waiting.remove(id)?;
        self.waiting_bytes -= waiting.prepared.bytes.as_slice().len();
        Some(waiting)
    }

    fn keep_id(&mut self, id: &Hash) {
        if self.outcome.ids.len() < self.options.keep_ids {
            self.outcome.ids.push(*id);
        }
    }

    fn on_event(&mut self, event: Result<CommittedIds, ClientError>) {
        match event {
            Ok(block) => {
                if self.options.blocks {
                    self.progress.print(&block.to_string());
                }
                self.ledger_time = self.ledger_time.max(block.created);
                block.ids.iter().for_each(|id| self.committed(id));
                self.dump_expired();
            }
            Err(error) => self.outcome.error = Some(error),
        }
    }

    fn node_name(&self) -> String {
        self.nodes.get(self.at).map(|node| node.url().to_string()).unwrap_or_default()
    }

    /// No more is waited for it: undecided if a node may have it, known not to be sent otherwise.
    fn give_up(&mut self, id: &Hash) -> Option<Waiting> {
        let waiting = self.remove(id)?;
        let tally = &mut self.outcome.tally;
        let count = if waiting.sent { &mut tally.undecided } else { &mut tally.unsent };
        *count += waiting.prepared.records as u64;
        Some(waiting)
    }

    fn finish(mut self) -> Outcome {
        self.progress.finish();
        let left: Vec<Hash> = self.waiting.keys().copied().collect();
        let mut undecided = 0;
        for id in left {
            if self.give_up(&id).is_some_and(|waiting| waiting.sent) {
                undecided += 1;
                if undecided <= MAX_TOLD {
                    self.progress.note(&format!("undecided {id}"));
                }
            }
        }
        if undecided > MAX_TOLD {
            self.progress.note(&format!("… and {} undecided transactions more", undecided - MAX_TOLD));
        }
        self.outcome
    }
}

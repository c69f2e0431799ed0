//! Clients that submit transactions as users do, without pause and whatever happens to the nodes, and
//! that forget nothing they heard.
//!
//! A client tries each gateway in turn. One who heard nothing, or only that a transaction was taken,
//! submits the same bytes again later, until it knows what became of it.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle, sleep},
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    Author, Client, Cluster,
    memory::{Fate, Memory},
    process::PATIENCE,
};

/// How long a client waits for a commit before it does something else.
const WAIT: Duration = Duration::from_millis(500);
/// How long before it asks again after a transaction that it is unsure of.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// How long it leaves alone a gateway that does not answer.
const LEAVE_ALONE: Duration = Duration::from_secs(1);
/// Transactions of unknown fate that a client may have: with more it makes no new ones.
const MOST_UNSURE: usize = 200;

/// How much is submitted.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub clients: usize,
    /// Of all clients together; fewer where nodes do not answer.
    pub per_second: u32,
    /// Of all clients together.
    pub most: u64,
    /// The nodes it goes through; none are all.
    pub through: &'static [usize],
}

impl Default for Plan {
    /// What leaves room on two cores for eight nodes.
    fn default() -> Self {
        Self { clients: 4, per_second: 30, most: 100_000, through: &[] }
    }
}

/// A running load.
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<Memory>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    made: AtomicU64,
    known: AtomicU64,
}

impl Load {
    /// Begins to submit as the user `trader`.
    pub fn start(cluster: &Cluster, plan: Plan) -> Self {
        let shared = Arc::new(Shared::default());
        let clients = (0..plan.clients).map(|k| Submitter::new(cluster, plan, k, shared.clone()));
        Self { clients: clients.map(|client| thread::spawn(move || client.run())).collect(), shared }
    }

    /// How many transactions it knows the fate of by now.
    pub fn known(&self) -> u64 {
        self.shared.known.load(Ordering::Relaxed)
    }

    /// Makes no new transactions, waits until the fate of each is known, and tells.
    pub fn finish(mut self) -> Memory {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut memory = Memory::default();
        for client in self.clients.drain(..) {
            memory.add(client.join().expect("the client ends: see above"));
        }
        memory
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

struct Gateway {
    client: Client,
    leave_alone_until: Instant,
}

struct Unsure {
    id: String,
    bytes: Vec<u8>,
    ask_at: Instant,
}

struct Submitter {
    way_in: Option<crate::WayIn>,
    author: Author,
    plan: Plan,
    /// Which of the clients it is: their nonces, and so their transactions, differ.
    number: usize,
    shared: Arc<Shared>,
    gateways: Vec<Gateway>,
    next_gateway: usize,
    unsure: VecDeque<Unsure>,
    memory: Memory,
}

impl Submitter {
    fn new(cluster: &Cluster, plan: Plan, number: usize, shared: Arc<Shared>) -> Self {
        let gateway = |node| Gateway { client: Client::new(cluster, node, USER), leave_alone_until: Instant::now() };
        let through = if plan.through.is_empty() { (0..cluster.size()).collect() } else { plan.through.to_vec() };
        Self {
            way_in: cluster.client_way_in(),
            author: Author::of(cluster, USER),
            plan,
            number,
            shared,
            gateways: through.into_iter().map(gateway).collect(),
            next_gateway: number,
            unsure: VecDeque::new(),
            memory: Memory::default(),
        }
    }

    fn run(mut self) -> Memory {
        if let Some(way_in) = &self.way_in {
            way_in.enter();
        }
        let pace = Duration::from_secs(1) * self.plan.clients as u32 / self.plan.per_second;
        let mut next = Instant::now();
        while !self.shared.stop.load(Ordering::Relaxed) {
            // In turns: where each answer is late, new ones would leave no time for the old.
            let asked = self.ask_again();
            let is_time = Instant::now() >= next && self.unsure.len() < MOST_UNSURE;
            if is_time && self.make() {
                // What was missed is not made up for: that would be a flood after each pause.
                next = (next + pace).max(Instant::now());
            } else if !asked {
                sleep(Duration::from_millis(5));
            }
        }
        let since = Instant::now();
        while !self.unsure.is_empty() {
            let first = &self.unsure[0].id;
            assert!(since.elapsed() < PATIENCE, "what became of {} transactions? {first} …", self.unsure.len());
            if !self.ask_again() {
                sleep(Duration::from_millis(5));
            }
        }
        self.memory
    }

    /// Submits a new transaction, unless there were enough of them.
    fn make(&mut self) -> bool {
        let made = self.shared.made.fetch_add(1, Ordering::Relaxed);
        if made >= self.plan.most {
            return false;
        }
        let nonce = made * self.plan.clients as u64 + self.number as u64;
        let body = self.author.body(nonce, &json!({ "client": self.number, "number": made }));
        let (id, bytes) = (self.author.id(&body), self.author.sign(&body));
        self.submit(Unsure { id, bytes, ask_at: Instant::now() });
        true
    }

    /// Submits again the one that waits longest, if it is time to.
    fn ask_again(&mut self) -> bool {
        let is_due = self.unsure.front().is_some_and(|unsure| unsure.ask_at <= Instant::now());
        let due = if is_due { self.unsure.pop_front() } else { None };
        due.map(|unsure| self.submit(unsure)).is_some()
    }

    fn submit(&mut self, unsure: Unsure) {
        let now = Instant::now();
        let gateways = (0..self.gateways.len()).map(|i| (self.next_gateway + i) % self.gateways.len());
        let awake = gateways.clone().find(|i| self.gateways[*i].leave_alone_until <= now);
        let chosen = awake.unwrap_or(self.next_gateway % self.gateways.len());
        self.next_gateway = chosen + 1;
        let gateway = &mut self.gateways[chosen];
        let answer = gateway.client.submit(&unsure.bytes, WAIT);

        let fate: &mut Fate = self.memory.0.entry(unsure.id.clone()).or_default();
        fate.tries += 1;
        match answer {
            Ok((status, body)) => fate.hear(status, &body),
            Err(_) => gateway.leave_alone_until = Instant::now() + LEAVE_ALONE,
        }
        if fate.is_known() {
            self.shared.known.fetch_add(1, Ordering::Relaxed);
        } else {
            self.unsure.push_back(Unsure { ask_at: Instant::now() + ASK_AGAIN, ..unsure });
        }
    }
}

/// Every node is a gateway of this user, whom `init` makes.
const USER: &str = "trader";

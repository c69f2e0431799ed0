//! A cluster under load to which things happen, and how long it takes until a transaction is committed
//! on every node, from the moment on that they were put right.

use std::{
    sync::{
        Arc, Barrier,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use minidlt_integration::{
    Author, Client, Cluster, Fate, Load, Memory, PATIENCE, Plan,
    checker::{self, Verdict},
    figures, until,
};
use serde_json::json;

use crate::apart::ALL;

/// A healed network commits within this time.
pub const BOUND: Duration = Duration::from_secs(2);
/// How long one request waits; less than the API permits.
const WAIT: Duration = Duration::from_secs(5);

/// A cluster of four under load.
pub struct Run {
    pub cluster: Cluster,
    pub load: Load,
    memory: Memory,
    times: Vec<Duration>,
}

impl Run {
    /// Of nodes that are ready.
    pub fn start(cluster: Cluster, plan: Plan) -> Self {
        let load = Load::start(&cluster, plan);
        let run = Self { cluster, load, memory: Memory::default(), times: Vec::new() };
        run.goes_on();
        run
    }

    /// Waits until more of what clients submit is committed.
    pub fn goes_on(&self) {
        let known = self.load.known();
        until("the load is being committed", || self.load.known() > known);
    }

    /// Adds what somebody else was told.
    pub fn remember(&mut self, heard: Memory) {
        self.memory.add(heard);
    }

    pub fn prepare(&self) -> Probe {
        Probe::prepare(&self.cluster, &ALL)
    }

    /// All is well again from now on: how long until a transaction is committed on each node?
    pub fn measure(&mut self, probe: Probe, figure: &str) {
        let (times, heard) = probe.run();
        times.iter().for_each(|time| figures::time(figure, *time));
        self.times.extend(times);
        self.memory.add(heard);
    }

    /// Compares all at the end; each node took no longer than this whenever all was well again.
    pub fn check(mut self, bound: Duration) -> Verdict {
        self.memory.add(self.load.finish());
        let verdict = checker::check(&mut self.cluster, &self.memory);
        let longest = self.times.iter().max().expect("something was put right");
        assert!(*longest <= bound, "commits on every node within {bound:?}: {:?}", self.times);
        verdict
    }
}

/// A transaction that each of some nodes will be given at one moment.
pub struct Probe {
    id: String,
    begin: Arc<Barrier>,
    nodes: Vec<JoinHandle<(Duration, Fate)>>,
}

impl Probe {
    /// Connects with these nodes.
    fn prepare(cluster: &Cluster, nodes: &[usize]) -> Self {
        /// Probes differ, and from what a load submits.
        static NEXT: AtomicU64 = AtomicU64::new(1 << 32);
        let author = Author::of(cluster, "trader");
        let nonce = NEXT.fetch_add(1, Ordering::Relaxed);
        let body = author.body(nonce, &json!({ "probe": nonce }));
        let (id, bytes) = (author.id(&body), author.sign(&body));
        let (ready, begin) = (Arc::new(Barrier::new(nodes.len() + 1)), Arc::new(Barrier::new(nodes.len() + 1)));
        let start = |node: &usize| {
            let (client, way_in) = (Client::new(cluster, *node, "trader"), cluster.client_way_in());
            let (ready, begin, bytes, node) = (ready.clone(), begin.clone(), bytes.clone(), *node);
            thread::spawn(move || {
                if let Some(way_in) = way_in {
                    way_in.enter();
                }
                ask(client, node, &bytes, &ready, &begin)
            })
        };
        let nodes = nodes.iter().map(start).collect();
        ready.wait();
        Self { id, begin, nodes }
    }

    /// Submits to all at once. How long each took until it was committed there, and what was heard.
    fn run(self) -> (Vec<Duration>, Memory) {
        self.begin.wait();
        let mut memory = Memory::default();
        let mut times = Vec::new();
        for node in self.nodes {
            let (time, fate) = node.join().expect("the probe ends: see above");
            times.push(time);
            memory.add(Memory([(self.id.clone(), fate)].into()));
        }
        (times, memory)
    }
}

/// A connection that is open already, where the node can be reached, keeps its making out of the time.
fn ask(mut client: Client, node: usize, bytes: &[u8], ready: &Barrier, begin: &Barrier) -> (Duration, Fate) {
    let _unreached = client.request("GET /v1/status HTTP/1.1\r\n", &[], WAIT);
    ready.wait();
    begin.wait();
    let (since, mut fate) = (Instant::now(), Fate::default());
    while fate.committed.is_empty() {
        assert!(since.elapsed() < PATIENCE, "node {node} has not committed it: {fate:?}");
        if let Ok((status, body)) = client.submit(bytes, WAIT) {
            fate.hear(status, &body);
        }
        fate.tries += 1;
    }
    (since.elapsed(), fate)
}

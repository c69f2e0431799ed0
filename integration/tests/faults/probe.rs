//! How long it takes until a transaction is committed on every node, from the moment on that something
//! was put right.

use std::{
    sync::{
        Arc, Barrier,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use minidlt_integration::{Author, Client, Cluster, Fate, Memory, PATIENCE};
use serde_json::json;

/// A healed network commits within this time.
pub const BOUND: Duration = Duration::from_secs(2);
/// How long one request waits; less than the API permits.
const WAIT: Duration = Duration::from_secs(5);

/// A transaction that each of some nodes will be given at one moment.
pub struct Probe {
    id: String,
    begin: Arc<Barrier>,
    nodes: Vec<JoinHandle<(Duration, Fate)>>,
}

impl Probe {
    /// Connects with these nodes.
    pub fn prepare(cluster: &Cluster, nodes: &[usize]) -> Self {
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
    pub fn run(self) -> (Vec<Duration>, Memory) {
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

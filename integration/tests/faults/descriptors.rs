//! A node that has no file descriptors left, since strangers hold connections with it. It either goes on
//! or stops with one line; nothing it told is lost; and with descriptors again it works with the others.

use std::{
    collections::VecDeque,
    fs,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle, sleep},
    time::Duration,
};

use minidlt_integration::{Author, CBOR, Cluster, Fate, Memory, Mode, Plan, figures, until};
use minidlt_protocol::transaction::{Body, Content, Operation};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::{
    apart::ALL,
    probe::{BOUND, Run},
};

const VICTIM: usize = 3;
const OTHERS: &[usize] = &[0, 1, 2];
/// What RocksDB keeps open at most, and some: too few for all that strangers may have.
const DESCRIPTORS: &str = "320";
/// What the system says then.
const NONE_LEFT: &str = "Too many open files";
/// What strangers hold at once: more than the node has.
const CONNECTIONS: usize = 800;
/// Strangers come from so many addresses, as one alone has only a share.
const SOURCES: usize = 16;
/// A transaction near the largest.
const CONTENTS: usize = 15;
const CONTENT_BYTES: usize = 60_000;
/// So many of them make RocksDB write new files.
const TRANSACTIONS: u64 = 24;

#[test]
fn a_node_without_descriptors_goes_on_or_stops_and_is_whole_again() {
    let mut cluster = Cluster::init(ALL.len(), Mode::Bft);
    OTHERS.iter().for_each(|i| cluster.start_node(*i));
    let limit = format!("--nofile={DESCRIPTORS}");
    cluster.start_node_by(VICTIM, &["prlimit", &limit, "--"]);
    ALL.iter().for_each(|i| cluster.wait_ready(*i));
    let mut run = Run::start(cluster, Plan { through: OTHERS, ..Plan::default() });

    let flood = Flood::start(&run.cluster);
    until("its descriptors are used up", || {
        descriptors(run.cluster.pid(VICTIM)).to_string() == DESCRIPTORS && run.cluster.log(VICTIM).contains(NONE_LEFT)
    });
    let large = commit_much(&run.cluster);
    run.remember(large);
    run.goes_on();
    figures::count("connections_of_strangers", flood.stop());
    match run.cluster.has_ended(VICTIM) {
        None => figures::count("without_descriptors_went_on", 1),
        Some(code) => {
            assert_stopped(&run.cluster, code);
            figures::count("without_descriptors_stopped", 1);
            run.cluster.start_node_by(VICTIM, &["prlimit", &limit, "--"]);
        }
    }
    run.cluster.wait_ready(VICTIM);
    let probe = run.prepare();
    run.measure(probe, "descriptors_freed");
    run.check(BOUND);
}

/// Strangers who connect, say nothing, and connect anew whatever is closed.
struct Flood {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<usize>,
}

impl Flood {
    fn start(cluster: &Cluster) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let ports = [cluster.api_port(VICTIM), cluster.peers_port(VICTIM), cluster.health_port(VICTIM)];
        let until = stop.clone();
        let thread = thread::spawn(move || {
            let (mut held, mut made) = (VecDeque::new(), 0);
            while !until.load(Ordering::Relaxed) {
                let connection = connect(made, ports[made / SOURCES % ports.len()]);
                made += 1;
                if connection.is_none() || held.len() == CONNECTIONS {
                    held.pop_front();
                    // All of them anew within a second or so: faster than the node gives them up.
                    sleep(Duration::from_millis(1));
                }
                held.extend(connection);
            }
            made
        });
        Self { stop, thread }
    }

    /// Closes all; how many there were.
    fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("strangers do not fail")
    }
}

/// From one of the sources.
fn connect(number: usize, port: u16) -> Option<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let source = Ipv4Addr::new(127, 0, 1, 1 + (number % SOURCES) as u8);
    socket.bind(&SocketAddr::new(source.into(), 0).into()).expect("a loopback address");
    let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
    socket.connect_timeout(&address.into(), Duration::from_millis(100)).ok()?;
    Some(socket.into())
}

/// How many a process has.
fn descriptors(process: u32) -> usize {
    fs::read_dir(format!("/proc/{process}/fd")).map_or(0, Iterator::count)
}

/// Has large records committed, through a node that has descriptors.
fn commit_much(cluster: &Cluster) -> Memory {
    let author = Author::of(cluster, "trader");
    let mut memory = Memory::default();
    let contents = vec![Content::from_json(&json!("x".repeat(CONTENT_BYTES))); CONTENTS];
    for nonce in 0..TRANSACTIONS {
        let body = Body { operation: Operation::records(contents.clone()), ..author.body(nonce, &Value::Null) };
        let (bytes, mut fate) = (author.sign(&body), Fate::default());
        until("it is committed", || {
            let answer = cluster.post(0, "trader", "?wait=committed&timeout=10s", CBOR, &bytes);
            fate.hear(answer.status, &answer.body);
            assert_eq!(fate.refused, None);
            !fate.committed.is_empty()
        });
        memory.0.insert(author.id(&body), fate);
    }
    memory
}

/// One line says that it stopped, and why.
fn assert_stopped(cluster: &Cluster, code: i32) {
    let log = cluster.log(VICTIM);
    assert_eq!(code, 1, "{log}");
    let why: Vec<&str> = log.lines().filter(|line| line.contains("stopping: ")).collect();
    assert!(why.len() == 1 && why[0].contains(NONE_LEFT), "{log}");
    assert!(!log.contains("panicked"), "{log}");
    println!("it stopped: {}", why[0]);
}

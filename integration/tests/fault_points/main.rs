//! The disk fails, or the machine stops, at each change to a node's files in turn: from the making of
//! an empty ledger to the last flush. Whatever it was, the node has told nobody of anything that is
//! then gone, and it starts again by itself.
//!
//! | at the change | the node |
//! |---|---|
//! | killed, with half of a write done, or with all gone that was not synced | starts again as if nothing had been |
//! | fails, while it starts | says why in one line, exit code 2 |
//! | fails, of a log that promises rest on | says why in one line, exit code 1 |
//! | fails otherwise | as before, or goes on: RocksDB's own text log, the last flush, a file that was to be removed |
//!
//! A seeded choice of all points is tried, and with `TEST_FAULT_POINTS=all` every one.

mod disk;

use std::collections::BTreeMap;

use disk::{Change, Disk, Fault};
use minidlt_integration::{
    Answer, Author, CBOR, Cluster, Mode, Random, Samples, counted, heights_of, not_run, program, run, until,
};
use serde_json::json;

/// Points of the ordinary run.
const POINTS_ALONE: usize = 42;
const POINTS_OF_FOUR: usize = 9;
/// Records submitted in a life.
const RECORDS: u64 = 4;
/// Where a vote that contradicts another is counted.
const REFUSED: &str = "minidlt_messages_refused_total";
/// Of four: so many that each node's turn to propose comes.
const RECORDS_OF_FOUR: u64 = 5;

/// A transaction that was told to be committed: its id, and where.
type Told = (String, u64);

/// What is committed, tried and told, over all lives of a network.
struct Client {
    author: Author,
    nonce: u64,
    told: Vec<Told>,
    /// Bytes of those whose fate is not known.
    unanswered: Vec<Vec<u8>>,
}

impl Client {
    fn of(cluster: &Cluster) -> Self {
        Self { author: Author::of(cluster, "trader"), nonce: 0, told: Vec::new(), unanswered: Vec::new() }
    }

    /// Submits a record and waits for its commit. Whether the node answered.
    fn submit(&mut self, cluster: &Cluster, node: usize) -> bool {
        self.nonce += 1;
        let body = self.author.body(self.nonce, &json!({ "nonce": self.nonce }));
        self.send(cluster, node, self.author.sign(&body))
    }

    fn send(&mut self, cluster: &Cluster, node: usize, bytes: Vec<u8>) -> bool {
        let answer: Answer = cluster.post(node, "trader", "?wait=committed&timeout=30s", CBOR, &bytes);
        // A node that stops while it waits says that it does not know yet.
        if answer.status != 200 {
            assert!(matches!(answer.status, 0 | 202 | 503), "{answer:?}");
            self.unanswered.push(bytes);
            return false;
        }
        let json = answer.json();
        assert_eq!(json["status"], "committed", "{answer:?}");
        let told = (json["id"].as_str().expect("an id").to_owned(), json["height"].as_u64().expect("a height"));
        self.told.push(told);
        true
    }

    /// Who heard nothing submits again, which is harmless.
    fn submit_again(&mut self, cluster: &Cluster, node: usize) {
        for bytes in std::mem::take(&mut self.unanswered) {
            assert!(self.send(cluster, node, bytes), "it is answered now");
        }
    }

    /// Each stands in the chain once, where it was told to be.
    fn assert_kept(&self, cluster: &Cluster, node: usize) {
        let chain = cluster.chain(node);
        for (id, height) in &self.told {
            assert_eq!(heights_of(&chain, id), [*height], "{id} stands once, where it was told to be");
        }
    }
}

/// A life without a fault.
struct Course {
    changes: Vec<Change>,
    /// How many changes there were when it was ready, and when it was told to stop.
    ready: usize,
    stopping: usize,
}

impl Course {
    /// The points to try: each change with each fault that suits it; or a choice of them, as many
    /// while it starts as while it serves and while it stops.
    fn points(&self, most: usize, random: &mut Random) -> Vec<(usize, Fault)> {
        let all = std::env::var_os("TEST_FAULT_POINTS").is_some_and(|value| value == "all");
        let parts = [0..self.ready, self.ready..self.stopping, self.stopping..self.changes.len()];
        let mut points = Vec::new();
        for part in parts {
            let suiting = |at: usize| {
                let fits = Fault::ALL.into_iter().filter(move |fault| fault.suits(&self.changes[at]));
                fits.map(move |fault| (at + 1, fault))
            };
            let mut of_part: Vec<(usize, Fault)> = part.flat_map(suiting).collect();
            while !all && of_part.len() > most / 3 {
                of_part.swap_remove(random.below(of_part.len()));
            }
            of_part.sort_unstable();
            points.extend(of_part);
        }
        points
    }
}

/// How a node's life with a fault ended, which is as it should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Killed,
    /// It did not start.
    Refused,
    Stopped,
    WentOn,
    /// This time there were not so many changes.
    NotReached,
}

/// Counts how lives ended.
#[derive(Default)]
struct Tally(BTreeMap<(Fault, End), usize>);

impl Tally {
    fn count(&mut self, fault: Fault, end: End) {
        *self.0.entry((fault, end)).or_default() += 1;
    }

    fn tell(&self, what: &str, course: &Course) {
        let (lives, changes) = (self.0.values().sum::<usize>(), course.changes.len());
        let (start, stop) = (course.ready, changes - course.stopping);
        println!("{what}: {lives} lives with a fault; one without changes files {changes} times, {start} of them");
        println!("  while it starts, {stop} while it stops");
        self.0.iter().for_each(|((fault, end), times)| println!("  {fault:?}: {end:?} {times}"));
        let reached = self.0.iter().filter(|((_, end), _)| *end != End::NotReached).map(|(_, times)| times);
        assert!(reached.sum::<usize>() > 0, "faults were reached");
    }
}

/// Ends a node that was started with a fault, and checks how it ended.
fn end(cluster: &mut Cluster, node: usize, disk: &Disk, (at, fault): (usize, Fault), log: usize) -> End {
    let code = if cluster.is_over(node) { cluster.exit_code(node) } else { Some(cluster.stop_node(node)) };
    let said = cluster.log_since(node, log);
    let lines = |part: &str| said.lines().filter(|line| line.contains(part)).count();
    let changes = disk.changes();
    let Some(change) = changes.get(at - 1) else {
        assert_eq!(code, Some(0), "{said}");
        return End::NotReached;
    };
    let place = format!("{fault:?} at change {at}, {} of {}: {said}", change.call, change.path);
    assert_eq!(lines("panicked"), 0, "{place}");
    match code {
        // A signal's, and 128 and it where a shell would say so.
        None | Some(-1) if fault.kills() => End::Killed,
        Some(2) if !fault.kills() => {
            assert_eq!((lines("minidlt: "), lines("serves its API")), (1, 0), "one line says why: {place}");
            End::Refused
        }
        Some(1) if !fault.kills() => {
            assert_eq!(lines("stopping: "), 1, "one line says why: {place}");
            End::Stopped
        }
        Some(0) if !fault.kills() => {
            assert!(!change.is_of_a_log(), "promises rest on it: {place}");
            End::WentOn
        }
        other => panic!("it ended with {other:?}: {place}"),
    }
}

fn verified(cluster: &Cluster, node: usize) -> usize {
    let said = run(program(&[]).arg("verify").arg(cluster.node(node)));
    let words: Vec<&str> = said.split_whitespace().collect();
    assert!(matches!(words[..], ["ok:", _, "blocks,", _, "transactions,", "head", _]), "{said}");
    words[3].parse().expect("a number")
}

#[test]
fn a_node_alone_starts_again_from_every_point_with_all_that_it_told() {
    let mut cluster = Cluster::init(1, Mode::Bft);
    let data = cluster.node(0).join("data");
    let disk = match Disk::under(&data) {
        Ok(disk) => disk,
        Err(why) => return not_run("faults at each point", &why),
    };
    let mut random = Random::seeded();
    let new = NEW_NODES_LOG.map(|file| std::fs::read(cluster.node(0).join(file)).expect("init writes it"));
    let (_, course) = live(&mut cluster, &new, &disk, None);
    assert!(course.changes.iter().any(Change::is_of_a_log), "the library sees what the node writes");

    let mut tally = Tally::default();
    for point in course.points(POINTS_ALONE, &mut random) {
        let log = cluster.log(0).len();
        let (mut client, _) = live(&mut cluster, &new, &disk, Some(point));
        tally.count(point.1, end(&mut cluster, 0, &disk, point, log));
        cluster.start_node(0);
        cluster.wait_ready(0);
        client.submit_again(&cluster, 0);
        assert!(client.submit(&cluster, 0), "it goes on");
        client.assert_kept(&cluster, 0);
        assert_eq!(cluster.stop_node(0), 0);
        assert_eq!(verified(&cluster, 0), client.told.len(), "nothing else is in it, after {point:?}");
    }
    tally.tell("a node alone", &course);
}

/// Says that a node is new, and has not lost the record of its votes.
const NEW_NODES_LOG: [&str; 2] = ["data/signer-0.log", "data/signer-1.log"];

/// A new node's life from an empty disk on, up to its end with a fault, or of its own.
fn live(cluster: &mut Cluster, new: &[Vec<u8>; 2], disk: &Disk, fault: Option<(usize, Fault)>) -> (Client, Course) {
    let data = cluster.node(0).join("data");
    std::fs::remove_dir_all(&data).and_then(|()| std::fs::create_dir(&data)).expect("an empty disk");
    for (file, bytes) in NEW_NODES_LOG.iter().zip(new) {
        std::fs::write(cluster.node(0).join(file), bytes).expect("a new node's log is written");
    }
    let mut client = Client::of(cluster);
    start(cluster, 0, disk, fault);
    let ready = disk.changes().len();
    let _answered = (0..RECORDS).all(|_| !cluster.is_over(0) && client.submit(cluster, 0));
    let stopping = disk.changes().len();
    if fault.is_none() {
        assert_eq!(cluster.stop_node(0), 0, "no fault, no end: {}", cluster.log(0));
    }
    (client, Course { changes: disk.changes(), ready, stopping })
}

/// Starts a node on this disk, and waits until it is ready or has ended.
fn start(cluster: &mut Cluster, node: usize, disk: &Disk, fault: Option<(usize, Fault)>) {
    let words = disk.words(fault);
    cluster.start_node_by(node, &words.iter().map(String::as_str).collect::<Vec<_>>());
    until("it is ready or has ended", || cluster.is_over(node) || cluster.is_ready(node));
}

/// The others go on, and what the one told and voted before it was gone binds it when it is back.
#[test]
fn one_of_four_starts_again_from_every_point_and_never_votes_twice() {
    const VICTIM: usize = 3;
    let mut cluster = Cluster::init(4, Mode::Bft);
    let disk = match Disk::under(&cluster.node(VICTIM).join("data")) {
        Ok(disk) => disk,
        Err(why) => return not_run("faults at each point of one of four", &why),
    };
    let mut random = Random::seeded();
    (0..VICTIM).for_each(|node| cluster.start_node(node));
    let mut client = Client::of(&cluster);
    start(&mut cluster, VICTIM, &disk, None);
    (0..VICTIM).for_each(|node| cluster.wait_ready(node));
    let ready = disk.changes().len();
    load(&cluster, &mut client, VICTIM);
    let stopping = disk.changes().len();
    assert_eq!(cluster.stop_node(VICTIM), 0);
    let course = Course { changes: disk.changes(), ready, stopping };

    let mut tally = Tally::default();
    for point in course.points(POINTS_OF_FOUR, &mut random) {
        // It has something to fetch, so that fetching meets the fault, too.
        assert!(client.submit(&cluster, 0), "three of four go on");
        let log = cluster.log(VICTIM).len();
        start(&mut cluster, VICTIM, &disk, Some(point));
        load(&cluster, &mut client, VICTIM);
        tally.count(point.1, end(&mut cluster, VICTIM, &disk, point, log));
        cluster.start_node(VICTIM);
        cluster.wait_ready(VICTIM);
        client.submit_again(&cluster, VICTIM);
        assert!(client.submit(&cluster, VICTIM), "it takes part again");
        for node in 0..VICTIM {
            let refused = cluster.samples(node, &[REFUSED]).since(&Samples::parse("", &[]));
            assert!(!refused.contains_key(&counted(REFUSED, "equivocation")), "node {node}, {point:?}: {refused:?}");
        }
        cluster.wait_agreed();
        assert_eq!(cluster.stop_node(VICTIM), 0);
        verified(&cluster, VICTIM);
    }
    cluster.start_node(VICTIM);
    cluster.wait_ready(VICTIM);
    cluster.wait_agreed();
    let chain = cluster.chain(VICTIM);
    (0..VICTIM).for_each(|node| assert!(cluster.chain(node) == chain, "node {node} holds the same blocks"));
    client.assert_kept(&cluster, VICTIM);
    tally.tell("one of four", &course);
}

/// Records through an honest node and through the victim, as long as it is there.
fn load(cluster: &Cluster, client: &mut Client, victim: usize) {
    for _ in 0..RECORDS_OF_FOUR {
        assert!(client.submit(cluster, 0), "the others go on");
        client.submit(cluster, victim);
    }
}

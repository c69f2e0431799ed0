//! Clocks that jump by an hour while nodes run. A node whose clock is wrong cannot work with the others,
//! which go on; with the clock right it works with them again by itself. Where all clocks are wrong
//! alike nobody notices, and a block's time never goes back.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::Duration,
};

use minidlt_integration::{
    Author, CBOR, Cluster, Fate, Memory, Mode, Plan, checker, counted, figures, not_run, now, until,
};
use serde_json::json;

use crate::{apart::ALL, probe::Run};

const VICTIM: usize = 3;
const OTHERS: &[usize] = &[0, 1, 2];
const HOUR: Duration = Duration::from_secs(3_600);
/// What a node answers to a transaction that has expired, or is of the future.
const OF_ANOTHER_TIME: u16 = 422;
const HALF_AN_HOUR_MILLIS: u64 = 1_800_000;
/// Within this time a node works with the others again once its clock is right: the longest wait
/// before dialling again, and some.
const REJOINS: Duration = Duration::from_secs(10);

/// The clock of one node, which a library between it and the system shifts. Time that only goes
/// forward is left alone, as it is by a clock that is set.
struct Clock {
    file: PathBuf,
    words: Vec<String>,
    /// The process that has it.
    process: Option<u32>,
}

impl Clock {
    /// A right one, or why there can be none here.
    fn of(cluster: &Cluster, node: usize) -> Result<Self, String> {
        let found = Command::new("faketime").args(["-m", "-f", "+0", "sh", "-c", r#"echo "$LD_PRELOAD""#]).output();
        let found = found.map_err(|error| format!("faketime: {error}"))?;
        let library = String::from_utf8_lossy(&found.stdout).trim().to_owned();
        if !found.status.success() || library.is_empty() {
            return Err(String::from_utf8_lossy(&found.stderr).trim().to_owned());
        }
        let file = cluster.directory.path().join(format!("clock{node}"));
        let words = [
            "env".to_owned(),
            format!("LD_PRELOAD={library}"),
            format!("FAKETIME_TIMESTAMP_FILE={}", file.display()),
            // It looks at the file once a second.
            "FAKETIME_CACHE_DURATION=1".to_owned(),
            "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
        ];
        let clock = Self { file, words: words.into(), process: None };
        clock.set("+0");
        Ok(clock)
    }

    /// So many seconds from what it should be, such as `-3600`. A file that is being written would be
    /// read as none.
    fn set(&self, seconds: &str) {
        let new = self.file.with_extension("new");
        fs::write(&new, seconds).and_then(|()| fs::rename(&new, &self.file)).expect("the clock's file is written");
    }

    fn start(&mut self, cluster: &mut Cluster, node: usize) {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        cluster.start_node_by(node, &words);
        self.process = Some(cluster.pid(node));
    }
}

impl Drop for Clock {
    /// The library leaves two small files of its process behind.
    fn drop(&mut self) {
        if let Some(process) = self.process {
            for name in [format!("faketime_shm_{process}"), format!("sem.faketime_sem_{process}")] {
                let _none = fs::remove_file(Path::new("/dev/shm").join(name));
            }
        }
    }
}

#[test]
fn one_wrong_clock_stops_one_node_until_it_is_right() {
    let Some((cluster, clocks)) = start(&[VICTIM]) else { return };
    // A user's transaction, too, has its time: through the one with the wrong clock none would go.
    let mut run = Run::start(cluster, Plan { through: OTHERS, ..Plan::default() });
    for jump in ["+3600", "-3600"] {
        let before = refused_for_time(&run.cluster);
        clocks[0].set(jump);
        until("the others refuse its messages", || refused_for_time(&run.cluster) > before);
        run.goes_on();
        // Its API looks at the time twice a second.
        until("its clock is wrong", || hour_at(&run.cluster, VICTIM) != hour_at(&run.cluster, 0));
        clocks[0].set("+0");
        until("its clock is right", || hour_at(&run.cluster, VICTIM) == hour_at(&run.cluster, 0));
        let probe = run.prepare();
        figures::count("clock_jumps", 1);
        run.measure(probe, "clock_righted");
    }
    run.check(REJOINS);
}

/// As the answers of its API have it: `Wed, 25 Nov 2026 02:03:20 GMT`.
fn hour_at(cluster: &Cluster, node: usize) -> String {
    let answer = cluster.ask(node, "admin", "/v1/status", &[]);
    let date = answer.header("date").and_then(|date| date.split_once(':'));
    date.unwrap_or_else(|| panic!("an answer has a date: {answer:?}")).0.to_owned()
}

fn refused_for_time(cluster: &Cluster) -> f64 {
    let name = counted("minidlt_messages_refused_total", "time-window");
    OTHERS.iter().map(|i| cluster.metric(*i, &name)).sum()
}

#[test]
fn where_all_clocks_are_wrong_alike_time_does_not_go_back() {
    let Some((mut cluster, clocks)) = start(&ALL) else { return };
    let mut memory = Memory::default();
    memory.add(commit(&cluster, 0, Duration::ZERO));
    clocks.iter().for_each(|clock| clock.set("+3600"));
    memory.add(commit(&cluster, 1, HOUR));
    let created = cluster.get(0, "/v1/blocks/latest")["created"].as_u64().expect("a time");
    assert!(created > now().millis() + HALF_AN_HOUR_MILLIS, "blocks have the nodes' time: {created}");

    // The next block cannot be older than the last, nor be from a time that has not come.
    clocks.iter().for_each(|clock| clock.set("+0"));
    let author = Author::of(&cluster, "trader");
    let waits = author.sign(&author.body(2, &json!(2)));
    let takes = |i: &usize| cluster.post(*i, "trader", "", CBOR, &waits).status != OF_ANOTHER_TIME;
    until("all clocks are right", || ALL.iter().all(takes));
    // What was decided while some were not may still be committed.
    sleep(Duration::from_secs(1));
    let height = cluster.wait_agreed();
    sleep(Duration::from_secs(3));
    ALL.iter().for_each(|i| assert_eq!(cluster.height(*i), height, "node {i} waits for the time to come"));

    clocks.iter().for_each(|clock| clock.set("+3600"));
    memory.add(commit(&cluster, 3, HOUR));
    figures::count("clock_jumps", 3 * ALL.len());
    checker::check(&mut cluster, &memory);
}

/// Submits a transaction of a time to come, until a node takes it, and waits until it is committed.
fn commit(cluster: &Cluster, nonce: u64, ahead: Duration) -> Memory {
    let author = Author::of(cluster, "trader");
    let mut body = author.body(nonce, &json!({ "nonce": nonce }));
    let ahead = ahead.as_millis() as u64;
    (body.created, body.expires) = (body.created.plus_millis(ahead), body.expires.plus_millis(ahead));
    let bytes = author.sign(&body);
    let mut fate = Fate::default();
    until("it is committed", || {
        let answer = cluster.post(0, "trader", "?wait=committed&timeout=5s", CBOR, &bytes);
        // A clock that has not jumped yet is no reason to give up.
        if answer.status != OF_ANOTHER_TIME {
            fate.hear(answer.status, &answer.body);
        }
        !fate.committed.is_empty()
    });
    Memory([(author.id(&body), fate)].into())
}

/// Four nodes, of which some have a clock of the test; or none, said so.
fn start(with_clocks: &[usize]) -> Option<(Cluster, Vec<Clock>)> {
    let mut cluster = Cluster::init(ALL.len(), Mode::Bft);
    let mut clocks = Vec::new();
    for node in ALL {
        if !with_clocks.contains(&node) {
            cluster.start_node(node);
            continue;
        }
        match Clock::of(&cluster, node) {
            Ok(mut clock) => {
                clock.start(&mut cluster, node);
                clocks.push(clock);
            }
            Err(why) => {
                not_run("a clock that jumps", &why);
                return None;
            }
        }
    }
    ALL.iter().for_each(|i| cluster.wait_ready(*i));
    Some((cluster, clocks))
}

//! Processes that stand still and do not know it, as a suspended machine does.

use std::{thread::sleep, time::Duration};

use minidlt_integration::{Cluster, Load, Memory, Mode, Plan, checker, figures, until};

use crate::{
    apart::ALL,
    probe::{BOUND, Probe},
};

/// Longer than a silent connection is kept.
const LONG_SECONDS: u64 = 40;
const SHORT: Duration = Duration::from_secs(5);

#[test]
fn a_paused_node_is_done_without_and_taken_back() {
    let long = Duration::from_secs(figures::knob("TEST_PAUSE_SECONDS", LONG_SECONDS));
    let cluster = Cluster::start(ALL.len(), Mode::Bft);
    let load = Load::start(&cluster, Plan::default());
    let mut probed = Probed::default();
    for (node, pause) in [(1, SHORT), (2, long)] {
        cluster.pause_node(node);
        let known = load.known();
        sleep(pause);
        assert!(load.known() > known, "three of four go on");
        probed.resume(&cluster, &[node]);
    }
    probed.check(cluster, load);
}

#[test]
fn without_a_quorum_all_wait_and_go_on() {
    let cluster = Cluster::start(ALL.len(), Mode::Bft);
    let load = Load::start(&cluster, Plan::default());
    until("the load is being committed", || load.known() > 0);
    let mut probed = Probed::default();
    for pause in [Duration::from_secs(1), SHORT] {
        let paused = [2, 3];
        paused.iter().for_each(|i| cluster.pause_node(*i));
        // What was decided already may still be committed.
        sleep(Duration::from_millis(500));
        let height = cluster.height(0);
        sleep(pause);
        assert_eq!(cluster.height(0), height, "two of four commit nothing");
        probed.resume(&cluster, &paused);
    }
    probed.check(cluster, load);
}

#[derive(Default)]
struct Probed {
    memory: Memory,
    times: Vec<Duration>,
}

impl Probed {
    fn resume(&mut self, cluster: &Cluster, nodes: &[usize]) {
        // One that stands still could not be connected with.
        nodes.iter().for_each(|i| cluster.resume_node(*i));
        let (times, memory) = Probe::prepare(cluster, &ALL).run();
        figures::count("pauses", nodes.len());
        times.iter().for_each(|time| figures::time("resumed", *time));
        self.times.extend(times);
        self.memory.add(memory);
    }

    fn check(mut self, mut cluster: Cluster, load: Load) {
        self.memory.add(load.finish());
        checker::check(&mut cluster, &self.memory);
        let longest = self.times.iter().max().expect("there were pauses");
        assert!(*longest <= BOUND, "commits on every node within {BOUND:?}: {:?}", self.times);
    }
}

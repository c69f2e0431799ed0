//! Processes that stand still and do not know it, as a suspended machine does.

use std::{thread::sleep, time::Duration};

use minidlt_integration::{Cluster, Mode, Plan, figures};

use crate::{
    apart::ALL,
    probe::{BOUND, Run},
};

/// Longer than a silent connection is kept.
const LONG_SECONDS: u64 = 40;
const SHORT: Duration = Duration::from_secs(5);

#[test]
fn a_paused_node_is_done_without_and_taken_back() {
    let long = Duration::from_secs(figures::knob("TEST_PAUSE_SECONDS", LONG_SECONDS));
    let mut run = Run::start(Cluster::start(ALL.len(), Mode::Bft), Plan::default());
    for (node, pause) in [(1, SHORT), (2, long)] {
        run.cluster.pause_node(node);
        let known = run.load.known();
        sleep(pause);
        assert!(run.load.known() > known, "three of four go on");
        resume(&mut run, &[node]);
    }
    run.check(BOUND);
}

#[test]
fn without_a_quorum_all_wait_and_go_on() {
    let mut run = Run::start(Cluster::start(ALL.len(), Mode::Bft), Plan::default());
    for pause in [Duration::from_secs(1), SHORT] {
        let paused = [2, 3];
        paused.iter().for_each(|i| run.cluster.pause_node(*i));
        // What was decided already may still be committed.
        sleep(Duration::from_millis(500));
        let height = run.cluster.height(0);
        sleep(pause);
        assert_eq!(run.cluster.height(0), height, "two of four commit nothing");
        resume(&mut run, &paused);
    }
    run.check(BOUND);
}

fn resume(run: &mut Run, nodes: &[usize]) {
    // One that stands still could not be connected with.
    nodes.iter().for_each(|i| run.cluster.resume_node(*i));
    let probe = run.prepare();
    figures::count("pauses", nodes.len());
    run.measure(probe, "resumed");
}

//! A node that lost everything but its keys and the genesis. It catches up while the others go on, and
//! does not vote where it may have voted before.

use std::{
    fs,
    thread::sleep,
    time::{Duration, Instant},
};

use minidlt_integration::{Cluster, Mode, Plan, figures, program, run, until};
use serde_json::Value;

use crate::{
    apart::ALL,
    probe::{BOUND, Run},
};

const VICTIM: usize = 3;
const OTHERS: &[usize] = &[0, 1, 2];
/// Transactions on the ledger that is lost.
const LOST: u64 = 50_000;
/// Catching up is to be so many times as fast as the cluster commits when it has nothing else to do. The
/// ordinary run fails only far from that, since a busy machine measures itself.
const TIMES_AS_FAST: f64 = 5.0;
const TIMES_AS_FAST_AT_LEAST: f64 = 2.0;
/// What the others commit meanwhile, a second.
const MEANWHILE_PER_SECOND: u32 = 100;

/// Longer than a round, and than a node is given up.
const UNSAFE: Duration = Duration::from_secs(5);

/// Commits so many transactions as fast as it goes; how long that took.
fn fill(cluster: &Cluster, transactions: u64) -> Duration {
    let file = cluster.directory.path().join("records.jsonl");
    let lines: String = (0..transactions).map(|i| format!("{{\"number\": {i}}}\n")).collect();
    fs::write(&file, lines).expect("the records are written");
    let mut submit = program(&[]);
    submit.args(["submit", "--wait", "--node", &cluster.api(0), "--as"]).arg(cluster.user("trader")).arg(&file);
    let since = Instant::now();
    run(&mut submit);
    since.elapsed()
}

/// Removes the ledger and the record of votes of a node that does not run, and starts it.
fn start_wiped(cluster: &mut Cluster, node: usize) {
    fs::remove_dir_all(cluster.node(node).join("data")).expect("its data");
    cluster.start_node(node);
    cluster.wait_answers(node);
}

fn voting(cluster: &Cluster, node: usize) -> Value {
    cluster.get(node, "/v1/status")["voting"].clone()
}

#[test]
fn it_catches_up_under_load_and_votes_again() {
    let cluster = Cluster::start(ALL.len(), Mode::Bft);
    let lost = figures::knob("TEST_LOST_TRANSACTIONS", LOST);
    let filled_per_second = lost as f64 / fill(&cluster, lost).as_secs_f64();
    let plan = Plan { through: OTHERS, per_second: MEANWHILE_PER_SECOND, clients: 8, ..Plan::default() };
    let mut run = Run::start(cluster, plan);
    run.cluster.kill_node(VICTIM);
    let (known, since) = (run.load.known(), Instant::now());
    start_wiped(&mut run.cluster, VICTIM);

    let mut states = vec![voting(&run.cluster, VICTIM)];
    until("it has caught up", || {
        states.push(voting(&run.cluster, VICTIM));
        run.cluster.height(VICTIM) >= run.cluster.height(0)
    });
    let (took, meanwhile) = (since.elapsed().as_secs_f64(), run.load.known() - known);
    until("it votes", || {
        states.push(voting(&run.cluster, VICTIM));
        states.last().is_some_and(|voting| voting["state"] == "voting")
    });
    states.dedup();
    println!("{states:?}");
    assert!(states.iter().any(|voting| voting["state"] == "abstaining"), "it may have voted: {states:?}");

    let (speed, meanwhile) = ((lost + known + meanwhile) as f64 / took, meanwhile as f64 / took);
    figures::count("wiped", 1);
    figures::count("filled_per_s", filled_per_second as u64);
    figures::count("catch_up_per_s", speed as u64);
    figures::count("committed_meanwhile_per_s", meanwhile as u64);
    let probe = run.prepare();
    run.measure(probe, "caught_up");
    run.check(BOUND);
    let exact = std::env::var_os("TEST_SPEED_TARGETS").is_some_and(|value| value == "1");
    let least = if exact { TIMES_AS_FAST } else { TIMES_AS_FAST_AT_LEAST };
    assert!(speed >= least * filled_per_second, "{speed} transactions/s, committed {filled_per_second}");
}

/// With two down and one of them back without its memory, three of four could decide: but in the height
/// in which the two others are, it may have voted.
#[test]
fn it_does_not_vote_where_it_may_have_voted() {
    let mut run = Run::start(Cluster::start(ALL.len(), Mode::Bft), Plan { through: &[0, 1], ..Plan::default() });
    let bystander = 2;
    for node in [VICTIM, bystander] {
        run.cluster.kill_node(node);
    }
    start_wiped(&mut run.cluster, VICTIM);
    let heights = |cluster: &Cluster| [0, 1, VICTIM].map(|i| cluster.height(i));
    until("it has what there is", || heights(&run.cluster).windows(2).all(|pair| pair[0] == pair[1]));
    let before = heights(&run.cluster);
    sleep(UNSAFE);
    assert_eq!(heights(&run.cluster), before, "without its vote nothing is decided");
    assert_eq!(voting(&run.cluster, VICTIM)["state"], "abstaining");

    run.cluster.start_node(bystander);
    run.cluster.wait_ready(bystander);
    run.goes_on();
    until("it votes", || voting(&run.cluster, VICTIM)["state"] == "voting");
    let probe = run.prepare();
    run.measure(probe, "caught_up");
    figures::count("wiped", 1);
    run.check(BOUND);
}

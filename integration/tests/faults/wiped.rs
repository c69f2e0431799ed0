//! A node that lost everything but its keys and the genesis. It catches up while the others go on, and
//! does not vote where it may have voted before.

use std::{
    fs,
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use minidlt_integration::{Cluster, Memory, Mode, Plan, checker, figures, program, run, until};
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

/// A command that submits so many transactions as fast as it goes, and ends once they are committed.
fn submission(cluster: &Cluster, transactions: u64) -> Command {
    let file = cluster.directory.path().join("records.jsonl");
    let lines: String = (0..transactions).map(|i| format!("{{\"number\": {i}}}\n")).collect();
    fs::write(&file, lines).expect("the records are written");
    let mut submit = program(&[]);
    submit.args(["submit", "--wait", "--node", &cluster.api(0), "--as"]).arg(cluster.user("trader")).arg(&file);
    submit
}

/// Commits so many transactions as fast as it goes; how long that took.
fn fill(cluster: &Cluster, transactions: u64) -> Duration {
    let mut submit = submission(cluster, transactions);
    let since = Instant::now();
    run(&mut submit);
    since.elapsed()
}

/// Transactions that a node has committed since it was started.
fn committed(cluster: &Cluster, node: usize) -> f64 {
    cluster.metric(node, "minidlt_transactions_committed_total")
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
    let since = Instant::now();
    start_wiped(&mut run.cluster, VICTIM);

    let mut states = vec![voting(&run.cluster, VICTIM)];
    until("it has caught up", || {
        states.push(voting(&run.cluster, VICTIM));
        // The others' first: they go on while it is asked.
        let others = run.cluster.height(0);
        run.cluster.height(VICTIM) >= others
    });
    let (took, known) = (since.elapsed().as_secs_f64(), run.load.known());
    until("it votes", || {
        states.push(voting(&run.cluster, VICTIM));
        states.last().is_some_and(|voting| voting["state"] == "voting")
    });
    states.dedup();
    println!("{states:?}");
    assert!(states.iter().any(|voting| voting["state"] == "abstaining"), "it may have voted: {states:?}");

    let speed = (lost + known) as f64 / took;
    figures::count("wiped", 1);
    figures::count("filled_per_s", filled_per_second as u64);
    figures::count("catch_up_per_s", speed as u64);
    let probe = run.prepare();
    run.measure(probe, "caught_up");
    run.check(BOUND);
    let exact = std::env::var_os("TEST_SPEED_TARGETS").is_some_and(|value| value == "1");
    let least = if exact { TIMES_AS_FAST } else { TIMES_AS_FAST_AT_LEAST };
    assert!(speed >= least * filled_per_second, "{speed} transactions/s, committed {filled_per_second}");
}

/// It shares the cores with those who commit, so it is not as fast as beside an ordinary load; but it must be
/// faster than they are, or it never gets there.
#[test]
fn it_catches_up_with_others_that_commit_as_fast_as_they_can() {
    let mut cluster = Cluster::start(ALL.len(), Mode::Bft);
    let lost = figures::knob("TEST_LOST_TRANSACTIONS", LOST) / 2;
    fill(&cluster, lost);
    cluster.kill_node(VICTIM);
    let before = committed(&cluster, 0);
    let load = submission(&cluster, 2 * lost).stdout(Stdio::piped()).spawn().expect("submit starts");
    until("the others commit", || committed(&cluster, 0) > before);

    let (since, before) = (Instant::now(), committed(&cluster, 0));
    start_wiped(&mut cluster, VICTIM);
    until("it votes", || voting(&cluster, VICTIM)["state"] == "voting");
    let took = since.elapsed().as_secs_f64();
    let (caught_up, meanwhile) = (committed(&cluster, VICTIM) / took, (committed(&cluster, 0) - before) / took);
    println!("{caught_up:.0} transactions/s, while the others committed {meanwhile:.0}, for {took:.1} s");
    figures::count("catch_up_beside_full_load_per_s", caught_up as u64);
    figures::count("full_load_meanwhile_per_s", meanwhile as u64);
    let left = cluster.get(0, "/v1/status")["mempool"]["transactions"].as_u64().expect("a number");
    assert!(left > 0, "the others had as much as they could do, all the time");

    let said = load.wait_with_output().expect("submit ends");
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains(&format!("{} committed, 0 rejected, 0 dumped", 2 * lost)), "{said}");
    checker::check(&mut cluster, &Memory::default());
    figures::count("wiped", 1);
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

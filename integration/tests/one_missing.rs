//! One of four is killed under load. In `bft` the rest go on and it catches up; in `full-consent`
//! all halt, and go on when it is back.

use std::{
    fs,
    process::{Child, Command, Stdio},
};

use minidlt_integration::{Cluster, Mode, binary, run, until};

fn submit(cluster: &Cluster, records: usize, first: usize) -> Child {
    let file = cluster.directory.path().join(format!("records-{first}.jsonl"));
    let lines: String = (first..first + records).map(|i| format!("{{\"number\": {i}}}\n")).collect();
    fs::write(&file, lines).expect("the records are written");
    Command::new(binary())
        .args(["submit", "--wait", "--node", &cluster.api(0), "--as"])
        .arg(cluster.user("trader"))
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("submit starts")
}

fn assert_all_committed(load: Child, records: usize) {
    let output = load.wait_with_output().expect("submit ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    assert!(text.lines().last().unwrap_or_default().contains(&format!("{records} committed")), "{text}");
}

#[test]
fn by_quorum_three_go_on_and_take_the_fourth_back() {
    let mut cluster = Cluster::start(4, Mode::Bft);
    let load = submit(&cluster, 3_000, 0);
    until("blocks are being committed", || cluster.height(0) >= 3);
    cluster.kill_node(3);
    let at_kill = cluster.height(0);
    assert_all_committed(load, 3_000);
    assert_all_committed(submit(&cluster, 200, 3_000), 200);
    assert!(cluster.height(0) > at_kill, "three of four go on");
    cluster.start_node(3);
    cluster.wait_ready(3);
    cluster.wait_agreed();
    assert_all_committed(submit(&cluster, 100, 3_200), 100);
    cluster.wait_agreed();
    let urls: Vec<String> = (0..4).map(|i| cluster.api(i)).collect();
    let compared = run(Command::new(binary()).args(["compare", "--as"]).arg(cluster.user("admin")).args(&urls));
    assert!(compared.contains("same chain"), "{compared}");
    for i in 0..4 {
        assert_eq!(cluster.stop_node(i), 0, "a clean end");
        let verified = run(Command::new(binary()).arg("verify").arg(cluster.node(i)));
        assert!(verified.contains("3300 transactions"), "{verified}");
    }
}

#[test]
fn by_full_consent_all_halt_and_resume() {
    let mut cluster = Cluster::start(4, Mode::FullConsent);
    assert_all_committed(submit(&cluster, 100, 0), 100);
    cluster.wait_agreed();
    cluster.kill_node(2);
    let mut load = submit(&cluster, 100, 100);
    until("the transactions wait at node 0", || {
        cluster.get(0, "/v1/status")["mempool"]["transactions"].as_u64() == Some(100)
    });
    let halted_at = cluster.height(0);
    let missing = cluster.get(0, "/v1/status")["consensus"]["missing"].clone();
    assert!(missing.to_string().contains("node2"), "the status names who is missing: {missing}");
    assert!(load.try_wait().expect("submit can be asked").is_none(), "nothing is committed with one missing");
    assert_eq!(cluster.height(0), halted_at);
    cluster.start_node(2);
    assert_all_committed(load, 100);
    cluster.wait_agreed();
}

//! A copy of the ledger, made while the node works. A node restored from it lacks what was committed
//! since, and the record of its votes: it catches up, and does not vote where it may have voted.

use std::{
    fs,
    path::{Path, PathBuf},
};

use minidlt_integration::{Cluster, Mode, Plan, figures, program, run, until};
use serde_json::Value;

use crate::{
    apart::ALL,
    probe::{BOUND, Run},
};

const VICTIM: usize = 3;

#[test]
fn a_node_restored_from_an_old_copy_catches_up() {
    let mut run = Run::start(Cluster::start(ALL.len(), Mode::Bft), Plan::default());
    let (copy, height) = back_up(&run.cluster, "first");
    let repeated = post(&run.cluster, "first");
    assert_eq!(repeated.0, 409, "a backup is not overwritten: {}", repeated.1);
    until("more is committed", || run.cluster.height(VICTIM) > height + 10);

    run.cluster.kill_node(VICTIM);
    restore(&run.cluster, &copy);
    let restored = blocks_verified(&run.cluster);
    assert!((height..height + 10).contains(&restored), "copied at height {height}, {restored} blocks are in it");
    run.cluster.start_node(VICTIM);
    run.cluster.wait_ready(VICTIM);
    until("it votes", || run.cluster.get(VICTIM, "/v1/status")["voting"]["state"] == "voting");
    let probe = run.prepare();
    run.measure(probe, "restored");
    figures::count("backups_restored", 1);
    run.check(BOUND);
}

fn post(cluster: &Cluster, name: &str) -> (u16, String) {
    let body = format!(r#"{{"directory": "{name}"}}"#);
    // An administrator of the node's own organisation.
    let extra = ["--header", "content-type: application/json", "--data", &body];
    cluster.request(VICTIM, "admin", "/v1/admin/backup", &extra)
}

/// Where the copy is, and the height it has at least.
fn back_up(cluster: &Cluster, name: &str) -> (PathBuf, u64) {
    let (status, body) = post(cluster, name);
    assert_eq!(status, 200, "{body}");
    let answer: Value = serde_json::from_str(&body).expect("JSON");
    let path = answer["path"].as_str().expect("a path");
    (PathBuf::from(path), answer["height"].as_u64().expect("a height"))
}

/// As an administrator does it.
fn restore(cluster: &Cluster, copy: &Path) {
    fs::remove_dir_all(cluster.node(VICTIM).join("data/ledger")).expect("the ledger");
    run(program(&[]).arg("restore").arg(cluster.node(VICTIM)).arg("--from").arg(copy));
}

fn blocks_verified(cluster: &Cluster) -> u64 {
    let said = run(program(&[]).arg("verify").arg(cluster.node(VICTIM)));
    let blocks = said.strip_prefix("ok: ").and_then(|rest| rest.split_once(" blocks")).map(|(blocks, _)| blocks);
    blocks.and_then(|blocks| blocks.parse().ok()).unwrap_or_else(|| panic!("{said}"))
}

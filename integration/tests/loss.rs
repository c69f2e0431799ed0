//! Everything of a network is lost but one copy of the chain, and each node's configuration, keys and certificates:
//! it stands again with all its members, and goes on.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use minidlt_integration::{Cluster, Load, Memory, Mode, Plan, checker, program, run, until};
use serde_json::Value;

const NODES: usize = 4;
/// Transactions on the ledger that the copy is of.
const BEFORE: u64 = 200;
const AFTER: u64 = 50;

/// A load of so many transactions, each of whose fate is known.
fn load(cluster: &Cluster, clients: usize, transactions: u64) -> Memory {
    let load = Load::start(cluster, Plan { clients, per_second: 200, most: transactions, through: &[] });
    until("all is submitted, and its fate known", || load.known() >= transactions);
    load.finish()
}

/// A copy of a running node's ledger, as an administrator has it made.
fn back_up(cluster: &Cluster, node: usize, name: &str) -> PathBuf {
    let body = format!(r#"{{"directory": "{name}"}}"#);
    let extra = ["--header", "content-type: application/json", "--data", &body];
    let (status, body) = cluster.request(node, "admin", "/v1/admin/backup", &extra);
    assert_eq!(status, 200, "{body}");
    let answer: Value = serde_json::from_str(&body).expect("JSON");
    move_away(cluster, Path::new(answer["path"].as_str().expect("a path")), name)
}

/// To where nothing is lost.
fn move_away(cluster: &Cluster, copy: &Path, name: &str) -> PathBuf {
    let safe = cluster.directory.path().join(name);
    fs::rename(copy, &safe).expect("moved");
    safe
}

/// All that a node has made since it was laid out is gone.
fn lose_data(cluster: &Cluster) {
    (0..NODES).for_each(|i| fs::remove_dir_all(cluster.node(i).join("data")).expect("its data"));
}

fn restore(cluster: &Cluster, node: usize, copy: &Path) -> Output {
    let (node, copy) = (cluster.node(node).display().to_string(), copy.display().to_string());
    cluster.minidlt(&["restore", &node, "--from", &copy])
}

/// Tries to in vain; what was said.
fn refused(cluster: &Cluster, node: usize, copy: &Path, code: i32) -> String {
    let output = restore(cluster, node, copy);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    assert_eq!(said.trim_end().lines().count(), 1, "one line: {said}");
    said
}

/// Restores a node, and the height that it is told it may vote from.
fn restored(cluster: &Cluster, node: usize, copy: &Path) -> u64 {
    let output = restore(cluster, node, copy);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    let (_, height) = said.trim_end().rsplit_once(" --vote-from ").unwrap_or_else(|| panic!("no height: {said}"));
    height.parse().expect("a height")
}

fn start_all(cluster: &mut Cluster, vote_from: u64) {
    (0..NODES).for_each(|i| cluster.start_node_with(i, &["--vote-from", &vote_from.to_string()]));
    (0..NODES).for_each(|i| cluster.wait_ready(i));
}

/// The receipt of a transaction that was committed, which verifies with the genesis file.
fn prove(cluster: &Cluster, memory: &Memory) {
    let (id, _) = memory.0.iter().find(|(_, fate)| !fate.committed.is_empty()).expect("one that was committed");
    let receipt = cluster.directory.path().join("receipt.json");
    run(program(&[]).args(["receipt", "--as"]).arg(cluster.user("trader")).arg("--out").arg(&receipt).arg(id));
    let genesis = cluster.network().join("genesis.yaml");
    let said = run(program(&[]).arg("verify-receipt").arg(&receipt).arg("--genesis").arg(genesis));
    assert!(said.starts_with(&format!("ok: transaction {id} ")), "{said}");
}

fn same_chain(cluster: &Cluster) {
    cluster.wait_agreed();
    let urls = (0..NODES).map(|i| cluster.api(i));
    let said = run(program(&[]).args(["compare", "--as"]).arg(cluster.user("admin")).args(urls));
    assert!(said.contains("same chain up to height "), "{said}");
}

/// All nodes are back, from one copy: what was committed is there once, and proven; and they go on.
fn stands_again(mut cluster: Cluster, copy: &Path, mut memory: Memory) {
    let members = |cluster: &Cluster| {
        ["users", "nodes", "organisations", "policies"].map(|list| cluster.get(0, &format!("/v1/{list}")))
    };
    let from = (0..NODES).map(|i| restored(&cluster, i, copy)).max().expect("a node");
    start_all(&mut cluster, from);
    assert_eq!(cluster.height(0), from - 1, "it stands where the copy does");
    let before = members(&cluster);
    assert_eq!(before[1]["nodes"].as_array().expect("a list").len(), NODES, "{}", before[1]);
    prove(&cluster, &memory);
    // Other clients, so that no transaction is one of before.
    memory.add(load(&cluster, 3, AFTER));
    assert_eq!(members(&cluster), before);
    same_chain(&cluster);
    let verdict = checker::check(&mut cluster, &memory);
    assert!(verdict.acknowledged as u64 >= BEFORE + AFTER, "{verdict:?}");
}

#[test]
fn from_a_backup_by_quorum() {
    let mut cluster = Cluster::start(NODES, Mode::Bft);
    let memory = load(&cluster, 2, BEFORE);
    cluster.wait_agreed();
    let copy = back_up(&cluster, 2, "monday");
    (0..NODES).for_each(|i| cluster.kill_node(i));
    lose_data(&cluster);
    stands_again(cluster, &copy, memory);
}

#[test]
fn from_the_ledger_of_a_killed_node_by_full_consent() {
    let mut cluster = Cluster::start(NODES, Mode::FullConsent);
    let memory = load(&cluster, 2, BEFORE);
    cluster.wait_agreed();
    (0..NODES).for_each(|i| cluster.kill_node(i));
    let copy = move_away(&cluster, &cluster.node(1).join("data/ledger"), "survivor");
    lose_data(&cluster);
    stands_again(cluster, &copy, memory);
}

/// Three are restored from an older copy than the fourth: they get the blocks after it from there, and none votes
/// where it may have voted.
#[test]
fn the_longest_copy_counts() {
    let mut cluster = Cluster::start(NODES, Mode::Bft);
    let mut memory = load(&cluster, 2, BEFORE);
    let older = back_up(&cluster, 0, "older");
    memory.add(load(&cluster, 3, AFTER));
    cluster.wait_agreed();
    (0..NODES).for_each(|i| cluster.kill_node(i));
    let newer = move_away(&cluster, &cluster.node(3).join("data/ledger"), "newer");
    lose_data(&cluster);
    let from_older = (0..3).map(|i| restored(&cluster, i, &older)).max().expect("a node");
    let from = restored(&cluster, 3, &newer);
    assert!(from > from_older, "{from} {from_older}");
    start_all(&mut cluster, from);
    until("all have the blocks of the longest copy", || (0..NODES).all(|i| cluster.height(i) >= from - 1));
    memory.add(load(&cluster, 5, AFTER));
    same_chain(&cluster);
    checker::check(&mut cluster, &memory);
}

/// What cannot be restored is named, in a line, with what to do; and leaves everything as it was.
#[test]
fn what_is_not_to_be_had_is_named() {
    let mut cluster = Cluster::start(NODES, Mode::Bft);
    load(&cluster, 2, AFTER);
    let copy = back_up(&cluster, 0, "monday");
    let running = refused(&cluster, 1, &copy, 2);
    assert!(running.contains("there is a ledger already"), "{running}");
    assert_eq!(cluster.stop_node(1), 0);
    let ledger = cluster.node(1).join("data/ledger");
    let kept = move_away(&cluster, &ledger, "kept");
    let in_use = refused(&cluster, 1, &cluster.node(0).join("data/ledger"), 2);
    assert!(in_use.contains("another process is using this ledger; stop its node"), "{in_use}");
    assert!(!ledger.exists(), "{in_use}");

    [0, 2, 3].iter().for_each(|i| assert_eq!(cluster.stop_node(*i), 0));
    let none = refused(&cluster, 1, &cluster.node(0), 1);
    assert!(none.contains("there is no ledger here"), "{none}");
    let table = fs::read_dir(&copy).expect("the copy").flatten().map(|entry| entry.path());
    let table =
        table.filter(|path| path.extension().is_some_and(|extension| extension == "sst")).max().expect("a table");
    let sound = fs::read(&table).expect("a table");
    let mut rotten = sound.clone();
    rotten[sound.len() / 2] ^= 1;
    // It may be a link to the ledger's own.
    fs::remove_file(&table).and_then(|()| fs::write(&table, rotten)).expect("written");
    refused(&cluster, 1, &copy, 1);
    assert!(!ledger.exists(), "nothing of it is kept");
    let left = fs::read_dir(cluster.node(1).join("data")).expect("its data").flatten().map(|entry| entry.file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().contains("unfinished")).collect();
    assert!(left.is_empty(), "{left:?}");

    // The sound one is taken, and the record of votes goes.
    let output = restore(&cluster, 1, &kept);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && told.contains("the record of votes"), "{output:?}");
    assert!(!cluster.node(1).join("data/signer-0.log").exists());
    run(Command::new(minidlt_integration::binary()).arg("verify").arg(cluster.node(1)));
}

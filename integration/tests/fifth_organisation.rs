//! A fifth organisation joins a running network of four: its node is enrolled, catches up, becomes an orderer,
//! and the quorum grows; then an old organisation leaves. All of it by the command line, while users submit
//! without pause: nothing is lost, and what was proven before still is, from the genesis of four alone.

use std::{collections::BTreeSet, fs};

use minidlt_integration::{
    Cluster, Load, Mode, Plan,
    commands::{agree, block_of, done},
    heights_of, until,
};
use minidlt_protocol::genesis::Genesis;
use serde_json::Value;

/// The newcomer, in a directory that `init` laid out for five.
const NEW: usize = 4;
/// The node of the organisation that leaves.
const LEAVES: usize = 3;
const STAY: [usize; 4] = [0, 1, 2, NEW];

/// Takes the fifth organisation out of the genesis: nobody of the four has heard of it.
fn of_four(cluster: &Cluster) -> String {
    let mut genesis: Genesis = cluster.genesis();
    let fifth = genesis.organisations.pop().expect("five organisations");
    assert_eq!(fifth.name.as_str(), "Org05");
    genesis.nodes.retain(|node| node.organisation != fifth.name);
    genesis.users.retain(|user| user.organisation != fifth.name);
    for user in &mut genesis.users {
        user.gateways.retain(|gateway| gateway.organisation != fifth.name);
    }
    genesis.check().expect("a genesis of four");
    let text = serde_yaml::to_string(&genesis).expect("it is YAML");
    fs::write(cluster.network().join("genesis.yaml"), text).expect("written");
    let ca = cluster.network().join("org05.crt");
    fs::write(&ca, fifth.ca).expect("written");
    ca.display().to_string()
}

/// Runs a command as a user through a node of the four, and gives what it said.
fn run(cluster: &Cluster, user: &str, words: &[&str]) -> String {
    done(cluster, user, &[words, &["--node", &cluster.api(0)]].concat())
}

/// How many signatures decide the block of this height, as a receipt of one of its transactions shows.
fn quorum_at(cluster: &Cluster, height: u64) -> usize {
    let block = cluster.get(0, &format!("/v1/blocks/{height}"));
    let id = block["content"][0]["id"].as_str().expect("a transaction").to_owned();
    let receipt = cluster.directory.path().join(format!("receipt-{height}.json")).display().to_string();
    let _of_before = fs::remove_file(&receipt);
    run(cluster, "trader", &["receipt", "--out", &receipt, &id]);
    let genesis = cluster.network().join("genesis.yaml").display().to_string();
    let verified = cluster.minidlt(&["verify-receipt", &receipt, "--genesis", &genesis]);
    assert!(verified.status.success(), "block {height}: {verified:?}");
    let receipt: Value = serde_json::from_str(&fs::read_to_string(&receipt).expect("it was written")).expect("JSON");
    receipt["block"]["certificate"]["signatures"].as_array().expect("signatures").len()
}

/// The lowest block from this height on that holds a transaction, once there is one.
fn next_full_block(cluster: &Cluster, from: u64) -> u64 {
    let mut found = None;
    until(&format!("a block with a transaction from height {from} on"), || {
        let blocks = cluster.get(0, &format!("/v1/blocks?from={from}&limit=50"));
        let mut full = blocks["blocks"].as_array().expect("blocks").iter();
        let full = full.find(|block| block["content"].as_array().is_some_and(|content| !content.is_empty()));
        found = full.and_then(|block| block["height"].as_u64());
        // Its receipts need the block after.
        found.is_some_and(|height| cluster.height(0) > height)
    });
    found.expect("found")
}

fn peers(cluster: &Cluster, node: usize) -> BTreeSet<String> {
    let status = cluster.get(node, "/v1/status");
    let connected = status["peers"].as_array().expect("peers").iter().filter(|peer| peer["state"] == "connected");
    connected
        .map(|peer| peer["name"].as_str().or(peer["identity"]["name"].as_str()).unwrap_or_default().to_owned())
        .collect()
}

fn names(nodes: &[usize]) -> BTreeSet<String> {
    nodes.iter().map(|node| format!("node{node}")).collect()
}

fn joins_and_another_leaves(mode: Mode, [before, with_five, after]: [usize; 3]) {
    let mut cluster = Cluster::init(5, mode);
    let ca = of_four(&cluster);
    (0..4).for_each(|node| cluster.start_node(node));
    (0..4).for_each(|node| cluster.wait_ready(node));
    let load = Load::start(&cluster, Plan { through: &[0, 1, 2], ..Plan::default() });
    let first = next_full_block(&cluster, 1);
    assert_eq!(quorum_at(&cluster, first), before);

    // The organisation, by a majority of four.
    let admin_key = cluster.user("admin-Org05").join("user.key").display().to_string();
    let words = ["organisation", "add", "Org05", "--admin", "admin-Org05", "--admin-key", &admin_key];
    let words = [&words[..], &["--admin-gateways", "node0@Org01"]].concat();
    let file = cluster.directory.path().join("add.json").display().to_string();
    let trust: &[&str] = &["--ca", &ca, "--out", &file];
    run(&cluster, "admin", &[&words[..], trust].concat());
    ["admin-Org02", "admin-Org03"].iter().for_each(|admin| drop(done(&cluster, admin, &["endorse", &file])));
    run(&cluster, "admin", &["send", &file]);

    // Its node, by itself: a peer that catches up and serves.
    let key = cluster.node(NEW).join("node.key").display().to_string();
    let address = format!("127.0.0.1:{}", cluster.peers_port(NEW));
    let enrol = ["node", "enrol", "node4@Org05", "--key", &key, "--address", &address, "--roles", "peer"];
    let enrolled = block_of(&run(&cluster, "admin-Org05", &enrol));
    cluster.start_node(NEW);
    until("the fifth node has caught up", || {
        cluster.is_ready(NEW) && cluster.metric(NEW, "minidlt_height") as u64 > enrolled
    });
    assert_eq!(peers(&cluster, NEW), names(&[0, 1, 2, 3]));

    // A vote for it, by a majority of five; the quorum grows two heights later.
    let vote = ["node", "change", "node4@Org05", "--roles", "peer,orderer"];
    let votes = agree(&cluster, 0, &vote, "admin-Org05", &["admin", "admin-Org02"]);
    let grown = next_full_block(&cluster, votes + 2);
    assert_eq!(quorum_at(&cluster, grown), with_five);
    until("the fifth node votes", || cluster.metric(NEW, "minidlt_voting") == 1.0);

    // Org04 leaves, by a majority of five. Its node's sessions are closed at once, and it is told why.
    let left = agree(&cluster, 0, &["organisation", "remove", "Org04"], "admin", &["admin-Org02", "admin-Org05"]);
    until("nobody speaks with the node that left", || {
        STAY.iter().all(|node| !peers(&cluster, *node).contains("node3"))
    });
    let shrunk = next_full_block(&cluster, left + 2);
    assert_eq!(quorum_at(&cluster, shrunk), after);
    assert_eq!(cluster.stop_node(LEAVES), 0);

    let memory = load.finish();
    let last = cluster.height(0);
    until("all that stay have the same height", || STAY.iter().all(|node| cluster.height(*node) >= last));
    let chains: Vec<_> = STAY.iter().map(|node| cluster.chain(*node)).collect();
    assert!(memory.count(|fate| !fate.committed.is_empty()) >= 50, "there was a load");
    for (id, fate) in &memory.0 {
        assert_eq!(fate.refused, None, "{id}");
        for chain in &chains {
            let heights = heights_of(chain, id);
            assert_eq!(heights.len(), usize::from(!fate.committed.is_empty()), "{id}: {fate:?}");
            assert!(fate.committed.iter().all(|(height, _)| heights == [*height]), "{id}: {fate:?}, {heights:?}");
        }
    }
    // What was proven before still is, and every block of each is right from the genesis of four.
    [(first, before), (grown, with_five), (shrunk, after)]
        .iter()
        .for_each(|(height, quorum)| assert_eq!(quorum_at(&cluster, *height), *quorum));
    for node in STAY {
        assert_eq!(cluster.stop_node(node), 0);
        let verified = cluster.minidlt(&["verify", &cluster.node(node).display().to_string()]);
        assert!(verified.status.success(), "{verified:?}");
    }
}

#[test]
fn a_fifth_organisation_joins_and_an_old_one_leaves_by_quorum() {
    joins_and_another_leaves(Mode::Bft, [3, 4, 3]);
}

#[test]
fn a_fifth_organisation_joins_and_an_old_one_leaves_by_full_consent() {
    joins_and_another_leaves(Mode::FullConsent, [4, 5, 4]);
}

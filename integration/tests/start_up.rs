//! What cannot start says why in one line, with exit code 2.

use std::{fs, os::unix::fs::PermissionsExt, process::Output};

use minidlt_integration::{Cluster, Mode};

fn assert_one_line(output: &Output, expected: &[&str]) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    let told: Vec<&str> = errors.lines().filter(|line| line.starts_with("minidlt: ")).collect();
    assert_eq!(told.len(), 1, "one clear line: {errors}");
    for part in expected {
        assert!(told[0].contains(part), "{part:?} is in {:?}", told[0]);
    }
}

#[test]
fn each_obstacle_to_starting_is_one_clear_line() {
    let mut cluster = Cluster::start(2, Mode::Bft);
    let node = |cluster: &Cluster, i: usize| cluster.node(i).display().to_string();

    let locked = cluster.minidlt(&["start", &node(&cluster, 0)]);
    assert_eq!(locked.status.code(), Some(2));
    assert_one_line(&locked, &["data", "another process"]);

    assert_eq!(cluster.stop_node(1), 0);
    let own_port = std::net::TcpListener::bind(("127.0.0.1", cluster.base_port + 10)).expect("the port is free");
    assert_one_line(
        &cluster.minidlt(&["start", &node(&cluster, 1)]),
        &["api_listen", &(cluster.base_port + 10).to_string()],
    );
    drop(own_port);
    let own_port = std::net::TcpListener::bind(("127.0.0.1", cluster.peers_port(1))).expect("the port is free");
    assert_one_line(&cluster.minidlt(&["start", &node(&cluster, 1)]), &["peers_listen"]);
    drop(own_port);

    let key = cluster.node(1).join("node.key");
    let original = fs::read(&key).expect("the key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("changed");
    assert_one_line(&cluster.minidlt(&["start", &node(&cluster, 1)]), &["node.key"]);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("changed");
    fs::write(&key, "junk").expect("written");
    assert_one_line(&cluster.minidlt(&["start", &node(&cluster, 1)]), &["node.key"]);
    fs::write(&key, fs::read(cluster.node(0).join("node.key")).expect("another's key")).expect("written");
    assert_one_line(&cluster.minidlt(&["start", &node(&cluster, 1)]), &["node.key", "node1@Org02"]);
    fs::write(&key, original).expect("written");

    // Another network's data, and another node's.
    let mut other = Cluster::start(2, Mode::Bft);
    let data = |cluster: &Cluster, i: usize| cluster.node(i).join("data");
    other.kill_node(0);
    other.kill_node(1);
    drop_into(&data(&cluster, 1), &data(&other, 1));
    assert_one_line(&cluster.minidlt(&["start", &node(&cluster, 1)]), &["data", "network"]);
    cluster.kill_node(0);
    drop_into(&data(&cluster, 1), &data(&cluster, 0));
    assert_one_line(&cluster.minidlt(&["start", &node(&cluster, 1)]), &["data", "node0@Org01"]);
}

/// Puts a copy of one data directory in the place of another.
fn drop_into(place: &std::path::Path, from: &std::path::Path) {
    fs::remove_dir_all(place).expect("removed");
    minidlt_integration::run(std::process::Command::new("cp").arg("-r").arg(from).arg(place));
}

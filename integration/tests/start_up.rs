//! What cannot start says why in one line, which names the key and the path or address, with exit
//! code 2; and starts once that is put right.

use std::{
    fs::{self, File, Permissions},
    net::TcpListener,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
};

use minidlt_integration::{Cluster, Mode, PATIENCE, not_run, output_within, program, run};

/// The node that is kept from starting.
const NODE: usize = 1;

/// Started by these words, the node ends at once: exit code 2, and one line that has all these parts.
fn assert_refused_by(cluster: &Cluster, words: &[&str], what: &str, parts: &[&str]) {
    let output = output_within(program(words).arg("start").arg(cluster.node(NODE)), PATIENCE);
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(2), "{what}: {errors}");
    assert_eq!(said, "", "{what}");
    assert_eq!(errors.lines().count(), 1, "{what}: one line says it all: {errors}");
    assert!(errors.starts_with("minidlt: "), "{what}: {errors}");
    for part in parts {
        assert!(errors.contains(part), "{what}: {part:?} is in {errors:?}");
    }
}

fn assert_refused(cluster: &Cluster, what: &str, parts: &[&str]) {
    assert_refused_by(cluster, &[], what, parts);
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("its owner may change it");
}

/// Puts a copy of one directory in the place of another.
fn replace(place: &Path, from: &Path) {
    fs::remove_dir_all(place).expect("removed");
    run(Command::new("cp").arg("-r").arg(from).arg(place));
}

#[test]
fn each_obstacle_to_starting_is_one_clear_line() {
    let mut cluster = Cluster::start(2, Mode::Bft);
    let ledger = text(&cluster.node(NODE).join("data/ledger"));
    assert_refused(&cluster, "the node runs already", &["data_dir: ", &ledger, "another process"]);
    assert_eq!(cluster.stop_node(NODE), 0);

    ports_in_use(&cluster);
    keys_that_cannot_be_used(&cluster);
    the_signers_log_in_use(&cluster);
    cluster.start_node(NODE);
    cluster.wait_ready(NODE);
    data_of_another(&mut cluster);
}

fn ports_in_use(cluster: &Cluster) {
    let ports = [
        ("api_listen", cluster.api_port(NODE)),
        ("peers_listen", cluster.peers_port(NODE)),
        ("health_listen", cluster.health_port(NODE)),
    ];
    for (key, port) in ports {
        let _held = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        let address = format!("127.0.0.1:{port}: ");
        assert_refused(cluster, key, &[&format!("{key}: "), &address, "is another program using it?"]);
    }
}

fn keys_that_cannot_be_used(cluster: &Cluster) {
    let (node, key) = (cluster.node(NODE), cluster.node(NODE).join("node.key"));
    let named = [format!("key in {}: ", text(&node.join("config.yaml"))), text(&key)];
    let refused = |what: &str, why: &str| assert_refused(cluster, what, &[&named[0], &named[1], why]);
    let original = fs::read(&key).expect("the key");

    set_mode(&key, 0o644);
    refused("others may read the key", "mode 0644");
    set_mode(&key, 0o000);
    unreadable_key(cluster, &[&named[0], &named[1], "cannot be read: "]);
    set_mode(&key, 0o600);

    fs::remove_file(&key).expect("removed");
    refused("there is no key", "cannot be read: ");
    fs::create_dir(&key).expect("made");
    set_mode(&key, 0o700);
    refused("the key is a directory", "cannot be read: ");
    fs::remove_dir(&key).expect("removed");

    let another = fs::read(cluster.node(0).join("node.key")).expect("another's key");
    for (what, bytes, why) in [("junk", &b"junk"[..], "no private key"), ("another's", &another[..], "node1@Org02")] {
        fs::write(&key, bytes).expect("written");
        set_mode(&key, 0o600);
        refused(what, why);
    }
    fs::write(&key, original).expect("written");
}

/// Root reads whatever it wants, unless it is started without the capabilities for it.
fn unreadable_key(cluster: &Cluster, parts: &[&str]) {
    const WITHOUT: &[&str] = &["setpriv", "--bounding-set", "-dac_override,-dac_read_search"];
    let is_root = fs::metadata("/proc/self").expect("this process").uid() == 0;
    let words = if is_root { WITHOUT } else { &[] };
    let tried = || Command::new(WITHOUT[0]).args(&WITHOUT[1..]).arg("true").output();
    if is_root && !tried().is_ok_and(|output| output.status.success()) {
        return not_run("a key that its owner may not read", "this is root, and setpriv cannot make it less");
    }
    assert_refused_by(cluster, words, "its owner may not read the key", parts);
}

/// Another process with this key may be voting.
fn the_signers_log_in_use(cluster: &Cluster) {
    let log = cluster.node(NODE).join("data/signer-0.log");
    let held = File::open(&log).expect("the signer's log");
    held.lock().expect("nobody else has it");
    assert_refused(cluster, "the signer's log is in use", &["data_dir: ", &text(&log), "in use"]);
}

fn data(cluster: &Cluster, i: usize) -> PathBuf {
    cluster.node(i).join("data")
}

fn network(cluster: &Cluster) -> String {
    cluster.genesis().id().to_string()
}

fn data_of_another(cluster: &mut Cluster) {
    let mut other = Cluster::start(2, Mode::Bft);
    for i in 0..2 {
        other.kill_node(i);
        cluster.kill_node(i);
    }
    let own = data(cluster, NODE);
    let ledger = text(&own.join("ledger"));
    let (ours, theirs) = (network(cluster), network(&other));
    replace(&own, &data(&other, NODE));
    assert_refused(cluster, "data of another network", &["data_dir: ", &ledger, &ours, &theirs]);
    replace(&own, &data(cluster, 0));
    assert_refused(cluster, "data of another node", &["data_dir: ", &ledger, "node0@Org01", "node1@Org02"]);
}

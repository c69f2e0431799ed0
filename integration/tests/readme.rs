//! What the README has one type, run as it stands.

use std::{fs, process::Command};

use minidlt_integration::{Cluster, Mode, binary, free_base_port, root, run, until};
use serde_json::json;

/// Marks the block in the README.
const MARK: &str = "<!-- run by integration/tests/readme.rs -->";
/// Marks the block about types of records.
const TYPES: &str = "<!-- run by integration/tests/readme.rs: types -->";
/// Marks the blocks of the tour in which an organisation joins.
const JOINS: &str = "<!-- run by integration/tests/readme.rs: joins -->";

#[test]
fn the_readmes_curl_and_openssl_text_commits_a_record() {
    let readme = fs::read_to_string(root().join("README.md")).expect("the README");
    let marked = readme.split(MARK).nth(1).expect("the README marks its text");
    let script = marked.split("```").nth(1).and_then(|block| block.strip_prefix("sh\n")).expect("a block of sh");
    let cluster = Cluster::start(4, Mode::Bft);
    // The text speaks of `network/` and of the default ports; only the port is another here.
    let script = script.replace("3401", &cluster.base_port.to_string());
    assert!(script.contains("openssl pkeyutl -sign") && script.contains("curl"), "{script}");
    let printed =
        run(Command::new("bash").args(["-euo", "pipefail", "-c", &script]).current_dir(cluster.directory.path()));
    assert!(printed.contains("\"status\":\"committed\""), "{printed}");
    let height = cluster.wait_agreed();
    assert!(height >= 1);
}

/// The blocks of the README that have this mark, one after the other, with these ports in the place of others.
fn marked(mark: &str, ports: &[(&str, u16)]) -> String {
    let readme = fs::read_to_string(root().join("README.md")).expect("the README");
    let blocks = readme
        .split(mark)
        .skip(1)
        .map(|marked| marked.split("```").nth(1).and_then(|block| block.strip_prefix("sh\n")).expect("a block of sh"));
    ports.iter().fold(blocks.collect(), |script: String, (port, here)| script.replace(port, &here.to_string()))
}

/// Runs a text where the README has one stand, with the program on the path.
fn type_in(cluster: &Cluster, script: &str) -> String {
    let program = binary().parent().expect("its directory").display().to_string();
    let path = format!("{program}:{}", std::env::var("PATH").unwrap_or_default());
    let mut bash = Command::new("bash");
    bash.args(["-euo", "pipefail", "-c", script]).env("PATH", path).current_dir(cluster.directory.path());
    run(&mut bash)
}

#[test]
fn the_readmes_trade_is_endorsed_by_peers_of_both_organisations() {
    let cluster = Cluster::start(4, Mode::Bft);
    let printed = type_in(&cluster, &marked(TYPES, &[]));
    assert!(printed.contains("record type trade set in block "), "{printed}");
    assert!(printed.contains("1 committed, 0 rejected, 0 dumped"), "{printed}");
    let (_, id) = printed.rsplit_once("transaction ").expect("an id");
    let at = format!("/v1/transactions/{}", id.lines().next().expect("a line"));
    let transaction = cluster.get(0, &at)["transaction"].clone();
    let endorsements = transaction["endorsements"].as_array().expect("endorsements");
    let mut endorsers: Vec<&str> = endorsements.iter().filter_map(|one| one["endorser"]["name"].as_str()).collect();
    endorsers.sort_unstable();
    assert_eq!(endorsers, ["node0", "node1"], "the seller's and the buyer's");
}

#[test]
fn the_readmes_tour_in_which_a_fifth_organisation_joins() {
    let cluster = Cluster::start(4, Mode::Bft);
    let own = free_base_port(1);
    // The text speaks of `network/` and of the default ports; only the ports are others here.
    let ports = [("3401", cluster.base_port), ("3441", own), ("3442", own + 1), ("3443", own + 2)];
    let _node = Started(cluster.directory.path().join("org05/node4.pid"));
    let printed = type_in(&cluster, &marked(JOINS, &ports));
    assert!(printed.contains("node node4@Org05 enrolled in block "), "{printed}");
    assert!(printed.contains("node node4@Org05 changed in block "), "{printed}");
    assert!(printed.contains("1 committed, 0 rejected, 0 dumped"), "{printed}");
    assert!(printed.contains("node       node4@Org05, version "), "{printed}");
    let voters = || cluster.get(0, "/v1/nodes")["nodes"].as_array().expect("nodes").clone();
    assert!(voters().iter().any(|node| node["name"] == "node4" && node["roles"] == json!(["peer", "orderer"])));
    let fifth = |status: serde_json::Value| {
        let accepted = status["consensus"]["accepted_by"].as_array().into_iter().flatten();
        let peers = status["peers"].as_array().into_iter().flatten();
        accepted.chain(peers).any(|peer| peer["name"] == "node4")
    };
    until("the others know it", || (0..4).all(|node| fifth(cluster.get(node, "/v1/status"))));
}

/// A node that the text starts; it ends with the test.
struct Started(std::path::PathBuf);

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(process) = fs::read_to_string(&self.0).ok().and_then(|pid| pid.trim().parse::<u32>().ok()) {
            // Whatever became of it, it is to be gone.
            let _gone_already = Command::new("kill").args(["-KILL", &process.to_string()]).status();
        }
    }
}

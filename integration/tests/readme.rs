//! The README's text for submitting with curl and openssl alone, run as it stands.

use std::{fs, process::Command};

use minidlt_integration::{Cluster, Mode, root, run};

/// Marks the block in the README.
const MARK: &str = "<!-- run by integration/tests/readme.rs -->";

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

//! A websocket client that is not ours reads the whole chain while it grows: every block once, in
//! order, each linked to the one before.

use std::{
    env,
    process::{Command, Stdio},
};

use minidlt_integration::{Cluster, Load, Mode, Plan, root, until};

/// Python with the package `websockets`; `integration/test.sh` makes one and names it here.
fn python() -> String {
    env::var("TEST_PYTHON").expect("TEST_PYTHON names a Python with `websockets`; integration/test.sh sets it")
}

#[test]
fn a_foreign_client_sees_every_block_once_in_order_while_blocks_are_committed() {
    let cluster = Cluster::start(4, Mode::Bft);
    // Without an end of its own: whatever height the client waits for, it comes.
    let load = Load::start(&cluster, Plan::default());
    until("blocks are being committed", || cluster.height(1) >= 2);
    let client = |last: u64, from: &str| {
        let admin = cluster.user("admin");
        Command::new(python())
            .arg(root().join("integration/websocket_client.py"))
            .arg(format!("{}/v1/events{from}", cluster.api(1).replace("https", "wss")))
            .arg(cluster.network().join("ca.crt"))
            .args([admin.join("tls.crt"), admin.join("tls.key")])
            .arg(last.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("python starts")
    };
    // It begins while blocks are being committed and goes on past them; the last height it waits for
    // does not exist yet.
    let last = cluster.height(1) + 5;
    let during = client(last, "?from=0");
    let output = during.wait_with_output().expect("python ends");
    check(&output, 0, last);
    load.finish();
    let end = cluster.wait_agreed();
    let middle = end / 2;
    let output = client(end, &format!("?from={middle}")).wait_with_output().expect("python ends");
    check(&output, middle, end);
}

fn check(output: &std::process::Output, first: u64, last: u64) {
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{errors}");
    let blocks: Vec<Vec<&str>> = text.lines().map(|line| line.split(' ').collect()).collect();
    let heights: Vec<u64> = blocks.iter().map(|block| block[0].parse().expect("a height")).collect();
    assert_eq!(heights, (first..=last).collect::<Vec<_>>(), "every block once, in order");
    for pair in blocks.windows(2) {
        assert_eq!(pair[0][1], pair[1][2], "each block names the one before");
    }
}

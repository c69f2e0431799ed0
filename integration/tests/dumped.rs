//! A transaction that expires while nodes are missing is dumped when they are back, and names exactly
//! them; one that expires while all take part names nobody.

use std::{
    fs,
    process::{Command, Stdio},
    time::Duration,
};

use minidlt_integration::{Author, CBOR, Client, Cluster, Mode, binary, now, until};
use serde_json::{Value, json};

/// The shortest life that `submit` gives.
const LIFE_MILLIS: u64 = 1_000;

fn names(missing: &Value) -> Vec<&str> {
    missing.as_array().expect("a list").iter().map(|one| one["name"].as_str().expect("a name")).collect()
}

fn status_of(cluster: &Cluster, node: usize, id: &str) -> Value {
    cluster.get(node, &format!("/v1/transactions/{id}"))
}

/// The height that a transaction with a long life began waits for `stopped`; others with short lives wait
/// behind it.
fn names_exactly(mode: Mode, stopped: &[usize]) {
    let mut cluster = Cluster::start(4, mode);
    cluster.wait_agreed();
    let author = Author::of(&cluster, "trader");
    for i in stopped {
        assert_eq!(cluster.stop_node(*i), 0, "a clean end");
    }
    let long = author.body(1, &json!({"life": "long"}));
    assert_eq!(cluster.post(0, "trader", "", CBOR, &author.sign(&long)).status, 202);
    until("a height is under way", || cluster.get(0, "/v1/status")["consensus"]["active"] == true);

    let mut short = author.body(2, &json!({"life": "short"}));
    short.expires = now().plus_millis(LIFE_MILLIS);
    assert_eq!(cluster.post(0, "trader", "", CBOR, &author.sign(&short)).status, 202);
    let file = cluster.directory.path().join("record.jsonl");
    fs::write(&file, "{\"life\": \"short\"}\n").expect("the record is written");
    let client = Command::new(binary())
        .args(["submit", "--wait", "--lifetime", "1s", "--node", &cluster.api(0), "--as"])
        .arg(cluster.user("trader"))
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("submit starts");
    until("all three wait at node 0", || cluster.get(0, "/v1/status")["mempool"]["transactions"] == 3);
    // And a round has gone on for long enough to be said to wait for somebody.
    let waited = now().plus_millis(2 * LIFE_MILLIS);
    until("the short lives are over", || now() > waited);
    assert_eq!(status_of(&cluster, 0, &author.id(&short))["status"], "pending", "nobody can know before a block comes");

    stopped.iter().for_each(|i| cluster.start_node(*i));
    stopped.iter().for_each(|i| cluster.wait_ready(*i));
    let expected: Vec<String> = stopped.iter().map(|i| format!("node{i}")).collect();
    for node in (0..4).filter(|node| !stopped.contains(node)) {
        until("the short one is dumped", || status_of(&cluster, node, &author.id(&short))["status"] == "dumped");
        let dumped = status_of(&cluster, node, &author.id(&short));
        assert_eq!(
            (&dumped["reason"], names(&dumped["missing"])),
            (&json!("acceptance-missing"), expected.iter().map(String::as_str).collect()),
            "{dumped}"
        );
    }
    until("the long one is committed", || status_of(&cluster, 0, &author.id(&long))["status"] == "committed");

    let output = client.wait_with_output().expect("submit ends");
    let (said, noted) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{said}{noted}");
    let mut last = said.lines().rev();
    assert!(last.next().is_some_and(|line| line.contains("0 committed, 0 rejected, 1 dumped")), "{said}");
    let named = last.next().unwrap_or_default();
    for i in 0..4 {
        assert_eq!(named.contains(&format!("node{i}@")), stopped.contains(&i), "{said}{noted}");
    }
}

#[test]
fn by_full_consent_the_one_that_was_stopped_is_named() {
    names_exactly(Mode::FullConsent, &[2]);
}

#[test]
fn by_quorum_the_two_that_were_stopped_are_named() {
    names_exactly(Mode::Bft, &[1, 3]);
}

/// A transaction that comes while a block is being agreed on is for the next one; with a life of
/// milliseconds it may expire before that, though nobody is missing. Each try has its own.
#[test]
fn one_that_expired_with_nobody_missing_says_so() {
    const TRIES: u64 = 200;
    let cluster = Cluster::start(4, Mode::FullConsent);
    let author = Author::of(&cluster, "trader");
    let mut client = Client::new(&cluster, 0, "trader");
    let head = format!("POST /v1/transactions HTTP/1.1\r\ncontent-type: {CBOR}\r\n");
    let within = Duration::from_secs(10);
    let dumped = (0..TRIES).find_map(|n| {
        let long = author.sign(&author.body(2 * n, &json!({"life": "long"})));
        assert_eq!(client.request(&head, &long, within).expect("an answer").0, 202);
        let mut short = author.body(2 * n + 1, &json!({"life": "short"}));
        short.expires = now().plus_millis(2 + n % 8);
        let (status, _) = client.request(&head, &author.sign(&short), within).expect("an answer");
        // It may have expired before the node had it.
        if status != 202 {
            return None;
        }
        until("its fate is known", || status_of(&cluster, 0, &author.id(&short))["status"] != "pending");
        Some(status_of(&cluster, 0, &author.id(&short))).filter(|fate| fate["status"] == "dumped")
    });
    let dumped = dumped.expect("one of so many expired while it waited for the next block");
    assert_eq!((&dumped["reason"], &dumped["missing"]), (&json!("nobody-missing"), &json!([])), "{dumped}");
}

//! One of four lies: it votes twice, to everybody, while the others commit. They commit on, and what it
//! did comes to stand on the ledger: by the nodes' own reports, for all to see and to prove.

use std::{
    collections::BTreeSet,
    fs,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::channel,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use minidlt_integration::{Author, Cluster, Heard, Line, Mode, Route, Samples, binary, counted, run, until};
use minidlt_protocol::{
    consensus::Wire,
    message::{ConsensusContent, Content},
    types::{Hash, Height},
    vote::{Phase, SignedVote, Vote},
};
use serde_json::{Value, json};

/// The node in the test's hands: it dials all others, whose names are greater.
const LIAR: usize = 0;
const HONEST: [usize; 3] = [1, 2, 3];
/// So many lies are to be recorded before it stops.
const LIES: usize = 3;
/// From the first until all know of the last: each takes up to three turns of 2 s, of which one may be
/// the liar's own, and heights in which the liar should propose and does not.
const BOUND: Duration = Duration::from_secs(30);
const REFUSED: &str = "minidlt_messages_refused_total";

/// Says two things to a node in each height it hears of there, as long as `lying`; ends with the session.
fn lie_to(cluster: &Cluster, to: usize, lying: Arc<AtomicBool>) -> JoinHandle<()> {
    let (hand_on, heard) = channel();
    let line = Line::open(&Route::of(cluster, LIAR, to), &hand_on).expect("a session");
    thread::spawn(move || {
        drop(hand_on);
        let mut last = Height::GENESIS;
        for Heard { content, .. } in heard {
            let Content::Consensus(ConsensusContent::Wire(Wire::Vote(SignedVote { vote, .. }))) = content else {
                continue;
            };
            if vote.height > last && lying.load(Ordering::Relaxed) {
                last = vote.height;
                for block in [Some(Hash::from_bytes([0xee; 32])), None] {
                    let lie = Vote { phase: Phase::Prevote, block, ..vote.clone() };
                    let wire = Wire::Vote(line.route.vote(lie));
                    line.say(&Content::Consensus(ConsensusContent::Wire(wire)));
                }
            }
        }
    })
}

fn recorded(cluster: &Cluster, node: usize) -> Value {
    cluster.get(node, "/v1/status")["evidence"].clone()
}

/// The reports on the ledger, by their ids: all, and those that had an effect.
fn reports(cluster: &Cluster, node: usize) -> (BTreeSet<String>, BTreeSet<String>) {
    let chain = cluster.chain(node);
    let content = chain.iter().flat_map(|block| block["content"].as_array().into_iter().flatten());
    let ids = content.filter(|transaction| !transaction["operation"]["evidence"].is_null());
    let all: BTreeSet<String> = ids.map(|transaction| transaction["id"].as_str().expect("an id").to_owned()).collect();
    let result = |id: &String| cluster.get(node, &format!("/v1/transactions/{id}"))["result"]["status"] == "ok";
    (all.clone(), all.into_iter().filter(result).collect())
}

#[test]
fn who_votes_twice_is_on_the_ledger_and_the_others_commit_on() {
    let mut cluster = Cluster::init(4, Mode::Bft);
    HONEST.into_iter().for_each(|i| cluster.start_node(i));
    HONEST.into_iter().for_each(|i| cluster.wait_ready(i));
    let lying = Arc::new(AtomicBool::new(true));
    let lies: Vec<_> = HONEST.map(|to| lie_to(&cluster, to, lying.clone())).into();
    HONEST.into_iter().for_each(|i| until("it is a session", || cluster.metric(i, "minidlt_peers_connected") == 3.0));

    let file = cluster.directory.path().join("records.jsonl");
    fs::write(&file, (0..500).map(|i| format!("{{\"number\": {i}}}\n")).collect::<String>()).expect("written");
    let mut submit = Command::new(binary());
    submit.args(["submit", "--wait", "--node", &cluster.api(1), "--as"]).arg(cluster.user("trader")).arg(&file);
    let load = submit.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("submit starts");

    let since = Instant::now();
    until("a lie is on the ledger", || !listed(&cluster, HONEST[0]).is_empty());
    println!("one recorded after {:?}", since.elapsed());
    for i in HONEST {
        until("the lies are on the ledger", || listed(&cluster, i).len() >= LIES);
    }
    println!("{LIES} recorded by all after {:?}", since.elapsed());
    assert!(since.elapsed() < BOUND, "{:?}", since.elapsed());
    lying.store(false, Ordering::Relaxed);
    let output = load.wait_with_output().expect("submit ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("500 committed, 0 rejected, 0 dumped"), "{text}");
    cluster.wait_agreed();

    // Of a later lie a node may still be waiting for its turn; the first is the first for good.
    let first = &recorded(&cluster, HONEST[0])[0];
    assert_eq!(first["voter"], json!({"name": "node0", "organisation": "Org01"}));
    assert_eq!((&first["kind"], &first["round"].is_u64()), (&json!("prevote"), &true));
    let id = first["transaction"].as_str().expect("an id").to_owned();
    for i in HONEST {
        assert_eq!(recorded(&cluster, i)[0], *first, "node {i}");
        let counts = cluster.samples(i, &[REFUSED]).since(&Samples::parse("", &[]));
        assert!(counts.contains_key(&counted(REFUSED, "equivocation")), "node {i} counted it: {counts:?}");
        let transaction = &cluster.get(i, &format!("/v1/transactions/{id}"));
        let statement = &transaction["transaction"]["operation"]["evidence"]["votes"]["first"];
        assert_eq!((&statement["voter"], &statement["vote"]["height"]), (&first["voter"], &first["height"]));
        assert_eq!(transaction["result"], json!({"status": "ok"}));
        let author = transaction["transaction"]["author"]["name"].as_str().expect("an author");
        assert!(["node1", "node2", "node3"].contains(&author), "{author}");
        // One report of each lie has an effect, and few others come.
        let before = listed(&cluster, i);
        let (all, effective) = reports(&cluster, i);
        assert!(before.is_subset(&effective) && effective.is_subset(&listed(&cluster, i)), "{effective:?}");
        println!("node {i}: {} reports of {} lies", all.len(), effective.len());
        assert!(all.len() <= HONEST.len() * effective.len(), "{all:?}, {effective:?}");
    }

    anybody_may_report_and_prove_it(&cluster, first, &id);
    the_liars_own_node_reads_the_same(&mut cluster);
    for i in 0..4 {
        assert_eq!(cluster.stop_node(i), 0, "a clean end");
        let verified = run(Command::new(binary()).arg("verify").arg(cluster.node(i)));
        assert!(verified.starts_with("ok: "), "{verified}");
    }
    lies.into_iter().for_each(|lies| lies.join().expect("the liar had no trouble"));
}

/// The transactions that a node's status names.
fn listed(cluster: &Cluster, node: usize) -> BTreeSet<String> {
    let entries = recorded(cluster, node);
    let id = |entry: &Value| entry["transaction"].as_str().expect("an id").to_owned();
    entries.as_array().expect("a list").iter().map(id).collect()
}

fn anybody_may_report_and_prove_it(cluster: &Cluster, recorded: &Value, id: &str) {
    let node = HONEST[1];
    let known = cluster.get(node, &format!("/v1/transactions/{id}"));
    let asked = known["transaction"]["operation"].to_string();
    let json = ["--header", "content-type: application/json", "--data-binary"];
    let prepared = cluster.ask(node, "trader", "/v1/transactions/prepare", &[&json[..], &[&asked]].concat());
    assert_eq!(prepared.status, 200, "{prepared:?}");
    let (prepared, author) = (prepared.json(), Author::of(cluster, "trader"));
    let digest: Hash = prepared["digest"].as_str().and_then(|digest| digest.parse().ok()).expect("a digest");
    let signature = STANDARD.encode(author.key.sign(&digest).as_bytes());
    let signed = json!({"body": prepared["body"], "signature": signature}).to_string();
    let path = "/v1/transactions?wait=committed&timeout=30s";
    let answer = cluster.ask(node, "trader", path, &[&json[..], &[&signed]].concat());
    let reason = format!("transaction {id} has recorded it");
    assert_eq!(answer.json()["result"], json!({"status": "failed", "reason": reason}), "{answer:?}");
    cluster.wait_agreed();

    let status =
        run(Command::new(binary()).args(["status", "--node", &cluster.api(node), "--as"]).arg(cluster.user("admin")));
    let (height, round) = (&recorded["height"], &recorded["round"]);
    let line =
        format!("evidence   node0@Org01 signed two prevotes at height {height}, round {round}: transaction {id}");
    assert!(status.lines().any(|found| found == line), "{status}");

    for (id, result) in [(id.to_owned(), "result ok"), (digest.to_string(), "result failed")] {
        let file = cluster.directory.path().join(format!("{id}.json"));
        let receipt = ["receipt", "--node", &cluster.api(node), "--out"].map(str::to_owned);
        run(Command::new(binary()).args(receipt).arg(&file).arg("--as").arg(cluster.user("trader")).arg(&id));
        let genesis = cluster.network().join("genesis.yaml");
        let said = run(Command::new(binary()).arg("verify-receipt").arg(&file).arg("--genesis").arg(genesis));
        assert!(said.starts_with(&format!("ok: transaction {id}")) && said.contains(result), "{said}");
    }
}

/// It fetches the blocks and comes to the same list, its own name in it.
fn the_liars_own_node_reads_the_same(cluster: &mut Cluster) {
    cluster.start_node(LIAR);
    cluster.wait_ready(LIAR);
    until("it has the others' list", || {
        let theirs = recorded(cluster, HONEST[0]);
        theirs != json!([]) && recorded(cluster, LIAR) == theirs
    });
}

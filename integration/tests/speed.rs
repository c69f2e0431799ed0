//! What the bench must reach on two cores with four nodes, what a node may use meanwhile, and how
//! fast a long chain opens. One test, so that nothing else runs beside it.
//!
//! A machine that is busy with something else measures itself and not the ledger, so an ordinary
//! run only fails far from the targets; with `TEST_SPEED_TARGETS=1` it fails at them.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use minidlt_integration::{Cluster, Mode, binary, run};
use serde_json::Value;

fn bench(name: &str, duration: &str, extra: &[&str]) -> Value {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("bench.json");
    run(Command::new(binary())
        .args(["bench", "--nodes", "4", "--duration", duration, "--json"])
        .arg(&file)
        .args(extra)
        .current_dir(directory.path()));
    let json = fs::read_to_string(&file).expect("the bench writes its figures");
    println!("{name}: {json}");
    serde_json::from_str(&json).expect("JSON")
}

fn figure(bench: &Value, key: &str) -> f64 {
    bench[key].as_f64().unwrap_or_else(|| panic!("{key} is a figure: {bench}"))
}

/// The least ratio to the signature bound, the most p50 latency in ms at 100 a second, and the least
/// records a second at 100 a transaction.
fn targets() -> (f64, f64, f64) {
    if std::env::var_os("TEST_SPEED_TARGETS").is_some() { (0.30, 25.0, 30_000.0) } else { (0.15, 100.0, 15_000.0) }
}

#[test]
fn speed_latency_memory_and_start_up() {
    let most = bench("as fast as it goes", "20s", &[]);
    let (ratio, latency, records) = targets();
    assert!(figure(&most, "ratio") >= ratio, "{most}");
    memory_is_flat(&most);

    let calm = bench("100 transactions a second", "15s", &["--rate", "100"]);
    assert!(figure(&calm, "latency_p50_ms") < latency, "{calm}");
    assert_eq!(figure(&calm, "refused"), 0.0, "{calm}");

    // Long enough that the database's buffers and cache have filled halfway.
    let bulk = bench("100 records a transaction", "40s", &["--records-per-transaction", "100"]);
    assert!(figure(&bulk, "records_per_s") >= records, "{bulk}");
    memory_is_flat(&bulk);

    start_up();
}

fn memory_is_flat(bench: &Value) {
    for node in 0..4 {
        let [peak, halfway, end] = ["peak_memory_mib", "rss_mib_halfway", "rss_mib_at_end"]
            .map(|key| figure(bench, &format!("node{node}_{key}")));
        assert!(peak < 400.0, "the memory of node {node} stays under 400 MiB: {peak}");
        // The database's write buffers fill and empty, 64 MiB at a time.
        assert!(end < halfway + 48.0, "the memory of node {node} is flat: {halfway} MiB halfway, {end} at the end");
    }
}

/// A node with 100,000 transactions is ready within two seconds.
fn start_up() {
    let mut cluster = Cluster::start(1, Mode::Bft);
    let file = cluster.directory.path().join("records.jsonl");
    let lines: String = (0..100_000).map(|i| format!("{{\"number\": {i}}}\n")).collect();
    fs::write(&file, lines).expect("the records are written");
    run(Command::new(binary()).args(["submit", "--wait", "--as"]).arg(cluster.user("trader")).arg(&file));
    assert_eq!(cluster.stop_node(0), 0);
    let start = Instant::now();
    cluster.start_node(0);
    cluster.wait_ready(0);
    let took = start.elapsed();
    println!("start-up with 100,000 transactions: {} ms", took.as_millis());
    assert!(took < Duration::from_secs(2), "{took:?}");
    let held = cluster.metric(0, "minidlt_height");
    assert!(held > 1.0, "{held}");
}

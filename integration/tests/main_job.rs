//! The main job: four organisations commit 560 real trades, in both modes, and agree.

use std::{fs, process::Command};

use minidlt_integration::{Cluster, Mode, binary, root, run};
use serde_json::Value;

/// Rows of `data/trades.csv`.
const TRADES: usize = 560;

fn commit_trades(mode: Mode) {
    let cluster = Cluster::start(4, mode);
    let (trades, trader) = (root().join("integration/data/trades.csv"), cluster.user("trader"));
    let receipts = cluster.directory.path().join("receipts");
    let output = run(Command::new(binary())
        .args(["submit", "--as"])
        .arg(&trader)
        .args(["--wait", "--receipts"])
        .arg(&receipts)
        .arg(&trades)
        .current_dir(cluster.directory.path()));
    let last = output.lines().last().unwrap_or_default();
    assert!(last.contains("560 committed") && last.contains("0 rejected") && last.contains("0 dumped"), "{last}");

    cluster.wait_agreed();
    let chains: Vec<Vec<Value>> = (0..4).map(|i| cluster.chain(i)).collect();
    for other in &chains[1..] {
        assert_eq!(&chains[0], other, "all nodes hold the same blocks, roots included");
    }
    let contents: Vec<&Value> = chains[0]
        .iter()
        .flat_map(|block| block["content"].as_array().into_iter().flatten())
        .flat_map(|transaction| transaction["operation"]["record"]["contents"].as_array().into_iter().flatten())
        .collect();
    assert_eq!(contents.len(), TRADES);
    assert_holds_every_row(&contents, &fs::read_to_string(&trades).expect("the trades"));

    let files: Vec<_> =
        fs::read_dir(&receipts).expect("receipts").map(|entry| entry.expect("a receipt").path()).collect();
    assert_eq!(files.len(), TRADES);
    let genesis = cluster.network().join("genesis.yaml");
    let verified = run(Command::new(binary()).arg("verify-receipt").arg("--genesis").arg(&genesis).args(&files));
    assert_eq!(verified.lines().filter(|line| line.starts_with("ok: ")).count(), TRADES, "{verified}");

    let id = files[0].file_stem().and_then(|stem| stem.to_str()).expect("an id").to_owned();
    let mine = fs::read_to_string(&files[0]).expect("a receipt");
    for i in 0..4 {
        let (status, theirs) = cluster.request(i, "admin", &format!("/v1/transactions/{id}/receipt"), &[]);
        assert_eq!(status, 200);
        let (theirs, mine): (Value, Value) =
            (serde_json::from_str(&theirs).expect("JSON"), serde_json::from_str(&mine).expect("JSON"));
        for part in ["id", "height", "transaction", "inclusion", "result", "result_inclusion"] {
            assert_eq!(theirs[part], mine[part], "node {i}: {part}");
        }
        assert_eq!(theirs["block"]["header"], mine["block"]["header"], "node {i}");
    }
    let urls: Vec<String> = (0..4).map(|i| cluster.api(i)).collect();
    let compared = run(Command::new(binary()).args(["compare", "--as"]).arg(cluster.user("admin")).args(&urls));
    assert!(compared.contains("same chain"), "{compared}");
}

/// Each row is there as often as in the file, with numbers as numbers.
fn assert_holds_every_row(contents: &[&Value], csv: &str) {
    let mut lines = csv.lines();
    let columns: Vec<&str> = lines.next().expect("a header").split(',').collect();
    let mut expected: Vec<String> = lines
        .map(|line| {
            let fields = columns.iter().zip(line.split(',')).map(|(column, text)| {
                let value =
                    text.parse::<f64>().map_or(Value::from(text), |_| serde_json::from_str(text).expect("a number"));
                ((*column).to_owned(), value)
            });
            Value::Object(fields.collect()).to_string()
        })
        .collect();
    let mut found: Vec<String> = contents.iter().map(|content| content.to_string()).collect();
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
}

#[test]
fn four_organisations_commit_real_trades_by_quorum() {
    commit_trades(Mode::Bft);
}

#[test]
fn four_organisations_commit_real_trades_by_full_consent() {
    commit_trades(Mode::FullConsent);
}

//! Types of records by the command line, on a network of four: a type is set with the consent of three admins, a
//! trade needs the seller's and the buyer's organisations, and what does not fit is refused with the schema's reason.

use std::{fs, process::Output};

use minidlt_integration::{Author, CBOR, Cluster, Mode};
use minidlt_protocol::transaction::{Body, Content, Operation};
use serde_json::{Value, json};

const NODES: usize = 4;

/// The program as one user: its exit code, and what it said on both outputs.
fn minidlt(cluster: &Cluster, user: &str, words: &[&str]) -> (i32, String) {
    let directory = cluster.user(user).display().to_string();
    let Output { status, stdout, stderr } = cluster.minidlt(&[words, &["--as", &directory]].concat());
    let said = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (status.code().expect("it ends by itself"), said)
}

fn done(cluster: &Cluster, user: &str, words: &[&str]) -> String {
    let (code, said) = minidlt(cluster, user, words);
    assert_eq!(code, 0, "{words:?}: {said}");
    said
}

fn refused(cluster: &Cluster, user: &str, words: &[&str]) -> String {
    let (code, said) = minidlt(cluster, user, words);
    assert_eq!(code, 1, "{words:?}: {said}");
    said
}

/// A file beside the network's, with this in it.
fn file(cluster: &Cluster, name: &str, content: &Value) -> String {
    let path = cluster.directory.path().join(name);
    fs::write(&path, content.to_string()).expect("written");
    path.display().to_string()
}

/// A change that the admin of Org01 writes to a file, two others endorse, and that is then sent.
fn agree(cluster: &Cluster, words: &[&str]) -> String {
    let out = cluster.directory.path().join("change.json").display().to_string();
    done(cluster, "admin", &[words, &["--out", &out]].concat());
    ["admin-Org02", "admin-Org03"].iter().for_each(|endorser| drop(done(cluster, endorser, &["endorse", &out])));
    done(cluster, "admin", &["send", &out])
}

fn trade(price: f64) -> Value {
    json!({"ISIN": "US0378331005", "price": price, "seller": "Org01", "buyer": "Org02"})
}

/// What a node answers to a record of a type that is signed without the program: the status, the problem, its detail.
fn submitted(cluster: &Cluster, node: usize, of: &str, nonce: u64, content: &Value) -> (u16, String, String) {
    let author = Author::of(cluster, "trader");
    let contents = vec![Content::from_json(content)];
    let operation = Operation::Record { record_type: Some(of.parse().expect("a name")), contents };
    let body = Body { operation, ..author.body(nonce, content) };
    let answer = cluster.post(node, "trader", "?wait=committed&timeout=30s", CBOR, &author.sign(&body));
    let detail = answer.json()["detail"].as_str().unwrap_or_default().to_owned();
    let problem = if answer.status < 300 { String::new() } else { answer.problem() };
    (answer.status, problem, detail)
}

#[test]
fn a_trade_fits_its_type_and_has_the_consent_of_both_sides() {
    let mut cluster = Cluster::start(NODES, Mode::Bft);
    let schema = json!({
        "type": "object",
        "properties": {"ISIN": {"pattern": "^[A-Z]{2}[A-Z0-9]{9}[0-9]$"}, "price": {"exclusiveMinimum": 0}},
        "required": ["ISIN", "price", "seller", "buyer"],
    });
    let path = file(&cluster, "trade.schema.json", &schema);
    let side = |at: &str| json!({"organisation_in": at, "role": "admin"});
    let policy = json!({"all": [side("/seller"), side("/buyer")]}).to_string();

    // A schema that is not taken is told so before anybody signs it, and so is a change without consent.
    let odd = file(&cluster, "odd.json", &json!({"properties": {"day": {"format": "date"}}}));
    let said = refused(&cluster, "admin", &["record-type", "set", "odd", "--schema", &odd]);
    assert!(said.contains("policy 'policies' is not met") || said.contains("the keyword \"format\""), "{said}");
    let alone = ["record-type", "set", "trade", "--schema", &path, "--policy", &policy];
    let said = refused(&cluster, "admin", &alone);
    assert!(said.contains("policy 'policies' is not met; missing: "), "{said}");
    let said = agree(&cluster, &alone);
    assert!(said.starts_with("record type trade set in block "), "{said}");
    let said = agree(&cluster, &["record-type", "set", "note", "--schema", &path]);
    assert!(said.starts_with("record type note set in block "), "{said}");
    cluster.wait_agreed();

    // Without a policy the author's signature is enough.
    let honest = file(&cluster, "trade.json", &trade(27.18));
    let said = done(&cluster, "trader", &["submit", "--type", "note", "--wait", &honest]);
    assert!(said.contains("1 committed, 0 rejected, 0 dumped"), "{said}");
    let id = said.lines().find_map(|line| line.strip_prefix("transaction ")).expect("its id").to_owned();
    let receipt = cluster.directory.path().join("receipt.json").display().to_string();
    done(&cluster, "trader", &["receipt", "--out", &receipt, &id]);

    // With one, both sides sign.
    let said = refused(&cluster, "trader", &["submit", "--type", "trade", "--wait", &honest]);
    assert!(said.contains("0 committed, 1 rejected, 0 dumped"), "{said}");
    assert!(said.contains("missing: admin of Org01, admin of Org02"), "{said}");
    let out = cluster.directory.path().join("signed.json").display().to_string();
    let said = done(&cluster, "trader", &["submit", "--type", "trade", "--out", &out, &honest]);
    assert!(said.starts_with("1 record to be kept; have "), "{said}");
    done(&cluster, "admin", &["endorse", &out]);
    let (code, said) = minidlt(&cluster, "trader", &["policy", "explain", &out]);
    assert_eq!(code, 1, "{said}");
    for line in
        ["policy of record type 'trade': not met", "met     admin of Org01: admin@Org01", "missing admin of Org02"]
    {
        assert!(said.contains(line), "{line} in {said}");
    }
    let said = done(&cluster, "admin-Org02", &["endorse", &out]);
    assert!(said.contains("\"type\": \"trade\"") && said.contains("27.18"), "in clear: {said}");
    let said = done(&cluster, "trader", &["send", &out]);
    assert!(said.starts_with("the record kept in block "), "{said}");

    // What does not fit is refused by every node, with the schema's reason.
    for node in 0..NODES {
        let nonce = 10 + node as u64;
        let (status, problem, detail) = submitted(&cluster, node, "note", nonce, &trade(-1.0));
        assert_eq!((status, problem.as_str()), (422, "record-does-not-fit"), "{detail}");
        let reason = "record 0 does not fit the schema of record type 'note': at /price: must be > 0 but got -1.0";
        assert_eq!(detail, reason);
        let (status, problem, _) = submitted(&cluster, node, "other", nonce, &trade(1.0));
        assert_eq!((status, problem.as_str()), (422, "unknown-record-type"));
    }

    suspended_and_resumed(&cluster);
    what_is_told_and_proven(&cluster, &receipt);
    for i in 0..NODES {
        assert_eq!(cluster.stop_node(i), 0);
        let checked = cluster.minidlt(&["verify", &cluster.node(i).display().to_string()]);
        assert!(checked.status.success() && checked.stdout.starts_with(b"ok: "), "{checked:?}");
    }
}

fn suspended_and_resumed(cluster: &Cluster) {
    let said = agree(cluster, &["record-type", "suspend", "note"]);
    assert!(said.starts_with("record type note suspended in block "), "{said}");
    cluster.wait_agreed();
    let (status, problem, detail) = submitted(cluster, 1, "note", 20, &trade(1.0));
    assert_eq!((status, problem.as_str()), (409, "record-type-suspended"), "{detail}");
    let said = agree(cluster, &["record-type", "resume", "note"]);
    assert!(said.starts_with("record type note resumed in block "), "{said}");
    cluster.wait_agreed();
    assert_eq!(submitted(cluster, 1, "note", 20, &trade(1.0)).0, 200);
}

fn what_is_told_and_proven(cluster: &Cluster, receipt: &str) {
    cluster.wait_agreed();
    let list = cluster.get(0, "/v1/record-types");
    (1..NODES).for_each(|node| assert_eq!(cluster.get(node, "/v1/record-types"), list, "node {node}"));
    let said = done(cluster, "trader", &["record-type", "list"]);
    assert!(said.lines().any(|line| line == "note  active  no policy  revision 2"), "{said}");
    let shown: Value = serde_json::from_str(&done(cluster, "trader", &["record-type", "show", "trade"])).expect("JSON");
    assert_eq!(shown["schema"]["required"], json!(["ISIN", "price", "seller", "buyer"]));
    let history = done(cluster, "trader", &["record-type", "history", "note"]);
    assert_eq!(history.lines().count(), 3, "{history}");
    assert!(history.contains("endorsed by admin-Org02@Org02, admin-Org03@Org03"), "{history}");
    let proofs = ["trade", "none"].map(|name| {
        let out = cluster.directory.path().join(format!("{name}.proof.json")).display().to_string();
        done(cluster, "trader", &["state-proof", "--out", &out, &format!("record-type/{name}")]);
        out
    });
    let genesis = cluster.network().join("genesis.yaml").display().to_string();
    let checked = cluster.minidlt(&["verify-receipt", receipt, &proofs[0], &proofs[1], "--genesis", &genesis]);
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.success(), "{checked:?}");
    assert!(
        said.contains("ok: record-type/trade is {\"policy\":{\"all\":[") && said.contains("\"required\":[\"ISIN\""),
        "{said}"
    );
    assert!(said.contains("ok: there is no record-type/none as of block "), "{said}");
}

//! State proofs of a running network: of what is there and what is not, by the command line, and by
//! crate `ics23` alone, as programs in other languages read them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ics23::{CommitmentProof, HashOp, HostFunctionsManager, InnerSpec, LeafOp, LengthOp, ProofSpec};
use minidlt_integration::{Cluster, Mode, Random, output_within, program, run};
use prost::Message as _;
use serde_json::Value;

use super::{CHECKED_WITHIN, assert_edits_prove_nothing, said};

const EDITS: usize = 150;

/// A list of the API, the name of its entries in the state, one that is there and one that is not.
const KINDS: [(&str, &str, &str, &str); 4] = [
    ("users", "user", "trader@Org01", "nobody@Org01"),
    ("nodes", "node", "node2@Org03", "node2@Org01"),
    ("organisations", "organisation", "Org04", "Org05"),
    ("policies", "policy", "orderers", "nothing"),
];

#[test]
fn what_is_there_and_what_is_not_is_proven_and_an_edited_proof_proves_nothing() {
    let mut random = Random::seeded();
    let cluster = Cluster::start(4, Mode::Bft);
    let early = output_within(&mut fetching(&cluster, 0, "user/trader@Org01", Path::new("early")), CHECKED_WITHIN);
    assert_eq!(early.status.code(), Some(1));
    let (_, errors) = said(&early, "asked before the first block");
    assert!(errors.contains("there is no block yet") && errors.contains("submit a transaction"), "{errors}");

    commit_a_record(&cluster);
    let head = cluster.wait_agreed();
    let names = |(list, kind, there, absent)| [(list, kind, there, true), (list, kind, absent, false)];
    for (at, (list, kind, name, is_there)) in KINDS.into_iter().flat_map(names).enumerate() {
        let (node, key) = (at % cluster.size(), format!("{kind}/{name}"));
        let file = cluster.directory.path().join("proof.json");
        run(&mut fetching(&cluster, node, &key, &file));
        let text = fs::read_to_string(&file).expect("a state proof");
        let as_of = format!(" as of block {} of minidlt at ", head - 1);
        let told = verified(&cluster, &file);
        let (told, time) = told.trim_end().split_once(&as_of).unwrap_or_else(|| panic!("{as_of:?} in {told}"));
        assert!(time.ends_with('Z'), "{time}");

        let path = format!("/v1/{list}/{name}");
        let (status, body) = cluster.request(node, "trader", &path, &[]);
        let answer: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!((status, &answer["height"]), (if is_there { 200 } else { 404 }, &Value::from(head - 1)));
        if is_there {
            let shown = told.strip_prefix(&format!("ok: {key} is ")).expect("what it is");
            assert_eq!(serde_json::from_str::<Value>(shown).expect("JSON"), answer["value"]);
        } else {
            assert_eq!(told, format!("ok: there is no {key}"));
        }
        assert_read_by_ics23_alone(&text, &key, is_there);
        // By the API as by the command line, but for the signatures that a node came to hold.
        let (status, other) = cluster.request((node + 1) % cluster.size(), "admin", &format!("{path}?proof=true"), &[]);
        let [mine, theirs] = [&text, &other].map(|text| serde_json::from_str::<Value>(text).expect("JSON"));
        assert_eq!(
            (status, &mine["proven"], &mine["header"]["hash"]),
            (200, &theirs["proven"], &theirs["header"]["hash"])
        );
        if list == "users" {
            let proves = if is_there { "ok: user/trader@Org01 is {" } else { "ok: there is no user/nobody@Org01" };
            assert_edits_prove_nothing(&mut random, &cluster, &text, proves, EDITS);
        }
    }
}

fn fetching(cluster: &Cluster, node: usize, key: &str, file: &Path) -> std::process::Command {
    let mut command = program(&[]);
    command.arg("state-proof").arg("--as").arg(cluster.user("trader")).args(["--node", &cluster.api(node), key]);
    command.arg("--out").arg(file);
    command
}

fn commit_a_record(cluster: &Cluster) {
    let file: PathBuf = cluster.directory.path().join("record.json");
    fs::write(&file, r#"{"ISIN": "US0378331005", "price": 28.02}"#).expect("written");
    run(program(&[]).args(["submit", "--wait", "--as"]).arg(cluster.user("trader")).arg(file));
}

fn verified(cluster: &Cluster, file: &Path) -> String {
    run(program(&[]).arg("verify-receipt").arg(file).arg("--genesis").arg(cluster.network().join("genesis.yaml")))
}

/// Nothing of ours takes part: what the protocol's README says of the proofs is enough to read one.
fn assert_read_by_ics23_alone(text: &str, key: &str, is_there: bool) {
    let file: Value = serde_json::from_str(text).expect("JSON");
    let bytes = |value: &Value| STANDARD.decode(value.as_str().expect("text")).expect("base64");
    let proof = CommitmentProof::decode(bytes(&file["proven"]["proof"]).as_slice()).expect("protobuf");
    let root = hex::decode(file["header"]["header"]["state_root"].as_str().expect("text")).expect("hexadecimal");
    assert_eq!(file["proven"]["key"], *key);
    let key = key.as_bytes();
    let value = file["proven"]["value"].is_string().then(|| bytes(&file["proven"]["value"]));
    let is_member =
        value.map(|value| ics23::verify_membership::<HostFunctionsManager>(&proof, &spec(), &root, key, &value));
    let is_absent = ics23::verify_non_membership::<HostFunctionsManager>(&proof, &spec(), &root, key);
    assert_eq!((is_member, is_absent), (is_there.then_some(true), !is_there));
}

fn spec() -> ProofSpec {
    let sha256: i32 = HashOp::Sha256.into();
    let leaf = LeafOp {
        hash: sha256,
        prehash_key: sha256,
        prehash_value: sha256,
        length: LengthOp::NoPrefix.into(),
        prefix: b"JMT::LeafNode".to_vec(),
    };
    let inner = InnerSpec {
        child_order: vec![0, 1],
        child_size: 32,
        min_prefix_length: 16,
        max_prefix_length: 16,
        empty_child: b"SPARSE_MERKLE_PLACEHOLDER_HASH__".to_vec(),
        hash: sha256,
    };
    ProofSpec {
        leaf_spec: Some(leaf),
        inner_spec: Some(inner),
        min_depth: 0,
        max_depth: 64,
        prehash_key_before_comparison: true,
    }
}

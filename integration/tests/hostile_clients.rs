//! Bad input at the API of a running cluster: each refused by its own name, nothing stored.

use std::{fs, path::PathBuf, process::Command};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use minidlt_integration::{Cluster, Mode, run};
use minidlt_protocol::{
    codec,
    crypto::{Domain, SecretKey, Signature, digest},
    genesis::Genesis,
    transaction::{Body, Content, Operation, SignedTransaction},
    types::{Hash, Timestamp},
};
use serde_json::{Value, json};

struct Trader {
    key: SecretKey,
    network: Hash,
}

impl Trader {
    fn of(cluster: &Cluster) -> Self {
        let pem = fs::read(cluster.user("trader").join("user.key")).expect("the trader's key");
        let key = openssl::ec::EcKey::private_key_from_pem(&pem).expect("a PEM key");
        let bytes = key.private_key().to_vec_padded(32).expect("32 bytes");
        let key = SecretKey::from_bytes(&bytes.try_into().expect("32 bytes")).expect("a key");
        let text = fs::read_to_string(cluster.network().join("genesis.yaml")).expect("genesis");
        let genesis: Genesis = serde_yaml::from_str(&text).expect("a genesis");
        Self { key, network: genesis.id() }
    }

    fn body(&self, nonce: u64) -> Body {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis();
        let now = Timestamp::from_millis(u64::try_from(now).expect("before the year 500 million"));
        Body {
            network: self.network,
            author: "trader@Org01".parse().expect("a name"),
            created: now,
            expires: now.plus_millis(60_000),
            nonce,
            operation: Operation::Record { contents: vec![Content::from_json(&json!({"nonce": nonce}))] },
        }
    }
}

fn post(cluster: &Cluster, node: usize, user: &str, kind: &str, body: Vec<u8>) -> (u16, Value) {
    let file: PathBuf = cluster.directory.path().join("request");
    fs::write(&file, body).expect("the request is written");
    let data = format!("@{}", file.display());
    let header = format!("content-type: {kind}");
    let (status, body) =
        cluster.request(node, user, "/v1/transactions", &["--header", &header, "--data-binary", &data]);
    (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
}

fn problem(answer: &(u16, Value)) -> (u16, &str) {
    let kind = answer.1["type"].as_str().unwrap_or_default();
    assert!(answer.1["detail"].as_str().is_some_and(|detail| detail.len() > 20), "a sentence that helps: {answer:?}");
    (answer.0, kind.strip_prefix("urn:minidlt:problem:").unwrap_or(kind))
}

const CBOR: &str = "application/cbor";

#[test]
fn every_bad_transaction_is_refused_by_name_and_nothing_is_stored() {
    let cluster = Cluster::start(4, Mode::Bft);
    let trader = Trader::of(&cluster);
    let signed = |body: &Body| codec::encode(&SignedTransaction::sign(body, &trader.key));
    let resigned = |body: &Body, domain: Domain, network: &Hash| {
        let bytes = codec::encode(body);
        let signature = trader.key.sign(&digest(domain, network, &[&bytes]));
        codec::encode(&SignedTransaction::new(bytes, signature))
    };
    let with = |change: &dyn Fn(&mut Body)| {
        let mut body = trader.body(1);
        change(&mut body);
        body
    };
    let good = trader.body(7);
    let mut high_s = SignedTransaction::sign(&good, &trader.key);
    high_s.signature = negate_s(&high_s.signature);
    let blank = SignedTransaction::new(codec::encode(&good), Signature::from_bytes([0; 64]));
    let long = "x".repeat(70 << 10);

    let cases: Vec<(&str, u16, Vec<u8>)> = vec![
        ("malformed-transaction", 400, b"junk".to_vec()),
        ("malformed-transaction", 400, vec![0xa0]),
        ("malformed-transaction", 400, signed(&with(&|b| b.expires = b.created))),
        ("malformed-transaction", 400, signed(&with(&|b| b.operation = Operation::Record { contents: vec![] }))),
        (
            "oversized-transaction",
            413,
            signed(&with(&|b| {
                b.operation = Operation::Record { contents: vec![Content::from_json(&json!(long))] };
            })),
        ),
        ("wrong-network", 422, signed(&with(&|b| b.network = Hash::ZERO))),
        (
            "expired-transaction",
            422,
            signed(&with(&|b| {
                b.created = b.created.minus_millis(100_000);
                b.expires = b.created.plus_millis(50_000);
            })),
        ),
        (
            "far-future-transaction",
            422,
            signed(&with(&|b| {
                b.created = b.created.plus_millis(100_000);
                b.expires = b.created.plus_millis(50_000);
            })),
        ),
        ("unknown-author", 403, signed(&with(&|b| b.author = "nobody@Org01".parse().expect("a name")))),
        ("bad-signature", 422, signed(&with(&|b| b.author = "admin@Org01".parse().expect("a name")))),
        ("bad-signature", 422, codec::encode(&blank)),
        ("bad-signature", 422, resigned(&trader.body(2), Domain::Message, &trader.network)),
        ("bad-signature", 422, resigned(&trader.body(3), Domain::Transaction, &Hash::ZERO)),
        ("high-s-signature", 422, codec::encode(&high_s)),
    ];
    for (kind, status, body) in cases {
        let answer = post(&cluster, 0, "trader", CBOR, body);
        assert_eq!(problem(&answer), (status, kind), "{answer:?}");
    }
    // An administrator of Org02 may submit through its own organisation's node only.
    let (status, prepared) = cluster.request(
        1,
        "admin-Org02",
        "/v1/transactions/prepare",
        &["--json", r#"{"record": {"content": {"a": 1}}}"#],
    );
    assert_eq!(status, 200, "{prepared}");
    let prepared: Value = serde_json::from_str(&prepared).expect("JSON");
    let digest = cluster.directory.path().join("digest");
    fs::write(&digest, hex::decode(prepared["digest"].as_str().expect("a digest")).expect("hex")).expect("written");
    let signature = cluster.directory.path().join("signature");
    run(Command::new("openssl")
        .args(["pkeyutl", "-sign", "-inkey"])
        .arg(cluster.user("admin-Org02").join("user.key"))
        .arg("-in")
        .arg(&digest)
        .arg("-out")
        .arg(&signature));
    let signature = BASE64.encode(fs::read(&signature).expect("a signature"));
    let body = json!({"body": prepared["body"], "signature": signature}).to_string().into_bytes();
    let refused = post(&cluster, 0, "admin-Org02", "application/json", body.clone());
    assert_eq!(problem(&refused), (403, "gateway-not-permitted"), "{refused:?}");
    assert!(refused.1["detail"].as_str().is_some_and(|detail| detail.contains("node1@Org02")), "names the gateways");

    assert_eq!(cluster.height(0), 0, "nothing was stored");
    assert!(cluster.metric(0, "minidlt_submissions_refused_total") >= 15.0, "each was counted");

    let (status, answer) = post(&cluster, 1, "admin-Org02", "application/json", body);
    assert_eq!(status, 202, "{answer}");
    let twice = signed(&good);
    let first = post(&cluster, 0, "trader", CBOR, twice.clone());
    assert_eq!(first.0, 202, "{first:?}");
    let id = first.1["id"].as_str().expect("an id").to_owned();
    let (status, committed) = cluster.request(0, "trader", &format!("/v1/transactions/{id}"), &[]);
    assert_eq!(status, 200, "{committed}");
    minidlt_integration::until("it is committed", || {
        cluster.get(0, &format!("/v1/transactions/{id}"))["status"] == "committed"
    });
    let again = post(&cluster, 2, "trader", CBOR, twice);
    assert_eq!((again.0, again.1["status"].as_str()), (200, Some("committed")), "a duplicate is idempotent: {again:?}");
    assert_eq!(again.1["id"], first.1["id"]);
}

#[test]
fn strangers_and_bad_requests_get_a_problem_or_no_connection() {
    let cluster = Cluster::start(1, Mode::Bft);
    let no_certificate =
        Command::new("curl").args(["--silent", "--insecure", &format!("{}/v1/status", cluster.api(0))]).output();
    assert!(!no_certificate.expect("curl runs").status.success(), "no certificate, no answer");
    let cases: [(&str, &[&str], u16); 7] = [
        ("/v1/nothing", &[], 404),
        ("/v1/status", &["--request", "DELETE"], 405),
        ("/v1/blocks/zzz", &[], 400),
        ("/v1/blocks/99999", &[], 404),
        ("/v1/transactions", &["--json", "{"], 400),
        ("/v1/transactions", &["--header", "content-type: text/plain", "--data", "x"], 415),
        ("/v1/admin/stop", &["--request", "POST"], 403),
    ];
    for (path, extra, expected) in cases {
        let (status, body) = cluster.request(0, "trader", path, extra);
        assert_eq!(status, expected, "{path}: {body}");
        let problem: Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{path}: a problem: {body}"));
        assert_eq!(problem["status"], expected, "{path}");
    }
    assert_eq!(cluster.get(0, "/v1/status")["height"], 0);
}

/// The other signature over the same bytes: S negated.
fn negate_s(signature: &Signature) -> Signature {
    let order = hex::decode("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141").expect("hex");
    let order = openssl::bn::BigNum::from_slice(&order).expect("a number");
    let s = openssl::bn::BigNum::from_slice(&signature.as_bytes()[32..]).expect("a number");
    let negated = (&order - &s).to_vec_padded(32).expect("32 bytes");
    let mut bytes = *signature.as_bytes();
    bytes[32..].copy_from_slice(&negated);
    Signature::from_bytes(bytes)
}

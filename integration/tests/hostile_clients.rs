//! Bad input at the API of a running cluster: each kind refused by its own name with a sentence,
//! counted once under that name and under no other, and nothing of it stored.

use std::{collections::BTreeMap, fs, process::Command};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use minidlt_integration::{Answer, Author, CBOR, Cluster, Mode, counted, heights_of, secret_key, until};
use minidlt_protocol::{
    codec,
    crypto::{Domain, Signature, digest},
    transaction::{Body, Content, Endorsement, Operation, SignedTransaction, id_of},
    types::{Hash, Timestamp},
};
use openssl::{bn::BigNum, ec::EcKey, ecdsa::EcdsaSig};
use serde_json::{Value, json};

const JSON: &str = "application/json";
const SEQUENCE: &str = "application/cbor-seq";
/// What is counted of transactions, and of requests.
const SUBMISSIONS: &str = "minidlt_submissions_refused_total";
const REQUESTS: &str = "minidlt_requests_refused_total";

/// Four organisations, as `init` makes them, and a user who may only read.
const NETWORK: &str = "
organisations: [Org01, Org02, Org03, Org04]
nodes: [{organisation: Org01}, {organisation: Org02}, {organisation: Org03}, {organisation: Org04}]
users:
  - {name: admin, organisation: Org01, roles: [admin, submitter]}
  - {name: admin-Org02, organisation: Org02, roles: [admin, submitter]}
  - {name: admin-Org03, organisation: Org03, roles: [admin, submitter]}
  - {name: admin-Org04, organisation: Org04, roles: [admin, submitter]}
  - {name: auditor, organisation: Org01, roles: [auditor]}
  - {name: trader, organisation: Org01, roles: [submitter], gateways: [node0, node1, node2, node3]}
";

/// A bad submission to node 0: who sends it, as what, and how it must be refused.
struct Case {
    what: &'static str,
    reason: &'static str,
    status: u16,
    user: &'static str,
    content_type: &'static str,
    bytes: Vec<u8>,
}

impl Case {
    fn new(what: &'static str, reason: &'static str, status: u16, bytes: Vec<u8>) -> Self {
        Self { what, reason, status, user: "trader", content_type: CBOR, bytes }
    }

    /// Of a JSON body, which is refused as a request, before there is a transaction.
    fn json(what: &'static str, bytes: Value) -> Self {
        let bytes = bytes.to_string().into_bytes();
        Self { content_type: JSON, ..Self::new(what, "bad-request", 400, bytes) }
    }

    fn by(self, user: &'static str) -> Self {
        Self { user, ..self }
    }

    /// What is counted: a refused transaction is a refused request, too.
    fn counted(&self) -> BTreeMap<String, f64> {
        let transaction = (self.reason != "bad-request").then(|| counted(SUBMISSIONS, self.reason));
        transaction.into_iter().chain([counted(REQUESTS, self.reason)]).map(|name| (name, 1.0)).collect()
    }
}

/// Whose signature does not hold, or who may not.
fn unauthorised(cluster: &Cluster, trader: &Author) -> Vec<Case> {
    let [auditor, other] = ["auditor", "admin-Org02"].map(|name| Author::of(cluster, name));
    let body = |nonce: u64| trader.body(nonce, &json!({ "nonce": nonce }));
    let by = |author: &str| Body { author: author.parse().expect("a name"), ..body(1) };
    let signed_for = |body: &Body, domain: Domain, network: &Hash| {
        let bytes = codec::encode(body);
        let signature = trader.key.sign(&digest(domain, network, &[&bytes]));
        codec::encode(&SignedTransaction::new(bytes, signature))
    };
    let unsigned = SignedTransaction::new(codec::encode(&body(2)), Signature::from_bytes([0; 64]));
    let mut high_s = SignedTransaction::sign(&body(3), &trader.key);
    high_s.signature = negate_s(&high_s.signature);
    let mut endorsed = SignedTransaction::sign(&body(4), &trader.key);
    endorsed.endorsements.push(Endorsement { endorser: other.identity.clone(), signature: endorsed.signature });
    let only_reads = auditor.sign(&auditor.body(5, &json!(5)));
    let for_another = signed_for(&body(8), Domain::Transaction, &Hash::ZERO);
    let elsewhere = other.sign(&other.body(6, &json!(6)));

    vec![
        Case::new("of an unknown author", "unknown-author", 403, trader.sign(&by("nobody@Org01"))),
        Case::new("in another's name", "bad-signature", 422, trader.sign(&by("admin@Org01"))),
        Case::new("unsigned", "bad-signature", 422, codec::encode(&unsigned)),
        Case::new("of another domain", "bad-signature", 422, signed_for(&body(7), Domain::Message, &trader.network)),
        Case::new("signed for another network", "bad-signature", 422, for_another),
        Case::new("with a high S", "high-s-signature", 422, codec::encode(&high_s)),
        Case::new("with a false endorsement", "bad-endorsement", 422, codec::encode(&endorsed)),
        Case::new("without the role", "role-missing", 403, only_reads).by("auditor"),
        Case::new("by a gateway not permitted", "gateway-not-permitted", 403, elsewhere).by("admin-Org02"),
    ]
}

/// What is not a transaction, or not one of now and here.
fn unfit(trader: &Author) -> Vec<Case> {
    let with = |change: &dyn Fn(&mut Body)| {
        let mut body = trader.body(9, &json!({}));
        change(&mut body);
        trader.sign(&body)
    };
    let records = |contents: Vec<Value>| {
        with(&|body| {
            let contents = contents.iter().map(Content::from_json).collect();
            body.operation = Operation::records(contents);
        })
    };
    let aged = |by: i64| {
        with(&|body| {
            let created = body.created.millis().checked_add_signed(by).expect("a time");
            body.created = Timestamp::from_millis(created);
            body.expires = body.created.plus_millis(50_000);
        })
    };
    let long = |chars: usize| json!("x".repeat(chars));
    let body = BASE64.encode(codec::encode(&trader.body(10, &json!({}))));

    vec![
        Case::new("junk", "malformed-transaction", 400, b"junk".to_vec()),
        Case::new("an empty map", "malformed-transaction", 400, vec![0xa0]),
        Case::new("without a life", "malformed-transaction", 400, with(&|body| body.expires = body.created)),
        Case::new("without a record", "malformed-transaction", 400, records(vec![])),
        Case::new("a record over 64 KiB", "oversized-transaction", 413, records(vec![long(70 << 10)])),
        Case::new("records over 1 MiB", "oversized-transaction", 413, records(vec![long(600 << 10), long(600 << 10)])),
        Case::new("of another network", "wrong-network", 422, with(&|body| body.network = Hash::ZERO)),
        Case::new("expired", "expired-transaction", 422, aged(-100_000)),
        Case::new("of the far future", "far-future-transaction", 422, aged(100_000)),
        Case::json("JSON without a signature", json!({ "body": body })),
        Case::json("JSON with half a signature", json!({ "body": body, "signature": BASE64.encode([1_u8; 32]) })),
    ]
}

/// Where all nodes stand: heights, heads, and what waits.
fn standing(cluster: &Cluster) -> Vec<Value> {
    let of = |node| {
        let status = cluster.get(node, "/v1/status");
        ["height", "head", "mempool"].map(|member| status[member].clone())
    };
    (0..cluster.size()).flat_map(of).collect()
}

/// Node 0 refuses it by its name, and counts it once as what it is.
fn assert_refused(cluster: &Cluster, case: &Case) -> Answer {
    let before = cluster.samples(0, &[SUBMISSIONS, REQUESTS]);
    let answer = cluster.post(0, case.user, "", case.content_type, &case.bytes);
    let what = case.what;
    assert_eq!((answer.status, answer.problem().as_str()), (case.status, case.reason), "{what}: {answer:?}");
    let changes = cluster.samples(0, &[SUBMISSIONS, REQUESTS]).since(&before);
    assert_eq!(changes, case.counted(), "{what}: counted once, as what it is");
    answer
}

#[test]
fn every_bad_transaction_is_refused_by_name_and_nothing_is_stored() {
    let mut cluster = Cluster::init_from(NETWORK, 4, Mode::Bft);
    cluster.start_all();
    let trader = Author::of(&cluster, "trader");
    let stood = standing(&cluster);
    assert_eq!(stood[0], 0, "the ledger is at genesis");
    for case in unfit(&trader).into_iter().chain(unauthorised(&cluster, &trader)) {
        let answer = assert_refused(&cluster, &case);
        assert_eq!(standing(&cluster), stood, "{}: nothing is stored, on any node", case.what);
        if case.reason == "gateway-not-permitted" {
            assert!(answer.body.contains("node1@Org02"), "it names the gateways: {answer:?}");
        }
    }
}

#[test]
fn a_transaction_submitted_again_is_answered_alike_and_committed_once() {
    let cluster = Cluster::start(4, Mode::Bft);
    let trader = Author::of(&cluster, "trader");
    let body = trader.body(1, &json!({ "only": "once" }));
    let (id, bytes) = (trader.id(&body), trader.sign(&body));
    let before = cluster.samples(0, &[SUBMISSIONS, REQUESTS]);

    // Twice in one request: the second finds the first waiting.
    let twice = cluster.post(0, "trader", "", SEQUENCE, &bytes.repeat(2));
    assert_eq!(twice.status, 202, "{twice:?}");
    let pending = json!({ "id": id, "status": "pending" });
    assert_eq!(twice.json(), json!({ "transactions": [pending, pending], "accepted": 2, "refused": 0 }));

    let first = cluster.post(0, "trader", "?wait=committed&timeout=30s", CBOR, &bytes);
    let place = first.json();
    assert_eq!((first.status, &place["status"], &place["id"]), (200, &json!("committed"), &json!(id)), "{first:?}");
    until("all nodes have it", || (0..4).all(|i| cluster.height(i) >= place["height"].as_u64().expect("a height")));
    // The same body under another signature of its author is the same transaction.
    let resigned = signed_anew(&cluster, &body);
    assert_ne!(resigned, bytes);
    for node in 0..4 {
        for bytes in [&bytes, &resigned] {
            let again = cluster.post(node, "trader", "", CBOR, bytes);
            assert_eq!((again.status, again.json()), (200, place.clone()), "node {node}: {again:?}");
        }
    }
    cluster.wait_agreed();
    for node in 0..4 {
        assert_eq!(heights_of(&cluster.chain(node), &id).len(), 1, "node {node} holds it once");
        assert_eq!(cluster.get(node, "/v1/status")["mempool"]["transactions"], 0, "node {node} waits with no more");
    }
    let refused = cluster.samples(0, &[SUBMISSIONS, REQUESTS]).since(&before);
    assert_eq!(refused, BTreeMap::new(), "to submit again is no fault");
}

#[test]
fn strangers_and_bad_requests_get_a_problem_or_no_connection() {
    let cluster = Cluster::start(1, Mode::Bft);
    let no_certificate =
        Command::new("curl").args(["--silent", "--insecure", &format!("{}/v1/status", cluster.api(0))]).output();
    assert!(!no_certificate.expect("curl runs").status.success(), "no certificate, no answer");
    let large = cluster.directory.path().join("large");
    fs::write(&large, vec![0_u8; 9 << 20]).expect("more than a body may have");
    let large = format!("@{}", large.display());
    // The answer comes before all is sent, which over HTTP/2 curl may take for a broken stream.
    let large = ["--http1.1", "--header", "content-type: application/cbor", "--data-binary", large.as_str()];
    let cases: [(&str, &[&str], u16, &str); 8] = [
        ("/v1/nothing", &[], 404, "not-found"),
        ("/v1/status", &["--request", "DELETE"], 405, "method-not-allowed"),
        ("/v1/blocks/zzz", &[], 400, "bad-request"),
        ("/v1/blocks/99999", &[], 404, "not-found"),
        ("/v1/transactions", &["--json", "{"], 400, "bad-request"),
        ("/v1/transactions", &["--header", "content-type: text/plain", "--data", "x"], 415, "unsupported-media-type"),
        ("/v1/transactions", &large, 413, "payload-too-large"),
        ("/v1/admin/stop", &["--request", "POST"], 403, "forbidden"),
    ];
    for (path, extra, status, reason) in cases {
        let before = cluster.samples(0, &[SUBMISSIONS, REQUESTS]);
        let answer = cluster.ask(0, "trader", path, extra);
        assert_eq!((answer.status, answer.problem().as_str()), (status, reason), "{path}: {answer:?}");
        let changes = cluster.samples(0, &[SUBMISSIONS, REQUESTS]).since(&before);
        assert_eq!(changes, BTreeMap::from([(counted(REQUESTS, reason), 1.0)]), "{path}: counted once");
    }
    assert_eq!(cluster.get(0, "/v1/status")["height"], 0);
}

/// A transaction with this body of the trader's, under a signature that is not the one that RFC 6979
/// leads to.
fn signed_anew(cluster: &Cluster, body: &Body) -> Vec<u8> {
    let path = cluster.user("trader").join("user.key");
    let key = EcKey::private_key_from_pem(&fs::read(&path).expect("the trader's key")).expect("a key");
    let bytes = codec::encode(body);
    let id = id_of(&body.network, &bytes);
    let signature = EcdsaSig::sign(id.as_bytes(), &key).and_then(|signature| signature.to_der()).expect("signed");
    let signature = Signature::normalise(&signature).expect("a signature");
    assert_ne!(signature, secret_key(&path).sign(&id));
    codec::encode(&SignedTransaction::new(bytes, signature))
}

/// The other signature over the same bytes: S negated.
fn negate_s(signature: &Signature) -> Signature {
    let order = hex::decode("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141").expect("hex");
    let order = BigNum::from_slice(&order).expect("a number");
    let s = BigNum::from_slice(&signature.as_bytes()[32..]).expect("a number");
    let negated = (&order - &s).to_vec_padded(32).expect("32 bytes");
    let mut bytes = *signature.as_bytes();
    bytes[32..].copy_from_slice(&negated);
    Signature::from_bytes(bytes)
}

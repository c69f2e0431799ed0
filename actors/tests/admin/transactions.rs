//! From preparing to committed.

use std::time::{Duration, Instant};

use awc::http::Method;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use minidlt_actors::messages::mempool::Cause;
use minidlt_protocol::{
    codec,
    limits::MAX_BULK_TRANSACTION_BYTES,
    transaction::{Refusal, SignedTransaction, TransactionBytes},
    types::Hash,
};
use serde_json::{Value, json};

use super::{
    network::{TRADER, identity, key_of},
    node::{Answer, Change, Fake, Node},
};

const CBOR: &str = "application/cbor";
const SEQ: &str = "application/cbor-seq";

async fn submit(node: &Node, query: &str, kind: &str, body: impl Into<Vec<u8>>) -> Answer {
    node.call(TRADER, Method::POST, &format!("/v1/transactions{query}"), kind, body).await
}

#[actix_web::test]
async fn prepared_signed_submitted_and_committed() {
    let node = Node::start();
    let asked = json!({ "record": { "content": { "ISIN": "DE0001", "price": 1.1, "count": u64::MAX } } });
    let path = "/v1/transactions/prepare";
    let prepared = node.call(TRADER, Method::POST, path, "application/json", asked.to_string()).await.json();
    assert_eq!(prepared["id"], prepared["digest"]);
    let id: Hash = prepared["id"].as_str().unwrap().parse().unwrap();
    let signature = key_of(TRADER).sign(&id);
    // Padding left out and lines broken, as tools do.
    let body = prepared["body"].as_str().unwrap().trim_end_matches('=');
    let (first, second) = body.split_at(20);
    let json = json!({ "body": format!("{first}\n{second}\n"), "signature": STANDARD.encode(signature.as_bytes()) });
    let json = json.to_string();

    let taken = submit(&node, "", "application/json", json.clone()).await;
    assert_eq!((taken.status.as_u16(), taken.json()), (202, json!({ "id": id, "status": "pending" })));
    assert_eq!(taken.header("location"), format!("/v1/transactions/{id}"));
    let again = submit(&node, "", "application/json", json.clone()).await;
    assert_eq!((again.status.as_u16(), again.json()), (202, json!({ "id": id, "status": "pending" })));

    let status = node.get(TRADER, &format!("/v1/transactions/{id}")).await.json();
    assert_eq!(status["status"], "pending");
    assert_eq!(status["missing"], json!([{ "name": "node3", "organisation": "Org02" }]));
    assert_eq!(node.get(TRADER, "/v1/status").await.json()["consensus"]["active"], json!(true));
    assert_eq!(status["transaction"]["operation"]["record"]["contents"][0], asked["record"]["content"]);

    let body = STANDARD.decode(prepared["body"].as_str().unwrap()).unwrap();
    node.chain.commit(vec![(&SignedTransaction::new(body, signature)).into()]);
    let place = json!({ "id": id, "status": "committed", "height": 1, "position": 0, "result": { "status": "ok" } });
    let late = submit(&node, "", "application/json", json).await;
    assert_eq!((late.status.as_u16(), late.json()), (200, place));
    let status = node.get(TRADER, &format!("/v1/transactions/{id}")).await.json();
    assert_eq!((&status["status"], &status["height"]), (&json!("committed"), &json!(1)));
    let receipt = node.get(TRADER, &format!("/v1/transactions/{id}/receipt")).await;
    assert_eq!((receipt.status.as_u16(), receipt.problem().as_str()), (409, "receipt-not-ready"));
    assert_eq!(receipt.header("retry-after"), "1");
}

#[actix_web::test]
async fn waiting_ends_with_the_commit_or_with_its_time() {
    let node = Node::start();
    let signed = node.network.signed(TRADER, 1);
    let bytes = codec::encode(&signed);
    let began = Instant::now();
    let early = submit(&node, "?wait=committed&timeout=200ms", CBOR, bytes.clone()).await;
    assert_eq!((early.status.as_u16(), &early.json()["status"]), (202, &json!("pending")));
    assert!(began.elapsed() >= Duration::from_millis(200));

    let commits = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        node.chain.commit(vec![]);
        tokio::time::sleep(Duration::from_millis(100)).await;
        node.chain.commit(vec![(&signed).into()]);
    };
    let began = Instant::now();
    let (answer, ()) = tokio::join!(submit(&node, "?wait=committed&timeout=15s", CBOR, bytes), commits);
    assert_eq!((answer.status.as_u16(), &answer.json()["height"]), (200, &json!(2)));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[actix_web::test]
async fn a_sequence_is_taken_item_by_item() {
    let node = Node::start();
    let good: Vec<SignedTransaction> = (0..3).map(|nonce| node.network.signed(TRADER, nonce)).collect();
    let huge = codec::encode(&"x".repeat(MAX_BULK_TRANSACTION_BYTES));
    let [a, b, c] = [0, 1, 2].map(|at| codec::encode(&good[at]));
    let sequence = [a.clone(), huge, b, vec![0x01], a, c].concat();
    let answer = submit(&node, "", SEQ, sequence.clone()).await;
    assert_eq!(answer.status, 202);
    let json = answer.json();
    assert_eq!((&json["accepted"], &json["refused"]), (&json!(4), &json!(2)));
    let of = |entry: &Value| match entry.get("problem") {
        Some(problem) => problem["type"].as_str().unwrap().to_owned(),
        None => entry["status"].as_str().unwrap().to_owned(),
    };
    let list: Vec<String> = json["transactions"].as_array().unwrap().iter().map(of).collect();
    let [oversized, malformed] =
        ["oversized", "malformed"].map(|kind| format!("urn:minidlt:problem:{kind}-transaction"));
    let pending = || "pending".to_owned();
    assert_eq!(list, [pending(), oversized, pending(), malformed, pending(), pending()]);
    assert_eq!(json["transactions"][0]["id"], json["transactions"][4]["id"]);

    let all: Vec<TransactionBytes> = good.iter().map(Into::into).collect();
    let sequence = good.iter().flat_map(codec::encode).collect::<Vec<u8>>();
    let commits = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        node.chain.commit(all[..2].to_vec());
        node.chain.commit(all[2..].to_vec());
    };
    let (answer, ()) = tokio::join!(submit(&node, "?wait=committed&timeout=15s", SEQ, sequence), commits);
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.json()["transactions"][2]["height"], json!(2));
}

#[actix_web::test]
async fn a_full_mempool_says_when_to_try_again() {
    let node = Node::start();
    let known = codec::encode(&node.network.signed(TRADER, 1));
    assert_eq!(submit(&node, "", CBOR, known.clone()).await.status, 202);
    node.fake.send(Change(Fake::fill)).await.unwrap();
    let new = codec::encode(&node.network.signed(TRADER, 2));
    for (kind, body) in [(CBOR, new.clone()), (SEQ, new.clone())] {
        let full = submit(&node, "", kind, body).await;
        assert_eq!((full.status.as_u16(), full.header("retry-after")), (429, "1"), "{}", full.text);
    }
    let some = submit(&node, "", SEQ, [known, new].concat()).await;
    assert_eq!((some.status.as_u16(), some.header("retry-after")), (202, "1"));
    assert_eq!(some.json()["transactions"][1]["problem"]["type"], "urn:minidlt:problem:mempool-full");
}

#[actix_web::test]
async fn the_dumped_are_told_with_who_was_missing() {
    let node = Node::start();
    let signed = node.network.signed(TRADER, 1);
    let taken = submit(&node, "", CBOR, codec::encode(&signed)).await.json();
    node.fake.send(Change(Fake::dump_all)).await.unwrap();
    let waited = submit(&node, "?wait=committed&timeout=10ms", CBOR, codec::encode(&signed)).await;
    assert_eq!((waited.status.as_u16(), &waited.json()["status"]), (200, &json!("dumped")));
    let path = format!("/v1/transactions/{}", taken["id"].as_str().unwrap());
    let status = node.get(TRADER, &path).await.json();
    assert_eq!((&status["status"], &status["missing"][0]["name"]), (&json!("dumped"), &json!("node3")));
    for answer in [&status, &waited.json()] {
        assert_eq!((&answer["reason"], answer["missing"].as_array().unwrap().len()), (&json!("acceptance-missing"), 1));
        assert!(answer["detail"].as_str().unwrap().ends_with("waited for node3@Org02"), "{answer}");
    }
}

#[actix_web::test]
async fn what_was_rejected_while_it_waited_is_told_with_the_reason() {
    let node = Node::start();
    let signed = node.network.signed(TRADER, 1);
    let taken = submit(&node, "", CBOR, codec::encode(&signed)).await.json();
    let replaced = |fake: &mut Fake| fake.rejected = Some(Refusal::KeyReplaced(identity(TRADER)));
    node.fake.send(Change(replaced)).await.unwrap();
    let expected = json!({
        "id": taken["id"],
        "status": "rejected",
        "kind": "key-replaced",
        "reason": "the key of trader@Org01 was replaced after this was signed; sign it anew",
    });
    let status = node.get(TRADER, &format!("/v1/transactions/{}", taken["id"].as_str().unwrap())).await;
    assert_eq!((status.status.as_u16(), status.json()), (200, expected.clone()));
    let waited = submit(&node, "?wait=committed&timeout=10ms", CBOR, codec::encode(&signed)).await;
    assert_eq!((waited.status.as_u16(), waited.json()), (200, expected));
}

#[actix_web::test]
async fn the_dumped_that_nobody_held_up_name_nobody_and_say_why() {
    let node = Node::start();
    let taken = submit(&node, "", CBOR, codec::encode(&node.network.signed(TRADER, 1))).await.json();
    let path = format!("/v1/transactions/{}", taken["id"].as_str().unwrap());
    node.fake.send(Change(Fake::dump_all)).await.unwrap();
    node.fake.send(Change(|fake| fake.cause = Cause::NobodyMissing)).await.unwrap();
    let nobody = node.get(TRADER, &path).await.json();
    assert_eq!((&nobody["reason"], &nobody["missing"]), (&json!("nobody-missing"), &json!([])));
    node.fake.send(Change(|fake| fake.cause = Cause::NotSeen)).await.unwrap();
    let unseen = node.get(TRADER, &path).await.json();
    assert_eq!((&unseen["reason"], &unseen["missing"]), (&json!("not-seen"), &json!([])));
    assert_ne!(nobody["detail"], unseen["detail"]);
}

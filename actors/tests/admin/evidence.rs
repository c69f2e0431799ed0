//! Evidence, from a user's two statements to the node's status.

use awc::http::Method;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use minidlt_protocol::{transaction::SignedTransaction, types::Hash};
use serde_json::{Value, json};

use super::{
    network::{ADMIN, ELSEWHERE, TRADER, key_of},
    node::{Answer, Node},
};

const JSON: &str = "application/json";

async fn prepare(node: &Node, who: &str, asked: &Value) -> Answer {
    node.call(who, Method::POST, "/v1/transactions/prepare", JSON, asked.to_string()).await
}

fn votes(node: &Node, blocks: [Option<u8>; 2]) -> Value {
    let [first, second] = blocks.map(|block| node.network.prevote(3, block));
    json!({ "votes": { "first": first, "second": second } })
}

#[actix_web::test]
async fn prepared_in_any_order_submitted_and_shown() {
    let node = Node::start();
    assert_eq!(node.get(TRADER, "/v1/status").await.json()["evidence"], json!([]));
    // In the wrong order: the two are put right.
    let asked = json!({ "evidence": votes(&node, [Some(7), None]), "lifetime_s": 60 });
    let prepared = prepare(&node, TRADER, &asked).await.json();
    let id: Hash = prepared["digest"].as_str().unwrap().parse().unwrap();
    let signature = key_of(TRADER).sign(&id);
    let submitted = json!({ "body": prepared["body"], "signature": STANDARD.encode(signature.as_bytes()) });
    let taken = node.call(TRADER, Method::POST, "/v1/transactions", JSON, submitted.to_string()).await;
    assert_eq!((taken.status.as_u16(), taken.json()), (202, json!({ "id": id, "status": "pending" })));
    let shown = node.get(TRADER, &format!("/v1/transactions/{id}")).await.json();
    let operation = json!({ "evidence": votes(&node, [None, Some(7)]) });
    assert_eq!(shown["transaction"]["operation"], operation);
    let voter = json!({ "name": "node3", "organisation": "Org02" });
    assert_eq!(operation["evidence"]["votes"]["first"]["voter"], voter);

    let body = STANDARD.decode(prepared["body"].as_str().unwrap()).unwrap();
    node.chain.commit(vec![(&SignedTransaction::new(body, signature)).into()]);
    let expected = json!([{ "voter": voter, "height": 1, "round": 0, "kind": "prevote", "transaction": id }]);
    assert_eq!(node.get(ADMIN, "/v1/status").await.json()["evidence"], expected);
    let block = node.get(ADMIN, "/v1/blocks/1").await.json();
    assert_eq!(block["content"][0]["operation"], operation);
}

#[actix_web::test]
async fn what_proves_nothing_is_not_prepared() {
    let node = Node::start();
    let refused = async |who: &str, evidence: &Value| {
        let answer = prepare(&node, who, &json!({ "evidence": evidence })).await;
        (answer.status.as_u16(), answer.problem(), answer.json()["detail"].as_str().unwrap().to_owned())
    };
    let honest = votes(&node, [None, Some(7)]);
    let (status, kind, detail) = refused(TRADER, &votes(&node, [None, None])).await;
    assert_eq!((status, kind.as_str()), (422, "bad-evidence"), "{detail}");
    assert!(detail.contains("the prevote of node3@Org02 at height 1, round 0 stands there twice"), "{detail}");

    let mut forged = honest.clone();
    forged["votes"]["second"]["vote"]["block"] = json!("00".repeat(32));
    let (status, kind, detail) = refused(TRADER, &forged).await;
    assert_eq!((status, kind.as_str()), (422, "bad-evidence"), "signatures are looked at");
    assert!(detail.contains("the signature of the second statement"), "{detail}");

    let mut unsaid = honest.clone();
    unsaid["votes"]["x".repeat(100_000)] = json!(1);
    let (status, kind, detail) = refused(TRADER, &unsaid).await;
    assert_eq!((status, kind.as_str()), (400, "bad-request"));
    assert!(detail.starts_with("evidence: ") && detail.len() < 300, "{} bytes", detail.len());
    for wrong in [json!(null), json!([]), json!({ "votes": {} }), json!({ "vote": honest["votes"] })] {
        assert_eq!(refused(TRADER, &wrong).await.1, "bad-request", "{wrong}");
    }
    assert_eq!(refused(ELSEWHERE, &honest).await.1, "gateway-not-permitted");

    let both = json!({ "evidence": honest, "record": { "content": 1 } });
    let more = json!({ "evidence": honest, "more": 1 });
    for asked in [both, more] {
        assert_eq!(prepare(&node, TRADER, &asked).await.problem(), "bad-request", "{asked}");
    }
    // A node may have its own report prepared, and no record.
    let reporter = "node1@Org02";
    assert_eq!(prepare(&node, reporter, &json!({ "evidence": honest })).await.status, 200);
    let record = prepare(&node, reporter, &json!({ "record": { "content": 1 } })).await;
    assert_eq!((record.status.as_u16(), record.problem().as_str()), (403, "node-author"));
}

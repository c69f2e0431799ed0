//! Types of records: what is told of them, and what records of one are refused for before they are signed.

use std::sync::Arc;

use awc::http::Method;
use minidlt_protocol::{
    record_type::{MAX_SCHEMA_BYTES, RecordType, Schema},
    registry::{Entry, Policy, Role, Standing},
    state_proof::StateProof,
    transaction::Content,
};
use serde_json::{Value, json};

use super::{
    network::{ADMIN, TRADER},
    node::{Answer, Node},
};

const PREPARE: &str = "/v1/transactions/prepare";

/// A type of trades that somebody of the seller's organisation has to sign, as long as it is `standing`.
fn publish(node: &Node, standing: Standing) {
    let schema = json!({"properties": {"price": {"minimum": 1}}, "required": ["seller"]});
    let schema = Schema::compile(&Content::from_json(&schema)).unwrap();
    let policy = Some(Policy::Named { organisation_in: "/seller".into(), role: Role::Admin.into() });
    node.registries.send_modify(|registry| {
        let trade = RecordType { schema, policy, standing, revision: 4 };
        Arc::make_mut(registry).put(Entry::RecordType("trade".parse().unwrap(), trade));
    });
}

async fn prepare(node: &Node, asked: Value) -> Answer {
    node.call(TRADER, Method::POST, PREPARE, "application/json", asked.to_string()).await
}

fn typed(content: Value) -> Value {
    json!({"record": {"type": "trade", "content": content}})
}

#[actix_web::test]
async fn a_record_that_could_not_be_taken_is_refused_before_it_is_signed() {
    let node = Node::start();
    let honest = || typed(json!({"price": 2, "seller": "Org01"}));
    let unknown = prepare(&node, honest()).await;
    assert_eq!((unknown.status.as_u16(), unknown.problem().as_str()), (422, "unknown-record-type"));
    publish(&node, Standing::Active);
    let prepared = prepare(&node, honest()).await;
    assert_eq!(prepared.status, 200, "its endorsement is to be gathered: {}", prepared.text);
    let misfit = prepare(&node, typed(json!({"price": 0.5, "seller": "Org01"}))).await;
    assert_eq!((misfit.status.as_u16(), misfit.problem().as_str()), (422, "record-does-not-fit"));
    let said = "record 0 does not fit the schema of record type 'trade': at /price: must be >=1, but got 0.5";
    assert_eq!(misfit.json()["detail"], said);
    let many = prepare(&node, json!({"record": {"type": "trade", "contents": [{"seller": "Org01"}, {}]}})).await;
    assert!(many.json()["detail"].as_str().unwrap().starts_with("record 1 does not fit"), "{}", many.text);
    publish(&node, Standing::Suspended);
    let suspended = prepare(&node, honest()).await;
    assert_eq!((suspended.status.as_u16(), suspended.problem().as_str()), (409, "record-type-suspended"));
    for bad in [json!({"type": 1, "content": 1}), json!({"type": "a b", "content": 1}), json!({"type": "trade"})] {
        let refused = prepare(&node, json!({ "record": bad })).await;
        assert_eq!((refused.status.as_u16(), refused.problem().as_str()), (400, "bad-request"), "{}", refused.text);
    }
}

#[actix_web::test]
async fn types_are_listed_without_their_schemas_and_proven_one_by_one() {
    let node = Node::start();
    publish(&node, Standing::Suspended);
    let listed = node.get(TRADER, "/v1/record-types").await.json();
    let policy = json!({"organisation_in": "/seller", "role": "admin"});
    let trade = json!({"name": "trade", "policy": policy, "standing": "suspended", "revision": 4});
    assert_eq!(listed, json!({ "record_types": [trade] }));
    node.chain.commit(vec![]);
    let absent = node.get(TRADER, "/v1/record-types/other").await;
    assert_eq!((absent.status.as_u16(), absent.problem().as_str()), (404, "not-found"));
    let proof = StateProof::from_text(&node.get(TRADER, "/v1/record-types/other?proof=true").await.text).unwrap();
    assert_eq!((proof.proven.key.as_str(), &proof.proven.value), ("record-type/other", &None));
    proof.proven.verify(&proof.header.header.state_root).unwrap();
    let none = node.get(TRADER, "/v1/record-types/other/history").await;
    assert_eq!((none.status.as_u16(), none.problem().as_str()), (404, "not-found"));
}

#[actix_web::test]
async fn a_schema_is_looked_at_before_it_is_signed() {
    let node = Node::start();
    node.registries.send_modify(|registry| {
        let registry = Arc::make_mut(registry);
        let mut admin = registry.users[&super::network::identity(ADMIN)].clone();
        admin.roles.insert(Role::PolicyInvoker);
        registry.put(Entry::User(admin));
    });
    for (schema, status, kind) in [
        (json!({"type": "object"}), 200, ""),
        (json!({"$ref": "file:///etc/passwd"}), 422, "bad-schema"),
        (json!({"type": "strng"}), 422, "bad-schema"),
        (json!({"title": "x".repeat(MAX_SCHEMA_BYTES)}), 400, "malformed-transaction"),
    ] {
        let asked = json!({"change": {"set_record_type": {"name": "trade", "schema": schema}}}).to_string();
        let answer = node.call(ADMIN, Method::POST, PREPARE, "application/json", asked).await;
        assert_eq!(answer.status.as_u16(), status, "{}", answer.text);
        if status != 200 {
            assert_eq!(answer.problem(), kind, "{}", answer.text);
        }
    }
}

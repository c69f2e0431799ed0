//! What is enrolled, one by one and with proof.

use minidlt_protocol::{codec, limits::MAX_GENESIS_BYTES, registry::EntryKey, state_proof::StateProof, types::Height};
use serde_json::{Value, json};

use super::{network::TRADER, node::Node};

/// A list's path, the entries' name in it, and one that is there and one that is not.
const KINDS: [(&str, &str, &str, &str); 4] = [
    ("users", "user", "trader@Org01", "nobody@Org01"),
    ("nodes", "node", "node1@Org02", "node1@Org01"),
    ("organisations", "organisation", "Org02", "Org09"),
    ("policies", "policy", "orderers", "organisations"),
];

/// The entry as the list has it.
async fn listed(node: &Node, list: &str, name: &str) -> Value {
    let all = node.get(TRADER, &format!("/v1/{list}")).await.json();
    let named = |entry: &&Value| match entry.get("organisation") {
        Some(organisation) => name == format!("{}@{}", entry["name"].as_str().unwrap(), organisation.as_str().unwrap()),
        None => entry["name"] == *name,
    };
    let mut entry = all[list].as_array().unwrap().iter().find(named).unwrap().clone();
    if list == "policies" {
        // Whose name is not in the entry.
        entry.as_object_mut().unwrap().remove("name");
    }
    entry
}

#[actix_web::test]
async fn an_entry_is_what_the_list_has_and_says_its_height() {
    let node = Node::start();
    for height in [0, 0, 1] {
        for (list, kind, there, absent) in KINDS {
            let found = node.get(TRADER, &format!("/v1/{list}/{there}")).await;
            assert_eq!(found.status, 200, "{}", found.text);
            let value = listed(&node, list, there).await;
            let expected = json!({ "height": height, "key": format!("{kind}/{there}"), "value": value });
            assert_eq!(found.json(), expected);
            let missing = node.get(TRADER, &format!("/v1/{list}/{absent}")).await;
            assert_eq!((missing.status.as_u16(), missing.problem().as_str()), (404, "not-found"));
            assert_eq!(missing.json()["height"], json!(height));
            let detail = missing.json()["detail"].as_str().unwrap().to_owned();
            assert!(detail.contains(&format!("no {kind}/{absent} as of block {height}")), "{detail}");
        }
        // Nothing, then one block, whose header is of genesis, then another.
        node.chain.commit(vec![]);
    }
}

#[actix_web::test]
async fn presence_and_absence_come_with_proof_once_there_is_a_block() {
    let node = Node::start();
    let early = node.get(TRADER, "/v1/users/trader@Org01?proof=true").await;
    assert_eq!((early.status.as_u16(), early.problem().as_str()), (409, "nothing-certified"));
    assert!(early.json()["detail"].as_str().unwrap().contains("submit a transaction"), "{}", early.text);
    node.chain.commit(vec![]);
    for (list, kind, there, absent) in KINDS {
        for name in [there, absent] {
            let answer = node.get(TRADER, &format!("/v1/{list}/{name}?proof=true")).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            let file = format!("attachment; filename=\"{kind}-{name}.proof.json\"");
            assert_eq!(answer.header("content-disposition"), file);
            let proof = StateProof::from_text(&answer.text).unwrap();
            let key: EntryKey = proof.proven.key.parse().unwrap();
            assert_eq!((key.to_string(), key.collection()), (format!("{kind}/{name}"), list));
            assert_eq!((proof.network, proof.header.header.height), (node.network.genesis.id(), Height::new(1)));
            proof.proven.verify(&proof.header.header.state_root).unwrap();
            let shown = proof.proven.value.map(|value| codec::to_readable(&value.0, MAX_GENESIS_BYTES).unwrap());
            let expected = if name == there { Some(listed(&node, list, there).await) } else { None };
            assert_eq!(shown, expected);
        }
    }
}

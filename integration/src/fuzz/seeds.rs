//! What fuzzing begins with: the pinned vectors, and files as people write them.

use std::collections::BTreeMap;

use minidlt_protocol::{
    codec,
    consensus::Wire,
    governance::Change,
    limits::MAX_FRAME_BYTES,
    message::{ConsensusContent, Content},
    successor::succeed,
    transaction::{Body, Operation},
};
use serde_json::{Value, json};

use super::{
    fixture::NETWORK,
    network::{ADMIN, ADMINS, NOW, Network, TRADER, identity, key, node},
};

/// Names to hexadecimal, or to text.
fn vectors() -> BTreeMap<String, String> {
    serde_json::from_str(include_str!("../../../protocol/tests/vectors.json")).expect("the pinned vectors")
}

/// The bytes of all vectors whose name begins so.
fn named(prefix: &str) -> Vec<Vec<u8>> {
    let of_prefix = vectors().into_iter().filter(|(name, _)| name.starts_with(prefix));
    of_prefix.filter_map(|(_, text)| hex::decode(text).ok()).collect()
}

fn moded(mode: u8, list: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Vec<Vec<u8>> {
    list.into_iter().map(|bytes| [&[mode], bytes.as_ref()].concat()).collect()
}

pub fn codec() -> Vec<Vec<u8>> {
    let records = [r#"{"a":[1,-2.5,null,true],"b":{"c":"d"}}"#, "[]", "18446744073709551615", r#""text""#];
    let json = records.map(|text| codec::encode(&serde_json::from_str::<serde_json::Value>(text).expect("JSON")));
    let mut all = named("");
    all.extend(json);
    all.push([named("transaction"), named("vote")].concat().concat());
    all
}

pub fn message() -> Vec<Vec<u8>> {
    let wires = named("wire, ");
    let contents: Vec<Vec<u8>> = wires
        .iter()
        .filter_map(|bytes| codec::decode::<Wire>(bytes, MAX_FRAME_BYTES).ok())
        .map(|wire| codec::encode(&Content::Consensus(ConsensusContent::Wire(wire))))
        .chain(named("content, "))
        .collect();
    [moded(0, named("message to ")), moded(1, &contents), moded(2, &contents), moded(3, wires)].concat()
}

/// Bodies that change who is enrolled.
fn changes() -> Vec<Vec<u8>> {
    let (public_key, gateways) = (key(30).public_key(), [node(0)]);
    let changes = [
        json!({ "enrol_user": {
            "user": identity("new@Org01"), "public_key": public_key, "roles": ["submitter"], "gateways": gateways } }),
        json!({ "change_user": { "user": identity(TRADER.0), "revision": 0, "standing": "revoked" } }),
        json!({ "enrol_node": {
            "node": identity("node4@Org01"), "public_key": public_key, "roles": ["peer"], "address": "localhost:9" } }),
        json!({ "change_node": {
            "node": node(0), "revision": 0, "public_key": public_key, "former_key": { "until": NOW.plus_millis(1) } } }),
        json!({ "add_organisation": { "organisation": "Org05", "ca": "a certificate", "admin": {
            "name": "admin", "public_key": public_key, "roles": [], "gateways": gateways } } }),
        json!({ "change_organisation": { "organisation": "Org01", "revision": 0, "ca": "another" } }),
        json!({ "remove_organisation": { "organisation": "Org04", "revision": 0 } }),
        json!({ "set_policy": { "name": "orderers", "revision": 0, "policy": { "all": [{ "majority": "admin" }] } } }),
    ];
    let body = |(change, nonce): (Value, u64)| {
        let change: Change = serde_json::from_value(change).expect("a change");
        Body { operation: Operation::Change(change.into()), ..NETWORK.body(ADMIN.0, nonce) }
    };
    changes.into_iter().zip(0..).map(|change| codec::encode(&body(change))).collect()
}

pub fn transaction() -> Vec<Vec<u8>> {
    [moded(0, named("transaction")), moded(1, named("body")), moded(1, changes())].concat()
}

pub fn block() -> Vec<Vec<u8>> {
    let certified = named("certified block");
    [moded(0, named("block")), moded(1, &certified), moded(2, &certified)].concat()
}

pub fn receipt() -> Vec<Vec<u8>> {
    let receipt = vectors().remove("receipt").expect("a receipt");
    [moded(0, [&receipt]), moded(1, [&receipt])].concat()
}

pub fn state_proof() -> Vec<Vec<u8>> {
    let texts = vectors().into_iter().filter(|(name, _)| name.starts_with("state proof of "));
    let texts: Vec<String> = texts.map(|(_, text)| text).collect();
    [moded(0, &texts), moded(1, &texts), moded(2, named("proof of "))].concat()
}

pub fn genesis() -> Vec<Vec<u8>> {
    let Network { genesis, .. } = &*NETWORK;
    let mut small = genesis.clone();
    small.nodes.truncate(1);
    small.organisations.truncate(1);
    let own = small.organisations[0].name.clone();
    small.users.retain(|user| user.organisation == own);
    small.users.iter_mut().for_each(|user| user.gateways.clear());
    small.policies.clear();
    let yaml = |genesis| serde_yaml::to_string(genesis).expect("a genesis is YAML").into_bytes();
    let chain = NETWORK.chain(&[vec![NETWORK.transaction(TRADER, 1)]]);
    let successor = succeed(genesis, NETWORK.ending(&chain), [node(3)].into(), NOW);
    let mut successor = successor.expect("it can be carried on");
    ADMINS.iter().for_each(|(who, seed)| successor.consent(identity(who), &key(*seed)));
    vec![yaml(genesis), yaml(&small), yaml(&successor)]
}

pub fn settings() -> Vec<Vec<u8>> {
    let networks = [
        "organisations: [A, B]\nnodes:\n  - organisation: A\n  - {organisation: B, host: b.example, port: 4000}\n",
        "network: n\nconsensus: full-consent\norganisations: [A]\nnodes: [{name: x, organisation: A, roles: [peer]}]\n\
         users: [{name: u, organisation: A, roles: [admin, submitter], gateways: [x]}]\n",
    ];
    let nodes = [
        "identity: {name: node0, organisation: Org01}\ngenesis: genesis.yaml\n",
        "identity: {name: node0, organisation: Org01}\ngenesis: genesis.yaml\napi_listen: 0.0.0.0:1\nlog_level: debug\n\
         limits: {requests: 5, sessions: 9, mempool: {bytes: 70000, transactions: 4}}\ntls: {certificate: a, key: b}\n",
    ];
    let users =
        ["identity: {name: trader, organisation: Org01}\nnodes: ['https://localhost:3401']\ngenesis: genesis.yaml\n"];
    [moded(0, networks), moded(1, nodes), moded(2, users)].concat()
}

pub fn json() -> Vec<Vec<u8>> {
    let texts = [
        r#"{"record": {"content": {"ISIN": "US0378331005", "price": 27.18, "volume": 100}}, "lifetime_s": 60}"#,
        r#"{"record":{"contents":[1,-2.5e-7,"\u00e9\"",{"a":{"a":null}},18446744073709551615,-9223372036854775808]}}"#,
        "[0.1, 1e308, 5e-324, -0, 1.50, 123456789012345678901234567890]",
    ];
    texts.map(|text| text.as_bytes().to_vec()).into()
}

/// A block is proposed, accepted and decided; a round fails and the next one decides; crashes.
pub fn core() -> Vec<Vec<u8>> {
    let (prevote, precommit, proposal, alarm, body, built, crash) = (0, 1, 2, 5, 7, 8, 10);
    let decided = |round: u8| {
        let by = |voter: u8| voter + 4 * round;
        let block = 5;
        let votes =
            (0..3).map(|voter| [prevote, by(voter), block]).chain((0..3).map(|voter| [precommit, by(voter), block]));
        [vec![[proposal, by(0), 1], [body, 0, block], [built, by(0), 1]], votes.collect()].concat()
    };
    let failed = [
        vec![[alarm, 0, 0]],
        (0..3).map(|voter| [prevote, voter, 0]).collect(),
        (0..3).map(|voter| [precommit, voter, 0]).collect(),
    ];
    let crashes: Vec<[u8; 3]> = decided(0).into_iter().flat_map(|event| [event, [crash, 0, 0]]).collect();
    [decided(0), [failed.concat(), decided(1)].concat(), crashes].map(|events| events.concat()).into()
}

//! Who is let in, and what each may see and do.

use std::net::TcpStream;

use awc::http::Method;
use minidlt_actors::{
    admin::{Ledger as _, health},
    messages::signer::Stamp,
};
use minidlt_protocol::{message::Content, types::Height};
use openssl::ssl::SslVersion;
use serde_json::json;

use super::{
    network::{ADMIN, ME, Paper, TRADER, identity},
    node::{Answer, Node},
};

#[actix_web::test]
async fn only_a_certificate_of_ones_own_organisation_counts() {
    let node = Node::start();
    let stranger = Paper::issue("ca", "Org01", None);
    let cases = [
        ("a user", node.network.paper(TRADER, "Org01"), Some(200)),
        ("a node", node.network.paper("node1@Org02", "Org02"), Some(200)),
        ("another organisation's authority speaking for this one", node.network.paper(ADMIN, "Org02"), Some(403)),
        ("nobody enrolled", node.network.paper("nobody@Org01", "Org01"), Some(403)),
        ("an unknown organisation", Paper::issue("x", "Org09", Some(&node.network.authorities["Org01"])), Some(403)),
        ("a name that is none", Paper::issue("a b", "Org01", Some(&node.network.authorities["Org01"])), Some(403)),
        ("an authority nobody enrolled", Paper::issue("admin", "Org01", Some(&stranger)), None),
    ];
    for (name, paper, expected) in cases {
        let answer = node.client_with(Some(&paper)).get(node.url("/v1/users")).send().await;
        assert_eq!(answer.ok().map(|answer| answer.status().as_u16()), expected, "{name}");
    }
    assert!(node.client_with(None).get(node.url("/v1/users")).send().await.is_err(), "no certificate");
}

#[actix_web::test]
async fn tls_below_1_3_is_refused() {
    let node = Node::start();
    let paper = node.network.paper(TRADER, "Org01");
    let address = node.running.address;
    for (version, works) in [(SslVersion::TLS1_2, false), (SslVersion::TLS1_3, true)] {
        let mut connector = node.connector(Some(&paper));
        connector.set_max_proto_version(Some(version)).unwrap();
        let connector = connector.build();
        let connected =
            actix_web::web::block(move || connector.connect("localhost", TcpStream::connect(address).unwrap()).is_ok());
        assert_eq!(connected.await.unwrap(), works, "{version:?}");
    }
}

#[actix_web::test]
async fn administrators_rule_the_node() {
    let node = Node::start();
    let post = |path: &'static str, body: &'static str| node.call(ADMIN, Method::POST, path, "", body);

    let sent = post("/v1/admin/message", r#"{"text":"maintenance at 5"}"#).await;
    assert_eq!(sent.status, 202, "{}", sent.text);
    let stamps: Vec<Stamp> = node.stamps.lock().unwrap().drain(..).collect();
    let expected = Content::Text(format!("{ADMIN}: maintenance at 5"));
    assert!(matches!(&stamps[..], [stamp] if stamp.content == expected), "{stamps:?}");

    let level = node.call(ADMIN, Method::PUT, "/v1/admin/log-level", "", r#"{"level":"warn"}"#).await;
    assert_eq!((level.status.as_u16(), level.json()), (200, json!({ "level": "warn" })));
    assert_eq!(log::max_level(), log::LevelFilter::Warn);

    let found = post("/v1/admin/verify", "").await.json();
    assert_eq!(found, json!({ "ok": false, "height": 3, "first_bad": { "height": 2, "reason": "its hash" } }));

    let head = node.chain.commit(vec![]);
    let same = post("/v1/admin/compare", r#"{"height":1}"#).await.json();
    assert_eq!(same, json!({ "height": 1, "hash": head.hash }));
    let genesis = post("/v1/admin/compare", r#"{"height":0}"#).await.json();
    assert_eq!(genesis["hash"], json!(node.network.genesis.id()));

    let backup = || post("/v1/admin/backup", r#"{"directory":"monday"}"#);
    let made = backup().await.json();
    assert_eq!(made["height"], json!(1));
    let path = made["path"].as_str().unwrap();
    assert!(path.ends_with("backups/monday") && std::path::Path::new(path).is_dir(), "{made}");
    let again = backup().await;
    assert_eq!((again.status.as_u16(), &again.json()["type"]), (409, &json!("urn:minidlt:problem:backup-exists")));

    let stopping = tokio::time::timeout(std::time::Duration::from_secs(5), node.stop.notified());
    assert_eq!(post("/v1/admin/stop", "").await.status, 202);
    stopping.await.expect("the node is told to stop");
}

#[actix_web::test]
async fn members_see_the_node_the_registry_and_the_blocks() {
    let node = Node::start();
    let signed = (&node.network.signed(TRADER, 5)).into();
    let head = node.chain.commit(vec![signed]);
    node.chain.commit(vec![]);

    let status = node.get(TRADER, "/v1/status").await.json();
    assert_eq!(status["node"], json!(identity(ME)));
    assert_eq!(status["network"], json!({ "name": "test", "id": node.network.genesis.id() }));
    assert_eq!(status["consensus"]["mode"], "bft");
    assert_eq!((&status["consensus"]["active"], &status["consensus"]["missing"]), (&json!(false), &json!([])));
    assert_eq!((&status["height"], &status["head"]), (&json!(2), &json!(node.chain.head().hash)));
    assert_eq!((&status["voting"], &status["fork"]), (&json!({ "state": "voting", "from": 1 }), &json!(null)));
    assert_eq!(status["peers"][0]["name"], "node1");
    assert_eq!(status["peers"][2]["state"], "disconnected");

    for (path, list, count) in [
        ("users", "users", 4),
        ("nodes", "nodes", 4),
        ("organisations", "organisations", 2),
        ("policies", "policies", 1),
    ] {
        let answer = node.get(TRADER, &format!("/v1/{path}")).await.json();
        assert_eq!(answer[list].as_array().map(Vec::len), Some(count), "{answer}");
    }

    let page = node.get(TRADER, "/v1/blocks?limit=2").await.json();
    let heights: Vec<_> = page["blocks"].as_array().unwrap().iter().map(|block| block["height"].clone()).collect();
    assert_eq!((heights, &page["next"]), (vec![json!(0), json!(1)], &json!(2)));
    assert_eq!(node.get(TRADER, "/v1/blocks?from=2").await.json()["next"], json!(null));
    assert_eq!(node.get(TRADER, "/v1/blocks?from=9").await.json(), json!({ "blocks": [], "next": null }));

    let by_height = node.get(TRADER, "/v1/blocks/1").await;
    let block = by_height.json();
    assert_eq!((&block["hash"], &block["previous"]), (&json!(head.hash), &json!(node.network.genesis.id())));
    assert_eq!(block["content"][0]["operation"]["record"]["contents"][0], json!({ "nonce": 5 }));
    assert_eq!(node.get(TRADER, &format!("/v1/blocks/{}", head.hash)).await.text, by_height.text);
    assert_eq!(node.get(TRADER, "/v1/blocks/latest").await.json()["height"], json!(2));
    let certified = node.get(TRADER, "/v1/blocks/1?certificate=true").await.json();
    assert_eq!(certified["certificate"]["block"], json!(head.hash));
    let genesis = node.get(TRADER, "/v1/blocks/0").await.json();
    assert_eq!(genesis["genesis"]["network"], "test");
    assert_eq!(node.get(TRADER, &format!("/v1/blocks/{}", node.network.genesis.id())).await.json(), genesis);
    assert_eq!(node.get(TRADER, "/v1/openapi.json").await.json()["openapi"], "3.1.0");
}

#[actix_web::test]
async fn health_is_told_on_the_loopback_alone() {
    let node = Node::start();
    let health = |node: &Node| health::Health {
        members: node.members.clone(),
        me: identity(ME),
        peers: node.fake.clone().recipient(),
        metrics: node.metrics.clone(),
    };
    let everywhere = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    assert!(health::start(health(&node), everywhere).is_err());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let running = health::start(health(&node), listener).unwrap();
    let get = async |path: &str| {
        let url = format!("http://{}{path}", running.address);
        super::node::Answer::read(awc::Client::default().get(url).send().await.unwrap()).await
    };
    assert_eq!(get("/healthz").await.text, "ok");
    // Three of four voters are connected, which decide in the mode bft.
    let ready = get("/readyz").await;
    assert_eq!((ready.status.as_u16(), ready.json()["ready"].clone()), (200, json!(true)));
    node.metrics.height.set(Height::new(7).get() as i64);
    let metrics = get("/metrics").await;
    assert!(metrics.text.contains("minidlt_height 7") && metrics.text.ends_with("# EOF\n"), "{}", metrics.text);
    running.stop().await;
}

#[actix_web::test]
async fn the_status_shows_how_long_certificates_last_and_new_ones_count_from_then_on() {
    let node = Node::start();
    let shown = node.get(TRADER, "/v1/status").await.json()["certificates"].clone();
    for which in ["own", "ca"] {
        // The tests' certificates last two days.
        assert!((1..=2).contains(&shown[which]["days_left"].as_i64().unwrap()), "{shown}");
        assert!(shown[which]["expires"].as_u64().unwrap() > 0, "{shown}");
    }
    assert!(shown["former_ca"].is_null(), "{shown}");

    let mut organisations = node.network.genesis.organisations.clone();
    let Some(own) = organisations.iter_mut().find(|organisation| organisation.name.as_str() == "Org01") else {
        panic!("Org01 is there")
    };
    let next = Paper::issue("Org01 CA", "Org01", None);
    let pem = String::from_utf8(next.certificate.to_pem().unwrap()).unwrap();
    own.former_ca = Some(std::mem::replace(&mut own.ca, pem));
    node.tls.set_authority(&organisations).unwrap();
    let renewed = Paper::issue("trader", "Org01", Some(&next));
    let client = node.client_with(Some(&renewed));
    let answer = Answer::read(client.get(node.url("/v1/status")).send().await.unwrap()).await;
    assert!(answer.json()["certificates"]["former_ca"]["expires"].as_u64().unwrap() > 0, "{}", answer.text);
    assert_eq!(node.get(TRADER, "/v1/status").await.status, 200, "the former one's are believed still");
}

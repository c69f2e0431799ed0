//! Who may do what changes while they are connected, and changes that are prepared.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
};

use actix_web::rt::task::spawn_blocking;
use awc::http::Method;
use minidlt_protocol::{
    codec,
    governance::{Change, SetPolicy},
    limits::MAX_POLICIES,
    registry::{
        Entry, EntryKey, Node as Enrolled, NodeRole, Organisation, Policy, PolicyEntry, Registry, Role, Standing, User,
    },
    transaction::{Body, Endorsement, Operation, SignedTransaction, id_of},
};
use openssl::ssl::SslStream;
use serde_json::{Value, json};

use super::{
    network::{ADMIN, ADMIN2, ME, TRADER, identity, key_of},
    node::Node,
};

/// Tells the node who is enrolled from now on.
fn publish(to: &Node, edit: impl FnOnce(&mut Registry)) {
    to.registries.send_modify(|registry| edit(Arc::make_mut(registry)));
}

fn change_user(registry: &mut Registry, who: &str, edit: impl FnOnce(&mut User)) {
    let mut user = registry.users[&identity(who)].clone();
    edit(&mut user);
    registry.put(Entry::User(user));
}

fn change_node(registry: &mut Registry, who: &str, edit: impl FnOnce(&mut Enrolled)) {
    let mut node = registry.nodes[&identity(who)].clone();
    edit(&mut node);
    registry.put(Entry::Node(node));
}

/// One connection, over which requests go one after another.
struct Connection(Option<SslStream<TcpStream>>);

impl Connection {
    async fn open(node: &Node, who: &str) -> Self {
        let organisation = identity(who).organisation;
        let paper = node.network.paper(who, organisation.as_str());
        let (connector, port) = (node.connector(Some(&paper)).build(), node.running.address.port());
        // What is behind the API answers on this thread.
        let connected = spawn_blocking(move || {
            let tcp = TcpStream::connect(("127.0.0.1", port)).unwrap();
            connector.connect("localhost", tcp).unwrap()
        });
        Self(Some(connected.await.unwrap()))
    }

    /// The status, and the body.
    async fn call(&mut self, method: &str, path: &str) -> (u16, Value) {
        let request = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n");
        let mut stream = self.0.take().unwrap();
        let called = spawn_blocking(move || {
            stream.write_all(request.as_bytes()).unwrap();
            let answer = answer(&mut stream);
            (stream, answer)
        });
        let (stream, answer) = called.await.unwrap();
        self.0 = Some(stream);
        answer
    }

    async fn get(&mut self, path: &str) -> u16 {
        self.call("GET", path).await.0
    }
}

fn answer(stream: &mut SslStream<TcpStream>) -> (u16, Value) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.trim().parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

#[actix_web::test]
async fn who_loses_its_standing_or_a_role_is_refused_from_the_next_request_on_its_connection_on() {
    let node = Node::start();
    let mut trader = Connection::open(&node, TRADER).await;
    assert_eq!(trader.get("/v1/users").await, 200);
    publish(&node, |registry| change_user(registry, TRADER, |user| user.standing = Standing::Suspended));
    let (status, problem) = trader.call("GET", "/v1/users").await;
    assert_eq!((status, &problem["type"]), (403, &json!("urn:minidlt:problem:forbidden")));
    assert!(problem["detail"].as_str().unwrap().contains(TRADER), "{problem}");
    publish(&node, |registry| change_user(registry, TRADER, |user| user.standing = Standing::Active));
    assert_eq!(trader.get("/v1/users").await, 200, "the connection stood all the while");

    // Others are not touched by it, and a node is a member as a user is.
    let mut member = Connection::open(&node, "node1@Org02").await;
    assert_eq!(member.get("/v1/status").await, 200);
    publish(&node, |registry| change_node(registry, "node1@Org02", |node| node.standing = Standing::Revoked));
    assert_eq!((member.get("/v1/status").await, trader.get("/v1/status").await), (403, 200));

    // What needs a role needs it at each request.
    let mut admin = Connection::open(&node, ADMIN).await;
    assert_eq!(admin.call("POST", "/v1/admin/verify").await.0, 200);
    publish(&node, |registry| change_user(registry, ADMIN, |user| user.roles = [Role::Submitter].into()));
    assert_eq!((admin.call("POST", "/v1/admin/verify").await.0, admin.get("/v1/status").await), (403, 200));
}

/// A change, who asks for it, and what must come of it.
struct Case {
    kind: &'static str,
    status: u16,
    by: &'static str,
    change: Value,
    /// How the registry is before, other than in genesis.
    given: fn(&mut Registry),
}

fn case(kind: &'static str, status: u16, change: Value) -> Case {
    Case { kind, status, by: ADMIN, change, given: |_| {} }
}

fn new_key() -> Value {
    json!(key_of("nobody@Org01").public_key())
}

fn enrol_user(user: &str) -> Value {
    let user = identity(user);
    json!({ "enrol_user": { "user": user, "public_key": new_key(), "roles": ["submitter"], "gateways": [identity(ME)] } })
}

fn enrol_node(node: &str, address: &str) -> Value {
    let node = identity(node);
    json!({ "enrol_node": { "node": node, "public_key": new_key(), "roles": ["peer"], "address": address } })
}

fn of_user(who: &str, revision: u64, changes: Value) -> Value {
    let mut change = json!({ "user": identity(who), "revision": revision });
    change.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    json!({ "change_user": change })
}

fn of_node(who: &str, revision: u64, changes: Value) -> Value {
    let mut change = json!({ "node": identity(who), "revision": revision });
    change.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    json!({ "change_node": change })
}

fn add_organisation(name: &str) -> Value {
    let admin = json!({ "name": "admin", "public_key": new_key(), "roles": [], "gateways": [] });
    json!({ "add_organisation": { "organisation": name, "ca": "a certificate", "admin": admin } })
}

fn cases() -> Vec<Case> {
    let peer_alone = |registry: &mut Registry| {
        for who in ["node1@Org02", "node2@Org01", "node3@Org02"] {
            change_node(registry, who, |node| node.roles = [NodeRole::Peer].into());
        }
    };
    let full = |registry: &mut Registry| {
        for n in 0..MAX_POLICIES {
            let policy = Policy::Majority { majority: Role::Admin.into() };
            registry.put(Entry::Policy(format!("policy{n}").parse().unwrap(), PolicyEntry { policy, revision: 0 }));
        }
    };
    let revoked = |registry: &mut Registry| change_user(registry, TRADER, |user| user.standing = Standing::Revoked);
    let removed = |registry: &mut Registry| {
        let organisation = Organisation::new("Org03".parse().unwrap(), "a certificate".into());
        registry.put(Entry::Organisation(Organisation { standing: Standing::Revoked, ..organisation }));
    };
    let trader = || json!(key_of(TRADER).public_key());
    let majority = || json!({ "majority": "admin" });
    let absent = || json!({ "organisation": "Org09", "role": "admin" });
    vec![
        Case { by: TRADER, ..case("role-missing", 403, enrol_user("new@Org01")) },
        case("role-missing", 403, json!({ "set_policy": { "name": "orderers", "revision": 0, "policy": majority() } })),
        case("other-organisation", 403, enrol_user("new@Org02")),
        case("other-organisation", 403, of_node("node1@Org02", 0, json!({ "address": "127.0.0.1:1" }))),
        case("already-there", 409, enrol_user(TRADER)),
        case("already-there", 409, enrol_user(ME)),
        case("not-there", 409, of_user("nobody@Org01", 0, json!({ "standing": "revoked" }))),
        case("stale-revision", 409, of_user(TRADER, 7, json!({ "standing": "revoked" }))),
        Case { given: revoked, ..case("revoked", 409, of_user(TRADER, 0, json!({ "standing": "active" }))) },
        case("no-change", 409, of_user(TRADER, 0, json!({ "standing": "active" }))),
        Case { given: removed, ..case("already-there", 409, add_organisation("Org03")) },
        case("unknown-gateway", 422, of_user(TRADER, 0, json!({ "gateways": [identity("node9@Org01")] }))),
        case("key-taken", 409, of_user(ADMIN, 0, json!({ "public_key": trader() }))),
        case("address-taken", 409, enrol_node("new@Org01", "localhost:3402")),
        case("bad-address", 422, enrol_node("new@Org01", "localhost")),
        case("no-role", 422, of_user(TRADER, 0, json!({ "roles": [] }))),
        case("bad-former-key", 422, of_node(ME, 0, json!({ "former_key": { "until": u64::MAX } }))),
        case("bad-former-key", 422, of_node(ME, 0, json!({ "public_key": new_key(), "former_key": { "until": 1 } }))),
        case("no-admin-left", 422, of_user(ADMIN, 0, json!({ "standing": "suspended" }))),
        Case { given: peer_alone, ..case("no-orderer-left", 422, of_node(ME, 0, json!({ "roles": ["peer"] }))) },
        Case {
            given: full,
            ..case("too-many", 422, json!({ "set_policy": { "name": "more", "policy": majority() } }))
        },
        case("bad-policy", 422, json!({ "set_policy": { "name": "more", "policy": absent() } })),
    ]
}

/// Who is of no organisation, or has no standing, is refused as nobody enrolled before; and endorsements are
/// gathered once the change is prepared.
const NOT_BY_PREPARING: [&str; 3] = ["unknown-organisation", "author-standing", "policy-not-met"];

#[actix_web::test]
async fn changes_that_could_not_be_made_are_refused_by_name_before_they_are_signed() {
    let node = Node::start();
    let genesis = node.registries.borrow().clone();
    for Case { kind, status, by, change, given } in cases() {
        assert!(!NOT_BY_PREPARING.contains(&kind));
        node.registries.send_replace(genesis.clone());
        // The admin has all that changes need, but where it is about that.
        let roles = [Role::Admin, Role::NodeInvoker, Role::PolicyInvoker];
        let without_policies = kind == "role-missing";
        publish(&node, |registry| {
            change_user(registry, ADMIN, |user| {
                user.roles = roles.into_iter().take(if without_policies { 2 } else { 3 }).collect();
            });
            given(registry);
        });
        let asked = json!({ "change": change }).to_string();
        let path = "/v1/transactions/prepare";
        let answer = node.call(by, Method::POST, path, "application/json", asked.clone()).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (status, kind), "{asked}: {}", answer.text);
    }
}

#[actix_web::test]
async fn a_change_that_lacks_but_endorsements_can_be_prepared() {
    let node = Node::start();
    publish(&node, |registry| {
        change_user(registry, ADMIN2, |user| user.roles = [Role::Admin, Role::NodeInvoker].into());
        // Of the other organisation's admin, too.
        let policy = Policy::Majority { majority: Role::Admin.into() };
        registry.put(Entry::Policy("orderers".parse().unwrap(), PolicyEntry { policy, revision: 1 }));
    });
    let change = of_node("node1@Org02", 0, json!({ "roles": ["peer"] }));
    let asked = json!({ "change": change }).to_string();
    let path = "/v1/transactions/prepare";
    let prepared = node.call(ADMIN2, Method::POST, path, "application/json", asked.clone()).await;
    assert_eq!(prepared.status, 200, "{}", prepared.text);
    // Where nobody could be asked for it, it is refused all the same.
    publish(&node, |registry| drop(registry.take(&EntryKey::Node(identity("node1@Org02")))));
    let refused = node.call(ADMIN2, Method::POST, path, "application/json", asked).await;
    assert_eq!((refused.status.as_u16(), refused.problem().as_str()), (409, "not-there"));
}

/// A change by the admin that needs a peer of Org02, endorsed by who is named.
fn needs_a_peer(node: &Node, nonce: u64, endorser: Option<&str>) -> Vec<u8> {
    let policy = Policy::Leaf { organisation: identity("node1@Org02").organisation, role: NodeRole::Peer.into() };
    let set = SetPolicy { name: "another".parse().unwrap(), revision: None, policy };
    let operation = Operation::Change(Change::SetPolicy(set).into());
    let body = Body { operation, ..node.network.body(ADMIN, nonce) };
    let mut signed = SignedTransaction::sign(&body, &key_of(ADMIN));
    let id = id_of(&body.network, &signed.body);
    signed
        .endorsements
        .extend(endorser.map(|name| Endorsement { endorser: identity(name), signature: key_of(name).sign(&id) }));
    codec::encode(&signed)
}

#[actix_web::test]
async fn what_lacks_endorsements_is_collected_for_and_who_did_not_endorse_it_is_named() {
    let node = Node::start();
    publish(&node, |registry| {
        change_user(registry, ADMIN, |user| user.roles = [Role::Admin, Role::PolicyInvoker, Role::Submitter].into());
        let policy = Policy::Any {
            any: ["node1@Org02", ADMIN2]
                .map(|who| {
                    let organisation = identity(who).organisation;
                    let role = if who == ADMIN2 { Role::Admin.into() } else { NodeRole::Peer.into() };
                    Policy::Leaf { organisation, role }
                })
                .into(),
        };
        registry.put(Entry::Policy("policies".parse().unwrap(), PolicyEntry { policy, revision: 0 }));
    });
    let submit = async |kind: &str, body: Vec<u8>| node.call(ADMIN, Method::POST, "/v1/transactions", kind, body).await;
    let lacking = needs_a_peer(&node, 1, None);
    let refused = submit("application/cbor", lacking.clone()).await;
    assert_eq!((refused.status.as_u16(), refused.problem().as_str()), (403, "policy-not-met"));
    let problem = refused.json();
    let reason = "this node's operator endorses nothing";
    let said = json!([{ "name": "node1", "organisation": "Org02", "kind": "operator", "reason": reason }]);
    assert_eq!(problem["endorsers"], said, "{problem}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("missing: peer of Org02, admin of Org02."), "{detail}");
    assert!(detail.ends_with("Of those who could endorse it, node1@Org02: this node's operator endorses nothing"));

    // Among others, it alone is asked about; what is endorsed already shows by whom.
    let plain = codec::encode(&node.network.signed(ADMIN, 2));
    let endorsed = needs_a_peer(&node, 3, Some(ADMIN2));
    let answer = submit("application/cbor-seq", [plain, lacking, vec![0x01], endorsed].concat()).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    let list = answer.json()["transactions"].clone();
    let kinds =
        [0, 1, 2, 3].map(|at| list[at]["problem"]["type"].as_str().map(|kind| kind.rsplit(':').next().unwrap()));
    assert_eq!(kinds, [None, Some("policy-not-met"), Some("malformed-transaction"), None]);
    assert_eq!(list[1]["problem"]["endorsers"], said);
    let shown = node.get(ADMIN, &format!("/v1/transactions/{}", list[3]["id"].as_str().unwrap())).await.json();
    let endorsements = shown["transaction"]["endorsements"].as_array().unwrap();
    assert_eq!((endorsements.len(), &endorsements[0]["endorser"]), (1, &json!(identity(ADMIN2))), "{shown}");
    assert_eq!(endorsements[0]["signature"].as_str().unwrap().len(), 128);
    let shown = node.get(ADMIN, &format!("/v1/transactions/{}", list[0]["id"].as_str().unwrap())).await.json();
    assert_eq!(shown["transaction"].get("endorsements"), None, "of what nobody endorsed");
}

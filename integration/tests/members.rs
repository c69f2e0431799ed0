//! Members govern themselves, by the command line, on a network of four: users are enrolled, changed, suspended
//! and revoked; policies are changed with the consent of others; who may not, or who is late, is told why.

use std::{fs, path::PathBuf};

use minidlt_integration::{
    Answer, Author, CBOR, Cluster, Mode,
    commands::{block_of, done, keygen, minidlt, refused},
    peer::Credentials,
    until,
};
use minidlt_protocol::{
    codec,
    governance::{Change, ChangeUser},
    registry::Role,
    transaction::{Body, Operation, SignedTransaction},
};
use serde_json::{Value, json};

const NODES: usize = 4;

/// The directory of a user that is to be enrolled, through node 0; its key file.
fn newcomer(cluster: &Cluster, name: &str, organisation: &str) -> PathBuf {
    let directory = cluster.user(name);
    fs::create_dir(&directory).expect("a directory");
    let node = cluster.api(0);
    let file = format!("identity: {{name: {name}, organisation: {organisation}}}\nnodes: ['{node}']\n");
    fs::write(directory.join("user.yaml"), file).expect("written");
    // Its mode is right; what it holds is replaced.
    fs::copy(cluster.user("trader").join("tls.key"), directory.join("tls.key")).expect("copied");
    Credentials::issue(cluster, name, organisation).write(&directory);
    let key = directory.join("user.key");
    keygen(cluster, &key);
    key
}

/// Submits a record as this user through node 0, and the block it is in.
fn submits(cluster: &Cluster, user: &str, nonce: u64) -> Answer {
    let author = Author::of(cluster, user);
    let bytes = author.sign(&author.body(nonce, &json!({ "by": user, "nonce": nonce })));
    cluster.post(0, user, "?wait=committed&timeout=30s", CBOR, &bytes)
}

/// A change signed by a user, without the program.
fn signed(author: &Author, nonce: u64, change: Change) -> (String, Vec<u8>) {
    let body = Body { operation: Operation::Change(change.into()), ..author.body(nonce, &json!(null)) };
    (author.id(&body), codec::encode(&SignedTransaction::sign(&body, &author.key)))
}

fn change_roles(user: &str, revision: u64, roles: &[Role]) -> Change {
    Change::ChangeUser(ChangeUser {
        user: user.parse().expect("an identity"),
        revision,
        public_key: None,
        roles: Some(roles.iter().copied().collect()),
        gateways: None,
        standing: None,
    })
}

/// What every node answers for all members and policies: the same, once all have the same head.
fn same_registry(cluster: &Cluster) -> Value {
    cluster.wait_agreed();
    let all = |node: usize| {
        let lists = ["users", "nodes", "organisations", "policies"];
        Value::from(lists.map(|list| cluster.get(node, &format!("/v1/{list}"))).to_vec())
    };
    let first = all(0);
    (1..NODES).for_each(|node| assert_eq!(all(node), first, "node {node}"));
    first
}

/// Every node's chain holds, offline.
fn verify(cluster: &mut Cluster) {
    for i in 0..NODES {
        assert_eq!(cluster.stop_node(i), 0);
        let checked = cluster.minidlt(&["verify", &cluster.node(i).display().to_string()]);
        let said = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert!(checked.status.success() && said.starts_with("ok: "), "{checked:?}");
    }
}

#[test]
fn a_users_life_from_enrolment_to_revocation() {
    let mut cluster = Cluster::start(NODES, Mode::Bft);
    let key = newcomer(&cluster, "clerk", "Org01").display().to_string();
    let stranger = cluster.ask(0, "clerk", "/v1/status", &[]);
    assert_eq!((stranger.status, stranger.problem().as_str()), (403, "forbidden"), "{stranger:?}");

    // Enrolled in block h, it submits in block h + 1.
    let enrol = ["user", "enrol", "clerk@Org01", "--key", &key, "--roles", "submitter", "--gateways", "node0@Org01"];
    let said = done(&cluster, "admin", &enrol);
    let height = block_of(&said);
    assert_eq!(said, format!("user clerk@Org01 enrolled in block {height}\n"));
    let record = submits(&cluster, "clerk", 2).json();
    assert_eq!(record["result"]["status"], "ok", "{record}");
    // Unless the empty block that follows by itself was decided before the record came.
    let at = record["height"].as_u64().expect("a height");
    let between = (height + 1..at).all(|at| cluster.get(0, &format!("/v1/blocks/{at}"))["content"] == json!([]));
    assert!(at > height && between, "enrolled in {height}: {record}");

    // Other roles, other gateways.
    let said = done(&cluster, "admin", &["user", "change", "clerk@Org01", "--roles", "auditor"]);
    assert!(said.starts_with("user clerk@Org01 changed in block "), "{said}");
    let auditor = submits(&cluster, "clerk", 3);
    assert_eq!((auditor.status, auditor.problem().as_str()), (403, "role-missing"));
    let both = ["user", "change", "clerk@Org01", "--roles", "submitter", "--gateways", "node1@Org02"];
    done(&cluster, "admin", &both);
    let elsewhere = submits(&cluster, "clerk", 4);
    assert_eq!((elsewhere.status, elsewhere.problem().as_str()), (403, "gateway-not-permitted"));
    done(&cluster, "admin", &["user", "change", "clerk@Org01", "--gateways", "node0@Org01,node1@Org02"]);
    assert_eq!(submits(&cluster, "clerk", 5).status, 200);

    // Another key: what the old one signs is refused.
    let next = cluster.user("clerk").join("next.key");
    let public = keygen(&cluster, &next);
    let said = done(&cluster, "admin", &["user", "rotate-key", "clerk@Org01", "--key", &public]);
    assert!(said.starts_with("user clerk@Org01 given another key in block "), "{said}");
    let old = submits(&cluster, "clerk", 6);
    assert_eq!((old.status, old.problem().as_str()), (422, "bad-signature"));
    fs::rename(&next, &key).expect("replaced");
    assert_eq!(submits(&cluster, "clerk", 7).status, 200);

    // Suspended, resumed, revoked.
    done(&cluster, "admin", &["user", "suspend", "clerk@Org01"]);
    assert_eq!(cluster.ask(0, "clerk", "/v1/status", &[]).status, 403);
    done(&cluster, "admin", &["user", "resume", "clerk@Org01"]);
    assert_eq!(submits(&cluster, "clerk", 9).status, 200);
    let said = done(&cluster, "admin", &["user", "revoke", "clerk@Org01"]);
    let revoked = block_of(&said);
    until("all nodes know", || (0..NODES).all(|node| cluster.height(node) >= revoked));
    for node in 0..NODES {
        let answer = cluster.ask(node, "clerk", "/v1/status", &[]);
        assert_eq!((answer.status, answer.problem().as_str()), (403, "forbidden"), "node {node}");
        assert!(answer.body.contains("clerk@Org01"), "by its name: {answer:?}");
    }
    let said = refused(&cluster, "admin", &["user", "resume", "clerk@Org01"]);
    assert!(said.contains("user/clerk@Org01 is revoked, which is for ever"), "{said}");

    // Who did all that.
    let history = cluster.get(3, "/v1/users/clerk@Org01/history?limit=2");
    assert_eq!(history["changes"][0]["height"], height, "{history}");
    assert_eq!(history["changes"][0]["author"], json!({"name": "admin", "organisation": "Org01"}));
    assert_eq!(history["changes"][1]["operation"]["change"]["change_user"]["roles"], json!(["auditor"]));
    let next = history["next"].as_str().expect("more");
    let rest = cluster.get(3, &format!("/v1/users/clerk@Org01/history?after={next}"));
    assert_eq!(rest["changes"].as_array().map(Vec::len), Some(6), "{rest}");
    assert_eq!(rest["changes"][5]["height"], revoked);
    assert_eq!(rest["next"], Value::Null);
    let lines = done(&cluster, "trader", &["user", "history", "clerk@Org01"]);
    assert_eq!(lines.lines().count(), 8, "{lines}");
    assert!(lines.lines().all(|line| line.contains("  admin@Org01  {\"change\":")), "{lines}");

    let shown: Value = serde_json::from_str(&done(&cluster, "trader", &["user", "show", "clerk@Org01"])).unwrap();
    assert_eq!((&shown["standing"], &shown["revision"]), (&json!("revoked"), &json!(7)));
    let registry = same_registry(&cluster);
    assert!(registry[0]["users"].as_array().expect("users").contains(&shown), "{registry}");
    verify(&mut cluster);
}

#[test]
fn each_refusal_has_its_name_and_changes_nothing() {
    let mut cluster = Cluster::start(NODES, Mode::Bft);
    let key = newcomer(&cluster, "clerk", "Org01").display().to_string();
    let enrol =
        |name: &str, key: &str, roles: &str| ["user", "enrol", name, "--key", key, "--roles", roles].map(str::to_owned);
    let refused =
        |user: &str, words: &[String]| refused(&cluster, user, &words.iter().map(String::as_str).collect::<Vec<_>>());
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    done(&cluster, "admin", &["user", "enrol", "clerk@Org01", "--key", &key, "--roles", "submitter"]);
    let before = same_registry(&cluster);
    let free = keygen(&cluster, &cluster.directory.path().join("free.key"));

    let said = refused("trader", &enrol("more@Org01", &free, "submitter"));
    assert!(said.contains("trader@Org01 has not the role 'userinvoker'"), "{said}");
    let said = refused("admin", &enrol("more@Org02", &free, "submitter"));
    assert!(said.contains("admin@Org01 is of another organisation: only members of Org02 may do this"), "{said}");
    let said = refused("admin", &enrol("clerk@Org01", &free, "submitter"));
    assert!(said.contains("user/clerk@Org01 is there already; a name is never given twice"), "{said}");
    let said = refused("admin", &enrol("node0@Org01", &free, "submitter"));
    assert!(said.contains("node/node0@Org01 is there already"), "{said}");
    let said = refused("admin", &enrol("more@Org01", &key, "submitter"));
    assert!(said.contains("this public key is clerk@Org01's"), "{said}");
    for change in
        [words(&["user", "revoke", "admin@Org01"]), words(&["user", "change", "admin@Org01", "--roles", "auditor"])]
    {
        let said = refused("admin", &change);
        assert!(said.contains("Org01 would be left without an admin who is active"), "{said}");
    }
    let mut gone = enrol("more@Org01", &free, "submitter").to_vec();
    gone.extend(words(&["--gateways", "node9@Org01"]));
    let said = refused("admin", &gone);
    assert!(said.contains("gateway node9@Org01 is not a node in good standing"), "{said}");
    let said = refused("admin", &words(&["user", "suspend", "nobody@Org01"]));
    assert!(said.contains("knows no user/nobody@Org01"), "{said}");
    let said = refused("admin", &words(&["user", "change", "clerk@Org01", "--roles", "submitter"]));
    assert!(said.contains("it changes nothing of user/clerk@Org01"), "{said}");
    let (code, said) = minidlt(&cluster, "admin", &["user", "change", "clerk@Org01", "--roles", "chief"]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("\"chief\" is not a role; roles are admin, "), "{said}");
    let asked = r#"{"change": {"change_user": {"user": {"name": "clerk", "organisation": "Org01"}, "revision": 0, "roles": ["chief"]}}}"#;
    let answer = cluster.ask(0, "admin", "/v1/transactions/prepare", &["--json", asked]);
    assert_eq!((answer.status, answer.problem().as_str()), (400, "bad-request"), "{answer:?}");
    assert!(answer.body.contains("chief"), "{answer:?}");
    assert_eq!(same_registry(&cluster), before, "nothing has changed");

    // Kinds, on the API itself.
    let admin = Author::of(&cluster, "admin");
    let kind = |change| {
        let (_, bytes) = signed(&admin, 77, change);
        let answer = cluster.post(0, "admin", "", CBOR, &bytes);
        (answer.status, answer.problem())
    };
    assert_eq!(kind(change_roles("clerk@Org01", 5, &[Role::Auditor])), (409, "stale-revision".into()));
    assert_eq!(kind(change_roles("clerk@Org01", 0, &[])), (422, "no-role".into()));
    assert_eq!(kind(change_roles("clerk@Org01", 0, &[Role::Submitter])), (409, "no-change".into()));
    assert_eq!(kind(change_roles("admin-Org02@Org02", 0, &[Role::Admin])), (403, "other-organisation".into()));
    assert_eq!(kind(change_roles("admin@Org01", 0, &[Role::Auditor])), (422, "no-admin-left".into()));
    assert_eq!(kind(change_roles("nobody@Org01", 0, &[Role::Auditor])), (409, "not-there".into()));

    // Replayed: it is one transaction, in one place, once.
    let (id, bytes) = signed(&admin, 78, change_roles("clerk@Org01", 0, &[Role::Auditor]));
    let first = cluster.post(0, "admin", "?wait=committed&timeout=30s", CBOR, &bytes).json();
    assert_eq!(first["result"]["status"], "ok", "{first}");
    let again = cluster.post(0, "admin", "?wait=committed&timeout=30s", CBOR, &bytes).json();
    assert_eq!((&again["id"], &again["height"]), (&json!(id), &first["height"]), "{again}");
    let shown: Value = serde_json::from_str(&done(&cluster, "admin", &["user", "show", "clerk@Org01"])).unwrap();
    assert_eq!(shown["revision"], 1, "{shown}");
    same_registry(&cluster);
    verify(&mut cluster);
}

/// Four nodes of which one votes.
#[test]
fn the_last_who_votes_stays() {
    let file = "organisations: [Org01, Org02, Org03, Org04]\nnodes:\n  - {organisation: Org01}\n".to_owned()
        + &["Org02", "Org03", "Org04"].map(|name| format!("  - {{organisation: {name}, roles: [peer]}}\n")).concat();
    let mut cluster = Cluster::init_from(&file, NODES, Mode::Bft);
    cluster.start_all();
    for change in
        [["node", "suspend", "node0@Org01"].to_vec(), ["node", "change", "node0@Org01", "--roles", "peer"].to_vec()]
    {
        let said = refused(&cluster, "admin", &change);
        assert!(said.contains("nobody could decide a block any more: no node would be an active orderer"), "{said}");
    }
    let said = refused(&cluster, "admin-Org02", &["organisation", "remove", "Org01"]);
    assert!(said.contains("nobody could decide a block any more"), "{said}");
    assert_eq!(submits(&cluster, "trader", 1).status, 200, "it goes on");
    same_registry(&cluster);
    verify(&mut cluster);
}

#[test]
fn a_policy_is_changed_with_the_consent_of_three_admins() {
    let mut cluster = Cluster::start(NODES, Mode::Bft);
    let file = cluster.directory.path().join("change.json").display().to_string();
    let parts = ["Org01", "Org02", "Org03"].map(|name| json!({"organisation": name, "role": "admin"}));
    let three = json!({ "at_least": 3, "of": parts }).to_string();
    // First by those whom the default asks for: admins of more than half of the organisations.
    let said = refused(&cluster, "admin", &["policy", "set", "policies", &three]);
    assert!(said.contains("policy 'policies' is not met; missing: "), "{said}");
    let said = done(&cluster, "admin", &["policy", "set", "policies", &three, "--out", &file]);
    assert!(said.starts_with("policy policies: to be set; have "), "{said}");
    endorse_and_send(&cluster, &file, &["admin-Org02", "admin-Org03"]);

    // Then by the new one, which names three leaves.
    let two = json!({"all": parts}).to_string();
    fs::remove_file(&file).expect("sent");
    done(&cluster, "admin", &["policy", "set", "policies", &two, "--out", &file]);
    let said = done(&cluster, "admin-Org02", &["endorse", &file]);
    assert!(said.contains("\"set_policy\"") && said.contains("author   admin@Org01"), "in clear: {said}");
    let (code, said) = minidlt(&cluster, "admin", &["policy", "explain", &file]);
    assert_eq!(code, 1, "{said}");
    for line in ["policy policies: not met", "met     admin of Org02: admin-Org02@Org02", "missing admin of Org03"] {
        assert!(said.contains(line), "{line} in {said}");
    }
    let said = refused(&cluster, "admin", &["send", &file]);
    assert!(said.contains("policy 'policies' is not met; missing: admin of Org03"), "{said}");
    let said = refused(&cluster, "admin-Org02", &["endorse", &file]);
    assert_eq!(said.lines().count(), 1, "{said}");
    edited_is_refused(&cluster, &file);
    endorse_and_send(&cluster, &file, &["admin-Org03"]);

    let history = cluster.get(2, "/v1/policies/policies/history");
    assert_eq!(history["changes"][1]["endorsers"].as_array().map(Vec::len), Some(2), "{history}");
    let list = done(&cluster, "trader", &["policy", "list"]);
    assert!(list.lines().any(|line| line.starts_with("policies  {\"all\":[") && line.contains("Org03")), "{list}");
    same_registry(&cluster);
    verify(&mut cluster);
}

fn endorse_and_send(cluster: &Cluster, file: &str, endorsers: &[&str]) {
    for endorser in endorsers {
        done(cluster, endorser, &["endorse", file]);
    }
    let said = done(cluster, "admin", &["policy", "explain", file]);
    assert!(said.starts_with("policy policies: met\n"), "{said}");
    let said = done(cluster, "admin", &["send", file]);
    assert!(said.starts_with("policy policies set in block "), "{said}");
}

/// What a file says in clear is checked before anybody signs it.
fn edited_is_refused(cluster: &Cluster, file: &str) {
    let text = fs::read_to_string(file).expect("the file");
    let edited = text.replacen("\"role\": \"admin\"", "\"role\": \"auditor\"", 1);
    assert_ne!(edited, text);
    let copy = format!("{file}.edited");
    fs::write(&copy, &edited).expect("written");
    let said = refused(cluster, "admin-Org03", &["endorse", &copy]);
    assert!(said.contains("its 'operation' in clear is not what is signed"), "{said}");
    assert_eq!(fs::read_to_string(&copy).expect("the file"), edited, "nothing was added");
}

#[test]
fn of_two_conflicting_changes_the_first_wins() {
    let mut cluster = Cluster::start(NODES, Mode::Bft);
    let key = newcomer(&cluster, "clerk", "Org01").display().to_string();
    done(&cluster, "admin", &["user", "enrol", "clerk@Org01", "--key", &key, "--roles", "submitter"]);
    cluster.wait_agreed();
    // Both of revision 0, in one request: the mempool takes both before any block can hold either, as it checks
    // each against the registry of the last block.
    let admin = Author::of(&cluster, "admin");
    let one = signed(&admin, 1, change_roles("clerk@Org01", 0, &[Role::Auditor]));
    let other = signed(&admin, 2, change_roles("clerk@Org01", 0, &[Role::UserInvoker]));
    let both = [one.1, other.1].concat();
    let answer = cluster.post(0, "admin", "?wait=committed&timeout=30s", "application/cbor-seq", &both);
    assert_eq!(answer.status, 200, "{answer:?}");
    let mut fates = answer.json()["transactions"].as_array().expect("both").clone();
    assert_eq!(fates[0]["height"], fates[1]["height"], "one block holds both: {fates:?}");
    fates.sort_by_key(|fate| fate["position"].as_u64());
    assert_eq!(fates[0]["result"], json!({"status": "ok"}), "{fates:?}");
    assert_eq!(fates[1]["status"], "committed");
    assert_eq!(fates[1]["result"]["status"], "failed", "{fates:?}");
    let reason = fates[1]["result"]["reason"].as_str().expect("a reason");
    assert!(reason.contains("user/clerk@Org01 has revision 1 by now, this is a change of revision 0"), "{reason}");
    let shown: Value = serde_json::from_str(&done(&cluster, "admin", &["user", "show", "clerk@Org01"])).unwrap();
    let role = if fates[0]["id"] == one.0 { "auditor" } else { "userinvoker" };
    assert_eq!((&shown["roles"], &shown["revision"]), (&json!([role]), &json!(1)));
    let history = cluster.get(1, "/v1/users/clerk@Org01/history");
    assert_eq!(history["changes"].as_array().map(Vec::len), Some(2), "what failed changed nothing: {history}");
    same_registry(&cluster);
    verify(&mut cluster);
}

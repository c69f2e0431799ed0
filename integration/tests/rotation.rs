//! What a running network of four replaces while users submit without pause: the signing key of each node, the CA
//! of an organisation; and a node that is suspended and comes back. Nothing is lost, nobody restarts.

use std::{fs, path::Path, process::Command};

use minidlt_integration::{
    Answer, Cluster, Load, Mode, Plan, checker,
    commands::{agree, block_of, done, keygen, refused},
    peer::Credentials,
    program, run, until,
};
use serde_json::Value;

const NODES: usize = 4;
/// The others, whose consent is a majority with the author's.
const TWO_MORE: &[&str] = &["admin-Org02", "admin-Org03"];

fn node_name(i: usize) -> String {
    format!("node{i}@Org0{}", i + 1)
}

/// The admin whom `init` made for the organisation of this node.
fn admin_of(i: usize) -> String {
    if i == 0 { "admin".into() } else { format!("admin-Org0{}", i + 1) }
}

/// As things stood a block before the head.
fn entry(cluster: &Cluster, collection: &str, name: &str) -> Value {
    cluster.get(1, &format!("/v1/{collection}/{name}"))["value"].clone()
}

fn votes(cluster: &Cluster, i: usize) -> bool {
    cluster.metric(i, "minidlt_voting") == 1.0 && cluster.get(i, "/v1/status")["voting"]["state"] == "voting"
}

/// With full consent, a node that signed with the wrong key for one height would halt all.
fn every_nodes_key_is_replaced(mode: Mode) {
    let mut cluster = Cluster::start(NODES, mode);
    let load = Load::start(&cluster, Plan::default());
    until("the load is known", || load.known() > 20);
    for i in 0..NODES {
        let next = cluster.node(i).join("node.key.next");
        let public = keygen(&cluster, &next);
        let words = ["node", "rotate-key", &node_name(i), "--key", &next.display().to_string()];
        let said = done(&cluster, &admin_of(i), &words);
        let height = block_of(&said);
        until("the new key votes", || cluster.height(i) > height + 2 && votes(&cluster, i));
        until("it is told", || entry(&cluster, "nodes", &node_name(i))["public_key"] == public.as_str());
        assert!(!next.exists() && cluster.node(i).join("node.key.former").exists(), "it took the other's place");
        let known = load.known();
        until("the load goes on", || load.known() > known + 20);
    }
    for i in 0..NODES {
        let log = cluster.log(i);
        assert!(log.contains("the ledger has a new key for this node"), "{log}");
        assert!(!log.contains("the connection with node"), "sessions stand: {log}");
    }
    // Started again within the time in which both keys are good.
    assert_eq!(cluster.stop_node(NODES - 1), 0);
    cluster.start_node(NODES - 1);
    until("it votes again", || cluster.is_ready(NODES - 1) && votes(&cluster, NODES - 1));
    checker::check(&mut cluster, &load.finish());
}

#[test]
fn every_nodes_key_is_replaced_under_load_by_quorum() {
    every_nodes_key_is_replaced(Mode::Bft);
}

#[test]
fn every_nodes_key_is_replaced_under_load_by_full_consent() {
    every_nodes_key_is_replaced(Mode::FullConsent);
}

#[test]
fn a_node_whose_new_key_is_elsewhere_follows_and_says_so_until_it_is_brought() {
    let mut cluster = Cluster::start(NODES, Mode::Bft);
    let elsewhere = cluster.directory.path().join("elsewhere.key");
    keygen(&cluster, &elsewhere);
    let words = ["node", "rotate-key", &node_name(3), "--key", &elsewhere.display().to_string()];
    let height = block_of(&done(&cluster, &admin_of(3), &[&words[..], &["--former-key-for", "0s"]].concat()));
    until("it says what it lacks", || cluster.log(3).contains("Put the key in "));
    // It takes part in the height that follows, and no further.
    let trader = cluster.user("trader").display().to_string();
    let file = cluster.directory.path().join("record.json");
    fs::write(&file, "{\"number\": 1}\n").expect("written");
    let submit = || run(program(&[]).args(["submit", "--wait", "--node", &cluster.api(0), "--as", &trader]).arg(&file));
    submit();
    submit();
    until("the others decide without it", || cluster.height(0) > height + 2);
    assert!(!votes(&cluster, 3));
    let voting = cluster.get(3, "/v1/status")["voting"].clone();
    assert_eq!(voting["state"], "following", "{voting}");
    assert!(voting["reason"].as_str().is_some_and(|reason| reason.contains("node.key.next")), "{voting}");

    fs::copy(&elsewhere, cluster.node(3).join("node.key.next")).expect("brought");
    until("it votes", || votes(&cluster, 3));
    submit();
    cluster.wait_agreed();
    checker::check(&mut cluster, &Default::default());
}

/// A certificate authority of its own key, made as the README says.
fn new_authority(organisation: &str, directory: &Path) {
    fs::create_dir(directory).expect("a directory");
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
    openssl.args(["-days", "3650", "-subj", &format!("/O={organisation}/CN={organisation} CA of 2027")]);
    openssl.args(["-addext", "keyUsage=critical,keyCertSign,cRLSign"]);
    openssl.arg("-keyout").arg(directory.join("ca.key")).arg("-out").arg(directory.join("ca.crt"));
    run(&mut openssl);
}

/// Whether a node takes this user's certificate.
fn is_let_in(cluster: &Cluster, user: &str) -> bool {
    let Answer { status, .. } = cluster.ask(1, user, "/v1/status", &[]);
    status == 200
}

#[test]
fn an_organisations_authority_is_replaced_under_load() {
    let mut cluster = Cluster::start(NODES, Mode::Bft);
    let load = Load::start(&cluster, Plan { through: &[1, 2, 3], ..Plan::default() });
    until("the load is known", || load.known() > 20);
    let of_before = Credentials::issue(&cluster, "trader", "Org01");
    let made = cluster.network().join("organisations/Org01-2027");
    new_authority("Org01", &made);
    let ca = made.join("ca.crt").display().to_string();

    // By a majority of organisations. Its members renew while both are believed.
    agree(&cluster, 0, &["organisation", "change-ca", "Org01", "--ca", &ca], "admin", TWO_MORE);
    for directory in [cluster.node(0), cluster.user("admin"), cluster.user("trader")] {
        run(program(&[]).arg("renew").arg(directory).arg("--ca").arg(&made));
    }
    until("the node shows the new one", || cluster.log(0).contains("is in use now, until "));
    assert!(is_let_in(&cluster, "trader"));
    // Its API is trusted by who knows the new authority.
    let trusted = cluster.network().join("ca.crt");
    let both = [&trusted, &made.join("ca.crt")].map(|path| fs::read_to_string(path).expect("PEM")).concat();
    fs::write(&trusted, both).expect("written");
    until("node 0 answers", || cluster.height(0) > 0);

    // The former one is dropped: what it vouched for is not let in any more.
    let file = cluster.directory.path().join("drop.json").display().to_string();
    done(&cluster, "admin", &["organisation", "drop-former-ca", "Org01", "--ca", &ca, "--out", &file]);
    TWO_MORE.iter().for_each(|admin| drop(done(&cluster, admin, &["endorse", &file])));
    done(&cluster, "admin", &["send", &file, "--ca", &ca]);
    until("it is told", || entry(&cluster, "organisations", "Org01")["former_ca"] == Value::Null);
    of_before.write(&cluster.user("trader"));
    until("it is not let in", || !is_let_in(&cluster, "trader"));
    run(program(&[]).arg("renew").arg(cluster.user("trader")).arg("--ca").arg(&made));
    assert!(is_let_in(&cluster, "trader"));
    // Node 0 is known by the new one, and finds the others again by itself.
    assert_eq!(cluster.stop_node(0), 0);
    cluster.start_node(0);
    until("it votes again", || cluster.is_ready(0) && votes(&cluster, 0));
    checker::check(&mut cluster, &load.finish());
}

#[test]
fn a_node_is_suspended_and_resumed_under_load() {
    // Here no block is decided without it, up to the one after that which suspends it: so it hears of that.
    let mut cluster = Cluster::start(NODES, Mode::FullConsent);
    let load = Load::start(&cluster, Plan { through: &[0, 1, 2], ..Plan::default() });
    until("the load is known", || load.known() > 20);
    // Its vote is the network's affair.
    let said = refused(&cluster, "admin-Org04", &["node", "suspend", "node3@Org04"]);
    assert!(said.contains("policy 'orderers' is not met; missing: admin of 3 of the 4 organisations"), "{said}");
    agree(&cluster, 3, &["node", "suspend", "node3@Org04"], "admin-Org04", &["admin", "admin-Org02"]);
    let connected = |cluster: &Cluster, i: usize| {
        let status = cluster.get(i, "/v1/status");
        let peers = status["peers"].as_array().expect("peers").clone();
        peers.iter().any(|peer| peer["name"] == "node3" && peer["state"] == "connected")
    };
    until("nobody speaks with it", || (0..3).all(|i| !connected(&cluster, i)));
    let known = load.known();
    until("three go on", || load.known() > known + 20);

    // It was the only gateway of its organisation's admin, who may use any other's now.
    agree(&cluster, 0, &["node", "resume", "node3@Org04"], "admin-Org04", &["admin", "admin-Org02"]);
    until("all speak with it again", || (0..3).all(|i| connected(&cluster, i)));
    until("it votes again", || votes(&cluster, 3));
    checker::check(&mut cluster, &load.finish());
}

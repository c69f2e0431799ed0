//! Certificates of running nodes are renewed under load, one after another; a node whose certificate has run
//! out comes back once it is renewed. Nobody restarts anything.

use std::{
    net::TcpStream,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use minidlt_integration::{
    Client, Cluster, Load, Mode, Plan, checker, counted,
    peer::{Credentials, try_tls},
    program, run, signal, until,
};

const NODES: usize = 4;
const REFUSED: &str = "minidlt_connections_refused_total";
const TIME: Duration = Duration::from_secs(5);

fn organisation(i: usize) -> String {
    format!("Org{:02}", i + 1)
}

/// What renews a node's certificate, as its operator types it.
fn renew(cluster: &Cluster, i: usize) -> Command {
    let mut renew = program(&[]);
    let ca = cluster.network().join("organisations").join(organisation(i));
    renew.arg("renew").arg(cluster.node(i)).arg("--ca").arg(ca);
    renew
}

/// The serial number of the certificate that a new connection to this port is shown.
fn serial(cluster: &Cluster, i: usize, port: u16) -> Option<String> {
    // Any node's will do for the API; who connects to another node's peers must be one.
    let stream = try_tls(port, &Credentials::of(&cluster.node((i + 1) % NODES))).ok()?;
    Some(stream.ssl().peer_certificate()?.serial_number().to_bn().ok()?.to_string())
}

/// A client that connects anew for every request, to every node in turn, until it is told to end. Each must be
/// answered.
fn newcomer(cluster: &Cluster, end: Arc<AtomicBool>) -> thread::JoinHandle<usize> {
    let mut clients: Vec<Client> = (0..NODES).map(|i| Client::new(cluster, i, "admin")).collect();
    thread::spawn(move || {
        let mut answered = 0;
        while !end.load(Ordering::Relaxed) {
            for client in &mut clients {
                let head = "GET /v1/nodes HTTP/1.1\r\n";
                let (status, _) = client.request(head, &[], TIME).expect("it is answered");
                assert_eq!(status, 200);
                client.disconnect();
                answered += 1;
            }
        }
        answered
    })
}

#[test]
fn every_node_is_renewed_under_load_and_nobody_notices() {
    let mut cluster = Cluster::start(NODES, Mode::Bft);
    let load = Load::start(&cluster, Plan::default());
    until("the load is known", || load.known() > 20);
    let end = Arc::new(AtomicBool::new(false));
    let newcomer = newcomer(&cluster, end.clone());
    for i in 0..NODES {
        let ports = [cluster.api_port(i), cluster.peers_port(i)];
        let before = ports.map(|port| serial(&cluster, i, port).expect("it listens"));
        assert_eq!(before[0], before[1], "one certificate on both ports");
        let said = run(&mut renew(&cluster, i));
        assert!(said.starts_with("renewed: "), "{said}");
        if i == 0 {
            signal("HUP", i64::from(cluster.pid(i)));
        }
        let known = load.known();
        for port in ports {
            until("the new certificate is shown", || serial(&cluster, i, port).is_some_and(|found| found != before[0]));
        }
        until("the load goes on", || load.known() > known);
        let own = &cluster.get(i, "/v1/status")["certificates"]["own"]["days_left"];
        assert!((824..=825).contains(&own.as_i64().expect("days")), "{own}");
    }
    end.store(true, Ordering::Relaxed);
    assert!(newcomer.join().expect("all are answered") >= NODES);
    for i in 0..NODES {
        let log = cluster.log(i);
        assert!(log.contains("is in use now, until "), "{log}");
        assert!(!log.contains("the connection with node"), "sessions stand: {log}");
    }
    checker::check(&mut cluster, &load.finish());
}

/// The command that a node's log gives at the end of the line that has these words.
fn command_after(log: &str, words: &str) -> Vec<String> {
    let line = log.lines().find(|line| line.contains(words)).expect("the log says so");
    let (_, command) = line.rsplit_once(": minidlt ").expect("and what to do");
    command.split(' ').map(str::to_owned).collect()
}

#[test]
fn a_node_whose_certificate_has_run_out_comes_back_by_the_command_that_it_logs() {
    const NODE: usize = 3;
    let mut cluster = Cluster::init(NODES, Mode::Bft);
    Credentials::issue_until(&cluster, "node3", &organisation(NODE), -60).write(&cluster.node(NODE));
    let node = cluster.node(NODE).display().to_string();
    let checked = cluster.minidlt(&["check-config", &node]);
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert_eq!(checked.status.code(), Some(2), "{said}");
    assert!(said.contains("tls.crt expired on ") && said.contains("; renew it: minidlt renew "), "{said}");

    (0..NODES).for_each(|i| cluster.start_node(i));
    (0..NODE).for_each(|i| cluster.wait_ready(i));
    let load = Load::start(&cluster, Plan { through: &[0, 1, 2], ..Plan::default() });
    until("three go on", || load.known() > 20);
    until("it says what is wrong", || cluster.log(NODE).contains("has run out: no node and no client connects"));
    let error = || cluster.get(0, "/v1/status")["peers"][2]["last_error"].to_string();
    until("the others refuse it", || error().contains("certificate for node3@Org04 that it shows was refused"));
    assert!(!cluster.is_ready(NODE));
    let refused = cluster.samples(0, &[REFUSED]).value(&counted(REFUSED, "untrusted-certificate"));
    assert!(refused >= 1.0, "it is counted");
    assert!(TcpStream::connect(("127.0.0.1", cluster.api_port(NODE))).is_ok(), "it runs all the while");

    let pid = cluster.pid(NODE);
    let command = command_after(&cluster.log(NODE), "has run out: no node");
    run(program(&[]).args(&command));
    cluster.wait_ready(NODE);
    assert_eq!(cluster.pid(NODE), pid);
    let known = load.known();
    until("the load goes on", || load.known() > known);
    checker::check(&mut cluster, &load.finish());
}

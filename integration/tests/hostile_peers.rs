//! On the peers' port of a running node: whatever a stranger sends, the connection is closed with a
//! reason in the log, and the node serves on.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use minidlt_integration::{Cluster, Mode, PATIENCE, until};

/// The time limit of a handshake, and some slack for a busy machine.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(8);

fn connect(cluster: &Cluster) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", cluster.peers_port(0))).expect("the port is open");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    stream
}

/// Reads until the node closes; how long that took.
fn closed_after(mut stream: TcpStream) -> Duration {
    let start = Instant::now();
    let mut sink = [0; 4096];
    loop {
        match stream.read(&mut sink) {
            Ok(0) => return start.elapsed(),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return start.elapsed(),
            Err(error) => panic!("the node did not close: {error}"),
        }
    }
}

/// A TLS client with a certificate of `who`, which the node must refuse.
fn tls_client_is_refused(cluster: &Cluster, node: usize, certificate: &str, key: &str) {
    let mut client = Command::new("openssl")
        .args(["s_client", "-quiet", "-connect"])
        .arg(format!("127.0.0.1:{}", cluster.peers_port(node)))
        .args(["-cert", certificate, "-key", key])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl runs");
    let start = Instant::now();
    loop {
        if client.try_wait().expect("it can be asked").is_some() {
            break;
        }
        assert!(start.elapsed() < HANDSHAKE_LIMIT, "the node did not close");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn strangers_are_closed_with_a_reason_and_the_node_is_unharmed() {
    let cluster = Cluster::start(2, Mode::FullConsent);
    let other = Cluster::init(2, Mode::FullConsent);
    let refused = |name: &str, before: f64| {
        until(&format!("{name} is counted"), || cluster.metric(0, "minidlt_connections_refused_total") > before);
    };
    let counted = || cluster.metric(0, "minidlt_connections_refused_total");

    let before = counted();
    let mut garbage = connect(&cluster);
    garbage.write_all(&[0xff; 4096]).expect("sent");
    assert!(closed_after(garbage) < HANDSHAKE_LIMIT);
    refused("garbage", before);

    let before = counted();
    let half_open = connect(&cluster);
    assert!(closed_after(half_open) < HANDSHAKE_LIMIT, "a connection that says nothing");
    refused("a half-open handshake", before);

    let before = counted();
    let gone = connect(&cluster);
    gone.shutdown(Shutdown::Both).expect("closed");
    refused("a connection that went away", before);

    let path = |cluster: &Cluster, part: &str| cluster.network().join(part).display().to_string();
    let cases = [
        ("a user's certificate", path(&cluster, "users/trader/tls.crt"), path(&cluster, "users/trader/tls.key")),
        ("another network's node", path(&other, "node1/tls.crt"), path(&other, "node1/tls.key")),
    ];
    for (name, certificate, key) in cases {
        let before = counted();
        tls_client_is_refused(&cluster, 0, &certificate, &key);
        refused(name, before);
    }
    // A real node's certificate, but nothing said after: no `Alive`, no session.
    let before = cluster.metric(1, "minidlt_connections_refused_total");
    tls_client_is_refused(&cluster, 1, &path(&cluster, "node0/tls.crt"), &path(&cluster, "node0/tls.key"));
    until("a handshake without Alive is counted", || cluster.metric(1, "minidlt_connections_refused_total") > before);

    let logged = |node: usize| cluster.log(node).lines().filter(|line| line.contains("no connection with")).count();
    assert!(logged(0) >= 4, "each kind has its reason in the log: {}", cluster.log(0));
    assert!(logged(1) >= 1, "{}", cluster.log(1));
    assert_eq!(cluster.get(0, "/v1/status")["peers"][0]["state"], "connected");
    let (status, _) = cluster.request(0, "trader", "/v1/status", &[]);
    assert_eq!(status, 200);
}

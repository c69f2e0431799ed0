//! On the peers' port of a running node: whatever a stranger sends, the connection is closed within
//! the handshake's time, counted once under its own reason and under no other, told in the log, and
//! the node goes on committing.
//!
//! Those who come through TLS do so with the files of node 0, which does not run meanwhile.

use std::{
    collections::BTreeMap,
    io::Write,
    time::{Duration, Instant},
};

use minidlt_integration::{
    Author, CBOR, Cluster, Mode, Samples, counted,
    peer::{Credentials, Stream, Voice, client, client_hello, closed, connect, tls},
    until,
};
use openssl::ssl::{SslStream, SslVersion};
use serde_json::json;

/// The node that is attacked. It dials nobody: of two nodes the one with the smaller name dials.
const VICTIM: usize = 3;
/// The node whose files the attacker has.
const IMPERSONATED: usize = 0;
/// The time a handshake may take, and some more for a busy machine.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
const SLACK: Duration = Duration::from_secs(2);
/// Connections that did not become a session, and sessions that ended.
const REFUSED: &str = "minidlt_connections_refused_total";
const ENDED: &str = "minidlt_sessions_ended_total";
/// The lines in which the log tells of the ones and the others.
const NO_CONNECTION: &str = "no connection with 127.0.0.1:";
const CONNECTION_ENDED: &str = "the connection with node0@Org01 ended: ";

/// What the victim has counted since the start, and what it should have.
struct Attack {
    cluster: Cluster,
    before: Samples,
    expected: BTreeMap<String, f64>,
}

impl Attack {
    /// Begins with node 0 gone, and its going counted.
    fn begin() -> Self {
        let mut cluster = Cluster::start(4, Mode::Bft);
        until("all are connected", || cluster.metric(VICTIM, "minidlt_peers_connected") == 3.0);
        cluster.kill_node(IMPERSONATED);
        until("node 0 is gone", || cluster.metric(VICTIM, "minidlt_peers_connected") == 2.0);
        let before = cluster.samples(VICTIM, &[REFUSED, ENDED]);
        Self { cluster, before, expected: BTreeMap::new() }
    }

    fn changes(&self) -> BTreeMap<String, f64> {
        self.cluster.samples(VICTIM, &[REFUSED, ENDED]).since(&self.before)
    }

    /// `attempt` is closed in time and counted once, under `reason`; the log says `said` of it.
    fn refused(&mut self, what: &str, reason: &str, said: &str, attempt: impl FnOnce(&Cluster) -> Duration) {
        self.one_more(what, &counted(REFUSED, reason), [NO_CONNECTION, said], attempt);
    }

    fn one_more(&mut self, what: &str, counter: &str, line: [&str; 2], attempt: impl FnOnce(&Cluster) -> Duration) {
        let log = self.cluster.log(VICTIM).len();
        let took = attempt(&self.cluster);
        assert!(took < HANDSHAKE_LIMIT + SLACK, "{what}: closed after {took:?}");
        until(&format!("{what} is counted"), || self.changes() != self.expected);
        *self.expected.entry(counter.to_owned()).or_default() += 1.0;
        assert_eq!(self.changes(), self.expected, "{what}: counted once, as what it is");
        until(&format!("{what} is told in the log"), || {
            let log = self.cluster.log_since(VICTIM, log);
            log.lines().any(|told| line.iter().all(|part| told.contains(part)))
        });
    }

    /// The three that are left still commit, by the victim's vote.
    fn assert_commits(&self) {
        let author = Author::of(&self.cluster, "trader");
        let bytes = author.sign(&author.body(1, &json!("still here")));
        let answer = self.cluster.post(VICTIM, "trader", "?wait=committed&timeout=30s", CBOR, &bytes);
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

/// Says this on a connection without TLS.
fn plain(cluster: &Cluster, bytes: &[u8]) -> Duration {
    let (mut stream, since) = (connect(cluster.peers_port(VICTIM)), Instant::now());
    stream.write_all(bytes).expect("sent");
    closed(stream, since)
}

/// Shakes hands as TLS does, and no more.
fn handshake(cluster: &Cluster, credentials: Option<&Credentials>, newest: SslVersion) -> Duration {
    let (stream, since) = (connect(cluster.peers_port(VICTIM)), Instant::now());
    let mut stream = SslStream::new(client(credentials, newest), stream).expect("a stream");
    match stream.connect() {
        Ok(()) => closed(stream, since),
        // The node's alert has ended it.
        Err(_) => since.elapsed(),
    }
}

/// Says this once TLS stands, by the files of node 0.
fn as_node(cluster: &Cluster, say: impl FnOnce(&Stream) -> Vec<u8>) -> Duration {
    let since = Instant::now();
    let mut stream = tls(cluster.peers_port(VICTIM), &Credentials::of(&cluster.node(IMPERSONATED)));
    let bytes = say(&stream);
    stream.write_all(&bytes).expect("sent");
    closed(stream, since)
}

/// Of one reason the log tells once a second: those alike have one between them that takes longer.
#[test]
fn strangers_are_closed_in_time_and_by_name_and_the_node_commits_on() {
    let other = Cluster::init(1, Mode::Bft);
    let mut attack = Attack::begin();
    let late = "the handshake was not done in time";
    let not_a_node = "which is not an enrolled node";
    let newest = SslVersion::TLS1_3;
    let voice = Voice::of(&attack.cluster, IMPERSONATED, VICTIM);
    let credentials = |cluster: &Cluster| Credentials::of(&cluster.node(0));

    attack.refused("garbage", "tls", "TLS failed", |cluster| plain(cluster, &[0xff; 4096]));
    attack.refused("half-open TCP", "handshake-timeout", late, |cluster| plain(cluster, &[]));
    let nothing_shown = "peer did not return a certificate";
    attack.refused("no certificate", "tls", nothing_shown, |cluster| handshake(cluster, None, newest));
    attack.refused("half-open TLS", "handshake-timeout", late, |cluster| plain(cluster, &client_hello()));
    attack.refused("TLS 1.2", "tls", "unsupported protocol", |cluster| {
        handshake(cluster, Some(&credentials(cluster)), SslVersion::TLS1_2)
    });
    attack.refused("a user's certificate", "not-a-node", not_a_node, |cluster| {
        handshake(cluster, Some(&Credentials::of(&cluster.user("trader"))), newest)
    });
    attack.refused("a silent node", "handshake-timeout", late, |cluster| as_node(cluster, |_| Vec::new()));
    attack.refused("a node not enrolled", "not-a-node", not_a_node, |cluster| {
        handshake(cluster, Some(&Credentials::issue(cluster, "node9", "Org01")), newest)
    });
    attack.refused("another CA", "untrusted-certificate", "that it shows was refused", |cluster| {
        handshake(cluster, Some(&credentials(&other)), newest)
    });
    let theirs = other.genesis().id();
    let of_another = format!("it is of network {theirs}");
    attack.refused("another genesis", "other-network", &of_another, |cluster| {
        as_node(cluster, |stream| voice.alive(stream, &theirs))
    });
    // Before the handshake is done a frame has 64 KiB at most.
    let announced = "a frame of 65537 bytes was announced";
    attack.refused("an oversized frame", "oversized-frame", announced, |cluster| {
        as_node(cluster, |_| 65_537_u32.to_be_bytes().to_vec())
    });

    a_session_ends_with_an_oversized_frame(&mut attack, &voice);
    attack.assert_commits();
    assert_eq!(attack.changes(), attack.expected, "nothing was counted later");

    // Nobody is kept out by what was done in its name.
    let Attack { mut cluster, .. } = attack;
    cluster.start_node(IMPERSONATED);
    cluster.wait_ready(IMPERSONATED);
    until("all are connected again", || cluster.metric(VICTIM, "minidlt_peers_connected") == 3.0);
    cluster.wait_agreed();
}

/// One that has said all that a node says first, by that node's own key, is a session; a frame over
/// 16 MiB ends it before it is read.
fn a_session_ends_with_an_oversized_frame(attack: &mut Attack, voice: &Voice) {
    let network = attack.cluster.genesis().id();
    let oversized = (16_u32 << 20) + 1;
    let line = [CONNECTION_ENDED, "a frame of 16777217 bytes was announced"];
    attack.one_more("an oversized frame of a session", &counted(ENDED, "oversized-frame"), line, |cluster| {
        let mut stream = tls(cluster.peers_port(VICTIM), &Credentials::of(&cluster.node(IMPERSONATED)));
        let alive = voice.alive(&stream, &network);
        stream.write_all(&alive).expect("sent");
        until("it is a session", || cluster.metric(VICTIM, "minidlt_peers_connected") == 3.0);
        let since = Instant::now();
        stream.write_all(&oversized.to_be_bytes()).expect("sent");
        closed(stream, since)
    });
}

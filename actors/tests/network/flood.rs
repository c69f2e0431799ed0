//! More connections than there is room for: who may still come in, and what the others are told.
//!
//! All of 127.0.0.0/8 is this machine, so that a test can come from several sources.

use std::time::Duration;

use minidlt_actors::listener::Limits;
use tokio::net::{TcpSocket, TcpStream};

use crate::{
    cluster::{Network, PATIENCE, TestNode, count_of, counted, limits},
    hostile::closed,
    raw::{Raw, still_serving},
};

/// Places for handshakes; a source may have one in four.
const PLACES: usize = 8;
const SHARE: usize = 2;

/// A network of two; node 1, the victim, runs with room for few handshakes and dials nobody.
async fn victim(handshake: Duration) -> (Network, TestNode) {
    let mut network = Network::new(2);
    let victim = network.start(1, Limits { handshake, half_open: PLACES, ..limits() }).await;
    (network, victim)
}

/// Connects from 127.0.0.`host` and says nothing.
async fn hang(network: &Network, host: usize) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("127.0.0.{host}:0").parse().unwrap()).unwrap();
    socket.connect(network.address(1).parse().unwrap()).await.unwrap()
}

async fn refused(victim: &TestNode, reason: &str, count: usize) {
    counted(&victim.metrics.connections_refused, reason, count as u64).await;
}

#[actix_rt::test]
async fn one_flooding_host_keeps_nobody_out() {
    let (network, mut victim) = victim(PATIENCE).await;
    let mut hanging = Vec::new();
    for _ in 0..4 * PLACES {
        hanging.push(hang(&network, 2).await);
    }
    refused(&victim, "source-share-full", 4 * PLACES - SHARE).await;
    for tcp in &mut hanging[SHARE..] {
        closed(tcp).await;
    }
    // Two of its connections are still half open.
    still_serving(&network, &mut victim).await;
    assert_eq!(count_of(&victim.metrics.connections_refused, "handshake-timeout"), 0);
    assert_eq!(count_of(&victim.metrics.connections_refused, "handshakes-full"), 0);
}

#[actix_rt::test]
async fn strangers_who_hold_all_they_can_keep_no_enrolled_node_out() {
    let (network, mut victim) = victim(PATIENCE).await;
    let mut hanging = Vec::new();
    for host in (2..).take(PLACES / SHARE).flat_map(|host| [host; SHARE]) {
        hanging.push(hang(&network, host).await);
    }
    let mut late = hang(&network, 100).await;
    refused(&victim, "handshakes-full", 1).await;
    closed(&mut late).await;
    // Node 0 is at 127.0.0.1. It comes again and again, the last time while it is still half open.
    for _ in 0..3 {
        still_serving(&network, &mut victim).await;
    }
    let _half_open = hang(&network, 1).await;
    still_serving(&network, &mut victim).await;
    assert_eq!(count_of(&victim.metrics.connections_refused, "handshakes-full"), 1);
}

#[actix_rt::test]
async fn half_open_handshakes_end_in_time_and_give_their_places_back() {
    let (network, mut victim) = victim(Duration::from_secs(1)).await;
    let mut hanging = Vec::new();
    for host in (2..).take(PLACES / SHARE).flat_map(|host| [host; SHARE]) {
        hanging.push(hang(&network, host).await);
    }
    let mut late = hang(&network, 100).await;
    refused(&victim, "handshakes-full", 1).await;
    closed(&mut late).await;
    for tcp in &mut hanging {
        closed(tcp).await;
    }
    refused(&victim, "handshake-timeout", PLACES).await;
    still_serving(&network, &mut victim).await;
}

#[actix_rt::test]
async fn a_connected_peer_comes_again_though_no_connection_is_left_but_the_last() {
    let mut network = Network::new(2);
    // One for the other node, and one for a handshake.
    let mut one = network.start(1, Limits { connections: 2, ..limits() }).await;
    let mut older = Raw::join(&network, 0, 1).await;
    one.hear_change(0, true).await;
    let newer = Raw::join(&network, 0, 1).await;
    one.hear_change(0, true).await;
    older.closed().await;
    one.ended_session("replaced").await;
    assert_eq!(one.metrics.peers_connected.get(), 1);
    drop(newer);
}

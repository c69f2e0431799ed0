//! Nodes that find each other, talk, lose each other and find each other again.

mod api;
mod certificates;
mod changes;
mod cluster;
mod cuts;
mod fair;
mod flood;
mod hostile;
#[path = "../shared/random.rs"]
mod random;
mod raw;
mod relay;
mod renewal;
#[path = "../shared/seed.rs"]
mod seed;
mod sequences;
mod signing;

use std::time::Duration;

use cluster::{Heard, Network, count_of, gossip, identity, key, limits, vote};
use minidlt_actors::messages::network::{Class, GetPeers, PeerState};
use minidlt_protocol::{
    codec,
    message::{Content, Message, PoolContent, Recipient},
    types::Height,
};
use raw::Raw;

#[actix_rt::test]
async fn four_nodes_connect_and_hear_each_other() {
    let mut network = Network::new(4);
    let mut nodes = Vec::new();
    for n in 0..4 {
        nodes.push(network.start(n, limits()).await);
    }
    for (n, node) in nodes.iter_mut().enumerate() {
        let mut missing: Vec<_> = (0..4).filter(|peer| *peer != n).map(identity).collect();
        while !missing.is_empty() {
            let heard = node.hear(|heard| matches!(heard, Heard::Changed(_, true))).await;
            missing.retain(|peer| heard != Heard::Changed(peer.clone(), true));
        }
    }
    nodes[2].stamp(Recipient::All, Class::Vote, vote(network.id(), 2, &key(2))).await;
    for n in [0, 1, 3] {
        let Heard::Consensus(peer, _) = nodes[n].hear(|heard| matches!(heard, Heard::Consensus(..))).await else {
            unreachable!()
        };
        assert_eq!(peer, identity(2));
    }
    nodes[3].stamp(Recipient::One(identity(1)), Class::Transactions, gossip(b"a")).await;
    let expected = Heard::Pool(identity(3), PoolContent::Gossip(vec![b"a".to_vec().into()]));
    nodes[1].hear(|heard| *heard == expected).await;

    let peers = nodes[0].listener.send(GetPeers).await.unwrap();
    assert_eq!(peers.len(), 3);
    for (peer, n) in peers.iter().zip(1..) {
        assert_eq!(peer.identity, identity(n));
        assert_eq!(peer.state, PeerState::Connected);
        assert_eq!(peer.height, Some(Height::new(n as u64)));
    }
    assert_eq!(nodes[0].metrics.peers_connected.get(), 3);
}

#[actix_rt::test]
async fn they_find_each_other_again_whoever_went_away() {
    let mut network = Network::new(2);
    let mut zero = network.start(0, limits()).await;
    let mut one = network.start(1, limits()).await;
    zero.hear_change(1, true).await;
    one.hear_change(0, true).await;

    one.close().await;
    zero.hear_change(1, false).await;
    one.ended_session("shutting-down").await;
    assert!(zero.view(1).await.last_error.is_some());
    let mut one = network.start(1, limits()).await;
    zero.hear_change(1, true).await;
    one.hear_change(0, true).await;
    let view = zero.view(1).await;
    assert_eq!((view.state, view.last_error), (PeerState::Connected, None), "old errors say nothing any more");

    zero.close().await;
    one.hear_change(0, false).await;
    let mut zero = network.start(0, limits()).await;
    one.hear_change(0, true).await;
    zero.hear_change(1, true).await;
    assert_eq!(one.metrics.peers_connected.get(), 1);
}

#[actix_rt::test]
async fn a_newer_connection_replaces_a_half_dead_one() {
    let mut network = Network::new(2);
    let mut one = network.start(1, limits()).await;
    let mut older = Raw::join(&network, 0, 1).await;
    one.hear_change(0, true).await;
    let mut newer = Raw::join(&network, 0, 1).await;
    one.hear_change(0, true).await;
    older.closed().await;
    one.ended_session("replaced").await;
    assert_eq!(count_of(&one.metrics.connections_refused, "replaced"), 0);
    one.stamp(Recipient::One(identity(0)), Class::Sync, Content::Text("still there".into())).await;
    newer.receive().await.unwrap();
    assert_eq!(one.metrics.peers_connected.get(), 1);
}

#[actix_rt::test]
async fn a_vote_overtakes_what_waits_and_what_does_not_fit_is_counted() {
    const EACH: usize = 1 << 20;
    const SENT: usize = 64;
    let mut network = Network::new(2);
    let mut one = network.start(1, limits()).await;
    let mut slow = Raw::join(&network, 0, 1).await;
    one.hear_change(0, true).await;
    for _ in 0..SENT {
        one.stamp(Recipient::All, Class::Transactions, gossip(&vec![0; EACH])).await;
    }
    one.stamp(Recipient::All, Class::Vote, vote(network.id(), 1, &key(1))).await;
    // Answered only once the frames before it are queued: one mailbox, in order.
    one.listener.send(GetPeers).await.unwrap();
    cluster::counted(&one.metrics.frames_dropped, "transactions", 1).await;
    let mut before = 0;
    loop {
        let message: Message = codec::decode(&slow.receive().await.unwrap(), 16 << 20).unwrap();
        match codec::decode(&message.payload.content, 16 << 20).unwrap() {
            Content::Consensus(_) => break,
            _ => before += 1,
        }
    }
    // Some were on their way already, in the sockets' buffers.
    assert!(before < SENT / 2, "{before} transactions came before the vote");
    slow.receive().await.expect("what waited comes after");
}

#[actix_rt::test]
async fn a_silent_peer_is_given_up() {
    let mut network = Network::new(2);
    let idle = Duration::from_millis(300);
    let mut one = network.start(1, minidlt_actors::listener::Limits { idle, ..limits() }).await;
    let mut silent = Raw::join(&network, 0, 1).await;
    one.hear_change(0, true).await;
    silent.closed().await;
    one.ended_session("idle").await;
    one.hear_change(0, false).await;
}

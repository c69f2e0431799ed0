//! Networks that are cut, for a while and in every way, and slow ones: nobody restarts anything.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use minidlt_actors::{listener::Limits, messages::network::Class};
use minidlt_protocol::message::{PoolContent, Recipient};
use tokio::time::{interval, sleep, timeout};

use crate::{
    cluster::{Heard, Network, PATIENCE, TestNode, count_of, gossip, identity},
    relay::{Link, Relay},
};

/// What must be so within a second, and some more for a busy machine.
const SOON: Duration = Duration::from_secs(2);
const BOTH_WAYS: Link = Link::Cut { there: true, back: true };

/// Two nodes, connected by way of a relay: node 0 dials.
async fn two(limits: Limits) -> (Relay, TestNode, TestNode) {
    let mut network = Network::new(2);
    let relay = Relay::to(network.address(1));
    network.genesis.nodes[1].address = relay.address.to_string();
    let mut one = network.start(1, limits).await;
    let mut zero = network.start(0, limits).await;
    zero.hear_change(1, true).await;
    one.hear_change(0, true).await;
    (relay, zero, one)
}

/// Says something again and again until it is heard.
async fn heard(from: &TestNode, to: &mut TestNode, at: usize, word: &[u8]) {
    let mut again = interval(Duration::from_millis(20));
    let talking = async {
        loop {
            again.tick().await;
            from.stamp(Recipient::One(identity(at)), Class::Transactions, gossip(word)).await;
        }
    };
    let wanted = PoolContent::Gossip(vec![word.to_vec().into()]);
    tokio::select! {
        _ = talking => {}
        _ = to.hear(|heard| matches!(heard, Heard::Pool(_, content) if *content == wanted)) => {}
    }
}

/// Cuts for this long, and heals; how long it takes until both hear each other again.
async fn cut(link: Link, length: Duration) -> Duration {
    let (mut relay, mut zero, mut one) = two(Limits::default()).await;
    relay.set(link).await;
    let since = Instant::now();
    if length > 2 * Limits::default().idle {
        zero.hear_change(1, false).await;
        one.hear_change(0, false).await;
        let noticed = since.elapsed();
        assert!(noticed < Limits::default().idle + SOON, "{link:?}: noticed by both after {noticed:?}");
    }
    sleep(length.saturating_sub(since.elapsed())).await;
    let healed = Instant::now();
    relay.set(Link::Good).await;
    heard(&zero, &mut one, 1, b"healed").await;
    heard(&one, &mut zero, 0, b"healed, too").await;
    let took = healed.elapsed();
    println!(
        "{link:?} for {} ms: both heard each other {} ms after it was healed",
        length.as_millis(),
        took.as_millis()
    );
    assert_eq!((zero.metrics.peers_connected.get(), one.metrics.peers_connected.get()), (1, 1));
    took
}

#[actix_rt::test]
async fn after_a_cut_of_any_kind_both_hear_each_other_again_at_once() {
    let kinds =
        [BOTH_WAYS, Link::Cut { there: true, back: false }, Link::Cut { there: false, back: true }, Link::Refused];
    let took = join_all(kinds.map(|link| cut(link, Duration::from_secs(10)))).await;
    assert!(took.iter().all(|took| *took < SOON), "{took:?}");
}

#[actix_rt::test]
async fn after_a_cut_of_any_length_both_hear_each_other_again_at_once() {
    let lengths = [300, 1_000, 1_700, 2_100, 2_600, 3_300, 4_500].map(Duration::from_millis);
    let took = join_all(lengths.map(|length| cut(BOTH_WAYS, length))).await;
    assert!(took.iter().all(|took| *took < SOON), "{took:?}");
}

/// What was said on it is lost with the network; TCP would say it again after 3 s, and again.
#[actix_rt::test]
async fn a_handshake_that_a_cut_has_silenced_holds_up_none_on_the_healed_network() {
    let mut network = Network::new(2);
    let mut relay = Relay::to(network.address(1));
    network.genesis.nodes[1].address = relay.address.to_string();
    relay.set(Link::Lost).await;
    let mut one = network.start(1, Limits::default()).await;
    let mut zero = network.start(0, Limits::default()).await;
    relay.one_lost().await;
    let healed = Instant::now();
    relay.set(Link::Good).await;
    heard(&zero, &mut one, 1, b"healed").await;
    heard(&one, &mut zero, 0, b"healed, too").await;
    let took = healed.elapsed();
    println!("both heard each other {} ms after it was healed", took.as_millis());
    assert!(took < Duration::from_millis(1_500), "{took:?}");
}

#[actix_rt::test]
async fn a_session_without_a_word_stands_and_lives_through_a_short_cut() {
    let (mut relay, mut zero, mut one) = two(Limits::default()).await;
    let silent = Limits::default().idle + Limits::default().idle / 2;
    let ended = timeout(silent, zero.hear(|heard| matches!(heard, Heard::Changed(..)))).await;
    assert!(ended.is_err(), "both are there, though they say nothing");
    relay.set(BOTH_WAYS).await;
    sleep(Limits::default().idle / 2).await;
    relay.set(Link::Good).await;
    heard(&zero, &mut one, 1, b"still there").await;
    for node in [&zero, &one] {
        assert_eq!(count_of(&node.metrics.sessions_ended, "idle"), 0);
    }
}

/// A record of TLS takes 0.8 s, and one write of 64 KiB takes 3.2 s: longer than all may stand still
/// here.
#[actix_rt::test]
async fn a_large_frame_on_a_slow_link_is_neither_silence_nor_a_stall() {
    const LARGE: usize = 128 << 10;
    let limits = Limits { idle: Duration::from_millis(700), stall: Duration::from_millis(2_500), ..Limits::default() };
    let (mut relay, zero, mut one) = two(limits).await;
    relay.set(Link::Slow).await;
    let (since, large) = (Instant::now(), vec![7; LARGE]);
    zero.stamp(Recipient::One(identity(1)), Class::Transactions, gossip(&large)).await;
    one.hear(|heard| matches!(heard, Heard::Pool(_, PoolContent::Gossip(all)) if all[0].as_slice().len() == LARGE))
        .await;
    let took = since.elapsed();
    println!("a frame of {LARGE} bytes took {} ms", took.as_millis());
    assert!(took > 2 * limits.stall, "the link is slow: {took:?}");
    assert!(took < PATIENCE);
    assert_eq!(count_of(&zero.metrics.sessions_ended, "stalled"), 0);
    assert_eq!(count_of(&one.metrics.sessions_ended, "idle"), 0);
}

//! One node that floods, and what another's votes wait for it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use minidlt_protocol::message::{Content, PoolContent, Recipient};
use tokio::time::sleep;

use crate::{
    cluster::{Heard, Network, identity, key, limits, vote},
    raw::{Raw, stamped},
};

const FLOODER: usize = 0;
const HONEST: usize = 1;
const VICTIM: usize = 2;
/// Votes measured, and the time between them.
const VOTES: usize = 150;
const EVERY: Duration = Duration::from_millis(5);
/// What a vote may wait at most, on a machine that may be busy. It is some 3 ms on one that is not.
const SOON: Duration = Duration::from_millis(250);

/// What a node floods another with.
type Flood = fn(&Network) -> Content;

/// Sends this frame again and again, as fast as it is taken, on a thread of its own.
fn flood(network: &Arc<Network>, content: &Content, stop: &Arc<AtomicBool>) -> thread::JoinHandle<usize> {
    let frame = stamped(network.id(), identity(FLOODER), Recipient::All, content, &key(FLOODER));
    let (network, stop) = (network.clone(), stop.clone());
    thread::spawn(move || {
        actix_rt::System::new().block_on(async move {
            let mut raw = Raw::join(&network, FLOODER, VICTIM).await;
            let mut sent = 0;
            while !stop.load(Ordering::Relaxed) {
                raw.send(&frame).await;
                sent += 1;
            }
            sent
        })
    })
}

/// The median and the 99th percentile of what a vote takes from one node to what another does with it.
async fn votes_take(flood_of: Option<Flood>) -> [Duration; 2] {
    let mut network = Network::new(3);
    let mut victim = network.start(VICTIM, limits()).await;
    let network = Arc::new(network);
    let mut honest = Raw::join(&network, HONEST, VICTIM).await;
    victim.hear_change(HONEST, true).await;
    let stop = Arc::new(AtomicBool::new(false));
    let flooding = flood_of.map(|content| flood(&network, &content(&network), &stop));
    if flooding.is_some() {
        victim.hear_change(FLOODER, true).await;
    }
    let vote = vote(network.id(), HONEST, &key(HONEST));
    let frame = stamped(network.id(), identity(HONEST), Recipient::All, &vote, &key(HONEST));
    let mut took = Vec::new();
    for _ in 0..VOTES {
        sleep(EVERY).await;
        let since = Instant::now();
        honest.send(&frame).await;
        victim.hear(|heard| matches!(heard, Heard::Consensus(peer, _) if *peer == identity(HONEST))).await;
        took.push(since.elapsed());
    }
    stop.store(true, Ordering::Relaxed);
    if let Some(flooding) = flooding {
        // It may be held up by what the victim has not read yet.
        victim.close().await;
        let sent = flooding.join().unwrap();
        println!("{sent} frames were sent meanwhile");
        assert!(sent > 5, "that is no flood");
    }
    took.sort();
    [took[VOTES / 2], took[VOTES * 99 / 100]]
}

#[actix_rt::test]
async fn a_flooding_node_holds_up_nobody_elses_votes() {
    fn text(bytes: usize) -> Content {
        Content::Text("x".repeat(bytes))
    }
    let floods: [(&str, Option<Flood>); 6] = [
        ("nothing", None),
        ("votes", Some(|network| vote(network.id(), FLOODER, &key(FLOODER)))),
        ("texts of 60 KiB", Some(|_| text(60 << 10))),
        ("texts of 500 KiB", Some(|_| text(500 << 10))),
        ("texts of 15 MiB", Some(|_| text(15 << 20))),
        ("gossip of 500 KB", Some(|_| Content::Pool(PoolContent::Gossip(vec![vec![7; 300].into(); 1_600])))),
    ];
    for (name, content) in floods {
        let [median, most] = votes_take(content).await;
        let [median_us, most_us] = [median, most].map(|took| took.as_micros());
        println!("beside a flood of {name}: a vote takes {median_us} us, of a hundred one more than {most_us} us");
        assert!(most < SOON, "{name}: {most:?}");
    }
}

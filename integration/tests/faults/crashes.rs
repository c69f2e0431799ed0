//! Nodes killed at random instants, while they work, catch up or start.

use std::{thread::sleep, time::Duration};

use minidlt_integration::{Cluster, Load, Mode, Plan, Random, checker, figures, until};

use crate::apart::ALL;

/// Longest time between two kills, and that a node stays away, in milliseconds.
const BETWEEN_MILLIS: usize = 1_500;
const AWAY_MILLIS: usize = 1_500;

#[test]
fn by_quorum_kills_at_any_instant_lose_nothing() {
    killed_at_random(Mode::Bft);
}

#[test]
fn by_full_consent_kills_at_any_instant_lose_nothing() {
    killed_at_random(Mode::FullConsent);
}

fn killed_at_random(mode: Mode) {
    let kills = figures::knob("TEST_SIGKILLS", 10);
    let mut random = Random::seeded();
    let mut cluster = Cluster::start(ALL.len(), mode);
    let load = Load::start(&cluster, Plan::default());
    until("the load is being committed", || load.known() > 0);
    let mut killed = 0;
    let mut round = 0;
    while killed < kills {
        round += 1;
        sleep(Duration::from_millis(random.below(BETWEEN_MILLIS) as u64));
        let victims = victims(round, &mut random);
        victims.iter().for_each(|i| cluster.kill_node(*i));
        killed += victims.len() as u64;
        if random.below(2) == 0 {
            sleep(Duration::from_millis(random.below(AWAY_MILLIS) as u64));
        }
        victims.iter().for_each(|i| cluster.start_node(*i));
        // Else it may be killed again while it starts.
        if random.below(3) > 0 {
            victims.iter().for_each(|i| cluster.wait_ready(*i));
        }
    }
    ALL.iter().for_each(|i| cluster.wait_ready(*i));
    let known = load.known();
    until("the load is being committed again", || load.known() > known);
    let verdict = checker::check(&mut cluster, &load.finish());
    figures::count("sigkills", killed);
    assert!(verdict.acknowledged > 0, "{verdict:?}");
}

/// One, sometimes two at a time, sometimes all.
fn victims(round: usize, random: &mut Random) -> Vec<usize> {
    let first = random.below(ALL.len());
    match round % 5 {
        2 => vec![first, (first + 1 + random.below(ALL.len() - 1)) % ALL.len()],
        4 => ALL.to_vec(),
        _ => vec![first],
    }
}

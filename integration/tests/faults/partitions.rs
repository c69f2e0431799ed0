//! Links that are cut, each way or one way, once or again and again; and links that lose, delay,
//! reorder and repeat. Once all is well again, a transaction is committed on every node within two
//! seconds, however long it was not.

use std::{thread::sleep, time::Duration};

use minidlt_integration::{Link, Links, Mode, Plan, Random, figures};

use crate::{
    apart::{self, ALL},
    probe::{BOUND, Run},
};

/// Longer than a silent connection is kept, and than TCP waits before it sends again.
const LONG_SECONDS: u64 = 20;
const SHORT: Duration = Duration::from_secs(1);
const MIDDLE: Duration = Duration::from_secs(5);
/// What was decided before the cut may still be committed.
const SETTLES: Duration = Duration::from_millis(500);

fn long() -> Duration {
    Duration::from_secs(figures::knob("TEST_CUT_SECONDS", LONG_SECONDS))
}

/// How often each is done.
fn times() -> u64 {
    figures::knob("TEST_PARTITIONS", 1)
}

#[test]
fn two_and_two_wait_for_each_other() {
    let Some(mut net) = Net::start(Mode::Bft, "partitions: two and two") else { return };
    for _ in 0..times() {
        for lasts in [SHORT, MIDDLE, long()] {
            net.halt(&|links| links.between(&[0, 1], &[2, 3], Link::CUT), lasts);
            net.heal();
        }
        for _ in 0..5 {
            net.links().between(&[0, 1], &[2, 3], Link::CUT);
            sleep(SHORT);
            net.links().heal();
            sleep(SHORT);
        }
        net.heal();
    }
    net.check();
}

#[test]
fn three_go_on_without_one() {
    let Some(mut net) = Net::start(Mode::Bft, "partitions: three and one") else { return };
    for _ in 0..times() {
        net.go_on(&|links| links.between(&[0, 1, 2], &[3], Link::CUT), long());
        net.heal();
        let leader = net.proposer_of_the_last_block();
        let others = ALL.iter().copied().filter(|i| *i != leader).collect::<Vec<usize>>();
        net.go_on(&|links| links.between(&others, &[leader], Link::CUT), MIDDLE);
        net.heal();
        net.go_on(&|links| links.set(&[0], &[1, 2, 3], Link::CUT), MIDDLE);
        net.heal();
        net.go_on(&|links| links.set(&[0, 1, 3], &[2], Link::CUT), MIDDLE);
        net.heal();
        net.go_on(&|links| links.between(&[0, 1, 2], &[3], Link::REFUSED), MIDDLE);
        net.heal();
    }
    net.check();
}

/// Each pair that cannot talk still shares two nodes with which both can.
#[test]
fn a_ring_and_bad_links_are_borne() {
    let Some(mut net) = Net::start(Mode::Bft, "partitions: bad links") else { return };
    let bad = |link| move |links: &Links| links.between(&ALL, &ALL, link);
    for _ in 0..times() {
        net.go_on(&|links| links.between(&[0], &[1], Link::CUT), MIDDLE);
        net.heal();
        net.go_on(&bad(Link { loss_percent: 10, duplicate_percent: 10, ..Link::OPEN }), 2 * MIDDLE);
        net.heal();
        net.go_on(&bad(Link { loss_percent: 20, ..Link::OPEN }), 2 * MIDDLE);
        net.heal();
        let (delay, jitter) = (Duration::from_millis(150), Duration::from_millis(100));
        net.go_on(&bad(Link { delay, jitter, ..Link::OPEN }), 2 * MIDDLE);
        net.heal();
        net.go_on(&bad(Link { bytes_per_second: Some(64 << 10), ..Link::OPEN }), MIDDLE);
        net.heal();
    }
    net.check();
}

#[test]
fn by_full_consent_all_wait_for_one() {
    let Some(mut net) = Net::start(Mode::FullConsent, "partitions: by full consent") else { return };
    for _ in 0..times() {
        for lasts in [SHORT, long()] {
            net.halt(&|links| links.between(&[0, 1, 2], &[3], Link::CUT), lasts);
            net.heal();
        }
        // Without a pattern: each direction by itself, anew each second.
        let mut random = Random::seeded();
        for _ in 0..5 {
            for (from, to) in ALL.iter().flat_map(|from| ALL.iter().map(move |to| (*from, *to))) {
                net.links().set(&[from], &[to], *random.choose(&[Link::OPEN, Link::CUT, Link::REFUSED]));
            }
            sleep(SHORT);
        }
        net.heal();
    }
    net.check();
}

/// A cluster under load whose links are cut and healed.
struct Net(Run);

impl Net {
    fn start(mode: Mode, what: &str) -> Option<Self> {
        let cluster = apart::start(mode, what)?;
        Some(Self(Run::start(cluster, Plan::default())))
    }

    fn links(&self) -> &Links {
        self.0.cluster.links()
    }

    /// While it is so, some commit what clients submit.
    fn go_on(&self, cut: &dyn Fn(&Links), lasts: Duration) {
        let known = self.0.load.known();
        cut(self.links());
        sleep(lasts);
        assert!(self.0.load.known() > known, "a quorum goes on");
    }

    /// While it is so, nobody commits anything.
    fn halt(&self, cut: &dyn Fn(&Links), lasts: Duration) {
        cut(self.links());
        sleep(SETTLES.min(lasts / 2));
        let heights = || ALL.map(|i| self.0.cluster.height(i));
        let before = heights();
        sleep(lasts.saturating_sub(SETTLES));
        assert_eq!(heights(), before, "without a quorum nothing is committed");
    }

    /// All is well again.
    fn heal(&mut self) {
        let probe = self.0.prepare();
        self.links().heal();
        figures::count("partitions", 1);
        self.0.measure(probe, "healed");
    }

    fn proposer_of_the_last_block(&self) -> usize {
        let name = self.0.cluster.get(0, "/v1/blocks/latest")["proposer"]["name"].clone();
        let number = name.as_str().and_then(|name| name.strip_prefix("node")).and_then(|number| number.parse().ok());
        number.unwrap_or_else(|| panic!("nodes are numbered: {name}"))
    }

    fn check(self) {
        let done = self.links().done();
        for (name, packets) in [
            ("packets_cut", done.cut),
            ("packets_refused", done.refused),
            ("packets_lost", done.lost),
            ("packets_repeated", done.duplicated),
            ("packets_delayed", done.delayed),
        ] {
            figures::count(name, packets);
        }
        self.0.check(BOUND);
    }
}

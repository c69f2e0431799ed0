//! Links that are cut, each way or one way, once or again and again; and links that lose, delay,
//! reorder and repeat. Once all is well again, a transaction is committed on every node within two
//! seconds, however long it was not.

use std::{thread::sleep, time::Duration};

use minidlt_integration::{Cluster, Link, Links, Load, Memory, Mode, Plan, Random, checker, figures};

use crate::{
    apart::{self, ALL},
    probe::{BOUND, Probe},
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
    let Some(mut run) = Run::start(Mode::Bft, "partitions: two and two") else { return };
    for _ in 0..times() {
        for lasts in [SHORT, MIDDLE, long()] {
            run.halt(&|links| links.between(&[0, 1], &[2, 3], Link::CUT), lasts);
            run.heal();
        }
        for _ in 0..5 {
            run.links().between(&[0, 1], &[2, 3], Link::CUT);
            sleep(SHORT);
            run.links().heal();
            sleep(SHORT);
        }
        run.heal();
    }
    run.check();
}

#[test]
fn three_go_on_without_one() {
    let Some(mut run) = Run::start(Mode::Bft, "partitions: three and one") else { return };
    for _ in 0..times() {
        run.go_on(&|links| links.between(&[0, 1, 2], &[3], Link::CUT), long());
        run.heal();
        let leader = run.proposer_of_the_last_block();
        let others = ALL.iter().copied().filter(|i| *i != leader).collect::<Vec<usize>>();
        run.go_on(&|links| links.between(&others, &[leader], Link::CUT), MIDDLE);
        run.heal();
        run.go_on(&|links| links.set(&[0], &[1, 2, 3], Link::CUT), MIDDLE);
        run.heal();
        run.go_on(&|links| links.set(&[0, 1, 3], &[2], Link::CUT), MIDDLE);
        run.heal();
        run.go_on(&|links| links.between(&[0, 1, 2], &[3], Link::REFUSED), MIDDLE);
        run.heal();
    }
    run.check();
}

/// Each pair that cannot talk still shares two nodes with which both can.
#[test]
fn a_ring_and_bad_links_are_borne() {
    let Some(mut run) = Run::start(Mode::Bft, "partitions: bad links") else { return };
    let bad = |link| move |links: &Links| links.between(&ALL, &ALL, link);
    for _ in 0..times() {
        run.go_on(&|links| links.between(&[0], &[1], Link::CUT), MIDDLE);
        run.heal();
        run.go_on(&bad(Link { loss_percent: 10, duplicate_percent: 10, ..Link::OPEN }), 2 * MIDDLE);
        run.heal();
        run.go_on(&bad(Link { loss_percent: 20, ..Link::OPEN }), 2 * MIDDLE);
        run.heal();
        let (delay, jitter) = (Duration::from_millis(150), Duration::from_millis(100));
        run.go_on(&bad(Link { delay, jitter, ..Link::OPEN }), 2 * MIDDLE);
        run.heal();
        run.go_on(&bad(Link { bytes_per_second: Some(64 << 10), ..Link::OPEN }), MIDDLE);
        run.heal();
    }
    run.check();
}

#[test]
fn by_full_consent_all_wait_for_one() {
    let Some(mut run) = Run::start(Mode::FullConsent, "partitions: by full consent") else { return };
    for _ in 0..times() {
        for lasts in [SHORT, long()] {
            run.halt(&|links| links.between(&[0, 1, 2], &[3], Link::CUT), lasts);
            run.heal();
        }
        // Without a pattern: each direction by itself, anew each second.
        let mut random = Random::seeded();
        for _ in 0..5 {
            for (from, to) in ALL.iter().flat_map(|from| ALL.iter().map(move |to| (*from, *to))) {
                run.links().set(&[from], &[to], *random.choose(&[Link::OPEN, Link::CUT, Link::REFUSED]));
            }
            sleep(SHORT);
        }
        run.heal();
    }
    run.check();
}

struct Run {
    cluster: Cluster,
    load: Load,
    memory: Memory,
    healed: Vec<Duration>,
}

impl Run {
    fn start(mode: Mode, what: &str) -> Option<Self> {
        let cluster = apart::start(mode, what)?;
        let load = Load::start(&cluster, Plan::default());
        Some(Self { cluster, load, memory: Memory::default(), healed: Vec::new() })
    }

    fn links(&self) -> &Links {
        self.cluster.links()
    }

    /// While it is so, some commit what clients submit.
    fn go_on(&mut self, cut: &dyn Fn(&Links), lasts: Duration) {
        let known = self.load.known();
        cut(self.links());
        sleep(lasts);
        assert!(self.load.known() > known, "a quorum goes on");
    }

    /// While it is so, nobody commits anything.
    fn halt(&mut self, cut: &dyn Fn(&Links), lasts: Duration) {
        cut(self.links());
        sleep(SETTLES.min(lasts / 2));
        let heights = |run: &Self| ALL.map(|i| run.cluster.height(i));
        let before = heights(self);
        sleep(lasts.saturating_sub(SETTLES));
        assert_eq!(heights(self), before, "without a quorum nothing is committed");
    }

    /// All is well again: how long until a transaction of this moment is committed on each node?
    fn heal(&mut self) {
        let probe = Probe::prepare(&self.cluster, &ALL);
        self.links().heal();
        let (times, memory) = probe.run();
        self.memory.add(memory);
        figures::count("partitions", 1);
        times.iter().for_each(|time| figures::time("healed", *time));
        self.healed.extend(times);
    }

    fn proposer_of_the_last_block(&self) -> usize {
        let name = self.cluster.get(0, "/v1/blocks/latest")["proposer"]["name"].clone();
        let number = name.as_str().and_then(|name| name.strip_prefix("node")).and_then(|number| number.parse().ok());
        number.unwrap_or_else(|| panic!("nodes are numbered: {name}"))
    }

    fn check(mut self) {
        let done = self.cluster.links().done();
        println!("{done:?}");
        for (name, packets) in [
            ("packets_cut", done.cut),
            ("packets_refused", done.refused),
            ("packets_lost", done.lost),
            ("packets_repeated", done.duplicated),
            ("packets_delayed", done.delayed),
        ] {
            figures::count(name, packets);
        }
        self.memory.add(self.load.finish());
        checker::check(&mut self.cluster, &self.memory);
        let longest = self.healed.iter().max().expect("it was healed");
        assert!(*longest <= BOUND, "commits on every node within {BOUND:?} of healing: {:?}", self.healed);
    }
}

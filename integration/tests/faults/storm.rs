//! Everything at once and without a pattern: nodes are killed, paused, cut off and given bad links while
//! others are, so that there is a quorum now and again.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use minidlt_integration::{Link, Mode, Plan, Random, figures};

use crate::{
    apart::{self, ALL},
    probe::{BOUND, Run},
};

const SECONDS: u64 = 20;
/// Longest time between two events, in milliseconds.
const BETWEEN_MILLIS: usize = 800;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Up,
    Paused,
    Down,
}

#[test]
fn whatever_happens_nothing_is_lost() {
    let Some(cluster) = apart::start(Mode::Bft, "a storm") else { return };
    let mut storm =
        Storm { run: Run::start(cluster, Plan::default()), states: [State::Up; 4], random: Random::seeded() };
    let (since, lasts) = (Instant::now(), Duration::from_secs(figures::knob("TEST_STORM_SECONDS", SECONDS)));
    while since.elapsed() < lasts {
        storm.event();
        let pause = storm.random.below(BETWEEN_MILLIS) as u64;
        sleep(Duration::from_millis(pause));
    }
    storm.calm();
    storm.run.check(BOUND);
}

struct Storm {
    run: Run,
    states: [State; 4],
    random: Random,
}

impl Storm {
    /// Something happens to a node, or it comes back.
    fn event(&mut self) {
        let node = self.random.below(ALL.len());
        if self.states[node] != State::Up {
            return self.come_back(node);
        }
        match self.random.below(6) {
            0 => {
                self.run.cluster.kill_node(node);
                figures::count("sigkills", 1);
                self.states[node] = State::Down;
            }
            1 => {
                self.run.cluster.pause_node(node);
                figures::count("pauses", 1);
                self.states[node] = State::Paused;
            }
            2 => self.links(node, Link::CUT),
            3 => self.links(node, Link::REFUSED),
            4 => {
                let delay = Duration::from_millis(self.random.below(100) as u64);
                let loss_percent = self.random.below(20) as u8;
                self.links(node, Link { delay, jitter: delay, loss_percent, ..Link::OPEN });
            }
            _ => self.links(node, Link::OPEN),
        }
    }

    fn come_back(&mut self, node: usize) {
        match self.states[node] {
            State::Up => {}
            State::Paused => self.run.cluster.resume_node(node),
            State::Down => self.run.cluster.start_node(node),
        }
        self.states[node] = State::Up;
    }

    /// Those to some of the others, each way by itself.
    fn links(&mut self, node: usize, link: Link) {
        for other in ALL.iter().filter(|other| **other != node) {
            for (from, to) in [(node, *other), (*other, node)] {
                if self.random.below(3) > 0 {
                    self.run.cluster.links().set(&[from], &[to], link);
                }
            }
        }
    }

    /// All run again, and then can talk again.
    fn calm(&mut self) {
        for node in ALL {
            self.come_back(node);
            self.run.cluster.wait_answers(node);
        }
        let probe = self.run.prepare();
        self.run.cluster.links().heal();
        figures::count("partitions", 1);
        self.run.measure(probe, "healed");
    }
}

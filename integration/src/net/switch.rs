//! One thread that takes packets from each place and gives them to where they go, or does to them what
//! their [`Link`](super::Link) says. What is random comes from a seed.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    net::Ipv4Addr,
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tun_rs::SyncDevice;

use super::{
    links::{Link, Links, Passage},
    packet,
};
use crate::random::Random;

/// Packets taken from one place before the next has its turn.
const BURST: usize = 64;
/// What one direction may hold of packets that are still to come.
const HELD_BYTES: usize = 8 << 20;
/// How long the thread may sleep: within it, it notices that it is to end.
const LOOK_UP: Duration = Duration::from_millis(20);
/// More than any packet of a device with the ordinary 1,500 bytes.
const MAX_PACKET_BYTES: usize = 2_048;

/// The running switch; it ends when this is dropped.
pub struct Switch {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Switch {
    /// Begins to forward between these devices, each with its address.
    pub fn start(devices: Vec<(Ipv4Addr, SyncDevice)>, links: Links, random: Random) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let places = devices.len() * devices.len();
        let mut forwarding = Forwarding {
            devices,
            links,
            random,
            held: BinaryHeap::new(),
            held_bytes: vec![0; places],
            free_at: vec![Instant::now(); places],
            taken: 0,
        };
        let until = stop.clone();
        let thread = thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                forwarding.step();
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        // A second panic while the first unwinds would abort, and hide it.
        if matches!(ended, Some(Err(_))) && !thread::panicking() {
            panic!("the switch failed: see above");
        }
    }
}

/// A packet that is still to come: when, in which order, between whom.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Held {
    due: Instant,
    order: u64,
    from: usize,
    to: usize,
    packet: Vec<u8>,
}

struct Forwarding {
    devices: Vec<(Ipv4Addr, SyncDevice)>,
    links: Links,
    random: Random,
    /// The next to come first.
    held: BinaryHeap<Reverse<Held>>,
    /// By direction.
    held_bytes: Vec<usize>,
    /// When a direction of limited rate has sent what it was given.
    free_at: Vec<Instant>,
    taken: u64,
}

impl Forwarding {
    fn step(&mut self) {
        self.sleep();
        self.give_due();
        let mut buffer = [0; MAX_PACKET_BYTES];
        for from in 0..self.devices.len() {
            for _ in 0..BURST {
                // Nothing there, or a device that is gone with its namespace.
                let Ok(size) = self.devices[from].1.recv(&mut buffer) else { break };
                self.take(from, &buffer[..size]);
            }
        }
    }

    /// Until a packet comes, or a held one is due.
    fn sleep(&self) {
        let now = Instant::now();
        let due = self.held.peek().map(|Reverse(next)| next.due.saturating_duration_since(now));
        let most = due.map_or(LOOK_UP, |due| due.min(LOOK_UP));
        let mut ready: Vec<PollFd> =
            self.devices.iter().map(|(_, device)| PollFd::new(device.as_fd(), PollFlags::POLLIN)).collect();
        let millis = most.as_micros().div_ceil(1_000) as u16;
        // A signal ends it early, which is harmless.
        let _interrupted = poll(&mut ready, PollTimeout::from(millis));
    }

    fn give_due(&mut self) {
        let now = Instant::now();
        while self.held.peek().is_some_and(|Reverse(next)| next.due <= now) {
            let Some(Reverse(held)) = self.held.pop() else { break };
            let direction = self.direction(held.from, held.to);
            self.held_bytes[direction] -= held.packet.len();
            // What is on its way when a cable is cut does not arrive.
            let passage = self.links.table().link(held.from, held.to).passage;
            match passage {
                Passage::Open => self.give(held.to, &held.packet),
                Passage::Cut | Passage::Refused => self.links.table().done.cut += 1,
            }
        }
    }

    fn take(&mut self, from: usize, packet: &[u8]) {
        let Some(address) = packet::destination(packet) else { return };
        let Some(to) = self.devices.iter().position(|(at, _)| *at == address) else { return };
        let link = self.links.table().link(from, to);
        match link.passage {
            Passage::Open => self.forward(from, to, link, packet),
            Passage::Cut => self.links.table().done.cut += 1,
            Passage::Refused => {
                self.links.table().done.refused += 1;
                if let Some(reset) = packet::reset(packet) {
                    self.give(from, &reset);
                }
            }
        }
    }

    fn forward(&mut self, from: usize, to: usize, link: Link, packet: &[u8]) {
        if self.happens(link.loss_percent) {
            self.links.table().done.lost += 1;
            return;
        }
        self.pass(from, to, link, packet);
        if self.happens(link.duplicate_percent) {
            self.links.table().done.duplicated += 1;
            self.pass(from, to, link, packet);
        }
    }

    fn pass(&mut self, from: usize, to: usize, link: Link, packet: &[u8]) {
        let (now, direction) = (Instant::now(), self.direction(from, to));
        let mut due = now + link.delay;
        if let Some(rate) = link.bytes_per_second {
            let sent = self.free_at[direction].max(now) + Duration::from_secs_f64(packet.len() as f64 / rate as f64);
            self.free_at[direction] = sent;
            due = sent + link.delay;
        }
        if !link.jitter.is_zero() {
            due += Duration::from_micros(self.random.below(link.jitter.as_micros() as usize + 1) as u64);
        }
        if due <= now {
            return self.give(to, packet);
        }
        if self.held_bytes[direction] + packet.len() > HELD_BYTES {
            self.links.table().done.overflowed += 1;
            return;
        }
        self.links.table().done.delayed += 1;
        self.held_bytes[direction] += packet.len();
        self.taken += 1;
        self.held.push(Reverse(Held { due, order: self.taken, from, to, packet: packet.to_owned() }));
    }

    fn give(&self, to: usize, packet: &[u8]) {
        let given = self.devices[to].1.send(packet);
        let done = &mut self.links.table().done;
        match given {
            Ok(_) => done.passed += 1,
            // Its queue is full, or it is gone.
            Err(_) => done.overflowed += 1,
        }
    }

    fn happens(&mut self, percent: u8) -> bool {
        percent > 0 && self.random.below(100) < usize::from(percent)
    }

    fn direction(&self, from: usize, to: usize) -> usize {
        from * self.devices.len() + to
    }
}

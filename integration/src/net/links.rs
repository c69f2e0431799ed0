//! What becomes of packets on their way: a [`Link`] for each ordered pair of places, changed by the
//! test while the switch runs.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

/// Whether packets pass at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Passage {
    #[default]
    Open,
    /// Dropped without a word, as by a cable that is cut.
    Cut,
    /// Each TCP segment is answered with a reset, as by a firewall that says no.
    Refused,
}

/// One direction between two places. The default passes everything at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Link {
    pub passage: Passage,
    pub delay: Duration,
    /// A packet takes up to so much more, evenly distributed, so that packets overtake each other.
    pub jitter: Duration,
    pub loss_percent: u8,
    pub duplicate_percent: u8,
    pub bytes_per_second: Option<u64>,
}

impl Link {
    pub const CUT: Self = Self { passage: Passage::Cut, ..Self::OPEN };
    pub const REFUSED: Self = Self { passage: Passage::Refused, ..Self::OPEN };
    pub const OPEN: Self = Self {
        passage: Passage::Open,
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
        loss_percent: 0,
        duplicate_percent: 0,
        bytes_per_second: None,
    };
}

/// Packets to which each thing was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Done {
    pub passed: u64,
    pub cut: u64,
    pub refused: u64,
    pub lost: u64,
    pub duplicated: u64,
    pub delayed: u64,
    /// Dropped because a delayed or slow link held as much as it may.
    pub overflowed: u64,
}

#[derive(Debug)]
pub(super) struct Table {
    places: usize,
    links: Vec<Link>,
    pub done: Done,
}

impl Table {
    pub fn link(&self, from: usize, to: usize) -> Link {
        self.links[from * self.places + to]
    }
}

/// All links of a network: shared by the test, which sets them, and the switch, which obeys.
#[derive(Debug, Clone)]
pub struct Links(Arc<Mutex<Table>>);

impl Links {
    pub(super) fn new(places: usize) -> Self {
        Self(Arc::new(Mutex::new(Table { places, links: vec![Link::OPEN; places * places], done: Done::default() })))
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().expect("nobody fails while holding the links")
    }

    /// Sets one direction between each of `from` and each of `to`.
    pub fn set(&self, from: &[usize], to: &[usize], link: Link) {
        let mut table = self.table();
        let places = table.places;
        for (from, to) in from.iter().flat_map(|from| to.iter().map(move |to| (*from, *to))) {
            table.links[from * places + to] = link;
        }
    }

    /// Sets both directions between each of `these` and each of `those`.
    pub fn between(&self, these: &[usize], those: &[usize], link: Link) {
        self.set(these, those, link);
        self.set(those, these, link);
    }

    /// Everything passes again.
    pub fn heal(&self) {
        self.table().links.fill(Link::OPEN);
    }

    /// What was done to packets so far.
    pub fn done(&self) -> Done {
        self.table().done
    }
}

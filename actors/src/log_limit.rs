//! A bound on what others can make this node write into its log.

use std::{
    fmt,
    time::{Duration, Instant},
};

/// One line a second.
const INTERVAL: Duration = Duration::from_secs(1);

/// Lets lines through, at most one an interval, and remembers how many it held back.
#[derive(Debug, Default)]
pub struct LogLimit {
    last: Option<Instant>,
    held_back: u64,
}

/// How many lines were held back before this one; shown only if any were.
#[derive(Debug, PartialEq, Eq)]
pub struct HeldBack(u64);

impl LogLimit {
    /// Whether a line may be written now.
    pub fn allow(&mut self) -> Option<HeldBack> {
        let now = Instant::now();
        if self.last.is_some_and(|last| now.duration_since(last) < INTERVAL) {
            self.held_back += 1;
            return None;
        }
        self.last = Some(now);
        Some(HeldBack(std::mem::take(&mut self.held_back)))
    }
}

impl fmt::Display for HeldBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            more => write!(f, " (and {more} like it before)"),
        }
    }
}

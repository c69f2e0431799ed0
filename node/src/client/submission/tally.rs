//! What became of what was handed in, counted in records.

use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    pub signed: u64,
    /// Taken by a node, whatever came after.
    pub accepted: u64,
    /// Taken, and not waited for.
    pub pending: u64,
    pub committed: u64,
    pub rejected: u64,
    pub dumped: u64,
    /// Sent, but nobody could be asked, or nobody knew: a node may have it and commit it later.
    pub undecided: u64,
    /// Signed, and known to be at no node.
    pub unsent: u64,
}

impl Tally {
    /// Those that a node may have: each is committed, rejected, dumped, pending or undecided.
    pub fn sent(&self) -> u64 {
        self.signed.saturating_sub(self.unsent)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} committed, {} rejected, {} dumped", self.committed, self.rejected, self.dumped)?;
        if self.pending > 0 {
            write!(f, ", {} pending (not waited for)", self.pending)?;
        }
        if self.undecided > 0 {
            write!(f, ", {} undecided (they may yet be committed)", self.undecided)?;
        }
        if self.unsent > 0 {
            write!(f, ", {} not sent", self.unsent)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_not_told_but_for_the_three_that_always_are() {
        let mut tally = Tally { signed: 6, accepted: 4, committed: 3, ..Tally::default() };
        assert_eq!(tally.to_string(), "3 committed, 0 rejected, 0 dumped");
        (tally.undecided, tally.unsent) = (1, 2);
        let expected = "3 committed, 0 rejected, 0 dumped, 1 undecided (they may yet be committed), 2 not sent";
        assert_eq!(tally.to_string(), expected);
    }
}

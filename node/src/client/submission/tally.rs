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
    /// Nobody could be asked, or nobody knew.
    pub undecided: u64,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} committed, {} rejected, {} dumped", self.committed, self.rejected, self.dumped)?;
        if self.pending > 0 {
            write!(f, ", {} pending (not waited for)", self.pending)?;
        }
        if self.undecided > 0 {
            write!(f, ", {} undecided", self.undecided)?;
        }
        Ok(())
    }
}

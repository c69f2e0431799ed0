//! How far a bench has come: what is told where it is interrupted.

use std::{cell::RefCell, fmt, rc::Rc};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stage {
    #[default]
    Starting,
    Signing,
    Loading,
}

/// Transactions up to now, from the beginning of the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reached {
    pub stage: Stage,
    pub submitted: usize,
    pub committed: usize,
    pub refused: usize,
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stage, submitted, committed, refused } = *self;
        match stage {
            Stage::Starting => f.write_str("starting: nothing was submitted"),
            Stage::Signing => f.write_str("signing beforehand: nothing was submitted"),
            Stage::Loading => {
                let unknown = submitted.saturating_sub(committed + refused);
                write!(f, "loading: {submitted} transactions submitted, {committed} committed, {refused} refused")?;
                write!(f, ", {unknown} unknown")
            }
        }
    }
}

/// [`Reached`], as the bench writes it and whoever ends the bench reads it.
#[derive(Debug, Clone, Default)]
pub struct Tracker(Rc<RefCell<Reached>>);

impl Tracker {
    pub fn enter(&self, stage: Stage) {
        self.0.borrow_mut().stage = stage;
    }

    pub fn submitted(&self, count: usize) {
        self.0.borrow_mut().submitted += count;
    }

    pub fn committed(&self) {
        self.0.borrow_mut().committed += 1;
    }

    pub fn refused(&self) {
        self.0.borrow_mut().refused += 1;
    }

    pub fn reached(&self) -> Reached {
        *self.0.borrow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_told_as_far_as_it_is_known() {
        let tracker = Tracker::default();
        assert_eq!(tracker.reached().to_string(), "starting: nothing was submitted");
        tracker.enter(Stage::Loading);
        tracker.submitted(5);
        tracker.committed();
        tracker.committed();
        tracker.refused();
        let said = tracker.reached().to_string();
        assert_eq!(said, "loading: 5 transactions submitted, 2 committed, 1 refused, 2 unknown");
    }
}

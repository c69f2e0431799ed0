//! What waits to be sent to one peer: a bounded queue a class, the most urgent first.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use minidlt_protocol::limits::MAX_FRAME_BYTES;
use tokio::sync::Notify;

use crate::messages::network::Class;

/// How much of one class may wait for one peer.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    pub frames: usize,
    pub bytes: usize,
}

/// The bounds of all classes, in their order: votes, proposals, transactions, sync.
pub type Bounds = [Bound; Class::ALL.len()];

/// Votes are small and many rounds of them fit. The others hold two of the largest frames, so that
/// one may wait while another is on its way.
pub const BOUNDS: Bounds = [
    Bound { frames: 4_096, bytes: 4 << 20 },
    Bound { frames: 64, bytes: 2 * MAX_FRAME_BYTES },
    Bound { frames: 4_096, bytes: 2 * MAX_FRAME_BYTES },
    Bound { frames: 256, bytes: 2 * MAX_FRAME_BYTES },
];

#[derive(Default)]
struct Line {
    frames: VecDeque<Bytes>,
    bytes: usize,
}

/// Shared by the Listener, which pushes, and the session's writer. Both are on one thread, but the
/// Listener is made on another and must be able to move: hence a lock, which nobody ever waits for.
pub struct Queue {
    lines: Mutex<[Line; Class::ALL.len()]>,
    bounds: Bounds,
    filled: Notify,
}

impl Queue {
    pub fn new(bounds: Bounds) -> Self {
        Self { lines: Mutex::default(), bounds, filled: Notify::new() }
    }

    /// `false` where it does not fit and was dropped.
    pub fn push(&self, class: Class, frame: Bytes) -> bool {
        let bound = self.bounds[class as usize];
        let mut lines = self.lines();
        let line = &mut lines[class as usize];
        if line.frames.len() >= bound.frames || line.bytes + frame.len() > bound.bytes {
            return false;
        }
        line.bytes += frame.len();
        line.frames.push_back(frame);
        self.filled.notify_one();
        true
    }

    /// The most urgent, if any waits.
    pub fn try_pop(&self) -> Option<Bytes> {
        let mut lines = self.lines();
        let line = lines.iter_mut().find(|line| !line.frames.is_empty())?;
        let frame = line.frames.pop_front()?;
        line.bytes -= frame.len();
        Some(frame)
    }

    fn lines(&self) -> MutexGuard<'_, [Line; Class::ALL.len()]> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there may be something. One waiter only.
    pub async fn filled(&self) {
        self.filled.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_urgent_goes_first_and_in_order() {
        let queue = Queue::new(BOUNDS);
        for (class, name) in [
            (Class::Sync, "s"),
            (Class::Transactions, "t1"),
            (Class::Vote, "v1"),
            (Class::Proposal, "p"),
            (Class::Transactions, "t2"),
            (Class::Vote, "v2"),
        ] {
            assert!(queue.push(class, Bytes::from_static(name.as_bytes())));
        }
        let order: Vec<_> = std::iter::from_fn(|| queue.try_pop()).collect();
        assert_eq!(order, ["v1", "v2", "p", "t1", "t2", "s"]);
    }

    #[test]
    fn a_class_is_bounded_in_frames_and_bytes_and_takes_again_once_there_is_room() {
        let queue = Queue::new([Bound { frames: 2, bytes: 10 }; 4]);
        let push = |class, size| queue.push(class, Bytes::from(vec![0; size]));
        assert!(push(Class::Vote, 1) && push(Class::Vote, 1) && !push(Class::Vote, 1));
        assert!(push(Class::Sync, 6) && !push(Class::Sync, 5) && push(Class::Sync, 4));
        assert!(queue.try_pop().is_some());
        assert!(push(Class::Vote, 10 - 1) && !push(Class::Vote, 1));
    }
}

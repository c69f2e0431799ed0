//! Turns to send old or large blocks, or to make a page of them. Each holds a text of its own in memory,
//! a frame until its reader has taken it, so they are few, and one caller has no more than its share of
//! them, however slowly it reads.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use minidlt_protocol::types::Identity;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::shares::share_of;

pub struct Turns {
    whole: Semaphore,
    share: usize,
    /// Of those who have streams.
    callers: Mutex<BTreeMap<Identity, Weak<Semaphore>>>,
}

impl Turns {
    pub fn new(whole: usize) -> Self {
        Self { whole: Semaphore::new(whole), share: share_of(whole), callers: Mutex::default() }
    }

    /// A caller's own turns, for all its streams together.
    pub fn of(&self, caller: &Identity) -> Arc<Semaphore> {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        callers.retain(|_, turns| turns.strong_count() > 0);
        if let Some(turns) = callers.get(caller).and_then(Weak::upgrade) {
            return turns;
        }
        let turns = Arc::new(Semaphore::new(self.share));
        callers.insert(caller.clone(), Arc::downgrade(&turns));
        turns
    }

    /// Waits for a turn among the caller's own, then among all. Neither is ever closed.
    pub async fn turn<'a>(&'a self, own: &'a Semaphore) -> Option<[SemaphorePermit<'a>; 2]> {
        Some([own.acquire().await.ok()?, self.whole.acquire().await.ok()?])
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[actix_rt::test]
    async fn one_caller_leaves_turns_for_others_and_is_forgotten_when_gone() {
        let all = Turns::new(8);
        let (a, b) = ("a@Org01".parse().unwrap(), "b@Org01".parse().unwrap());
        let (first, again, other) = (all.of(&a), all.of(&a), all.of(&b));
        let held = [all.turn(&first).await, all.turn(&again).await];
        assert!(all.turn(&again).now_or_never().is_none(), "a quarter of eight");
        assert!(all.turn(&other).now_or_never().is_some());
        drop(held);
        assert!(all.turn(&first).now_or_never().is_some());
        drop((first, again, other));
        all.of(&b);
        assert_eq!(all.callers.lock().unwrap().len(), 1);
    }
}

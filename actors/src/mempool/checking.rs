//! Transactions on their way through the Verifiers: fairly, in jobs, a few of which are there at a time.
//!
//! The Verifiers' own queue is first come, first served, and has no bound. So what waits, waits here: in a
//! line for each user who submits and each node that gossips, served in turns. A flood waits behind
//! itself.

use std::{collections::BTreeMap, thread::available_parallelism};

use minidlt_protocol::{
    block::SharedTransaction,
    transaction::{Refusal, TransactionBytes},
    types::Identity,
};
use tokio::sync::oneshot;

use crate::{
    fair::Fair,
    messages::verifier::VerifyTransactions,
    shares::{Bound, Full, Place},
};

/// Transactions checked in one job, so that nobody's job waits long behind one.
pub const JOB_TRANSACTIONS: usize = 32;
/// Jobs at the Verifiers at a time, for each of their threads: none waits for this one to hand it more.
const JOBS_A_THREAD: usize = 4;
/// Checking a signature takes about as long as reading so many bytes.
const SIGNATURE_BYTES: usize = 16 << 10;
/// Most transactions of users being checked at a time, a quarter of one user; beyond it they are told to
/// come back. A request that has more than a share takes a whole one, and nothing else of that user.
const MAX_CHECKING: usize = 32_768;
/// With so many of a node being checked, its session waits until its batch has been.
const PEER_WAITS_ABOVE: usize = 1_024;

/// Whose line a transaction waits in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whose {
    /// The caller's at the API.
    User(Identity),
    Peer(Identity),
}

/// Of each transaction, in the order given.
pub type Checked = Vec<Result<SharedTransaction, Refusal>>;

pub struct Job {
    pub request: VerifyTransactions,
    /// Whoever waits for it.
    pub answer: oneshot::Sender<Checked>,
}

pub struct Checking {
    waiting: Fair<Whose, Job>,
    under_way: usize,
    at_once: usize,
    /// Being checked, lined up or under way.
    transactions: usize,
    users: Bound<Identity>,
    peers: BTreeMap<Identity, usize>,
}

impl Checking {
    pub fn new() -> Self {
        Self {
            waiting: Fair::default(),
            under_way: 0,
            at_once: JOBS_A_THREAD * available_parallelism().map_or(1, usize::from),
            transactions: 0,
            users: Bound::new(MAX_CHECKING),
            peers: BTreeMap::new(),
        }
    }

    /// Nothing is being checked.
    pub fn is_idle(&self) -> bool {
        self.transactions == 0
    }

    /// Room for so many transactions of a user, until it is dropped.
    pub fn room_for(&self, caller: &Identity, transactions: usize) -> Result<Place<Identity>, Refusal> {
        let place = self.users.take(caller, transactions.min(self.users.shares.share()));
        place.map_err(|full| match full {
            Full::Whole => Refusal::MempoolFull("too many transactions are being checked"),
            Full::Share => Refusal::UserShareFull(caller.clone()),
        })
    }

    /// Whether so much of a node's is being checked that it must wait.
    pub fn must_wait(&self, peer: &Identity) -> bool {
        self.peers.get(peer).is_some_and(|transactions| *transactions > PEER_WAITS_ABOVE)
    }

    pub fn begun(&mut self, whose: &Whose, transactions: usize) {
        self.transactions += transactions;
        if let Whose::Peer(peer) = whose {
            *self.peers.entry(peer.clone()).or_default() += transactions;
        }
    }

    pub fn ended(&mut self, whose: &Whose, transactions: usize) {
        self.transactions -= transactions;
        if let Whose::Peer(peer) = whose
            && let Some(left) = self.peers.get_mut(peer)
        {
            *left -= transactions;
            if *left == 0 {
                self.peers.remove(peer);
            }
        }
    }

    /// Lines them up, in jobs; the answers come in the same order.
    pub fn line_up(
        &mut self,
        whose: &Whose,
        transactions: &[TransactionBytes],
        gateway: Option<&Identity>,
    ) -> Vec<oneshot::Receiver<Checked>> {
        let jobs = transactions.chunks(JOB_TRANSACTIONS).map(|job| {
            let bytes: usize = job.iter().map(|transaction| transaction.as_slice().len()).sum();
            let request = VerifyTransactions { transactions: job.to_vec(), gateway: gateway.cloned(), at: None };
            let (answer, answered) = oneshot::channel();
            self.waiting.push(whose, bytes + job.len() * SIGNATURE_BYTES, Job { request, answer });
            answered
        });
        jobs.collect()
    }

    /// The next job for the Verifiers, while there is room with them: told of with [`Self::done`].
    pub fn next(&mut self) -> Option<Job> {
        let job = (self.under_way < self.at_once).then(|| self.waiting.pop()).flatten()?;
        self.under_way += 1;
        Some(job)
    }

    pub fn done(&mut self) {
        self.under_way -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(n: usize) -> Identity {
        format!("user{n}@Org0").parse().unwrap()
    }

    fn transactions(count: usize) -> Vec<TransactionBytes> {
        (0..count).map(|n| n.to_be_bytes().to_vec().into()).collect()
    }

    #[test]
    fn a_few_jobs_are_under_way_and_a_flood_waits_behind_itself() {
        let mut checking = Checking { at_once: 2, ..Checking::new() };
        let (flood, other) = (Whose::User(identity(0)), Whose::Peer(identity(1)));
        let answers = checking.line_up(&flood, &transactions(320), None);
        assert_eq!(answers.len(), 10);
        assert!(checking.next().is_some() && checking.next().is_some() && checking.next().is_none());
        checking.line_up(&other, &transactions(3), None);
        checking.done();
        let next = checking.next().unwrap();
        assert_eq!(next.request.transactions.len(), 3, "it is the other's turn");
        assert!(checking.next().is_none());
    }

    #[test]
    fn one_user_has_a_quarter_and_one_node_does_not_make_another_wait() {
        let mut checking = Checking::new();
        let share = MAX_CHECKING / 4;
        let large = checking.room_for(&identity(0), share + 1).unwrap();
        assert!(matches!(checking.room_for(&identity(0), 1), Err(Refusal::UserShareFull(_))));
        let _others = [1, 2, 3].map(|n| checking.room_for(&identity(n), share).unwrap());
        assert!(matches!(checking.room_for(&identity(4), 1), Err(Refusal::MempoolFull(_))));
        drop(large);
        assert!(checking.room_for(&identity(4), 1).is_ok());
        let peers = [5, 6].map(|n| Whose::Peer(identity(n)));
        checking.begun(&peers[0], PEER_WAITS_ABOVE + 1);
        checking.begun(&peers[1], 1);
        assert!(checking.must_wait(&identity(5)) && !checking.must_wait(&identity(6)));
        checking.ended(&peers[0], PEER_WAITS_ABOVE + 1);
        assert!(!checking.must_wait(&identity(5)) && !checking.is_idle() && checking.peers.len() == 1);
    }
}

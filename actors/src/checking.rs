//! Transactions on their way through the Verifiers: fairly, in jobs, a few of which are there at a time.
//!
//! The Verifiers' own queue is first come, first served, and has no bound. So what waits, waits here: in a
//! line for each user who submits and each node that gossips, served in turns. A flood waits behind
//! itself.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::available_parallelism,
};

use actix::Recipient;
use futures_util::{FutureExt, future::join_all};
use minidlt_protocol::{
    block::SharedTransaction,
    transaction::{Refusal, TransactionBytes},
    types::Identity,
};
use tokio::sync::oneshot;

use crate::{
    fair::Fair,
    fatal,
    messages::verifier::{Rules, VerifyTransactions},
    shares::{Bound, Full, Place},
};

/// Transactions checked in one job, so that nobody's job waits long behind one.
pub const JOB_TRANSACTIONS: usize = 32;
/// So few, and so many bytes of them, are checked on the thread of who asks where it has nothing else being
/// checked.
const NEAR_TRANSACTIONS: usize = 4;
const NEAR_BYTES: usize = 8 << 10;
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

struct Job {
    request: VerifyTransactions,
    /// Whoever waits for it.
    answer: oneshot::Sender<Checked>,
}

/// What waits, and how much is at the Verifiers. Shared with the tasks that wait for those: each hands
/// over the next when it is answered, without troubling the Mempool.
struct Desk {
    waiting: Fair<Whose, Job>,
    under_way: usize,
    at_once: usize,
    verifiers: Recipient<VerifyTransactions>,
    rules: Rules,
}

pub struct Checking {
    desk: Arc<Mutex<Desk>>,
    near: Recipient<VerifyTransactions>,
    /// Being checked, lined up or under way.
    transactions: usize,
    users: Bound<Identity>,
    peers: BTreeMap<Identity, usize>,
}

impl Checking {
    /// `near` checks on this very thread, `verifiers` on a thread a core.
    pub fn new(verifiers: Recipient<VerifyTransactions>, near: Recipient<VerifyTransactions>, rules: Rules) -> Self {
        let at_once = JOBS_A_THREAD * available_parallelism().map_or(1, usize::from);
        let desk = Desk { waiting: Fair::default(), under_way: 0, at_once, verifiers, rules };
        Self {
            desk: Arc::new(Mutex::new(desk)),
            near,
            transactions: 0,
            users: Bound::new(MAX_CHECKING),
            peers: BTreeMap::new(),
        }
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

    fn begun(&mut self, whose: &Whose, transactions: usize) {
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

    /// Has them checked, in turns with those of others; [`Self::ended`] must follow. The results are in the
    /// order given. Under load they go to all cores; a lone one is done before another thread would be awake.
    pub fn check(
        &mut self,
        whose: &Whose,
        transactions: &[TransactionBytes],
        gateway: Option<&Identity>,
    ) -> impl Future<Output = Checked> + use<> {
        let bytes = || transactions.iter().map(|transaction| transaction.as_slice().len()).sum::<usize>();
        let lone = transactions.len() <= NEAR_TRANSACTIONS && self.transactions == 0 && bytes() <= NEAR_BYTES;
        self.begun(whose, transactions.len());
        match lone {
            true => {
                let rules = lock(&self.desk).rules;
                let (transactions, gateway) = (transactions.to_vec(), gateway.cloned());
                let request = VerifyTransactions { transactions, gateway, rules };
                verified(vec![self.near.send(request)]).left_future()
            }
            false => self.line_up(whose, transactions, gateway).right_future(),
        }
    }

    /// In jobs, to the Verifiers.
    fn line_up(
        &self,
        whose: &Whose,
        transactions: &[TransactionBytes],
        gateway: Option<&Identity>,
    ) -> impl Future<Output = Checked> + use<> {
        let answers = lock(&self.desk).line_up(whose, transactions, gateway);
        hand_over(&self.desk);
        // One wake for all of them.
        verified(vec![actix_rt::spawn(verified(answers))])
    }
}

impl Desk {
    fn line_up(
        &mut self,
        whose: &Whose,
        transactions: &[TransactionBytes],
        gateway: Option<&Identity>,
    ) -> Vec<oneshot::Receiver<Checked>> {
        let jobs = transactions.chunks(JOB_TRANSACTIONS).map(|job| {
            let bytes: usize = job.iter().map(|transaction| transaction.as_slice().len()).sum();
            let request =
                VerifyTransactions { transactions: job.to_vec(), gateway: gateway.cloned(), rules: self.rules };
            let (answer, answered) = oneshot::channel();
            self.waiting.push(whose, bytes + job.len() * SIGNATURE_BYTES, Job { request, answer });
            answered
        });
        jobs.collect()
    }

    /// The next job for the Verifiers, while there is room with them.
    fn next(&mut self) -> Option<Job> {
        let job = (self.under_way < self.at_once).then(|| self.waiting.pop()).flatten()?;
        self.under_way += 1;
        Some(job)
    }
}

fn lock(desk: &Mutex<Desk>) -> MutexGuard<'_, Desk> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hands as many jobs to the Verifiers as may be there.
fn hand_over(desk: &Arc<Mutex<Desk>>) {
    let mut at = lock(desk);
    while let Some(Job { request, answer }) = at.next() {
        let (verifying, desk) = (at.verifiers.send(request), desk.clone());
        actix_rt::spawn(async move {
            let checked = verified(vec![verifying]).await;
            // Whoever asked may not wait any more.
            let _moved_on = answer.send(checked);
            lock(&desk).under_way -= 1;
            hand_over(&desk);
        });
    }
}

/// All of some jobs' answers, in their order. None is lost but where the Verifiers are.
pub async fn verified<E: fmt::Display>(jobs: Vec<impl Future<Output = Result<Checked, E>>>) -> Checked {
    let answers = join_all(jobs).await.into_iter();
    let gone = |error| fatal::stop(format!("the verifiers are gone: {error}"));
    answers.flat_map(|answer| answer.unwrap_or_else(gone)).collect()
}

#[cfg(test)]
mod tests {
    use actix::{Actor, Context, Handler};
    use tokio::sync::mpsc;

    use super::*;

    /// Answers what it is asked when it is told to.
    struct Verifiers(mpsc::UnboundedSender<(usize, oneshot::Sender<()>)>);

    impl Actor for Verifiers {
        type Context = Context<Self>;
    }

    impl Handler<VerifyTransactions> for Verifiers {
        type Result = actix::ResponseFuture<Checked>;

        fn handle(&mut self, request: VerifyTransactions, _: &mut Self::Context) -> Self::Result {
            let (go_on, waits) = oneshot::channel();
            let count = request.transactions.len();
            self.0.send((count, go_on)).unwrap();
            Box::pin(async move {
                waits.await.unwrap();
                vec![Err(Refusal::AlreadyPending); count]
            })
        }
    }

    fn identity(n: usize) -> Identity {
        format!("user{n}@Org0").parse().unwrap()
    }

    fn transactions(count: usize) -> Vec<TransactionBytes> {
        (0..count).map(|n| n.to_be_bytes().to_vec().into()).collect()
    }

    fn checking() -> (Checking, mpsc::UnboundedReceiver<(usize, oneshot::Sender<()>)>) {
        let (sender, asked) = mpsc::unbounded_channel();
        let verifiers = Verifiers(sender).start();
        (Checking::new(verifiers.clone().recipient(), verifiers.recipient(), Rules::Submitted), asked)
    }

    #[actix_rt::test]
    async fn a_few_jobs_are_under_way_and_a_flood_waits_behind_itself() {
        let (mut checking, mut asked) = checking();
        lock(&checking.desk).at_once = 2;
        let (flood, other) = (Whose::User(identity(0)), Whose::Peer(identity(1)));
        let flooded = checking.check(&flood, &transactions(320), None);
        let first = [asked.recv().await.unwrap(), asked.recv().await.unwrap()];
        let others = checking.check(&other, &transactions(3), None);
        tokio::task::yield_now().await;
        assert!(asked.try_recv().is_err(), "two at a time");
        let [(_, go_on), (_, second)] = first;
        go_on.send(()).unwrap();
        let (count, go_on) = asked.recv().await.unwrap();
        assert_eq!(count, 3, "it is the other's turn");
        go_on.send(()).unwrap();
        assert_eq!(others.await.len(), 3);
        second.send(()).unwrap();
        for _ in 2..10 {
            let (count, go_on) = asked.recv().await.unwrap();
            assert_eq!(count, JOB_TRANSACTIONS);
            go_on.send(()).unwrap();
        }
        assert_eq!(flooded.await.len(), 320);
    }

    #[actix_rt::test]
    async fn one_user_has_a_quarter_and_one_node_does_not_make_another_wait() {
        let (mut checking, _asked) = checking();
        let share = MAX_CHECKING / 4;
        let large = checking.room_for(&identity(0), share + 1).unwrap_or_else(|refusal| panic!("{refusal}"));
        assert!(matches!(checking.room_for(&identity(0), 1), Err(Refusal::UserShareFull(_))));
        let others = [1, 2, 3].map(|n| checking.room_for(&identity(n), share));
        assert!(others.iter().all(Result::is_ok));
        assert!(matches!(checking.room_for(&identity(4), 1), Err(Refusal::MempoolFull(_))));
        drop(large);
        assert!(checking.room_for(&identity(4), 1).is_ok());
        let peers = [5, 6].map(|n| Whose::Peer(identity(n)));
        checking.begun(&peers[0], PEER_WAITS_ABOVE + 1);
        checking.begun(&peers[1], 1);
        assert!(checking.must_wait(&identity(5)) && !checking.must_wait(&identity(6)));
        checking.ended(&peers[0], PEER_WAITS_ABOVE + 1);
        assert!(!checking.must_wait(&identity(5)) && checking.peers.len() == 1);
    }
}

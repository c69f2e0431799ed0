//! To one that lost all it had. It hears of the liar alone at first, and so asks it; what the liar says
//! to that is a lie each time. It catches up from the others all the same.
//!
//! With one node wiped and one lying, the two others decide nothing. So the liar votes as one of them
//! does, and the network goes on meanwhile; a node that was wiped needs that, to vote again.

use std::{
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use minidlt_integration::{Cluster, Heard, Load, PATIENCE, counted, until};
use minidlt_protocol::{
    block::CertifiedBlock,
    consensus::Wire,
    message::{ConsensusContent, Content, SyncContent},
    receipt::CertifiedHeader,
    sync::MOST_BYTES,
    types::{Hash, Height},
    vote::SignedVote,
};

use crate::{counts::REFUSED, liar::Liar};

const VICTIM: usize = 3;
const OTHERS: [usize; 2] = [1, 2];
/// Whom it votes as, and whose chain it shows.
const MODEL: usize = OTHERS[0];
/// From the moment on that it hears of the others, too, until it has what they had then. It waits five
/// seconds for an answer.
const BOUND: Duration = Duration::from_secs(10);
/// Blocks on the ledger that is lost first.
const LOST: u64 = 20;
/// A slow answer takes so long: a quick one less than one second, the slowest five.
const SLOW: Duration = Duration::from_millis(1_500);
/// How often it asks for what is new.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// What is said to one that asks for blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    /// Some blocks that hold, then one with a transaction of another.
    ChangedTransaction,
    /// A block of a later time, and the certificate as it was.
    ChangedHeader,
    /// The same with a certificate that names it.
    ChangedHeaderAndCertificate,
    /// Signatures of too few.
    TooFewSigners,
    /// The certificate of the next block.
    CertificateOfAnother,
    /// It has nothing, it says now.
    Empty,
    /// Blocks of other heights than were asked for.
    OtherHeights,
    /// What holds, but slowly.
    Slow,
    /// Another question is answered, and not this one.
    OtherQuestion,
    /// Nothing.
    Silence,
    /// It is not asked for blocks, having shown a made-up head.
    MadeUpHead,
}

impl Lie {
    const ALL: [Self; 11] = [
        Self::ChangedTransaction,
        Self::ChangedHeader,
        Self::ChangedHeaderAndCertificate,
        Self::TooFewSigners,
        Self::CertificateOfAnother,
        Self::Empty,
        Self::OtherHeights,
        Self::Slow,
        Self::OtherQuestion,
        Self::Silence,
        Self::MadeUpHead,
    ];

    /// What it is counted as.
    fn reasons(self) -> &'static [&'static str] {
        match self {
            Self::ChangedTransaction
            | Self::ChangedHeader
            | Self::ChangedHeaderAndCertificate
            | Self::TooFewSigners
            | Self::CertificateOfAnother => &["catch-up-lied"],
            Self::Empty | Self::OtherHeights => &["catch-up-empty"],
            Self::Slow => &["catch-up-slow"],
            Self::OtherQuestion => &["unasked-blocks", "catch-up-stalled"],
            Self::Silence => &["catch-up-stalled"],
            Self::MadeUpHead => &["bad-standing"],
        }
    }

    /// The answer to a question for blocks from height 1 on, of this chain.
    fn answer(self, network: &Hash, chain: &[CertifiedBlock]) -> Option<SyncContent> {
        let (from, mut blocks) = (Height::new(1), chain.to_vec());
        let first = blocks.first_mut()?;
        match self {
            Self::ChangedTransaction => {
                let full = |one: &CertifiedBlock| !one.block.transactions.is_empty();
                let other = blocks.iter().rev().find(|one| full(one))?.block.transactions[0].clone();
                let changed = blocks.iter_mut().filter(|one| full(one)).nth(1)?;
                changed.block.transactions[0] = other;
            }
            Self::ChangedHeader | Self::ChangedHeaderAndCertificate => {
                first.block.header.created = first.block.header.created.plus_millis(1);
                if self == Self::ChangedHeaderAndCertificate {
                    first.certificate.block = first.block.header.hash(network);
                }
            }
            Self::TooFewSigners => first.certificate.signatures.truncate(2),
            Self::CertificateOfAnother => first.certificate = chain.get(1)?.certificate.clone(),
            Self::Empty => blocks.clear(),
            Self::OtherHeights => drop(blocks.remove(0)),
            Self::OtherQuestion => return Some(SyncContent::Blocks { from: from.next(), blocks }),
            Self::Slow => {}
            Self::Silence | Self::MadeUpHead => return None,
        }
        Some(SyncContent::Blocks { from, blocks })
    }
}

pub fn lie(cluster: &mut Cluster, load: &Load) {
    let liar = Voter::start(Liar::among(cluster));
    until("there is something to lose", || cluster.height(MODEL) >= LOST);
    for lie in Lie::ALL {
        let known = load.known();
        cluster.kill_node(VICTIM);
        fs::remove_dir_all(cluster.node(VICTIM).join("data")).expect("its data");
        liar.begin(lie);
        // For less than the time that a node may say nothing.
        OTHERS.into_iter().for_each(|node| cluster.pause_node(node));
        cluster.start_node(VICTIM);
        liar.has_lied();
        OTHERS.into_iter().for_each(|node| cluster.resume_node(node));
        let (since, there) = (Instant::now(), cluster.height(MODEL));
        cluster.wait_answers(VICTIM);
        until(&format!("it catches up in spite of {lie:?}"), || cluster.height(VICTIM) >= there);
        let took = since.elapsed();
        println!("{lie:?}: {there} blocks after {} ms", took.as_millis());
        assert!(took < BOUND, "{lie:?}: {took:?}");
        is_counted(cluster, lie);
        until("the load is being committed", || load.known() > known);
    }
    until("it votes again", || cluster.get(VICTIM, "/v1/status")["voting"]["state"] == "voting");
    liar.end();
}

/// Once, and as nothing else; that an answer is slow may be true of the others, too.
fn is_counted(cluster: &Cluster, lie: Lie) {
    let count = |reason| cluster.samples(VICTIM, &[REFUSED]).value(&counted(REFUSED, reason));
    for reason in lie.reasons() {
        until(&format!("{lie:?} is counted as {reason}"), || count(reason) >= 1.0);
    }
    let samples = cluster.samples(VICTIM, &[REFUSED]);
    for reason in ["catch-up-lied", "catch-up-empty", "catch-up-stalled", "unasked-blocks", "bad-standing"] {
        let times = f64::from(u8::from(lie.reasons().contains(&reason)));
        assert_eq!(samples.value(&counted(REFUSED, reason)), times, "{lie:?}: {samples:?}");
    }
}

/// What the thread that is the liar does.
#[derive(Default)]
struct Orders {
    /// What is said to the victim, once, in place of what it asks for.
    lie: Mutex<Option<Lie>>,
    /// It has a session with the victim.
    connected: AtomicBool,
    over: AtomicBool,
}

/// The liar, on a thread of its own.
struct Voter {
    orders: Arc<Orders>,
    lies: Receiver<()>,
    thread: JoinHandle<()>,
}

impl Voter {
    fn start(liar: Liar) -> Self {
        let (orders, (lied, lies)) = (Arc::new(Orders::default()), channel());
        let mut mind = Mind { liar, orders: orders.clone(), lied, chain: Vec::new(), standing: None };
        Self { orders, lies, thread: thread::spawn(move || mind.go_on()) }
    }

    /// To the victim, as soon as it is there again.
    fn begin(&self, lie: Lie) {
        until("the victim is gone", || !self.orders.connected.load(Ordering::Relaxed));
        *self.orders.lie.lock().expect("no panic") = Some(lie);
    }

    fn has_lied(&self) {
        self.lies.recv_timeout(PATIENCE).expect("the victim asks the liar");
    }

    fn end(self) {
        self.orders.over.store(true, Ordering::Relaxed);
        self.thread.join().expect("the liar had no trouble");
    }
}

struct Mind {
    liar: Liar,
    orders: Arc<Orders>,
    lied: Sender<()>,
    /// What its model has, from height 1 on, and shows of it.
    chain: Vec<CertifiedBlock>,
    standing: Option<CertifiedHeader>,
}

impl Mind {
    fn go_on(&mut self) {
        let mut asked = Instant::now();
        while !self.orders.over.load(Ordering::Relaxed) {
            self.liar.reopen();
            self.orders.connected.store(self.liar.line(VICTIM).is_some(), Ordering::Relaxed);
            if let Some(heard) = self.liar.next(ASK_EVERY) {
                self.hear(heard);
            }
            if asked.elapsed() >= ASK_EVERY {
                asked = Instant::now();
                let from = Height::new(self.chain.len() as u64).next();
                for question in
                    [SyncContent::Synchronise { at: None }, SyncContent::GetBlocks { from, bytes: MOST_BYTES as u64 }]
                {
                    self.liar.say(MODEL, &Content::Sync(question));
                }
            }
        }
    }

    fn hear(&mut self, Heard { from: node, content, .. }: Heard) {
        match content {
            Content::Consensus(ConsensusContent::Wire(Wire::Vote(SignedVote { voter, vote, .. })))
                if voter == self.liar.name(MODEL) =>
            {
                self.liar.wire_to_all(&Wire::Vote(self.liar.route(MODEL).vote(vote)));
            }
            // It shows none whose block it does not have: an answer without blocks would be a lie, too.
            Content::Sync(SyncContent::Standing(standing)) if node == MODEL => {
                let has = |shown: &CertifiedHeader| shown.header.height.get() <= self.chain.len() as u64;
                self.standing = standing.filter(has).or(self.standing.take());
            }
            Content::Sync(SyncContent::Blocks { from, blocks })
                if node == MODEL && from.get() == self.chain.len() as u64 + 1 =>
            {
                self.chain.extend(blocks);
            }
            Content::Sync(SyncContent::Synchronise { at: None }) => self.show(node),
            Content::Sync(SyncContent::Synchronise { at: Some(at) }) => self.show_at(node, at),
            Content::Sync(SyncContent::GetBlocks { from, .. }) if node == VICTIM => self.answer(from),
            _ => {}
        }
    }

    /// The head that its model has: so whoever asks takes it for one that has the blocks.
    fn show(&self, node: usize) {
        let mut standing = self.standing.clone();
        if node == VICTIM && *self.orders.lie.lock().expect("no panic") == Some(Lie::MadeUpHead) {
            standing = standing.map(|shown| {
                let height = Height::new(shown.header.height.get() + 1_000_000);
                self.made_up(shown, height)
            });
        }
        self.liar.say(node, &Content::Sync(SyncContent::Standing(standing)));
    }

    /// The block of a height that whoever asks can judge: a head is too far ahead for one that has nothing.
    fn show_at(&self, node: usize, at: Height) {
        let known = at.get().checked_sub(1).and_then(|place| self.chain.get(usize::try_from(place).ok()?));
        let mut shown = known.map(|CertifiedBlock { block, certificate }| {
            let Liar { network, voters, .. } = &self.liar;
            CertifiedHeader::new(network, block.header.clone(), certificate.clone(), voters)
        });
        let lie = if node == VICTIM { self.take_lie(|lie| lie == Lie::MadeUpHead) } else { None };
        if lie.is_some() {
            shown = shown.map(|mut shown| {
                shown.header.created = shown.header.created.plus_millis(1);
                self.made_up(shown, at)
            });
        }
        self.liar.say(node, &Content::Sync(SyncContent::Standing(shown)));
        self.tell_of(lie);
    }

    /// As it would be at that height, were it certified.
    fn made_up(&self, mut shown: CertifiedHeader, height: Height) -> CertifiedHeader {
        shown.header.height = height;
        shown.hash = shown.header.hash(&self.liar.network);
        (shown.certificate.height, shown.certificate.block) = (height, shown.hash);
        shown
    }

    fn answer(&self, from: Height) {
        let lie = if from == Height::new(1) { self.take_lie(|lie| lie != Lie::MadeUpHead) } else { None };
        let known = self.chain.get(from.get() as usize - 1..).unwrap_or_default();
        let truth = || Some(SyncContent::Blocks { from, blocks: known.to_vec() });
        let answer = lie.map_or_else(truth, |lie| lie.answer(&self.liar.network, &self.chain));
        if let Some((answer, line)) = answer.zip(self.liar.line(VICTIM)) {
            let over = if lie == Some(Lie::Slow) { SLOW } else { Duration::ZERO };
            line.send_over(&line.route.message(&Content::Sync(answer)), over);
        }
        self.tell_of(lie);
    }

    /// The lie to be told now, if it is of this kind and the victim is there to hear it.
    fn take_lie(&self, wanted: impl Fn(Lie) -> bool) -> Option<Lie> {
        self.liar.line(VICTIM)?;
        self.orders.lie.lock().expect("no panic").take_if(|lie| wanted(*lie))
    }

    fn tell_of(&self, lie: Option<Lie>) {
        if lie.is_some() {
            let _nobody_waits = self.lied.send(());
        }
    }
}

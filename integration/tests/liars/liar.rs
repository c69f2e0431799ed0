//! The liar: a session with each of the others, what it hears there, and what it needs to be taken for
//! one of them.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    time::{Duration, Instant},
};

use minidlt_integration::{Cluster, Heard, Line, PATIENCE, Route, now, until};
use minidlt_protocol::{
    block::{CertifiedBlock, Header},
    consensus::Wire,
    merkle,
    message::{ConsensusContent, Content, SyncContent},
    receipt::CertifiedHeader,
    state::{Outcome, ResultLeaf},
    transaction::Effect,
    types::{Hash, Height, Identity, Round},
    vote::Voters,
};

use crate::{HONEST, LIAR};

pub struct Liar {
    pub network: Hash,
    pub voters: Voters,
    pub me: Identity,
    names: Vec<Identity>,
    routes: Vec<Arc<Route>>,
    /// None with one that is not there.
    lines: Vec<Option<Line>>,
    hand_on: Sender<Heard>,
    heard: Receiver<Heard>,
}

/// A height in which it is the liar's turn to propose.
pub struct Turn {
    /// What its block is to follow.
    pub head: CertifiedBlock,
    /// The header of an empty block that holds.
    pub header: Header,
}

/// Where this node's things stand among those of the honest.
fn place(node: usize) -> usize {
    HONEST.iter().position(|honest| *honest == node).expect("an honest node")
}

impl Liar {
    /// With a session with each of the others.
    pub fn among(cluster: &Cluster) -> Self {
        let (hand_on, heard) = channel();
        let genesis = cluster.genesis();
        let routes: Vec<_> = HONEST.map(|to| Route::of(cluster, LIAR, to)).into();
        let lines = routes.iter().map(|route| Some(Line::open(route, &hand_on).expect("a session"))).collect();
        let names: Vec<_> = genesis.nodes.iter().map(|node| node.identity()).collect();
        let (network, voters, me) = (genesis.id(), genesis.registry().orderers(), names[LIAR].clone());
        Self { network, voters, me, names, routes, lines, hand_on, heard }
    }

    /// Begins a session anew with each node that has none.
    pub fn reopen(&mut self) {
        for (line, route) in self.lines.iter_mut().zip(&self.routes) {
            if line.as_ref().is_none_or(Line::is_over) {
                *line = Line::open(route, &self.hand_on).ok();
            }
        }
    }

    /// The same with all, in place of those that stand.
    pub fn open_anew(&mut self) {
        self.lines.iter_mut().for_each(|line| *line = None);
        self.reopen();
    }

    /// Waits until the nodes have ended their sessions.
    pub fn wait_ended(&self) {
        until("the sessions are ended", || self.lines.iter().flatten().all(Line::is_over));
    }

    /// The others' names, and its own.
    pub fn name(&self, node: usize) -> Identity {
        self.names[node].clone()
    }

    pub fn route(&self, to: usize) -> &Arc<Route> {
        &self.routes[place(to)]
    }

    pub fn line(&self, to: usize) -> Option<&Line> {
        self.lines[place(to)].as_ref()
    }

    /// Where there is no session, nothing is said.
    pub fn say(&self, to: usize, content: &Content) {
        self.line(to).into_iter().for_each(|line| line.say(content));
    }

    pub fn send(&self, to: usize, message: &[u8]) {
        self.line(to).into_iter().for_each(|line| line.send(message));
    }

    pub fn say_to_all(&self, content: &Content) {
        HONEST.into_iter().for_each(|to| self.say(to, content));
    }

    pub fn wire_to_all(&self, wire: &Wire) {
        self.say_to_all(&Content::Consensus(ConsensusContent::Wire(wire.clone())));
    }

    pub fn sync_to_all(&self, content: &SyncContent) {
        self.say_to_all(&Content::Sync(content.clone()));
    }

    /// What comes within this time.
    pub fn next(&self, within: Duration) -> Option<Heard> {
        self.heard.recv_timeout(within).ok()
    }

    /// Passes over all that was heard up to now.
    pub fn forget(&self) {
        while self.heard.try_recv().is_ok() {}
    }

    /// Listens until it hears what is wanted.
    pub fn listen<T>(&self, what: &str, mut wanted: impl FnMut(&Self, Heard) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let heard = self.next(left).unwrap_or_else(|| panic!("not heard of within {PATIENCE:?}: {what}"));
            if let Some(found) = wanted(self, heard) {
                return found;
            }
        }
    }

    /// Where a node stands, or which block it has at a height; none where it has none there.
    pub fn standing(&self, of: usize, at: Option<Height>) -> Option<CertifiedHeader> {
        self.say(of, &Content::Sync(SyncContent::Synchronise { at }));
        self.listen("a standing", |_, heard| match heard.content {
            Content::Sync(SyncContent::Standing(standing)) if heard.from == of => Some(standing),
            _ => None,
        })
    }

    /// The block of a height that a node has.
    pub fn block(&self, of: usize, height: Height) -> CertifiedBlock {
        self.say(of, &Content::Sync(SyncContent::GetBlocks { from: height, bytes: 1 }));
        self.listen("a block", |_, heard| match heard.content {
            Content::Sync(SyncContent::Blocks { from, mut blocks }) if heard.from == of && from == height => {
                Some(blocks.swap_remove(0))
            }
            _ => None,
        })
    }

    pub fn is_my_turn(&self, height: Height) -> bool {
        self.voters.proposer(height, Round::ZERO).is_some_and(|proposer| proposer.identity == self.me)
    }

    /// Waits for a height in which it is to propose first, after a block whose results are plain.
    pub fn turn(&self) -> Turn {
        self.forget();
        loop {
            let standing = self.standing(HONEST[0], None);
            if let Some(at) = standing.filter(|standing| self.is_my_turn(standing.header.height.next())) {
                let head = self.block(HONEST[0], at.header.height);
                if let Some(header) = self.follow(&head) {
                    return Turn { head, header };
                }
            }
            self.listen("anything new", |_, heard| match heard.content {
                Content::Consensus(_) | Content::Sync(SyncContent::Alive(_)) => Some(()),
                _ => None,
            });
        }
    }

    /// The header of an empty block that may follow this one; none where what the block did to the state
    /// is not plain to see.
    fn follow(&self, head: &CertifiedBlock) -> Option<Header> {
        let transactions = head.block.parse(&self.network).expect("a committed block");
        let count = transactions.len() as u64;
        let results = transactions.iter().zip(0..).map(|(transaction, position)| match transaction.effect {
            Effect::Records { .. } => {
                Some(ResultLeaf { transaction: transaction.id, position, count, outcome: Outcome::Ok }.hash())
            }
            Effect::Evidence(_) | Effect::Change(_) => None,
        });
        let results: Vec<Hash> = results.collect::<Option<_>>()?;
        let before = &head.block.header;
        Some(Header {
            height: before.height.next(),
            round: Round::ZERO,
            created: now().max(before.created),
            previous: before.hash(&self.network),
            proposer: self.me.clone(),
            transactions_root: merkle::root(&[]),
            results_root: merkle::root(&results),
            state_root: before.state_root,
        })
    }
}

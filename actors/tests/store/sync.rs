//! Sync between a real ledger and stand-ins for Consensus and Signer.

use std::{path::Path, sync::Arc, time::Duration};

use actix::{Actor, Addr, Context, Handler, MessageResult};
use minidlt_actors::{
    fork,
    messages::{
        consensus::{Fetched, Halt, NotTaken, SayAgain, TakePart},
        network::{FromPeer, PeerChanged},
        signer::{SignDraft, Stamp, VoteFrom},
        sync::{GetSyncStatus, SyncStatus, VotingState},
    },
    metrics::{Metrics, Reason},
    store::{Writer, reader::Reader},
    sync::{Links, Sync},
};
use minidlt_protocol::{
    block::{CertifiedBlock, DecidedBlock},
    codec,
    limits::MAX_FRAME_BYTES,
    message::{Content, Message, Recipient, SyncContent},
    receipt::CertifiedHeader,
    sync::{Place, Settings, Synchronise, VoteRecord},
    types::{Height, Identity},
    vote::Voters,
};
use tempfile::{TempDir, tempdir};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use crate::{
    governance::{LAST, Ledger},
    support::{NODES, Network, certified, identity, node_key},
};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// What Sync said to the others.
#[derive(Debug, PartialEq)]
enum Heard {
    Said(Recipient, Box<SyncContent>),
    TakePart(Height),
    VoteFrom(Height),
    Halt,
}

/// Consensus, which commits what holds, and Signer.
struct Rest {
    network: Network,
    writer: Writer,
    reader: Reader,
    heard: mpsc::UnboundedSender<Heard>,
}

impl Actor for Rest {
    type Context = Context<Self>;
}

impl Rest {
    fn hear(&self, heard: Heard) {
        let _test_over = self.heard.send(heard);
    }

    fn hear_said(&self, recipient: Recipient, content: Content) {
        match content {
            Content::Sync(SyncContent::Alive(_)) => {}
            Content::Sync(content) => self.hear(Heard::Said(recipient, content.into())),
            other => panic!("Sync said {other:?}"),
        }
    }
}

impl Handler<Fetched> for Rest {
    type Result = MessageResult<Fetched>;

    fn handle(&mut self, Fetched(block): Fetched, _: &mut Context<Self>) -> Self::Result {
        let checked = DecidedBlock::certified(block, &self.network.id, &self.reader.head(), &self.reader.registry());
        MessageResult(match checked {
            Ok(block) => {
                self.writer.commit(&block).unwrap();
                Ok(())
            }
            Err(refused) => Err(NotTaken { reason: refused.to_string(), forked: refused.is_of_another_chain() }),
        })
    }
}

impl Handler<TakePart> for Rest {
    type Result = ();
    fn handle(&mut self, TakePart(from): TakePart, _: &mut Context<Self>) {
        self.hear(Heard::TakePart(from));
    }
}

impl Handler<VoteFrom> for Rest {
    type Result = ();
    fn handle(&mut self, VoteFrom(from): VoteFrom, _: &mut Context<Self>) {
        self.hear(Heard::VoteFrom(from));
    }
}

impl Handler<SayAgain> for Rest {
    type Result = ();
    fn handle(&mut self, _: SayAgain, _: &mut Context<Self>) {}
}

impl Handler<Halt> for Rest {
    type Result = ();
    fn handle(&mut self, _: Halt, _: &mut Context<Self>) {
        self.hear(Heard::Halt);
    }
}

impl Handler<Stamp> for Rest {
    type Result = ();
    fn handle(&mut self, Stamp { recipient, content, .. }: Stamp, _: &mut Context<Self>) {
        self.hear_said(recipient, content);
    }
}

impl Handler<SignDraft> for Rest {
    type Result = ();
    fn handle(&mut self, SignDraft { draft, .. }: SignDraft, _: &mut Context<Self>) {
        let Message { recipient, payload, .. } = draft.sign(&node_key(0));
        self.hear_said(recipient, codec::decode(&payload.content, MAX_FRAME_BYTES).unwrap());
    }
}

/// Node 0, which has the first `has` blocks of a chain that others have more of.
struct World {
    sync: Addr<Sync>,
    heard: mpsc::UnboundedReceiver<Heard>,
    reader: Reader,
    metrics: Arc<Metrics>,
    directory: TempDir,
}

impl World {
    fn start(directory: TempDir, chain: &[DecidedBlock], has: usize, record: VoteRecord) -> Self {
        let network = Network::new();
        let (mut writer, reader) = network.open(&directory.path().join("ledger")).unwrap();
        for block in chain.iter().take(has).skip(reader.head().height.get() as usize) {
            writer.commit(block).unwrap();
        }
        let (sender, heard) = mpsc::unbounded_channel();
        let head = reader.head();
        let settings = Settings {
            me: identity(0),
            voters: Voters::clone(reader.registry().voters_at(head.height.next())),
            coming: Voters::clone(reader.registry().voters_at(head.height.next().next())),
            policy: Synchronise::Quorum,
            record,
            head: Place { height: head.height, block: head.hash },
        };
        let rest = Rest { network, writer, reader: reader.clone(), heard: sender }.start();
        let links = Links {
            fetched: rest.clone().recipient(),
            take_part: rest.clone().recipient(),
            say_again: rest.clone().recipient(),
            halt: rest.clone().recipient(),
            signer: rest.clone().recipient(),
            sign_draft: rest.clone().recipient(),
            vote_from: rest.recipient(),
            reader: reader.clone(),
            keys: watch::channel([node_key(0).public_key()].into()).1,
        };
        let (metrics, data_dir) = (Arc::new(Metrics::new()), directory.path().to_owned());
        let seen = fork::load(&data_dir).unwrap();
        let sync = Sync::new(settings, links, data_dir, seen, metrics.clone()).start();
        Self { sync, heard, reader, metrics, directory }
    }

    async fn connect(&mut self, node: u8) {
        self.sync.send(PeerChanged { peer: identity(node), connected: true }).await.unwrap();
        self.hear_said(node, &SyncContent::Synchronise { at: None }).await;
    }

    async fn tell(&self, node: u8, content: SyncContent) {
        self.sync.send(FromPeer { peer: identity(node), content }).await.unwrap();
    }

    async fn hear(&mut self, wanted: impl Fn(&Heard) -> bool) -> Heard {
        let hearing = async {
            loop {
                let heard = self.heard.recv().await.expect("Sync lives as long as the test");
                if wanted(&heard) {
                    return heard;
                }
            }
        };
        timeout(PATIENCE, hearing).await.expect("it was never heard")
    }

    async fn hear_said(&mut self, to: u8, content: &SyncContent) {
        let wanted = Heard::Said(Recipient::One(identity(to)), content.clone().into());
        self.hear(|heard| *heard == wanted).await;
    }

    /// What it says next to this node, of blocks or places.
    async fn hear_answer(&mut self, to: u8) -> SyncContent {
        let answers = |content: &SyncContent| matches!(content, SyncContent::Standing(_) | SyncContent::Blocks { .. });
        let to = Recipient::One(identity(to));
        match self.hear(|heard| matches!(heard, Heard::Said(who, content) if *who == to && answers(content))).await {
            Heard::Said(_, content) => *content,
            other => panic!("{other:?}"),
        }
    }

    async fn reach(&self, height: u64) {
        let mut heads = self.reader.heads();
        let reached = heads.wait_for(|head| head.height == Height::new(height));
        timeout(PATIENCE, reached).await.expect("it was never reached").unwrap();
    }

    async fn status(&self) -> SyncStatus {
        self.sync.send(GetSyncStatus).await.unwrap()
    }

    fn counted(&self, reason: &str) -> u64 {
        self.metrics.messages_refused.get_or_create(&Reason { reason: reason.into() }).get()
    }
}

/// A chain of so many blocks, built elsewhere.
fn chain(blocks: usize) -> Vec<DecidedBlock> {
    let (directory, mut network) = (tempdir().unwrap(), Network::new());
    let (mut writer, reader) = network.open(directory.path()).unwrap();
    network.grow(&mut writer, &reader, blocks, 2)
}

fn shown(block: &DecidedBlock) -> CertifiedHeader {
    let network = Network::new();
    CertifiedHeader::new(
        &network.id,
        block.header.clone(),
        block.certificate.clone(),
        network.registry.voters_at(block.header.height),
    )
}

/// As who was there shows it: by as many voters as its height took.
fn shown_by(reader: &Reader, height: u64) -> SyncContent {
    SyncContent::Standing(reader.certified_header(Height::new(height)).unwrap())
}

fn standing(block: &DecidedBlock) -> SyncContent {
    SyncContent::Standing(Some(shown(block)))
}

fn blocks(chain: &[DecidedBlock], from: u64) -> SyncContent {
    let blocks: Vec<CertifiedBlock> = chain.iter().skip(from as usize - 1).map(certified).collect();
    SyncContent::Blocks { from: Height::new(from), blocks }
}

fn is_get_blocks(heard: &Heard, from: u64) -> bool {
    let is_it =
        |content: &SyncContent| matches!(content, SyncContent::GetBlocks { from: asked, .. } if asked.get() == from);
    matches!(heard, Heard::Said(_, content) if is_it(content))
}

fn asked_of(heard: Heard) -> Identity {
    match heard {
        Heard::Said(Recipient::One(peer), _) => peer,
        other => panic!("{other:?}"),
    }
}

const KEPT: VoteRecord = VoteRecord::Kept(Height::GENESIS);

#[actix_rt::test]
async fn what_is_missing_comes_from_one_who_has_proved_it_and_counts_for_taking_part() {
    let chain = chain(8);
    let mut world = World::start(tempdir().unwrap(), &chain, 6, KEPT);
    assert_eq!(world.status().await.voting.state, VotingState::Waiting);
    world.tell(1, standing(&chain[7])).await;
    assert_eq!(world.counted("unasked-standing"), 1);
    world.connect(1).await;
    let mut forged = shown(&chain[7]);
    forged.certificate.signatures.pop();
    world.tell(1, SyncContent::Standing(Some(forged))).await;
    assert_eq!(world.counted("bad-standing"), 1);
    world.connect(1).await;
    world.connect(2).await;
    world.tell(1, standing(&chain[7])).await;
    assert_eq!(asked_of(world.hear(|heard| is_get_blocks(heard, 7)).await), identity(1));
    world.tell(2, blocks(&chain, 7)).await;
    assert_eq!(world.counted("unasked-blocks"), 1, "another was asked");
    world.tell(1, blocks(&chain, 7)).await;
    world.reach(8).await;
    assert_eq!(world.status().await.voting.state, VotingState::Waiting, "one of two");
    world.tell(2, standing(&chain[4])).await;
    assert_eq!(world.hear(|heard| matches!(heard, Heard::TakePart(_))).await, Heard::TakePart(Height::GENESIS));
    assert_eq!(world.status().await.voting.state, VotingState::Voting);
}

#[actix_rt::test]
async fn a_liars_good_blocks_are_kept_and_another_goes_on() {
    let chain = chain(8);
    let mut world = World::start(tempdir().unwrap(), &chain, 6, KEPT);
    world.connect(1).await;
    world.connect(2).await;
    world.tell(1, standing(&chain[7])).await;
    let first = asked_of(world.hear(|heard| is_get_blocks(heard, 7)).await);
    world.tell(2, standing(&chain[7])).await;
    let SyncContent::Blocks { from, mut blocks } = blocks(&chain, 7) else { panic!("blocks are blocks") };
    // Its transactions are another's: the certificate does not cover them.
    blocks[1].block.transactions = blocks[0].block.transactions.clone();
    world.sync.send(FromPeer { peer: first.clone(), content: SyncContent::Blocks { from, blocks } }).await.unwrap();
    let second = asked_of(world.hear(|heard| is_get_blocks(heard, 8)).await);
    assert_ne!(first, second);
    assert_eq!((world.reader.head().height, world.counted("catch-up-lied")), (Height::new(7), 1));
    let content = SyncContent::Blocks { from: Height::new(8), blocks: vec![certified(&chain[7])] };
    world.sync.send(FromPeer { peer: second, content }).await.unwrap();
    world.reach(8).await;
}

#[actix_rt::test]
async fn blocks_that_are_not_in_order_from_where_they_were_asked_are_none() {
    let chain = chain(2);
    let mut world = World::start(tempdir().unwrap(), &chain, 0, KEPT);
    world.connect(1).await;
    world.tell(1, standing(&chain[1])).await;
    world.hear(|heard| is_get_blocks(heard, 1)).await;
    let blocks = chain.iter().rev().map(certified).collect();
    world.tell(1, SyncContent::Blocks { from: Height::new(1), blocks }).await;
    assert_eq!(world.counted("catch-up-empty"), 1);
    world.hear(|heard| is_get_blocks(heard, 1)).await;
}

/// Another chain's block at this height, certified by the same voters.
fn forked(chain: &[DecidedBlock], height: usize) -> DecidedBlock {
    let (directory, mut network) = (tempdir().unwrap(), Network::new());
    let (mut writer, reader) = network.open(directory.path()).unwrap();
    for block in &chain[..height - 1] {
        writer.commit(block).unwrap();
    }
    network.next(&reader.head(), 0)
}

async fn assert_halted(world: &mut World, fork: &DecidedBlock, ours: &DecidedBlock) {
    world.hear(|heard| *heard == Heard::Halt).await;
    let SyncStatus { voting, fork: kept } = world.status().await;
    assert_eq!((voting.state, world.metrics.forks.get()), (VotingState::Halted, 1));
    let kept = kept.expect("the status shows it");
    assert_eq!((&kept.ours, &kept.theirs), (&shown(ours), &shown(fork)));
    assert!(kept.liars().len() >= 2, "quorums of three have two in common: {:?}", kept.liars());
    assert_eq!(fork::load(world.directory.path()).unwrap(), Some(kept));
}

#[actix_rt::test]
async fn two_certified_blocks_of_one_height_are_kept_and_end_voting_also_after_a_restart() {
    let chain = chain(5);
    let fork = forked(&chain, 4);
    let mut world = World::start(tempdir().unwrap(), &chain, 5, KEPT);
    world.connect(1).await;
    world.tell(1, standing(&fork)).await;
    assert_halted(&mut world, &fork, &chain[3]).await;
    for node in [2, 3] {
        world.connect(node).await;
        world.tell(node, standing(&chain[4])).await;
    }
    assert_eq!(world.status().await.voting.state, VotingState::Halted);
    let World { directory, sync, heard, reader, .. } = world;
    drop((sync, heard, reader));
    let copy = tempdir().unwrap();
    std::fs::copy(directory.path().join(fork::FORK_FILE), copy.path().join(fork::FORK_FILE)).unwrap();
    let mut world = World::start(copy, &chain, 5, KEPT);
    for node in 1..NODES {
        world.connect(node).await;
        world.tell(node, standing(&chain[4])).await;
    }
    assert_eq!(world.status().await.voting.state, VotingState::Halted);
    while let Ok(heard) = world.heard.try_recv() {
        assert!(!matches!(heard, Heard::TakePart(_)), "it takes part after a fork");
    }
}

#[actix_rt::test]
async fn blocks_of_another_chain_lead_to_the_question_that_proves_the_fork() {
    let chain = chain(5);
    let fork = forked(&chain, 5);
    let mut world = World::start(tempdir().unwrap(), &chain, 5, KEPT);
    // The peer is ahead on its own chain: its head alone cannot be compared.
    let after = {
        let (directory, mut network) = (tempdir().unwrap(), Network::new());
        let (mut writer, reader) = network.open(directory.path()).unwrap();
        for block in chain[..4].iter().chain([&fork]) {
            writer.commit(block).unwrap();
        }
        network.next(&reader.head(), 1)
    };
    world.connect(1).await;
    world.tell(1, standing(&after)).await;
    world.hear(|heard| is_get_blocks(heard, 6)).await;
    let content = SyncContent::Blocks { from: Height::new(6), blocks: vec![certified(&after)] };
    world.tell(1, content).await;
    world.hear_said(1, &SyncContent::Synchronise { at: Some(Height::new(5)) }).await;
    world.tell(1, standing(&fork)).await;
    assert_halted(&mut world, &fork, &chain[4]).await;
}

#[actix_rt::test]
async fn who_is_far_behind_changes_of_voters_asks_for_what_it_can_judge_and_catches_up() {
    let ledger = Ledger::with_two_changes_of_voters();
    let mut world = World::start(tempdir().unwrap(), &[], 0, KEPT);
    world.connect(1).await;
    // By who votes then, of whom this node knows nothing: it takes it neither for a bad one nor for a good one.
    world.tell(1, shown_by(&ledger.reader, LAST)).await;
    world.hear_said(1, &SyncContent::Synchronise { at: Some(Height::new(2)) }).await;
    world.tell(1, shown_by(&ledger.reader, 2)).await;
    assert_eq!(asked_of(world.hear(|heard| is_get_blocks(heard, 1)).await), identity(1));
    world.tell(1, blocks(&ledger.blocks, 1)).await;
    world.reach(LAST).await;
    assert_eq!(world.reader.registry(), ledger.reader.registry());
    assert_eq!((world.counted("bad-standing"), world.counted("catch-up-lied")), (0, 0));
    // By now it can judge them: two others match, which is a quorum with itself.
    for node in [1, 2] {
        world.connect(node).await;
        world.tell(node, shown_by(&ledger.reader, LAST)).await;
    }
    assert_eq!(world.hear(|heard| matches!(heard, Heard::TakePart(_))).await, Heard::TakePart(Height::GENESIS));
}

/// All that it shows is that it is far ahead: where this node may have voted it does not say.
#[actix_rt::test]
async fn a_lost_record_does_not_become_safe_by_standings_below_what_the_others_have() {
    let ledger = Ledger::with_two_changes_of_voters();
    let mut world = World::start(tempdir().unwrap(), &[], 0, VoteRecord::Lost);
    for node in 1..NODES {
        world.connect(node).await;
        world.tell(node, shown_by(&ledger.reader, LAST)).await;
        world.hear_said(node, &SyncContent::Synchronise { at: Some(Height::new(2)) }).await;
        world.tell(node, shown_by(&ledger.reader, 2)).await;
    }
    world.sync.send(FromPeer { peer: identity(1), content: blocks(&ledger.blocks, 1) }).await.unwrap();
    world.reach(LAST).await;
    assert_eq!(world.status().await.voting.from, None);
    while let Ok(heard) = world.heard.try_recv() {
        assert!(!matches!(heard, Heard::VoteFrom(_) | Heard::TakePart(_)), "{heard:?}");
    }
    // A quorum of the voters of now, without itself, shows where it really stands.
    for node in [1, 2, 4] {
        world.connect(node).await;
        world.tell(node, shown_by(&ledger.reader, LAST)).await;
    }
    let said = |heard: &Heard| matches!(heard, Heard::TakePart(_) | Heard::VoteFrom(_));
    assert_eq!(world.hear(said).await, Heard::VoteFrom(Height::new(LAST + 3)));
}

#[actix_rt::test]
async fn a_damaged_proof_of_a_fork_is_no_reason_to_go_on() {
    let directory = tempdir().unwrap();
    let write = |text: &str| std::fs::write(directory.path().join(fork::FORK_FILE), text).unwrap();
    let load = |path: &Path| fork::load(path).map_err(|error| error.to_string());
    write("{}");
    assert!(load(directory.path()).unwrap_err().contains("fork.json"));
    write(&" ".repeat(2 << 20));
    assert!(load(directory.path()).unwrap_err().contains("more than"));
}

#[actix_rt::test]
async fn those_who_ask_are_told_where_this_node_stands_and_given_blocks_within_bounds() {
    let chain = chain(6);
    let mut world = World::start(tempdir().unwrap(), &chain, 6, KEPT);
    world.tell(1, SyncContent::Synchronise { at: None }).await;
    assert_eq!(world.hear_answer(1).await, standing(&chain[5]));
    world.tell(1, SyncContent::Synchronise { at: Some(Height::new(2)) }).await;
    assert_eq!(world.hear_answer(1).await, standing(&chain[1]));
    world.tell(1, SyncContent::Synchronise { at: Some(Height::new(9)) }).await;
    assert_eq!(world.hear_answer(1).await, SyncContent::Standing(None));
    world.tell(1, SyncContent::GetBlocks { from: Height::new(3), bytes: u64::MAX }).await;
    assert_eq!(world.hear_answer(1).await, blocks(&chain, 3));
    world.tell(1, SyncContent::GetBlocks { from: Height::new(3), bytes: 0 }).await;
    let one = SyncContent::Blocks { from: Height::new(3), blocks: vec![certified(&chain[2])] };
    assert_eq!(world.hear_answer(1).await, one, "the first whatever its size");
    world.tell(1, SyncContent::GetBlocks { from: Height::new(7), bytes: 1 }).await;
    assert_eq!(world.hear_answer(1).await, SyncContent::Blocks { from: Height::new(7), blocks: vec![] });
}

#[actix_rt::test]
async fn a_node_without_its_record_has_it_begun_anew_before_it_takes_part() {
    let chain = chain(3);
    let mut world = World::start(tempdir().unwrap(), &chain, 3, VoteRecord::Lost);
    assert_eq!(world.status().await.voting.state, VotingState::Abstaining);
    for node in 1..NODES {
        world.connect(node).await;
        world.tell(node, standing(&chain[2])).await;
    }
    let said = |heard: &Heard| matches!(heard, Heard::TakePart(_) | Heard::VoteFrom(_));
    assert_eq!(world.hear(said).await, Heard::VoteFrom(Height::new(6)));
    assert_eq!(world.hear(said).await, Heard::TakePart(Height::new(6)));
    let voting = world.status().await.voting;
    assert_eq!((voting.state, voting.from), (VotingState::Abstaining, Some(Height::new(6))));
}

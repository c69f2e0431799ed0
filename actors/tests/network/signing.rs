//! The Signer: never two votes where one is allowed, not after a restart either.

use std::{
    cell::Cell,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use actix::{Actor, Addr, Context, Handler};
use minidlt_actors::{
    clock,
    members::Members,
    messages::{
        network::{Class, Outgoing},
        signer::{Entries, Publish, ReadLog, SignEvidence, SignProposal, SignVote, Stamp, StampOne},
    },
    signer::{Held, Keys, Signer},
};
use minidlt_config::{KeyFiles, generate_key};
use minidlt_protocol::{
    block::Head,
    consensus::Wire,
    crypto::{PublicKey, Signature},
    evidence::Evidence,
    limits::CLOCK_WINDOW_MILLIS,
    message::{ConsensusContent, Content, Message, Recipient},
    registry::{Entry, FormerKey, Node, Registry},
    transaction::{Operation, TransactionBytes, id_of, open},
    types::{Hash, Height, Round, Timestamp},
    vote::{ConsensusMode, Phase, Proposal, SignedVote, Vote},
};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};

use crate::cluster::{head, identity, key, new_node, node};

const NETWORK: Hash = Hash::from_bytes([9; 32]);

/// Keeps, with each message that leaves, what the disk held at that very moment.
struct Outbox {
    directory: PathBuf,
    sent: mpsc::UnboundedSender<(Outgoing, TempDir)>,
}

impl Actor for Outbox {
    type Context = Context<Self>;
}

impl Handler<Outgoing> for Outbox {
    type Result = ();
    fn handle(&mut self, outgoing: Outgoing, _: &mut Self::Context) {
        self.sent.send((outgoing, copy(&self.directory))).unwrap();
    }
}

struct Desk {
    signer: Addr<Signer>,
    sent: mpsc::UnboundedReceiver<(Outgoing, TempDir)>,
    directory: TempDir,
    /// What was on disk when the last message left.
    as_sent: Option<TempDir>,
    logged: Cell<Entries>,
    held: Held,
    ledger: Ledger,
}

/// What the Signer is told of the ledger.
struct Ledger {
    registries: watch::Sender<Arc<Registry>>,
    heads: watch::Sender<Head>,
    members: Members,
}

impl Ledger {
    /// Of node 0 alone, which votes.
    fn new() -> Self {
        let registry = Registry::new(ConsensusMode::Bft, [Entry::Node(node(0, "127.0.0.1:1".into()))]);
        let (registries, registry) = watch::channel(Arc::new(registry));
        let (heads, head) = watch::channel(head(0));
        let members = Members::new(head, registry);
        Self { registries, heads, members }
    }

    /// Node 0 has another key since the block of this height.
    fn replace_key(&self, height: u64, public_key: PublicKey, former_until: Option<Timestamp>) {
        self.registries.send_modify(|registry| {
            let registry = Arc::make_mut(registry);
            let before = registry.nodes[&identity(0)].clone();
            let former_key = former_until.map(|until| FormerKey { public_key: before.public_key, until });
            registry.put(Entry::Node(Node { public_key, former_key, ..before }));
            registry.follow_orderers(Height::new(height));
        });
        self.heads.send_replace(head(height));
    }
}

impl Ledger {
    fn former_key_until(&self, until: Timestamp) {
        self.registries.send_modify(|registry| {
            let registry = Arc::make_mut(registry);
            let before = registry.nodes[&identity(0)].clone();
            let former_key = before.former_key.map(|former| FormerKey { until, ..former });
            registry.put(Entry::Node(Node { former_key, ..before }));
        });
    }
}

fn open_desk(directory: TempDir) -> Desk {
    open_desk_beside(Ledger::new(), directory)
}

fn open_desk_beside(ledger: Ledger, directory: TempDir) -> Desk {
    let (sender, sent) = mpsc::unbounded_channel();
    let outgoing = Outbox { directory: directory.path().into(), sent: sender }.start().recipient();
    let files = KeyFiles::new(directory.path().join("node.key"));
    let first = KeyFiles::read(files.current()).unwrap().unwrap_or_else(|| key(0));
    let keys = Keys::new(identity(0), first, files, ledger.members.clone());
    let held = keys.held();
    let signer = Signer::open(identity(0), NETWORK, keys, directory.path(), outgoing).unwrap().start();
    Desk { signer, sent, directory, as_sent: None, logged: Cell::default(), held, ledger }
}

fn copy(directory: &Path) -> TempDir {
    let copy = TempDir::new().unwrap();
    for file in std::fs::read_dir(directory).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    copy
}

impl Desk {
    async fn vote(&self, height: u64, round: u32, phase: Phase, block: Option<u8>) -> Option<Signature> {
        let (height, round) = (Height::new(height), Round::new(round));
        let block = block.map(|byte| Hash::from_bytes([byte; 32]));
        let vote = Vote { phase, height, round, block };
        self.signer.send(SignVote { before: self.logged.take(), vote }).await.unwrap()
    }

    async fn propose(&self, height: u64, round: u32, block: u8) -> Option<Signature> {
        let (height, round, block) = (Height::new(height), Round::new(round), Hash::from_bytes([block; 32]));
        let proposal = Proposal { height, round, polka_round: None, block };
        self.signer.send(SignProposal { before: self.logged.take(), proposal }).await.unwrap()
    }

    /// Goes with the next request.
    fn log(&self, height: u64, entry: &str) {
        self.logged.set(Entries { height: Height::new(height), entries: vec![entry.as_bytes().to_vec()] });
    }

    /// Sends something that must not leave before all of the above is on disk.
    async fn publish(&mut self) {
        let vote = Vote { phase: Phase::Prevote, height: Height::new(1), round: Round::new(0), block: None };
        let signed = SignedVote { voter: identity(0), signature: key(0).sign(&vote.digest(&NETWORK)), vote };
        let content = Content::Consensus(ConsensusContent::Wire(Wire::Vote(signed)));
        let stamp = Stamp { recipient: Recipient::All, class: Class::Vote, content };
        let publish = Publish { before: self.logged.take(), stamps: vec![stamp] };
        self.signer.send(publish).await.unwrap();
        let (outgoing, as_sent) = self.sent.recv().await.unwrap();
        assert_eq!(outgoing.class, Class::Vote);
        self.as_sent = Some(as_sent);
    }

    async fn read_log(&self, height: u64) -> Vec<String> {
        let (of, entries) = self.signer.send(ReadLog).await.unwrap();
        assert_eq!(of, Height::new(height));
        entries.into_iter().map(|entry| String::from_utf8(entry).unwrap()).collect()
    }

    /// Another, on the files as they were when the last message left: as after a crash right then.
    fn restart(self) -> Self {
        open_desk_beside(self.ledger, self.as_sent.unwrap_or_else(|| copy(self.directory.path())))
    }

    /// Whether a vote of this height is signed, and holds by this key.
    async fn votes_by(&self, height: u64, key: PublicKey) -> bool {
        let vote = Vote { phase: Phase::Prevote, height: Height::new(height), round: Round::ZERO, block: None };
        let signature = self.vote(height, 0, Phase::Prevote, None).await;
        signature.is_some_and(|signature| key.verify(&vote.digest(&NETWORK), &signature).is_ok())
    }

    /// Whether a message to peers holds by this key alone.
    async fn speaks_by(&self, key: PublicKey) -> bool {
        let content = Content::Text("hello".into());
        let frame = self.signer.send(StampOne { recipient: Recipient::All, content }).await.unwrap();
        let entry = Node { public_key: key, ..node(0, "127.0.0.1:1".into()) };
        let registry = Registry::new(ConsensusMode::Bft, [Entry::Node(entry)]);
        let (me, sender) = (identity(1), identity(0));
        Message::open(&frame, &NETWORK, (&registry, Height::new(1)), &me, &sender, clock::now()).is_ok()
    }

    /// The Signer has taken up this key.
    async fn holds(&mut self, key: PublicKey) {
        let held = self.held.wait_for(|held| held.contains(&key));
        tokio::time::timeout(Duration::from_secs(20), held).await.expect("it is taken up").unwrap();
    }

    fn write_key(&self, name: &str) -> PublicKey {
        write_key(&self.directory, name)
    }

    fn key_in(&self, name: &str) -> Option<PublicKey> {
        KeyFiles::read(&self.directory.path().join(name)).unwrap().map(|key| key.public_key())
    }
}

/// Writes a key's file; its public part.
fn write_key(directory: &TempDir, name: &str) -> PublicKey {
    let (made, path) = (generate_key().unwrap(), directory.path().join(name));
    fs::write(&path, made.pem).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    made.public_key
}

/// A node whose key is in a file, as its operator has it.
fn open_desk_with_file() -> (Desk, PublicKey) {
    let (directory, ledger) = (new_node(), Ledger::new());
    let key = write_key(&directory, "node.key");
    ledger.replace_key(0, key, None);
    (open_desk_beside(ledger, directory), key)
}

#[actix_rt::test]
async fn a_new_key_signs_from_where_the_ledger_says_and_takes_the_place_of_the_one_before() {
    let (mut desk, before) = open_desk_with_file();
    let next = desk.write_key("node.key.next");
    // Not before the ledger has it.
    assert!(desk.votes_by(5, before).await && desk.speaks_by(before).await);
    let until = clock::now().plus_millis(3_600_000);
    desk.ledger.replace_key(5, next, Some(until));
    desk.holds(next).await;
    // The height that follows is still the former key's, and messages are as long as that is good.
    assert!(desk.votes_by(6, before).await);
    assert!(desk.votes_by(7, next).await);
    assert!(desk.speaks_by(before).await);
    let held = ["node.key", "node.key.former", "node.key.next"].map(|name| desk.key_in(name));
    assert_eq!(held, [Some(next), Some(before), None]);

    // Started again within the overlap it still has both.
    let mut desk = desk.restart();
    desk.holds(before).await;
    assert!(desk.speaks_by(before).await && desk.votes_by(8, next).await);
    desk.ledger.replace_key(8, next, None);
    assert!(desk.speaks_by(next).await);
}

#[actix_rt::test]
async fn a_node_that_is_behind_speaks_by_the_key_in_use_and_the_former_one_ends_early() {
    let (mut desk, before) = open_desk_with_file();
    let next = desk.write_key("node.key.next");
    desk.ledger.replace_key(5, next, Some(clock::now().plus_millis(3_600_000)));
    desk.holds(next).await;
    assert!(desk.speaks_by(before).await);
    // Another's clock may be ahead by as much as is tolerated.
    desk.ledger.former_key_until(clock::now().plus_millis(CLOCK_WINDOW_MILLIS / 2));
    assert!(desk.speaks_by(next).await);
    // Wiped: its ledger says again what genesis said. The others know the new key alone.
    let fresh = Ledger::new();
    fresh.replace_key(0, before, None);
    let desk = open_desk_beside(fresh, copy(desk.directory.path()));
    assert!(desk.speaks_by(next).await);
    desk.ledger.replace_key(5, next, None);
    assert!(desk.speaks_by(next).await && desk.votes_by(7, next).await);
}

#[actix_rt::test]
async fn a_key_that_is_not_there_is_waited_for_and_nothing_is_voted_meanwhile() {
    let (mut desk, before) = open_desk_with_file();
    let next = generate_key().unwrap();
    desk.ledger.replace_key(5, next.public_key, None);
    assert!(desk.votes_by(6, before).await);
    assert_eq!(desk.vote(7, 0, Phase::Prevote, None).await, None);
    // Any other key is left where it is.
    let other = desk.write_key("node.key.next");
    assert_eq!(desk.vote(7, 0, Phase::Prevote, None).await, None);
    assert_eq!(desk.key_in("node.key.next"), Some(other));
    fs::write(desk.directory.path().join("node.key.next"), next.pem).unwrap();
    desk.holds(next.public_key).await;
    assert!(desk.votes_by(7, next.public_key).await && desk.speaks_by(next.public_key).await);
    assert_eq!(desk.key_in("node.key"), Some(next.public_key));
}

#[actix_rt::test]
async fn a_second_different_vote_is_refused_also_after_a_restart_and_the_same_again_is_not() {
    use Phase::{Precommit, Prevote};
    let mut desk = open_desk(new_node());
    let prevote = desk.vote(5, 0, Prevote, Some(1)).await.unwrap();
    let precommit = desk.vote(5, 0, Precommit, None).await.unwrap();
    let proposal = desk.propose(5, 1, 3).await.unwrap();
    desk.publish().await;
    for _ in 0..2 {
        // The different one first: asked for again, the same one would be known from then on.
        assert_eq!(desk.vote(5, 0, Prevote, Some(2)).await, None);
        assert_eq!(desk.vote(5, 0, Prevote, None).await, None);
        assert_eq!(desk.vote(5, 0, Prevote, Some(1)).await, Some(prevote));
        assert_eq!(desk.vote(5, 0, Precommit, Some(1)).await, None);
        assert_eq!(desk.vote(5, 0, Precommit, None).await, Some(precommit));
        assert_eq!(desk.propose(5, 1, 4).await, None);
        assert_eq!(desk.propose(5, 1, 3).await, Some(proposal));
        assert_eq!(desk.vote(4, 0, Prevote, Some(1)).await, None);
        desk = desk.restart();
    }
    assert!(desk.vote(5, 1, Prevote, Some(2)).await.is_some());
}

#[actix_rt::test]
async fn a_height_that_is_done_is_never_signed_for_again() {
    use Phase::Prevote;
    let mut desk = open_desk(new_node());
    desk.vote(5, 0, Prevote, Some(1)).await.unwrap();
    desk.publish().await;
    assert!(desk.vote(6, 0, Prevote, Some(1)).await.is_some());
    assert_eq!(desk.vote(5, 0, Prevote, Some(1)).await, None);
    assert_eq!(desk.vote(5, 3, Prevote, Some(1)).await, None);
    // Before anything of height 6 is on disk, the log is still that of 5: nothing is forgotten.
    let mut desk = desk.restart();
    assert_eq!(desk.vote(5, 0, Prevote, Some(2)).await, None);
    desk.vote(6, 0, Prevote, Some(2)).await.unwrap();
    desk.publish().await;
    let desk = desk.restart();
    assert_eq!(desk.vote(5, 9, Prevote, Some(2)).await, None);
    assert_eq!(desk.vote(6, 0, Prevote, Some(3)).await, None);
}

#[actix_rt::test]
async fn the_log_of_a_height_is_read_back_in_order_and_of_no_other() {
    let mut desk = open_desk(new_node());
    desk.log(5, "one");
    desk.vote(5, 0, Phase::Prevote, None).await.unwrap();
    desk.log(5, "two");
    desk.publish().await;
    desk.log(5, "not published");
    desk.vote(5, 1, Phase::Prevote, None).await.unwrap();
    let desk = desk.restart();
    assert_eq!(desk.read_log(5).await, ["one", "two"]);
}

#[actix_rt::test]
async fn of_transactions_it_signs_reports_of_its_own_alone() {
    let desk = open_desk(new_node());
    let prevote = |block| {
        let vote = Vote { phase: Phase::Prevote, height: Height::new(3), round: Round::ZERO, block };
        SignedVote { voter: identity(1), signature: key(1).sign(&vote.digest(&NETWORK)), vote }
    };
    let evidence = Evidence::Votes { first: prevote(None), second: prevote(Some(Hash::ZERO)) };
    let [created, expires] = [1, 2].map(Timestamp::from_millis);
    let request = SignEvidence { evidence: evidence.clone(), created, expires };
    let signed = desk.signer.send(request).await.unwrap();
    let (_, body) = open(TransactionBytes::from(&signed).as_slice()).unwrap();
    assert_eq!((body.network, body.author, body.created, body.expires), (NETWORK, identity(0), created, expires));
    assert_eq!(body.operation, Operation::Evidence(evidence.into()));
    assert_eq!(key(0).public_key().verify(&id_of(&NETWORK, &signed.body), &signed.signature), Ok(()));
}

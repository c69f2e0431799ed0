//! The Signer: never two votes where one is allowed, not after a restart either.

use std::{
    cell::Cell,
    path::{Path, PathBuf},
};

use actix::{Actor, Addr, Context, Handler};
use minidlt_actors::{
    messages::{
        network::{Class, Outgoing},
        signer::{Entries, Publish, ReadLog, SignEvidence, SignProposal, SignVote, Stamp},
    },
    signer::Signer,
};
use minidlt_protocol::{
    consensus::Wire,
    crypto::Signature,
    evidence::Evidence,
    message::{ConsensusContent, Content, Recipient},
    transaction::{Operation, TransactionBytes, id_of, open},
    types::{Hash, Height, Round, Timestamp},
    vote::{Phase, Proposal, SignedVote, Vote},
};
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::cluster::{identity, key, new_node};

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
}

fn open_desk(directory: TempDir) -> Desk {
    let (sender, sent) = mpsc::unbounded_channel();
    let outgoing = Outbox { directory: directory.path().into(), sent: sender }.start().recipient();
    let signer = Signer::open(identity(0), NETWORK, key(0), directory.path(), outgoing).unwrap().start();
    Desk { signer, sent, directory, as_sent: None, logged: Cell::default() }
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
        open_desk(self.as_sent.unwrap_or_else(|| copy(self.directory.path())))
    }
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

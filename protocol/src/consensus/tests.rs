//! Single cores, step by step. Whole networks are in `tests/simulation.rs`.

mod traps;

use super::*;
use crate::{
    codec,
    crypto::{SecretKey, Signature},
    types::{Hash, Height, Identity, Round},
    vote::{CommitSignature, ConsensusMode, Phase, Proposal, SignedProposal, SignedVote, Vote, Voter, Voters},
};

const NETWORK: Hash = Hash::from_bytes([9; 32]);
const HEIGHT: Height = Height::new(4);

fn key(node: u8) -> SecretKey {
    SecretKey::from_bytes(&[node + 1; 32]).unwrap()
}

fn id(node: u8) -> Identity {
    format!("node{node}@Org").parse().unwrap()
}

fn voters(mode: ConsensusMode, count: u8) -> Voters {
    Voters::new(mode, (0..count).map(|i| Voter { identity: id(i), key: key(i).public_key() }).collect())
}

fn block(n: u8) -> Hash {
    Hash::from_bytes([n; 32])
}

fn signed(node: u8, vote: Vote) -> SignedVote {
    let signature = key(node).sign(&vote.digest(&NETWORK));
    SignedVote { voter: id(node), vote, signature }
}

fn vote(node: u8, phase: Phase, round: u32, block: Option<Hash>) -> Wire {
    Wire::Vote(signed(node, Vote { phase, height: HEIGHT, round: Round::new(round), block }))
}

/// With four voters, node 0 proposes in round 0 of height 4, node 1 in round 1, and so on.
fn proposal(round: u32, block: Hash, polka_round: Option<u32>) -> Wire {
    let node = ((HEIGHT.get() + u64::from(round)) % 4) as u8;
    let polka_round = polka_round.map(Round::new);
    let proposal = Proposal { height: HEIGHT, round: Round::new(round), polka_round, block };
    let signature = key(node).sign(&proposal.digest(&NETWORK));
    Wire::Proposal(SignedProposal { proposer: id(node), proposal, signature })
}

fn polka(round: u32, block: Hash, signers: &[u8]) -> PolkaCertificate {
    let mut polka = PolkaCertificate { height: HEIGHT, round: Round::new(round), block, signatures: vec![] };
    let digest = polka.vote().digest(&NETWORK);
    polka.signatures =
        signers.iter().map(|i| CommitSignature { voter: id(*i), signature: key(*i).sign(&digest) }).collect();
    polka
}

struct Holder {
    key: SecretKey,
    refuses: bool,
}

impl Signer for Holder {
    fn sign_vote(&mut self, vote: &Vote) -> Option<Signature> {
        (!self.refuses).then(|| self.key.sign(&vote.digest(&NETWORK)))
    }

    fn sign_proposal(&mut self, proposal: &Proposal) -> Option<Signature> {
        (!self.refuses).then(|| self.key.sign(&proposal.digest(&NETWORK)))
    }
}

/// A core with its shell's log.
struct Bench {
    core: Core,
    signer: Holder,
    voters: Voters,
    me: u8,
    log: Vec<LogEntry>,
}

impl Bench {
    fn new(me: u8, mode: ConsensusMode) -> (Self, Vec<Output>) {
        Self::with(me, voters(mode, 4), Vec::new(), false)
    }

    fn with(me: u8, voters: Voters, log: Vec<LogEntry>, refuses: bool) -> (Self, Vec<Output>) {
        let mut signer = Holder { key: key(me), refuses };
        let settings = Settings { me: id(me), voters: voters.clone(), height: HEIGHT, timeouts: Timeouts::default() };
        let (core, outputs) = Core::start(settings, log.clone(), &mut signer).unwrap();
        let mut bench = Self { core, signer, voters, me, log };
        bench.keep(&outputs);
        (bench, outputs)
    }

    /// What a crash leaves: the log.
    fn restart(self) -> (Self, Vec<Output>) {
        Self::with(self.me, self.voters, self.log, self.signer.refuses)
    }

    fn keep(&mut self, outputs: &[Output]) {
        self.log.extend(outputs.iter().filter_map(|output| match output {
            Output::Log(entry) => Some(entry.clone()),
            _ => None,
        }));
    }

    fn step(&mut self, input: Input) -> Vec<Output> {
        let outputs = self.core.step(input, &mut self.signer);
        self.keep(&outputs);
        outputs
    }

    fn hear(&mut self, message: Wire) -> Vec<Output> {
        let message = message.verify(&NETWORK, &self.voters).unwrap();
        self.step(Input::Message(message))
    }

    fn fire(&mut self, round: u32, kind: TimerKind) -> Vec<Output> {
        self.step(Input::Timeout(Timer { height: HEIGHT, round: Round::new(round), kind }))
    }

    fn propose(&mut self, round: u32, block: Hash, polka_round: Option<u32>) -> Vec<Output> {
        let mut outputs = self.hear(proposal(round, block, polka_round));
        outputs.extend(self.step(Input::Body { block, valid: true }));
        outputs
    }
}

fn sent(outputs: &[Output]) -> Vec<&Wire> {
    let mut all = Vec::new();
    for output in outputs {
        if let Output::Broadcast(wire) = output {
            all.push(wire);
        }
    }
    all
}

fn refused(outputs: &[Output], by: Refusal) {
    assert_eq!(outputs, [Output::Refused(by)]);
}

#[test]
fn a_voter_alone_decides_alone() {
    for mode in [ConsensusMode::Bft, ConsensusMode::FullConsent] {
        let alone = voters(mode, 1);
        let (mut bench, outputs) = Bench::with(0, alone.clone(), vec![], false);
        assert!(outputs.contains(&Output::NeedBlock { round: Round::ZERO }));
        let outputs = bench.step(Input::Built { round: Round::ZERO, block: block(1) });
        let Some(Output::Decided(certificate)) = outputs.last() else { panic!("{outputs:?}") };
        assert_eq!((certificate.block, certificate.verify(&NETWORK, &alone)), (block(1), Ok(())));
        assert_eq!(bench.core.status().step, Step::Decided);
        refused(&bench.step(Input::Body { block: block(1), valid: true }), Refusal::Decided);
        // Crashed before the block was stored: the log leads there again.
        let (_, outputs) = bench.restart();
        assert!(matches!(&outputs[..], [Output::Decided(again)] if again == certificate), "{outputs:?}");
    }
}

#[test]
fn every_promise_is_logged_before_it_leaves() {
    let (mut bench, _) = Bench::new(0, ConsensusMode::Bft);
    let mut outputs = bench.step(Input::Built { round: Round::ZERO, block: block(1) });
    for node in [1, 2] {
        outputs.extend(bench.hear(vote(node, Phase::Prevote, 0, Some(block(1)))));
    }
    let mut logged = Vec::new();
    for output in &outputs {
        match output {
            Output::Log(LogEntry::Vote(vote)) => logged.push(Wire::Vote(vote.clone())),
            Output::Log(LogEntry::Proposal(proposal)) => logged.push(Wire::Proposal(proposal.clone())),
            Output::Broadcast(wire) => assert!(logged.contains(wire), "{wire:?}"),
            _ => {}
        }
    }
    assert_eq!(sent(&outputs).len(), 3, "proposal, prevote, precommit: {outputs:?}");
    assert_eq!(bench.core.status().locked, Some((Round::ZERO, block(1))));
}

#[test]
fn a_restart_says_the_same_again_and_keeps_the_lock() {
    let (mut bench, _) = Bench::new(1, ConsensusMode::Bft);
    bench.propose(0, block(1), None);
    for node in [0, 2] {
        bench.hear(vote(node, Phase::Prevote, 0, Some(block(1))));
    }
    let before = bench.core.status();
    assert_eq!(before.step, Step::Precommit);
    let (mut bench, outputs) = bench.restart();
    assert_eq!(bench.core.status(), before);
    let said = [vote(1, Phase::Prevote, 0, Some(block(1))), vote(1, Phase::Precommit, 0, Some(block(1)))];
    assert_eq!(sent(&outputs), said.iter().collect::<Vec<_>>());
    assert!(!outputs.iter().any(|output| matches!(output, Output::Log(_))));
    // In the next round the lock holds: another block gets a nil prevote.
    for node in [0, 2] {
        bench.hear(vote(node, Phase::Precommit, 0, None));
    }
    bench.fire(0, TimerKind::Precommit);
    bench.hear(vote(0, Phase::Prevote, 1, None));
    let (mut bench, _) = bench.restart();
    assert_eq!(bench.core.status().round, Round::new(1), "and we are its proposer, with our locked block");
    bench.hear(vote(2, Phase::Prevote, 1, None));
    assert_eq!(bench.core.status().locked, Some((Round::ZERO, block(1))));
}

#[test]
fn a_signer_that_refuses_is_asked_again() {
    let (mut bench, _) = Bench::new(1, ConsensusMode::FullConsent);
    bench.signer.refuses = true;
    let outputs = bench.propose(0, block(1), None);
    assert!(sent(&outputs).is_empty());
    assert!(outputs.contains(&Output::Fault(Fault::VoteNotSigned { phase: Phase::Prevote, round: Round::ZERO })));
    for node in [0, 2, 3] {
        bench.hear(vote(node, Phase::Prevote, 0, Some(block(1))));
    }
    assert_eq!(bench.core.status().prevotes.get(&id(1)), None);
    assert!(sent(&bench.fire(0, TimerKind::Rebroadcast)).is_empty());
    bench.signer.refuses = false;
    let outputs = bench.fire(0, TimerKind::Rebroadcast);
    let said = [vote(1, Phase::Prevote, 0, Some(block(1))), vote(1, Phase::Precommit, 0, Some(block(1)))];
    assert!(said.iter().all(|vote| sent(&outputs).contains(&vote)), "{outputs:?}");
    // The log has them late, and replays to the same state.
    let before = bench.core.status();
    let (bench, outputs) = bench.restart();
    assert_eq!(bench.core.status(), before);
    assert!(!outputs.iter().any(|output| matches!(output, Output::Fault(_))), "{outputs:?}");
}

#[test]
fn a_refused_proposal_costs_its_round_and_no_more() {
    let (mut bench, _) = Bench::new(0, ConsensusMode::Bft);
    bench.signer.refuses = true;
    let outputs = bench.step(Input::Built { round: Round::ZERO, block: block(1) });
    assert!(outputs.contains(&Output::Fault(Fault::ProposalNotSigned(Round::ZERO))));
    let waits = |output: &Output| matches!(output, Output::Schedule(timer, _) if timer.kind == TimerKind::Propose);
    assert!(outputs.iter().any(waits), "{outputs:?}");
    bench.signer.refuses = false;
    let outputs = bench.fire(0, TimerKind::Rebroadcast);
    assert!(matches!(sent(&outputs)[..], [Wire::Vote(_), Wire::Proposal(_)]), "{outputs:?}");
    assert!(outputs.contains(&Output::SendBody { round: Round::ZERO, block: block(1) }));
}

#[test]
fn what_is_not_signed_by_who_it_says_is_not_verified() {
    let voters = voters(ConsensusMode::Bft, 4);
    let check = |wire: Wire| wire.verify(&NETWORK, &voters).map(|_| ());
    let Wire::Vote(mut forged) = vote(1, Phase::Prevote, 0, None) else { unreachable!() };
    forged.voter = id(2);
    assert!(matches!(check(Wire::Vote(forged)), Err(WireError::Signature { .. })));
    assert_eq!(check(vote(7, Phase::Prevote, 0, None)), Err(WireError::NotAVoter(id(7))));
    let Wire::Proposal(mut usurped) = proposal(0, block(1), None) else { unreachable!() };
    usurped.proposer = id(2);
    assert!(matches!(check(Wire::Proposal(usurped)), Err(WireError::NotTheProposer { .. })));
    assert!(matches!(check(proposal(1, block(1), Some(1))), Err(WireError::PolkaNotBefore { .. })));
    assert_eq!(check(Wire::Polka(polka(0, block(1), &[0, 1, 2]))), Ok(()));
    assert_eq!(check(Wire::Polka(polka(0, block(1), &[0, 1]))), Err(WireError::Count { count: 2, least: 3, most: 4 }));
    assert!(check(vote(1, Phase::Precommit, 0, Some(block(1)))).is_ok());
    let elsewhere = vote(1, Phase::Precommit, 0, None).verify(&Hash::ZERO, &voters);
    assert!(matches!(elsewhere, Err(WireError::Signature { .. })));
}

#[test]
fn a_polka_unlocks_and_is_logged() {
    let (mut bench, _) = Bench::new(3, ConsensusMode::Bft);
    bench.hear(Wire::Polka(polka(0, block(1), &[0, 1, 2])));
    refused(&bench.hear(Wire::Polka(polka(0, block(1), &[0, 1, 2]))), Refusal::Repeat);
    for node in [0, 1] {
        bench.hear(vote(node, Phase::Prevote, 1, Some(block(1))));
    }
    let outputs = bench.propose(1, block(1), Some(0));
    assert!(sent(&outputs).contains(&&vote(3, Phase::Prevote, 1, Some(block(1)))), "{outputs:?}");
    let before = bench.core.status();
    assert_eq!(bench.restart().0.core.status(), before);
}

#[test]
fn who_may_not_vote_gets_no_core() {
    let start = |me, voters| {
        let settings = Settings { me, voters, height: HEIGHT, timeouts: Timeouts::default() };
        Core::start(settings, vec![], &mut Holder { key: key(0), refuses: false }).map(|_| ())
    };
    assert_eq!(start(id(9), voters(ConsensusMode::Bft, 4)), Err(StartError::NotAVoter(id(9))));
    assert_eq!(start(id(0), voters(ConsensusMode::Bft, 0)), Err(StartError::NotAVoter(id(0))));
}

#[test]
fn a_log_of_another_height_is_not_replayed() {
    let timer = Timer { height: Height::new(3), round: Round::ZERO, kind: TimerKind::Propose };
    let settings =
        Settings { me: id(0), voters: voters(ConsensusMode::Bft, 4), height: HEIGHT, timeouts: Timeouts::default() };
    let started = Core::start(settings, vec![LogEntry::Timeout(timer)], &mut Holder { key: key(0), refuses: false });
    assert!(matches!(started.map(|_| ()), Err(StartError::ForeignEntry { at: 0, .. })));
}

#[test]
fn messages_and_log_entries_come_back_as_they_went() {
    let messages = [
        proposal(1, block(1), Some(0)),
        vote(1, Phase::Precommit, 0, None),
        Wire::Polka(polka(0, block(1), &[0, 1, 2])),
    ];
    for message in messages {
        let bytes = codec::encode(&message);
        assert_eq!(codec::decode_canonical::<Wire>(&bytes, bytes.len()), Ok(message));
    }
    let (mut bench, _) = Bench::new(1, ConsensusMode::Bft);
    bench.propose(0, block(1), None);
    bench.hear(Wire::Polka(polka(0, block(1), &[0, 2, 3])));
    assert_eq!(bench.log.len(), 5, "proposal, body, prevote, polka, precommit");
    for entry in bench.log {
        let bytes = codec::encode(&entry);
        assert_eq!(codec::decode_canonical::<LogEntry>(&bytes, bytes.len()), Ok(entry));
    }
}

#[test]
fn a_round_names_those_who_did_not_accept_its_block() {
    let names = |core: &Core| core.missing(Round::ZERO).iter().map(|one| one.name.to_string()).collect::<Vec<_>>();
    let (mut bench, _) = Bench::new(1, ConsensusMode::Bft);
    bench.propose(0, block(1), None);
    assert_eq!(names(&bench.core), ["node0", "node2", "node3"], "we have accepted it");
    bench.hear(vote(0, Phase::Prevote, 0, Some(block(1))));
    bench.hear(vote(2, Phase::Prevote, 0, None));
    assert_eq!(names(&bench.core), ["node2", "node3"], "nil is no acceptance of a block that is there");
    bench.hear(vote(3, Phase::Prevote, 0, Some(block(1))));
    assert_eq!(names(&bench.core), ["node0", "node2", "node3"], "a quorum has: now it waits for precommits");
    bench.hear(vote(0, Phase::Precommit, 0, Some(block(1))));
    assert_eq!(names(&bench.core), ["node2", "node3"]);
}

#[test]
fn a_round_without_a_proposal_names_those_who_are_silent() {
    let names = |core: &Core| core.missing(Round::ZERO).iter().map(|one| one.name.to_string()).collect::<Vec<_>>();
    let (mut bench, _) = Bench::new(1, ConsensusMode::Bft);
    assert_eq!(names(&bench.core), ["node0"], "all wait for the proposer");
    bench.fire(0, TimerKind::Propose);
    bench.hear(vote(2, Phase::Prevote, 0, None));
    assert_eq!(names(&bench.core), ["node0", "node3"], "those who say so are not missing");
    bench.propose(0, block(1), None);
    bench.hear(vote(0, Phase::Prevote, 0, Some(block(1))));
    assert_eq!(names(&bench.core), ["node3"], "it comes late: we did not accept it either");
}

//! A course of events at one height, as three liars among four could bring about who sign whatever
//! they like: votes, proposals and certificates in any order, alarms, verdicts, crashes. What the
//! fourth, honest one says comes back to it, and nothing that it did not say.
//!
//! Three bytes an event: what, by whom and for which round, about which block.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use minidlt_protocol::{
    consensus::{
        Core, Input, LogEntry, Output, PolkaCertificate, RoundCertificate, RoundReason, RoundVote, Settings, Signer,
        Timeouts, Timer, TimerKind, Verified, VoteGuard, Wire,
    },
    crypto::{SecretKey, Signature},
    types::{Hash, Height, Identity, Round},
    vote::{CommitSignature, Phase, Proposal, SignedProposal, SignedVote, Vote},
};

use super::{
    fixture::{NETWORK, sign_wire},
    network::{node, node_key},
};

const HEIGHT: Height = Height::new(1);
const ME: u8 = 0;
/// Enough for a few rounds; a longer course shows nothing new.
const MOST_EVENTS: usize = 96;

type Event = [u8; 3];

pub fn run(bytes: &[u8]) {
    let mut life = Life::begin();
    for event in bytes.as_chunks::<3>().0.iter().take(MOST_EVENTS) {
        life.meet(*event);
        if life.decided {
            break;
        }
    }
    // Whatever happened, it is taken up again as it was.
    life.crash();
}

fn block_of(byte: u8) -> Option<Hash> {
    match byte % 4 {
        0 => None,
        number => Some(Hash::from_bytes([number; 32])),
    }
}

/// Signs as the guard allows, and remembers what it signed: the disk of a node.
struct Keys {
    key: SecretKey,
    guard: VoteGuard,
}

impl Signer for Keys {
    fn sign_vote(&mut self, vote: &Vote) -> Option<Signature> {
        self.guard.vote(vote).ok()?;
        Some(self.key.sign(&vote.digest(&NETWORK.id)))
    }

    fn sign_proposal(&mut self, proposal: &Proposal) -> Option<Signature> {
        self.guard.proposal(proposal).ok()?;
        Some(self.key.sign(&proposal.digest(&NETWORK.id)))
    }
}

/// What has left the node, whatever it forgot since.
#[derive(Default)]
struct Said {
    votes: BTreeMap<(Round, Phase), Option<Hash>>,
    proposals: BTreeMap<Round, (Option<Round>, Hash)>,
}

impl Said {
    fn hear(&mut self, wire: &Wire) {
        match wire {
            Wire::Vote(signed) if signed.voter == node(ME) => {
                let Vote { phase, round, block, .. } = signed.vote;
                let said = *self.votes.entry((round, phase)).or_insert(block);
                assert_eq!(said, block, "a second, different {phase:?} of round {round} left the node");
            }
            Wire::Proposal(signed) if signed.proposer == node(ME) => {
                let Proposal { round, polka_round, block, .. } = signed.proposal;
                let said = *self.proposals.entry(round).or_insert((polka_round, block));
                assert_eq!(said, (polka_round, block), "a second, different proposal of round {round} left the node");
            }
            _ => {}
        }
    }
}

struct Life {
    core: Core,
    keys: Keys,
    log: Vec<LogEntry>,
    said: Said,
    /// What was sent, to come back.
    sent: Vec<Verified>,
    /// The alarms that are set.
    alarms: BTreeSet<Timer>,
    /// Blocks whose bodies were asked for, and rounds for which one is to be built.
    asked: Vec<Hash>,
    valid: BTreeSet<Hash>,
    build: Vec<Round>,
    decided: bool,
}

fn settings() -> Settings {
    Settings { me: node(ME), voters: NETWORK.voters.clone(), height: HEIGHT, timeouts: Timeouts::default() }
}

impl Life {
    fn begin() -> Self {
        let mut keys = Keys { key: node_key(ME), guard: VoteGuard::default() };
        let (core, outputs) = Core::start(settings(), Vec::new(), &mut keys).expect("a voter can begin");
        let mut life = Self {
            core,
            keys,
            log: Vec::new(),
            said: Said::default(),
            sent: Vec::new(),
            alarms: BTreeSet::new(),
            asked: Vec::new(),
            valid: BTreeSet::new(),
            build: Vec::new(),
            decided: false,
        };
        life.carry_out(outputs);
        life
    }

    fn meet(&mut self, [what, who, about]: Event) {
        let (voter, round, block) = (1 + who % 3, Round::new(u32::from(who / 4 % 8)), block_of(about));
        let message = |wire| messages(wire).map(Input::Message);
        let input = match what % 11 {
            0 | 1 => {
                let phase = if what % 11 == 0 { Phase::Prevote } else { Phase::Precommit };
                message(vote(voter, phase, round, block))
            }
            2 => block.and_then(|block| message(proposal(voter, round, about, block))),
            3 => block.and_then(|block| message(polka(round, block, about))),
            4 => message(skip(round, block, about)),
            5 => self.alarms.iter().nth(usize::from(who) % self.alarms.len().max(1)).copied().map(Input::Timeout),
            6 => {
                // One that was never set, or has gone off.
                let kinds = [TimerKind::Propose, TimerKind::Prevote, TimerKind::Precommit, TimerKind::Rebroadcast];
                Some(Input::Timeout(Timer { height: HEIGHT, round, kind: kinds[usize::from(about % 4)] }))
            }
            7 => {
                let asked = self.asked.get(usize::from(who) % self.asked.len().max(1)).copied().or(block);
                asked.map(|block| {
                    // A verdict may turn from invalid to valid, never back.
                    let valid = about / 4 % 4 != 0 || self.valid.contains(&block);
                    if valid {
                        self.valid.insert(block);
                    }
                    Input::Body { block, valid }
                })
            }
            8 => {
                let round = self.build.pop().unwrap_or(round);
                block.map(|block| {
                    self.valid.insert(block);
                    Input::Built { round, block }
                })
            }
            9 => self.sent.get(usize::from(who) % self.sent.len().max(1)).cloned().map(Input::Message),
            _ => {
                self.crash();
                None
            }
        };
        if let (Some(input), false) = (input, self.decided) {
            if let Input::Timeout(timer) = &input {
                self.alarms.remove(timer);
            }
            let outputs = self.core.step(input, &mut self.keys);
            self.carry_out(outputs);
        }
    }

    fn carry_out(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            assert!(!self.decided, "nothing comes after a decision");
            match output {
                Output::Log(entry) => self.log.push(entry),
                Output::Broadcast(wire) => {
                    self.said.hear(&wire);
                    self.sent.push(wire.verify(&NETWORK.id, &NETWORK.voters).expect("what it sends holds"));
                }
                Output::Schedule(timer, _) => {
                    self.alarms.insert(timer);
                }
                Output::Cancel(timer) => {
                    self.alarms.remove(&timer);
                }
                Output::CancelAll => self.alarms.clear(),
                Output::NeedBody { block, .. } => self.asked.push(block),
                Output::NeedBlock { round } => self.build.push(round),
                Output::Decided(certificate) => {
                    certificate.verify(&NETWORK.id, &NETWORK.voters).expect("a decision has its quorum");
                    self.decided = true;
                }
                Output::SendBody { .. } | Output::Equivocation(_) | Output::Refused(_) | Output::Fault(_) => {}
            }
        }
    }

    /// The process ends and begins again with what was logged, and what its signer remembers.
    fn crash(&mut self) {
        let (decided, log) = (self.decided, self.log.clone());
        let (core, outputs) = Core::start(settings(), log, &mut self.keys).expect("its own log can be read");
        (self.core, self.decided) = (core, false);
        self.alarms.clear();
        self.asked.clear();
        self.build.clear();
        self.carry_out(outputs);
        assert!(!decided || self.decided, "the log leads to the same decision again");
    }
}

thread_local! {
    /// Signing takes longer than all else, and there are only so many messages.
    static MADE: RefCell<BTreeMap<Vec<u8>, Option<Verified>>> = const { RefCell::new(BTreeMap::new()) };
}

/// The message, signed and checked; none where it does not hold, or would be the honest one's.
fn messages(mut wire: Wire) -> Option<Verified> {
    if matches!(&wire, Wire::Proposal(signed) if signed.proposer == node(ME)) {
        return None;
    }
    let unsigned = minidlt_protocol::codec::encode(&wire);
    MADE.with_borrow_mut(|made| {
        let verified = made.entry(unsigned).or_insert_with(|| {
            sign_wire(&mut wire);
            wire.verify(&NETWORK.id, &NETWORK.voters).ok()
        });
        verified.clone()
    })
}

const UNSIGNED: Signature = Signature::from_bytes([0; 64]);

fn vote(voter: u8, phase: Phase, round: Round, block: Option<Hash>) -> Wire {
    Wire::Vote(SignedVote {
        voter: node(voter),
        vote: Vote { phase, height: HEIGHT, round, block },
        signature: UNSIGNED,
    })
}

fn proposal(voter: u8, round: Round, about: u8, block: Hash) -> Wire {
    let polka_round = (about / 4 % 2 == 1).then(|| Round::new(u32::from(about / 8 % 8)));
    // By whose turn it is, or by any.
    let turn = NETWORK.voters.proposer(HEIGHT, round).map(|proposer| proposer.identity.clone());
    let proposer = if about & 0x80 == 0 { turn.unwrap_or_else(|| node(voter)) } else { node(voter) };
    Wire::Proposal(SignedProposal {
        proposer,
        proposal: Proposal { height: HEIGHT, round, polka_round, block },
        signature: UNSIGNED,
    })
}

/// Who is in a certificate: all three liars, or two of them.
fn signers(about: u8) -> impl Iterator<Item = Identity> {
    let absent = about / 4 % 5;
    (1..4).filter(move |voter| *voter != absent).map(node)
}

fn polka(round: Round, block: Hash, about: u8) -> Wire {
    let signatures = signers(about).map(|voter| CommitSignature { voter, signature: UNSIGNED }).collect();
    Wire::Polka(PolkaCertificate { height: HEIGHT, round, block, signatures })
}

fn skip(round: Round, block: Option<Hash>, about: u8) -> Wire {
    let precommits = about & 0x40 == 0;
    let reason = if precommits { RoundReason::Precommit } else { RoundReason::Skip };
    let phase = if precommits || about & 0x80 == 0 { Phase::Precommit } else { Phase::Prevote };
    let vote =
        |(at, voter)| RoundVote { voter, phase, block: if at % 2 == 0 { block } else { None }, signature: UNSIGNED };
    let votes = signers(about).enumerate().map(vote).collect();
    Wire::Round(RoundCertificate { height: HEIGHT, round, reason, votes })
}

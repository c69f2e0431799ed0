//! Traps of the consensus library: each of these fails if what keeps this driver out of the trap is
//! taken away. The table in the README of this crate names them, and those that are elsewhere.

use super::*;

/// Nil votes of these nodes that lead to this round, or to the one after it.
fn round_certificate(round: u32, reason: RoundReason, nodes: &[u8]) -> Wire {
    let (round, height) = (Round::new(round), HEIGHT);
    let phase = match reason {
        RoundReason::Skip => Phase::Prevote,
        RoundReason::Precommit => Phase::Precommit,
    };
    let vote = |node: &u8| {
        let SignedVote { voter, signature, .. } = signed(*node, Vote { phase, height, round, block: None });
        RoundVote { voter, phase, block: None, signature }
    };
    Wire::Round(RoundCertificate { height, round, reason, votes: nodes.iter().map(vote).collect() })
}

fn accusations(outputs: &[Output]) -> usize {
    outputs.iter().filter(|output| matches!(output, Output::Equivocation(_))).count()
}

#[test]
fn a_node_that_lost_its_log_does_not_contradict_what_others_remember() {
    let (mut bench, _) = Bench::new(1, ConsensusMode::Bft);
    bench.hear(vote(1, Phase::Prevote, 0, Some(block(1))));
    let outputs = bench.fire(0, TimerKind::Propose);
    assert!(sent(&outputs).is_empty(), "{outputs:?}");
    assert!(outputs.iter().any(|output| matches!(output, Output::Fault(Fault::Guard(_)))));
}

/// A block that others decided in a later round would lead there and is not in the log. What was voted
/// in that round is, and holds also when the node gets there again on another way.
#[test]
fn a_vote_in_the_log_holds_though_what_led_to_its_round_is_lost() {
    let (mut bench, _) = Bench::new(3, ConsensusMode::Bft);
    bench.log = [Phase::Prevote, Phase::Precommit]
        .map(|phase| LogEntry::Vote(signed(3, Vote { phase, height: HEIGHT, round: Round::new(1), block: None })))
        .to_vec();
    let (mut bench, _) = bench.restart();
    assert_eq!(bench.core.status().round, Round::ZERO);
    bench.hear(round_certificate(0, RoundReason::Precommit, &[0, 1, 2]));
    bench.fire(0, TimerKind::Precommit);
    let mut outputs = bench.propose(1, block(2), None);
    for node in [0, 1, 2] {
        outputs.extend(bench.hear(vote(node, Phase::Prevote, 1, Some(block(2)))));
    }
    assert_eq!(bench.core.status().round, Round::new(1));
    let votes = sent(&outputs).into_iter().filter(|wire| matches!(wire, Wire::Vote(one) if one.voter == id(3)));
    assert_eq!(votes.collect::<Vec<_>>(), Vec::<&Wire>::new());
    let kept = |output: &&Output| matches!(output, Output::Fault(Fault::Guard(_)));
    assert_eq!(outputs.iter().filter(kept).count(), 2, "{outputs:?}");
}

#[test]
fn nothing_is_signed_in_replay() {
    let (mut bench, _) = Bench::new(0, ConsensusMode::Bft);
    bench.step(Input::Built { round: Round::ZERO, block: block(1) });
    for node in [1, 2] {
        bench.hear(vote(node, Phase::Prevote, 0, Some(block(1))));
    }
    bench.signer.refuses = true;
    let (_, outputs) = bench.restart();
    assert_eq!(sent(&outputs).len(), 3, "proposal, prevote, precommit: {outputs:?}");
    assert!(!outputs.iter().any(|output| matches!(output, Output::Fault(_) | Output::Log(_))), "{outputs:?}");
}

#[test]
fn stale_alarms_do_nothing() {
    let (mut bench, _) = Bench::new(1, ConsensusMode::Bft);
    let stale = Timer { height: HEIGHT, round: Round::ZERO, kind: TimerKind::Precommit };
    refused(&bench.step(Input::Timeout(stale)), Refusal::StaleTimer(stale));
    let older = Timer { height: Height::new(3), round: Round::ZERO, kind: TimerKind::Propose };
    refused(&bench.step(Input::Timeout(older)), Refusal::StaleTimer(older));
    assert_eq!(sent(&bench.fire(0, TimerKind::Propose)), [&vote(1, Phase::Prevote, 0, None)]);
}

#[test]
fn blocks_that_were_never_proposed_do_not_crowd_out_the_one_that_was() {
    let (mut bench, _) = Bench::new(0, ConsensusMode::Bft);
    for n in 1..5 {
        // Each time the crash comes after the body's entry and before the proposal's.
        let outputs = bench.step(Input::Built { round: Round::ZERO, block: block(n) });
        assert!(outputs.iter().any(|output| matches!(output, Output::Log(LogEntry::Body(_)))));
        bench.log.retain(|entry| matches!(entry, LogEntry::Body(_)));
        bench = bench.restart().0;
    }
    bench.step(Input::Built { round: Round::ZERO, block: block(9) });
    let before = bench.core.status();
    let (bench, outputs) = bench.restart();
    assert_eq!(bench.core.status(), before);
    assert!(!outputs.contains(&Output::NeedBlock { round: Round::ZERO }), "{outputs:?}");
}

#[test]
fn a_body_without_a_proposal_is_not_taken() {
    let (mut bench, _) = Bench::new(1, ConsensusMode::Bft);
    for n in 1..10 {
        refused(&bench.step(Input::Body { block: block(n), valid: true }), Refusal::NotProposed(block(n)));
    }
    assert!(bench.log.is_empty());
    let outputs = bench.hear(proposal(0, block(1), None));
    assert!(outputs.contains(&Output::NeedBody { round: Round::ZERO, proposer: id(0), block: block(1) }));
    let outputs = bench.step(Input::Body { block: block(1), valid: false });
    assert_eq!(sent(&outputs), [&vote(1, Phase::Prevote, 0, None)]);
    refused(&bench.step(Input::Built { round: Round::ZERO, block: block(1) }), Refusal::NotAsked(Round::ZERO));
}

#[test]
fn floods_end_at_admission() {
    let (mut bench, _) = Bench::new(1, ConsensusMode::Bft);
    bench.hear(vote(2, Phase::Prevote, 0, Some(block(1))));
    let logged = bench.log.len();
    refused(&bench.hear(vote(2, Phase::Prevote, 0, Some(block(1)))), Refusal::Repeat);
    let mut accused = 0;
    for other in 2..200 {
        let outputs = bench.hear(vote(2, Phase::Prevote, 0, Some(block(other))));
        assert!(outputs.contains(&Output::Refused(Refusal::Contradiction(id(2)))));
        accused += accusations(&outputs);
    }
    assert_eq!((bench.log.len(), accused), (logged, 1));
    let mut wanted = 0;
    accused = 0;
    for n in 1..200 {
        let outputs = bench.hear(proposal(0, block(n), None));
        accused += accusations(&outputs);
        wanted += outputs.iter().filter(|output| matches!(output, Output::NeedBody { .. })).count();
        refused(&bench.hear(proposal(0, block(1), None)), Refusal::Repeat);
    }
    assert_eq!((bench.log.len(), wanted, accused), (logged + PROPOSALS_A_ROUND, PROPOSALS_A_ROUND, 1));
    let far = Round::new(ROUNDS_AHEAD + 1);
    let too_far = Refusal::TooFarAhead { round: far, current: Round::ZERO };
    refused(&bench.hear(vote(2, Phase::Prevote, far.get(), None)), too_far);
}

#[test]
fn a_verdict_is_taken_once_and_may_only_turn_to_valid() {
    let (mut bench, _) = Bench::new(1, ConsensusMode::Bft);
    bench.hear(proposal(0, block(1), None));
    let mut taken = 0;
    for valid in [false, false, true, true, false] {
        for _ in 0..100 {
            let logged = bench.log.len();
            let outputs = bench.step(Input::Body { block: block(1), valid });
            if outputs != [Output::Refused(Refusal::Repeat)] {
                taken += 1;
                assert!(bench.log.len() > logged, "{outputs:?}");
            }
        }
    }
    assert_eq!(taken, 2, "once invalid, once valid");
}

#[test]
fn messages_of_other_heights_are_refused() {
    let (mut bench, _) = Bench::new(1, ConsensusMode::Bft);
    for height in [0, 3, 5, 6, u64::MAX].map(Height::new) {
        let (round, phase, block) = (Round::ZERO, Phase::Prevote, block(1));
        let proposer = (height.get() % 4) as u8;
        let proposal = Proposal { height, round, polka_round: None, block };
        let signature = key(proposer).sign(&proposal.digest(&NETWORK));
        let votes = [0, 2, 3].map(|node| signed(node, Vote { phase, height, round, block: Some(block) }));
        let signatures = votes.iter().map(|one| CommitSignature { voter: one.voter.clone(), signature: one.signature });
        let reasons = votes.iter().map(|one| {
            let (voter, signature) = (one.voter.clone(), one.signature);
            RoundVote { voter, phase, block: Some(block), signature }
        });
        let messages = [
            Wire::Proposal(SignedProposal { proposer: id(proposer), proposal, signature }),
            Wire::Polka(PolkaCertificate { height, round, block, signatures: signatures.collect() }),
            Wire::Round(RoundCertificate { height, round, reason: RoundReason::Skip, votes: reasons.collect() }),
        ];
        for message in votes.map(Wire::Vote).into_iter().chain(messages) {
            refused(&bench.hear(message), Refusal::OtherHeight(height));
        }
    }
    assert!(bench.log.is_empty());
}

#[test]
fn what_was_lost_is_said_and_asked_for_again() {
    let body = Output::SendBody { round: Round::ZERO, block: block(1) };
    let (mut bench, _) = Bench::new(0, ConsensusMode::Bft);
    let outputs = bench.step(Input::Built { round: Round::ZERO, block: block(1) });
    let said = [proposal(0, block(1), None), vote(0, Phase::Prevote, 0, Some(block(1)))];
    assert!(said.iter().all(|one| sent(&outputs).contains(&one)) && outputs.contains(&body), "{outputs:?}");
    let again = [bench.fire(0, TimerKind::Rebroadcast), bench.step(Input::SayAgain { healed: false })];
    for outputs in again {
        assert!(said.iter().all(|one| sent(&outputs).contains(&one)) && outputs.contains(&body), "{outputs:?}");
    }

    let (mut bench, _) = Bench::new(1, ConsensusMode::Bft);
    let need = Output::NeedBody { round: Round::ZERO, proposer: id(0), block: block(1) };
    for message in [proposal(0, block(1), None), vote(2, Phase::Prevote, 0, Some(block(1)))] {
        bench.hear(message);
    }
    for outputs in [bench.fire(0, TimerKind::Rebroadcast), bench.step(Input::SayAgain { healed: false })] {
        assert!(outputs.contains(&need), "{outputs:?}");
    }
}

#[test]
fn a_locked_block_and_what_led_to_its_round_are_told_with_all_that_one_needs_and_again() {
    let (mut bench, _) = Bench::new(1, ConsensusMode::Bft);
    bench.propose(0, block(1), None);
    for node in [0, 2] {
        bench.hear(vote(node, Phase::Prevote, 0, Some(block(1))));
    }
    for node in [0, 2] {
        bench.hear(vote(node, Phase::Precommit, 0, None));
    }
    let outputs = bench.fire(0, TimerKind::Precommit);
    let body = Output::SendBody { round: Round::new(1), block: block(1) };
    for outputs in [outputs, bench.fire(1, TimerKind::Rebroadcast)] {
        let sent = sent(&outputs);
        let polka = |wire: &&Wire| matches!(wire, Wire::Polka(polka) if polka.block == block(1));
        let reason = |wire: &&Wire| matches!(wire, Wire::Round(reason) if reason.reason == RoundReason::Precommit);
        assert!(sent.contains(&&proposal(1, block(1), Some(0))) && sent.iter().any(polka), "{outputs:?}");
        assert!(outputs.contains(&body) && sent.iter().any(reason), "{outputs:?}");
    }
}

#[test]
fn a_round_certificate_brings_a_straggler_along_but_not_to_the_end_of_time() {
    let (mut bench, _) = Bench::new(3, ConsensusMode::Bft);
    let certificate = |round, nodes| round_certificate(round, RoundReason::Skip, nodes);
    bench.hear(certificate(500, &[0, 1]));
    assert_eq!(bench.core.status().round, Round::new(500));
    refused(&bench.hear(certificate(500, &[0, 2])), Refusal::Repeat);
    let (bench, _) = bench.restart();
    assert_eq!(bench.core.status().round, Round::new(500), "the votes in the log lead as far");
    let check = |wire: Wire| wire.verify(&NETWORK, &bench.voters).map(|_| ());
    assert_eq!(check(certificate(u32::MAX, &[0, 1])), Err(WireError::AbsurdRound(Round::new(u32::MAX))));
    assert_eq!(check(certificate(1, &[0])), Err(WireError::Count { count: 1, least: 2, most: 4 }));
    assert_eq!(check(certificate(1, &[0, 0])), Err(WireError::Twice(id(0))));
    assert_eq!(check(certificate(1, &[0, 1, 2, 3, 0])), Err(WireError::Count { count: 5, least: 2, most: 4 }));
    assert_eq!(check(certificate(1, &[0, 8])), Err(WireError::NotAVoter(id(8))));
    let Wire::Round(mut prevotes) = certificate(1, &[0, 1, 2]) else { unreachable!() };
    prevotes.reason = RoundReason::Precommit;
    assert_eq!(check(Wire::Round(prevotes)), Err(WireError::NotAPrecommit(id(0))));
}

#[test]
fn no_round_follows_the_last() {
    let last = LAST_ROUND.get();
    let refusal = Refusal::LastRound(LAST_ROUND);
    let alarm = |output: &Output| matches!(output, Output::Schedule(timer, _) if timer.kind == TimerKind::Precommit);
    let precommits = || [0, 1, 2].map(|node| vote(node, Phase::Precommit, last, None)).to_vec();
    for messages in [precommits(), vec![round_certificate(last, RoundReason::Precommit, &[0, 1, 2])]] {
        let (mut bench, _) = Bench::new(3, ConsensusMode::Bft);
        bench.hear(round_certificate(last, RoundReason::Skip, &[0, 1]));
        let outputs: Vec<_> = messages.into_iter().flat_map(|message| bench.hear(message)).collect();
        assert!(outputs.iter().any(alarm), "{outputs:?}");
        refused(&bench.fire(last, TimerKind::Precommit), refusal.clone());
        assert_eq!(bench.core.status().round, LAST_ROUND);
    }
}

/// Where the library would keep them to itself until the height ends.
#[test]
fn contradictions_inside_certificates_are_handed_out_at_once() {
    let (mut bench, _) = Bench::new(1, ConsensusMode::Bft);
    bench.hear(Wire::Polka(polka(0, block(1), &[0, 2, 3])));
    let accused = |outputs: &[Output]| {
        outputs.iter().find_map(|output| match output {
            Output::Equivocation(Equivocation::Votes { first, second }) => Some((first.clone(), second.clone())),
            _ => None,
        })
    };
    let prevote = |node, round, block| {
        signed(node, Vote { phase: Phase::Prevote, height: HEIGHT, round: Round::new(round), block })
    };
    bench.hear(vote(2, Phase::Prevote, 1, Some(block(1))));
    let outputs = bench.hear(Wire::Polka(polka(1, block(2), &[0, 2, 3])));
    assert_eq!(accused(&outputs), Some((prevote(2, 1, Some(block(1))), prevote(2, 1, Some(block(2))))));
    bench.hear(vote(3, Phase::Prevote, 2, Some(block(1))));
    let outputs = bench.hear(round_certificate(2, RoundReason::Skip, &[0, 3]));
    assert_eq!(accused(&outputs), Some((prevote(3, 2, Some(block(1))), prevote(3, 2, None))));
}

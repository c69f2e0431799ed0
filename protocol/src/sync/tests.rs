use std::collections::BTreeSet;

use super::{
    fetching::{ANSWER_WITHIN, LEAST_BYTES, MOST_BYTES},
    *,
};
use crate::{
    crypto::SecretKey,
    vote::{ConsensusMode, Voter},
};

fn node(n: u8) -> Identity {
    format!("node{n}@Org").parse().unwrap()
}

fn at(height: u64) -> Place {
    let mut block = [0; 32];
    block[..8].copy_from_slice(&height.to_be_bytes());
    Place { height: Height::new(height), block: Hash::from_bytes(block) }
}

/// Another block of that height.
fn other(height: u64) -> Place {
    Place { block: Hash::from_bytes([0xff; 32]), ..at(height) }
}

struct Held(BTreeSet<Place>);

impl Chain for Held {
    fn holds(&self, place: &Place) -> bool {
        self.0.contains(place)
    }
}

/// Node 0 of several, with the clock.
struct World {
    core: Synchroniser,
    chain: Held,
    now: Duration,
}

impl World {
    fn new(nodes: u8, mode: ConsensusMode, policy: Synchronise, record: VoteRecord, head: u64) -> Self {
        let key = |n: u8| SecretKey::from_bytes(&[n + 1; 32]).unwrap().public_key();
        let voters = (0..nodes).map(|n| Voter { identity: node(n), key: key(n) }).collect();
        let voters = Voters::new(mode, voters);
        let settings = Settings { me: node(0), coming: voters.clone(), voters, policy, record, head: at(head) };
        Self { core: Synchroniser::new(settings), chain: Held((0..=head).map(at).collect()), now: Duration::ZERO }
    }

    /// Four nodes in `bft`, of which this one knows its votes, and all are connected.
    fn four(head: u64) -> Self {
        let mut world = Self::new(4, ConsensusMode::Bft, Synchronise::Quorum, VoteRecord::Kept(Height::new(1)), head);
        (1..4).for_each(|n| drop(world.input(Input::Connected(node(n)))));
        world
    }

    fn takes_part(&self) -> bool {
        matches!(self.core.participation(), Participation::TakesPart { .. })
    }

    fn input(&mut self, input: Input) -> Vec<Output> {
        self.core.step(self.now, input, &self.chain)
    }

    fn after(&mut self, wait: Duration, input: Input) -> Vec<Output> {
        self.now += wait;
        self.input(input)
    }

    fn stands(&mut self, n: u8, place: Place) -> Vec<Output> {
        self.input(Input::Standing { peer: node(n), place, whole: true })
    }

    fn claims(&mut self, n: u8, place: Place) -> Vec<Output> {
        self.input(Input::Claim { peer: node(n), place })
    }

    fn answers(&mut self, n: u8, from: u64, count: u64) -> Vec<Output> {
        self.answers_with(n, from, count, MOST_BYTES)
    }

    fn answers_with(&mut self, n: u8, from: u64, count: u64, bytes: usize) -> Vec<Output> {
        self.input(Input::Answer { peer: node(n), from: Height::new(from), count, bytes })
    }

    fn refuses(&mut self, n: u8, forked: bool) -> Vec<Output> {
        self.input(Input::Refused { peer: node(n), forked })
    }

    fn commits(&mut self, height: u64) -> Vec<Output> {
        self.chain.0.insert(at(height));
        self.input(Input::Committed(at(height)))
    }
}

fn get_blocks(outputs: &[Output]) -> Vec<(Identity, u64, usize)> {
    let get = |output: &Output| match output {
        Output::GetBlocks { peer, from, bytes } => Some((peer.clone(), from.get(), *bytes)),
        _ => None,
    };
    outputs.iter().filter_map(get).collect()
}

fn blamed(outputs: &[Output]) -> Vec<(Identity, Fault)> {
    let blame = |output: &Output| match output {
        Output::Blame { peer, fault } => Some((peer.clone(), *fault)),
        _ => None,
    };
    outputs.iter().filter_map(blame).collect()
}

#[test]
fn a_claim_is_questioned_and_only_what_is_proven_is_fetched() {
    let mut world = World::four(0);
    let outputs = world.claims(1, at(9));
    assert_eq!(get_blocks(&outputs), []);
    assert_eq!(outputs, [], "it was asked on connecting, a moment ago");
    world.now += ASK_AGAIN;
    assert_eq!(world.claims(1, at(9)), [Output::Synchronise { peer: node(1), at: None }]);
    assert_eq!(world.claims(1, at(10)), [], "claims make no flood of questions");
    assert_eq!(get_blocks(&world.stands(1, at(9))), [(node(1), 1, LEAST_BYTES)]);
    assert_eq!(get_blocks(&world.stands(2, at(9))), [], "one responder at a time");
}

/// What comes after a lie is asked for anew, and the honest answer to the question before is no fault.
#[test]
fn an_answer_to_a_question_that_was_taken_back_is_passed_over_once() {
    let mut world = World::four(0);
    assert_eq!(get_blocks(&world.stands(1, at(4))), [(node(1), 1, LEAST_BYTES)]);
    world.stands(2, at(9));
    assert_eq!(get_blocks(&world.answers(1, 1, 4)), [(node(2), 5, LEAST_BYTES)]);
    assert_eq!(get_blocks(&world.refuses(1, false)), [(node(2), 1, LEAST_BYTES)]);
    assert_eq!(world.answers(3, 5, 5), [Output::Unasked], "another was asked");
    assert_eq!(world.answers(2, 5, 5), []);
    assert_eq!(world.answers(2, 5, 5), [Output::Unasked], "once");
    assert!(world.answers(2, 1, 9).contains(&Output::Accept));
}

#[test]
fn one_behind_for_a_moment_is_no_reason_to_ask() {
    let mut world = World::four(5);
    (1..4).for_each(|n| drop(world.stands(n, at(5))));
    world.now += ASK_AGAIN;
    assert_eq!(world.claims(1, at(6)), []);
    world.commits(6);
    let asks = |outputs: &[Output]| outputs.iter().any(|one| matches!(one, Output::Synchronise { .. }));
    assert!(!asks(&world.claims(1, at(7))));
    assert!(!asks(&world.after(TICK_EVERY, Input::Tick)), "the head had just moved");
    assert!(asks(&world.after(TICK_EVERY, Input::Tick)), "it has stayed behind");
}

#[test]
fn only_the_answer_asked_for_is_accepted() {
    let mut world = World::four(0);
    world.stands(1, at(9));
    assert_eq!(world.answers(2, 1, 3), [Output::Unasked]);
    assert_eq!(world.answers(1, 2, 3), [Output::Unasked]);
    assert_eq!(world.answers(1, 1, 3)[0], Output::Accept);
    assert_eq!(world.answers(1, 1, 3), [Output::Unasked], "once");
}

#[test]
fn the_next_blocks_are_asked_for_while_those_before_are_committed_and_no_more() {
    let mut world = World::four(0);
    world.stands(1, at(9));
    assert_eq!(get_blocks(&world.answers(1, 1, 3)), [(node(1), 4, 2 * LEAST_BYTES)], "quick answers grow");
    assert_eq!(get_blocks(&world.answers(1, 4, 3)), [], "two answers wait already");
    assert_eq!(get_blocks(&world.commits(2)), []);
    assert_eq!(get_blocks(&world.commits(3)), [(node(1), 7, MOST_BYTES.min(4 * LEAST_BYTES))]);
    assert_eq!(world.answers(1, 7, 3)[0], Output::Accept);
    assert_eq!(get_blocks(&world.commits(9)), [], "all is here");
}

#[test]
fn a_slow_or_stalled_responder_is_passed_over_for_another() {
    let mut world = World::four(0);
    world.stands(1, at(9));
    world.stands(2, at(9));
    world.answers(1, 1, 1);
    world.now += ANSWER_WITHIN / 2;
    world.commits(1);
    let outputs = world.answers(1, 2, 1);
    assert_eq!((outputs[0].clone(), blamed(&outputs)), (Output::Accept, vec![(node(1), Fault::Slow)]));
    assert_eq!(get_blocks(&outputs), [(node(2), 3, LEAST_BYTES)], "another goes on");
    let outputs = world.after(ANSWER_WITHIN, Input::Tick);
    assert_eq!(blamed(&outputs), [(node(2), Fault::Stalled)]);
    assert_eq!(get_blocks(&outputs), [(node(1), 3, LEAST_BYTES)], "it goes on where the other stopped");
    assert_eq!(world.answers(2, 3, 1), [Output::Unasked], "too late");
}

#[test]
fn who_sends_little_at_a_time_does_not_hold_a_node_back() {
    let mut world = World::four(0);
    world.stands(1, at(9));
    world.stands(2, at(9));
    let outputs = world.answers_with(1, 1, 1, LEAST_BYTES / 2 - 1);
    assert_eq!((outputs[0].clone(), blamed(&outputs)), (Output::Accept, vec![(node(1), Fault::Slow)]));
    let full = world.answers_with(2, 2, 1, LEAST_BYTES / 2);
    assert_eq!(blamed(&full), [], "half is as much as whole blocks may come to");
    world.commits(2);
    let last = world.answers_with(2, 3, 7, 1);
    assert_eq!(blamed(&last), [], "it had no more");
}

#[test]
fn a_liar_loses_nothing_that_was_committed_and_is_left_alone_longer_each_time() {
    let mut world = World::four(0);
    world.stands(1, at(9));
    world.stands(2, at(9));
    world.answers(1, 1, 3);
    world.commits(1);
    let outputs = world.refuses(1, false);
    assert_eq!(outputs[0], Output::DropAccepted);
    assert_eq!(blamed(&outputs), [(node(1), Fault::Lied)]);
    assert_eq!(get_blocks(&outputs), [(node(2), 2, LEAST_BYTES)]);
    assert_eq!(world.answers(1, 4, 1), [Output::Unasked], "what was asked of it is void");
    world.input(Input::Gone(node(2)));
    for wait in [10, 20, 40] {
        world.now += Duration::from_secs(wait - 1);
        assert_eq!(get_blocks(&world.input(Input::Tick)), [], "{wait}");
        let again = world.after(Duration::from_secs(1), Input::Tick);
        assert_eq!(get_blocks(&again), [(node(1), 2, LEAST_BYTES)], "{wait}");
        world.answers(1, 2, 1);
        world.refuses(1, false);
    }
}

#[test]
fn a_refusal_of_one_answer_ends_those_after_it_without_blame() {
    let mut world = World::four(0);
    world.stands(1, at(9));
    world.stands(2, at(9));
    world.answers(1, 1, 3);
    world.input(Input::Gone(node(1)));
    assert_eq!(world.answers(2, 4, 3)[0], Output::Accept);
    let outputs = world.refuses(1, false);
    assert_eq!(blamed(&outputs), [(node(1), Fault::Lied)]);
    assert_eq!(get_blocks(&outputs), [(node(2), 1, LEAST_BYTES)]);
}

#[test]
fn a_responder_that_leaves_is_not_blamed_and_an_empty_answer_is() {
    let mut world = World::four(0);
    world.stands(1, at(9));
    world.stands(2, at(9));
    let outputs = world.input(Input::Gone(node(1)));
    assert_eq!((blamed(&outputs), get_blocks(&outputs)), (vec![], vec![(node(2), 1, LEAST_BYTES)]));
    let outputs = world.answers(2, 1, 0);
    assert_eq!(blamed(&outputs), [(node(2), Fault::Empty)]);
    assert_eq!(get_blocks(&outputs), [(node(2), 1, LEAST_BYTES)], "there is nobody else");
    let outputs = world.input(Input::Connected(node(1)));
    assert_eq!(get_blocks(&outputs), [], "one at a time");
    assert_eq!(get_blocks(&world.answers(2, 1, 0)), [(node(1), 1, LEAST_BYTES)], "now there is another");
}

#[test]
fn a_node_takes_part_once_the_policy_is_met() {
    let cases = [(Synchronise::Any, 1), (Synchronise::Quorum, 2), (Synchronise::All, 3)];
    for (policy, others) in cases {
        let mut world = World::new(4, ConsensusMode::Bft, policy, VoteRecord::Kept(Height::new(1)), 5);
        (1..4).for_each(|n| drop(world.input(Input::Connected(node(n)))));
        for n in 1..=others {
            assert!(!world.takes_part(), "{policy:?}, {n}");
            // One stands lower, one as high; both are of this node's chain.
            world.stands(n, at(u64::from(n)));
        }
        assert!(world.takes_part(), "{policy:?}");
    }
    let full = ConsensusMode::FullConsent;
    let mut world = World::new(4, full, Synchronise::Quorum, VoteRecord::Kept(Height::new(1)), 5);
    (1..4).for_each(|n| drop(world.input(Input::Connected(node(n)))));
    (1..3).for_each(|n| drop(world.stands(n, at(5))));
    assert!(!world.takes_part(), "in full consent a quorum is all");
    assert!(world.stands(3, at(5)).contains(&Output::TakePart(Height::new(1))));
}

#[test]
fn a_network_of_one_takes_part_at_once() {
    for policy in [Synchronise::Any, Synchronise::Quorum, Synchronise::All] {
        let mut world = World::new(1, ConsensusMode::Bft, policy, VoteRecord::Kept(Height::new(3)), 2);
        assert!(world.input(Input::Tick).contains(&Output::TakePart(Height::new(3))));
    }
}

#[test]
fn who_is_behind_takes_part_once_it_has_got_as_far_as_they_had_shown() {
    let mut world = World::four(0);
    world.stands(1, at(3));
    world.stands(2, at(2));
    world.answers(1, 1, 3);
    world.commits(1);
    world.commits(2);
    assert!(!world.takes_part());
    assert!(world.commits(3).contains(&Output::TakePart(Height::new(1))));
}

#[test]
fn without_its_record_a_node_votes_again_two_heights_after_all_it_may_have_voted_in() {
    let mut world = World::new(4, ConsensusMode::Bft, Synchronise::Quorum, VoteRecord::Lost, 0);
    (1..4).for_each(|n| drop(world.input(Input::Connected(node(n)))));
    world.stands(1, at(7));
    world.stands(2, at(5));
    assert!(!world.takes_part());
    let from = |outputs: &[Output]| outputs.iter().any(|one| matches!(one, Output::VoteFrom(_)));
    assert!(!from(&world.stands(3, at(0))));
    (1..=6).for_each(|height| assert!(!from(&world.commits(height)), "one of them had a block more"));
    let outputs = world.commits(7);
    assert!(outputs.contains(&Output::VoteFrom(Height::new(10))), "{outputs:?}");
    assert!(world.takes_part());
    world.stands(2, at(7));
    assert_eq!(world.stands(1, at(7)), [], "said once");
}

/// Those that voted at first say nothing of what others decided after them, and who shows a part of its
/// chain nothing of where it stands.
#[test]
fn without_its_record_a_node_counts_on_the_voters_that_its_chain_told_of_last() {
    let mut world = World::new(4, ConsensusMode::Bft, Synchronise::Quorum, VoteRecord::Lost, 0);
    let voter = |n: u8| Voter { identity: node(n), key: SecretKey::from_bytes(&[n + 1; 32]).unwrap().public_key() };
    let others = Voters::new(ConsensusMode::Bft, [0, 4, 5, 6].map(voter).to_vec());
    (1..7).for_each(|n| drop(world.input(Input::Connected(node(n)))));
    world.input(Input::Voters { next: world.core.settings.voters.clone(), coming: others });
    world.commits(1);
    let abstains = |world: &World| matches!(world.core.participation(), Participation::Abstains { .. });
    (1..4).for_each(|n| drop(world.stands(n, at(1))));
    assert!(abstains(&world), "they vote no more");
    (4..7).for_each(|n| drop(world.input(Input::Standing { peer: node(n), place: at(1), whole: false })));
    assert!(abstains(&world), "that is not where they stand");
    world.stands(4, at(1));
    world.stands(5, at(1));
    assert!(abstains(&world));
    assert!(world.stands(6, at(1)).contains(&Output::VoteFrom(Height::new(4))));
}

#[test]
fn without_its_record_no_node_votes_where_the_others_cannot_decide_alone() {
    for (nodes, mode) in [(4, ConsensusMode::FullConsent), (3, ConsensusMode::Bft), (1, ConsensusMode::Bft)] {
        let mut world = World::new(nodes, mode, Synchronise::Any, VoteRecord::Lost, 0);
        for n in 1..nodes {
            world.input(Input::Connected(node(n)));
            world.stands(n, at(0));
        }
        assert!(!world.takes_part() && !world.input(Input::Tick).iter().any(|one| matches!(one, Output::VoteFrom(_))));
    }
}

#[test]
fn a_certified_block_that_this_chain_does_not_have_is_a_fork() {
    let mut world = World::four(5);
    let fork = |n, place| Output::Fork { peer: node(n), place };
    assert_eq!(world.stands(1, other(4))[0], fork(1, other(4)));
    world.stands(2, at(5));
    world.stands(3, at(5));
    assert!(!world.takes_part(), "never again");
    // Shown before this node got there.
    let mut world = World::four(5);
    world.stands(1, other(6));
    assert!(world.commits(6).contains(&fork(1, other(6))));
}

#[test]
fn who_claims_another_chain_or_sends_one_is_asked_for_proof() {
    let mut world = World::four(5);
    world.now += ASK_AGAIN;
    let ask = Output::Synchronise { peer: node(1), at: Some(Height::new(4)) };
    assert_eq!(world.claims(1, other(4)), [ask]);
    assert_eq!(world.claims(2, at(4)), []);
    world.stands(2, at(8));
    world.answers(2, 6, 3);
    let outputs = world.refuses(2, true);
    assert!(outputs.contains(&Output::Synchronise { peer: node(2), at: Some(Height::new(5)) }), "{outputs:?}");
}

#[test]
fn a_voter_that_connects_hears_again_what_was_said_and_a_quorum_heals() {
    let record = VoteRecord::Kept(Height::new(1));
    let mut world = World::new(4, ConsensusMode::Bft, Synchronise::Quorum, record, 0);
    let healed = |outputs: &[Output]| {
        outputs.iter().find_map(|one| match one {
            Output::SayAgain { healed } => Some(*healed),
            _ => None,
        })
    };
    assert_eq!(healed(&world.input(Input::Connected(node(1)))), Some(false));
    assert_eq!(healed(&world.input(Input::Connected(node(2)))), Some(true));
    assert_eq!(healed(&world.input(Input::Connected(node(3)))), Some(false));
    assert_eq!(healed(&world.input(Input::Connected("node9@Org".parse().unwrap()))), None, "no voter");
    world.input(Input::Gone(node(1)));
    world.input(Input::Gone(node(2)));
    assert_eq!(healed(&world.input(Input::Connected(node(2)))), None, "it heard a moment ago");
    assert_eq!(healed(&world.input(Input::Connected(node(2)))), None);
    assert_eq!(healed(&world.after(SAY_AGAIN_EVERY, Input::Tick)), Some(true), "and does again in time");
    assert_eq!(healed(&world.after(SAY_AGAIN_EVERY, Input::Tick)), None, "once");
}

#[test]
fn a_standing_reached_later_is_compared_though_an_earlier_one_matched() {
    let mut world = World::four(5);
    world.stands(1, at(5));
    world.stands(1, other(7));
    world.commits(6);
    let fork = Output::Fork { peer: node(1), place: other(7) };
    assert!(world.commits(7).contains(&fork));
}

#[test]
fn genesis_matches_no_node_that_has_more() {
    let mut world = World::four(5);
    (1..4).for_each(|n| drop(world.stands(n, at(0))));
    assert!(!world.takes_part());
    (1..3).for_each(|n| drop(world.stands(n, at(1))));
    assert!(world.takes_part());
}

#[test]
fn a_node_says_that_it_is_there_and_asks_all_now_and_then() {
    let mut world = World::four(0);
    let (mut alive, mut asked) = (0, 0);
    for tick in 0..40 {
        let mut outputs = world.after(TICK_EVERY, Input::Tick);
        // They answer, but node 1 only in the end.
        let answer = |n: u8| tick == 39 || n > 1;
        (1..4).filter(|n| answer(*n)).for_each(|n| outputs.extend(world.stands(n, at(0))));
        alive += outputs.iter().filter(|one| **one == Output::SayAlive).count();
        asked += outputs.iter().filter(|one| matches!(one, Output::Synchronise { .. })).count();
    }
    assert_eq!((alive, asked), (20, 2 * 2 + 10), "in ten seconds");
}

//! Networks of cores in a simulated world, where everything goes wrong that can; see
//! `simulation/world.rs` for the world and `simulation/checker.rs` for what must hold in it.
//!
//! `MINIDLT_SEED=n` replays one seed, `MINIDLT_SEEDS=n` sets how many are tried.

use minidlt_protocol::{
    types::{Hash, Height, Round},
    vote::{
        Certificate, CommitSignature,
        ConsensusMode::{self, Bft, FullConsent},
    },
};

#[path = "simulation/mod.rs"]
mod simulation;

use simulation::{
    checker::{Checker, Violation},
    plan::{Plan, Shell, Spell, SpellKind},
    voters::{
        Change::{self, Add, Rekey, Remove},
        voters,
    },
    world::{Block, NETWORK, Report, identity, key, run},
};

const SEEDS: u64 = 2_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// This test's share of the seeds: `of` tests together have them all.
fn seeds(of: u64) -> Vec<u64> {
    match number("MINIDLT_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("MINIDLT_SEEDS").unwrap_or(SEEDS).div_ceil(of)).collect(),
    }
}

/// What is rare need not happen with fewer seeds than ordinarily.
fn are_few() -> bool {
    number("MINIDLT_SEED").is_some() || number("MINIDLT_SEEDS").is_some_and(|seeds| seeds < SEEDS)
}

/// Runs all seeds and sums up; any violation fails with its seed.
fn all(name: &str, seeds: &[u64], plan: impl Fn(u64) -> Plan) -> Report {
    let mut sum = Report::default();
    for seed in seeds {
        let report = run(plan(*seed));
        assert!(report.violations.is_empty(), "{name}: MINIDLT_SEED={seed}: {:#?}", report.violations);
        add(&mut sum, report);
    }
    println!("{name}: {} seeds, {sum:?}", seeds.len());
    sum
}

fn add(sum: &mut Report, report: Report) {
    sum.heights += report.heights;
    sum.last_round = sum.last_round.max(report.last_round);
    sum.crashes += report.crashes;
    sum.sent += report.sent;
    sum.refused_inputs += report.refused_inputs;
    sum.rejected_messages += report.rejected_messages;
    sum.abstentions += report.abstentions;
    sum.accusations += report.accusations;
    sum.caught_up += report.caught_up;
    sum.blamed += report.blamed;
    sum.wiped += report.wiped;
    sum.lost_chains += report.lost_chains;
    sum.healed_in = sum.healed_in.max(report.healed_in);
    sum.replays += report.replays;
    sum.unknown_voters += report.unknown_voters;
    sum.changed += report.changed;
    sum.ended_at = sum.ended_at.max(report.ended_at);
    sum.trace = sum.trace.rotate_left(1) ^ report.trace;
    sum.violations.extend(report.violations);
}

#[test]
fn a_calm_network_decides_in_the_first_round() {
    for mode in [Bft, FullConsent] {
        for nodes in [1, 2, 3, 4, 7] {
            let report = all("calm", &[1, 2], |seed| Plan::calm(seed, nodes, mode));
            assert_eq!(report.last_round, 0, "{nodes} nodes, {mode:?}");
        }
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let plan = || Plan { liars: 1, ..Plan::rough(42, 4, Bft) };
    assert_eq!(run(plan()), run(plan()));
}

#[test]
fn bft_survives_crashes_and_loss() {
    for nodes in [1, 2, 4, 7] {
        let report = all("bft, crashes", &seeds(12), |seed| Plan::rough(seed, nodes, Bft));
        assert!(are_few() || report.crashes > 0);
    }
}

#[test]
fn full_consent_survives_crashes_and_loss() {
    for nodes in [1, 2, 4, 7] {
        let report = all("full consent, crashes", &seeds(12), |seed| Plan::rough(seed, nodes, FullConsent));
        assert!(are_few() || report.crashes > 0);
    }
}

#[test]
fn bft_survives_liars() {
    for (nodes, liars) in [(4, 1), (7, 2)] {
        let report = all("bft, liars", &seeds(6), |seed| Plan { liars, ..Plan::rough(seed, nodes, Bft) });
        assert!(are_few() || report.accusations > 0);
    }
}

#[test]
fn full_consent_halts_without_one_voter_and_goes_on_with_it() {
    for kind in [SpellKind::Absent, SpellKind::SignerRefuses, SpellKind::Objects] {
        all("full consent, halted", &seeds(30), |seed| spell(seed, FullConsent, kind));
    }
}

#[test]
fn bft_goes_on_without_one_voter() {
    for kind in [SpellKind::Absent, SpellKind::SignerRefuses, SpellKind::Objects] {
        all("bft, one missing", &seeds(30), |seed| spell(seed, Bft, kind));
    }
}

fn spell(seed: u64, mode: ConsensusMode, kind: SpellKind) -> Plan {
    let node = (seed % 4) as usize;
    Plan { spell: Some(Spell { node, from: 1_000, until: 9_000, kind }), ..Plan::calm(seed, 4, mode) }
}

/// Every tenth message is lost for a minute, and all nodes go on meanwhile: the library alone would
/// stand still.
#[test]
fn a_network_that_loses_a_tenth_of_all_it_sends_goes_on() {
    for (nodes, mode) in [(4, Bft), (7, Bft), (4, FullConsent)] {
        let lossy = Plan { faults_until: 60_000, drop_permille: 100, heights_amid: 15, ..Plan::calm(0, nodes, mode) };
        all("a tenth lost", &seeds(100), |seed| Plan { seed, ..lossy.clone() });
    }
}

/// A node that lost its disk, votes included, comes back and lies no more than the others. Beside a liar
/// in a network that survives one fault, the others may have to wait for the liar, but that is all.
#[test]
fn nodes_that_lost_everything_never_vote_twice() {
    for (nodes, liars, heights_after) in [(4, 0, 3), (4, 1, 0), (7, 1, 3)] {
        let plan = |seed| Plan { liars, wipes: 3, heights_after, ..Plan::rough(seed, nodes, Bft) };
        let report = all("bft, lost disks", &seeds(6), plan);
        assert!(are_few() || report.wiped > 0);
    }
}

/// A node that lost its chain, and not the log of its votes, gets to the log's height by the others'
/// blocks, and is locked there on what it was locked on.
#[test]
fn nodes_that_lost_their_chain_take_up_the_log_of_a_later_height() {
    for (liars, heights_after) in [(0, 3), (1, 0)] {
        let plan = |seed| Plan { liars, wipes: 3, keeps_log: true, heights_after, ..Plan::rough(seed, 4, Bft) };
        let report = all("bft, lost chains", &seeds(12), plan);
        assert!(are_few() || report.lost_chains > 0);
    }
}

#[test]
fn a_node_that_takes_its_empty_disk_for_a_new_one_is_caught() {
    let mut sum = Report::default();
    let plan = |seed| Plan { wipes: 3, shell: Shell::TrustsEmptyDisk, ..Plan::rough(seed, 4, Bft) };
    (0..40).for_each(|seed| add(&mut sum, run(plan(seed))));
    println!("{} disks lost, {} double votes", sum.wiped, double_votes(&sum));
    assert!(double_votes(&sum) > 0);
}

/// The first `first` nodes vote, until blocks carry these changes.
fn changed(first_voters: usize, changes: &[Vec<Change>], plan: Plan) -> Plan {
    let heights_after = 5 * changes.len() as u64 + 16;
    Plan { first_voters, changes: changes.to_vec(), heights_after, ..plan }
}

/// Changes in a calm network, and in one that loses messages, parts and has nodes crash. Nodes that do not
/// vote any more, or not yet, follow.
fn changing(name: &str, (nodes, first): (usize, usize), changes: &[Vec<Change>]) {
    for mode in [Bft, FullConsent] {
        let (few, many) = (seeds(500), seeds(25));
        let calm = all(name, &few, |seed| changed(first, changes, Plan::calm(seed, nodes, mode)));
        let rough = all(name, &many, |seed| changed(first, changes, Plan::rough(seed, nodes, mode)));
        assert_eq!(calm.changed + rough.changed, changes.len() * (few.len() + many.len()), "{name}: all came");
        assert!(are_few() || rough.crashes > 0, "{name}");
        // In full consent no voter is left behind by more than a height.
        assert!(are_few() || mode == FullConsent || rough.unknown_voters > 0, "{name}: nobody was far behind");
    }
}

#[test]
fn voters_grow_from_four_to_seven() {
    changing("growing", (7, 4), &[vec![Add(4)], vec![Add(5)], vec![Add(6)]]);
    changing("growing at once", (7, 4), &[vec![Add(4), Add(5), Add(6)]]);
    changing("growing from one", (4, 1), &[vec![Add(1)], vec![Add(2)], vec![Add(3)]]);
}

#[test]
fn voters_shrink_from_seven_to_four() {
    changing("shrinking", (7, 7), &[vec![Remove(0)], vec![Remove(6)], vec![Remove(3)]]);
    changing("shrinking at once", (7, 7), &[vec![Remove(0), Remove(6), Remove(3)]]);
}

#[test]
fn all_voters_are_replaced() {
    let one_by_one: Vec<_> = (0..4).flat_map(|i| [vec![Add(i + 4)], vec![Remove(i)]]).collect();
    changing("replaced", (8, 4), &one_by_one);
    let in_pairs: Vec<_> = (0..4).map(|i| vec![Add(i + 4), Remove(i)]).collect();
    changing("replaced in pairs", (8, 4), &in_pairs);
    changing("replaced at once", (8, 4), &[in_pairs.concat()]);
}

#[test]
fn voters_change_their_keys() {
    let one_by_one: Vec<_> = (0..8).map(|i| vec![Rekey(i % 4)]).collect();
    changing("keys changed", (4, 4), &one_by_one);
    changing("keys changed at once", (4, 4), &[one_by_one[..4].concat(), one_by_one[..4].concat()]);
}

/// A voter that is removed and taken back is the same node, and says nothing twice.
#[test]
fn a_voter_leaves_and_comes_back() {
    let changes: Vec<_> = (0..4).flat_map(|i| [vec![Remove(i)], vec![Add(i)]]).collect();
    changing("back again", (4, 4), &changes);
}

/// As long as only those count who vote last as far as the node's chain tells: the voters of before may be
/// left behind, and know nothing of what this node voted on.
#[test]
fn nodes_that_lost_everything_while_voters_change_never_vote_twice() {
    let one_by_one: Vec<_> = (0..4).flat_map(|i| [vec![Add(i + 4)], vec![Remove(i)]]).collect();
    let in_pairs: Vec<_> = (0..4).map(|i| vec![Add(i + 4), Remove(i)]).collect();
    for changes in [one_by_one, in_pairs.clone(), vec![in_pairs.concat()]] {
        let plan = |seed| Plan { wipes: 3, ..changed(4, &changes, Plan::rough(seed, 8, Bft)) };
        let report = all("changes, lost disks", &seeds(12), plan);
        assert!(are_few() || report.wiped > 0);
    }
}

/// One of the first voters lies and stays, whoever else comes and goes.
#[test]
fn voters_change_beside_a_liar() {
    for (first, changes) in [(4, [Add(4), Add(5), Add(6)]), (7, [Remove(4), Remove(5), Remove(6)])] {
        let changes = changes.map(|change| vec![change]);
        let plan = |seed| Plan { liars: 1, ..changed(first, &changes, Plan::rough(seed, 7, Bft)) };
        let report = all("changes beside a liar", &seeds(25), plan);
        assert!(are_few() || report.accusations > 0);
    }
}

#[test]
fn a_shell_that_goes_on_with_its_first_voters_is_caught() {
    let changes = [(0..4).map(Rekey).collect::<Vec<_>>()];
    let shell = Shell::KeepsFirstVoters;
    let report = run(Plan { shell, ..changed(4, &changes, Plan::calm(1, 4, Bft)) });
    let strange = |one: &Violation| matches!(one, Violation::NotAVoter { .. });
    assert!(report.violations.iter().any(strange), "{:?}", report.violations);
}

/// The checker has teeth: shells that are wrong in the two ways that matter are caught.
#[test]
fn a_shell_that_breaks_its_promise_is_caught() {
    for shell in [Shell::SkipsSync, Shell::ForgetsAll] {
        let sum = wrong(shell);
        assert!(double_votes(&sum) > 0, "{shell:?} was not caught");
    }
}

/// No run above forks, so the checker is shown a fork: half of the voters signed for both blocks.
#[test]
fn a_fork_and_a_bad_block_are_seen() {
    let first = (0..4).map(|node| (node, 0)).collect();
    let by = voters(Bft, &first);
    let mut checker = Checker::new(NETWORK, Bft, first);
    for (nonce, signers) in [(1, [0, 1, 2]), (2, [0, 1, 3])] {
        let (height, previous, good) = (Height::new(1), Hash::ZERO, nonce == 1);
        let block = Block { height, proposer: 0, previous, nonce, good, changes: Vec::new() };
        let mut certificate = Certificate { height, round: Round::ZERO, block: block.hash(), signatures: vec![] };
        let digest = certificate.vote().digest(&NETWORK);
        let sign = |i: usize| CommitSignature { voter: identity(i), signature: key(i).sign(&digest) };
        certificate.signatures = signers.map(sign).to_vec();
        checker.committed(signers[2], previous, &block, &certificate, &by);
    }
    assert!(
        matches!(checker.violations[..], [Violation::InvalidBlock { .. }, Violation::Fork { .. }]),
        "{:?}",
        checker.violations
    );
}

/// A node that has lost its log is a broken node. Its signer still keeps it from lying.
#[test]
fn a_signer_that_remembers_keeps_a_node_without_a_log_from_voting_twice() {
    let sum = wrong(Shell::ForgetsLog);
    assert_eq!(double_votes(&sum), 0);
    assert!(sum.abstentions > 0);
}

fn wrong(shell: Shell) -> Report {
    let mut sum = Report::default();
    (0..40).for_each(|seed| add(&mut sum, run(Plan { shell, ..Plan::rough(seed, 4, Bft) })));
    let (crashes, refused, twice) = (sum.crashes, sum.abstentions, double_votes(&sum));
    println!("{shell:?}: {crashes} crashes, {twice} double votes, {refused} signatures refused");
    sum
}

fn double_votes(sum: &Report) -> usize {
    sum.violations.iter().filter(|one| matches!(one, Violation::DoubleVote { .. })).count()
}

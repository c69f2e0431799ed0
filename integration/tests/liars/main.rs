//! One of four lies, in every way its place in the protocol permits: about blocks, votes, where it
//! stands, what others miss, and in frames of any content. The test is that node, by its own keys. The
//! others, real processes under load, count each lie under its own reason, harm comes of none, and they
//! commit on; at the end their chains, and that of the liar's own node, are compared with all that the
//! clients were told.
//!
//! That one lies by voting twice is test `equivocation`; that it floods, test `fairness`.

mod catching_up;
mod counts;
mod frames;
mod liar;
mod proposals;
mod standings;
mod votes;

use minidlt_integration::{Cluster, Load, Memory, Mode, Plan, checker, until};

use crate::{counts::Counts, liar::Liar};

/// The node in the test's hands: it dials all others, whose names are greater.
const LIAR: usize = 0;
const HONEST: [usize; 3] = [1, 2, 3];
const PLAN: Plan = Plan { clients: 4, per_second: 30, most: 100_000, through: &HONEST };

/// A cluster whose liar has yet to say something, under load.
fn honest_three() -> (Cluster, Load) {
    let mut cluster = Cluster::init(HONEST.len() + 1, Mode::Bft);
    HONEST.into_iter().for_each(|i| cluster.start_node(i));
    HONEST.into_iter().for_each(|i| cluster.wait_ready(i));
    let load = Load::start(&cluster, PLAN);
    (cluster, load)
}

/// Waits until more of what clients submit is committed.
fn commits_on(load: &Load) {
    let known = load.known();
    until("the load is being committed", || load.known() > known);
}

/// Lets the liar's own node come to the same chain, and compares all.
fn compare_all(mut cluster: Cluster, memory: &Memory, liar: Option<usize>) {
    cluster.wait_agreed();
    cluster.start_node(LIAR);
    cluster.wait_ready(LIAR);
    let verdict = checker::check_beside(&mut cluster, memory, liar);
    println!(
        "{} transactions in {} blocks, {} acknowledged",
        verdict.transactions, verdict.blocks, verdict.acknowledged
    );
}

#[test]
fn what_a_member_says_is_counted_and_harms_nobody() {
    let (cluster, load) = honest_three();
    let mut liar = Liar::among(&cluster);
    let counts = Counts::of(&cluster);
    proposals::lie(&cluster, &counts, &mut liar);
    commits_on(&load);
    votes::lie(&cluster, &counts, &mut liar);
    commits_on(&load);
    standings::lie(&cluster, &counts, &mut liar);
    commits_on(&load);
    frames::lie(&counts, &mut liar);
    commits_on(&load);
    drop(liar);
    compare_all(cluster, &load.finish(), Some(LIAR));
}

#[test]
fn who_catches_up_is_not_kept_from_it() {
    let (mut cluster, load) = honest_three();
    catching_up::lie(&mut cluster, &load);
    compare_all(cluster, &load.finish(), None);
}

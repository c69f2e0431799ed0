//! Endorsements collected by a gateway, and given by a peer: the rest of the node, and the other nodes, are
//! stand-ins.

mod endorsing;
mod world;

use std::{sync::Arc, time::Duration};

use minidlt_actors::{endorsement::Limits, messages::endorsement::NotTaken};
use minidlt_protocol::{
    endorsement::{Reason, Verdict},
    registry::{Entry, Node, NodeRole, Policy, Role, Standing},
    transaction::Refusal,
    types::{Hash, Identity},
};
use world::{AUTHOR, OTHER, Options, PATIENCE, Sent, World, all, key, node, peer};

const SOON: Duration = Duration::from_millis(50);

fn refusal(reason: &str) -> Verdict {
    Verdict::Refused(Reason::new("operator", reason))
}

/// Why the only one of them was not taken, and who said what.
fn not_taken(outcomes: Vec<Result<Hash, NotTaken>>) -> (String, Vec<(Identity, String)>) {
    let [Err(NotTaken { refusal, said })] = &outcomes[..] else { panic!("{outcomes:?}") };
    (refusal.to_string(), said.iter().map(|one| (one.peer.clone(), one.reason.kind.clone())).collect())
}

#[actix_rt::test]
async fn what_needs_two_organisations_is_handed_on_with_both_endorsements() {
    let mut world = World::new(Options::default()).await;
    let transaction = world.change(AUTHOR);
    let id = world.id(&transaction);
    let answer = world.collect(vec![transaction], PATIENCE);
    let asked = world.proposed_to(2).await;
    assert!(asked[0].organisation.as_str() == "Org1" && asked[1] == node(4));
    assert_eq!(world.metrics.endorsements_collecting.get(), 1);
    world.endorse(&asked[1], id).await;
    world.nothing_is_sent().await;
    world.endorse(&asked[0], id).await;
    assert_eq!(world.submitted().await, [asked[1].clone(), asked[0].clone()]);
    assert_eq!(answer.await.unwrap(), [Ok(id)]);
    assert_eq!(world.metrics.endorsements_collected.get(), 2);
    assert_eq!(world.metrics.endorsements_collecting.get(), 0);
}

#[actix_rt::test]
async fn of_its_own_organisation_the_node_itself_endorses_and_no_other_is_asked() {
    let mut world = World::new(Options { policy: all([peer(0), peer(2)]), ..Options::default() }).await;
    world.connected(1, true).await;
    let transaction = world.change(AUTHOR);
    let id = world.id(&transaction);
    let answer = world.collect(vec![transaction], PATIENCE);
    assert_eq!(world.proposed_to(1).await, [node(4)]);
    world.endorse(&node(4), id).await;
    let mut by = world.submitted().await;
    by.sort();
    assert_eq!((by, answer.await.unwrap()), (vec![node(0), node(4)], vec![Ok(id)]));
    assert_eq!((world.metrics.endorsements_given.get(), world.metrics.endorsements_collected.get()), (1, 1));
}

#[actix_rt::test]
async fn who_refuses_is_told_of_with_its_reason_once_nobody_of_its_organisation_is_left() {
    let mut world = World::new(Options { policy: peer(1), ..Options::default() }).await;
    let transaction = world.change(AUTHOR);
    let id = world.id(&transaction);
    let answer = world.collect(vec![transaction.clone()], PATIENCE);
    let mut asked = world.proposed_to(1).await;
    world.answer(&asked[0], id, refusal("no new policies today")).await;
    asked.extend(world.proposed_to(1).await);
    assert_ne!(asked[0], asked[1]);
    world.answer(&asked[1], id, refusal("nor here")).await;
    let outcomes = answer.await.unwrap();
    let [Err(NotTaken { said, .. })] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert!(said.iter().any(|one| one.peer == asked[0] && one.reason.reason == "no new policies today"), "{said:?}");
    let (why, said) = not_taken(outcomes);
    assert!(why.contains("policy 'policies' is not met; missing: peer of Org1."), "{why}");
    assert_eq!(said, [(node(2), "operator".to_owned()), (node(3), "operator".to_owned())]);

    // That is not for ever: submitted again, they are asked again.
    let again = world.collect(vec![transaction], PATIENCE);
    let asked = world.proposed_to(1).await;
    world.endorse(&asked[0], id).await;
    assert_eq!(world.submitted().await, asked);
    assert_eq!(again.await.unwrap(), [Ok(id)]);
}

#[actix_rt::test]
async fn where_one_does_not_answer_the_next_is_asked_and_what_comes_late_is_taken() {
    let limits = Limits { answer: SOON, collect: PATIENCE };
    let mut world = World::new(Options { policy: peer(1), limits, ..Options::default() }).await;
    let transaction = world.change(AUTHOR);
    let id = world.id(&transaction);
    let answer = world.collect(vec![transaction], PATIENCE);
    let (first, second) = (world.proposed_to(1).await, world.proposed_to(1).await);
    assert_ne!(first, second);
    world.endorse(&first[0], id).await;
    assert_eq!(world.submitted().await, first);
    assert_eq!(answer.await.unwrap(), [Ok(id)]);
    // The second was asked as well: what it says is not needed, and no lie.
    world.endorse(&second[0], id).await;
    assert_eq!(world.count(|metrics| &metrics.messages_refused, "unasked-endorsement"), 0);
    world.endorse(&second[0], id).await;
    assert_eq!(world.count(|metrics| &metrics.messages_refused, "unasked-endorsement"), 1, "once is enough");
}

#[actix_rt::test]
async fn at_its_deadline_each_that_waits_is_told_what_is_missing() {
    let limits = Limits { answer: SOON, collect: PATIENCE };
    let mut world = World::new(Options { policy: peer(1), limits, ..Options::default() }).await;
    let transaction = world.change(AUTHOR);
    let id = world.id(&transaction);
    let patient = world.collect(vec![transaction.clone()], PATIENCE);
    world.proposed_to(2).await;
    let (why, said) = not_taken(world.collect(vec![transaction], SOON).await.unwrap());
    assert!(why.contains("missing: peer of Org1."), "{why}");
    assert_eq!(said, [(node(2), "no-answer".to_owned()), (node(3), "no-answer".to_owned())]);
    world.nothing_is_sent().await;
    world.endorse(&node(3), id).await;
    assert_eq!(patient.await.unwrap(), [Ok(id)], "it was submitted earlier and waits for longer");
    assert_eq!(world.metrics.endorsements_collecting.get(), 0);
}

#[actix_rt::test]
async fn a_request_waits_no_longer_than_the_node_lets_any() {
    let limits = Limits { answer: PATIENCE, collect: SOON };
    let mut world = World::new(Options { policy: peer(2), limits, ..Options::default() }).await;
    let transaction = world.change(AUTHOR);
    let id = world.id(&transaction);
    let (_, said) = not_taken(world.collect(vec![transaction], Duration::MAX).await.unwrap());
    assert_eq!(said, [(node(4), "no-answer".to_owned())]);
    assert_eq!(world.metrics.endorsements_collecting.get(), 0);
    // What it says now helps nobody, and was asked for.
    world.endorse(&node(4), id).await;
    assert_eq!(world.count(|metrics| &metrics.messages_refused, "unasked-endorsement"), 0);
}

#[actix_rt::test]
async fn a_peer_that_lies_is_counted_and_passed_over() {
    let mut world = World::new(Options { policy: peer(1), ..Options::default() }).await;
    let transaction = world.change(AUTHOR);
    let (id, other) = (world.id(&transaction), Hash::from_bytes([9; 32]));
    let answer = world.collect(vec![transaction], PATIENCE);
    let liar = world.proposed_to(1).await.remove(0);
    let unasked = |world: &World| world.count(|metrics| &metrics.messages_refused, "unasked-endorsement");
    world.endorse(&liar, other).await;
    world.endorse(&node(4), id).await;
    world.answer(&node(4), id, refusal("not asked")).await;
    assert_eq!(unasked(&world), 3);
    world.nothing_is_sent().await;
    // Another's signature, then its own that comes too late.
    world.answer(&liar, id, Verdict::Endorsed(key(4).sign(&id))).await;
    let honest = world.proposed_to(1).await;
    world.endorse(&liar, id).await;
    assert_eq!((unasked(&world), world.count(|metrics| &metrics.messages_refused, "bad-endorsement")), (4, 1));
    world.endorse(&honest[0], id).await;
    assert_eq!(world.submitted().await, honest);
    assert_eq!(answer.await.unwrap(), [Ok(id)]);
}

#[actix_rt::test]
async fn when_a_connection_ends_another_of_its_organisation_is_asked() {
    let mut world = World::new(Options { policy: peer(1), ..Options::default() }).await;
    let transaction = world.change(AUTHOR);
    let id = world.id(&transaction);
    let answer = world.collect(vec![transaction.clone()], PATIENCE);
    let first = world.proposed_to(1).await.remove(0);
    let n = if first == node(2) { 2 } else { 3 };
    world.connected(n, false).await;
    let second = world.proposed_to(1).await;
    assert_eq!(second, [node(5 - n)]);
    world.connected(5 - n, false).await;
    let (_, said) = not_taken(answer.await.unwrap());
    assert_eq!(said, [(node(2), "lost".to_owned()), (node(3), "lost".to_owned())]);
    let (_, said) = not_taken(world.collect(vec![transaction.clone()], PATIENCE).await.unwrap());
    assert_eq!(said, [(node(2), "not-connected".to_owned()), (node(3), "not-connected".to_owned())]);
    world.connected(2, true).await;
    let answer = world.collect(vec![transaction], PATIENCE);
    assert_eq!(world.proposed_to(1).await, [node(2)]);
    world.endorse(&node(2), id).await;
    assert_eq!(answer.await.unwrap(), [Ok(id)]);
}

#[actix_rt::test]
async fn what_people_must_sign_is_refused_at_once_and_so_is_what_does_not_hold() {
    let policy = all([Policy::Majority { majority: Role::Admin.into() }, peer(2)]);
    let mut world = World::new(Options { policy, ..Options::default() }).await;
    let lacking = world.change(AUTHOR);
    let not_mine = world.change(OTHER);
    let mut forged = world.change(AUTHOR).as_slice().to_vec();
    let at = forged.len() - 40;
    forged[at] ^= 1;
    let outcomes = world.collect(vec![lacking, not_mine, forged.into()], PATIENCE).await.unwrap();
    let kinds: Vec<_> = outcomes.iter().map(|outcome| outcome.as_ref().unwrap_err().refusal.kind()).collect();
    assert_eq!(kinds[..2], ["policy-not-met", "gateway-not-permitted"]);
    assert_ne!(kinds[2], "policy-not-met");
    let Err(NotTaken { refusal, .. }) = &outcomes[0] else { unreachable!() };
    assert!(refusal.to_string().contains("missing: admin of 2 of the 3 organisations (1 signed)."), "{refusal}");
    world.nothing_is_sent().await;
}

#[actix_rt::test]
async fn submitted_again_meanwhile_it_is_collected_for_once_and_a_caller_that_hangs_up_changes_nothing() {
    let mut world = World::new(Options { policy: peer(2), ..Options::default() }).await;
    let transaction = world.change(AUTHOR);
    let id = world.id(&transaction);
    let first = world.collect(vec![transaction.clone()], PATIENCE);
    world.proposed_to(1).await;
    let second = world.collect(vec![transaction.clone(), transaction], PATIENCE);
    first.abort();
    world.nothing_is_sent().await;
    world.endorse(&node(4), id).await;
    assert_eq!(world.submitted().await, [node(4)]);
    assert_eq!(second.await.unwrap(), [Ok(id), Ok(id)]);
    world.nothing_is_sent().await;

    let transaction = world.change(AUTHOR);
    let id = world.id(&transaction);
    let gone = world.collect(vec![transaction], PATIENCE);
    world.proposed_to(1).await;
    gone.abort();
    world.endorse(&node(4), id).await;
    assert_eq!(world.submitted().await, [node(4)]);
    world.nothing_is_sent().await;
    assert_eq!(world.metrics.endorsements_collecting.get(), 0);
}

#[actix_rt::test]
async fn a_burst_goes_in_few_messages_and_one_caller_has_its_share_and_no_more() {
    const SHARE: usize = 4_096;
    let mut world = World::new(Options { policy: peer(2), ..Options::default() }).await;
    let transactions: Vec<_> = (0..=SHARE).map(|_| world.change(AUTHOR)).collect();
    let answer = world.collect(transactions, PATIENCE);
    let (mut proposed, mut messages) = (Vec::new(), 0);
    while proposed.len() < SHARE {
        let (to, transactions) = world.proposed().await;
        assert_eq!(to, node(4));
        messages += 1;
        proposed.extend(transactions);
    }
    assert_eq!((proposed.len(), messages), (SHARE, SHARE.div_ceil(256)));
    assert_eq!(world.metrics.endorsements_collecting.get(), SHARE as i64);
    let one_more = world.change(AUTHOR);
    let refused = world.collect(vec![one_more.clone()], PATIENCE).await.unwrap();
    assert_eq!(refused[0].as_ref().unwrap_err().refusal, Refusal::CollectingShareFull(AUTHOR.0.parse().unwrap()));
    for transaction in &proposed {
        world.endorse(&node(4), world.id(transaction)).await;
    }
    let outcomes = answer.await.unwrap();
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), SHARE);
    assert!(outcomes[SHARE].as_ref().is_err_and(|not| not.refusal.is_transient()), "{:?}", outcomes[SHARE]);
    while let Sent::Submitted(..) = world.sent().await {
        if world.metrics.endorsements_collecting.get() == 0 {
            break;
        }
    }
    let id = world.id(&one_more);
    let answer = world.collect(vec![one_more], PATIENCE);
    loop {
        if let Sent::To(..) = world.sent().await {
            break;
        }
    }
    world.endorse(&node(4), id).await;
    assert_eq!(answer.await.unwrap(), [Ok(id)], "what was answered has given its room back");
}

#[actix_rt::test]
async fn who_is_enrolled_may_change_meanwhile_and_what_the_mempool_says_is_passed_on() {
    let mut world = World::new(Options::default()).await;
    let transaction = world.change(AUTHOR);
    let id = world.id(&transaction);
    let answer = world.collect(vec![transaction.clone()], PATIENCE);
    let asked = world.proposed_to(2).await;
    world.endorse(&asked[0], id).await;
    world.registries.send_modify(|registry| {
        let registry = Arc::make_mut(registry);
        let suspended = Node { standing: Standing::Suspended, ..registry.nodes[&asked[0]].clone() };
        registry.put(Entry::Node(suspended));
    });
    world.endorse(&asked[1], id).await;
    let other = world.proposed_to(1).await;
    assert_eq!(other[0].organisation.as_str(), "Org1");
    world.endorse(&other[0], id).await;
    assert_eq!(world.submitted().await, [asked[1].clone(), other[0].clone()], "the suspended one's counts for nothing");
    assert_eq!(answer.await.unwrap(), [Ok(id)]);

    let full = Refusal::MempoolFull("too many transactions");
    world.refusals.lock().unwrap().push_back(full.clone());
    let answer = world.collect(vec![transaction], PATIENCE);
    for peer in world.proposed_to(2).await {
        world.endorse(&peer, id).await;
    }
    assert_eq!(answer.await.unwrap(), [Err(full.into())]);
    assert_eq!(world.metrics.endorsements_collecting.get(), 0);
}

#[actix_rt::test]
async fn a_node_that_is_no_peer_collects_and_does_not_endorse() {
    let mut world = World::new(Options { policy: peer(0), ..Options::default() }).await;
    world.connected(1, true).await;
    world.registries.send_modify(|registry| {
        let registry = Arc::make_mut(registry);
        let orderer = Node { roles: [NodeRole::Orderer].into(), ..registry.nodes[&node(0)].clone() };
        registry.put(Entry::Node(orderer));
    });
    let transaction = world.change(AUTHOR);
    let id = world.id(&transaction);
    let answer = world.collect(vec![transaction], PATIENCE);
    assert_eq!(world.proposed_to(1).await, [node(1)]);
    world.endorse(&node(1), id).await;
    assert_eq!(answer.await.unwrap(), [Ok(id)]);
    assert!(!world.submitted().await.is_empty());
}

//! The peer's half.

use std::{collections::BTreeMap, sync::Arc};

use actix::{Actor, Context, Handler, ResponseFuture};
use minidlt_actors::messages::{
    network::FromPeer,
    verifier::{Rules, VerifyTransactions},
};
use minidlt_config::Endorse;
use minidlt_protocol::{
    block::SharedTransaction,
    endorsement::{EndorsementContent, Verdict},
    registry::{Entry, Node, NodeRole},
    transaction::{Refusal, TransactionBytes},
    types::Hash,
};
use tokio::sync::{mpsc, oneshot};

use super::world::{AUTHOR, ME, OTHER, Options, World, all, key, node, peer};

/// Node 2 proposes these; what is answered, by id.
async fn propose(world: &mut World, transactions: Vec<TransactionBytes>) -> BTreeMap<Hash, Verdict> {
    world.says(&node(2), EndorsementContent::Propose(transactions)).await;
    let (to, answers) = world.answers().await;
    assert_eq!(to, node(2));
    answers.into_iter().map(|answer| (answer.id, answer.verdict)).collect()
}

fn kind(verdict: &Verdict) -> &str {
    match verdict {
        Verdict::Endorsed(_) => "endorsed",
        Verdict::Refused(reason) => &reason.kind,
    }
}

/// A network whose policy wants a peer of this node's organisation, too.
fn asking_this_node() -> Options {
    Options { policy: all([peer(0), peer(1)]), ..Options::default() }
}

#[actix_rt::test]
async fn what_needs_no_peer_of_its_organisation_is_not_looked_into() {
    let mut world = World::new(Options::default()).await;
    // It could not be made, which is not even found.
    let transaction = world.change_of(OTHER, Some(7));
    let answers = propose(&mut world, vec![transaction]).await;
    assert_eq!(answers.values().map(kind).collect::<Vec<_>>(), ["endorsement-not-needed"]);
}

#[actix_rt::test]
async fn what_holds_is_signed_and_what_does_not_is_refused_with_its_reason() {
    let mut world = World::new(Options { committed: |id| id.as_bytes()[0] < 8, ..asking_this_node() }).await;
    let fresh = |world: &mut World, committed: bool| loop {
        let transaction = world.change(OTHER);
        if (world.id(&transaction).as_bytes()[0] < 8) == committed {
            return transaction;
        }
    };
    let (good, committed) = (fresh(&mut world, false), fresh(&mut world, true));
    // Its author submits through node 0 and not through node 2, which proposes it.
    let not_theirs = world.change(AUTHOR);
    let impossible = loop {
        let transaction = world.change_of(OTHER, Some(7));
        if world.id(&transaction).as_bytes()[0] >= 8 {
            break transaction;
        }
    };
    let (good_id, ids) = (world.id(&good), [&committed, &not_theirs, &impossible].map(|one| world.id(one)));
    let answers = propose(&mut world, vec![committed, vec![0xff].into(), good, not_theirs, impossible]).await;
    assert_eq!(answers.len(), 4, "of what has no id nothing is said");
    assert_eq!(answers[&good_id], Verdict::Endorsed(key(ME).sign(&good_id)));
    assert_eq!(kind(&answers[&ids[1]]), "gateway-not-permitted");
    assert_eq!(kind(&answers[&ids[0]]), "already-committed");
    assert_eq!(kind(&answers[&ids[2]]), "not-there");
    let refused = |reason: &str| world.count(|metrics| &metrics.endorsements_refused, reason);
    let counted = ["already-committed", "gateway-not-permitted", "malformed-transaction"].map(refused);
    assert_eq!((counted, world.metrics.endorsements_given.get()), ([1, 1, 1], 1));
}

#[actix_rt::test]
async fn what_this_nodes_operator_or_role_does_not_allow_is_not_signed() {
    for (endorse, words) in [
        (Endorse::Nothing, "this node's operator endorses nothing"),
        (
            Endorse::RecordTypes(["trade".parse().unwrap()].into()),
            "this node's operator endorses no changes, and no records without a type",
        ),
    ] {
        let mut world = World::new(Options { endorse, ..asking_this_node() }).await;
        let transaction = world.change(OTHER);
        let answers = propose(&mut world, vec![transaction]).await;
        let Some(Verdict::Refused(reason)) = answers.values().next() else { panic!("{answers:?}") };
        assert_eq!((reason.kind.as_str(), reason.reason.as_str()), ("operator", words));
        assert_eq!(world.count(|metrics| &metrics.endorsements_refused, "operator"), 1);
    }
    let mut world = World::new(asking_this_node()).await;
    world.registries.send_modify(|registry| {
        let registry = Arc::make_mut(registry);
        let orderer = Node { roles: [NodeRole::Orderer].into(), ..registry.nodes[&node(ME)].clone() };
        registry.put(Entry::Node(orderer));
    });
    let transaction = world.change(OTHER);
    let answers = propose(&mut world, vec![transaction]).await;
    assert_eq!(answers.values().map(kind).collect::<Vec<_>>(), ["not-a-peer"]);
}

/// Refuses all that it is asked, when it is told to.
struct Verifiers(mpsc::UnboundedSender<oneshot::Sender<()>>);

impl Actor for Verifiers {
    type Context = Context<Self>;
}

impl Handler<VerifyTransactions> for Verifiers {
    type Result = ResponseFuture<Vec<Result<SharedTransaction, Refusal>>>;

    fn handle(&mut self, request: VerifyTransactions, _: &mut Self::Context) -> Self::Result {
        assert_eq!((request.rules, request.gateway), (Rules::Endorsing, Some(node(2))));
        let (go_on, waits) = oneshot::channel();
        self.0.send(go_on).unwrap();
        let refused = vec![Err(Refusal::AlreadyCommitted); request.transactions.len()];
        Box::pin(async move {
            waits.await.unwrap();
            refused
        })
    }
}

#[actix_rt::test]
async fn the_session_of_a_node_that_floods_waits() {
    let (sender, mut asked) = mpsc::unbounded_channel();
    let verifiers = Some(Verifiers(sender).start().recipient());
    let mut world = World::new(Options { verifiers, ..Options::default() }).await;
    let transaction = world.change(OTHER);
    let propose = || EndorsementContent::Propose(vec![transaction.clone(); 256]);
    for _ in 0..4 {
        world.says(&node(2), propose()).await;
    }
    let fifth = world.actor.send(FromPeer { peer: node(2), content: propose() });
    let fifth = actix_rt::spawn(fifth);
    world.nothing_is_sent().await;
    assert!(!fifth.is_finished(), "its next frame is not read");
    for _ in 0..5 * 8 {
        asked.recv().await.unwrap().send(()).unwrap();
    }
    fifth.await.unwrap().unwrap();
    for _ in 0..5 {
        let (_, answers) = world.answers().await;
        assert!(answers.iter().all(|answer| kind(&answer.verdict) == "already-committed"));
    }
}

//! Who is enrolled changes while the nodes run.

use std::sync::Arc;

use minidlt_actors::messages::network::{GetPeers, PeerState};
use minidlt_protocol::{
    registry::{Entry, EntryKey, Node, Registry, Standing, VoterSet},
    types::Height,
};

use crate::{
    cluster::{Heard, Network, TestNode, count_of, identity, limits, node},
    raw::Raw,
};

/// Tells a node who is enrolled from now on.
fn publish(to: &TestNode, edit: impl FnOnce(&mut Registry)) {
    to.registries.send_modify(|registry| edit(Arc::make_mut(registry)));
}

fn stands(registry: &mut Registry, n: usize, standing: Standing) {
    let node = Node { standing, ..registry.nodes[&identity(n)].clone() };
    registry.put(Entry::Node(node));
    // Nor does it vote at the height that comes, for which alone it would still be heard.
    let voters = Arc::new(registry.orderers());
    registry.voter_sets.push(VoterSet { from: Height::new(1), voters });
}

async fn peers(of: &TestNode) -> Vec<String> {
    let peers = of.listener.send(GetPeers).await.unwrap();
    peers.iter().map(|peer| peer.identity.to_string()).collect()
}

#[actix_rt::test]
async fn a_new_node_is_dialled_as_soon_as_it_is_enrolled_and_may_come_in() {
    let mut network = Network::new(3);
    let mut zero = network.start(0, limits()).await;
    let mut two = network.start(2, limits()).await;
    for node in [&zero, &two] {
        publish(node, |registry| drop(registry.take(&EntryKey::Node(identity(1)))));
    }
    zero.hear_change(2, true).await;
    assert_eq!((peers(&zero).await, peers(&two).await), (vec!["node2@Org2".into()], vec!["node0@Org0".into()]));
    let mut one = network.start(1, limits()).await;
    // It dials the second, which does not know it; the first does not dial it.
    two.refused_connection("not-a-node").await;
    assert_eq!(one.metrics.peers_connected.get(), 0);

    let address = network.address(1).to_owned();
    for known in [&zero, &two] {
        publish(known, |registry| drop(registry.put(Entry::Node(node(1, address.clone())))));
    }
    // In whichever order.
    let first = one.hear(|heard| matches!(heard, Heard::Changed(_, true))).await;
    one.hear_change(if first == Heard::Changed(identity(0), true) { 2 } else { 0 }, true).await;
    zero.hear_change(1, true).await;
    two.hear_change(1, true).await;
    assert_eq!((zero.metrics.peers_connected.get(), one.metrics.peers_connected.get()), (2, 2));
}

#[actix_rt::test]
async fn one_that_loses_its_standing_is_cut_off_at_once_and_comes_back_when_it_has_it_again() {
    let mut network = Network::new(3);
    let mut one = network.start(1, limits()).await;
    let mut zero = Raw::join(&network, 0, 1).await;
    one.hear_change(0, true).await;
    publish(&one, |registry| stands(registry, 0, Standing::Suspended));
    one.hear_change(0, false).await;
    zero.closed().await;
    assert_eq!(peers(&one).await, ["node2@Org2"]);
    assert_eq!(count_of(&one.metrics.sessions_ended, "not-enrolled"), 1, "counted once");
    assert_eq!(one.metrics.peers_connected.get(), 0);
    let mut again = Raw::connect(network.address(1), &network.credentials(0), &network.authority(), network.id()).await;
    again.closed().await;
    one.refused_connection("not-a-node").await;

    publish(&one, |registry| stands(registry, 0, Standing::Active));
    let _back = Raw::join(&network, 0, 1).await;
    one.hear_change(0, true).await;
}

/// It dials, so it also stops dialling, and begins again.
#[actix_rt::test]
async fn one_that_was_revoked_is_not_dialled_any_more_and_one_reinstated_is() {
    let mut network = Network::new(2);
    let mut zero = network.start(0, limits()).await;
    let mut one = network.start(1, limits()).await;
    zero.hear_change(1, true).await;
    one.hear_change(0, true).await;
    publish(&zero, |registry| stands(registry, 1, Standing::Suspended));
    zero.hear_change(1, false).await;
    one.hear_change(0, false).await;
    assert_eq!(peers(&zero).await, Vec::<String>::new());
    publish(&zero, |registry| stands(registry, 1, Standing::Active));
    zero.hear_change(1, true).await;
    one.hear_change(0, true).await;
    assert_eq!((zero.metrics.peers_connected.get(), one.metrics.peers_connected.get()), (1, 1));
}

#[actix_rt::test]
async fn a_node_that_is_none_itself_any_more_has_no_connections() {
    let mut network = Network::new(3);
    let mut zero = network.start(0, limits()).await;
    let mut one = network.start(1, limits()).await;
    zero.hear_change(1, true).await;
    publish(&zero, |registry| stands(registry, 0, Standing::Revoked));
    zero.hear_change(1, false).await;
    one.hear_change(0, true).await;
    one.hear_change(0, false).await;
    assert_eq!(peers(&zero).await, Vec::<String>::new());
}

#[actix_rt::test]
async fn a_node_that_moves_is_found_where_the_ledger_says() {
    let mut network = Network::new(2);
    let mut zero = network.start(0, limits()).await;
    let mut one = network.start(1, limits()).await;
    zero.hear_change(1, true).await;
    one.hear_change(0, true).await;
    let moved = network.move_node(1);
    // What stands is not cut by it.
    publish(&zero, |registry| drop(registry.put(Entry::Node(node(1, moved.clone())))));
    let view = zero.view(1).await;
    assert_eq!(view.state, PeerState::Connected);
    one.close().await;
    zero.hear_change(1, false).await;
    let mut one = network.start(1, limits()).await;
    zero.hear_change(1, true).await;
    one.hear_change(0, true).await;
    let view = zero.view(1).await;
    assert_eq!((view.state, view.address), (PeerState::Connected, moved));
}

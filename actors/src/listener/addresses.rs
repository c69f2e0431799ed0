//! Where the other nodes are. The registry says so by address or by name; names are resolved in the
//! background, over and over, so that neither accepting nor dialling ever waits for a name server that
//! a cut network hides.

use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use minidlt_protocol::types::Identity;
use tokio::{net::lookup_host, sync::watch, time::sleep};

use crate::shares::Source;

/// How long until names are looked up again.
const LOOK_UP_EVERY: Duration = Duration::from_secs(10);
/// Names looked up at once: each holds a thread until it is answered.
const LOOK_UPS: usize = 4;

/// What is known so far.
#[derive(Default)]
pub struct Known {
    /// Nothing for a node whose name was not looked up yet; the reason, where it never could be.
    nodes: BTreeMap<Identity, Result<Vec<SocketAddr>, String>>,
    /// Several nodes may be at one.
    sources: BTreeMap<Source, Vec<Identity>>,
}

impl Known {
    /// The enrolled nodes that may connect from there.
    pub fn nodes_at(&self, source: &Source) -> &[Identity] {
        self.sources.get(source).map_or(&[], Vec::as_slice)
    }

    /// Addresses found once are kept when they cannot be found any more.
    fn learn(&mut self, node: &Identity, found: io::Result<Vec<SocketAddr>>) {
        match found {
            Ok(addresses) => {
                self.sources.values_mut().for_each(|nodes| nodes.retain(|other| other != node));
                self.sources.retain(|_, nodes| !nodes.is_empty());
                for address in &addresses {
                    let nodes = self.sources.entry(address.ip().into()).or_default();
                    if !nodes.contains(node) {
                        nodes.push(node.clone());
                    }
                }
                self.nodes.insert(node.clone(), Ok(addresses));
            }
            Err(error) if !matches!(self.nodes.get(node), Some(Ok(_))) => {
                self.nodes.insert(node.clone(), Err(format!("its name: {error}")));
            }
            Err(_) => {}
        }
    }
}

/// These are the addresses from now on; those that are names remain, for [`look_up`].
pub fn follow<'a>(
    learnt: &watch::Sender<Known>,
    addresses: impl Iterator<Item = (&'a Identity, &'a str)>,
) -> Vec<(Identity, String)> {
    let (mut known, mut names) = (Known::default(), Vec::new());
    for (node, address) in addresses {
        match address.parse() {
            Ok(address) => known.learn(node, Ok(vec![address])),
            Err(_) => names.push((node.clone(), address.to_owned())),
        }
    }
    learnt.send_modify(|before| {
        // What was found of a name once is better than nothing until it is looked up again.
        for (node, _) in &names {
            if let Some(Ok(addresses)) = before.nodes.remove(node) {
                known.learn(node, Ok(addresses));
            }
        }
        *before = known;
    });
    names
}

/// Looks names up for ever.
pub async fn look_up(names: Vec<(Identity, String)>, known: Arc<watch::Sender<Known>>) {
    while !names.is_empty() {
        let look_ups = stream::iter(&names).for_each_concurrent(LOOK_UPS, |(node, name)| {
            let known = &known;
            async move {
                let found = lookup_host(name).await.map(Iterator::collect);
                known.send_modify(|known| known.learn(node, found));
            }
        });
        look_ups.await;
        sleep(LOOK_UP_EVERY).await;
    }
}

/// A node's addresses, once its name has been looked up.
pub async fn of(node: &Identity, mut known: watch::Receiver<Known>) -> io::Result<Vec<SocketAddr>> {
    // No one looks up any more where the node is shutting down, or there are no names.
    let known = known.wait_for(|known| known.nodes.contains_key(node)).await;
    let known = known.map_err(|_| io::ErrorKind::AddrNotAvailable)?;
    match known.nodes.get(node) {
        Some(Ok(addresses)) => Ok(addresses.clone()),
        Some(Err(reason)) => Err(io::Error::other(reason.clone())),
        None => Err(io::ErrorKind::AddrNotAvailable.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn node(n: usize) -> Identity {
        format!("node{n}@Org{n}").parse().unwrap()
    }

    #[actix_rt::test]
    async fn addresses_are_known_at_once_and_names_when_they_have_been_looked_up() {
        let (nodes, addresses) = ([0, 1, 2].map(node), ["127.0.0.2:7", "localhost:8", "no such name"]);
        let known = Arc::new(watch::Sender::new(Known::default()));
        let names = follow(&known, nodes.iter().zip(addresses));
        assert_eq!(names.len(), 2);
        let address = SocketAddr::from(([127, 0, 0, 2], 7));
        assert_eq!(of(&nodes[0], known.subscribe()).await.unwrap(), [address]);
        let watching = known.subscribe();
        let looking = actix_rt::spawn(look_up(names, known));
        let found = of(&nodes[1], watching.clone()).await.unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 8), "{found:?}");
        let error = of(&nodes[2], watching.clone()).await.unwrap_err();
        assert!(error.to_string().starts_with("its name: "), "{error}");
        let source = Source::from(found[0].ip());
        assert_eq!(watching.borrow().nodes_at(&source), [nodes[1].clone()]);
        looking.abort();
    }

    #[test]
    fn nodes_at_one_address_share_it_and_one_that_moves_leaves_it() {
        let [here, there] = [1, 2].map(|host| IpAddr::from(Ipv4Addr::new(192, 0, 2, host)));
        let mut known = Known::default();
        let at = |known: &Known, ip: IpAddr| known.nodes_at(&ip.into()).to_vec();
        known.learn(&node(0), Ok(vec![(here, 1).into(), (here, 2).into()]));
        known.learn(&node(1), Ok(vec![(here, 3).into()]));
        assert_eq!(at(&known, here), [node(0), node(1)]);
        known.learn(&node(0), Ok(vec![(there, 1).into()]));
        known.learn(&node(1), Err(io::ErrorKind::NotFound.into()));
        assert_eq!((at(&known, here), at(&known, there)), (vec![node(1)], vec![node(0)]));
    }
}

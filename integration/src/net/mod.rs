//! A network of its own for a cluster: each node in a network namespace with an address, and one for
//! the clients. Every packet between them goes through a switch in the test's process, which cuts,
//! refuses, delays, loses, repeats and slows what it is told to, each direction between each two by
//! itself. Between nodes and clients everything passes unless a test says otherwise.
//!
//! ```text
//!   namespace of node 0          the test's process           namespace of node 1
//!   minidlt ── sim0 (TUN) ──────▶ switch, links ──────▶ sim0 (TUN) ── minidlt
//! ```
//!
//! Chosen over bridges with `tc netem`, which not every kernel has, and which needs a rule a pair.

mod links;
mod namespace;
mod packet;
mod switch;

use std::net::Ipv4Addr;

pub use links::{Done, Link, Links, Passage};
pub use namespace::WayIn;

use crate::random::Random;
use namespace::Namespace;
use switch::Switch;

/// The network's addresses, of those meant for testing networks (RFC 2544): node 0 has the first.
const FIRST_ADDRESS: [u8; 4] = [198, 18, 0, 10];

/// The namespaces of a cluster's nodes and of its clients; gone when this is dropped.
pub struct Net {
    // The switch lets go of the devices before the namespaces end.
    _switch: Switch,
    places: Vec<Namespace>,
    links: Links,
}

impl Net {
    /// One for so many nodes, or why there can be none here.
    pub fn new(nodes: usize) -> Result<Self, String> {
        let (mut places, mut devices) = (Vec::new(), Vec::new());
        for place in 0..=nodes {
            let (namespace, device) = Namespace::new(Self::address(place))?;
            places.push(namespace);
            devices.push((Self::address(place), device));
        }
        let links = Links::new(places.len());
        let switch = Switch::start(devices, links.clone(), Random::seeded());
        Ok(Self { _switch: switch, places, links })
    }

    pub fn address(place: usize) -> Ipv4Addr {
        let [a, b, c, d] = FIRST_ADDRESS;
        Ipv4Addr::new(a, b, c, d + u8::try_from(place).expect("few places"))
    }

    pub fn links(&self) -> &Links {
        &self.links
    }

    /// The words of the command that starts a program where a node is.
    pub fn words(&self, node: usize) -> Vec<String> {
        self.places[node].words()
    }

    /// Those of one that starts it where the clients are.
    pub fn client_words(&self) -> Vec<String> {
        self.clients().words()
    }

    /// The way of a thread to where a node is.
    pub fn way_in(&self, node: usize) -> WayIn {
        self.places[node].way_in()
    }

    /// The way of a thread to where the clients are.
    pub fn client_way_in(&self) -> WayIn {
        self.clients().way_in()
    }

    fn clients(&self) -> &Namespace {
        self.places.last().expect("the clients' place is made with the network")
    }
}

//! The API over real TLS connections, in front of a chain in memory and an actor that answers for
//! the rest of the node.

mod bounds;
mod changes;
mod events;
mod evidence;
mod members;
mod network;
mod node;
#[path = "../shared/random.rs"]
mod random;
mod record_types;
mod refusals;
mod registry;
#[path = "../shared/seed.rs"]
mod seed;
mod sequences;
mod shares;
mod transactions;

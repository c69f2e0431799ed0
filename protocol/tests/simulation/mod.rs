//! A simulation of whole networks in one thread and one seed.

pub mod checker;
mod liar;
mod node;
pub mod plan;
mod rng;
mod sync;
pub mod world;

//! A simulation of whole networks in one thread and one seed.

pub mod checker;
mod faults;
mod liar;
mod node;
pub mod plan;
mod rng;
mod shell;
mod sync;
pub mod voters;
pub mod world;

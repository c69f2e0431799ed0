//! What happens to real machines: they crash, are cut off, pause, have a wrong clock, run out of
//! descriptors, lose their disk. Through all of it clients submit; at the end every node holds the same
//! chain, and in it everything that any client was told to be committed, once, where it was told to be.
//!
//! How much is done is set by variables, for the long run: see `faults.sh`.

mod apart;
mod backup;
mod clocks;
mod crashes;
mod descriptors;
mod harness;
mod partitions;
mod pauses;
mod probe;
mod storm;
mod wiped;

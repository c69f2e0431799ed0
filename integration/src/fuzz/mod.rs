//! What fuzzing does with bytes: one function a decoder, that panics where a promise is broken.
//!
//! libFuzzer calls them (`integration/fuzz`), guided by what parts of the code an input reaches; an
//! ordinary test (`tests/fuzz_corpus.rs`) calls them with the same corpus and with mutations of it.
//!
//! Random bytes get no further than a signature, so most targets read a first byte as a *mode*: in
//! some modes the bytes are what a signature covers, and are signed here, with the keys of members,
//! before they are given to the code under test.
//!
//! | target | bytes are | promises beyond "no panic" |
//! |---|---|---|
//! | `codec` | any CBOR; a CBOR sequence | what is taken as JSON comes back as it went; a sequence is cut where its items end |
//! | `message` | a frame; a content, stamped; a content with its inner signatures made good; a consensus message likewise | a frame that opens is what its sender would have stamped; a stamp never hides what is in it; a verified message has the quorum it claims, of distinct voters |
//! | `transaction` | an encoded transaction; a body, signed by a user | a verified one is what its author would have signed; its id is of its body |
//! | `block` | a block; a certified block, its roots and certificate made good | a block has one encoding; what is taken follows the head, within its bounds |
//! | `receipt` | a receipt's text; one with its headers certified anew | a receipt has one spelling; one that holds names a transaction its author signed |
//! | `state_proof` | a state proof's text; one with its header certified anew; an ICS-23 proof alone | a state proof has one spelling; what is proven of a state is what was written to it |
//! | `genesis` | a genesis file | one that passes its check has voters, a state and an id, and comes back as it went |
//! | `settings` | a network file, a node's, a user's | what is wrong is told in one line |
//! | `json` | the body of a request to prepare a transaction | what is kept is what any parser reads, and comes back as it went |
//! | `core` | a course of events at one height: votes, proposals, alarms, crashes | never two votes where one is allowed; a decision has its quorum and is kept by a crash |
//!
//! What decoding takes in memory is bounded by a multiple of the input: [`memory::bounded`].

mod block;
mod codec;
mod core;
mod fixture;
mod genesis;
mod json;
pub mod memory;
mod message;
mod mutate;
#[path = "../../../protocol/tests/common/mod.rs"]
mod network;
mod receipt;
mod seeds;
mod settings;
mod state_proof;
mod transaction;

pub use mutate::mutate;

/// A decoder to be fuzzed.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
    /// Real encodings to begin with, made anew from the pinned vectors: they follow every change of
    /// format.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

pub const TARGETS: [Target; 10] = [
    Target { name: "codec", run: codec::run, seeds: seeds::codec },
    Target { name: "message", run: message::run, seeds: seeds::message },
    Target { name: "transaction", run: transaction::run, seeds: seeds::transaction },
    Target { name: "block", run: block::run, seeds: seeds::block },
    Target { name: "receipt", run: receipt::run, seeds: seeds::receipt },
    Target { name: "state_proof", run: state_proof::run, seeds: seeds::state_proof },
    Target { name: "genesis", run: genesis::run, seeds: seeds::genesis },
    Target { name: "settings", run: settings::run, seeds: seeds::settings },
    Target { name: "json", run: json::run, seeds: seeds::json },
    Target { name: "core", run: core::run, seeds: seeds::core },
];

/// Runs the target of this name; the libFuzzer programs are named after them.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target's name");
    (target.run)(bytes);
}

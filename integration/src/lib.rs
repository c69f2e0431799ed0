//! What the tests share: clusters of real node processes, made by `minidlt init`, driven by the
//! command line and `curl` as a user would, ended by their process ids.
//!
//! | module | holds |
//! |---|---|
//! | `cluster` | [`Cluster`]: a network's directory, and its nodes: started, killed, stopped |
//! | [`commands`] | the program as a member drives it |
//! | `net` | [`Net`]: a network namespace a node, and [`Links`] between them that can be cut, slowed, made lossy |
//! | `api` | what the nodes of a cluster are asked, over HTTP |
//! | `http` | a request with `curl`, and its [`Answer`] |
//! | `samples` | counters of `/metrics`, before and after |
//! | `author` | [`Author`]: signs as a user, without the program under test |
//! | [`peer`] | the other end of a connection with a node: signs and speaks as a node |
//! | `line` | [`Line`]: a session with a node, held in another node's name |
//! | `process` | the program, other processes, and waiting for what they do |
//! | `client` | [`Client`]: a connection that is kept |
//! | `load` | [`Load`]: clients that submit without pause |
//! | `memory` | [`Memory`]: every answer that clients heard |
//! | `checker` | compares what the nodes hold with what the clients heard |
//! | `figures` | what a run found, in numbers, and how much the long run does |
//! | `random` | [`Random`]: from a seed that is printed |
//! | [`fuzz`] | what fuzzing does with bytes, for libFuzzer and for an ordinary test |

mod api;
mod author;
pub mod checker;
mod client;
mod cluster;
pub mod commands;
pub mod figures;
pub mod fuzz;
mod http;
mod line;
mod load;
mod memory;
mod net;
pub mod peer;
mod process;
mod random;
mod samples;

pub use api::{CBOR, heights_of};
pub use author::{Author, now, secret_key};
pub use client::Client;
pub use cluster::{Cluster, Mode, free_base_port};
pub use http::{Answer, curl};
pub use line::{Heard, Line, Route};
pub use load::{Load, Plan};
pub use memory::{Fate, Memory, Place};
pub use net::{Done, Link, Links, Net, Passage, WayIn};
pub use process::{
    PATIENCE, binary, command, ended, not_run, output_within, program, root, run, signal, target, until,
};
pub use random::Random;
pub use samples::{Samples, counted};

//! What the tests share: clusters of real node processes, made by `minidlt init`, driven by the
//! command line and `curl` as a user would, ended by their process ids.
//!
//! | module | holds |
//! |---|---|
//! | `cluster` | [`Cluster`]: a network's directory, and its nodes: started, killed, stopped |
//! | `api` | what the nodes of a cluster are asked, over HTTP |
//! | `http` | a request with `curl`, and its [`Answer`] |
//! | `samples` | counters of `/metrics`, before and after |
//! | `author` | [`Author`]: signs as a user, without the program under test |
//! | [`peer`] | the other end of a connection with a node: signs and speaks as a node |
//! | `process` | the program, other processes, and waiting for what they do |
//! | `random` | [`Random`]: from a seed that is printed |

mod api;
mod author;
mod cluster;
mod http;
pub mod peer;
mod process;
mod random;
mod samples;

pub use api::{CBOR, heights_of};
pub use author::{Author, now, secret_key};
pub use cluster::{Cluster, Mode, free_base_port};
pub use http::{Answer, curl};
pub use process::{PATIENCE, binary, ended, not_run, output_within, program, root, run, signal, target, until};
pub use random::Random;
pub use samples::{Samples, counted};

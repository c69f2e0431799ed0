//! To the Reporter.

use actix::Message;
use minidlt_protocol::evidence::Evidence;

/// A voter contradicted itself, as this node's core has seen.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Report(pub Evidence);

//! To and from the connections with other nodes.

use actix::Message;
use bytes::Bytes;
use minidlt_protocol::{
    message::Recipient,
    types::{Height, Identity},
};
use serde::Serialize;

/// What goes first when a connection is busy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    Vote,
    Proposal,
    Transactions,
    Sync,
}

/// A stamped frame for one node or all, from the Signer to the Listener.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Outgoing {
    pub recipient: Recipient,
    pub class: Class,
    /// A `Message`, encoded, without the frame's length.
    pub frame: Bytes,
}

/// A verified content from a connected node. The session reads its next frame only once this is
/// answered, so TCP holds back a sender who is too fast.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct FromPeer<T: 'static> {
    pub peer: Identity,
    pub content: T,
}

/// How a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerState {
    Connected,
    Disconnected,
}

/// One other node, as this one sees it.
#[derive(Debug, Clone, Serialize)]
pub struct Peer {
    #[serde(flatten)]
    pub identity: Identity,
    pub address: String,
    pub state: PeerState,
    /// The height it last told, if it ever did.
    pub height: Option<Height>,
    /// Why the last connection or attempt ended, if one did.
    pub last_error: Option<String>,
}

/// Asks the Listener how all connections stand.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Vec<Peer>")]
pub struct GetPeers;

/// A connection came to stand, or ended: from the Listener to Sync.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct PeerChanged {
    pub peer: Identity,
    pub connected: bool,
}

/// Closes all connections and takes no more.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct CloseAll;

//! To and from the connections with other nodes.

use actix::Message;
use bytes::Bytes;
use minidlt_config::tls::Validity;
use minidlt_protocol::{
    endorsement::EndorsementContent,
    message::{CheckedConsensus, PoolContent, Recipient, SyncContent},
    types::{Height, Identity},
};
use serde::Serialize;

use super::{signer::StampOne, verifier::Open};

/// Where what comes from other nodes goes, and who is asked on the way.
#[derive(Clone)]
pub struct Routes {
    pub stamp: actix::Recipient<StampOne>,
    /// Opens what must not wait: all but the largest frames. A thread of its own.
    pub urgent: actix::Recipient<Open>,
    /// Opens the largest frames.
    pub bulk: actix::Recipient<Open>,
    pub pool: actix::Recipient<FromPeer<PoolContent>>,
    pub endorsement: actix::Recipient<FromPeer<EndorsementContent>>,
    pub consensus: actix::Recipient<FromPeer<CheckedConsensus>>,
    pub sync: actix::Recipient<FromPeer<SyncContent>>,
    /// All who follow who is connected.
    pub changed: Vec<actix::Recipient<PeerChanged>>,
}

/// All is wired: the Listener may accept and dial.
#[derive(Clone, Message)]
#[rtype(result = "()")]
pub struct Begin(pub Routes);

/// What goes first when a connection is busy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    Vote,
    Proposal,
    Transactions,
    Sync,
}

impl Class {
    pub const ALL: [Self; 4] = [Self::Vote, Self::Proposal, Self::Transactions, Self::Sync];

    /// A stable name for counters.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vote => "vote",
            Self::Proposal => "proposal",
            Self::Transactions => "transactions",
            Self::Sync => "sync",
        }
    }
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
    /// Why it is not connected: how the last connection or attempt ended. `None` while connected.
    pub last_error: Option<String>,
    /// How long the certificate lasts that it showed. `None` while it is not connected.
    pub certificate: Option<Validity>,
}

/// Asks the Listener how all connections stand.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Vec<Peer>")]
pub struct GetPeers;

/// A connection came to stand, or ended: from the Listener to those who follow that.
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

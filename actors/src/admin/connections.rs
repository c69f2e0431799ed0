//! Connections: no source may have more than its share of those that the API serves at once. Without
//! that, one host could hold all of them open, and nobody else would ever come as far as a request.
//!
//! The share is counted after the TLS handshake, since nothing is told of a connection before. What
//! connects and says nothing is closed when the time for the handshake is over; against a host that
//! does so by the thousand a firewall is needed.

use std::{
    any::Any,
    net::{IpAddr, Shutdown},
    sync::{Arc, Mutex, PoisonError},
};

use actix_tls::accept::openssl::TlsStream;
use actix_web::{dev::Extensions, rt::net::TcpStream};
use minidlt_protocol::types::Identity;
use socket2::SockRef;

use super::State;
use crate::{
    log_limit::LogLimit,
    metrics,
    shares::{Shares, Source, share_of},
};

pub struct Connections {
    sources: Arc<Shares<Source>>,
    /// One member may come from many places.
    members: Arc<Shares<Identity>>,
    log: Mutex<LogLimit>,
}

impl Connections {
    /// `most` are served at once, from all sources.
    pub fn new(most: usize) -> Self {
        let share = share_of(most);
        Self { sources: Shares::new(share), members: Shares::new(share), log: Mutex::default() }
    }
}

/// Called once a connection, after its handshake: `false`, and it is closed, where its source has its
/// share already. Its place is kept with its data, and so for as long as it lasts.
pub fn admit(state: &State, connection: &dyn Any, data: &mut Extensions) -> bool {
    let Some(stream) = connection.downcast_ref::<TlsStream<TcpStream>>() else { return true };
    // One that has no peer any more is over already.
    let Ok(peer) = stream.get_ref().peer_addr() else { return true };
    if let Some(place) = state.connections.sources.take(&peer.ip().into(), 1) {
        data.insert(place);
        return true;
    }
    state.tell_refused(peer.ip());
    // Where this fails, it is over already.
    let _ = SockRef::from(stream.get_ref()).shutdown(Shutdown::Both);
    false
}

/// The same for the member that its certificate names.
pub fn admit_member(state: &State, member: &Identity, stream: &TcpStream, data: &mut Extensions) {
    match state.connections.members.take(member, 1) {
        Some(place) => drop(data.insert(place)),
        None => {
            metrics::count(&state.api.metrics.requests_refused, "caller-share-full");
            let _ = SockRef::from(stream).shutdown(Shutdown::Both);
        }
    }
}

impl State {
    fn tell_refused(&self, from: IpAddr) {
        metrics::count(&self.api.metrics.requests_refused, "source-share-full");
        let Connections { sources, log, .. } = &self.connections;
        if let Some(more) = log.lock().unwrap_or_else(PoisonError::into_inner).allow() {
            let (source, share) = (Source::from(from), sources.share());
            log::warn!("API: no connection with {source}: it has {share}, the most that one source may have{more}");
        }
    }
}

//! Who calls: the TLS certificate names a member, if its own organisation's CA vouches for it, and
//! only the registry says what that member may do.

use std::{
    any::Any,
    collections::BTreeSet,
    future::{Ready, ready},
    sync::{Arc, PoisonError},
};

use actix_tls::accept::openssl::TlsStream;
use actix_web::{
    Error, FromRequest, HttpMessage, HttpRequest,
    body::{BoxBody, MessageBody},
    dev::{Extensions, Payload, ServiceRequest, ServiceResponse},
    middleware::Next,
    rt::net::TcpStream,
    web,
};
use minidlt_protocol::{
    registry::{Registry, Role},
    types::Identity,
};
use openssl::ssl::SslRef;

use super::{
    Api, State, connections,
    problem::{Problem, turn_away},
};
use crate::tls::TlsRefusal;

/// Kept with a connection: who is at its other end.
#[derive(Clone)]
struct Peer(Result<Identity, TlsRefusal>);

/// Called once a connection: names its peer, and bounds how long bytes sent to it may go
/// unacknowledged. actix-http has no such bound: a peer that stops reading would hold its
/// connection and buffers for ever.
pub fn on_connect(state: &State, connection: &dyn Any, data: &mut Extensions) {
    let Some(stream) = connection.downcast_ref::<TlsStream<TcpStream>>() else { return };
    let write_time = state.api.limits.write_time;
    let keep_alive = socket2::TcpKeepalive::new().with_time(write_time).with_interval(write_time);
    let socket = socket2::SockRef::from(stream.get_ref());
    let set = socket.set_tcp_user_timeout(Some(write_time)).and_then(|()| socket.set_tcp_keepalive(&keep_alive));
    if let Err(error) = set {
        log::warn!("API: a connection goes without a write time limit: {error}");
    }
    let peer = identify(&state.api, stream.ssl());
    if let Err(reason) = &peer
        && let Some(more) = state.strangers.lock().unwrap_or_else(PoisonError::into_inner).allow()
    {
        log::info!("API: a caller is refused: {reason}{more}");
    }
    if let Ok(identity) = &peer {
        connections::admit_member(state, identity, stream.get_ref(), data);
    }
    data.insert(Peer(peer));
}

/// A user's or node's name, if it is enrolled.
fn identify(Api { tls, members, .. }: &Api, ssl: &SslRef) -> Result<Identity, TlsRefusal> {
    let identity = tls.now().authority.identify(ssl)?;
    roles(&identity, &members.registry())?;
    Ok(identity)
}

/// What a member in good standing may do.
fn roles(identity: &Identity, registry: &Registry) -> Result<BTreeSet<Role>, TlsRefusal> {
    match registry.active_user(identity) {
        Some(user) => Ok(user.roles.clone()),
        None if registry.active_node(identity).is_some() => Ok(BTreeSet::new()),
        None => Err(TlsRefusal::NotAMember(identity.clone())),
    }
}

/// Lets only members through, and leaves their [`Caller`] with the request.
pub async fn members_only(
    state: web::Data<State>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let peer = request.conn_data::<Peer>().map_or(Err(TlsRefusal::NoCertificate), |peer| peer.0.clone());
    // It may have lost its standing since it connected.
    let member = peer.and_then(|identity| Ok((roles(&identity, &state.api.members.registry())?, identity)));
    match member {
        Ok((roles, identity)) => {
            request.extensions_mut().insert(Arc::new(Caller { identity, roles }));
            next.call(request).await.map(ServiceResponse::map_into_boxed_body)
        }
        Err(reason) => Ok(turn_away(&state, request, &Problem::forbidden(reason.to_string()))),
    }
}

/// The member who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub identity: Identity,
    /// A node has none.
    pub roles: BTreeSet<Role>,
}

impl Caller {
    pub fn require(&self, role: Role) -> Result<(), Problem> {
        if self.roles.contains(&role) {
            return Ok(());
        }
        Err(Problem::forbidden(format!("{} has not the role '{role}' that this needs", self.identity)))
    }
}

/// The caller, in a handler's arguments.
pub struct By(pub Arc<Caller>);

impl FromRequest for By {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let caller = request.extensions().get::<Arc<Caller>>().cloned();
        ready(caller.map(By).ok_or_else(|| Problem::internal("the caller is not known")))
    }
}

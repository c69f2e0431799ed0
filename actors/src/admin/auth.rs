//! Who calls: the TLS certificate names a member, and only the registry says what that member may
//! do.
//!
//! The handshake lets in certificates of any enrolled organisation's authority. That is not enough:
//! the authority of one organisation must not speak for another, so the certificate is checked
//! again against the authority of the very organisation it names.

use std::{any::Any, collections::BTreeSet, future::Ready, future::ready, sync::Arc};

use actix_tls::accept::openssl::TlsStream;
use actix_web::{
    Error, FromRequest, HttpMessage, HttpRequest, ResponseError,
    body::{BoxBody, MessageBody},
    dev::{Extensions, Payload, ServiceRequest, ServiceResponse},
    middleware::Next,
    rt::net::TcpStream,
    web,
};
use minidlt_protocol::{
    registry::{Registry, Role},
    types::{Identity, Name},
};
use openssl::{
    error::ErrorStack,
    nid::Nid,
    pkey::{PKey, Private},
    ssl::{SslAcceptor, SslAcceptorBuilder, SslMethod, SslSessionCacheMode, SslVerifyMode, SslVersion},
    stack::{Stack, StackRef},
    x509::{
        X509, X509Name, X509NameRef, X509PurposeId, X509Ref, X509StoreContext,
        store::{X509Store, X509StoreBuilder},
        verify::X509VerifyFlags,
    },
};
use thiserror::Error as ThisError;

use super::{State, problem::Problem};
use crate::metrics;

/// Why a certificate names no member.
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
pub enum AuthError {
    #[error("no client certificate was shown")]
    NoCertificate,
    #[error("the certificate's subject has not exactly one {0}, in letters, digits, '.', '_' or '-'")]
    Subject(&'static str),
    #[error("no organisation called {0} is enrolled on this ledger")]
    UnknownOrganisation(Name),
    #[error("the certificate of {identity} was not issued by the authority of {}: {reason}", identity.organisation)]
    NotIssued { identity: Identity, reason: String },
    #[error("{0} is not enrolled on this ledger")]
    NotEnrolled(Identity),
    #[error("certificates cannot be checked: {0}")]
    Tool(String),
}

impl From<ErrorStack> for AuthError {
    fn from(error: ErrorStack) -> Self {
        Self::Tool(error.to_string())
    }
}

/// The member a certificate names, once it is certain that its own organisation's authority issued
/// it. `chain` is what the peer sent beside it.
pub fn identity_of(
    certificate: &X509Ref,
    chain: Option<&StackRef<X509>>,
    registry: &Registry,
) -> Result<Identity, AuthError> {
    let subject = certificate.subject_name();
    let name = only_entry(subject, Nid::COMMONNAME, "common name (CN)")?;
    let organisation = only_entry(subject, Nid::ORGANIZATIONNAME, "organisation (O)")?;
    let identity = Identity::new(name, organisation);
    let enrolled = registry.organisations.get(&identity.organisation);
    let enrolled = enrolled.ok_or_else(|| AuthError::UnknownOrganisation(identity.organisation.clone()))?;
    let store = trust(std::iter::once(enrolled.ca.as_str()))?;
    check_chain(certificate, chain, &store)?
        .map_err(|reason| AuthError::NotIssued { identity: identity.clone(), reason })?;
    if registry.active_user(&identity).is_none() && registry.active_node(&identity).is_none() {
        return Err(AuthError::NotEnrolled(identity));
    }
    Ok(identity)
}

fn only_entry(subject: &X509NameRef, nid: Nid, what: &'static str) -> Result<Name, AuthError> {
    let mut entries = subject.entries_by_nid(nid);
    let (Some(entry), None) = (entries.next(), entries.next()) else { return Err(AuthError::Subject(what)) };
    let text = entry.data().to_string().map_err(|_| AuthError::Subject(what))?;
    text.parse().map_err(|_| AuthError::Subject(what))
}

fn trust<'a>(authorities: impl Iterator<Item = &'a str>) -> Result<X509Store, ErrorStack> {
    let mut store = X509StoreBuilder::new()?;
    // An organisation's authority is trusted as it stands, whether or not it signed itself.
    store.set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
    store.set_purpose(X509PurposeId::SSL_CLIENT)?;
    for authority in authorities {
        store.add_cert(X509::from_pem(authority.as_bytes())?)?;
    }
    Ok(store.build())
}

/// The outer result: could it be checked. The inner one: does it hold.
fn check_chain(
    certificate: &X509Ref,
    chain: Option<&StackRef<X509>>,
    store: &X509Store,
) -> Result<Result<(), String>, ErrorStack> {
    let none = Stack::new()?;
    X509StoreContext::new()?.init(store, certificate, chain.unwrap_or(&none), |context| {
        Ok(if context.verify_cert()? { Ok(()) } else { Err(context.error().error_string().to_owned()) })
    })
}

/// TLS 1.3 with a client certificate of an enrolled organisation.
pub fn acceptor(chain: &[X509], key: &PKey<Private>, registry: &Registry) -> Result<SslAcceptorBuilder, AuthError> {
    let mut builder = SslAcceptor::mozilla_modern_v5(SslMethod::tls_server())?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_3))?;
    builder.set_private_key(key)?;
    let (own, above) = chain.split_first().ok_or(AuthError::NoCertificate)?;
    builder.set_certificate(own)?;
    for certificate in above {
        builder.add_extra_chain_cert(certificate.clone())?;
    }
    builder.check_private_key()?;
    let authorities = || registry.organisations.values().map(|organisation| organisation.ca.as_str());
    builder.set_cert_store(trust(authorities())?);
    // Browsers choose the certificate to show by these names.
    let mut names = Stack::<X509Name>::new()?;
    for authority in authorities() {
        names.push(X509::from_pem(authority.as_bytes())?.subject_name().to_owned()?)?;
    }
    builder.set_client_ca_list(names);
    builder.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    // No resumption: every connection shows its certificate anew.
    builder.set_session_cache_mode(SslSessionCacheMode::OFF);
    builder.set_num_tickets(0)?;
    Ok(builder)
}

/// Kept with a connection: who is at its other end.
#[derive(Clone)]
struct Peer(Result<Identity, AuthError>);

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
    let certificate = stream.ssl().peer_certificate().ok_or(AuthError::NoCertificate);
    let chain = stream.ssl().peer_cert_chain();
    let peer = certificate.and_then(|certificate| identity_of(&certificate, chain, &state.api.registry));
    if let Err(reason) = &peer {
        metrics::count(&state.api.metrics.connections_refused, "api-not-a-member");
        log::info!("API: a caller is refused: {reason}");
    }
    data.insert(Peer(peer));
}

/// Lets only members through, and leaves their [`Caller`] with the request.
pub async fn members_only(
    state: web::Data<State>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let peer = request.conn_data::<Peer>().map_or(Err(AuthError::NoCertificate), |peer| peer.0.clone());
    match peer {
        Ok(identity) => {
            let user = state.api.registry.active_user(&identity);
            let roles = user.map(|user| user.roles.clone()).unwrap_or_default();
            request.extensions_mut().insert(Arc::new(Caller { identity, roles }));
            next.call(request).await.map(ServiceResponse::map_into_boxed_body)
        }
        Err(AuthError::Tool(reason)) => {
            log::error!("API: {reason}");
            Ok(request.into_response(Problem::internal("the certificate could not be checked").error_response()))
        }
        Err(reason) => Ok(request.into_response(Problem::forbidden(reason.to_string()).error_response())),
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

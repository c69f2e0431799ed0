//! TLS 1.3 with certificates on both sides, for the peers' port and the API alike.
//!
//! TLS itself lets in whomever some organisation's CA certified. Whose certificate it is, and whether
//! that very organisation's CA vouches for it, [`Authority::identify`] says once the connection
//! stands. Sessions are never resumed: every connection shows its certificate afresh.
//!
//! What a connection shows and whom it believes is that of the moment it began ([`Live`]): a node's
//! certificate is renewed ([`Renewal`]), and CAs are replaced on the ledger, while it runs.

mod live;
mod renewal;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

pub use minidlt_config::authority::{Authority, Refusal as TlsRefusal};
use minidlt_config::authority::{Purpose, subject};
use minidlt_protocol::{
    crypto::{Domain, digest},
    types::Hash,
};
use openssl::{
    error::ErrorStack,
    ex_data::Index,
    pkey::{PKey, Private},
    ssl::{
        AlpnError, Ssl, SslAcceptor, SslAcceptorBuilder, SslContext, SslContextBuilder, SslContextRef, SslMethod,
        SslOptions, SslRef, SslSessionCacheMode, SslVerifyMode, SslVersion,
    },
    x509::{X509, X509Ref, X509StoreContext, X509StoreContextRef},
};
use thiserror::Error;

pub use self::{
    live::{Certificates, Current, Live},
    renewal::{LOOK_EVERY, Looked, Renewal},
};

/// RFC 9266, section 4.2: the label of `tls-exporter` channel bindings, whose context is empty.
const EXPORTER_LABEL: &str = "EXPORTER-Channel-Binding";
/// RFC 9266, section 4.2: the length of the binding, in bytes.
const EXPORTER_BYTES: usize = 32;

/// A certificate is wanted of both.
const VERIFY: SslVerifyMode = SslVerifyMode::PEER.union(SslVerifyMode::FAIL_IF_NO_PEER_CERT);
/// Most characters of a stranger's subject that are shown.
const MAX_SUBJECT_CHARS: usize = 200;

/// What keeps this node from speaking TLS at all.
#[derive(Debug, Error)]
#[error("TLS cannot be set up: {0}")]
pub struct TlsError(#[from] ErrorStack);

/// A certificate and its key.
#[derive(Clone)]
pub struct Credentials {
    /// The certificate, and what is sent beside it. A node sends nothing beside it, since its CA issued
    /// it itself; a stranger may.
    pub chain: Vec<X509>,
    pub key: PKey<Private>,
}

impl Credentials {
    fn install(&self, context: &mut SslContextBuilder) -> Result<(), ErrorStack> {
        let (own, beside) = self.chain.split_first().ok_or_else(ErrorStack::get)?;
        context.set_certificate(own)?;
        beside.iter().try_for_each(|certificate| context.add_extra_chain_cert(certificate.clone()))?;
        context.set_private_key(&self.key)
    }
}

/// One context for both directions between nodes.
pub fn peer_context(credentials: &Credentials, authority: &Arc<Authority>) -> Result<SslContext, TlsError> {
    let mut context = SslContextBuilder::new(SslMethod::tls())?;
    harden(&mut context, credentials, authority)?;
    Ok(context.build())
}

/// For the HTTP API: TLS 1.3, a client certificate of some organisation required. Who it is,
/// [`Authority::identify`] says once the connection stands.
fn api_acceptor(credentials: &Credentials, authority: &Arc<Authority>) -> Result<SslAcceptorBuilder, TlsError> {
    let mut acceptor = SslAcceptor::mozilla_modern_v5(SslMethod::tls_server())?;
    harden(&mut acceptor, credentials, authority)?;
    // Browsers that hold several certificates show the one that these names fit. Nodes hold one.
    if let Some(names) = authority.names()? {
        acceptor.set_client_ca_list(names);
    }
    // As actix-web does it, which sees the acceptor alone and not what takes its place.
    acceptor.set_alpn_select_callback(|_, offered| {
        let offers = |protocol: &[u8]| offered.windows(protocol.len()).any(|window| window == protocol);
        match () {
            () if offers(b"\x02h2") => Ok(b"h2"),
            () if offers(b"\x08http/1.1") => Ok(b"http/1.1"),
            () => Err(AlpnError::NOACK),
        }
    });
    Ok(acceptor)
}

fn harden(
    context: &mut SslContextBuilder,
    credentials: &Credentials,
    authority: &Arc<Authority>,
) -> Result<(), ErrorStack> {
    context.set_min_proto_version(Some(SslVersion::TLS1_3))?;
    context.set_max_proto_version(Some(SslVersion::TLS1_3))?;
    context.set_options(SslOptions::NO_TICKET);
    context.set_num_tickets(0)?;
    context.set_session_cache_mode(SslSessionCacheMode::OFF);
    // A record's head and its body in one system call.
    context.set_read_ahead(true);
    context.set_verify_callback(VERIFY, verifying(authority));
    context.set_verify_cert_store(authority.store()?)?;
    credentials.install(context)
}

/// What a connection asks of each certificate in the chain it is shown, once OpenSSL has.
fn verifying(authority: &Arc<Authority>) -> impl Fn(bool, &mut X509StoreContextRef) -> bool + Send + Sync + 'static {
    let authority = authority.clone();
    move |verified, chain| verified || believed(chain, &authority)
}

/// Whether a certificate is believed against OpenSSL's word; where it is not, whom it names is kept.
fn believed(chain: &mut X509StoreContextRef, authority: &Authority) -> bool {
    let connection = X509StoreContext::ssl_idx().ok();
    let is_server = connection.and_then(|index| chain.ex_data(index)).is_some_and(|ssl| ssl.is_server());
    if authority.overrules(chain, if is_server { Purpose::Client } else { Purpose::Server }) {
        return true;
    }
    let shown = chain.chain().and_then(|chain| chain.get(0)).map(named);
    let kept = connection.and_then(|index| chain.ex_data(index)?.ex_data(refused().ok()?));
    if let (Some(kept), Some(shown)) = (kept, shown) {
        kept.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(shown);
    }
    false
}

/// Whom a certificate names, true or not.
fn named(certificate: &X509Ref) -> String {
    let named = subject(certificate).map(|identity| identity.to_string());
    let named = named.unwrap_or_else(|_| format!("{:?}", certificate.subject_name()));
    named.chars().take(MAX_SUBJECT_CHARS).collect()
}

/// Whom the certificate named that a connection refused.
type Refused = Mutex<Option<String>>;

/// Where a connection keeps it.
fn refused() -> Result<Index<Ssl, Refused>, ErrorStack> {
    static INDEX: OnceLock<Index<Ssl, Refused>> = OnceLock::new();
    match INDEX.get() {
        Some(index) => Ok(*index),
        None => Ssl::new_ex_index().map(|index| *INDEX.get_or_init(|| index)),
    }
}

/// A connection that keeps whose certificate it refuses.
pub fn connection(context: &SslContextRef) -> Result<Ssl, ErrorStack> {
    let mut ssl = Ssl::new(context)?;
    ssl.set_ex_data(refused()?, Refused::default());
    Ok(ssl)
}

/// Whose certificate a connection refused, by the certificate's own word.
pub fn refused_subject(ssl: &SslRef) -> Option<String> {
    let kept = ssl.ex_data(refused().ok()?)?;
    kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// What is the same on both ends of this very connection and on no other (RFC 9266), for
/// `Alive.binding`.
pub fn binding(ssl: &SslRef, network: &Hash) -> Result<Hash, ErrorStack> {
    let mut exported = [0; EXPORTER_BYTES];
    ssl.export_keying_material(&mut exported, EXPORTER_LABEL, Some(&[]))?;
    Ok(digest(Domain::Alive, network, &[&exported]))
}

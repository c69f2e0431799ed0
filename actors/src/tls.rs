//! TLS 1.3 with certificates on both sides, for the peers' port and the API alike.
//!
//! TLS itself lets in whomever some organisation's CA certified. Whose certificate it is, and whether
//! that very organisation's CA vouches for it, [`Authority::identify`] says once the connection
//! stands. Sessions are never resumed: every connection shows its certificate afresh.

pub use minidlt_config::authority::{Authority, Refusal as TlsRefusal};
use minidlt_protocol::{
    crypto::{Domain, digest},
    types::Hash,
};
use openssl::{
    error::ErrorStack,
    pkey::{PKey, Private},
    ssl::{
        SslAcceptor, SslAcceptorBuilder, SslContext, SslContextBuilder, SslMethod, SslOptions, SslRef,
        SslSessionCacheMode, SslVerifyMode, SslVersion,
    },
    x509::X509,
};
use thiserror::Error;

/// RFC 9266, section 4.2: the label of `tls-exporter` channel bindings, whose context is empty.
const EXPORTER_LABEL: &str = "EXPORTER-Channel-Binding";
/// RFC 9266, section 4.2: the length of the binding, in bytes.
const EXPORTER_BYTES: usize = 32;

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
pub fn peer_context(credentials: &Credentials, authority: &Authority) -> Result<SslContext, TlsError> {
    let mut context = SslContextBuilder::new(SslMethod::tls())?;
    harden(&mut context, credentials, authority)?;
    Ok(context.build())
}

/// For the HTTP API: TLS 1.3, a client certificate of some organisation required. Who it is,
/// [`Authority::identify`] says once the connection stands.
pub fn api_acceptor(credentials: &Credentials, authority: &Authority) -> Result<SslAcceptorBuilder, TlsError> {
    let mut acceptor = SslAcceptor::mozilla_modern_v5(SslMethod::tls_server())?;
    harden(&mut acceptor, credentials, authority)?;
    // Browsers that hold several certificates show the one that these names fit. Nodes hold one.
    if let Some(names) = authority.names()? {
        acceptor.set_client_ca_list(names);
    }
    Ok(acceptor)
}

fn harden(context: &mut SslContextBuilder, credentials: &Credentials, authority: &Authority) -> Result<(), ErrorStack> {
    context.set_min_proto_version(Some(SslVersion::TLS1_3))?;
    context.set_max_proto_version(Some(SslVersion::TLS1_3))?;
    context.set_options(SslOptions::NO_TICKET);
    context.set_num_tickets(0)?;
    context.set_session_cache_mode(SslSessionCacheMode::OFF);
    // A record's head and its body in one system call.
    context.set_read_ahead(true);
    context.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    context.set_verify_cert_store(authority.store()?)?;
    credentials.install(context)
}

/// What is the same on both ends of this very connection and on no other (RFC 9266), for
/// `Alive.binding`.
pub fn binding(ssl: &SslRef, network: &Hash) -> Result<Hash, ErrorStack> {
    let mut exported = [0; EXPORTER_BYTES];
    ssl.export_keying_material(&mut exported, EXPORTER_LABEL, Some(&[]))?;
    Ok(digest(Domain::Alive, network, &[&exported]))
}

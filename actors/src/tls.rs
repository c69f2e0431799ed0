//! TLS 1.3 with certificates on both sides, for the peers' port and the API alike.
//!
//! TLS itself lets in whomever some organisation's CA certified. Whose certificate it is, and whether
//! that very organisation's CA vouches for it, [`Authority::identify`] says once the connection
//! stands. Sessions are never resumed: every connection shows its certificate afresh.

use std::path::Path;

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

/// What keeps this node from speaking TLS at all: a matter of its settings.
#[derive(Debug, Error)]
pub enum TlsError {
    #[error("{path}: {reason}")]
    File { path: String, reason: std::io::Error },
    #[error("the TLS certificate cannot be read: {0}")]
    Certificate(ErrorStack),
    #[error("the TLS certificate file holds no certificate")]
    NoCertificate,
    #[error("the TLS key cannot be read: {0}")]
    Key(ErrorStack),
    #[error("the TLS key is not that of the certificate")]
    OtherKey,
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] ErrorStack),
}

/// This node's certificate, with whatever its file holds beside it, and its key.
#[derive(Clone)]
pub struct Credentials {
    chain: Vec<X509>,
    key: PKey<Private>,
}

impl Credentials {
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|reason| TlsError::File { path: path.display().to_string(), reason })
        };
        Self::from_pem(&read(certificate)?, &read(key)?)
    }

    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let chain = X509::stack_from_pem(certificate).map_err(TlsError::Certificate)?;
        let key = PKey::private_key_from_pem(key).map_err(TlsError::Key)?;
        let leaf = chain.first().ok_or(TlsError::NoCertificate)?;
        if !leaf.public_key().map_err(TlsError::Certificate)?.public_eq(&key) {
            return Err(TlsError::OtherKey);
        }
        Ok(Self { chain, key })
    }

    fn install(&self, context: &mut SslContextBuilder) -> Result<(), ErrorStack> {
        let (leaf, above) = self.chain.split_first().ok_or_else(ErrorStack::get)?;
        context.set_certificate(leaf)?;
        above.iter().try_for_each(|certificate| context.add_extra_chain_cert(certificate.clone()))?;
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

//! TLS 1.3 with certificates on both sides, for the peers' port and the API alike.
//!
//! A certificate says who somebody is: `CN` the name, `O` the organisation. TLS accepts any
//! organisation's authority; [`Authority::check`] then insists on the authority *of the
//! organisation that the subject names*, so that no organisation can certify another's members.
//! Sessions are never resumed: every connection shows its certificate afresh.

use std::{collections::BTreeMap, path::Path};

use minidlt_protocol::{
    crypto::{Domain, digest},
    registry::Organisation,
    types::{Hash, Identity, Name},
};
use openssl::{
    error::ErrorStack,
    nid::Nid,
    pkey::{PKey, Private},
    ssl::{
        SslAcceptor, SslAcceptorBuilder, SslContext, SslContextBuilder, SslMethod, SslOptions, SslRef,
        SslSessionCacheMode, SslVerifyMode, SslVersion,
    },
    stack::Stack,
    x509::{
        X509, X509NameRef, X509Ref, X509StoreContext,
        store::{X509Store, X509StoreBuilder},
        verify::X509VerifyFlags,
    },
};
use thiserror::Error;

/// RFC 9266, section 4.2: the label of `tls-exporter` channel bindings, whose context is empty.
const EXPORTER_LABEL: &str = "EXPORTER-Channel-Binding";
/// RFC 9266, section 4.2: the length of the binding, in bytes.
const EXPORTER_BYTES: usize = 32;

/// What keeps this node from speaking TLS at all: a matter of its settings or the genesis.
#[derive(Debug, Error)]
pub enum TlsError {
    #[error("organisation {name}: its CA certificate cannot be read: {reason}")]
    Authority { name: Name, reason: ErrorStack },
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

/// Why a certificate says nothing to us.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TlsRefusal {
    #[error("it showed no certificate")]
    NoCertificate,
    #[error("its certificate's subject needs exactly one {0}, a name")]
    Subject(&'static str),
    #[error("its certificate is for organisation {0}, which is not of this network")]
    UnknownOrganisation(Name),
    #[error("its certificate for {identity} does not stand under the CA of {}: {reason}", identity.organisation)]
    OtherAuthority { identity: Identity, reason: String },
    #[error("its certificate is for {0}, which is not an enrolled node")]
    NotANode(Identity),
}

impl TlsRefusal {
    /// A stable name for counters.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NoCertificate => "no-certificate",
            Self::Subject(_) => "bad-subject",
            Self::UnknownOrganisation(_) => "unknown-organisation",
            Self::OtherAuthority { .. } => "other-authority",
            Self::NotANode(_) => "not-a-node",
        }
    }
}

/// This node's certificate, with what leads up to its authority, and its key.
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

/// The organisations' certificate authorities.
pub struct Authority {
    /// Each alone in its store, so that the chain is built under that one or not at all.
    organisations: BTreeMap<Name, (X509, X509Store)>,
}

impl Authority {
    pub fn new<'a>(organisations: impl IntoIterator<Item = &'a Organisation>) -> Result<Self, TlsError> {
        let read = |organisation: &Organisation| {
            let ca = X509::from_pem(organisation.ca.as_bytes())?;
            let store = store([&ca])?;
            Ok((ca, store))
        };
        let organisations = organisations.into_iter().map(|organisation| {
            let name = organisation.name.clone();
            match read(organisation) {
                Ok(entry) => Ok((name, entry)),
                Err(reason) => Err(TlsError::Authority { name, reason }),
            }
        });
        Ok(Self { organisations: organisations.collect::<Result<_, _>>()? })
    }

    /// Who the other side of a connection is, by its certificate.
    pub fn identify(&self, ssl: &SslRef) -> Result<Identity, TlsRefusal> {
        self.check(&*ssl.peer_certificate().ok_or(TlsRefusal::NoCertificate)?)
    }

    /// Whose certificate this is, issued directly by the authority of its own organisation.
    pub fn check(&self, certificate: &X509Ref) -> Result<Identity, TlsRefusal> {
        let subject = certificate.subject_name();
        let name = only(subject, Nid::COMMONNAME).ok_or(TlsRefusal::Subject("CN"))?;
        let organisation = only(subject, Nid::ORGANIZATIONNAME).ok_or(TlsRefusal::Subject("O"))?;
        let Some((_, store)) = self.organisations.get(&organisation) else {
            return Err(TlsRefusal::UnknownOrganisation(organisation));
        };
        let identity = Identity::new(name, organisation);
        let refused = |reason: String| TlsRefusal::OtherAuthority { identity: identity.clone(), reason };
        let verify = || {
            let (nothing_between, mut context) = (Stack::new()?, X509StoreContext::new()?);
            context.init(store, certificate, &nothing_between, |context| Ok((context.verify_cert()?, context.error())))
        };
        match verify() {
            Ok((true, _)) => Ok(identity),
            Ok((false, error)) => Err(refused(error.error_string().to_owned())),
            Err(error) => Err(refused(error.to_string())),
        }
    }

    fn all(&self) -> Result<X509Store, ErrorStack> {
        store(self.organisations.values().map(|(ca, _)| ca))
    }
}

/// A store of these authorities. An organisation's authority may itself stand under another, which
/// is not of our concern: hence partial chains.
fn store<'a>(authorities: impl IntoIterator<Item = &'a X509>) -> Result<X509Store, ErrorStack> {
    let mut store = X509StoreBuilder::new()?;
    authorities.into_iter().try_for_each(|ca| store.add_cert(ca.clone()))?;
    store.set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
    Ok(store.build())
}

/// The one entry of this kind. Two would let two readers see two identities.
fn only(subject: &X509NameRef, kind: Nid) -> Option<Name> {
    let mut entries = subject.entries_by_nid(kind);
    let text = entries.next()?.data().to_string().ok()?;
    entries.next().is_none().then(|| text.parse().ok())?
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
    Ok(acceptor)
}

fn harden(context: &mut SslContextBuilder, credentials: &Credentials, authority: &Authority) -> Result<(), ErrorStack> {
    context.set_min_proto_version(Some(SslVersion::TLS1_3))?;
    context.set_max_proto_version(Some(SslVersion::TLS1_3))?;
    context.set_options(SslOptions::NO_TICKET);
    context.set_num_tickets(0)?;
    context.set_session_cache_mode(SslSessionCacheMode::OFF);
    context.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    context.set_verify_cert_store(authority.all()?)?;
    credentials.install(context)
}

/// What is the same on both ends of this very connection and on no other (RFC 9266), for
/// `Alive.binding`.
pub fn binding(ssl: &SslRef, network: &Hash) -> Result<Hash, ErrorStack> {
    let mut exported = [0; EXPORTER_BYTES];
    ssl.export_keying_material(&mut exported, EXPORTER_LABEL, Some(&[]))?;
    Ok(digest(Domain::Alive, network, &[&exported]))
}

//! TLS towards a node: version 1.3, the user's certificate, and no trust in anyone but the network.
//!
//! By the genesis, a node is whom its certificate names if that organisation's own CA vouches for it
//! and the genesis lists it ([`minidlt_config::authority`]); and its certificate has to name the host
//! in the URL. Which of the network's nodes it is, is not asked: no file of a user says which node
//! answers where.
//!
//! Authorities given in a file (`--ca`) take the genesis' place altogether: whom they vouch for is
//! trusted, whatever name and organisation its certificate has.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use minidlt_config::{
    authority::{Authority, Purpose, Refusal},
    user::UserSettings,
};
use minidlt_protocol::registry::Registry;
use openssl::{
    error::ErrorStack,
    pkey::{PKey, Private},
    ssl::{SslConnector, SslMethod, SslVerifyMode, SslVersion},
    x509::{
        X509, X509Ref, X509StoreContextRef, X509VerifyResult,
        store::{X509Store, X509StoreBuilder},
    },
};

use super::{error::ClientError, files::read};

/// Room for the authorities of some thousand organisations.
const MAX_CA_BYTES: usize = 16 << 20;
/// So much of a stranger's name is shown.
const MAX_SUBJECT_CHARS: usize = 200;

/// TLS as one user.
pub struct Tls {
    certificate: X509,
    key: PKey<Private>,
    trust: Trust,
}

enum Trust {
    Genesis(Arc<Members>),
    File(Vec<X509>),
}

/// Who the nodes are.
struct Members {
    authority: Arc<Authority>,
    registry: Registry,
}

/// A certificate that was not believed: whom it names, and why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distrust {
    pub subject: String,
    pub reason: String,
}

/// What the last failed handshake with one node held against its certificate. TLS itself only says
/// that it failed.
#[derive(Clone, Default)]
pub struct Verdict(Arc<Mutex<Option<Distrust>>>);

impl Verdict {
    fn set(&self, distrust: Distrust) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(distrust);
    }

    /// At most once a handshake.
    pub fn take(&self) -> Option<Distrust> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Tls {
    /// `ca` is a PEM file of authorities to trust in place of the genesis.
    pub fn new(user: &UserSettings, ca: Option<&Path>) -> Result<Self, ClientError> {
        let trust = match ca {
            None => {
                let (authority, registry) = (user.authority.clone(), user.genesis.registry());
                Trust::Genesis(Arc::new(Members { authority, registry }))
            }
            Some(path) => Trust::File(authorities(path)?),
        };
        Ok(Self { certificate: user.tls.certificate.clone(), key: user.tls.key.clone(), trust })
    }

    /// For one node: `told` is told why a handshake with it failed, if it was its certificate.
    pub fn connector(&self, told: Verdict) -> Result<SslConnector, ErrorStack> {
        let mut builder = SslConnector::builder(SslMethod::tls_client())?;
        builder.set_min_proto_version(Some(SslVersion::TLS1_3))?;
        builder.set_certificate(&self.certificate)?;
        builder.set_private_key(&self.key)?;
        // In place of the system's authorities, which a new builder trusts.
        builder.set_cert_store(self.trust.store()?);
        let members = self.trust.members();
        builder.set_verify_callback(SslVerifyMode::PEER, move |verified, context| {
            let Some(reason) = objection(verified, context, members.as_deref()) else { return true };
            told.set(Distrust { subject: subject(context), reason });
            if verified {
                context.set_error(X509VerifyResult::APPLICATION_VERIFICATION);
            }
            false
        });
        Ok(builder.build())
    }
}

impl Trust {
    fn store(&self) -> Result<X509Store, ErrorStack> {
        match self {
            Self::Genesis(members) => members.authority.store(),
            Self::File(authorities) => {
                let mut store = X509StoreBuilder::new()?;
                authorities.iter().try_for_each(|authority| store.add_cert(authority.clone()))?;
                Ok(store.build())
            }
        }
    }

    fn members(&self) -> Option<Arc<Members>> {
        match self {
            Self::Genesis(members) => Some(members.clone()),
            Self::File(_) => None,
        }
    }
}

impl Members {
    fn check(&self, certificate: &X509Ref) -> Result<(), Refusal> {
        let identity = self.authority.check(certificate, Purpose::Server)?;
        match self.registry.active_node(&identity) {
            Some(_) => Ok(()),
            None => Err(Refusal::NotANode(identity)),
        }
    }
}

/// What is held against a node's certificate, asked for each of its chain from the top. Of the
/// node's own, the last, OpenSSL has then checked all it can, the host too.
fn objection(verified: bool, context: &mut X509StoreContextRef, members: Option<&Members>) -> Option<String> {
    if !verified && !members.is_some_and(|members| members.authority.overrules(context, Purpose::Server)) {
        return Some(context.error().error_string().to_owned());
    }
    let members = members.filter(|_| context.error_depth() == 0)?;
    let checked = context.current_cert().ok_or(Refusal::NoCertificate).and_then(|leaf| members.check(leaf));
    checked.err().map(|refusal| refusal.to_string())
}

/// Whom the node's certificate names, true or not.
fn subject(context: &X509StoreContextRef) -> String {
    let leaf = context.chain().and_then(|chain| chain.get(0));
    let subject = leaf.map(|leaf| format!("{:?}", leaf.subject_name())).unwrap_or_default();
    subject.chars().take(MAX_SUBJECT_CHARS).collect()
}

fn authorities(path: &Path) -> Result<Vec<X509>, ClientError> {
    let authorities = X509::stack_from_pem(&read(path, MAX_CA_BYTES)?).unwrap_or_default();
    if authorities.is_empty() {
        let what = "holds no PEM certificate; give the network's authorities".into();
        return Err(ClientError::Content { path: path.into(), what });
    }
    Ok(authorities)
}

#[cfg(test)]
mod tests;

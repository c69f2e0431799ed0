//! Certificates of nodes and users, and the authorities that vouch for them.
//!
//! Who a peer is comes from its certificate's subject, `CN` its name and `O` its organisation, and
//! from the authority of that organisation in the genesis: no other authority may vouch for it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use minidlt_protocol::types::{Identity, Name};
use openssl::{
    asn1::Asn1Time,
    error::ErrorStack,
    nid::Nid,
    pkey::{PKey, Private},
    stack::Stack,
    x509::{
        X509, X509NameRef, X509PurposeId, X509Ref, X509StoreContext,
        store::{X509Store, X509StoreBuilder},
    },
};

use crate::{
    error::Problem,
    files::{MAX_FILE_BYTES, read, read_private},
    keys::private_key,
};

/// How long before it expires a certificate is warned about, in days.
pub const WARNING_DAYS: u32 = 30;

/// Each organisation's certificate authority.
pub type Authorities = BTreeMap<Name, X509>;

/// A certificate with its private key.
pub struct Tls {
    pub certificate: X509,
    pub key: PKey<Private>,
    pub certificate_path: PathBuf,
    pub key_path: PathBuf,
}

/// Which of the two paths a problem is about.
pub(crate) enum Part {
    Certificate,
    Key,
}

impl Part {
    /// The key of the file that names the path.
    pub(crate) fn key(&self) -> &'static str {
        match self {
            Self::Certificate => "tls.certificate",
            Self::Key => "tls.key",
        }
    }
}

/// What a certificate must be good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Nodes accept connections and dial them.
    Node,
    User,
}

impl Tls {
    /// Reads and checks a pair; the second value is a warning, if there is one.
    pub(crate) fn read(
        certificate_path: PathBuf,
        key_path: PathBuf,
        identity: &Identity,
        purpose: Purpose,
        authorities: &Authorities,
    ) -> Result<(Self, Option<String>), (Part, Problem)> {
        let of_certificate = |problem| (Part::Certificate, problem);
        let certificate = read_certificate(&certificate_path).map_err(of_certificate)?;
        let key = read_private(&key_path)
            .and_then(|pem| private_key(&pem).ok_or_else(|| Problem::NotATlsKey { path: key_path.clone() }))
            .map_err(|problem| (Part::Key, problem))?;
        let paired = certificate.public_key().is_ok_and(|public| public.public_eq(&key));
        if !paired {
            let problem = Problem::NotAPair { key: key_path, certificate: certificate_path };
            return Err((Part::Key, problem));
        }
        let path = &certificate_path;
        check_subject(path, &certificate, identity).map_err(of_certificate)?;
        let warning = check_validity(path, &certificate).map_err(of_certificate)?;
        check_chain(path, &certificate, identity, purpose, authorities).map_err(of_certificate)?;
        Ok((Self { certificate, key, certificate_path, key_path }, warning))
    }
}

fn read_certificate(path: &Path) -> Result<X509, Problem> {
    X509::from_pem(&read(path, MAX_FILE_BYTES)?).map_err(|_| Problem::NotACertificate { path: path.to_owned() })
}

/// The member a certificate names, if it names one: exactly one `CN` and one `O`, both names.
pub fn subject(certificate: &X509Ref) -> Option<Identity> {
    let name = certificate.subject_name();
    Some(Identity::new(only_entry(name, Nid::COMMONNAME)?, only_entry(name, Nid::ORGANIZATIONNAME)?))
}

fn only_entry(name: &X509NameRef, nid: Nid) -> Option<Name> {
    let mut entries = name.entries_by_nid(nid);
    let entry = entries.next()?.data().to_string().ok()?.parse().ok()?;
    entries.next().is_none().then_some(entry)
}

fn check_subject(path: &Path, certificate: &X509Ref, identity: &Identity) -> Result<(), Problem> {
    if subject(certificate).as_ref() == Some(identity) {
        return Ok(());
    }
    let subject = format!("{:?}", certificate.subject_name());
    Err(Problem::WrongSubject { path: path.to_owned(), subject, identity: identity.clone() })
}

fn check_validity(path: &Path, certificate: &X509Ref) -> Result<Option<String>, Problem> {
    let now = Asn1Time::days_from_now(0)?;
    let path = || path.to_owned();
    if certificate.not_before() > now {
        return Err(Problem::NotYetValid { path: path(), when: certificate.not_before().to_string() });
    }
    if certificate.not_after() <= now {
        return Err(Problem::Expired { path: path(), when: certificate.not_after().to_string() });
    }
    let soon = certificate.not_after() <= Asn1Time::days_from_now(WARNING_DAYS)?;
    Ok(soon.then(|| {
        let (path, when) = (path(), certificate.not_after());
        format!("{} expires on {when}; have the organisation issue a new one", path.display())
    }))
}

fn check_chain(
    path: &Path,
    certificate: &X509Ref,
    identity: &Identity,
    purpose: Purpose,
    authorities: &Authorities,
) -> Result<(), Problem> {
    let organisation = identity.organisation.to_string();
    let Some(authority) = authorities.get(&identity.organisation) else {
        return Err(Problem::UnknownOrganisation(organisation));
    };
    let purposes: &[X509PurposeId] = match purpose {
        Purpose::Node => &[X509PurposeId::SSL_SERVER, X509PurposeId::SSL_CLIENT],
        Purpose::User => &[X509PurposeId::SSL_CLIENT],
    };
    for purpose in purposes {
        if let Some(reason) = refusal(certificate, authority, *purpose)? {
            return Err(Problem::Unchained { path: path.to_owned(), organisation, reason });
        }
    }
    Ok(())
}

/// Why `authority` does not vouch for `certificate`, if it does not.
fn refusal(certificate: &X509Ref, authority: &X509, purpose: X509PurposeId) -> Result<Option<String>, ErrorStack> {
    let store = store(authority, purpose)?;
    X509StoreContext::new()?.init(&store, certificate, &*Stack::new()?, |context| {
        let verified = context.verify_cert()?;
        Ok((!verified).then(|| context.error().error_string().to_owned()))
    })
}

fn store(authority: &X509, purpose: X509PurposeId) -> Result<X509Store, ErrorStack> {
    let mut builder = X509StoreBuilder::new()?;
    builder.add_cert(authority.clone())?;
    builder.set_purpose(purpose)?;
    Ok(builder.build())
}

/// Reads one organisation's authority: exactly one certificate, self-signed, marked as an authority.
pub(crate) fn parse_authority(pem: &str) -> Result<X509, String> {
    let mut certificates = X509::stack_from_pem(pem.as_bytes()).unwrap_or_default();
    let count = certificates.len();
    let (Some(certificate), 1) = (certificates.pop(), count) else {
        return Err(format!("ca holds {count} certificates in PEM, exactly one is needed"));
    };
    let self_signed = certificate.public_key().is_ok_and(|key| certificate.verify(&key).unwrap_or(false));
    if !self_signed {
        return Err("ca is not self-signed".to_owned());
    }
    if !certificate.to_der().is_ok_and(|der| marked_as_authority(&der)) {
        return Err("ca is not marked as a certificate authority (basicConstraints CA:TRUE)".to_owned());
    }
    Ok(certificate)
}

/// Does the certificate carry `basicConstraints` with `cA` true (RFC 5280, 4.2.1.9)? The crate
/// `openssl` does not tell, but the extension has few forms in DER: its object identifier, perhaps
/// "critical", then an octet string with a sequence that begins with the boolean.
fn marked_as_authority(der: &[u8]) -> bool {
    const IDENTIFIER: [u8; 5] = [0x06, 0x03, 0x55, 0x1d, 0x13];
    const TRUE: [u8; 3] = [0x01, 0x01, 0xff];
    der.windows(IDENTIFIER.len()).enumerate().filter(|(_, window)| *window == IDENTIFIER).any(|(at, _)| {
        let rest = &der[at + IDENTIFIER.len()..];
        let rest = rest.strip_prefix(&TRUE).unwrap_or(rest);
        matches!(rest, [0x04, _, 0x30, _, constraint @ ..] if constraint.starts_with(&TRUE))
    })
}

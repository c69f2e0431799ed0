//! The certificate and key by which a node or user is known.

use std::path::{Path, PathBuf};

use minidlt_protocol::types::Identity;
use openssl::{
    asn1::Asn1Time,
    pkey::{PKey, Private},
    x509::{X509, X509Ref},
};

use crate::{
    authority::{Authority, Purpose, subject},
    error::Problem,
    files::{MAX_FILE_BYTES, read, read_private},
    keys::private_key,
};

/// How long before it expires a certificate is warned about, in days.
pub const WARNING_DAYS: u32 = 30;

/// What a node's certificate must be good for: it accepts connections and dials.
pub(crate) const NODE: &[Purpose] = &[Purpose::Server, Purpose::Client];
/// What a user's must be.
pub(crate) const USER: &[Purpose] = &[Purpose::Client];

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

impl Tls {
    /// Reads and checks a pair; the second value is a warning, if there is one.
    pub(crate) fn read(
        certificate_path: PathBuf,
        key_path: PathBuf,
        identity: &Identity,
        purposes: &[Purpose],
        authority: &Authority,
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
        check_purposes(path, &certificate, purposes, authority).map_err(of_certificate)?;
        Ok((Self { certificate, key, certificate_path, key_path }, warning))
    }
}

fn read_certificate(path: &Path) -> Result<X509, Problem> {
    X509::from_pem(&read(path, MAX_FILE_BYTES)?).map_err(|_| Problem::NotACertificate { path: path.to_owned() })
}

fn check_subject(path: &Path, certificate: &X509Ref, identity: &Identity) -> Result<(), Problem> {
    if subject(certificate).is_ok_and(|subject| subject == *identity) {
        return Ok(());
    }
    let subject = format!("{:?}", certificate.subject_name());
    Err(Problem::WrongSubject { path: path.to_owned(), subject, identity: identity.clone() })
}

/// Before the authority is asked, who would not tell the dates.
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

fn check_purposes(
    path: &Path,
    certificate: &X509Ref,
    purposes: &[Purpose],
    authority: &Authority,
) -> Result<(), Problem> {
    for purpose in purposes {
        let checked = authority.check(certificate, *purpose);
        checked.map_err(|refusal| Problem::Certificate { path: path.to_owned(), refusal })?;
    }
    Ok(())
}

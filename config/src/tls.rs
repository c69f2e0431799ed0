//! The certificate and key by which a node or user is known: two files, read together, and replaced
//! together ([`TlsFiles::replace`]).
//!
//! What can never be right is refused: a key that does not fit, another's subject, a time that has not
//! come. That a certificate has run out, or that no CA of the genesis issued it, need not keep a node from
//! starting: the one is renewed while it runs, and the ledger may have another CA by now than the genesis.

mod replace;
mod validity;

use std::path::{Path, PathBuf};

use minidlt_protocol::types::Identity;
use openssl::{
    asn1::Asn1Time,
    pkey::{PKey, Private},
    x509::{X509, X509Ref},
};
use thiserror::Error;

pub use self::{
    replace::ReplaceError,
    validity::{Lapse, Validity, WARNING_DAYS},
};
use crate::{
    authority::{Authority, Purpose, subject},
    error::Problem,
    files::{MAX_FILE_BYTES, read, read_private},
    keys::private_key,
};

/// What a node's certificate must be good for: it accepts connections and dials.
pub const NODE: &[Purpose] = &[Purpose::Server, Purpose::Client];
/// What a user's must be.
pub const USER: &[Purpose] = &[Purpose::Client];

/// Keys of a file that are looked at: a renewal that is cut off leaves two.
const MAX_KEYS: usize = 4;
/// Times that the two files are read, for both to be of one moment.
const READS: usize = 4;

/// Where a member's certificate and its key are, and whose they have to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    pub identity: Identity,
    /// The member's, in which its settings are.
    pub directory: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// What was in the two files at one moment.
#[derive(Clone, PartialEq, Eq)]
pub struct TlsBytes {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// A certificate with its private key.
pub struct Tls {
    pub certificate: X509,
    pub key: PKey<Private>,
    pub files: TlsFiles,
}

/// A pair that cannot be used.
#[derive(Debug, Error)]
#[error("{problem}")]
pub struct TlsFault {
    pub(crate) part: Part,
    pub problem: Problem,
}

/// Which of the two paths a problem is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Certificate,
    Key,
}

impl Part {
    /// The key of the file that names the path.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Certificate => "tls.certificate",
            Self::Key => "tls.key",
        }
    }

    fn fault(self) -> impl Fn(Problem) -> TlsFault {
        move |problem| TlsFault { part: self, problem }
    }
}

impl TlsFiles {
    /// Reads a pair that fits together and is this member's.
    pub fn read(&self) -> Result<Tls, TlsFault> {
        self.parse(&self.bytes()?)
    }

    /// Both files as they were at one moment. Where the certificate is the same before and after, its key is
    /// of that time, too: [`TlsFiles::replace`] changes the key's file around it.
    pub fn bytes(&self) -> Result<TlsBytes, TlsFault> {
        let certificate = || read(&self.certificate, MAX_FILE_BYTES).map_err(Part::Certificate.fault());
        let mut before = certificate()?;
        let mut key = Vec::new();
        for _ in 0..READS {
            key = read_private(&self.key).map_err(Part::Key.fault())?;
            let after = certificate()?;
            if after == before {
                break;
            }
            before = after;
        }
        Ok(TlsBytes { certificate: before, key })
    }

    pub fn parse(&self, bytes: &TlsBytes) -> Result<Tls, TlsFault> {
        let (of_certificate, of_key) = (Part::Certificate.fault(), Part::Key.fault());
        let path = || self.certificate.clone();
        let certificate = X509::from_pem(&bytes.certificate);
        let certificate = certificate.map_err(|_| of_certificate(Problem::NotACertificate { path: path() }))?;
        let keys = private_keys(&bytes.key);
        if keys.is_empty() {
            return Err(of_key(Problem::NotATlsKey { path: self.key.clone() }));
        }
        let Some(key) = keys.into_iter().find(|key| fits(&certificate, key)) else {
            return Err(of_key(Problem::NotAPair { key: self.key.clone(), certificate: path() }));
        };
        self.check_subject(&certificate).map_err(&of_certificate)?;
        let now = Asn1Time::days_from_now(0).map_err(|error| of_certificate(error.into()))?;
        if certificate.not_before() > now {
            let when = certificate.not_before().to_string();
            return Err(of_certificate(Problem::NotYetValid { path: path(), when }));
        }
        Ok(Tls { certificate, key, files: self.clone() })
    }

    fn check_subject(&self, certificate: &X509Ref) -> Result<(), Problem> {
        if subject(certificate).is_ok_and(|subject| subject == self.identity) {
            return Ok(());
        }
        let subject = format!("{:?}", certificate.subject_name());
        Err(Problem::WrongSubject { path: self.certificate.clone(), subject, identity: self.identity.clone() })
    }

    /// The command that renews the certificate.
    pub fn renewal(&self) -> String {
        let organisation = &self.identity.organisation;
        let command = |ca: &Path| format!("minidlt renew {} --ca {}", self.directory.display(), ca.display());
        match self.authority_beside() {
            Some(ca) => command(&ca),
            None => {
                let ca = "ORGANISATION";
                format!("{}, where {ca} has the ca.crt and ca.key of {organisation}", command(Path::new(ca)))
            }
        }
    }

    /// The organisation's authority, where it lies as `init` lays out a network.
    fn authority_beside(&self) -> Option<PathBuf> {
        // A node's directory lies in the network's, a user's in `users` of it.
        let above = self.directory.ancestors().skip(1).take(2);
        let mut cas = above.map(|above| above.join("organisations").join(self.identity.organisation.as_str()));
        cas.find(|ca| ca.join("ca.key").exists())
    }
}

impl Tls {
    pub fn validity(&self) -> Result<Validity, Problem> {
        Ok(Validity::of(&self.certificate)?)
    }

    /// What is to be said of its end, if it is near or past.
    pub fn lapse(&self) -> Result<Option<Lapse>, Problem> {
        let path = || self.files.certificate.display();
        let (when, renewal) = (self.certificate.not_after(), self.files.renewal());
        Ok(self.validity()?.lapse(|days| match days {
            Some(days) => format!("{} expires on {when}, in {days} days; renew it: {renewal}", path()),
            None => format!("{} expired on {when}; renew it: {renewal}", path()),
        }))
    }

    /// Whether it may be used now.
    pub fn check(&self, authority: &Authority, purposes: &[Purpose]) -> Result<(), TlsFault> {
        let fault = Part::Certificate.fault();
        if self.validity().map_err(&fault)?.is_over() {
            return Err(fault(self.expired()));
        }
        self.check_issuer(authority, purposes).map_err(fault)
    }

    pub(crate) fn expired(&self) -> Problem {
        let when = self.certificate.not_after().to_string();
        Problem::Expired { path: self.files.certificate.clone(), when, renewal: self.files.renewal() }
    }

    /// Whether its organisation's CA vouches for it, whatever the time.
    fn check_issuer(&self, authority: &Authority, purposes: &[Purpose]) -> Result<(), Problem> {
        for purpose in purposes {
            let checked = authority.check_undated(&self.certificate, *purpose);
            checked.map_err(|refusal| Problem::Certificate { path: self.files.certificate.clone(), refusal })?;
        }
        Ok(())
    }

    /// What the genesis' authorities have against it. The ledger's may be others by now.
    pub(crate) fn doubts(&self, genesis: &Authority, purposes: &[Purpose]) -> Option<String> {
        let problem = self.check_issuer(genesis, purposes).err()?;
        let organisation = &self.files.identity.organisation;
        Some(format!("{problem}; unless the ledger has another CA of {organisation} by now than the genesis"))
    }
}

fn fits(certificate: &X509Ref, key: &PKey<Private>) -> bool {
    certificate.public_key().is_ok_and(|public| public.public_eq(key))
}

/// The private keys in a file: one, or those of a renewal that was cut off.
fn private_keys(pem: &[u8]) -> Vec<PKey<Private>> {
    const BEGIN: &str = "-----BEGIN ";
    let text = String::from_utf8_lossy(pem);
    let starts = || text.match_indices(BEGIN).map(|(at, _)| at);
    let blocks = starts().zip(starts().skip(1).chain([text.len()])).map(|(from, to)| &text[from..to]);
    blocks.filter_map(|block| private_key(block.as_bytes())).take(MAX_KEYS).collect()
}

#[cfg(test)]
mod tests;

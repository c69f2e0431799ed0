//! `minidlt renew`: another certificate for a node or user, with another key, before the old one runs out or
//! after. A node that runs takes it up by itself.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::{ArgGroup, Args, value_parser};
use minidlt_actors::tls::LOOK_EVERY;
use minidlt_config::{
    authority::{Authority, BadCa, Refusal},
    tls::{NODE, ReplaceError, Tls, TlsFault, TlsFiles, USER},
    user::{self, USER_FILE},
};
use minidlt_protocol::registry::Organisation;
use openssl::{error::ErrorStack, pkey::PKey, x509::X509};
use thiserror::Error;

use super::{Failure, flags::NodeFlags};
use crate::{
    init::{
        P12_PASSWORD,
        certificates::{self, Issued, LEAF_DAYS},
    },
    say,
};

/// A user's certificate and key for browsers.
const P12_FILE: &str = "tls.p12";

/// Renew a node's or user's certificate, with a new key; a node that runs takes it up by itself
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("how").required(true).args(["ca", "csr", "issued"])))]
pub struct Renew {
    /// The directory of a node or user, such as network/node0 or network/users/admin
    #[arg(value_name = "DIR")]
    path: PathBuf,
    /// Have it issued by the authority whose ca.crt and ca.key are here, such as network/organisations/Org01
    #[arg(long, value_name = "ORG_DIR")]
    ca: Option<PathBuf>,
    /// For how many days
    #[arg(long, value_name = "N", default_value_t = LEAF_DAYS, requires = "ca",
        value_parser = value_parser!(u16).range(1..=i64::from(LEAF_DAYS)))]
    days: u16,
    /// Where the authority is elsewhere: write a request for it to FILE (PKCS#10, PEM), and keep its key
    #[arg(long, value_name = "FILE")]
    csr: Option<PathBuf>,
    /// The certificate that the authority issued for the last request, PEM
    #[arg(long, value_name = "FILE")]
    issued: Option<PathBuf>,
}

/// Why nothing was renewed.
#[derive(Debug, Error)]
enum RenewError {
    #[error("{} cannot be read: {error}", path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("{} {what}", path.display())]
    NotACa { path: PathBuf, what: &'static str },
    #[error("{}: {error}", dir.display())]
    BadCa { dir: PathBuf, error: BadCa },
    #[error("what the CA in {} issues is of no use: {refusal}", dir.display())]
    Useless { dir: PathBuf, refusal: Refusal },
    #[error("{} holds no certificate whose subject and names could be taken over; have one issued by other means", .0.display())]
    NoCertificate(PathBuf),
    #[error("{0}")]
    Issued(#[from] TlsFault),
    #[error("there is no request that waits for a certificate: {} is missing; write one with --csr", .0.display())]
    NoRequest(PathBuf),
    #[error(transparent)]
    Replace(#[from] ReplaceError),
    #[error("OpenSSL failed: {0}")]
    Openssl(#[from] ErrorStack),
}

impl From<RenewError> for Failure {
    fn from(error: RenewError) -> Self {
        match error {
            RenewError::Replace(_) | RenewError::Openssl(_) => Self::failed(error),
            _ => Self::usage(error),
        }
    }
}

/// Whose certificate it is.
struct Member {
    files: TlsFiles,
    is_node: bool,
    old: X509,
}

impl Renew {
    pub fn run(self) -> Result<(), Failure> {
        let member = Member::of(&self.path)?;
        let certificate = match (self.ca, self.csr, self.issued) {
            (Some(ca), _, _) => member.renew(&ca, self.days)?,
            (_, Some(request), _) => return Ok(member.request(&request)?),
            (_, _, Some(issued)) => member.take(issued)?,
            // Which clap does not let through.
            (None, None, None) => return Ok(()),
        };
        member.say_warnings(&self.path);
        let (path, until) = (member.files.certificate.display(), certificate.not_after());
        let mut out = io::stdout().lock();
        writeln!(out, "renewed: {path} of {}, until {until}", member.files.identity)?;
        if member.is_node {
            let seconds = LOOK_EVERY.as_secs();
            writeln!(out, "the node takes it up within {seconds} seconds, if it runs, and at once on SIGHUP")?;
        }
        Ok(())
    }
}

impl Member {
    fn of(path: &Path) -> Result<Self, Failure> {
        let is_node = !path.join(USER_FILE).exists();
        let files = if is_node { minidlt_config::tls_files(path)? } else { user::tls_files(path)? };
        let old = X509::from_pem(&read(&files.certificate)?);
        let old = old.map_err(|_| RenewError::NoCertificate(files.certificate.clone()))?;
        Ok(Self { files, is_node, old })
    }

    fn renew(&self, ca: &Path, days: u16) -> Result<X509, RenewError> {
        let turn = self.files.turn()?;
        let issued = self.issue(ca, days)?;
        self.files.replace(&turn, issued.certificate(), issued.key())?;
        let p12 = self.files.directory.join(P12_FILE);
        if p12.exists() {
            let name = self.files.identity.to_string();
            self.files.replace_private(&turn, &p12, issued.pkcs12(&name, P12_PASSWORD)?)?;
        }
        Ok(issued.certificate().to_owned())
    }

    /// Nothing is replaced by what its own CA would not stand for.
    fn issue(&self, dir: &Path, days: u16) -> Result<Issued, RenewError> {
        let [certificate_path, key_path] = ["ca.crt", "ca.key"].map(|name| dir.join(name));
        let (pem, key) = (read(&certificate_path)?, read(&key_path)?);
        let not_a_ca = |path: &Path, what| RenewError::NotACa { path: path.to_owned(), what };
        let certificate = X509::from_pem(&pem);
        let certificate = certificate.map_err(|_| not_a_ca(&certificate_path, "holds no certificate in PEM"))?;
        let key = PKey::private_key_from_pem_callback(&key, |_| Ok(0));
        let key = key.map_err(|_| not_a_ca(&key_path, "holds no private key in unencrypted PEM"))?;
        if !certificate.public_key()?.public_eq(&key) {
            return Err(not_a_ca(&key_path, "is not the key of the ca.crt beside it"));
        }
        let identity = &self.files.identity;
        let authority = certificates::Authority::of(identity.organisation.clone(), certificate, key);
        let issued = authority.renew(&self.old, self.is_node, days)?;
        let ca = String::from_utf8_lossy(&pem).into_owned();
        let organisation = Organisation::new(identity.organisation.clone(), ca);
        let authority =
            Authority::new([&organisation]).map_err(|error| RenewError::BadCa { dir: dir.to_owned(), error })?;
        for purpose in if self.is_node { NODE } else { USER } {
            let checked = authority.check(issued.certificate(), *purpose);
            checked.map_err(|refusal| RenewError::Useless { dir: dir.to_owned(), refusal })?;
        }
        Ok(issued)
    }

    fn request(&self, to: &Path) -> Result<(), RenewError> {
        let turn = self.files.turn()?;
        let (request, key) = certificates::request(&self.old)?;
        self.files.replace_private(&turn, &self.next_key(), key.private_key_to_pem_pkcs8()?)?;
        let write_error = |error| ReplaceError::Io { path: to.to_owned(), error };
        fs::write(to, request.to_pem()?).map_err(write_error)?;
        say::note(format_args!(
            "{} is for the authority of {}; when it has issued a certificate: minidlt renew {} --issued FILE",
            to.display(),
            self.files.identity.organisation,
            self.files.directory.display()
        ));
        Ok(())
    }

    /// A certificate that was issued elsewhere for the last request.
    fn take(&self, certificate: PathBuf) -> Result<X509, RenewError> {
        let turn = self.files.turn()?;
        let key = self.next_key();
        if !key.exists() {
            return Err(RenewError::NoRequest(key));
        }
        let Tls { certificate, key: new, .. } =
            TlsFiles { certificate, key: key.clone(), ..self.files.clone() }.read()?;
        self.files.replace(&turn, &certificate, &new)?;
        fs::remove_file(&key).map_err(|error| ReplaceError::Io { path: key, error })?;
        Ok(certificate)
    }

    /// The key of a request, which waits for its certificate.
    fn next_key(&self) -> PathBuf {
        let mut path = self.files.key.clone().into_os_string();
        path.push(".next");
        path.into()
    }

    /// What the genesis has against it, where the rest of the directory can be read.
    fn say_warnings(&self, path: &Path) {
        let warnings = if self.is_node {
            minidlt_config::load(path, NodeFlags::default().into()).map(|node| node.warnings)
        } else {
            user::load(path).map(|user| user.warnings)
        };
        match warnings {
            Ok(warnings) => warnings.into_iter().for_each(say::warn),
            Err(error) => say::warn(error),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, RenewError> {
    fs::read(path).map_err(|error| RenewError::Unreadable { path: path.to_owned(), error })
}

#[cfg(test)]
mod tests;

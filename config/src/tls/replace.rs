//! Replacing a certificate and its key, two files, as if they were one.
//!
//! ```text
//! key's file   old      old, new   old, new   new
//! certificate  old      old        new        new
//! ```
//!
//! Each step is a file put in another's place by its name, on the disk before the next begins: whenever
//! this is cut off, one of the keys fits the certificate, and readers take that one
//! ([`super::TlsFiles::parse`]). Renewing again puts the rest right.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, fchown},
    path::{Path, PathBuf},
};

use openssl::{
    error::ErrorStack,
    pkey::{PKey, PKeyRef, Private},
    x509::X509Ref,
};
use thiserror::Error;

use super::TlsFiles;

const PRIVATE_FILE: u32 = 0o600;
const PUBLIC_FILE: u32 = 0o644;

/// Why a pair was not replaced.
#[derive(Debug, Error)]
pub enum ReplaceError {
    #[error("{} cannot be written: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("{} is being renewed by another run; wait for that", .0.display())]
    Busy(PathBuf),
    #[error("OpenSSL failed: {0}")]
    Openssl(#[from] ErrorStack),
}

/// The right to replace files of a member's directory, of one run at a time.
pub struct Turn(#[expect(dead_code, reason = "it is held")] File);

/// A file and what it is to hold.
pub(super) struct Step<'a> {
    pub path: &'a Path,
    pub bytes: Vec<u8>,
    mode: u32,
}

impl TlsFiles {
    /// Waits for nobody: a second run beside this one is told so.
    pub fn turn(&self) -> Result<Turn, ReplaceError> {
        let io = |error| ReplaceError::Io { path: self.directory.clone(), error };
        let directory = File::open(&self.directory).map_err(io)?;
        match directory.try_lock() {
            Ok(()) => Ok(Turn(directory)),
            Err(TryLockError::WouldBlock) => Err(ReplaceError::Busy(self.directory.clone())),
            Err(TryLockError::Error(error)) => Err(io(error)),
        }
    }

    /// Puts a new pair in the place of the one that is there; on the disk once this answers.
    pub fn replace(&self, _: &Turn, certificate: &X509Ref, key: &PKeyRef<Private>) -> Result<(), ReplaceError> {
        self.steps(certificate, key)?.iter().try_for_each(Step::take)
    }

    /// A private file beside them, such as a user's for browsers.
    pub fn replace_private(&self, _: &Turn, path: &Path, bytes: Vec<u8>) -> Result<(), ReplaceError> {
        Step { path, bytes, mode: PRIVATE_FILE }.take()
    }

    pub(super) fn steps(&self, certificate: &X509Ref, key: &PKeyRef<Private>) -> Result<Vec<Step<'_>>, ErrorStack> {
        let (certificate, key) = (certificate.to_pem()?, key.private_key_to_pem_pkcs8()?);
        let private = |bytes| Step { path: &self.key, bytes, mode: PRIVATE_FILE };
        if self.certificate == self.key {
            return Ok(vec![private([certificate, key].concat())]);
        }
        let old: Option<PKey<Private>> = self.read().ok().map(|old| old.key);
        let old = old.map(|old| old.private_key_to_pem_pkcs8()).transpose()?.unwrap_or_default();
        Ok(vec![
            private([&old[..], &key].concat()),
            Step { path: &self.certificate, bytes: certificate, mode: PUBLIC_FILE },
            private(key),
        ])
    }
}

impl Step<'_> {
    pub(super) fn take(&self) -> Result<(), ReplaceError> {
        // A link stays, and what it leads to is replaced.
        let path = fs::canonicalize(self.path).unwrap_or_else(|_| self.path.to_owned());
        let mut new = path.clone().into_os_string();
        new.push(".new");
        let new = PathBuf::from(new);
        let written = self.write(&path, &new).inspect_err(|_| {
            // There is a key in it; what matters is why.
            let _ = fs::remove_file(&new);
        });
        written.map_err(|error| ReplaceError::Io { path, error })
    }

    fn write(&self, path: &Path, new: &Path) -> io::Result<()> {
        // What a run that was killed has left: with the turn, nobody is writing it.
        match fs::remove_file(new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(self.mode).open(new)?;
        // Root may renew for a node that runs as another, who has to read it.
        if let Ok(old) = path.metadata()
            && old.uid() != file.metadata()?.uid()
        {
            fchown(&file, Some(old.uid()), Some(old.gid()))?;
        }
        file.write_all(&self.bytes)?;
        file.sync_all()?;
        fs::rename(new, path)?;
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    }
}

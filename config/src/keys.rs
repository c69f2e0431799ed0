//! Signing keys: secp256k1, PKCS#8 PEM, readable by their owner alone.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use minidlt_protocol::crypto::{CryptoError, PublicKey, SecretKey};
use openssl::{
    ec::{EcGroup, EcKey},
    error::ErrorStack,
    nid::Nid,
    pkey::{PKey, Private},
};

use crate::{
    error::{ConfigError, Problem},
    files::read_private,
};

/// Bytes of a secp256k1 private key.
const SECRET_BYTES: i32 = 32;

/// A key just made.
pub struct NewKey {
    /// PKCS#8 PEM: secret.
    pub pem: Vec<u8>,
    pub public_key: PublicKey,
}

/// Where a node's signing key is; beside it, while one takes another's place, the one to come (`.next`), and
/// afterwards the one before (`.former`).
#[derive(Debug, Clone)]
pub struct KeyFiles(PathBuf);

impl KeyFiles {
    /// `key` is the file of the key in use.
    pub fn new(key: PathBuf) -> Self {
        Self(key)
    }

    pub fn current(&self) -> &Path {
        &self.0
    }

    pub fn next(&self) -> PathBuf {
        self.beside(".next")
    }

    pub fn former(&self) -> PathBuf {
        self.beside(".former")
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut path = OsString::from(&self.0);
        path.push(ending);
        path.into()
    }

    /// The key in one of the files; `None` where there is no such file.
    pub fn read(path: &Path) -> Result<Option<SecretKey>, ConfigError> {
        match path.try_exists() {
            Ok(false) => Ok(None),
            _ => read_key(path).map(Some),
        }
    }

    /// The key to come takes the place of the one in use, which is kept as the one before. Cut off at any
    /// moment, the key in use is one of the two.
    pub fn take_up_next(&self) -> io::Result<()> {
        let former = self.former();
        // Whoever put it there may not have had it written to the disk.
        File::open(self.next())?.sync_all()?;
        match fs::remove_file(&former) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::hard_link(&self.0, &former)?;
        fs::rename(self.next(), &self.0)?;
        let directory = self.0.parent().filter(|directory| !directory.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    }
}

/// Makes a signing key from the operating system's randomness.
pub fn generate_key() -> Result<NewKey, ErrorStack> {
    loop {
        let key = PKey::from_ec_key(EcKey::generate(&*EcGroup::from_curve_name(Nid::SECP256K1)?)?)?;
        // OpenSSL never makes a key that secp256k1 refuses; were it to, the next one is as good.
        if let Ok(secret) = secret_of(&key)? {
            return Ok(NewKey { pem: key.private_key_to_pem_pkcs8()?, public_key: secret.public_key() });
        }
    }
}

/// Reads a signing key.
pub fn read_key(path: &Path) -> Result<SecretKey, ConfigError> {
    read_signing_key(path).map_err(|problem| ConfigError::file(path, problem))
}

pub(crate) fn read_signing_key(path: &Path) -> Result<SecretKey, Problem> {
    let not_a_key = || Problem::NotAKey { path: path.to_owned() };
    let key = private_key(&read_private(path)?).ok_or_else(not_a_key)?;
    let on_curve = key.ec_key().is_ok_and(|key| key.group().curve_name() == Some(Nid::SECP256K1));
    if !on_curve {
        return Err(Problem::WrongCurve { path: path.to_owned() });
    }
    secret_of(&key)?.map_err(|_| not_a_key())
}

/// Parses a private key of any kind. A passphrase is never asked for: a node starts unattended.
pub(crate) fn private_key(pem: &[u8]) -> Option<PKey<Private>> {
    PKey::private_key_from_pem_callback(pem, |_| Ok(0)).ok()
}

fn secret_of(key: &PKey<Private>) -> Result<Result<SecretKey, CryptoError>, ErrorStack> {
    let bytes = key.ec_key()?.private_key().to_vec_padded(SECRET_BYTES)?;
    Ok(<[u8; SECRET_BYTES as usize]>::try_from(bytes)
        .map_err(|_| CryptoError::SecretKey)
        .and_then(|bytes| SecretKey::from_bytes(&bytes)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::OpenOptionsExt;

    use super::*;

    fn write(path: &Path) -> PublicKey {
        use std::io::Write;
        let made = generate_key().unwrap();
        let mut file = fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path).unwrap();
        file.write_all(&made.pem).unwrap();
        made.public_key
    }

    fn holds(path: &Path) -> Option<PublicKey> {
        KeyFiles::read(path).unwrap().map(|key| key.public_key())
    }

    #[test]
    fn the_next_key_takes_the_place_and_the_one_before_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let files = KeyFiles::new(directory.path().join("node.key"));
        let mut before = write(files.current());
        assert_eq!([holds(&files.next()), holds(&files.former())], [None, None]);
        assert_eq!(files.take_up_next().unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(holds(files.current()), Some(before));
        for _ in 0..2 {
            let next = write(&files.next());
            files.take_up_next().unwrap();
            let held = [files.current(), &files.former(), &files.next()].map(holds);
            assert_eq!(held, [Some(next), Some(before), None]);
            before = next;
        }
    }
}

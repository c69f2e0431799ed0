//! Signing keys: secp256k1, PKCS#8 PEM, readable by their owner alone.

use std::path::Path;

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

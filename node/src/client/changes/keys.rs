//! A member's public key as a command is given it.

use std::path::Path;

use minidlt_protocol::crypto::PublicKey;
use openssl::{
    ec::{EcKey, PointConversionForm},
    error::ErrorStack,
    nid::Nid,
    pkey::{PKey, Public},
};
use serde_json::Value;

use crate::client::{error::ClientError, files::read};

const MAX_KEY_FILE_BYTES: usize = 64 << 10;
/// A compressed point of secp256k1.
const HEX_DIGITS: usize = 66;

/// A key in hexadecimal, or that of a PEM file. Of a private key the public part is taken; nothing else of it
/// leaves this function.
pub fn public_key(text: &str) -> Result<PublicKey, ClientError> {
    if text.len() == HEX_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return serde_json::from_value(Value::String(text.to_ascii_lowercase()))
            .map_err(|_| ClientError::Usage(format!("{text} is not a public key of secp256k1")));
    }
    let path = Path::new(text);
    let content = |what: &str| ClientError::Content { path: path.into(), what: what.into() };
    let pem = read(path, MAX_KEY_FILE_BYTES)?;
    let key = ec_key(&pem).map_err(|_| content("holds no key in PEM, private or public, that needs no passphrase"))?;
    if key.group().curve_name() != Some(Nid::SECP256K1) {
        return Err(content("holds a key of another curve than secp256k1; make one with minidlt keygen"));
    }
    compressed(&key)?.ok_or_else(|| content("holds no valid key of secp256k1"))
}

fn ec_key(pem: &[u8]) -> Result<EcKey<Public>, ErrorStack> {
    // A passphrase is never asked for.
    match PKey::private_key_from_pem_callback(pem, |_| Ok(0)).and_then(|key| key.ec_key()) {
        Ok(key) => EcKey::from_public_key(key.group(), key.public_key()),
        Err(_) => PKey::public_key_from_pem(pem)?.ec_key(),
    }
}

fn compressed(key: &EcKey<Public>) -> Result<Option<PublicKey>, ErrorStack> {
    let mut context = openssl::bn::BigNumContext::new()?;
    let bytes = key.public_key().to_bytes(key.group(), PointConversionForm::COMPRESSED, &mut context)?;
    Ok(<[u8; 33]>::try_from(bytes).ok().and_then(|bytes| PublicKey::from_bytes(&bytes).ok()))
}

#[cfg(test)]
mod tests {
    use openssl::ec::EcGroup;

    use super::*;

    #[test]
    fn a_key_is_the_same_in_hex_and_in_files_private_or_public() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &[u8]| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let made = minidlt_config::generate_key().unwrap();
        let public = PKey::private_key_from_pem(&made.pem).unwrap().public_key_to_pem().unwrap();
        let files = [write("private", &made.pem), write("public", &public)];
        for given in [&made.public_key.to_string(), &made.public_key.to_string().to_uppercase(), &files[0], &files[1]] {
            assert_eq!(public_key(given).unwrap(), made.public_key, "{given}");
        }
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let other = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap().private_key_to_pem_pkcs8().unwrap();
        assert!(public_key(&write("other", &other)).unwrap_err().to_string().contains("another curve"));
        assert!(public_key(&write("none", b"hello")).unwrap_err().to_string().contains("holds no key"));
        assert!(public_key(&"ff".repeat(33)).unwrap_err().to_string().contains("is not a public key"));
        assert!(public_key("there/is/none").unwrap_err().to_string().contains("cannot be read"));
    }
}

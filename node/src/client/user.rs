//! A user's directory: `user.yaml`, the signing key, and the TLS certificate with its key.

use std::path::{Path, PathBuf};

use minidlt_protocol::{
    crypto::SecretKey,
    types::{Hash, Identity, Name},
};
use openssl::{
    nid::Nid,
    pkey::{PKey, Private},
};
use serde::Deserialize;

use super::{
    api::NodeUrl,
    error::ClientError,
    files::{load_genesis, read, read_text},
};

/// Far more than any of a user's files has.
const MAX_USER_FILE_BYTES: usize = 1 << 20;

/// `user.yaml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct UserFile {
    name: Name,
    organisation: Name,
    /// The network's id, or the path of its genesis file from the user's directory.
    network: String,
    nodes: Vec<String>,
}

/// A user of one network.
#[derive(Debug, Clone)]
pub struct User {
    pub directory: PathBuf,
    pub identity: Identity,
    pub network: Hash,
    /// Its gateways, the first being the one to try first.
    pub nodes: Vec<NodeUrl>,
}

impl User {
    pub fn load(directory: &Path) -> Result<Self, ClientError> {
        let path = directory.join("user.yaml");
        let text = read_text(&path, MAX_USER_FILE_BYTES)?;
        let file: UserFile = serde_yaml::from_str(&text)
            .map_err(|error| ClientError::Content { path: path.clone(), what: format!("not a user file: {error}") })?;
        let network = match file.network.parse::<Hash>() {
            Ok(network) => network,
            Err(_) => load_genesis(&directory.join(&file.network))?.id(),
        };
        let nodes = file.nodes.iter().map(|url| url.parse()).collect::<Result<_, _>>()?;
        let identity = Identity::new(file.name, file.organisation);
        Ok(Self { directory: directory.into(), identity, network, nodes })
    }

    /// The authorities to trust where none are given: `ca.crt` beside `users`.
    pub fn default_ca(&self) -> PathBuf {
        self.directory.join("..").join("..").join("ca.crt")
    }

    /// The key that signs this user's transactions.
    pub fn signing_key(&self) -> Result<SecretKey, ClientError> {
        let path = self.directory.join("user.key");
        let pem = read(&path, MAX_USER_FILE_BYTES)?;
        secret_key(&pem).map_err(|what| ClientError::Content { path, what: what.into() })
    }
}

/// Takes the secret out of a PKCS#8 PEM of a secp256k1 key. Errors say nothing of what is in it.
fn secret_key(pem: &[u8]) -> Result<SecretKey, &'static str> {
    const WANTED: &str = "not an unencrypted PKCS#8 key of curve secp256k1; `minidlt keygen` makes one";
    let key: PKey<Private> = PKey::private_key_from_pem(pem).map_err(|_| WANTED)?;
    let key = key.ec_key().map_err(|_| WANTED)?;
    if key.group().curve_name() != Some(Nid::SECP256K1) {
        return Err(WANTED);
    }
    let bytes = key.private_key().to_vec_padded(32).map_err(|_| WANTED)?;
    let bytes: &[u8; 32] = bytes.as_slice().try_into().map_err(|_| WANTED)?;
    SecretKey::from_bytes(bytes).map_err(|_| WANTED)
}

#[cfg(test)]
mod tests {
    use openssl::ec::{EcGroup, EcKey};

    use super::*;

    fn pem(curve: Nid) -> Vec<u8> {
        let key = EcKey::generate(&EcGroup::from_curve_name(curve).unwrap()).unwrap();
        PKey::from_ec_key(key).unwrap().private_key_to_pem_pkcs8().unwrap()
    }

    #[test]
    fn a_directory_gives_identity_network_nodes_and_key() {
        let dir = tempfile::tempdir().unwrap();
        let network = "ab".repeat(32);
        let yaml = format!("name: trader\norganisation: Org01\nnetwork: {network}\nnodes: [https://localhost:3401/]\n");
        std::fs::write(dir.path().join("user.yaml"), yaml).unwrap();
        std::fs::write(dir.path().join("user.key"), pem(Nid::SECP256K1)).unwrap();
        let user = User::load(dir.path()).unwrap();
        assert_eq!(user.identity.to_string(), "trader@Org01");
        assert_eq!(user.network.to_string(), network);
        assert_eq!(user.nodes[0].to_string(), "https://localhost:3401");
        assert!(user.signing_key().is_ok());
    }

    #[test]
    fn a_key_of_another_curve_is_refused_by_name_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let yaml = format!("name: a\norganisation: b\nnetwork: {}\nnodes: []\n", "00".repeat(32));
        std::fs::write(dir.path().join("user.yaml"), yaml).unwrap();
        std::fs::write(dir.path().join("user.key"), pem(Nid::X9_62_PRIME256V1)).unwrap();
        let error = User::load(dir.path()).unwrap().signing_key().err().unwrap().to_string();
        assert!(error.contains("user.key") && error.contains("secp256k1"), "{error}");
    }
}

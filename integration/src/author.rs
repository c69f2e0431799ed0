//! Signing as a user of a cluster, without the program under test: what it accepts must not hang on
//! how it signs.

use std::{
    fs,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use minidlt_protocol::{
    codec,
    crypto::SecretKey,
    transaction::{Body, Content, Operation, SignedTransaction, id_of},
    types::{Hash, Identity, Timestamp},
};
use openssl::ec::EcKey;
use serde_json::Value;

use crate::Cluster;

/// How long an author's transactions may wait, in milliseconds: longer than any test.
const LIFETIME_MILLIS: u64 = 600_000;

/// A user, with its key.
pub struct Author {
    pub identity: Identity,
    pub network: Hash,
    pub key: SecretKey,
}

impl Author {
    /// The user of this name.
    pub fn of(cluster: &Cluster, name: &str) -> Self {
        let directory = cluster.user(name);
        let text = fs::read_to_string(directory.join("user.yaml")).expect("a user's file");
        let settings: Value = serde_yaml::from_str(&text).expect("YAML");
        let identity = serde_json::from_value(settings["identity"].clone()).expect("an identity");
        Self { identity, network: cluster.genesis().id(), key: secret_key(&directory.join("user.key")) }
    }

    /// A body with one record, of now.
    pub fn body(&self, nonce: u64, content: &Value) -> Body {
        let created = now();
        Body {
            network: self.network,
            author: self.identity.clone(),
            created,
            expires: created.plus_millis(LIFETIME_MILLIS),
            nonce,
            operation: Operation::records(vec![Content::from_json(content)]),
        }
    }

    /// The body signed, as it is submitted.
    pub fn sign(&self, body: &Body) -> Vec<u8> {
        codec::encode(&SignedTransaction::sign(body, &self.key))
    }

    /// The id of a transaction with this body, in hexadecimal.
    pub fn id(&self, body: &Body) -> String {
        id_of(&self.network, &codec::encode(body)).to_string()
    }
}

/// A signing key of a user or a node.
pub fn secret_key(path: &Path) -> SecretKey {
    let pem = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let key = EcKey::private_key_from_pem(&pem).expect("a PEM key");
    let bytes = key.private_key().to_vec_padded(32).expect("32 bytes");
    SecretKey::from_bytes(&bytes.try_into().expect("32 bytes")).expect("a key of secp256k1")
}

/// The time, as the ledger counts it.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
    Timestamp::from_millis(u64::try_from(since).expect("before the year 500 million"))
}

//! A signed transaction in a file, to be read by people and endorsed by them.
//!
//! The file has the very bytes that are signed, and beside them in clear what they say. Whoever reads the file
//! checks the one against the other, so nobody endorses anything but what the file shows.

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use minidlt_config::user::UserSettings;
use minidlt_protocol::{
    crypto::Signature,
    limits::MAX_ENDORSEMENTS,
    transaction::{Body, Endorsement, Refusal, SignedTransaction, Transaction, TransactionBytes, open},
    types::{Hash, Identity, Timestamp},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thiserror::Error;

use crate::client::{
    error::ClientError,
    files::{read_text, write_whole},
};

/// Of the file's format.
const VERSION: u32 = 1;
/// The largest change, or a good many records, in both forms, with all signatures.
const MAX_DRAFT_BYTES: usize = 512 << 10;

/// A signed transaction with its endorsements, open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    pub signed: SignedTransaction,
    pub body: Body,
    pub id: Hash,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    minidlt_transaction: u32,
    operation: Value,
    author: Identity,
    expires: Timestamp,
    id: Hash,
    body: String,
    signature: String,
    endorsements: Vec<FileEndorsement>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileEndorsement {
    endorser: Identity,
    signature: String,
}

/// What is wrong with a file that reads as a transaction's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DraftError {
    #[error("its '{0}' in clear is not what is signed: somebody edited it; sign nothing, and ask for another file")]
    Edited(&'static str),
    #[error("{0}")]
    Refused(#[from] Refusal),
    #[error("{0} has signed it already")]
    Signed(Identity),
    #[error("it has {MAX_ENDORSEMENTS} endorsements, the most there may be")]
    Full,
}

impl Draft {
    /// Takes a signed transaction of this network apart.
    pub fn of(bytes: TransactionBytes, network: &Hash) -> Result<Self, Refusal> {
        let (signed, body) = open(bytes.as_slice())?;
        let id = Transaction::parse(bytes, network)?.id;
        Ok(Self { signed, body, id })
    }

    /// Reads a file, and checks that what it says in clear is what is signed.
    pub fn read(path: &Path, network: &Hash) -> Result<Self, ClientError> {
        let text = read_text(path, MAX_DRAFT_BYTES)?;
        let file: File = serde_json::from_str(&text).map_err(|error| ClientError::Content {
            path: path.into(),
            what: format!("not a transaction's file: {error}"),
        })?;
        if file.minidlt_transaction != VERSION {
            let what = format!("minidlt_transaction: {}, this program reads {VERSION}", file.minidlt_transaction);
            return Err(ClientError::Content { path: path.into(), what });
        }
        let signed = file.signed().map_err(|what| ClientError::Content { path: path.into(), what })?;
        let bad = |reason: DraftError| ClientError::Draft { path: path.into(), reason: Box::new(reason) };
        let draft = Self::of((&signed).into(), network).map_err(|refusal| bad(refusal.into()))?;
        draft.check_clear(&file).map_err(bad)?;
        Ok(draft)
    }

    fn check_clear(&self, file: &File) -> Result<(), DraftError> {
        // As it reads from text: a number of many digits may read as its neighbour.
        let shown = serde_json::from_str::<Value>(&self.operation().to_string());
        let same = [
            ("operation", shown.is_ok_and(|shown| shown == file.operation)),
            ("author", self.body.author == file.author),
            ("expires", self.body.expires == file.expires),
            ("id", self.id == file.id),
        ];
        same.into_iter().find(|(_, same)| !same).map_or(Ok(()), |(name, _)| Err(DraftError::Edited(name)))
    }

    /// What it does, as JSON.
    pub fn operation(&self) -> Value {
        json!(self.body.operation)
    }

    /// Writes it; a file that is there is replaced as a whole.
    pub fn write(&self, path: &Path) -> Result<(), ClientError> {
        // As JSON, with what it does on top.
        let text = serde_json::to_string_pretty(&self.to_file());
        let text = text.map_err(|error| ClientError::Content { path: path.into(), what: error.to_string() })?;
        if text.len() >= MAX_DRAFT_BYTES {
            let what = format!("{} bytes, and none larger than {MAX_DRAFT_BYTES} is read: fewer records", text.len());
            return Err(ClientError::Content { path: path.into(), what });
        }
        write_whole(path, &format!("{text}\n"))
    }

    fn to_file(&self) -> File {
        let endorsements = self.signed.endorsements.iter().map(|Endorsement { endorser, signature }| FileEndorsement {
            endorser: endorser.clone(),
            signature: STANDARD.encode(signature.as_bytes()),
        });
        File {
            minidlt_transaction: VERSION,
            operation: self.operation(),
            author: self.body.author.clone(),
            expires: self.body.expires,
            id: self.id,
            body: STANDARD.encode(&self.signed.body),
            signature: STANDARD.encode(self.signed.signature.as_bytes()),
            endorsements: endorsements.collect(),
        }
    }

    /// As the API takes it.
    pub fn to_json(&self) -> Value {
        let endorsements = self.signed.endorsements.iter();
        let endorsements: Vec<Value> = endorsements
            .map(|one| json!({ "endorser": one.endorser, "signature": STANDARD.encode(one.signature.as_bytes()) }))
            .collect();
        json!({
            "body": STANDARD.encode(&self.signed.body),
            "signature": STANDARD.encode(self.signed.signature.as_bytes()),
            "endorsements": endorsements,
        })
    }

    /// Adds a user's signature.
    pub fn endorse(&mut self, user: &UserSettings) -> Result<(), DraftError> {
        let endorsements = &self.signed.endorsements;
        if self.body.author == user.identity || endorsements.iter().any(|one| one.endorser == user.identity) {
            return Err(DraftError::Signed(user.identity.clone()));
        }
        if endorsements.len() >= MAX_ENDORSEMENTS {
            return Err(DraftError::Full);
        }
        let signature = user.key.sign(&self.id);
        self.signed.endorsements.push(Endorsement { endorser: user.identity.clone(), signature });
        Ok(())
    }
}

impl File {
    fn signed(&self) -> Result<SignedTransaction, String> {
        let body = STANDARD.decode(&self.body).map_err(|error| format!("body is not base64: {error}"))?;
        let mut signed = SignedTransaction::new(body, signature(&self.signature)?);
        for FileEndorsement { endorser, signature: text } in &self.endorsements {
            signed.endorsements.push(Endorsement { endorser: endorser.clone(), signature: signature(text)? });
        }
        Ok(signed)
    }
}

/// As any tool makes one: 64 bytes, or DER.
fn signature(text: &str) -> Result<Signature, String> {
    let bytes = STANDARD.decode(text).map_err(|error| format!("a signature is not base64: {error}"))?;
    Signature::normalise(&bytes).map_err(|_| "a signature is none of secp256k1".into())
}

#[cfg(test)]
mod tests {
    use minidlt_protocol::{
        crypto::SecretKey,
        governance::{Change, SetPolicy},
        registry::default_policy,
        transaction::Operation,
    };

    use super::*;

    const NETWORK: Hash = Hash::from_bytes([7; 32]);

    fn draft() -> Draft {
        let set = SetPolicy { name: "orderers".parse().unwrap(), revision: Some(1), policy: default_policy() };
        let body = Body {
            network: NETWORK,
            author: "admin@Org01".parse().unwrap(),
            created: Timestamp::from_millis(1),
            expires: Timestamp::from_millis(2),
            nonce: 3,
            operation: Operation::Change(Change::SetPolicy(set).into()),
        };
        let key = SecretKey::from_bytes(&[9; 32]).unwrap();
        Draft::of((&SignedTransaction::sign(&body, &key)).into(), &NETWORK).unwrap()
    }

    #[test]
    fn a_file_says_in_clear_what_is_signed_or_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("change.json");
        let draft = draft();
        draft.write(&path).unwrap();
        assert_eq!(Draft::read(&path, &NETWORK).unwrap(), draft);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("\"majority\": \"admin\""), "{text}");
        let said = |text: String| {
            std::fs::write(&path, text).unwrap();
            Draft::read(&path, &NETWORK).unwrap_err().to_string().replace(directory.path().to_str().unwrap(), "D")
        };
        let edits = [
            ("\"majority\": \"admin\"", "\"majority\": \"auditor\"", "operation"),
            ("\"name\": \"admin\"", "\"name\": \"nobody\"", "author"),
            ("\"expires\": 2", "\"expires\": 3", "expires"),
        ];
        for (from, to, what) in edits {
            assert_ne!(text.replacen(from, to, 1), text);
            let said = said(text.replacen(from, to, 1));
            assert!(said.starts_with(&format!("D/change.json: its '{what}' in clear is not what is signed")), "{said}");
        }
        assert!(said(text.replace("\"minidlt_transaction\": 1", "\"minidlt_transaction\": 2")).contains("reads 1"));
        assert!(said(text.replace("\"id\"", "\"di\"")).contains("not a transaction's file: unknown field `di`"));
        std::fs::write(&path, &text).unwrap();
        let other = Draft::read(&path, &Hash::from_bytes([8; 32])).unwrap_err().to_string();
        assert!(other.contains("is for network 0707"), "{other}");
    }
}

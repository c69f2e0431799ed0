//! State proofs: proof, to anyone with the genesis file alone, of what the ledger's state holds under a
//! key, or that it holds nothing there.
//!
//! ```text
//! key, value → ICS-23 proof → header(h).state_root   header(h) ← certificate(h)
//! ```
//!
//! A header's state root is of the state after the block before it, so what is proven is how things
//! stood after block h - 1. The proof within is what any ICS-23 verifier reads, with the specification
//! `jmt::ics23_spec()`; the file around it has one spelling, as a receipt's has.

use std::{fmt, str::FromStr};

use ics23::{CommitmentProof, HostFunctionsManager, commitment_proof::Proof};
use jmt::ics23_spec;
use prost::Message as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use thiserror::Error;

use crate::{
    codec::clip,
    genesis::Genesis,
    limits::MAX_BULK_TRANSACTION_BYTES,
    receipt::{CertifiedHeader, ReceiptError, same},
    spelling::{self, SpellingError},
    types::{Hash, Height, Identity, Name},
    vote::Voters,
};

/// Most bytes of a proven key; the longest names make 143.
pub const MAX_KEY_BYTES: usize = 256;
/// Most bytes of a proven value: what one transaction can write.
pub const MAX_VALUE_BYTES: usize = MAX_BULK_TRANSACTION_BYTES;
/// Most bytes of a proof: that something is absent is told by both its neighbours, values included, each
/// with a way to the root of at most 256 steps.
pub const MAX_PROOF_BYTES: usize = 2 * MAX_VALUE_BYTES + (64 << 10);
/// Most bytes of a state proof's file, in which bytes are base64. A proof of absence comes without a
/// value, and one of presence has it once more.
pub const MAX_STATE_PROOF_BYTES: usize = 4 << 20;

const _: () = assert!(MAX_PROOF_BYTES / 3 * 4 + (1 << 20) < MAX_STATE_PROOF_BYTES, "the largest proof fits its file");

/// The version this code writes and reads.
pub const STATE_PROOF_VERSION: u32 = 1;

/// What it is called in errors.
const WHAT: &str = "state proof";

/// Bytes that are base64 in JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base64(pub Vec<u8>);

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        STANDARD.decode(String::deserialize(deserializer)?).map(Self).map_err(D::Error::custom)
    }
}

/// A key of the state, its value or that there is none, and the proof of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proven {
    pub key: String,
    /// As the state holds it, CBOR; none where the state holds nothing under this key.
    pub value: Option<Base64>,
    /// An ICS-23 `CommitmentProof`, protobuf.
    pub proof: Base64,
}

/// Why something is not proven.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProvenError {
    #[error("{what}: {size} bytes, at most {limit} are accepted")]
    Oversized { what: &'static str, size: usize, limit: usize },
    #[error("key: {0:?} is none that a state has: letters, digits and punctuation, without spaces")]
    Key(String),
    #[error("proof: not an ICS-23 proof: {0}")]
    Malformed(String),
    #[error("proof: not in the one encoding this program gives ICS-23 proofs")]
    Encoding,
    #[error("proof: it is not one of {expected}, which it stands for")]
    Kind { expected: &'static str },
    #[error("proof: it is of the absence of another key")]
    OtherKey,
    #[error("proof: it does not lead from the key and {} to the state root {root}", if *.present { "this value" } else { "its absence" })]
    DoesNotLead { present: bool, root: Hash },
}

impl Proven {
    /// Checks that a state with this root holds this value under this key, or nothing if there is none.
    pub fn verify(&self, root: &Hash) -> Result<(), ProvenError> {
        self.check_bounds()?;
        let malformed = |error: prost::DecodeError| ProvenError::Malformed(clip(&error.to_string()));
        let proof = CommitmentProof::decode(self.proof.0.as_slice()).map_err(malformed)?;
        if proof.encode_to_vec() != self.proof.0 {
            return Err(ProvenError::Encoding);
        }
        let (spec, root_bytes, key) = (ics23_spec(), root.as_bytes().to_vec(), self.key.as_bytes());
        let leads = match (&proof.proof, &self.value) {
            (Some(Proof::Exist(_)), Some(Base64(value))) => {
                ics23::verify_membership::<HostFunctionsManager>(&proof, &spec, &root_bytes, key, value)
            }
            (Some(Proof::Nonexist(absent)), None) if absent.key != key => return Err(ProvenError::OtherKey),
            // The verifier panics where two neighbours' ways end without parting; but it compares them only
            // once both lead from different keys to one root, and such ways part.
            (Some(Proof::Nonexist(_)), None) => {
                ics23::verify_non_membership::<HostFunctionsManager>(&proof, &spec, &root_bytes, key)
            }
            (_, Some(_)) => return Err(ProvenError::Kind { expected: "presence" }),
            (_, None) => return Err(ProvenError::Kind { expected: "absence" }),
        };
        if leads { Ok(()) } else { Err(ProvenError::DoesNotLead { present: self.value.is_some(), root: *root }) }
    }

    /// Checks that it is no larger than verifiers take.
    pub fn check_bounds(&self) -> Result<(), ProvenError> {
        let value = self.value.as_ref().map_or(0, |Base64(value)| value.len());
        for (what, size, limit) in [
            ("key", self.key.len(), MAX_KEY_BYTES),
            ("value", value, MAX_VALUE_BYTES),
            ("proof", self.proof.0.len(), MAX_PROOF_BYTES),
        ] {
            if size > limit {
                return Err(ProvenError::Oversized { what, size, limit });
            }
        }
        // Keys are shown to people, who must not be shown a line that nobody proved.
        if !self.key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ProvenError::Key(clip(&self.key)));
        }
        Ok(())
    }
}

/// The proof of one entry of the state, or of its absence, as a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateProof {
    /// The format's version.
    pub minidlt_state_proof: u32,
    pub network: Hash,
    pub proven: Proven,
    /// The block whose header carries the state's root: the one after the block that left it so.
    pub header: CertifiedHeader,
}

/// What is wrong with a state proof.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StateProofError {
    #[error(transparent)]
    File(#[from] SpellingError),
    #[error("proven.{0}")]
    Proven(#[from] ProvenError),
    /// What a receipt has too: version, network, header and certificate.
    #[error(transparent)]
    Frame(#[from] ReceiptError),
    #[error("header.header.height: 0, before which there was no state")]
    BeforeGenesis,
}

impl StateProof {
    /// Its one spelling: indented JSON and a newline.
    pub fn to_text(&self) -> String {
        spelling::to_text(self)
    }

    /// Reads a state proof that is spelled as [`Self::to_text`] spells it.
    pub fn from_text(text: &str) -> Result<Self, StateProofError> {
        Ok(spelling::from_text(WHAT, text, MAX_STATE_PROOF_BYTES)?)
    }

    /// Checks all of it against the genesis file, and gives the block after which things stood so.
    pub fn verify(&self, genesis: &Genesis) -> Result<Height, StateProofError> {
        let network = genesis.id();
        same("minidlt_state_proof", &self.minidlt_state_proof, &STATE_PROOF_VERSION)?;
        same("network", &self.network, &network)?;
        self.header.verify("header", &network, &self.voters(genesis))?;
        self.proven.verify(&self.header.header.state_root)?;
        self.header.header.height.previous().ok_or(StateProofError::BeforeGenesis)
    }

    /// Who decided on its header. Where voters change, this is where the chain of their changes, from
    /// genesis to the header's height, is to be followed.
    fn voters(&self, genesis: &Genesis) -> Voters {
        genesis.registry().voters()
    }
}

/// An entry that can be asked for by name, written as the state's key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKey {
    User(Identity),
    Node(Identity),
    Organisation(Name),
    Policy(Name),
}

impl EntryKey {
    /// The name of all entries of its kind.
    pub fn collection(&self) -> &'static str {
        match self {
            Self::User(_) => "users",
            Self::Node(_) => "nodes",
            Self::Organisation(_) => "organisations",
            Self::Policy(_) => "policies",
        }
    }

    /// Its name among those of its kind.
    pub fn name(&self) -> String {
        match self {
            Self::User(identity) | Self::Node(identity) => identity.to_string(),
            Self::Organisation(name) | Self::Policy(name) => name.to_string(),
        }
    }
}

impl fmt::Display for EntryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(identity) => write!(f, "user/{identity}"),
            Self::Node(identity) => write!(f, "node/{identity}"),
            Self::Organisation(name) => write!(f, "organisation/{name}"),
            Self::Policy(name) => write!(f, "policy/{name}"),
        }
    }
}

/// Text that should have named an entry.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} names no entry; write user/NAME@ORGANISATION, node/NAME@ORGANISATION, organisation/NAME or policy/NAME")]
pub struct InvalidEntryKey(String);

impl FromStr for EntryKey {
    type Err = InvalidEntryKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let key = match text.split_once('/') {
            Some(("user", name)) => name.parse().ok().map(Self::User),
            Some(("node", name)) => name.parse().ok().map(Self::Node),
            Some(("organisation", name)) => name.parse().ok().map(Self::Organisation),
            Some(("policy", name)) => name.parse().ok().map(Self::Policy),
            _ => None,
        };
        key.ok_or_else(|| InvalidEntryKey(clip(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entrys_key_is_written_as_it_is_read() {
        let keys = ["user/trader@Org01", "node/node0@Org01", "organisation/Org01", "policy/orderers"];
        let names = ["trader@Org01", "node0@Org01", "Org01", "orderers"];
        for ((text, name), collection) in
            keys.into_iter().zip(names).zip(["users", "nodes", "organisations", "policies"])
        {
            let key: EntryKey = text.parse().unwrap();
            assert_eq!((key.to_string().as_str(), key.name().as_str(), key.collection()), (text, name, collection));
        }
        for bad in ["", "user", "user/", "user/x", "users/x@y", "policy/a/b", "organisation/a@b", "evidence/x@y", "/x"]
        {
            assert!(bad.parse::<EntryKey>().is_err(), "{bad}");
        }
    }
}

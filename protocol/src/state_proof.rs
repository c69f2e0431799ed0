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

use ics23::{CommitmentProof, HostFunctionsManager, commitment_proof::Proof};
use jmt::ics23_spec;
use prost::Message as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use thiserror::Error;

use crate::{
    codec::clip,
    genesis::Genesis,
    limits::MAX_BULK_TRANSACTION_BYTES,
    lineage::{self, LineageError, VoterChange},
    receipt::{CertifiedHeader, ReceiptError, same},
    spelling::{self, SpellingError},
    successor,
    types::{Hash, Height},
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
    /// The changes of voters up to the header, the first first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub voter_changes: Vec<VoterChange>,
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
    #[error(transparent)]
    Lineage(#[from] LineageError),
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
        same("minidlt_state_proof", &self.minidlt_state_proof, &STATE_PROOF_VERSION)?;
        let genesis = successor::genesis_of(genesis, &self.network, &self.header)?;
        let network = self.network;
        let height = self.header.header.height;
        let lineage = lineage::follow(genesis, &self.voter_changes, height)?;
        self.header.verify("header", &network, lineage.at(height))?;
        self.proven.verify(&self.header.header.state_root)?;
        height.previous().ok_or(StateProofError::BeforeGenesis)
    }
}

//! Receipts: proof, to anyone with the genesis file alone, that a transaction was committed and
//! with what result.
//!
//! ```text
//! transaction → leaf → path → header(h).transactions_root   header(h)   ← certificate(h)
//! result      → leaf → path → header(h+1).results_root      header(h+1) ← certificate(h+1)
//!                             header(h+1).previous = hash(header(h))
//! ```
//!
//! A receipt's file has one spelling: it must read back to the same bytes, and its certificates
//! have just the quorum of signatures, so that nothing in it can be edited or left out unnoticed.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    block::Header,
    codec::{self, clip},
    crypto::PublicKey,
    genesis::Genesis,
    limits::MAX_BULK_TRANSACTION_BYTES,
    lineage::{self, LineageError, VoterChange},
    merkle,
    registry::{EntryKey, Node, User},
    spelling::{self, SpellingError},
    state::{Outcome, ResultLeaf},
    state_proof::{Proven, ProvenError},
    successor,
    transaction::{Refusal, Transaction, TransactionBytes},
    types::{Hash, Height, Identity},
    vote::{Certificate, CertificateError, Voters},
};

/// Most bytes of a receipt file: a bulk transaction in base64, and room for certificates.
pub const MAX_RECEIPT_BYTES: usize = 4 << 20;

/// A place in a Merkle tree and the way to its root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inclusion {
    /// The leaf's place, from 0.
    pub position: u64,
    /// How many leaves the tree has.
    pub count: u64,
    pub path: Vec<Hash>,
}

impl Inclusion {
    /// Where `position` stands among `leaves`.
    pub fn of(leaves: &[Hash], position: usize) -> Option<Self> {
        let path = merkle::path(leaves, position)?;
        Some(Self { position: position as u64, count: leaves.len() as u64, path })
    }

    fn leads(&self, leaf: Hash, root: &Hash) -> bool {
        merkle::root_from_path(leaf, self.position, self.count, &self.path) == Some(*root)
    }
}

/// A header and what makes it certain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertifiedHeader {
    pub hash: Hash,
    pub header: Header,
    pub certificate: Certificate,
}

/// The proof of one transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// The format's version.
    pub minidlt_receipt: u32,
    pub network: Hash,
    pub id: Hash,
    pub height: Height,
    /// The changes of voters up to the block after, the first first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub voter_changes: Vec<VoterChange>,
    /// The encoded transaction, in base64.
    pub transaction: String,
    /// Who signed it, as they stood before its block: the author, then the endorsers.
    pub signers: Vec<Proven>,
    pub inclusion: Inclusion,
    pub block: CertifiedHeader,
    pub result: Outcome,
    pub result_inclusion: Inclusion,
    /// The block after, whose header carries the results' root.
    pub next: CertifiedHeader,
}

/// The version this code writes and reads.
pub const RECEIPT_VERSION: u32 = 1;

/// What is wrong with a receipt.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReceiptError {
    #[error("{size} bytes, at most {MAX_RECEIPT_BYTES} are accepted")]
    Oversized { size: usize },
    #[error("not a receipt: {0}")]
    Malformed(String),
    #[error("not spelled as this program spells receipts: the file was edited or reformatted (line {line})")]
    Spelling { line: usize },
    #[error("{what}: {found}, expected {expected}")]
    Mismatch { what: &'static str, found: String, expected: String },
    #[error("it rests on block {height} of a network whose successor goes on from block {last}")]
    NotCarried { height: Height, last: Height },
    #[error("transaction: {0}")]
    Transaction(Refusal),
    #[error("inclusion: the path does not lead from the transaction to the block's transactions_root")]
    Inclusion,
    #[error("result_inclusion: the path does not lead from the result to the next block's results_root")]
    ResultInclusion,
    #[error("{which}.{what}: {found}, expected {expected}")]
    Header { which: &'static str, what: &'static str, found: String, expected: String },
    #[error(transparent)]
    Lineage(#[from] LineageError),
    #[error("signers: {found} of them, the transaction is signed by {expected}")]
    Signers { found: usize, expected: usize },
    #[error("signers[{at}].{reason}")]
    Signer { at: usize, reason: ProvenError },
    #[error("signers[{at}]: {found} is no entry of {expected} in good standing")]
    NotTheSigner { at: usize, found: String, expected: Identity },
    #[error("{which}.certificate: {reason}")]
    Certificate { which: &'static str, reason: CertificateError },
}

impl From<SpellingError> for ReceiptError {
    fn from(error: SpellingError) -> Self {
        match error {
            SpellingError::Oversized { size, .. } => Self::Oversized { size },
            SpellingError::Malformed { reason, .. } => Self::Malformed(reason),
            SpellingError::Spelling { line, .. } => Self::Spelling { line },
        }
    }
}

pub(crate) fn same<T: PartialEq + std::fmt::Display>(
    what: &'static str,
    found: &T,
    expected: &T,
) -> Result<(), ReceiptError> {
    if found == expected {
        return Ok(());
    }
    Err(ReceiptError::Mismatch { what, found: found.to_string(), expected: expected.to_string() })
}

impl Receipt {
    /// Its one spelling: indented JSON and a newline.
    pub fn to_text(&self) -> String {
        spelling::to_text(self)
    }

    /// Reads a receipt that is spelled as [`Self::to_text`] spells it.
    pub fn from_text(text: &str) -> Result<Self, ReceiptError> {
        Ok(spelling::from_text("receipt", text, MAX_RECEIPT_BYTES)?)
    }

    /// Checks all of it against the genesis file, its network's or a successor's, and gives the transaction.
    pub fn verify(&self, genesis: &Genesis) -> Result<Transaction, ReceiptError> {
        same("minidlt_receipt", &self.minidlt_receipt, &RECEIPT_VERSION)?;
        let genesis = successor::genesis_of(genesis, &self.network, &self.next)?;
        let network = self.network;
        let lineage = lineage::follow(genesis, &self.voter_changes, self.next.header.height)?;
        for (which, header) in [("block", &self.block), ("next", &self.next)] {
            header.verify(which, &network, lineage.at(header.header.height))?;
        }
        same("height", &self.height, &self.block.header.height)?;
        same("next.header.height", &self.next.header.height, &self.height.next())?;
        same("next.header.previous", &self.next.header.previous, &self.block.hash)?;

        let transaction = self.transaction(&network)?;
        same("id", &self.id, &transaction.id)?;
        if !self.inclusion.leads(transaction.leaf, &self.block.header.transactions_root) {
            return Err(ReceiptError::Inclusion);
        }
        transaction.check_time(self.block.header.created).map_err(ReceiptError::Transaction)?;
        let keys = self.signers_keys(&transaction)?;
        transaction.verify_signatures(&keys).map_err(ReceiptError::Transaction)?;

        let Inclusion { position, count, .. } = self.result_inclusion;
        let result = ResultLeaf { transaction: self.id, position, count, outcome: self.result.clone() };
        if !self.result_inclusion.leads(result.hash(), &self.next.header.results_root) {
            return Err(ReceiptError::ResultInclusion);
        }
        same("result_inclusion.position", &self.result_inclusion.position, &self.inclusion.position)?;
        same("result_inclusion.count", &self.result_inclusion.count, &self.inclusion.count)?;
        Ok(transaction)
    }

    /// The keys of who signed it, as the state that its block was checked against has them.
    fn signers_keys(&self, transaction: &Transaction) -> Result<Vec<PublicKey>, ReceiptError> {
        let expected = 1 + transaction.endorsements.len();
        if self.signers.len() != expected {
            return Err(ReceiptError::Signers { found: self.signers.len(), expected });
        }
        let signers = transaction.signed_by().zip(&self.signers).enumerate();
        let key = |(at, (expected, proven)): (usize, (&Identity, &Proven))| {
            proven.verify(&self.block.header.state_root).map_err(|reason| ReceiptError::Signer { at, reason })?;
            let found = clip(&proven.key);
            key_of(expected, proven).ok_or(ReceiptError::NotTheSigner { at, found, expected: expected.clone() })
        };
        signers.map(key).collect()
    }

    fn transaction(&self, network: &Hash) -> Result<Transaction, ReceiptError> {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let bytes = STANDARD
            .decode(&self.transaction)
            .map_err(|error| ReceiptError::Malformed(format!("transaction: {error}")))?;
        Transaction::parse(TransactionBytes::from(bytes), network).map_err(ReceiptError::Transaction)
    }
}

/// The key of this very member, in the entry that is proven.
fn key_of(signer: &Identity, proven: &Proven) -> Option<PublicKey> {
    let value = &proven.value.as_ref()?.0;
    match proven.key.parse().ok()? {
        EntryKey::User(user) if user == *signer => {
            let user: User = codec::decode_canonical(value, MAX_BULK_TRANSACTION_BYTES).ok()?;
            user.standing.is_active().then_some(user.public_key)
        }
        EntryKey::Node(node) if node == *signer => {
            let node: Node = codec::decode_canonical(value, MAX_BULK_TRANSACTION_BYTES).ok()?;
            node.standing.is_active().then_some(node.public_key)
        }
        _ => None,
    }
}

impl CertifiedHeader {
    /// A header with just as many of its certificate's signatures as decide.
    pub fn new(network: &Hash, header: Header, mut certificate: Certificate, voters: &Voters) -> Self {
        certificate.signatures.truncate(voters.quorum());
        Self { hash: header.hash(network), header, certificate }
    }

    /// Checks that its certificate, of just a quorum, is for this very header. `which` names it in an error.
    pub fn verify(&self, which: &'static str, network: &Hash, voters: &Voters) -> Result<(), ReceiptError> {
        let (hash, certificate) = (self.header.hash(network), &self.certificate);
        let compare = |what, found: String, expected: String| {
            if found == expected { Ok(()) } else { Err(ReceiptError::Header { which, what, found, expected }) }
        };
        compare("hash", self.hash.to_string(), hash.to_string())?;
        compare("certificate.block", certificate.block.to_string(), hash.to_string())?;
        compare("certificate.height", certificate.height.to_string(), self.header.height.to_string())?;
        let (count, quorum) = (certificate.signatures.len(), voters.quorum());
        compare("certificate.signatures (how many)", count.to_string(), quorum.to_string())?;
        certificate.verify(network, voters).map_err(|reason| ReceiptError::Certificate { which, reason })
    }
}

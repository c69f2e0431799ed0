//! The successor of a network that cannot decide any more, or of which nobody is sure how it went on: a genesis that
//! begins where another chain ended.
//!
//! ```text
//! old genesis ─voter changes─▶ voters of H ─certify─▶ header(H).state_root ◀─ state before H ─┐
//!                                              header(H).transactions_root ◀─ block H ────────┴▶ state after H
//!                                                                                                     │
//! new genesis = state after H, with the nodes that are gone for good suspended ◀─────────────────────┘
//!             ◀─ signatures that the policies of that state ask for
//! ```
//!
//! A header certifies the state before its own block, so what the last block H did is certified by nothing yet. A
//! successor therefore carries the state that header H certifies, and block H's transactions, and whoever checks it
//! executes them. Nothing of it is taken on anybody's word but this: that there was no block after H, and that those who
//! were suspended are gone. For that the members sign, as policy `organisations` asks, and `orderers` where the voters
//! change; by their keys and roles in the state after H.
//!
//! **Whom a verifier trusts** who has the successor alone: whoever gave it the file, as with any genesis. Who knows the
//! old network's id trusts the members that the old chain leads to, and sees that the id is the old genesis' own.
//!
//! **Two successors** of one network are a fork by the members' own hands: with a majority's signatures under each, both
//! hold. Nothing here can tell which of them counts; who signs one looks whether another was signed, and never signs two.
//!
//! The new chain begins at height 0 with an id of its own, over all but the signatures: whichever of them a copy of the
//! file has, it is the same network. What was signed for the old one, votes and transactions alike, is nothing in the new
//! one, since the network's id is in each. What was proven on the old one stays so up to H: the old genesis is in the
//! file, with those before it.
//!
//! **After a fork** that is also so of the losing branch: which of two certified blocks below H is the one that was
//! carried on cannot be seen, for headers below H are not in the file. A receipt of the other branch verifies. Only at H
//! itself is a block that is another refused.

mod check;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub(crate) use self::check::check_consent;
use crate::{
    block::BlockError,
    codec::{self, CodecError},
    crypto::{CryptoError, Domain, SecretKey, Signature, digest},
    genesis::{Genesis, GenesisError},
    governance::ChangeRefused,
    limits::{MAX_ENDORSEMENTS, MAX_PREDECESSORS},
    lineage::{LineageError, VoterChange},
    receipt::{CertifiedHeader, ReceiptError},
    registry::{EntryKey, PolicyEntry, Registry, policies},
    state::StateError,
    state_proof::Base64,
    transaction::TransactionBytes,
    types::{Hash, Height, Identity, Timestamp},
    vote::ConsensusMode,
};

/// The key of the state under which a network says where it came from.
pub const PREDECESSOR_KEY: &str = "predecessor";
const NETWORK_KEY: &str = "network";
/// What is about blocks of the network before, under their heights, stands apart from what is about those of this one.
const OF_BLOCKS: [&str; 2] = ["evidence/", "predecessor/"];

/// What a genesis carries of the network before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Predecessor {
    pub genesis: Box<Genesis>,
    /// The changes of voters up to the last block, the first first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub voter_changes: Vec<VoterChange>,
    /// The last block's header.
    pub last: CertifiedHeader,
    /// Its transactions, each as it was signed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transactions: Vec<Base64>,
    /// The state before the last block, all of it: what the header's `state_root` is of.
    pub state: BTreeMap<String, Base64>,
    /// What the last block made of it, and the suspension of those below; none where an entry was removed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub changes: BTreeMap<String, Option<Base64>>,
    /// Orderers that are gone for good. Each is suspended.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub without: BTreeSet<Identity>,
    /// Over all but these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<Consent>,
}

/// A user's signature under a successor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Consent {
    pub user: Identity,
    pub signature: Signature,
}

/// Where a network came from, as it stands in its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    pub network: Hash,
    pub height: Height,
    pub block: Hash,
}

/// Why a genesis is not the successor that it says it is.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SuccessorError {
    #[error("more than {MAX_PREDECESSORS} networks before it")]
    TooMany,
    #[error("genesis: {0}")]
    Genesis(Box<GenesisError>),
    #[error("{what} is not as it was; a successor changes nothing but who votes")]
    Setting { what: &'static str },
    #[error("created {created} ms, before the last block ({last} ms)")]
    GoesBack { created: Timestamp, last: Timestamp },
    #[error("last.header.height: 0; a network without blocks has nothing to carry on: begin it anew")]
    NoBlock,
    #[error(transparent)]
    Lineage(#[from] LineageError),
    #[error(transparent)]
    Last(#[from] ReceiptError),
    #[error("state: its root is {computed}, the last header has {certified}: it is not all of the state, or another")]
    StateRoot { computed: Hash, certified: Hash },
    #[error("state: {0}")]
    State(#[from] StateError),
    #[error("state: {key:?} is no text, which all keys of a state are")]
    Key { key: Vec<u8> },
    #[error("state: the registry: {0}")]
    Registry(CodecError),
    #[error("transactions: {0}")]
    Block(#[from] BlockError),
    #[error("without: {0} is not an orderer in good standing")]
    NotAnOrderer(Identity),
    #[error("without {node}: {reason}")]
    Without { node: Identity, reason: ChangeRefused },
    #[error("changes: {key} is not what the last block and the suspensions lead to")]
    Changes { key: String },
    #[error("{list}: not the members that the state leads to")]
    List { list: &'static str },
    #[error("signatures: {count}, at most {MAX_ENDORSEMENTS} are accepted")]
    Signatures { count: usize },
    #[error("signatures: {0} stands twice")]
    Twice(Identity),
    #[error("signatures: {0} is not a user in good standing")]
    Signer(Identity),
    #[error("signatures: {user}: {reason}; it is over something else, or by another key")]
    Signature { user: Identity, reason: CryptoError },
    #[error("signatures: policy '{name}' is not met; missing: {missing}")]
    Policy { name: &'static str, missing: String },
}

impl From<GenesisError> for SuccessorError {
    fn from(error: GenesisError) -> Self {
        Self::Genesis(error.into())
    }
}

/// What a chain ends with, as a node has stored it.
pub struct Ending {
    pub voter_changes: Vec<VoterChange>,
    pub last: CertifiedHeader,
    pub transactions: Vec<TransactionBytes>,
    /// The state that the header certifies, by key.
    pub state: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// The successor of a network, without these nodes and without signatures. All but those is checked.
pub fn succeed(
    genesis: &Genesis,
    ending: Ending,
    without: BTreeSet<Identity>,
    created: Timestamp,
) -> Result<Genesis, SuccessorError> {
    let text = |(key, value): (Vec<u8>, Vec<u8>)| match String::from_utf8(key) {
        Ok(key) => Ok((key, Base64(value))),
        Err(error) => Err(SuccessorError::Key { key: error.into_bytes() }),
    };
    let mut predecessor = Predecessor {
        genesis: Box::new(genesis.clone()),
        voter_changes: ending.voter_changes,
        last: ending.last,
        transactions: ending.transactions.iter().map(|bytes| Base64(bytes.as_slice().to_vec())).collect(),
        state: ending.state.into_iter().map(text).collect::<Result<_, _>>()?,
        changes: BTreeMap::new(),
        without,
        signatures: vec![],
    };
    let (after, _) = predecessor.executed(genesis.consensus)?;
    predecessor.changes = after;
    let registry = predecessor.registry(genesis.consensus).map_err(SuccessorError::Registry)?;
    let created = created.max(predecessor.last.header.created);
    let mut successor = Genesis { created, predecessor: None, ..genesis.clone() };
    (successor.organisations, successor.nodes, successor.users) = (
        registry.organisations.into_values().collect(),
        registry.nodes.into_values().collect(),
        registry.users.into_values().collect(),
    );
    let policy = |(name, entry): (_, PolicyEntry)| (name, entry.policy);
    successor.policies = registry.policies.into_iter().map(policy).collect();
    successor.predecessor = Some(predecessor.into());
    match successor.check_unsigned() {
        Ok(()) => Ok(successor),
        Err(GenesisError::Successor(reason)) => Err(*reason),
        Err(reason) => Err(reason.into()),
    }
}

impl Predecessor {
    /// The state that the successor begins with, but for what is its own: who votes, and its settings. Evidence is carried
    /// under `predecessor/evidence/`, and at the next succession under `predecessor/predecessor/evidence/`: heights begin
    /// anew, and what a voter did at one of the old chain is no answer to what it does at that of the new one.
    pub fn carried(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut carried = self.state.clone();
        for (key, value) in &self.changes {
            match value {
                Some(value) => carried.insert(key.clone(), value.clone()),
                None => carried.remove(key),
            };
        }
        let own = |key: &str| {
            let voters = matches!(key.parse(), Ok(EntryKey::Voters(_)));
            voters || key == NETWORK_KEY || key == PREDECESSOR_KEY
        };
        carried.retain(|key, _| !own(key));
        let under = |key: String| match OF_BLOCKS.iter().any(|of| key.starts_with(of)) {
            true => [PREDECESSOR_KEY, "/", &key].concat(),
            false => key,
        };
        carried.into_iter().map(|(key, Base64(value))| (under(key).into_bytes(), value)).collect()
    }

    pub fn registry(&self, mode: ConsensusMode) -> Result<Registry, CodecError> {
        Registry::read(mode, self.carried())
    }

    /// How this stands in the successor's state.
    pub fn origin(&self) -> Origin {
        let CertifiedHeader { header, hash, .. } = &self.last;
        Origin { network: self.genesis.id(), height: header.height, block: *hash }
    }

    /// The policies that its signatures must meet.
    pub fn policies(&self) -> Vec<&'static str> {
        let orderers = (!self.without.is_empty()).then_some(policies::ORDERERS);
        [policies::ORGANISATIONS].into_iter().chain(orderers).collect()
    }
}

impl Genesis {
    /// Signs a successor, over all but the signatures. A genesis that is none is not signed.
    pub fn consent(&mut self, user: Identity, key: &SecretKey) {
        let digest = self.consent_digest();
        if let Some((predecessor, digest)) = self.predecessor.as_mut().zip(digest) {
            predecessor.signatures.retain(|consent| consent.user != user);
            predecessor.signatures.push(Consent { user, signature: key.sign(&digest) });
            predecessor.signatures.sort_by(|a, b| a.user.cmp(&b.user));
        }
    }

    fn consent_digest(&self) -> Option<Hash> {
        let network = self.predecessor.as_ref()?.genesis.id();
        Some(digest(Domain::Successor, &network, &[&codec::encode(&self.without_signatures())]))
    }

    pub(crate) fn without_signatures(&self) -> Self {
        let mut all_else = self.clone();
        if let Some(predecessor) = &mut all_else.predecessor {
            predecessor.signatures.clear();
        }
        all_else
    }

    /// The genesis of the network of this id: this one's, or of one before it, with the last block that was carried on.
    pub fn of_network(&self, network: &Hash) -> Option<(&Self, Option<&CertifiedHeader>)> {
        if self.id() == *network {
            return Some((self, None));
        }
        let predecessor = self.predecessor.as_ref()?;
        match predecessor.genesis.of_network(network)? {
            (genesis, None) => Some((genesis, Some(&predecessor.last))),
            before => Some(before),
        }
    }

    fn depth(&self) -> usize {
        self.predecessor.as_ref().map_or(0, |predecessor| 1 + predecessor.genesis.depth())
    }
}

/// The genesis that a proof about a network is verified by, where its last header is one that was carried on.
pub(crate) fn genesis_of<'a>(
    genesis: &'a Genesis,
    network: &Hash,
    newest: &CertifiedHeader,
) -> Result<&'a Genesis, ReceiptError> {
    let mismatch =
        || ReceiptError::Mismatch { what: "network", found: network.to_string(), expected: genesis.id().to_string() };
    let (found, last) = genesis.of_network(network).ok_or_else(mismatch)?;
    match last {
        Some(last) if newest.header.height > last.header.height => {
            Err(ReceiptError::NotCarried { height: newest.header.height, last: last.header.height })
        }
        Some(last) if newest.header.height == last.header.height && newest.hash != last.hash => {
            Err(ReceiptError::Mismatch {
                what: "the last block's hash",
                found: newest.hash.to_string(),
                expected: last.hash.to_string(),
            })
        }
        _ => Ok(found),
    }
}

//! The ledger's state machine: what a block does, and the Jellyfish Merkle tree over the state
//! whose root the next header carries.
//!
//! Keys are readable: `network`, `organisation/Org01`, `node/node0@Org01`, `user/admin@Org01`,
//! `policy/orderers`; values are CBOR. The tree and its proofs are crate `jmt`'s with SHA-256, so
//! any ICS-23 verifier reads the proofs. A new version is written only by a block that changes
//! something, so blocks of plain records cost the tree nothing.

use std::collections::BTreeMap;

use jmt::{
    KeyHash, OwnedValue, Sha256Jmt, Version,
    storage::{HasPreimage, LeafNode, Node, NodeKey, TreeReader},
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    block::Head,
    codec,
    genesis::Genesis,
    merkle,
    registry::Registry,
    transaction::Transaction,
    types::{Hash, Height},
};

/// What came of a committed transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "status", deny_unknown_fields)]
pub enum Outcome {
    /// It took effect.
    Ok,
    /// It is on the ledger, without effect.
    Failed { reason: String },
}

/// A leaf of a block's results tree. A path alone does not say which of how many leaves it leads
/// from (the same path fits the first of three and the first of four), so the leaf says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResultLeaf {
    pub transaction: Hash,
    /// The transaction's place in its block, from 0.
    pub position: u64,
    /// How many transactions the block has.
    pub count: u64,
    pub outcome: Outcome,
}

impl ResultLeaf {
    pub fn hash(&self) -> Hash {
        merkle::leaf_hash(&codec::encode(self))
    }
}

/// State entries to write; `None` removes one.
pub type Writes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// What executing a block gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Execution {
    pub outcomes: Vec<Outcome>,
    pub results_root: Hash,
    pub writes: Writes,
}

/// Executes the transactions of a block that has been checked, in order.
pub fn execute<'a>(transactions: impl Iterator<Item = &'a Transaction> + Clone) -> Execution {
    let count = transactions.clone().count() as u64;
    let (outcomes, leaves): (Vec<_>, Vec<_>) = transactions
        .zip(0..)
        .map(|(transaction, position)| {
            // A record has no effect on the state; being in the block is its effect.
            let outcome = Outcome::Ok;
            let leaf = ResultLeaf { transaction: transaction.id, position, count, outcome: outcome.clone() };
            (outcome, leaf.hash())
        })
        .unzip();
    Execution { outcomes, results_root: merkle::root(&leaves), writes: Writes::new() }
}

/// The state entries that genesis makes.
pub fn genesis_writes(genesis: &Genesis) -> Writes {
    let mut writes = Writes::new();
    let mut put = |key: String, value: Vec<u8>| writes.insert(key.into_bytes(), Some(value));
    put("network".into(), codec::encode(&(&genesis.network, genesis.consensus, genesis.timeouts)));
    for organisation in &genesis.organisations {
        put(format!("organisation/{}", organisation.name), codec::encode(organisation));
    }
    for node in &genesis.nodes {
        put(format!("node/{}", node.identity()), codec::encode(node));
    }
    for user in &genesis.users {
        put(format!("user/{}", user.identity()), codec::encode(user));
    }
    for (name, policy) in &genesis.policies {
        put(format!("policy/{name}"), codec::encode(policy));
    }
    writes
}

/// The state's tables in a node's store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// Tree nodes, by node key.
    Nodes,
    /// Values, by key hash then version (8 bytes, big-endian).
    Values,
    /// Keys, by key hash.
    Keys,
}

/// Where the state is read from: a snapshot of a store.
pub trait StateReader {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StateError>;
    /// The entry with the greatest key that is not above `key`.
    fn floor(&self, table: Table, key: &[u8]) -> Result<Option<(Vec<u8>, Vec<u8>)>, StateError>;
}

/// The state could not be read, or does not hold together.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the ledger's state cannot be read: {0}")]
pub struct StateError(pub String);

/// What a store must write for the state to be at a new version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateUpdate {
    pub root: Hash,
    pub entries: Vec<(Table, Vec<u8>, Vec<u8>)>,
}

/// Computes the state after `writes`, as version `version`.
pub fn update(reader: &impl StateReader, version: u64, writes: &Writes) -> Result<StateUpdate, StateError> {
    let tree_reader = Tree(reader);
    let values = writes.iter().map(|(key, value)| (KeyHash::with::<sha2::Sha256>(key), value.clone()));
    let (root, batch) = Sha256Jmt::new(&tree_reader)
        .put_value_set(values, version)
        .map_err(|error| StateError(format!("version {version}: {error:#}")))?;
    let mut entries = Vec::new();
    for (key, node) in batch.node_batch.nodes() {
        entries.push((Table::Nodes, bytes_of(key)?, bytes_of(node)?));
    }
    for ((version, key_hash), value) in batch.node_batch.values() {
        entries.push((Table::Values, value_key(key_hash, *version), bytes_of(value)?));
    }
    for key in writes.keys() {
        entries.push((Table::Keys, KeyHash::with::<sha2::Sha256>(key).0.to_vec(), key.clone()));
    }
    Ok(StateUpdate { root: Hash::from_bytes(root.0), entries })
}

/// The head of a chain that has only genesis, and what the store must write for it.
pub fn genesis_head(genesis: &Genesis) -> Result<(Head, StateUpdate), StateError> {
    struct Nothing;
    impl StateReader for Nothing {
        fn get(&self, _: Table, _: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
            Ok(None)
        }
        fn floor(&self, _: Table, _: &[u8]) -> Result<Option<(Vec<u8>, Vec<u8>)>, StateError> {
            Ok(None)
        }
    }
    let update = update(&Nothing, 0, &genesis_writes(genesis))?;
    let head = Head {
        height: Height::GENESIS,
        hash: genesis.id(),
        created: genesis.created,
        results_root: merkle::root(&[]),
        state_root: update.root,
        state_version: 0,
        transactions: 0,
    };
    Ok((head, update))
}

/// The registry as of block 0; until members change on the ledger it is the registry of all heights.
pub fn registry_at(genesis: &Genesis) -> Registry {
    genesis.registry()
}

/// A value of the state and its ICS-23 proof, protobuf-encoded; of absence where there is none.
pub fn prove(reader: &impl StateReader, version: u64, key: &[u8]) -> Result<(Option<Vec<u8>>, Vec<u8>), StateError> {
    use ics23::CommitmentProof;
    let (value, proof): (_, CommitmentProof) = Sha256Jmt::new(&Tree(reader))
        .get_with_ics23_proof(key.to_vec(), version)
        .map_err(|error| StateError(format!("version {version}: {error:#}")))?;
    Ok((value, prost_bytes(&proof)))
}

fn prost_bytes(proof: &ics23::CommitmentProof) -> Vec<u8> {
    use prost::Message as _;
    proof.encode_to_vec()
}

struct Tree<'a, R>(&'a R);

fn value_key(key_hash: &KeyHash, version: Version) -> Vec<u8> {
    [&key_hash.0[..], &version.to_be_bytes()].concat()
}

fn bytes_of<T: borsh::BorshSerialize>(value: &T) -> Result<Vec<u8>, StateError> {
    borsh::to_vec(value).map_err(|error| StateError(error.to_string()))
}

impl<R: StateReader> TreeReader for Tree<'_, R> {
    fn get_node_option(&self, node_key: &NodeKey) -> anyhow::Result<Option<Node>> {
        let found = self.0.get(Table::Nodes, &borsh::to_vec(node_key)?)?;
        found.map(|bytes| borsh::from_slice(&bytes).map_err(Into::into)).transpose()
    }

    fn get_value_option(&self, max_version: Version, key_hash: KeyHash) -> anyhow::Result<Option<OwnedValue>> {
        match self.0.floor(Table::Values, &value_key(&key_hash, max_version))? {
            Some((key, value)) if key.starts_with(&key_hash.0) => Ok(borsh::from_slice(&value)?),
            _ => Ok(None),
        }
    }

    fn get_rightmost_leaf(&self) -> anyhow::Result<Option<(NodeKey, LeafNode)>> {
        // Only a tree being restored from chunks asks for this, which is not done here.
        anyhow::bail!("the state is not restored leaf by leaf")
    }
}

impl<R: StateReader> HasPreimage for Tree<'_, R> {
    fn preimage(&self, key_hash: KeyHash) -> anyhow::Result<Option<Vec<u8>>> {
        Ok(self.0.get(Table::Keys, &key_hash.0)?)
    }
}

//! The ledger's state machine: what a block does, and the Jellyfish Merkle tree over the state
//! whose root the next header carries.
//!
//! Keys are readable: `network`, `organisation/Org01`, `node/node0@Org01`, `user/admin@Org01`,
//! `policy/orderers`, `evidence/node3@Org04`, `predecessor`, `predecessor/evidence/node3@Org04`; values are CBOR. The tree and its proofs are crate
//! `jmt`'s with SHA-256, so any ICS-23 verifier reads the proofs. A new version is written only by a
//! block that changes something, and the state is read only for what hangs on it, so blocks of plain
//! records cost the tree nothing.

use std::{collections::BTreeMap, sync::Arc};

use jmt::{
    KeyHash, OwnedValue, Sha256Jmt, Version,
    storage::{HasPreimage, LeafNode, Node, NodeKey, TreeReader},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::{
    block::Head,
    codec,
    evidence::{self, Accusation, Recorded},
    genesis::Genesis,
    governance::{self, Change},
    merkle,
    registry::{EntryKey, Registry},
    successor::PREDECESSOR_KEY,
    transaction::{Effect, Transaction},
    types::{Hash, Height, Identity, Timestamp},
    vote::ConsensusMode,
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
    /// After the block: the very one that was given where nothing of it changed.
    pub registry: Arc<Registry>,
    /// Which transaction, by its place in the block, changed which entry of it.
    pub changed: Vec<(EntryKey, u64)>,
}

/// Executes the transactions of a checked block that follows `head` and was created at `created`, in order.
/// `reader` is of the state at `head`, and so is `registry`.
pub fn execute<'a>(
    reader: &impl StateReader,
    registry: &Arc<Registry>,
    head: &Head,
    created: Timestamp,
    transactions: impl Iterator<Item = &'a Transaction> + Clone,
) -> Result<Execution, StateError> {
    let count = transactions.clone().count() as u64;
    let mut state = Unfinished {
        reader,
        version: head.state_version,
        writes: Writes::new(),
        before: registry,
        registry: registry.clone(),
        created,
        changed: Vec::new(),
    };
    let (mut outcomes, mut leaves) = (Vec::new(), Vec::new());
    for (transaction, position) in transactions.zip(0..) {
        let outcome = match &transaction.effect {
            // Being in the block is its effect.
            Effect::Records { .. } => Outcome::Ok,
            Effect::Evidence(accusation) => state.record(accusation, head.height.next(), transaction.id)?,
            Effect::Change(change) => state.change(change, transaction, position),
        };
        leaves.push(ResultLeaf { transaction: transaction.id, position, count, outcome: outcome.clone() }.hash());
        outcomes.push(outcome);
    }
    state.finish(head.height.next());
    let Unfinished { writes, registry, changed, .. } = state;
    Ok(Execution { outcomes, results_root: merkle::root(&leaves), writes, registry, changed })
}

/// The state amid a block: what was there before, and what its transactions have written.
struct Unfinished<'a, R> {
    reader: &'a R,
    version: u64,
    writes: Writes,
    before: &'a Arc<Registry>,
    registry: Arc<Registry>,
    created: Timestamp,
    changed: Vec<(EntryKey, u64)>,
}

impl<R: StateReader> Unfinished<'_, R> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        match self.writes.get(key) {
            Some(written) => Ok(written.clone()),
            None => value(self.reader, self.version, key),
        }
    }

    /// Makes a change of the registry, if it may be made after those before it in this block.
    fn change(&mut self, change: &Change, transaction: &Transaction, position: u64) -> Outcome {
        // A signature by a key that was replaced earlier in this block does not count.
        let mut signers = transaction.signers(&self.registry);
        signers.retain(|signer| self.registry.key_of(signer) == self.before.key_of(signer));
        let author = signers.first().filter(|first| **first == transaction.author);
        let permitted = match author {
            None => Err(governance::ChangeRefused::Author(transaction.author.clone())),
            Some(_) => governance::permit(change, &signers, &self.registry),
        };
        match permitted.and_then(|()| governance::apply(change, Arc::make_mut(&mut self.registry), self.created)) {
            Ok(keys) => {
                self.changed.extend(keys.into_iter().map(|key| (key, position)));
                Outcome::Ok
            }
            Err(refused) => Outcome::Failed { reason: refused.to_string() },
        }
    }

    /// After the last transaction: the voters follow the nodes, and what was changed is written.
    fn finish(&mut self, height: Height) {
        if self.changed.is_empty() {
            self.registry = self.before.clone();
            return;
        }
        let voters = Arc::make_mut(&mut self.registry).follow_orderers(height);
        let changed = self.changed.iter().map(|(key, _)| key).chain(&voters);
        self.writes.extend(changed.map(|key| (key.to_bytes(), self.registry.encoded(key))));
        // The new set is the work of all changes of the block together; the last one completes it.
        let set = voters.into_iter().next_back();
        self.changed.extend(set.zip(self.changed.last().map(|(_, position)| *position)));
    }

    fn record(&mut self, accusation: &Accusation, block: Height, transaction: Hash) -> Result<Outcome, StateError> {
        let key = evidence::state_key(&accusation.subject.voter);
        let mut known = read_recorded(&key, self.get(&key)?)?;
        if let Err(reason) = accusation.may_be_recorded(&known, block) {
            return Ok(Outcome::Failed { reason: reason.to_string() });
        }
        known.push(accusation.entry(transaction));
        self.writes.insert(key, Some(codec::encode(&known)));
        Ok(Outcome::Ok)
    }
}

/// What is recorded of a voter in the state of this version, the oldest first.
pub fn recorded(reader: &impl StateReader, version: u64, voter: &Identity) -> Result<Vec<Recorded>, StateError> {
    let key = evidence::state_key(voter);
    read_recorded(&key, value(reader, version, &key)?)
}

fn read_recorded(key: &[u8], value: Option<Vec<u8>>) -> Result<Vec<Recorded>, StateError> {
    let known = value.map(|value| evidence::decode(&value)).transpose();
    Ok(known.map_err(|error| StateError(format!("{}: {error}", key.escape_ascii())))?.unwrap_or_default())
}

/// The state entries that genesis makes.
pub fn genesis_writes(genesis: &Genesis) -> Writes {
    let settings = (&genesis.network, genesis.consensus, genesis.timeouts, genesis.synchronise);
    let registry = genesis.registry();
    let entries = registry.keys().map(|key| (key.to_bytes(), registry.encoded(&key)));
    let mut writes = Writes::new();
    if let Some(predecessor) = &genesis.predecessor {
        writes.extend(predecessor.carried().into_iter().map(|(key, value)| (key, Some(value))));
        writes.insert(PREDECESSOR_KEY.into(), Some(codec::encode(&predecessor.origin())));
    }
    writes.extend([(b"network".to_vec(), Some(codec::encode(&settings)))].into_iter().chain(entries));
    writes
}

/// The registry as it stands in the state of this version.
pub fn registry(reader: &impl StateReader, version: u64, mode: ConsensusMode) -> Result<Registry, StateError> {
    let mut entries = Vec::new();
    for key in reader.keys()? {
        if let Some(value) = value(reader, version, &key)? {
            entries.push((key, value));
        }
    }
    Registry::read(mode, entries).map_err(|error| StateError(format!("the registry: {error}")))
}

/// The state's tables in a node's store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// Tree nodes, by node key (both borsh), each with a checksum.
    Nodes,
    /// Values, by key hash then version (8 bytes, big-endian), each with a checksum.
    Values,
    /// Keys, by key hash.
    Keys,
}

/// A key and its value.
pub type Entry = (Vec<u8>, Vec<u8>);

/// Where the state is read from: a snapshot of a store.
pub trait StateReader {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StateError>;
    /// The entry with the greatest key that is not above `key`.
    fn floor(&self, table: Table, key: &[u8]) -> Result<Option<Entry>, StateError>;
    /// All values of [`Table::Keys`]: every key that ever had a value, in any order.
    fn keys(&self) -> Result<Vec<Vec<u8>>, StateError>;
}

/// The state before genesis: nothing.
pub struct Empty;

impl StateReader for Empty {
    fn get(&self, _: Table, _: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        Ok(None)
    }

    fn floor(&self, _: Table, _: &[u8]) -> Result<Option<Entry>, StateError> {
        Ok(None)
    }

    fn keys(&self) -> Result<Vec<Vec<u8>>, StateError> {
        Ok(vec![])
    }
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

/// Computes the state after `writes`, as version `version`, which follows the last. Neither keys nor
/// values may be empty: ICS-23 proves no such thing.
pub fn update(reader: &impl StateReader, version: u64, writes: &Writes) -> Result<StateUpdate, StateError> {
    let tree_reader = Tree(reader);
    let failed = |error: anyhow::Error| StateError(format!("version {version}: {error:#}"));
    let tree = Sha256Jmt::new(&tree_reader);
    if let Some(before) = version.checked_sub(1) {
        // The tree would take a version that is not there for an empty one.
        tree.get_root_hash(before).map_err(failed)?;
    }
    if writes.iter().any(|(key, value)| key.is_empty() || value.as_ref().is_some_and(Vec::is_empty)) {
        return Err(StateError(format!("version {version}: an empty key or value is written")));
    }
    let values = writes.iter().map(|(key, value)| (KeyHash::with::<Sha256>(key), value.clone()));
    let (root, batch) = tree.put_value_set(values, version).map_err(failed)?;
    let mut entries = Vec::new();
    for (key, node) in batch.node_batch.nodes() {
        let key = bytes_of(key)?;
        let node = sealed(&key, bytes_of(node)?);
        entries.push((Table::Nodes, key, node));
    }
    for ((version, key_hash), value) in batch.node_batch.values() {
        let key = value_key(key_hash, *version);
        let value = sealed(&key, bytes_of(value)?);
        entries.push((Table::Values, key, value));
    }
    for key in writes.keys() {
        entries.push((Table::Keys, KeyHash::with::<Sha256>(key).0.to_vec(), key.clone()));
    }
    Ok(StateUpdate { root: Hash::from_bytes(root.0), entries })
}

/// The head of a chain that has only genesis, and what the store must write for it.
pub fn genesis_head(genesis: &Genesis) -> Result<(Head, StateUpdate), StateError> {
    let update = update(&Empty, 0, &genesis_writes(genesis))?;
    let head = Head {
        height: Height::GENESIS,
        hash: genesis.id(),
        created: genesis.created,
        results_root: merkle::root(&[]),
        state_root: update.root,
        state_version: 0,
        certified_version: 0,
        transactions: 0,
    };
    Ok((head, update))
}

/// A value of the state, in a look that does not walk the tree.
pub fn value(reader: &impl StateReader, version: u64, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
    let found = Tree(reader).get_value_option(version, KeyHash::with::<Sha256>(key));
    found.map_err(|error| StateError(format!("version {version}: {error:#}")))
}

/// A value of the state and its ICS-23 proof, protobuf-encoded; of absence where there is none.
///
/// The tree's library panics, naming the damaged entry, where it cannot read a node it needs only
/// for its hash; elsewhere, and in all of [`update`], the reader's error comes back as one.
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

/// Bytes of the checksum after an entry of [`Table::Nodes`] and [`Table::Values`].
const SEAL_BYTES: usize = 8;

/// The first bytes of SHA-256 over the key's length, the key and the value.
fn seal(key: &[u8], value: &[u8]) -> [u8; SEAL_BYTES] {
    let digest = Sha256::new().chain_update((key.len() as u64).to_be_bytes()).chain_update(key).chain_update(value);
    digest.finalize().first_chunk().copied().unwrap_or_default()
}

/// A value as it is stored. The tree's library asserts that what it reads is what it wrote, and a
/// panic ends the node without naming the place; so rot is found before the library sees it.
fn sealed(key: &[u8], mut value: Vec<u8>) -> Vec<u8> {
    let seal = seal(key, &value);
    value.extend(seal);
    value
}

fn unsealed<'a>(key: &[u8], stored: &'a [u8]) -> anyhow::Result<&'a [u8]> {
    match stored.split_last_chunk::<SEAL_BYTES>() {
        Some((value, found)) if *found == seal(key, value) => Ok(value),
        _ => anyhow::bail!("the entry {} is damaged", hex::encode(key)),
    }
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
        let key = borsh::to_vec(node_key)?;
        let found = self.0.get(Table::Nodes, &key)?;
        found.map(|stored| Ok(borsh::from_slice(unsealed(&key, &stored)?)?)).transpose()
    }

    fn get_value_option(&self, max_version: Version, key_hash: KeyHash) -> anyhow::Result<Option<OwnedValue>> {
        match self.0.floor(Table::Values, &value_key(&key_hash, max_version))? {
            Some((key, stored)) if key.starts_with(&key_hash.0) => Ok(borsh::from_slice(unsealed(&key, &stored)?)?),
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
        let found = self.0.get(Table::Keys, &key_hash.0)?;
        anyhow::ensure!(
            found.as_ref().is_none_or(|key| KeyHash::with::<Sha256>(key) == key_hash),
            "the entry {} is damaged",
            hex::encode(key_hash.0)
        );
        Ok(found)
    }
}

//! Making receipts. Those of one block are usually asked for one after another, so what they have
//! in common is kept for the last few blocks.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use minidlt_protocol::{
    block::Block,
    lineage::VoterChange,
    receipt::{CertifiedHeader, Inclusion, RECEIPT_VERSION, Receipt},
    state::ResultLeaf,
    state_proof::Proven,
    transaction::Transaction,
    types::{Hash, Height},
};

use super::reader::{Located, ReadError, Reader};

/// How many blocks' common parts are kept; each is at most a block, 4 MiB, and its hashes.
const KEPT_BLOCKS: usize = 4;

/// What the receipts of one block's transactions share.
struct Prepared {
    height: Height,
    block: Block,
    leaves: Vec<Hash>,
    results: Vec<Hash>,
    transactions: Vec<Transaction>,
    /// The state's version that the block was checked against, and who was enrolled.
    version: u64,
    voter_changes: Vec<VoterChange>,
    certified: CertifiedHeader,
    next: CertifiedHeader,
}

#[derive(Default)]
pub struct Receipts(Mutex<VecDeque<Arc<Prepared>>>);

impl Receipts {
    pub fn make(&self, reader: &Reader, id: &Hash) -> Result<Option<Receipt>, ReadError> {
        let Some(Located { height, position, outcome }) = reader.locate(id)? else { return Ok(None) };
        let Some(prepared) = self.prepared(reader, height)? else { return Ok(None) };
        let misplaced = || ReadError(format!("block {height} has no transaction {position}"));
        let transaction = prepared.block.transactions.get(position).ok_or_else(misplaced)?;
        Ok(Some(Receipt {
            minidlt_receipt: RECEIPT_VERSION,
            network: reader.network(),
            id: *id,
            height,
            voter_changes: prepared.voter_changes.clone(),
            transaction: STANDARD.encode(transaction.as_slice()),
            signers: signers(reader, &prepared, position)?,
            inclusion: Inclusion::of(&prepared.leaves, position).ok_or_else(misplaced)?,
            block: prepared.certified.clone(),
            result: outcome,
            result_inclusion: Inclusion::of(&prepared.results, position).ok_or_else(misplaced)?,
            next: prepared.next.clone(),
        }))
    }

    /// The lock is held only to look and to put; two that miss at once both prepare.
    fn prepared(&self, reader: &Reader, height: Height) -> Result<Option<Arc<Prepared>>, ReadError> {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = lock().iter().find(|prepared| prepared.height == height) {
            return Ok(Some(found.clone()));
        }
        let Some(prepared) = prepare(reader, height)?.map(Arc::new) else { return Ok(None) };
        let mut kept = lock();
        kept.truncate(KEPT_BLOCKS - 1);
        kept.push_front(prepared.clone());
        Ok(Some(prepared))
    }
}

fn prepare(reader: &Reader, height: Height) -> Result<Option<Prepared>, ReadError> {
    let Some(next) = reader.certified_block(height.next())? else { return Ok(None) };
    let certified = reader.certified_block(height)?;
    let certified = certified.ok_or_else(|| ReadError(format!("block {height} is missing")))?;
    let network = reader.network();
    let block = certified.block;
    let parsed = block.parse(&network).map_err(|error| ReadError(format!("block {height}: {error}")))?;
    let count = parsed.len() as u64;
    let result = |(transaction, position): (Hash, u64)| {
        let located = reader.locate(&transaction)?;
        let located = located.ok_or_else(|| ReadError(format!("transaction {transaction} is not indexed")))?;
        Ok(ResultLeaf { transaction, position, count, outcome: located.outcome }.hash())
    };
    let results = parsed.iter().map(|transaction| transaction.id).zip(0..).map(result);
    Ok(Some(Prepared {
        height,
        leaves: block.leaves(),
        results: results.collect::<Result<_, ReadError>>()?,
        certified: reader.certify(block.header.clone(), certified.certificate)?,
        next: reader.certify(next.block.header, next.certificate)?,
        transactions: parsed,
        version: reader.database.version_at(height.previous().unwrap_or_default())?,
        voter_changes: reader.voter_changes(height.next())?,
        block,
    }))
}

/// Who signed a transaction, as the state before its block has them.
fn signers(reader: &Reader, prepared: &Prepared, position: usize) -> Result<Vec<Proven>, ReadError> {
    let Some(transaction) = prepared.transactions.get(position) else { return Ok(vec![]) };
    // What a member is, user or node, it is for ever.
    let entries = transaction.signers_entries(&reader.registry());
    entries.iter().map(|key| reader.proven(&key.to_string(), prepared.version)).collect()
}

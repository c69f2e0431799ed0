//! The walk from genesis to the head.

use std::sync::Arc;

use minidlt_protocol::{
    block::{Block, Head},
    codec,
    genesis::Genesis,
    registry::Registry,
    state::{self, Execution, genesis_head},
    transaction::Transaction,
    types::{Hash, Height},
    vote::Certificate,
};

use super::{
    super::{
        history,
        schema::{Family, Place, decode_certificate, height_key},
    },
    FirstBad, Summary, bad,
    rows::Rows,
    signatures::Signatures,
    state::Recomputed,
};

pub struct Chain<'a> {
    rows: &'a Rows<'a>,
    network: Hash,
    registry: Arc<Registry>,
    head: Head,
    state: Recomputed,
    transactions: u64,
}

impl<'a> Chain<'a> {
    pub fn at_genesis(rows: &'a Rows<'a>, genesis: &Genesis) -> Result<Self, FirstBad> {
        let (head, update) = genesis_head(genesis).map_err(|error| bad(Height::GENESIS, error))?;
        let mut state = Recomputed::default();
        state.write(Height::GENESIS, update);
        let registry = Arc::new(genesis.registry());
        Ok(Self { rows, network: genesis.id(), registry, head, state, transactions: 0 })
    }

    /// Checks all blocks up to `last`, which must be the last there is.
    pub fn walk(mut self, last: Height) -> Result<(Summary, Recomputed), FirstBad> {
        let mut signatures = Signatures::new(self.network);
        let walked = self.blocks(last, &mut signatures);
        // Signatures still waiting are of lower heights than what was found wrong.
        signatures.finish()?;
        walked?;
        Ok((Summary { head: self.head, transactions: self.transactions }, self.state))
    }

    fn blocks(&mut self, last: Height, signatures: &mut Signatures) -> Result<(), FirstBad> {
        let mut blocks = self.rows.by_height(Family::Blocks);
        let mut certificates = self.rows.by_height(Family::Certificates);
        while self.head.height < last {
            let height = self.head.height.next();
            let (block, certificate) = (blocks.at(height)?, certificates.at(height)?);
            self.block(height, &block, &certificate, signatures)?;
        }
        blocks.end(last)?;
        certificates.end(last)
    }

    fn block(
        &mut self,
        height: Height,
        block: &[u8],
        certificate: &[u8],
        signatures: &mut Signatures,
    ) -> Result<(), FirstBad> {
        let wrong_block = |error: &dyn std::fmt::Display| bad(height, format_args!("block: {error}"));
        let block = Block::decode(block).map_err(|error| wrong_block(&error))?;
        let hash = block.header.hash(&self.network);
        let certificate =
            decode_certificate(certificate).map_err(|error| bad(height, format_args!("certificate: {error}")))?;
        check_certifies(&certificate, height, hash)?;
        block.header.check_follows(&self.head, self.registry.voters_at(height)).map_err(|error| wrong_block(&error))?;
        let transactions = block.parse(&self.network).map_err(|error| wrong_block(&error))?;
        let checked = block.header.check_transactions(transactions.iter(), &self.registry);
        checked.map_err(|error| wrong_block(&error))?;

        let created = block.header.created;
        let execution = state::execute(&self.state, &self.registry, &self.head, created, transactions.iter());
        let execution = execution.map_err(|error| bad(height, error))?;
        self.check_indexed(height, hash, &transactions, &execution)?;
        self.transactions += transactions.len() as u64;
        self.head = Head {
            height,
            hash,
            created: block.header.created,
            results_root: execution.results_root,
            certified_version: self.head.state_version,
            transactions: transactions.len(),
            ..self.head.clone()
        };
        self.advance_state(&execution)?;
        let before = std::mem::replace(&mut self.registry, execution.registry);
        signatures.add(&before, height, certificate, transactions)
    }

    fn check_indexed(
        &self,
        height: Height,
        hash: Hash,
        transactions: &[Transaction],
        execution: &Execution,
    ) -> Result<(), FirstBad> {
        let check = |family: Family, key: &[u8], right: &[u8]| match self.rows.get(family, key, height)? {
            Some(found) if found == right => Ok(()),
            found => {
                let what = if found.is_some() { "does not lead to it" } else { "is missing" };
                let (name, key) = (family.name(), hex::encode(key));
                Err(bad(height, format_args!("{name}: the entry under {key} {what}")))
            }
        };
        check(Family::Hashes, hash.as_bytes(), &height_key(height))?;
        for ((transaction, outcome), position) in transactions.iter().zip(&execution.outcomes).zip(0..) {
            let place: Place = (height, position, outcome.clone());
            check(Family::Transactions, transaction.id.as_bytes(), &codec::encode(&place))?;
        }
        Ok(())
    }

    fn advance_state(&mut self, execution: &Execution) -> Result<(), FirstBad> {
        if execution.writes.is_empty() {
            return Ok(());
        }
        let (height, version) = (self.head.height, self.head.state_version + 1);
        let update = state::update(&self.state, version, &execution.writes).map_err(|error| bad(height, error))?;
        (self.head.state_version, self.head.state_root) = (version, update.root);
        self.state.write(height, update);
        self.state.write_beside(height, history::entries(height, execution, version));
        Ok(())
    }
}

/// That its signatures hold is checked with the others; this is that they are about this block.
fn check_certifies(certificate: &Certificate, height: Height, hash: Hash) -> Result<(), FirstBad> {
    if certificate.block != hash {
        let theirs = certificate.block;
        return Err(bad(height, format_args!("the block's hash is {hash}, its certificate is for {theirs}")));
    }
    if certificate.height != height {
        return Err(bad(height, format_args!("its certificate is for height {}", certificate.height)));
    }
    Ok(())
}

//! How blocks and transactions read in JSON: to people, in the API and in the stream of events.

use serde::Serialize;

use crate::{
    block::{Block, Header},
    crypto::Signature,
    transaction::{Body, Endorsement, Refusal, SignedTransaction, TransactionBytes, id_of, open},
    types::{Hash, Height, Identity, Round, Timestamp},
};

/// A signed transaction: its body's fields, its id and its signatures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TransactionView {
    pub id: Hash,
    #[serde(flatten)]
    pub body: Body,
    pub signature: Signature,
    /// Who else signed its id.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub endorsements: Vec<Endorsement>,
}

impl TransactionView {
    pub fn of(network: &Hash, bytes: &TransactionBytes) -> Result<Self, Refusal> {
        let (SignedTransaction { body: raw, signature, endorsements }, body) = open(bytes.as_slice())?;
        Ok(Self { id: id_of(network, &raw), body, signature, endorsements })
    }
}

/// A block with its transactions as content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BlockView {
    pub height: Height,
    pub hash: Hash,
    pub previous: Hash,
    pub created: Timestamp,
    pub round: Round,
    pub proposer: Identity,
    pub transactions_root: Hash,
    pub results_root: Hash,
    pub state_root: Hash,
    pub content: Vec<TransactionView>,
}

impl BlockView {
    pub fn of(network: &Hash, block: &Block) -> Result<Self, Refusal> {
        let content = block.transactions.iter().map(|bytes| TransactionView::of(network, bytes));
        let content = content.collect::<Result<_, _>>()?;
        let Header { height, round, created, previous, proposer, transactions_root, results_root, state_root } =
            block.header.clone();
        let hash = block.header.hash(network);
        Ok(Self {
            height,
            hash,
            previous,
            created,
            round,
            proposer,
            transactions_root,
            results_root,
            state_root,
            content,
        })
    }
}

//! A made-up network of four nodes, a block with three transactions, and their receipts.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use minidlt_protocol::{
    block::Header,
    crypto::SecretKey,
    genesis::{Genesis, Timeouts},
    merkle,
    receipt::{CertifiedHeader, Inclusion, RECEIPT_VERSION, Receipt},
    registry::{Node, NodeRole, Organisation, Role, User},
    state::{Empty, Entry, ResultLeaf, StateError, StateReader, Table, execute, genesis_head, prove},
    state_proof::{Base64, Proven},
    transaction::{Body, Content, Operation, SignedTransaction, Transaction, TransactionBytes},
    types::{Hash, Height, Identity, Name, Round, Timestamp},
    vote::{Certificate, CommitSignature, ConsensusMode, Phase, Vote},
};
use serde_json::json;

const COUNT: u8 = 4;

pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn key(seed: u8) -> SecretKey {
    SecretKey::from_bytes(&[seed; 32]).unwrap()
}

/// `node1` to `node4`, and the user `trader`, all of Org01.
pub fn genesis() -> Genesis {
    let node = |seed: u8| {
        let identity = Identity::new(name(&format!("node{seed}")), name("Org01"));
        let roles = BTreeSet::from([NodeRole::Peer, NodeRole::Orderer]);
        Node::new(identity, key(seed).public_key(), roles, format!("localhost:{}", 3402 + u16::from(seed) * 10))
    };
    let trader = Identity::new(name("trader"), name("Org01"));
    let roles = BTreeSet::from([Role::Submitter, Role::Admin]);
    let trader = User::new(trader, key(100).public_key(), roles, BTreeSet::new());
    Genesis {
        network: name("made-up"),
        created: Timestamp::from_millis(0),
        consensus: ConsensusMode::Bft,
        timeouts: Timeouts::default(),
        synchronise: Default::default(),
        organisations: vec![Organisation::new(name("Org01"), String::new())],
        nodes: (1..=COUNT).map(node).collect(),
        users: vec![trader],
        policies: BTreeMap::new(),
        predecessor: None,
    }
}

fn certified(genesis: &Genesis, header: Header) -> CertifiedHeader {
    let (network, voters) = (genesis.id(), genesis.registry().orderers());
    let (height, round, block) = (header.height, Round::ZERO, header.hash(&network));
    let vote = Vote { phase: Phase::Precommit, height, round, block: Some(block) };
    let signatures = (1..=COUNT).map(|seed| CommitSignature {
        voter: Identity::new(name(&format!("node{seed}")), name("Org01")),
        signature: key(seed).sign(&vote.digest(&network)),
    });
    let certificate = Certificate { height, round, block, signatures: signatures.collect() };
    CertifiedHeader::new(&network, header, certificate, &voters)
}

/// The state of genesis.
struct Memory(Vec<(Table, Vec<u8>, Vec<u8>)>);

impl StateReader for Memory {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        let found = self.0.iter().find(|(of, at, _)| (*of, at.as_slice()) == (table, key));
        Ok(found.map(|(_, _, value)| value.clone()))
    }

    fn floor(&self, table: Table, key: &[u8]) -> Result<Option<Entry>, StateError> {
        let below = self.0.iter().filter(|(of, at, _)| *of == table && at.as_slice() <= key);
        Ok(below.max_by(|(_, a, _), (_, b, _)| a.cmp(b)).map(|(_, at, value)| (at.clone(), value.clone())))
    }

    fn keys(&self) -> Result<Vec<Vec<u8>>, StateError> {
        Ok(self.0.iter().filter(|(of, ..)| *of == Table::Keys).map(|(_, _, key)| key.clone()).collect())
    }
}

fn proven(state: &Memory, key: &str) -> Proven {
    let (value, proof) = prove(state, 0, key.as_bytes()).unwrap();
    Proven { key: key.to_owned(), value: value.map(Base64), proof: Base64(proof) }
}

/// Of the transaction at this position, from 0 to 2, in block 1.
pub fn receipt(genesis: &Genesis, at: usize) -> Receipt {
    let network = genesis.id();
    let transaction = |nonce| {
        let body = Body {
            network,
            author: genesis.users[0].identity(),
            created: Timestamp::from_millis(1000),
            expires: Timestamp::from_millis(9000),
            nonce,
            operation: Operation::records(vec![Content::from_json(&json!({"price": 39.81}))]),
        };
        let bytes = TransactionBytes::from(&SignedTransaction::sign(&body, &key(100)));
        Transaction::parse(bytes, &network).unwrap()
    };
    let transactions: Vec<Transaction> = (0..3).map(transaction).collect();
    let leaves: Vec<Hash> = transactions.iter().map(|transaction| transaction.leaf).collect();
    let (head, state) = genesis_head(genesis).unwrap();
    let header = Header {
        height: Height::new(1),
        round: Round::ZERO,
        created: Timestamp::from_millis(2000),
        previous: network,
        proposer: genesis.nodes[1].identity(),
        transactions_root: merkle::root(&leaves),
        results_root: merkle::root(&[]),
        state_root: head.state_root,
    };
    let registry = Arc::new(genesis.registry());
    let execution = execute(&Empty, &registry, &head, header.created, transactions.iter()).unwrap();
    let next = Header {
        height: Height::new(2),
        previous: header.hash(&network),
        transactions_root: merkle::root(&[]),
        results_root: execution.results_root,
        ..header.clone()
    };
    let results = transactions.iter().zip(&execution.outcomes).zip(0..).map(|((transaction, outcome), position)| {
        ResultLeaf { transaction: transaction.id, position, count: 3, outcome: outcome.clone() }.hash()
    });
    let results: Vec<Hash> = results.collect();
    Receipt {
        minidlt_receipt: RECEIPT_VERSION,
        network,
        id: transactions[at].id,
        height: Height::new(1),
        voter_changes: vec![],
        signers: vec![proven(&Memory(state.entries), "user/trader@Org01")],
        transaction: base64::Engine::encode(
            &base64::engine::general_purpose::STANDARD,
            transactions[at].bytes.as_slice(),
        ),
        inclusion: Inclusion::of(&leaves, at).unwrap(),
        block: certified(genesis, header),
        result: execution.outcomes[at].clone(),
        result_inclusion: Inclusion::of(&results, at).unwrap(),
        next: certified(genesis, next),
    }
}

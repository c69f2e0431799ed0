//! A made-up network of four nodes, a block with three transactions, and their receipts.

use std::collections::{BTreeMap, BTreeSet};

use minidlt_protocol::{
    block::Header,
    crypto::SecretKey,
    genesis::{Genesis, Timeouts},
    merkle,
    receipt::{CertifiedHeader, Inclusion, RECEIPT_VERSION, Receipt},
    registry::{Node, NodeRole, Organisation, Role, User},
    state::{Empty, ResultLeaf, execute, genesis_head},
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
    let node = |seed: u8| Node {
        name: name(&format!("node{seed}")),
        organisation: name("Org01"),
        public_key: key(seed).public_key(),
        roles: BTreeSet::from([NodeRole::Peer, NodeRole::Orderer]),
        address: format!("localhost:{}", 3402 + u16::from(seed) * 10),
    };
    let trader = User {
        name: name("trader"),
        organisation: name("Org01"),
        public_key: key(100).public_key(),
        roles: BTreeSet::from([Role::Submitter]),
        gateways: BTreeSet::new(),
    };
    Genesis {
        network: name("made-up"),
        created: Timestamp::from_millis(0),
        consensus: ConsensusMode::Bft,
        timeouts: Timeouts::default(),
        synchronise: Default::default(),
        organisations: vec![Organisation { name: name("Org01"), ca: String::new(), former_ca: None }],
        nodes: (1..=COUNT).map(node).collect(),
        users: vec![trader],
        policies: BTreeMap::new(),
    }
}

fn certified(genesis: &Genesis, header: Header) -> CertifiedHeader {
    let (network, voters) = (genesis.id(), genesis.registry().voters());
    let (height, round, block) = (header.height, Round::ZERO, header.hash(&network));
    let vote = Vote { phase: Phase::Precommit, height, round, block: Some(block) };
    let signatures = (1..=COUNT).map(|seed| CommitSignature {
        voter: Identity::new(name(&format!("node{seed}")), name("Org01")),
        signature: key(seed).sign(&vote.digest(&network)),
    });
    let certificate = Certificate { height, round, block, signatures: signatures.collect() };
    CertifiedHeader::new(&network, header, certificate, &voters)
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
            operation: Operation::Record { contents: vec![Content::from_json(&json!({"price": 39.81}))] },
        };
        let bytes = TransactionBytes::from(&SignedTransaction::sign(&body, &key(100)));
        Transaction::parse(bytes, &network).unwrap()
    };
    let transactions: Vec<Transaction> = (0..3).map(transaction).collect();
    let leaves: Vec<Hash> = transactions.iter().map(|transaction| transaction.leaf).collect();
    let header = Header {
        height: Height::new(1),
        round: Round::ZERO,
        created: Timestamp::from_millis(2000),
        previous: network,
        proposer: genesis.nodes[1].identity(),
        transactions_root: merkle::root(&leaves),
        results_root: merkle::root(&[]),
        state_root: Hash::ZERO,
    };
    let (head, _) = genesis_head(genesis).unwrap();
    let execution = execute(&Empty, &head, transactions.iter()).unwrap();
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

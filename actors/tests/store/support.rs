//! A network of four voters whose keys the tests hold, and the blocks they decide.

// Each test binary uses its own part of this.
#![allow(dead_code)]

use std::{path::Path, sync::Arc};

use minidlt_actors::store::{OpenError, Settings, Writer, open, reader::Reader};
use minidlt_protocol::{
    block::{Block, CertifiedBlock, DecidedBlock, Head, build},
    crypto::SecretKey,
    evidence::Evidence,
    genesis::{Genesis, Timeouts},
    merkle,
    registry::{Node, NodeRole, Organisation, Policy, Registry, Role, User},
    transaction::{Body, Content, Operation, SignedTransaction, Transaction},
    types::{Hash, Height, Identity, Name, Round, Timestamp},
    vote::{Certificate, CommitSignature, ConsensusMode, Phase, SignedVote, Vote},
};

pub const NODES: u8 = 4;
const START: u64 = 1_700_000_000_000;
const LIFETIME: u64 = 3_600_000;

pub struct Network {
    pub genesis: Arc<Genesis>,
    pub id: Hash,
    pub registry: Registry,
    nonce: u64,
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub fn identity(node: u8) -> Identity {
    format!("node{node}@Org01").parse().unwrap()
}

pub fn node_key(node: u8) -> SecretKey {
    SecretKey::from_bytes(&[node + 1; 32]).unwrap()
}

fn user_key() -> SecretKey {
    SecretKey::from_bytes(&[100; 32]).unwrap()
}

pub fn genesis(network: &str) -> Genesis {
    let nodes = (0..NODES).map(|node| Node {
        name: name(&format!("node{node}")),
        organisation: name("Org01"),
        public_key: node_key(node).public_key(),
        roles: [NodeRole::Peer, NodeRole::Orderer].into(),
        address: format!("127.0.0.1:{}", 3402 + 10 * u16::from(node)),
    });
    let trader = User {
        name: name("trader"),
        organisation: name("Org01"),
        public_key: user_key().public_key(),
        roles: [Role::Submitter].into(),
        gateways: (0..NODES).map(identity).collect(),
    };
    let orderers = Policy::Leaf { organisation: name("Org01"), role: Role::Admin };
    let genesis = Genesis {
        network: name(network),
        created: Timestamp::from_millis(START),
        consensus: ConsensusMode::Bft,
        timeouts: Timeouts::default(),
        synchronise: Default::default(),
        organisations: vec![Organisation { name: name("Org01"), ca: "a certificate".into(), former_ca: None }],
        nodes: nodes.collect(),
        users: vec![trader],
        policies: [(name("orderers"), orderers)].into(),
    };
    genesis.check().unwrap();
    genesis
}

impl Network {
    pub fn new() -> Self {
        let genesis = Arc::new(genesis("test"));
        Self { id: genesis.id(), registry: genesis.registry(), genesis, nonce: 0 }
    }

    pub fn settings(&self, directory: &Path) -> Settings {
        Settings { directory: directory.to_owned(), genesis: self.genesis.clone(), node: identity(0) }
    }

    pub fn open(&self, directory: &Path) -> Result<(Writer, Reader), OpenError> {
        open(self.settings(directory))
    }

    pub fn transaction(&mut self, head: &Head) -> Transaction {
        self.record(head, &serde_json::json!({ "ISIN": "CH0000000001", "amount": self.nonce + 1 }))
    }

    pub fn record(&mut self, head: &Head, content: &serde_json::Value) -> Transaction {
        self.nonce += 1;
        let content = Content::from_json(content);
        let body = Body {
            network: self.id,
            author: "trader@Org01".parse().unwrap(),
            created: head.created,
            expires: head.created.plus_millis(LIFETIME),
            nonce: self.nonce,
            operation: Operation::Record { contents: vec![content] },
        };
        Transaction::parse((&SignedTransaction::sign(&body, &user_key())).into(), &self.id).unwrap()
    }

    /// A prevote of a voter.
    pub fn prevote(&self, node: u8, height: u64, block: Option<u8>) -> SignedVote {
        let (height, block) = (Height::new(height), block.map(|byte| Hash::from_bytes([byte; 32])));
        let vote = Vote { phase: Phase::Prevote, height, round: Round::ZERO, block };
        SignedVote { voter: identity(node), signature: node_key(node).sign(&vote.digest(&self.id)), vote }
    }

    /// Two prevotes of a voter where it may cast one.
    pub fn lie(&self, node: u8, height: u64) -> Evidence {
        let prevote = |block| self.prevote(node, height, block);
        Evidence::Votes { first: prevote(None), second: prevote(Some(7)) }
    }

    /// A node's report.
    pub fn report(&self, head: &Head, author: u8, evidence: Evidence) -> Transaction {
        let body = Body {
            network: self.id,
            author: identity(author),
            created: head.created,
            expires: head.created.plus_millis(LIFETIME),
            nonce: 0,
            operation: Operation::Evidence(evidence.into()),
        };
        Transaction::parse((&SignedTransaction::sign(&body, &node_key(author))).into(), &self.id).unwrap()
    }

    /// A block of new transactions that may follow `head`.
    pub fn next(&mut self, head: &Head, transactions: usize) -> DecidedBlock {
        let transactions = (0..transactions).map(|_| self.transaction(head)).collect();
        self.decide(head, transactions)
    }

    /// A block of these transactions, with a certificate by three voters, each height another three.
    pub fn decide(&self, head: &Head, transactions: Vec<Transaction>) -> DecidedBlock {
        let voters = self.registry.voters();
        let verify = |transaction: Transaction| Arc::new(transaction.verify(&self.registry).unwrap());
        let transactions: Vec<_> = transactions.into_iter().map(verify).collect();
        let proposer = voters.proposer(head.height.next(), Round::ZERO).unwrap().identity.clone();
        let header = build(head, Round::ZERO, proposer, head.created.plus_millis(10), &transactions).header;
        let hash = header.hash(&self.id);
        let certificate = self.certify(header.height, hash);
        DecidedBlock::decided(header, hash, certificate, transactions)
    }

    /// A block as a quorum would certify it that did not look at its transactions.
    pub fn collude(&self, mut block: Block) -> CertifiedBlock {
        block.header.transactions_root = merkle::root(&block.leaves());
        let certificate = self.certify(block.header.height, block.header.hash(&self.id));
        CertifiedBlock { block, certificate }
    }

    fn certify(&self, height: Height, block: Hash) -> Certificate {
        let mut certificate = Certificate { height, round: Round::ZERO, block, signatures: vec![] };
        let digest = certificate.vote().digest(&self.id);
        let absent = (height.get() % u64::from(NODES)) as u8;
        certificate.signatures = (0..NODES)
            .filter(|node| *node != absent)
            .map(|node| CommitSignature { voter: identity(node), signature: node_key(node).sign(&digest) })
            .collect();
        certificate
    }

    /// Commits `blocks` blocks of `transactions` transactions each.
    pub fn grow(
        &mut self,
        writer: &mut Writer,
        reader: &Reader,
        blocks: usize,
        transactions: usize,
    ) -> Vec<DecidedBlock> {
        let commit = |_| {
            let block = self.next(&reader.head(), transactions);
            writer.commit(&block).unwrap();
            block
        };
        (0..blocks).map(commit).collect()
    }
}

/// A block as others get it.
pub fn certified(block: &DecidedBlock) -> CertifiedBlock {
    let DecidedBlock { header, certificate, .. } = block;
    let transactions = block.transactions.iter().map(|transaction| transaction.bytes.clone()).collect();
    CertifiedBlock { block: Block { header: header.clone(), transactions }, certificate: certificate.clone() }
}

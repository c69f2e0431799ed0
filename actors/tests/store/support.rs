//! A network of four voters whose keys the tests hold, and the blocks they decide.

// Each test binary uses its own part of this.
#![allow(dead_code)]

use std::{collections::BTreeSet, path::Path, sync::Arc};

use minidlt_actors::store::{OpenError, Settings, Writer, open, reader::Reader};
use minidlt_protocol::{
    block::{Block, CertifiedBlock, DecidedBlock, Head, build},
    crypto::{PublicKey, SecretKey},
    evidence::Evidence,
    genesis::{Genesis, Timeouts},
    governance::{Change, ChangeNode, ChangeUser, EnrolNode},
    merkle,
    registry::{Node, NodeRole, Organisation, Policy, Registry, Role, User},
    transaction::{Body, Content, Operation, SignedTransaction, Transaction},
    types::{Hash, Height, Identity, Name, Round, Timestamp},
    vote::{Certificate, CommitSignature, ConsensusMode, Phase, SignedVote, Vote, Voter},
};

pub const NODES: u8 = 4;
const START: u64 = 1_700_000_000_000;
const LIFETIME: u64 = 3_600_000;

pub struct Network {
    pub genesis: Arc<Genesis>,
    pub id: Hash,
    /// As of the last block that was seen.
    pub registry: Arc<Registry>,
    nonce: u64,
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub fn identity(node: u8) -> Identity {
    format!("node{node}@Org01").parse().unwrap()
}

pub fn node_key(node: u8) -> SecretKey {
    key(node + 1)
}

pub fn key(seed: u8) -> SecretKey {
    SecretKey::from_bytes(&[seed; 32]).unwrap()
}

pub const TRADER: (&str, u8) = ("trader@Org01", 100);
pub const BROKER: (&str, u8) = ("broker@Org01", 102);
/// May change users and nodes, and meets the policy on orderers alone.
pub const ADMIN: (&str, u8) = ("admin@Org01", 101);

pub fn both_roles() -> BTreeSet<NodeRole> {
    [NodeRole::Peer, NodeRole::Orderer].into()
}

pub fn address_of(node: u8) -> String {
    format!("127.0.0.1:{}", 3402 + 10 * u16::from(node))
}

pub fn genesis(network: &str) -> Genesis {
    let nodes =
        (0..NODES).map(|node| Node::new(identity(node), node_key(node).public_key(), both_roles(), address_of(node)));
    let user = |(who, seed): (&str, u8), roles: &[Role]| {
        let (roles, gateways) = (roles.iter().copied().collect(), (0..NODES).map(identity).collect());
        User::new(who.parse().unwrap(), key(seed).public_key(), roles, gateways)
    };
    let orderers = Policy::Leaf { organisation: name("Org01"), role: Role::Admin.into() };
    let genesis = Genesis {
        network: name(network),
        created: Timestamp::from_millis(START),
        consensus: ConsensusMode::Bft,
        timeouts: Timeouts::default(),
        synchronise: Default::default(),
        organisations: vec![Organisation::new(name("Org01"), "a certificate".into())],
        nodes: nodes.collect(),
        users: vec![
            user(TRADER, &[Role::Submitter]),
            user(BROKER, &[Role::Submitter]),
            user(ADMIN, &[Role::Admin, Role::NodeInvoker]),
        ],
        policies: [(name("orderers"), orderers)].into(),
        predecessor: None,
    };
    genesis.check().unwrap();
    genesis
}

impl Network {
    pub fn new() -> Self {
        let genesis = Arc::new(genesis("test"));
        Self { id: genesis.id(), registry: Arc::new(genesis.registry()), genesis, nonce: 0 }
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
        let contents = vec![Content::from_json(content)];
        self.signed(head, TRADER, Operation::records(contents))
    }

    /// A change of the registry by the admin, which needs nobody else.
    pub fn change(&mut self, head: &Head, change: Change) -> Transaction {
        self.signed(head, ADMIN, Operation::Change(change.into()))
    }

    /// A new node that votes.
    pub fn enrol(&mut self, head: &Head, node: u8) -> Transaction {
        let (public_key, address) = (node_key(node).public_key(), address_of(node));
        self.change(
            head,
            Change::EnrolNode(EnrolNode { node: identity(node), public_key, roles: both_roles(), address }),
        )
    }

    /// A change of a node that has this revision.
    pub fn change_node(
        &mut self,
        head: &Head,
        node: u8,
        revision: u64,
        edit: impl FnOnce(&mut ChangeNode),
    ) -> Transaction {
        let mut change = ChangeNode {
            node: identity(node),
            revision,
            public_key: None,
            former_key: None,
            roles: None,
            address: None,
            standing: None,
        };
        edit(&mut change);
        self.change(head, Change::ChangeNode(change))
    }

    pub fn change_user(&mut self, head: &Head, user: &str, edit: impl FnOnce(&mut ChangeUser)) -> Transaction {
        let user: Identity = user.parse().unwrap();
        let revision = self.registry.users[&user].revision;
        let mut change = ChangeUser { user, revision, public_key: None, roles: None, gateways: None, standing: None };
        edit(&mut change);
        self.change(head, Change::ChangeUser(change))
    }

    /// Commits a block of these transactions.
    pub fn commit(&mut self, writer: &mut Writer, reader: &Reader, transactions: Vec<Transaction>) -> DecidedBlock {
        let block = self.decide(&reader.head(), transactions);
        writer.commit(&block).unwrap();
        self.follow(reader);
        block
    }

    pub fn signed(&mut self, head: &Head, (author, seed): (&str, u8), operation: Operation) -> Transaction {
        self.nonce += 1;
        let body = Body {
            network: self.id,
            author: author.parse().unwrap(),
            created: head.created,
            expires: head.created.plus_millis(LIFETIME),
            nonce: self.nonce,
            operation,
        };
        Transaction::parse((&SignedTransaction::sign(&body, &key(seed))).into(), &self.id).unwrap()
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

    /// A block of these transactions, with a certificate by all voters but one, each height another one.
    pub fn decide(&self, head: &Head, transactions: Vec<Transaction>) -> DecidedBlock {
        let voters = self.registry.voters_at(head.height.next());
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
        let voters = self.registry.voters_at(height);
        let spare = voters.as_slice().len() > voters.quorum();
        let absent = (height.get() as usize) % voters.as_slice().len();
        let sign = |voter: &Voter| CommitSignature {
            voter: voter.identity.clone(),
            signature: secret_of(&voter.key).sign(&digest),
        };
        let present = voters.as_slice().iter().enumerate().filter(|(at, _)| !spare || *at != absent);
        certificate.signatures = present.map(|(_, voter)| sign(voter)).collect();
        certificate
    }

    /// Knows the registry after the last block, as who committed it does.
    pub fn follow(&mut self, reader: &Reader) {
        self.registry = reader.registry();
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
            self.follow(reader);
            block
        };
        (0..blocks).map(commit).collect()
    }
}

/// Of the tests' keys, the one that this is the public half of.
fn secret_of(public: &PublicKey) -> SecretKey {
    (1..=u8::MAX).map(key).find(|secret| secret.public_key() == *public).expect("a key of these tests")
}

/// A block as others get it.
pub fn certified(block: &DecidedBlock) -> CertifiedBlock {
    let DecidedBlock { header, certificate, .. } = block;
    let transactions = block.transactions.iter().map(|transaction| transaction.bytes.clone()).collect();
    CertifiedBlock { block: Block { header: header.clone(), transactions }, certificate: certificate.clone() }
}

//! A small network on paper: two organisations with their authorities, nodes, users, certificates,
//! and a chain in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex},
};

use minidlt_actors::{
    admin::Ledger,
    store::{
        Changed,
        reader::{Located, ReadError},
    },
    tls::Credentials,
};
use minidlt_protocol::{
    block::{Block, Head, Header},
    crypto::SecretKey,
    evidence::Recorded,
    genesis::{Genesis, Timeouts},
    receipt::{CertifiedHeader, Receipt},
    registry::{EntryKey, Node, NodeRole, Organisation, Policy, Role, User},
    state::{Entry, Outcome, StateError, StateReader, Table, genesis_head, prove, value},
    state_proof::{Base64, Proven, STATE_PROOF_VERSION, StateProof},
    transaction::{Body, Content, Effect, Operation, SignedTransaction, Transaction, TransactionBytes, id_of, open},
    types::{Hash, Height, Identity, Round, Timestamp},
    vote::{Certificate, ConsensusMode, Phase, SignedVote, Vote},
};
use openssl::{
    asn1::Asn1Time,
    bn::BigNum,
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkey::{PKey, Private},
    x509::{
        X509, X509Builder, X509NameBuilder,
        extension::{BasicConstraints, SubjectAlternativeName},
    },
};
use tokio::sync::watch;

/// A certificate and its key.
#[derive(Clone)]
pub struct Paper {
    pub certificate: X509,
    pub key: PKey<Private>,
}

impl Paper {
    /// Issued by `issuer`, or by itself.
    pub fn issue(name: &str, organisation: &str, issuer: Option<&Paper>) -> Self {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
        let mut subject = X509NameBuilder::new().unwrap();
        subject.append_entry_by_nid(Nid::COMMONNAME, name).unwrap();
        subject.append_entry_by_nid(Nid::ORGANIZATIONNAME, organisation).unwrap();
        let subject = subject.build();
        let mut builder = X509Builder::new().unwrap();
        builder.set_version(2).unwrap();
        let mut serial = [0; 8];
        openssl::rand::rand_bytes(&mut serial).unwrap();
        builder.set_serial_number(&BigNum::from_slice(&serial).unwrap().to_asn1_integer().unwrap()).unwrap();
        builder.set_subject_name(&subject).unwrap();
        builder.set_issuer_name(issuer.map_or(&*subject, |issuer| issuer.certificate.subject_name())).unwrap();
        builder.set_pubkey(&key).unwrap();
        builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
        builder.set_not_after(&Asn1Time::days_from_now(2).unwrap()).unwrap();
        match issuer {
            None => builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap(),
            Some(_) => {
                let mut names = SubjectAlternativeName::new();
                names.dns("localhost").ip("127.0.0.1");
                let names = names.build(&builder.x509v3_context(None, None)).unwrap();
                builder.append_extension(names).unwrap();
            }
        }
        builder.sign(issuer.map_or(&key, |issuer| &issuer.key), MessageDigest::sha256()).unwrap();
        Self { certificate: builder.build(), key }
    }

    /// As a node uses it.
    pub fn credentials(&self) -> Credentials {
        Credentials { chain: vec![self.certificate.clone()], key: self.key.clone() }
    }

    fn pem(&self) -> String {
        String::from_utf8(self.certificate.to_pem().unwrap()).unwrap()
    }
}

pub fn identity(text: &str) -> Identity {
    text.parse().unwrap()
}

/// The network's members.
pub struct Network {
    pub genesis: Genesis,
    pub authorities: BTreeMap<&'static str, Paper>,
}

pub const TRADER: &str = "trader@Org01";
pub const ADMIN: &str = "admin@Org01";
/// May submit through node1 alone.
pub const ELSEWHERE: &str = "elsewhere@Org02";
/// The other organisation's.
pub const ADMIN2: &str = "admin@Org02";
pub const ME: &str = "node0@Org01";

fn secret(seed: u8) -> SecretKey {
    SecretKey::from_bytes(&[seed; 32]).unwrap()
}

pub fn key_of(user: &str) -> SecretKey {
    match user {
        TRADER => secret(21),
        ADMIN => secret(22),
        ELSEWHERE => secret(23),
        ADMIN2 => secret(24),
        _ => secret(99),
    }
}

impl Network {
    pub fn new() -> Self {
        let authorities: BTreeMap<_, _> =
            ["Org01", "Org02"].into_iter().map(|name| (name, Paper::issue("ca", name, None))).collect();
        let node = |at: u8| {
            let roles = BTreeSet::from([NodeRole::Peer, NodeRole::Orderer]);
            let address = format!("localhost:{}", 3402 + 10 * u16::from(at));
            Node::new(identity(&format!("node{at}@Org0{}", 1 + at % 2)), secret(at + 1).public_key(), roles, address)
        };
        let nodes: Vec<Node> = (0..4).map(node).collect();
        let user = |who: &str, roles: &[Role], gateways: &[Node]| {
            let gateways = gateways.iter().map(Node::identity).collect();
            User::new(identity(who), key_of(who).public_key(), roles.iter().copied().collect(), gateways)
        };
        let users = vec![
            user(TRADER, &[Role::Submitter], &nodes),
            user(ADMIN, &[Role::Admin, Role::Submitter], &nodes),
            user(ELSEWHERE, &[Role::Submitter], &nodes[1..2]),
            user(ADMIN2, &[Role::Admin], &nodes),
        ];
        let organisation = |(name, paper): (&&str, &Paper)| Organisation::new(name.parse().unwrap(), paper.pem());
        let genesis = Genesis {
            network: "test".parse().unwrap(),
            created: Timestamp::from_millis(1),
            consensus: ConsensusMode::Bft,
            timeouts: Timeouts::default(),
            synchronise: Default::default(),
            organisations: authorities.iter().map(organisation).collect(),
            nodes,
            users,
            policies: BTreeMap::from([(
                "orderers".parse().unwrap(),
                Policy::Leaf { organisation: "Org01".parse().unwrap(), role: Role::Admin.into() },
            )]),
            predecessor: None,
        };
        genesis.check().unwrap();
        Self { genesis, authorities }
    }

    /// A certificate by the authority of `by`, naming `who`.
    pub fn paper(&self, who: &str, by: &str) -> Paper {
        let who = identity(who);
        Paper::issue(who.name.as_str(), who.organisation.as_str(), Some(&self.authorities[by]))
    }

    pub fn body(&self, author: &str, nonce: u64) -> Body {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
        let created = Timestamp::from_millis(now as u64);
        Body {
            network: self.genesis.id(),
            author: identity(author),
            created,
            expires: created.plus_millis(60_000),
            nonce,
            operation: Operation::records(vec![Content::from_json(&serde_json::json!({ "nonce": nonce }))]),
        }
    }

    /// A prevote of a node, in height 1.
    pub fn prevote(&self, node: u8, block: Option<u8>) -> SignedVote {
        let block = block.map(|byte| Hash::from_bytes([byte; 32]));
        let vote = Vote { phase: Phase::Prevote, height: Height::new(1), round: Round::ZERO, block };
        let voter = self.genesis.nodes[usize::from(node)].identity();
        SignedVote { voter, signature: secret(node + 1).sign(&vote.digest(&self.genesis.id())), vote }
    }

    pub fn signed(&self, author: &str, nonce: u64) -> SignedTransaction {
        SignedTransaction::sign(&self.body(author, nonce), &key_of(author))
    }
}

/// A chain in memory. Its blocks are linked, and have the state's root, which they do not change; their
/// other roots and certificates are empty.
pub struct Chain {
    network: Hash,
    state: GenesisState,
    blocks: Mutex<Vec<Block>>,
    heads: watch::Sender<Head>,
}

impl Chain {
    pub fn new(genesis: &Genesis) -> Arc<Self> {
        let (head, update) = genesis_head(genesis).unwrap();
        let state = update.entries.into_iter().map(|(table, key, value)| ((table, key), value)).collect();
        let heads = watch::Sender::new(head);
        Arc::new(Self { network: genesis.id(), state: GenesisState(state), blocks: Mutex::default(), heads })
    }

    /// Commits one block.
    pub fn commit(&self, transactions: Vec<TransactionBytes>) -> Head {
        let mut head = self.heads.borrow().clone();
        let header = Header {
            height: head.height.next(),
            round: Round::ZERO,
            created: head.created.plus_millis(1),
            previous: head.hash,
            proposer: identity(ME),
            transactions_root: Hash::ZERO,
            results_root: Hash::ZERO,
            state_root: head.state_root,
        };
        head = Head {
            height: header.height,
            hash: header.hash(&self.network),
            created: header.created,
            transactions: transactions.len(),
            ..head
        };
        self.blocks.lock().unwrap().push(Block { header, transactions });
        self.heads.send_replace(head.clone());
        head
    }
}

impl Ledger for Chain {
    fn head(&self) -> Head {
        self.heads.borrow().clone()
    }

    fn heads(&self) -> watch::Receiver<Head> {
        self.heads.subscribe()
    }

    fn locate(&self, id: &Hash) -> Result<Option<Located>, ReadError> {
        Ok(self.transaction(id)?.map(|(located, _)| located))
    }

    fn transaction(&self, id: &Hash) -> Result<Option<(Located, TransactionBytes)>, ReadError> {
        for block in self.blocks.lock().unwrap().iter() {
            for (position, bytes) in block.transactions.iter().enumerate() {
                if id_of(&self.network, &open(bytes.as_slice()).unwrap().0.body) == *id {
                    let located = Located { height: block.header.height, position, outcome: Outcome::Ok };
                    return Ok(Some((located, bytes.clone())));
                }
            }
        }
        Ok(None)
    }

    fn block(&self, height: Height) -> Result<Option<Block>, ReadError> {
        let at = height.previous().and_then(|height| usize::try_from(height.get()).ok());
        Ok(at.and_then(|at| self.blocks.lock().unwrap().get(at).cloned()))
    }

    fn certificate(&self, height: Height) -> Result<Option<Certificate>, ReadError> {
        let block = self.block(height)?;
        Ok(block.map(|block| Certificate {
            height,
            round: Round::ZERO,
            block: block.header.hash(&self.network),
            signatures: Vec::new(),
        }))
    }

    fn backup(&self, directory: &Path) -> Result<(), ReadError> {
        std::fs::create_dir(directory).map_err(|error| ReadError(error.to_string()))
    }

    fn height_of(&self, hash: &Hash) -> Result<Option<Height>, ReadError> {
        let blocks = self.blocks.lock().unwrap();
        let found = blocks.iter().find(|block| block.header.hash(&self.network) == *hash);
        Ok(found.map(|block| block.header.height))
    }

    fn receipt(&self, _: &Hash) -> Result<Option<Receipt>, ReadError> {
        Ok(None)
    }

    fn evidence(&self, voter: &Identity) -> Result<Vec<Recorded>, ReadError> {
        let blocks = self.blocks.lock().unwrap();
        let parsed = blocks.iter().flat_map(|block| block.parse(&self.network).unwrap());
        let recorded = parsed.filter_map(|Transaction { id, effect, .. }| match effect {
            Effect::Evidence(accusation) if accusation.subject.voter == *voter => Some(accusation.entry(id)),
            _ => None,
        });
        Ok(recorded.collect())
    }

    fn entry(&self, key: &str) -> Result<(Height, Option<Vec<u8>>), ReadError> {
        let height = self.head().height.previous().unwrap_or(Height::GENESIS);
        Ok((height, value(&self.state, 0, key.as_bytes()).unwrap()))
    }

    fn history(&self, _: &EntryKey, _: Option<Changed>, _: usize) -> Result<Vec<Changed>, ReadError> {
        Ok(vec![])
    }

    fn state_proof(&self, key: &str) -> Result<Option<StateProof>, ReadError> {
        let Some(Block { header, .. }) = self.block(self.head().height)? else { return Ok(None) };
        let certificate = self.certificate(header.height)?.unwrap();
        let (value, proof) = prove(&self.state, 0, key.as_bytes()).unwrap();
        Ok(Some(StateProof {
            minidlt_state_proof: STATE_PROOF_VERSION,
            network: self.network,
            voter_changes: vec![],
            proven: Proven { key: key.to_owned(), value: value.map(Base64), proof: Base64(proof) },
            header: CertifiedHeader { hash: header.hash(&self.network), header, certificate },
        }))
    }
}

/// The state that genesis makes.
struct GenesisState(BTreeMap<(Table, Vec<u8>), Vec<u8>>);

impl StateReader for GenesisState {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self.0.get(&(table, key.to_vec())).cloned())
    }

    fn floor(&self, table: Table, key: &[u8]) -> Result<Option<Entry>, StateError> {
        let below = self.0.range((table, Vec::new())..=(table, key.to_vec())).next_back();
        Ok(below.map(|((_, key), value)| (key.clone(), value.clone())))
    }

    fn keys(&self) -> Result<Vec<Vec<u8>>, StateError> {
        let keys = self.0.iter().filter(|((table, _), _)| *table == Table::Keys);
        Ok(keys.map(|(_, key)| key.clone()).collect())
    }
}

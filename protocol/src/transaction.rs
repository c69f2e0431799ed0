//! Transactions: what a user signs, and the rules one must meet.
//!
//! A body travels and is kept as the bytes its author signed. The transaction's id is the digest of
//! those bytes, and it is the id that is signed, so a changed signature cannot make a second
//! transaction. [`Transaction::leaf`] covers the signatures too: it is the leaf of a block's tree.
//!
//! | check | needs | where |
//! |---|---|---|
//! | [`Transaction::parse`] | nothing but the network's id | once a node, on arrival |
//! | [`Transaction::check_time`] | the time | on arrival, and against a block's `created` |
//! | [`Transaction::authorise`] | the registry | on arrival, and in every block |
//! | [`Transaction::verify`] | the registry | once a node, on arrival |
//!
//! Users author transactions, each operation by its role. Evidence needs none, so that anybody can
//! submit it; it alone may have a node for its author, since nodes report what they saw.

use std::{collections::BTreeSet, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::Error as _};
use serde_bytes::ByteBuf;
use thiserror::Error;

use crate::{
    codec::{self, CodecError, Profile},
    crypto::{CryptoError, Domain, PublicKey, SecretKey, Signature, digest},
    evidence::{Accusation, Evidence, EvidenceError},
    governance::{self, Change, ChangeRefused},
    limits::{
        CLOCK_WINDOW_MILLIS, MAX_BULK_TRANSACTION_BYTES, MAX_ENDORSEMENTS, MAX_LIFETIME_MILLIS, MAX_RECORDS,
        MAX_TRANSACTION_BYTES,
    },
    merkle,
    record_type::{self, Schema, TypeRefused},
    registry::{Case, EntryKey, Explanation, NodeRole, Policy, Registry, Role, SignerRole, User},
    types::{Hash, Identity, Name, Timestamp},
    verified::Verified,
};

/// What an author signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Body {
    /// The id of the network it is meant for.
    pub network: Hash,
    pub author: Identity,
    pub created: Timestamp,
    /// No block created after this holds it.
    pub expires: Timestamp,
    /// Tells apart two transactions that are alike in all else.
    pub nonce: u64,
    pub operation: Operation,
}

/// What a transaction does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Operation {
    /// Keeps one or many records.
    Record {
        /// What they must be made of, and who has to sign them; none: anything, by its author.
        #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
        record_type: Option<Name>,
        contents: Vec<Content>,
    },
    /// Shows that a voter contradicted itself.
    Evidence(Box<Evidence>),
    /// Changes who the members are, the policies or the types of records.
    Change(Box<Change>),
}

impl Operation {
    /// Records of no type.
    pub fn records(contents: Vec<Content>) -> Self {
        Self::Record { record_type: None, contents }
    }
}

/// One record: anything JSON can say, as CBOR within a byte string, so that nodes need not take it
/// apart to agree on it. In JSON it reads as the value itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content(ByteBuf);

impl Content {
    pub fn from_json(value: &serde_json::Value) -> Self {
        Self(ByteBuf::from(codec::encode(value)))
    }

    pub fn to_json(&self) -> Result<serde_json::Value, CodecError> {
        codec::to_json(&self.0, MAX_BULK_TRANSACTION_BYTES)
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Serialize for Content {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            self.to_json().map_err(S::Error::custom)?.serialize(serializer)
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            serde_json::Value::deserialize(deserializer).map(|value| Self::from_json(&value))
        } else {
            ByteBuf::deserialize(deserializer).map(Self)
        }
    }
}

/// Another member's consent, signed over the transaction's id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endorsement {
    pub endorser: Identity,
    pub signature: Signature,
}

/// A transaction as it travels and is stored. Nobody has vouched for it yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedTransaction {
    pub body: ByteBuf,
    pub signature: Signature,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endorsements: Vec<Endorsement>,
}

impl SignedTransaction {
    pub fn new(body: Vec<u8>, signature: Signature) -> Self {
        Self { body: ByteBuf::from(body), signature, endorsements: Vec::new() }
    }

    /// Encodes and signs a body.
    pub fn sign(body: &Body, key: &SecretKey) -> Self {
        let bytes = codec::encode(body);
        let signature = key.sign(&id_of(&body.network, &bytes));
        Self::new(bytes, signature)
    }
}

/// The id of a transaction, which is also what its author signs.
pub fn id_of(network: &Hash, body: &[u8]) -> Hash {
    digest(Domain::Transaction, network, &[body])
}

/// The encoded bytes of a [`SignedTransaction`], shared rather than copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionBytes(Arc<[u8]>);

impl TransactionBytes {
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for TransactionBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl From<&SignedTransaction> for TransactionBytes {
    fn from(signed: &SignedTransaction) -> Self {
        codec::encode(signed).into()
    }
}

impl Serialize for TransactionBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for TransactionBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        ByteBuf::deserialize(deserializer).map(|bytes| bytes.into_vec().into())
    }
}

/// Why a transaction was not taken. Each has its own problem type and its own counter.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    #[error("the transaction is malformed: {0}")]
    Malformed(String),
    #[error("the transaction has {size} bytes; at most {limit} are accepted for one of its kind")]
    Oversized { size: usize, limit: usize },
    #[error("the transaction is for network {theirs}, this is {ours}")]
    WrongNetwork { theirs: Hash, ours: Hash },
    #[error("the transaction expired at {expires} ms, it is {now} ms now; prepare and sign it anew")]
    Expired { expires: Timestamp, now: Timestamp },
    #[error("the transaction was created at {created} ms, which is in the future ({now} ms now); check the clock")]
    FarFuture { created: Timestamp, now: Timestamp },
    #[error("nobody called {0} is enrolled on this ledger")]
    UnknownAuthor(Identity),
    #[error("{author} may not submit through {gateway}; use one of its gateways: {allowed}")]
    GatewayNotPermitted { author: Identity, gateway: Identity, allowed: String },
    #[error("{author} has not the role '{role}' that this operation needs")]
    NotPermitted { author: Identity, role: Role },
    #[error("the change is not possible: {0}")]
    Change(#[from] ChangeRefused),
    #[error(transparent)]
    Record(#[from] TypeRefused),
    #[error("the key of {0} was replaced after this was signed; sign it anew")]
    KeyReplaced(Identity),
    #[error("{0} is a node, which authors nothing but evidence; let a user submit this")]
    NodeAuthor(Identity),
    #[error("the author's signature does not hold: {0}")]
    BadSignature(CryptoError),
    #[error("no policy that it needs lacks the endorsement of a peer of {0}")]
    NotNeeded(Name),
    #[error("the endorsement of {endorser} does not hold: {reason}")]
    BadEndorsement { endorser: Identity, reason: String },
    #[error("the evidence proves nothing: {0}")]
    BadEvidence(#[from] EvidenceError),
    #[error("the transaction is already committed")]
    AlreadyCommitted,
    #[error("the transaction is already waiting")]
    AlreadyPending,
    #[error("the mempool is full ({0}); try again later")]
    MempoolFull(&'static str),
    #[error("{0} has its whole share of the mempool waiting; try again later")]
    UserShareFull(Identity),
    #[error("this node is collecting as many endorsements as it can; try again later")]
    CollectingFull,
    #[error("{0} has its whole share of the endorsements that this node collects under way; try again later")]
    CollectingShareFull(Identity),
}

impl Refusal {
    /// A stable name for problem types and counters.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed-transaction",
            Self::Oversized { .. } => "oversized-transaction",
            Self::WrongNetwork { .. } => "wrong-network",
            Self::Expired { .. } => "expired-transaction",
            Self::FarFuture { .. } => "far-future-transaction",
            Self::UnknownAuthor(_) => "unknown-author",
            Self::GatewayNotPermitted { .. } => "gateway-not-permitted",
            Self::NotPermitted { .. } => "role-missing",
            Self::Change(reason) => reason.kind(),
            Self::Record(reason) => reason.kind(),
            Self::KeyReplaced(_) => "key-replaced",
            Self::NodeAuthor(_) => "node-author",
            Self::BadSignature(CryptoError::HighS) => "high-s-signature",
            Self::BadSignature(_) => "bad-signature",
            Self::NotNeeded(_) => "endorsement-not-needed",
            Self::BadEndorsement { .. } => "bad-endorsement",
            Self::BadEvidence(_) => "bad-evidence",
            Self::AlreadyCommitted => "already-committed",
            Self::AlreadyPending => "already-pending",
            Self::MempoolFull(_) => "mempool-full",
            Self::UserShareFull(_) => "user-share-full",
            Self::CollectingFull => "collecting-full",
            Self::CollectingShareFull(_) => "collecting-share-full",
        }
    }

    /// Whether further endorsements are all that is missing.
    pub fn is_lack_of_endorsements(&self) -> bool {
        matches!(self, Self::Change(ChangeRefused::Policy { .. }) | Self::Record(TypeRefused::Policy { .. }))
    }

    /// Whether the same bytes may be taken later.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::MempoolFull(_)
                | Self::UserShareFull(_)
                | Self::CollectingFull
                | Self::CollectingShareFull(_)
                | Self::FarFuture { .. }
        )
    }
}

/// What a transaction does, in the form that checks and execution need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Keeps so many records, of this type if of any. What they hold is kept as bytes alone.
    Records {
        record_type: Option<Name>,
        count: usize,
    },
    Evidence(Box<Accusation>),
    Change(Box<Change>),
}

impl Effect {
    /// Checks the operation's form. `size` is that of the whole transaction.
    fn of(operation: &Operation, size: usize, network: &Hash) -> Result<Self, Refusal> {
        match operation {
            Operation::Record { record_type, contents } => {
                check_contents(contents, size)?;
                Ok(Self::Records { record_type: record_type.clone(), count: contents.len() })
            }
            Operation::Evidence(evidence) => Ok(Self::Evidence(Box::new(evidence.accuse(network)?))),
            Operation::Change(_) if size > MAX_TRANSACTION_BYTES => {
                Err(Refusal::Oversized { size, limit: MAX_TRANSACTION_BYTES })
            }
            Operation::Change(change) => {
                if let Change::SetRecordType(set) = &**change {
                    let malformed = |error| Refusal::Malformed(format!("its schema: {error}"));
                    record_type::check_form(&set.schema).map_err(malformed)?;
                }
                Ok(Self::Change(change.clone()))
            }
        }
    }

    /// A user needs one of these for it, if any. What needs none, nodes may author too.
    fn roles(&self) -> &'static [Role] {
        match self {
            Self::Records { .. } => &[Role::Submitter],
            Self::Evidence(_) => &[],
            Self::Change(change) => change.roles(),
        }
    }
}

/// A well-formed transaction of this network. Its signature is not yet checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    pub id: Hash,
    /// RFC 6962 leaf hash of all its bytes, signatures included.
    pub leaf: Hash,
    pub author: Identity,
    pub created: Timestamp,
    pub expires: Timestamp,
    pub effect: Effect,
    pub signature: Signature,
    pub endorsements: Vec<Endorsement>,
    pub bytes: TransactionBytes,
    /// With which keys its signatures were checked, the author's first; none before.
    keys: Vec<PublicKey>,
    /// Which schema its records were found to fit, or that the schema it sets is one; none before, and where
    /// there is none to ask.
    fits: Option<Schema>,
}

impl Transaction {
    /// All checks that need nothing but the bytes and the network's id.
    pub fn parse(bytes: TransactionBytes, network: &Hash) -> Result<Self, Refusal> {
        let (signed, body) = open(bytes.as_slice())?;
        if body.network != *network {
            return Err(Refusal::WrongNetwork { theirs: body.network, ours: *network });
        }
        if body.expires <= body.created {
            return Err(Refusal::Malformed("it expires before it is created".into()));
        }
        if body.expires > body.created.plus_millis(MAX_LIFETIME_MILLIS) {
            let limit = MAX_LIFETIME_MILLIS / 3_600_000;
            return Err(Refusal::Malformed(format!("it lives longer than {limit} hours")));
        }
        Ok(Self {
            id: id_of(network, &signed.body),
            leaf: merkle::leaf_hash(bytes.as_slice()),
            effect: Effect::of(&body.operation, bytes.as_slice().len(), network)?,
            author: body.author,
            created: body.created,
            expires: body.expires,
            signature: signed.signature,
            endorsements: signed.endorsements,
            bytes,
            keys: vec![],
            fits: None,
        })
    }

    /// Checks the lifetime against a clock, or against a block's `created`.
    pub fn check_time(&self, now: Timestamp) -> Result<(), Refusal> {
        if self.expires < now {
            return Err(Refusal::Expired { expires: self.expires, now });
        }
        if self.created > now.plus_millis(CLOCK_WINDOW_MILLIS) {
            return Err(Refusal::FarFuture { created: self.created, now });
        }
        Ok(())
    }

    /// Checks the standing of the author, and of the accused. `gateway` is the node it was submitted
    /// to, known only there.
    pub fn authorise(&self, registry: &Registry, gateway: Option<&Identity>) -> Result<(), Refusal> {
        if let Effect::Evidence(accusation) = &self.effect {
            accusation.voter_key(registry)?;
        }
        let Some(user) = registry.active_user(&self.author) else {
            // A node is its own gateway.
            return self.author_key(registry).map(|_| ());
        };
        let roles = self.effect.roles();
        if let Some(role) = roles.first().filter(|_| !roles.iter().any(|role| user.roles.contains(role))) {
            return Err(Refusal::NotPermitted { author: self.author.clone(), role: *role });
        }
        match gateway {
            Some(gateway) => self.check_gateway(user, gateway, registry),
            None => Ok(()),
        }
    }

    /// A user submits through its gateways. Where none of them is in good standing it may use any node that is:
    /// else its own organisation could not even enrol another node for it, or resume the one that it suspended.
    fn check_gateway(&self, user: &User, gateway: &Identity, registry: &Registry) -> Result<(), Refusal> {
        let usable: Vec<_> = user.gateways.iter().filter(|one| registry.active_node(one).is_some()).collect();
        let has_none_left = usable.is_empty() && !user.gateways.is_empty();
        if registry.active_node(gateway).is_some() && (has_none_left || usable.contains(&gateway)) {
            return Ok(());
        }
        let allowed = usable.into_iter().map(Identity::to_string).collect::<Vec<_>>().join(", ");
        let allowed = match (has_none_left, allowed.is_empty()) {
            (true, _) => "any node in good standing".to_owned(),
            (false, true) => "none is named; have it given one".to_owned(),
            (false, false) => allowed,
        };
        Err(Refusal::GatewayNotPermitted { author: self.author.clone(), gateway: gateway.clone(), allowed })
    }

    /// The key of the author: a user or, where no role is needed, a node.
    fn author_key(&self, registry: &Registry) -> Result<PublicKey, Refusal> {
        if let Some(user) = registry.active_user(&self.author) {
            return Ok(user.public_key);
        }
        match registry.active_node(&self.author) {
            None => Err(Refusal::UnknownAuthor(self.author.clone())),
            Some(_) if !self.effect.roles().is_empty() => Err(Refusal::NodeAuthor(self.author.clone())),
            Some(node) => Ok(node.public_key),
        }
    }

    /// Checks the signatures that stand in its operation.
    pub fn verify_effect(&self, registry: &Registry) -> Result<(), Refusal> {
        match &self.effect {
            Effect::Records { .. } | Effect::Change(_) => Ok(()),
            Effect::Evidence(accusation) => Ok(accusation.verify(registry)?),
        }
    }

    /// Checks all signatures, and that records fit their type; the one way to a `Verified<Transaction>`.
    pub fn verify(mut self, registry: &Registry) -> Result<Verified<Self>, Refusal> {
        self.keys = self.signers_keys(registry)?;
        self.verify_signatures(&self.keys)?;
        self.verify_effect(registry)?;
        self.fits = self.check_records(registry)?.or(self.check_schema()?);
        Ok(Verified::vouch(self))
    }

    /// Checks the signatures of the author and of the endorsers, whose keys these are in that order.
    pub fn verify_signatures(&self, keys: &[PublicKey]) -> Result<(), Refusal> {
        let (author, endorsers) = keys.split_first().ok_or_else(|| Refusal::UnknownAuthor(self.author.clone()))?;
        author.verify(&self.id, &self.signature).map_err(Refusal::BadSignature)?;
        for (at, Endorsement { endorser, signature }) in self.endorsements.iter().enumerate() {
            let key = endorsers.get(at).ok_or_else(|| bad_endorsement(endorser, "its key is not known"))?;
            key.verify(&self.id, signature).map_err(|reason| bad_endorsement(endorser, &reason.to_string()))?;
        }
        Ok(())
    }

    /// Where the registry has the entries of who signed it, in the order of their signatures.
    pub fn signers_entries(&self, registry: &Registry) -> Vec<EntryKey> {
        let entry = |signer: &Identity| match registry.nodes.contains_key(signer) {
            true => EntryKey::Node(signer.clone()),
            false => EntryKey::User(signer.clone()),
        };
        self.signed_by().map(entry).collect()
    }

    /// The keys of who signed it, the author's first: so never none.
    fn signers_keys(&self, registry: &Registry) -> Result<Vec<PublicKey>, Refusal> {
        let endorsers = self.endorsements.iter().map(|Endorsement { endorser, .. }| {
            registry.key_of(endorser).ok_or_else(|| bad_endorsement(endorser, "not enrolled, or not in good standing"))
        });
        [self.author_key(registry)].into_iter().chain(endorsers).collect()
    }

    /// Who signed it: the author, then the endorsers.
    pub fn signed_by(&self) -> impl Iterator<Item = &Identity> {
        [&self.author].into_iter().chain(self.endorsements.iter().map(|one| &one.endorser))
    }

    /// All that a block asks of it by the registry as of the block before.
    pub fn check_standing(&self, registry: &Registry) -> Result<(), Refusal> {
        self.authorise(registry, None)?;
        self.check_keys(registry)?;
        self.check_consent(registry)?;
        self.check_records(registry)?;
        self.check_schema().map(|_| ())
    }

    /// That its records fit their type as it is in this registry, whose schema it answers. That they fit one is
    /// told once.
    fn check_records(&self, registry: &Registry) -> Result<Option<Schema>, Refusal> {
        let Effect::Records { record_type: Some(name), .. } = &self.effect else { return Ok(None) };
        let schema = &record_type::active(name, registry)?.schema;
        if self.fits.as_ref() != Some(schema) {
            let misfit = |(record, reason)| TypeRefused::Misfit { name: name.clone(), record, reason };
            schema.check(&self.contents()?).map_err(misfit)?;
        }
        Ok(Some(schema.clone()))
    }

    /// That the schema it sets is one, which it answers. A rule of blocks, and not told by a result: what the
    /// engine says of a bad one need not be the same everywhere.
    fn check_schema(&self) -> Result<Option<Schema>, Refusal> {
        match &self.effect {
            Effect::Change(change) => match &**change {
                Change::SetRecordType(_) if self.fits.is_some() => Ok(self.fits.clone()),
                Change::SetRecordType(set) => Ok(Some(Schema::compile(&set.schema).map_err(ChangeRefused::from)?)),
                _ => Ok(None),
            },
            Effect::Records { .. } | Effect::Evidence(_) => Ok(None),
        }
    }

    /// Its records; none if it holds another operation.
    fn contents(&self) -> Result<Vec<Content>, Refusal> {
        match self.body()?.operation {
            Operation::Record { contents, .. } => Ok(contents),
            Operation::Evidence(_) | Operation::Change(_) => Ok(vec![]),
        }
    }

    /// Checks that the keys with which it was checked still hold, where it was: who replaced its key takes
    /// back what it signed with the one before and is not in a block yet.
    pub fn check_keys(&self, registry: &Registry) -> Result<(), Refusal> {
        let keys = self.signers_keys(registry)?;
        match self.signed_by().zip(keys.iter().zip(&self.keys)).find(|(_, (now, then))| now != then) {
            Some((signer, _)) => Err(Refusal::KeyReplaced(signer.clone())),
            None => Ok(()),
        }
    }

    /// That it has the consent that it needs. Without this rule of blocks, who strips a transaction of its
    /// endorsements could have it committed as failed, and its id is good for once.
    pub fn check_consent(&self, registry: &Registry) -> Result<(), Refusal> {
        match &self.effect {
            Effect::Records { record_type: Some(name), .. } => {
                let policy = record_type::active(name, registry)?.policy.as_ref();
                let explained = policy.map(|policy| self.explain_records(policy, registry)).transpose()?;
                match explained.filter(|explained| !explained.met) {
                    Some(lacking) => Err(TypeRefused::Policy { name: name.clone(), missing: lacking.missing() }.into()),
                    None => Ok(()),
                }
            }
            Effect::Records { record_type: None, .. } | Effect::Evidence(_) => Ok(()),
            Effect::Change(change) => Ok(governance::permit(change, &self.signers(registry), registry)?),
        }
    }

    /// What of each policy that it needs is met by its signers.
    pub fn explain(&self, registry: &Registry) -> Vec<(String, Explanation)> {
        match &self.effect {
            Effect::Records { record_type, .. } => {
                let name = record_type.as_ref();
                let policy = name.and_then(|name| registry.record_types.get(name)?.policy.as_ref());
                let explained = policy.and_then(|policy| self.explain_records(policy, registry).ok());
                let of_type = name.map(|name| format!("record type '{name}'"));
                of_type.zip(explained).into_iter().collect()
            }
            Effect::Evidence(_) => vec![],
            Effect::Change(change) => {
                let explained = governance::explain(change, &self.signers(registry), registry);
                explained.into_iter().map(|(name, explanation)| (name.to_owned(), explanation)).collect()
            }
        }
    }

    /// Whether a policy that it needs lacks the endorsement of a peer of this organisation.
    pub fn lacks_a_peer_of(&self, organisation: &Name, registry: &Registry) -> bool {
        let peer = (organisation.clone(), SignerRole::from(NodeRole::Peer));
        self.explain(registry).iter().any(|(_, explanation)| explanation.missing_signers().contains(&peer))
    }

    /// Whether a block may ask otherwise of it by the registry `now` than by the one `before`. For records that
    /// hangs on who signed, on their type, and, for its policy, on which organisations there are: so that the many
    /// that wait need not be taken apart again whenever some member is changed.
    pub fn is_affected(&self, before: &Registry, now: &Registry) -> bool {
        let Effect::Records { record_type, .. } = &self.effect else { return true };
        let signer = |who| before.users.get(who) != now.users.get(who) || before.nodes.get(who) != now.nodes.get(who);
        let of_type = |name| before.record_types.get(name) != now.record_types.get(name);
        self.signed_by().any(signer) || record_type.as_ref().is_some_and(of_type)
    }

    /// What of the policy of its records' type is met by its signers.
    fn explain_records(&self, policy: &Policy, registry: &Registry) -> Result<Explanation, Refusal> {
        let contents = if policy.looks_into_records() { self.contents()? } else { vec![] };
        let contents = contents.iter().map(Content::to_json).collect::<Result<Vec<_>, _>>();
        let contents = contents.map_err(|error| Refusal::Malformed(error.to_string()))?;
        Ok(policy.explain(&Case { registry, signers: &self.signers(registry), contents: &contents }))
    }

    /// The author and the endorsers that are in good standing.
    pub fn signers(&self, registry: &Registry) -> Vec<Identity> {
        self.signed_by().filter(|signer| registry.key_of(signer).is_some()).cloned().collect()
    }

    /// That it could be taken if all endorsements that it needs were there.
    pub fn check_change(&self, registry: &Registry, now: Timestamp) -> Result<(), Refusal> {
        match self.check_consent(registry) {
            Err(refused) if !refused.is_lack_of_endorsements() => Err(refused),
            _ => self.try_on(registry, now),
        }
    }

    /// What its execution would refuse if its block were the next: so that who submits it hears of it at
    /// once. What holds now may not hold any more in its block.
    pub fn rehearse(&self, registry: &Registry, now: Timestamp) -> Result<(), Refusal> {
        self.check_consent(registry)?;
        self.try_on(registry, now)
    }

    fn try_on(&self, registry: &Registry, now: Timestamp) -> Result<(), Refusal> {
        match &self.effect {
            Effect::Records { .. } => self.check_records(registry).map(|_| ()),
            Effect::Evidence(_) => Ok(()),
            Effect::Change(change) => Ok(governance::apply(change, &mut registry.clone(), now).map(|_| ())?),
        }
    }

    /// Encoded anew with the endorsements that it has by now, of those who are in good standing.
    pub fn with_endorsements(&self, registry: &Registry) -> Result<TransactionBytes, Refusal> {
        let (signed, _) = open(self.bytes.as_slice())?;
        let counts = self.endorsements.iter().filter(|one| registry.key_of(&one.endorser).is_some());
        Ok((&SignedTransaction { endorsements: counts.cloned().collect(), ..signed }).into())
    }

    /// How many records it holds.
    pub fn records(&self) -> usize {
        match self.effect {
            Effect::Records { count, .. } => count,
            Effect::Evidence(_) | Effect::Change(_) => 0,
        }
    }

    /// How many bytes it counts for.
    pub fn size(&self) -> usize {
        self.bytes.as_slice().len()
    }

    /// The body, decoded again: transactions waiting by the thousand keep it only as bytes.
    pub fn body(&self) -> Result<Body, Refusal> {
        open(self.bytes.as_slice()).map(|(_, body)| body)
    }
}

fn bad_endorsement(endorser: &Identity, reason: &str) -> Refusal {
    Refusal::BadEndorsement { endorser: endorser.clone(), reason: reason.to_owned() }
}

/// Decodes both layers: the envelope, which has one encoding, and the signed bytes within.
pub fn open(bytes: &[u8]) -> Result<(SignedTransaction, Body), Refusal> {
    let malformed = |error: CodecError| match error {
        CodecError::Oversized { size, limit } => Refusal::Oversized { size, limit },
        other => Refusal::Malformed(other.to_string()),
    };
    let signed: SignedTransaction = codec::decode_canonical(bytes, MAX_BULK_TRANSACTION_BYTES).map_err(malformed)?;
    if signed.endorsements.len() > MAX_ENDORSEMENTS {
        return Err(Refusal::Malformed(format!("more than {MAX_ENDORSEMENTS} endorsements")));
    }
    let mut endorsers = BTreeSet::new();
    if let Some(twice) = signed.endorsements.iter().find(|endorsement| !endorsers.insert(&endorsement.endorser)) {
        return Err(Refusal::Malformed(format!("{} endorses it twice", twice.endorser)));
    }
    let body = codec::decode(&signed.body, MAX_BULK_TRANSACTION_BYTES).map_err(malformed)?;
    Ok((signed, body))
}

fn check_contents(contents: &[Content], size: usize) -> Result<(), Refusal> {
    let limit = match contents.len() {
        0 => return Err(Refusal::Malformed("it holds no record".into())),
        1 => MAX_TRANSACTION_BYTES,
        2..=MAX_RECORDS => MAX_BULK_TRANSACTION_BYTES,
        _ => return Err(Refusal::Malformed(format!("it holds more than {MAX_RECORDS} records"))),
    };
    if size > limit {
        return Err(Refusal::Oversized { size, limit });
    }
    contents.iter().enumerate().try_for_each(|(at, content)| {
        codec::scan(content.as_bytes(), Profile::Json)
            .map_err(|error| Refusal::Malformed(format!("record {at} is not JSON in CBOR: {error}")))
    })
}

//! The Verifiers: threads that check signatures, so that nobody else has to.
//!
//! As many as there are cores, for many transactions and the largest frames; beside them a
//! [`NearVerifier`] on the very thread of who asks, for what is small, so that a vote never waits
//! behind transactions, and a lone transaction for no other thread.

use std::sync::Arc;

use actix::{Actor, Addr, Context, Handler, SyncArbiter, SyncContext};
use minidlt_protocol::{
    block::SharedTransaction,
    message::{Content, Message, MessageError},
    transaction::{Refusal, Transaction, TransactionBytes},
    types::{Hash, Identity, Timestamp},
};

use crate::{
    clock, fatal,
    members::Members,
    messages::verifier::{Open, Opened, Rules, VerifyTransactions},
    store::reader::{ReadError, Reader},
};

/// Whether a transaction is committed already.
pub type IsCommitted = Arc<dyn Fn(&Hash) -> Result<bool, ReadError> + Send + Sync>;

/// What the store's reader knows.
pub fn is_committed(reader: Reader) -> IsCommitted {
    Arc::new(move |id| reader.contains(id))
}

/// One of the threads; all alike.
#[derive(Clone)]
pub struct Verifier {
    me: Identity,
    network: Hash,
    members: Members,
    is_committed: IsCommitted,
}

impl Verifier {
    pub fn new(me: Identity, network: Hash, members: Members, is_committed: IsCommitted) -> Self {
        Self { me, network, members, is_committed }
    }

    /// Starts `threads` of them behind one address.
    pub fn start(self, threads: usize) -> Addr<Self> {
        SyncArbiter::start(threads, move || self.clone())
    }

    fn open(&self, Open { frame, connected }: &Open, now: Timestamp) -> Result<Opened, MessageError> {
        let (network, height) = (&self.network, self.members.head().height.next());
        let registry = self.members.registry();
        let (_, content) = Message::open(frame, network, (&registry, height), &self.me, connected, now)?;
        Ok(match content {
            Content::Pool(pool) => Opened::Pool(pool),
            Content::Endorsement(endorsement) => {
                let bad = |reason| MessageError::Endorsement { sender: connected.clone(), reason };
                Opened::Endorsement(endorsement.check().map_err(bad)?)
            }
            Content::Consensus(consensus) => {
                let Some(voters) = self.members.voters_at(consensus.height()) else { return Ok(Opened::Ahead) };
                let held = consensus.verify(network, &voters);
                let bad = |reason| MessageError::Content { sender: connected.clone(), reason };
                Opened::Consensus(held.map_err(bad)?)
            }
            Content::Sync(sync) => Opened::Sync(sync),
            Content::Text(text) => Opened::Text(text),
        })
    }

    fn verify_all(&self, request: VerifyTransactions) -> Vec<Result<SharedTransaction, Refusal>> {
        let VerifyTransactions { transactions, gateway, rules } = request;
        let now = match rules {
            Rules::InBlock(created) => created,
            Rules::Submitted | Rules::Endorsing => clock::now(),
        };
        let verified = transactions.into_iter().map(|bytes| {
            let transaction = self.verify(bytes, gateway.as_ref(), rules, now)?;
            match rules {
                Rules::Submitted => transaction.rehearse(&self.members.registry(), now)?,
                Rules::Endorsing => transaction.check_change(&self.members.registry(), now)?,
                Rules::InBlock(_) => {}
            }
            Ok(transaction)
        });
        verified.collect()
    }

    /// The cheap checks first, the signature last.
    fn verify(
        &self,
        bytes: TransactionBytes,
        gateway: Option<&Identity>,
        rules: Rules,
        now: Timestamp,
    ) -> Result<SharedTransaction, Refusal> {
        let (transaction, registry) = (Transaction::parse(bytes, &self.network)?, self.members.registry());
        transaction.check_time(now)?;
        transaction.authorise(&registry, gateway)?;
        // Another gateway asks this node to sign what needs no signature of it: no work is done for that.
        let asked = matches!(rules, Rules::Endorsing) && gateway.is_some_and(|gateway| *gateway != self.me);
        if asked && !transaction.lacks_a_peer_of(&self.me.organisation, &registry) {
            return Err(Refusal::NotNeeded(self.me.organisation.clone()));
        }
        // Unreadable, the store cannot tell a repeat from a new one, and no answer would be true.
        if (self.is_committed)(&transaction.id).unwrap_or_else(|error| fatal::stop(error)) {
            return Err(Refusal::AlreadyCommitted);
        }
        Ok(Arc::new(transaction.verify(&registry)?))
    }
}

impl Actor for Verifier {
    type Context = SyncContext<Self>;
}

impl Handler<Open> for Verifier {
    type Result = Result<Opened, MessageError>;

    fn handle(&mut self, open: Open, _: &mut Self::Context) -> Self::Result {
        self.open(&open, clock::now())
    }
}

impl Handler<VerifyTransactions> for Verifier {
    type Result = Vec<Result<SharedTransaction, Refusal>>;

    fn handle(&mut self, request: VerifyTransactions, _: &mut Self::Context) -> Self::Result {
        self.verify_all(request)
    }
}

/// Checks on the thread of who asks: for one signature that takes less than handing it to another
/// thread and back.
pub struct NearVerifier(pub Verifier);

impl Actor for NearVerifier {
    type Context = Context<Self>;
}

impl Handler<Open> for NearVerifier {
    type Result = Result<Opened, MessageError>;

    fn handle(&mut self, open: Open, _: &mut Self::Context) -> Self::Result {
        self.0.open(&open, clock::now())
    }
}

impl Handler<VerifyTransactions> for NearVerifier {
    type Result = Vec<Result<SharedTransaction, Refusal>>;

    fn handle(&mut self, request: VerifyTransactions, _: &mut Self::Context) -> Self::Result {
        self.0.verify_all(request)
    }
}

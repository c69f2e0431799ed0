//! Contents into signed transactions.

use minidlt_config::user::UserSettings;
use minidlt_protocol::{
    crypto::SecretKey,
    transaction::{Body, Content, Operation, Refusal, SignedTransaction, Transaction, TransactionBytes},
    types::{Hash, Identity, Name, Timestamp},
};

use crate::client::error::ClientError;

/// A signed transaction, ready to go out as often as needed.
#[derive(Debug, Clone)]
pub struct Prepared {
    pub id: Hash,
    pub bytes: TransactionBytes,
    pub records: usize,
    pub expires: Timestamp,
}

/// Signs as one user.
pub struct Signer {
    network: Hash,
    author: Identity,
    key: SecretKey,
    lifetime_millis: u64,
    nonce: u64,
}

impl Signer {
    pub fn new(user: UserSettings, lifetime_millis: u64) -> Result<Self, ClientError> {
        // A random start tells apart the transactions of runs within one millisecond.
        let mut nonce = [0; 8];
        openssl::rand::rand_bytes(&mut nonce)?;
        Ok(Self {
            network: user.network,
            author: user.identity,
            key: user.key,
            lifetime_millis,
            nonce: u64::from_be_bytes(nonce),
        })
    }

    /// Signs, and checks what a node will check without its registry, so that a record too large
    /// or too deep is named before anything is sent.
    pub fn sign(
        &mut self,
        record_type: Option<Name>,
        contents: Vec<Content>,
        now: Timestamp,
    ) -> Result<Prepared, Refusal> {
        self.sign_operation(Operation::Record { record_type, contents }, now)
    }

    /// The same of any operation.
    pub fn sign_operation(&mut self, operation: Operation, now: Timestamp) -> Result<Prepared, Refusal> {
        self.nonce = self.nonce.wrapping_add(1);
        let body = Body {
            network: self.network,
            author: self.author.clone(),
            created: now,
            expires: now.plus_millis(self.lifetime_millis),
            nonce: self.nonce,
            operation,
        };
        let bytes = TransactionBytes::from(&SignedTransaction::sign(&body, &self.key));
        let transaction = Transaction::parse(bytes, &self.network)?;
        Ok(Prepared {
            id: transaction.id,
            records: transaction.records(),
            expires: transaction.expires,
            bytes: transaction.bytes,
        })
    }
}

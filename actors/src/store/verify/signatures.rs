//! The signatures, which take most of the time, checked in batches on two threads.

use std::{panic, sync::Arc, thread};

use minidlt_protocol::{
    registry::Registry,
    transaction::Transaction,
    types::{Hash, Height},
    vote::Certificate,
};

use super::{FirstBad, bad};

/// A batch is checked once it has so many jobs, or so many bytes.
const BATCH_JOBS: usize = 1024;
const BATCH_BYTES: usize = 8 << 20;

enum Job {
    Certificate(Certificate),
    Author { position: usize, transaction: Box<Transaction> },
}

/// What waits to be checked, in the order of the chain.
pub struct Signatures {
    network: Hash,
    jobs: Vec<(Height, Arc<Registry>, Job)>,
    bytes: usize,
}

impl Signatures {
    pub fn new(network: Hash) -> Self {
        Self { network, jobs: Vec::new(), bytes: 0 }
    }

    /// Takes a block's signatures; may check those of earlier blocks. `registry` is as of the block before.
    pub fn add(
        &mut self,
        registry: &Arc<Registry>,
        height: Height,
        certificate: Certificate,
        transactions: Vec<Transaction>,
    ) -> Result<(), FirstBad> {
        self.bytes += transactions.iter().map(Transaction::size).sum::<usize>();
        self.jobs.push((height, registry.clone(), Job::Certificate(certificate)));
        let authors = transactions.into_iter().map(Box::new).enumerate();
        self.jobs.extend(
            authors.map(|(position, transaction)| (height, registry.clone(), Job::Author { position, transaction })),
        );
        if self.jobs.len() < BATCH_JOBS && self.bytes < BATCH_BYTES {
            return Ok(());
        }
        self.finish()
    }

    /// Checks all that wait; the first bad one is named.
    pub fn finish(&mut self) -> Result<(), FirstBad> {
        let mut first = std::mem::take(&mut self.jobs);
        self.bytes = 0;
        let second = first.split_off(first.len() / 2);
        let this = &*self;
        thread::scope(|scope| {
            let other = scope.spawn(move || this.check(second));
            let first = this.check(first);
            first.and(other.join().unwrap_or_else(|payload| panic::resume_unwind(payload)))
        })
    }

    fn check(&self, jobs: Vec<(Height, Arc<Registry>, Job)>) -> Result<(), FirstBad> {
        jobs.into_iter().try_for_each(|(height, registry, job)| match job {
            Job::Certificate(certificate) => certificate
                .verify(&self.network, registry.voters_at(height))
                .map_err(|reason| bad(height, format_args!("certificate: {reason}"))),
            Job::Author { position, transaction } => transaction
                .verify(&registry)
                .map(|_| ())
                .map_err(|reason| bad(height, format_args!("transaction {position}: {reason}"))),
        })
    }
}

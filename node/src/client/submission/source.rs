//! The thread that reads, hides and signs, so that a slow file or pipe never holds up the network
//! and a second core does the signing.

use std::thread;

use minidlt_protocol::{limits::MAX_BULK_TRANSACTION_BYTES, transaction::Content, types::Name};
use tokio::sync::mpsc;

use super::signing::{Prepared, Signer};
use crate::client::{
    error::ClientError,
    hiding::Hider,
    records::{Place, RecordError, Records},
    time,
};

/// How many signed transactions may wait to be sent.
const QUEUE: usize = 2048;
/// How many signed transactions share one flush of the openings to the disk.
const KEEP_EVERY: usize = 256;
/// Room left in a bulk transaction for its envelope, and in front of each content.
const ENVELOPE_BYTES: usize = 1024;
const CONTENT_HEAD_BYTES: usize = 5;

pub struct Source {
    pub records: Records,
    pub hider: Option<Hider>,
    pub signer: Signer,
    pub records_per_transaction: usize,
    /// Of which all records are.
    pub record_type: Option<Name>,
    /// What errors call the input.
    pub file: String,
}

/// Why no more transactions come; those before it are good.
pub type Signed = Result<Prepared, ClientError>;

impl Source {
    /// Starts the thread; it ends with its input, at an error, or when nobody listens any more.
    pub fn start(self) -> mpsc::Receiver<Signed> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        thread::spawn(move || {
            let mut run = Run { source: self, sender, group: Vec::new(), bytes: 0, first: None, unkept: Vec::new() };
            if let Err(Stop::Failed(error)) = run.all() {
                // Nobody listening is the one reason for this to fail, and no reason to go on.
                let _ = run.sender.blocking_send(Err(*error));
            }
        });
        receiver
    }
}

enum Stop {
    Failed(Box<ClientError>),
    NobodyListens,
}

impl<E: Into<ClientError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(Box::new(error.into()))
    }
}

struct Run {
    source: Source,
    sender: mpsc::Sender<Signed>,
    group: Vec<Content>,
    bytes: usize,
    /// Where the group's first record stands.
    first: Option<Place>,
    /// Signed, but their openings are not on the disk yet.
    unkept: Vec<Prepared>,
}

impl Run {
    fn all(&mut self) -> Result<(), Stop> {
        let read = self.read_all();
        // Also at an error: what was read before it is good.
        if !matches!(read, Err(Stop::NobodyListens)) {
            self.sign_group()?;
            self.pass_on()?;
        }
        read
    }

    fn read_all(&mut self) -> Result<(), Stop> {
        while let Some(record) = self.source.records.next() {
            let mut record = record?;
            if let Some(hider) = &mut self.source.hider {
                hider.hide(&mut record)?;
            }
            let content = Content::from_json(&record.value);
            let size = content.as_bytes().len() + CONTENT_HEAD_BYTES;
            let full = self.group.len() >= self.source.records_per_transaction;
            if full || self.bytes + size > MAX_BULK_TRANSACTION_BYTES - ENVELOPE_BYTES {
                self.sign_group()?;
            }
            self.first.get_or_insert(record.place);
            self.bytes += size;
            self.group.push(content);
            // A record of its own goes out at once: more input may be long in coming.
            if self.group.len() >= self.source.records_per_transaction {
                self.sign_group()?;
            }
        }
        Ok(())
    }

    fn sign_group(&mut self) -> Result<(), Stop> {
        let Some(place) = self.first.take() else { return Ok(()) };
        self.bytes = 0;
        let group = std::mem::take(&mut self.group);
        let signed = self.source.signer.sign(self.source.record_type.clone(), group, time::now());
        self.unkept.push(signed.map_err(|refusal| RecordError::Invalid {
            file: self.source.file.clone(),
            place,
            what: format!("it would not be accepted: {refusal}"),
        })?);
        let enough = if self.source.hider.is_some() { KEEP_EVERY } else { 1 };
        if self.unkept.len() >= enough { self.pass_on() } else { Ok(()) }
    }

    fn pass_on(&mut self) -> Result<(), Stop> {
        if let Some(hider) = &mut self.source.hider {
            hider.keep()?;
        }
        for prepared in self.unkept.drain(..) {
            self.sender.blocking_send(Ok(prepared)).map_err(|_| Stop::NobodyListens)?;
        }
        Ok(())
    }
}

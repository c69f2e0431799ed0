//! The Signer: the only holder of the node's private keys, on a thread of its own.
//!
//! Persist before promise: a vote or proposal is recorded in the [`Journal`] when it is signed, and
//! no message about consensus is stamped before all that was recorded is on disk. What was signed for
//! a height, round and phase is signed again only if it is the very same; after a restart too, since
//! the guard is filled from the journal. A later height than the journal's ends the earlier one.
//!
//! A node that has no journal does not know what it signed, and signs nothing about consensus until it
//! is told from where on that is safe ([`VoteFrom`]), which is on disk before anything is signed.
//!
//! A disk that fails ends the process: a vote that may be forgotten must not be sent.

mod keys;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, MessageResult, WrapFuture};
use bytes::Bytes;
use minidlt_protocol::{
    codec,
    crypto::Signature,
    message::{Content, Draft, Recipient},
    sync::VoteRecord,
    transaction::{Body, Operation, SignedTransaction},
    types::{Hash, Height, Identity, Round},
    vote::{Phase, Proposal, SignedProposal, SignedVote, Vote},
};

use tokio::time::timeout;

use self::keys::LOOK_EVERY;
pub use self::keys::{Held, Keys};
use crate::{
    clock, fatal,
    journal::{Journal, JournalError, Record},
    messages::{
        network::{Class, Outgoing},
        signer::{
            Entries, Publish, ReadLog, SignDraft, SignEndorsements, SignEvidence, SignProposal, SignVote, Stamp,
            StampOne, VoteFrom,
        },
    },
    post::post_blocking,
};

/// Messages that may wait for the Signer; who sends more waits, or is told.
const MAILBOX_MESSAGES: usize = 1_024;

/// What was signed for the journal's height.
#[derive(Default)]
struct Guard {
    votes: BTreeMap<(Round, Phase), SignedVote>,
    proposals: BTreeMap<Round, SignedProposal>,
}

/// Owns the keys, the guard and the journal.
pub struct Signer {
    me: Identity,
    network: Hash,
    keys: Keys,
    directory: PathBuf,
    /// None where it was lost.
    journal: Option<Journal>,
    guard: Guard,
    /// The entries found on opening, until they are asked for.
    found: Vec<Vec<u8>>,
    outgoing: actix::Recipient<Outgoing>,
}

impl Signer {
    /// Opens the journal in `directory`. `outgoing` is the Listener.
    pub fn open(
        me: Identity,
        network: Hash,
        keys: Keys,
        directory: &Path,
        outgoing: actix::Recipient<Outgoing>,
    ) -> Result<Self, JournalError> {
        let (journal, records) = Journal::open(directory)?.unzip();
        let (mut guard, mut found) = (Guard::default(), Vec::new());
        for record in records.unwrap_or_default() {
            match record {
                Record::Vote(signed) => {
                    guard.votes.insert((signed.vote.round, signed.vote.phase), signed);
                }
                Record::Proposal(signed) => {
                    guard.proposals.insert(signed.proposal.round, signed);
                }
                Record::Entry(entry) => found.push(entry),
            }
        }
        Ok(Self { me, network, keys, directory: directory.to_owned(), journal, guard, found, outgoing })
    }

    /// What this node knows of its own votes.
    pub fn record(&self) -> VoteRecord {
        self.journal.as_ref().map_or(VoteRecord::Lost, |journal| VoteRecord::Kept(journal.height()))
    }

    /// Whether nothing was signed since a lost journal was begun anew, if it was.
    pub fn has_signed_nothing(&self) -> bool {
        let begun_anew = self.journal.as_ref().is_none_or(|journal| journal.height() > Height::GENESIS);
        begun_anew && self.guard.votes.is_empty() && self.guard.proposals.is_empty() && self.found.is_empty()
    }

    /// Begins the journal anew: nothing below this height was or will be signed.
    pub fn vote_from(&mut self, height: Height) -> Result<(), JournalError> {
        // Its files must not be held by this process any more.
        self.journal = None;
        self.journal = Some(Journal::begin_at(&self.directory, height)?);
        Ok(())
    }

    /// Enters a height; `false` if it is done, and nothing may be signed for it any more.
    fn enter(&mut self, height: Height) -> bool {
        let Some(journal) = &mut self.journal else { return false };
        if height > journal.height() {
            journal.begin(height).unwrap_or_else(|error| stop(&error));
            self.guard = Guard::default();
            self.found.clear();
        }
        height == journal.height()
    }

    /// `false` where they are of a height that is done: what rests on them must not be sent.
    fn keep(&mut self, Entries { height, entries }: Entries) -> bool {
        if !entries.is_empty() && !self.enter(height) {
            log::warn!("entries for the log of height {height}, which is done, were dropped");
            return false;
        }
        entries.into_iter().for_each(|entry| self.append(&Record::Entry(entry)));
        true
    }

    /// Only after [`Self::enter`] has said that there is a journal, of this height.
    fn append(&mut self, record: &Record) {
        if let Some(journal) = &mut self.journal {
            journal.append(record).unwrap_or_else(|error| stop(&error));
        }
    }

    fn sign_vote(&mut self, vote: Vote) -> Option<Signature> {
        if !self.enter(vote.height) {
            log::warn!("a vote for height {} was asked for, which is done", vote.height);
            return None;
        }
        let slot = (vote.round, vote.phase);
        if let Some(signed) = self.guard.votes.get(&slot) {
            if signed.vote == vote {
                return Some(signed.signature);
            }
            log::error!("refused to sign a second {:?} at height {} round {}", vote.phase, vote.height, vote.round);
            return None;
        }
        let signature = self.keys.of_votes(vote.height)?.sign(&vote.digest(&self.network));
        let signed = SignedVote { voter: self.me.clone(), vote, signature };
        self.append(&Record::Vote(signed.clone()));
        self.guard.votes.insert(slot, signed);
        Some(signature)
    }

    fn sign_proposal(&mut self, proposal: Proposal) -> Option<Signature> {
        if !self.enter(proposal.height) {
            log::warn!("a proposal for height {} was asked for, which is done", proposal.height);
            return None;
        }
        let round = proposal.round;
        if let Some(signed) = self.guard.proposals.get(&round) {
            if signed.proposal == proposal {
                return Some(signed.signature);
            }
            log::error!("refused to sign a second proposal at height {} round {round}", proposal.height);
            return None;
        }
        let signature = self.keys.of_votes(proposal.height)?.sign(&proposal.digest(&self.network));
        let signed = SignedProposal { proposer: self.me.clone(), proposal, signature };
        self.append(&Record::Proposal(signed.clone()));
        self.guard.proposals.insert(round, signed);
        Some(signature)
    }

    fn draft(&self, recipient: Recipient, content: &Content) -> Draft {
        Draft::new(&self.network, self.me.clone(), recipient, clock::now(), content)
    }

    fn frame(&self, draft: Draft) -> Bytes {
        codec::encode(&draft.sign(self.keys.of_messages(clock::now()))).into()
    }

    /// Nothing about consensus leaves before all that was appended or signed is on disk.
    fn sign_and_send(&mut self, class: Class, draft: Draft) {
        if draft.is_about_consensus() {
            let synced = self.journal.as_mut().map_or(Ok(()), Journal::sync);
            synced.unwrap_or_else(|error| stop(&error));
        }
        let recipient = draft.recipient().clone();
        let frame = self.frame(draft);
        self.send(Outgoing { recipient, class, frame });
    }

    fn stamp(&mut self, Stamp { recipient, class, content }: Stamp) {
        self.sign_and_send(class, self.draft(recipient, &content));
    }

    /// Looks for its keys whenever the registry has changed, and until it has them.
    fn follow_ledger(&mut self, ctx: &mut Context<Self>) {
        let (has, mut members) = (self.keys.look(), self.keys.members());
        let changed = async move {
            match has {
                true => members.changed(false).await,
                false => timeout(LOOK_EVERY, members.changed(false)).await.unwrap_or(Some(())),
            }
        };
        let changed = changed.into_actor(self).map(|changed, actor, ctx| {
            // There are no others any more once the Store is gone.
            if changed.is_some() {
                actor.follow_ledger(ctx);
            }
        });
        ctx.spawn(changed);
    }

    /// Hands over to the Listener, waiting while its mailbox is full; it never waits for the Signer
    /// itself. A Listener that is gone takes nothing any more: the node is shutting down.
    fn send(&self, outgoing: Outgoing) {
        if post_blocking(&self.outgoing, outgoing).is_err() {
            log::debug!("a frame was not sent: the listener is gone");
        }
    }
}

fn stop(error: &dyn std::error::Error) -> ! {
    fatal::stop(format_args!("the signer's log cannot be written: {error}"))
}

impl Actor for Signer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX_MESSAGES);
        self.follow_ledger(ctx);
    }
}

impl Handler<SignVote> for Signer {
    type Result = Option<Signature>;

    fn handle(&mut self, SignVote { before, vote }: SignVote, _: &mut Self::Context) -> Self::Result {
        if self.keep(before) { self.sign_vote(vote) } else { None }
    }
}

impl Handler<SignProposal> for Signer {
    type Result = Option<Signature>;

    fn handle(&mut self, SignProposal { before, proposal }: SignProposal, _: &mut Self::Context) -> Self::Result {
        if self.keep(before) { self.sign_proposal(proposal) } else { None }
    }
}

impl Handler<SignEvidence> for Signer {
    type Result = MessageResult<SignEvidence>;

    fn handle(&mut self, request: SignEvidence, _: &mut Self::Context) -> Self::Result {
        let SignEvidence { evidence, created, expires } = request;
        let (network, author, operation) = (self.network, self.me.clone(), Operation::Evidence(evidence.into()));
        let body = Body { network, author, created, expires, nonce: 0, operation };
        MessageResult(SignedTransaction::sign(&body, self.keys.of_transactions()))
    }
}

impl Handler<SignEndorsements> for Signer {
    type Result = MessageResult<SignEndorsements>;

    fn handle(&mut self, SignEndorsements(transactions): SignEndorsements, _: &mut Self::Context) -> Self::Result {
        MessageResult(
            transactions.iter().map(|transaction| self.keys.of_transactions().sign(&transaction.id)).collect(),
        )
    }
}

impl Handler<Publish> for Signer {
    type Result = ();

    fn handle(&mut self, Publish { before, stamps }: Publish, _: &mut Self::Context) {
        if self.keep(before) {
            stamps.into_iter().for_each(|stamp| self.stamp(stamp));
        }
    }
}

impl Handler<Stamp> for Signer {
    type Result = ();

    fn handle(&mut self, stamp: Stamp, _: &mut Self::Context) {
        self.stamp(stamp);
    }
}

impl Handler<SignDraft> for Signer {
    type Result = ();

    fn handle(&mut self, SignDraft { class, draft }: SignDraft, _: &mut Self::Context) {
        self.sign_and_send(class, draft);
    }
}

impl Handler<StampOne> for Signer {
    type Result = MessageResult<StampOne>;

    fn handle(&mut self, StampOne { recipient, content }: StampOne, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.frame(self.draft(recipient, &content)))
    }
}

impl Handler<ReadLog> for Signer {
    type Result = MessageResult<ReadLog>;

    fn handle(&mut self, _: ReadLog, _: &mut Self::Context) -> Self::Result {
        let height = self.journal.as_ref().map_or(Height::GENESIS, Journal::height);
        MessageResult((height, std::mem::take(&mut self.found)))
    }
}

impl Handler<VoteFrom> for Signer {
    type Result = ();

    fn handle(&mut self, VoteFrom(height): VoteFrom, _: &mut Self::Context) {
        if self.journal.is_none() {
            self.vote_from(height).unwrap_or_else(|error| stop(&error));
        }
    }
}

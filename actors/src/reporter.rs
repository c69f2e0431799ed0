//! The Reporter: puts it on the ledger that a voter contradicted itself.
//!
//! ```text
//! Consensus ── Report ──▶ wait for the turn ──▶ not recorded yet? ──▶ Signer ──▶ Mempool, gossip
//! ```
//!
//! All that saw a lie could report it at once, and all reports but the first would be committed
//! without effect. So the voters take turns, in their order from one that changes with the height, and
//! who finds it recorded when its turn comes says nothing. Of one voter a node has one report under
//! way, however much that voter lies; what comes meanwhile is passed over, for one proof is proof.

use std::{collections::BTreeMap, time::Duration};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, MailboxError, Recipient, WrapFuture};
use log::{debug, info, warn};
use minidlt_protocol::{
    evidence::{Accusation, Evidence},
    limits::MAX_LIFETIME_MILLIS,
    transaction::{Refusal, SignedTransaction, TransactionBytes},
    types::{Hash, Height, Identity, Timestamp},
};

use crate::{
    clock, fatal,
    messages::{evidence::Report, mempool::Submit, signer::SignEvidence},
    store::reader::Reader,
};

/// How long the first has before the next one reports, too: about a round that a liar spoils.
const TURN: Duration = Duration::from_secs(2);

/// What the Reporter hands on to.
pub struct Links {
    pub signer: Recipient<SignEvidence>,
    pub mempool: Recipient<Submit>,
    pub reader: Reader,
}

/// The actor.
pub struct Reporter {
    me: Identity,
    links: Links,
    /// By the accused, so no more than there are voters.
    under_way: BTreeMap<Identity, UnderWay>,
}

enum UnderWay {
    Waiting,
    Submitted { id: Hash, expires: Timestamp },
}

/// A report before it is made.
struct Case {
    evidence: Evidence,
    accusation: Accusation,
}

impl Case {
    fn accused(&self) -> &Identity {
        &self.accusation.subject.voter
    }
}

impl Reporter {
    pub fn new(me: Identity, links: Links) -> Self {
        Self { me, links, under_way: BTreeMap::new() }
    }

    fn is_under_way(&self, accused: &Identity) -> bool {
        match self.under_way.get(accused) {
            None => false,
            Some(UnderWay::Waiting) => true,
            Some(UnderWay::Submitted { id, expires }) => {
                let committed = self.links.reader.contains(id).unwrap_or_else(|error| fatal::stop(error));
                !committed && *expires >= clock::now()
            }
        }
    }

    /// How long until it is this node's turn.
    fn turn(&self, height: Height) -> Duration {
        let voters = self.links.reader.members().voters();
        let place = voters.as_slice().iter().zip(0u64..).find(|(voter, _)| voter.identity == self.me);
        let count = voters.as_slice().len().max(1) as u64;
        let turns = place.map_or(0, |(_, place)| (place + height.get() % count) % count);
        TURN.saturating_mul(u32::try_from(turns).unwrap_or(u32::MAX))
    }

    fn consider_after(&mut self, wait: Duration, case: Case, ctx: &mut Context<Self>) {
        self.under_way.insert(case.accused().clone(), UnderWay::Waiting);
        ctx.run_later(wait, move |actor, ctx| actor.consider(case, ctx));
    }

    fn consider(&mut self, case: Case, ctx: &mut Context<Self>) {
        if self.would_be_recorded(&case.accusation) {
            self.report(case, ctx);
        } else {
            self.under_way.remove(case.accused());
        }
    }

    fn would_be_recorded(&self, accusation: &Accusation) -> bool {
        let subject = &accusation.subject;
        let known = self.links.reader.evidence(&subject.voter).unwrap_or_else(|error| fatal::stop(error));
        let would = accusation.may_be_recorded(&known, self.links.reader.head().height.next());
        would.inspect_err(|reason| debug!("{subject} is not reported: {reason}")).is_ok()
    }

    fn report(&mut self, case: Case, ctx: &mut Context<Self>) {
        let created = clock::now();
        let expires = created.plus_millis(MAX_LIFETIME_MILLIS);
        let sign = SignEvidence { evidence: case.evidence.clone(), created, expires };
        let reported = self.links.signer.send(sign).into_actor(self).then(|signed, actor, _| {
            let signed: SignedTransaction = there(signed, "signer");
            let submit = Submit { caller: actor.me.clone(), transactions: vec![TransactionBytes::from(&signed)] };
            actor.links.mempool.send(submit).into_actor(actor)
        });
        ctx.spawn(reported.map(move |answers, actor, ctx| match there(answers, "mempool").pop() {
            Some(answer) => actor.on_answer(case, answer, expires, ctx),
            None => fatal::stop("the mempool answers for fewer transactions than it was given"),
        }));
    }

    fn on_answer(&mut self, case: Case, answer: Result<Hash, Refusal>, expires: Timestamp, ctx: &mut Context<Self>) {
        let subject = &case.accusation.subject;
        match answer {
            Ok(id) => {
                info!("transaction {id} reports that {subject} was signed twice");
                self.under_way.insert(case.accused().clone(), UnderWay::Submitted { id, expires });
            }
            Err(refusal) if refusal.is_transient() => {
                warn!("{subject} was signed twice, which cannot be reported yet: {refusal}");
                self.consider_after(TURN, case, ctx);
            }
            Err(refusal) => {
                warn!("{subject} was signed twice, which cannot be reported: {refusal}");
                self.under_way.remove(case.accused());
            }
        }
    }
}

/// The answer of one that must be there as long as this actor is.
fn there<T>(answer: Result<T, MailboxError>, whose: &str) -> T {
    answer.unwrap_or_else(|error| fatal::stop(format!("the {whose} is gone: {error}")))
}

impl Actor for Reporter {
    type Context = Context<Self>;
}

impl Handler<Report> for Reporter {
    type Result = ();

    fn handle(&mut self, Report(evidence): Report, ctx: &mut Self::Context) {
        match evidence.accuse(&self.links.reader.network()) {
            Ok(accusation) if self.is_under_way(&accusation.subject.voter) => {
                debug!("{} is not reported: another report of its voter is under way", accusation.subject);
            }
            Ok(accusation) if self.would_be_recorded(&accusation) => {
                let turn = self.turn(accusation.subject.height);
                self.consider_after(turn, Case { evidence, accusation }, ctx);
            }
            Ok(_) => {}
            Err(reason) => warn!("what the core found to be a lie is no evidence: {reason}"),
        }
    }
}

//! The peer's half: what others propose is checked as a gateway's own submissions are, by this node's state; then
//! this node's rules are asked, and only what passes both is signed.

use actix::{ActorFutureExt, AsyncContext, Context, ResponseActFuture, WrapFuture, fut};
use minidlt_config::Endorse;
use minidlt_protocol::{
    block::SharedTransaction,
    endorsement::{Answer, Reason, Verdict},
    registry::{NodeRole, Registry},
    transaction::{Effect, Refusal, Transaction, TransactionBytes, id_of, open},
    types::{Hash, Identity},
};

use super::{Endorsement, there};
use crate::{
    checking::{Checked, Whose},
    messages::signer::SignEndorsements,
    metrics::count,
};

/// So many are signed at a time: a vote may wait behind them.
const SIGNED_AT_ONCE: usize = 32;

impl Endorsement {
    /// Takes what a gateway proposes. With much of it being checked already, the session waits with it.
    pub(super) fn proposed(
        &mut self,
        gateway: Identity,
        transactions: Vec<TransactionBytes>,
        ctx: &mut Context<Self>,
    ) -> ResponseActFuture<Self, ()> {
        // Its author names the nodes it submits through: this one must be asked by one of them.
        let (whose, peer, total) = (Whose::Peer(gateway.clone()), gateway.clone(), transactions.len());
        let checked = self.checking.check(&whose, &transactions, Some(&gateway)).into_actor(self);
        let answered = checked.then(move |checked, actor, _| actor.judge(&transactions, checked)).map(
            move |answers, actor: &mut Self, ctx: &mut Context<Self>| {
                actor.checking.ended(&whose, total);
                if let Some(outbox) = actor.outbox(&gateway) {
                    outbox.answer(answers);
                    actor.flush(&gateway, ctx);
                }
            },
        );
        if self.checking.must_wait(&peer) {
            return Box::pin(answered);
        }
        ctx.spawn(answered);
        Box::pin(fut::ready(()))
    }

    /// What this node says of each.
    fn judge(&mut self, transactions: &[TransactionBytes], checked: Checked) -> ResponseActFuture<Self, Vec<Answer>> {
        let network = self.network;
        let mut answers = Vec::new();
        let mut held = Vec::new();
        for (bytes, checked) in transactions.iter().zip(checked) {
            match checked {
                Ok(transaction) => held.push(transaction),
                Err(refusal) => {
                    count(&self.metrics.endorsements_refused, refusal.kind());
                    answers.extend(refused(&network, bytes, &refusal));
                }
            }
        }
        Box::pin(self.endorse(held).map(move |endorsed, _, _| {
            answers.extend(endorsed);
            answers
        }))
    }

    /// Endorses what holds, where this node's rules let it.
    pub(super) fn endorse(&mut self, transactions: Vec<SharedTransaction>) -> ResponseActFuture<Self, Vec<Answer>> {
        let registry = self.links.members.registry();
        let (mut answers, mut willing) = (Vec::new(), Vec::new());
        for transaction in transactions {
            match may_endorse(&self.me, &registry, &self.endorse, &transaction) {
                Ok(()) => willing.push(transaction),
                Err(reason) => {
                    count(&self.metrics.endorsements_refused, &reason.kind);
                    answers.push(Answer { id: transaction.id, verdict: Verdict::Refused(reason) });
                }
            }
        }
        let (signing, signer) = (self.signing.clone(), self.links.sign.clone());
        let signed = async move {
            for some in willing.chunks(SIGNED_AT_ONCE) {
                let _turn = signing.acquire().await;
                let signatures = there(signer.send(SignEndorsements(some.to_vec())).await, "signer");
                let verdicts = signatures.into_iter().map(Verdict::Endorsed);
                answers.extend(some.iter().zip(verdicts).map(|(one, verdict)| Answer { id: one.id, verdict }));
            }
            (answers, willing.len())
        };
        Box::pin(signed.into_actor(self).map(|(answers, given), actor, _| {
            actor.metrics.endorsements_given.inc_by(given as u64);
            answers
        }))
    }
}

/// An answer names what it is about by its id: about what has none there is nothing to say.
fn refused(network: &Hash, bytes: &TransactionBytes, refusal: &Refusal) -> Option<Answer> {
    let (signed, _) = open(bytes.as_slice()).ok()?;
    Some(Answer { id: id_of(network, &signed.body), verdict: Verdict::Refused(refusal.into()) })
}

/// This node's own rules, over and above those of the network.
fn may_endorse(me: &Identity, registry: &Registry, endorse: &Endorse, transaction: &Transaction) -> Result<(), Reason> {
    if !registry.has_role(me, NodeRole::Peer.into()) {
        return Err(Reason::new("not-a-peer", "this node has not the role 'peer'"));
    }
    let operator = |what: &str| Reason::new("operator", &format!("this node's operator endorses {what}"));
    match endorse {
        Endorse::Everything => Ok(()),
        Endorse::Nothing => Err(operator("nothing")),
        Endorse::RecordTypes(types) => match &transaction.effect {
            Effect::Records { record_type: Some(name), .. } if types.contains(name) => Ok(()),
            Effect::Records { record_type: Some(name), .. } => Err(operator(&format!("no records of type {name}"))),
            _ => Err(operator("no changes, and no records without a type")),
        },
    }
}

//! Endorsement by peers: what nodes say to each other about it, and the rules by which a gateway collects.
//!
//! A transaction may need the signatures of organisations' peers: nodes that have checked it by their own
//! state and their operators' rules. Its gateway proposes it to them, each answers with its signature over the
//! transaction's id or with a reason, and the gateway hands it on once the policies are met. What they are, and
//! that they are met, every node checks again by the registry: nothing here is taken on trust.
//!
//! ```text
//! needs a peer of        one of them asked          endorsed: met? ── yes ──▶ Complete
//! these organisations ─▶ of each, side by side ──▶  refused, lost, silent ──▶ the organisation's next peer
//!                                                   none left that could    ──▶ Hopeless, with the reason
//! ```

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    block::SharedTransaction,
    codec,
    crypto::Signature,
    limits::{MAX_PROPOSED, MAX_PROPOSED_BYTES, MAX_REFUSAL_BYTES},
    registry::{NodeRole, Registry},
    transaction::{Endorsement, Refusal, Transaction, TransactionBytes},
    types::{Hash, Identity, Name},
};

/// Between a gateway and a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndorsementContent {
    /// Asks one node to endorse these, each encoded.
    Propose(Vec<TransactionBytes>),
    /// What it says of them; each as soon as it is known, not always of all in one message.
    Answers(Vec<Answer>),
}

/// Of one transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    pub id: Hash,
    pub verdict: Verdict,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Verdict {
    /// The sender's signature over the id.
    Endorsed(Signature),
    Refused(Reason),
}

/// Why a node does not endorse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// A stable name, as of a [`Refusal`]'s.
    pub kind: String,
    /// In words.
    pub reason: String,
}

impl Reason {
    /// Of what may quote others, so it is clipped.
    pub fn new(kind: &str, reason: &str) -> Self {
        Self { kind: kind.to_owned(), reason: codec::clip(reason) }
    }
}

impl From<&Refusal> for Reason {
    fn from(refusal: &Refusal) -> Self {
        Self::new(refusal.kind(), &refusal.to_string())
    }
}

/// Why a message about endorsements was not acted on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EndorsementError {
    #[error("{0} transactions, at most {MAX_PROPOSED} are taken in one message")]
    Count(usize),
    #[error("{0} bytes of transactions, at most {MAX_PROPOSED_BYTES} are taken in one message")]
    Bytes(usize),
    #[error("a reason of {0} bytes, at most {MAX_REFUSAL_BYTES} are taken")]
    Reason(usize),
}

impl EndorsementContent {
    /// Refuses what is beyond the bounds, before anything is done about it.
    pub fn check(self) -> Result<Self, EndorsementError> {
        let count = match &self {
            Self::Propose(transactions) => transactions.len(),
            Self::Answers(answers) => answers.len(),
        };
        if !(1..=MAX_PROPOSED).contains(&count) {
            return Err(EndorsementError::Count(count));
        }
        match &self {
            Self::Propose(transactions) => match transactions.iter().map(|one| one.as_slice().len()).sum() {
                bytes if bytes > MAX_PROPOSED_BYTES => Err(EndorsementError::Bytes(bytes)),
                _ => Ok(self),
            },
            Self::Answers(answers) => {
                let reasons = answers.iter().filter_map(|answer| match &answer.verdict {
                    Verdict::Refused(Reason { kind, reason }) => Some(kind.len() + reason.len()),
                    Verdict::Endorsed(_) => None,
                });
                match reasons.max() {
                    Some(longest) if longest > MAX_REFUSAL_BYTES => Err(EndorsementError::Reason(longest)),
                    _ => Ok(self),
                }
            }
        }
    }
}

/// What became of asking a node.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Asked {
    Waiting,
    /// For as long as was given it. An answer that comes later is taken all the same.
    Silent,
    Endorsed,
    Refused(Reason),
    Lost,
}

/// What a node answered, for who wants to know why a transaction was not endorsed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Said {
    #[serde(flatten)]
    pub peer: Identity,
    #[serde(flatten)]
    pub reason: Reason,
}

/// What to do next about a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Wait for those asked, these new ones included.
    Ask(Vec<Identity>),
    /// All that it needs is there.
    Complete(TransactionBytes),
    /// It could not be met any more, whoever of those that can be asked signed it: what is missing then.
    Hopeless(Refusal),
}

/// The endorsements of one transaction, being collected.
pub struct Collection {
    /// With the endorsements so far; its bytes are those that were submitted.
    transaction: Transaction,
    asked: BTreeMap<Identity, Asked>,
}

impl Collection {
    /// Of a transaction whose signatures hold, and that could be made if others consented.
    pub fn new(transaction: &SharedTransaction) -> Self {
        Self { transaction: Transaction::clone(transaction), asked: BTreeMap::new() }
    }

    /// Whether this node's answer is waited for, or would still be taken.
    pub fn expects(&self, peer: &Identity) -> bool {
        matches!(self.asked.get(peer), Some(Asked::Waiting | Asked::Silent))
    }

    /// Those whose answers may still come.
    pub fn expected(&self) -> impl Iterator<Item = &Identity> {
        self.asked.keys().filter(|peer| self.expects(peer))
    }

    /// Takes an answer that is expected. `false` where its signature does not hold: it is passed over.
    pub fn answered(&mut self, peer: &Identity, verdict: Verdict, registry: &Registry) -> bool {
        let (asked, holds) = match verdict {
            // It is shown to people: no matter what it was made to look like.
            Verdict::Refused(Reason { kind, reason }) => {
                (Asked::Refused(Reason::new(&codec::clip(&kind), &reason)), true)
            }
            Verdict::Endorsed(signature) => {
                let key = registry.key_of(peer);
                match key.is_some_and(|key| key.verify(&self.transaction.id, &signature).is_ok()) {
                    true => {
                        self.transaction.endorsements.push(Endorsement { endorser: peer.clone(), signature });
                        (Asked::Endorsed, true)
                    }
                    false => (Asked::Refused(Reason::new("bad-endorsement", "its signature does not hold")), false),
                }
            }
        };
        self.asked.insert(peer.clone(), asked);
        holds
    }

    /// Nothing came from this node for as long as it was given.
    pub fn silent(&mut self, peer: &Identity) {
        self.gave_up(peer, Asked::Silent);
    }

    /// The connection with this node ended.
    pub fn lost(&mut self, peer: &Identity) {
        self.gave_up(peer, Asked::Lost);
    }

    fn gave_up(&mut self, peer: &Identity, why: Asked) {
        if let Some(asked) = self.asked.get_mut(peer).filter(|asked| **asked == Asked::Waiting) {
            *asked = why;
        }
    }

    /// What to do now. `can_be_asked`: this node itself, or one that is connected; `me` goes first.
    pub fn next(&mut self, registry: &Registry, me: &Identity, can_be_asked: impl Fn(&Identity) -> bool) -> Next {
        if self.transaction.check_consent(registry).is_ok() {
            return self.transaction.with_endorsements(registry).map_or_else(Next::Hopeless, Next::Complete);
        }
        let (mut ask, mut hoped) = (Vec::new(), self.transaction.clone());
        for organisation in &peers_wanted(&self.transaction, registry) {
            let being = |what| peers_of(registry, organisation).find(|peer| self.asked.get(peer) == Some(&what));
            let hope = match being(Asked::Waiting) {
                Some(waiting) => Some(waiting),
                None => {
                    let candidate = self.candidate(registry, organisation, me, &can_be_asked);
                    ask.extend(candidate.clone());
                    candidate.or_else(|| being(Asked::Silent))
                }
            };
            hoped.endorsements.extend(hope.map(as_if_signed));
        }
        if let Err(refusal) = hoped.check_consent(registry) {
            return Next::Hopeless(refusal);
        }
        self.asked.extend(ask.iter().map(|peer| (peer.clone(), Asked::Waiting)));
        Next::Ask(ask)
    }

    /// An organisation's peer that was not asked yet. They take turns by the transaction's id.
    fn candidate(
        &self,
        registry: &Registry,
        organisation: &Name,
        me: &Identity,
        can_be_asked: &impl Fn(&Identity) -> bool,
    ) -> Option<Identity> {
        let free = peers_of(registry, organisation).filter(|peer| !self.asked.contains_key(peer) && can_be_asked(peer));
        let free: Vec<Identity> = free.collect();
        let turn = usize::from(self.transaction.id.as_bytes()[0]).checked_rem(free.len())?;
        free.iter().find(|peer| *peer == me).or_else(|| free.get(turn)).cloned()
    }

    /// What is missing as things stand, whatever may still come.
    pub fn lacking(&self, registry: &Registry) -> Option<Refusal> {
        self.transaction.check_consent(registry).err()
    }

    /// What each node said that did not endorse it, of the organisations whose peers are still missing also those
    /// that could not be asked. Who is still waited for has said nothing wrong, unless the time is over.
    pub fn said(&self, registry: &Registry, time_is_over: bool) -> Vec<Said> {
        let asked = self.asked.iter().filter_map(|(peer, asked)| {
            let reason = match asked {
                Asked::Endorsed => return None,
                Asked::Waiting if !time_is_over => return None,
                Asked::Waiting | Asked::Silent => Reason::new("no-answer", "it did not answer in time"),
                Asked::Lost => Reason::new("lost", "the connection with it ended"),
                Asked::Refused(reason) => reason.clone(),
            };
            Some(Said { peer: peer.clone(), reason })
        });
        let wanted = peers_wanted(&self.transaction, registry);
        let wanted = wanted.iter().flat_map(|organisation| peers_of(registry, organisation));
        let not_asked = wanted.filter(|peer| !self.asked.contains_key(peer));
        let not_asked =
            not_asked.map(|peer| Said { peer, reason: Reason::new("not-connected", "it is not connected") });
        asked.chain(not_asked).collect()
    }
}

/// The organisations of which a peer's signature is missing.
fn peers_wanted(transaction: &Transaction, registry: &Registry) -> BTreeSet<Name> {
    let explained = transaction.explain(registry).into_iter();
    let missing = explained.flat_map(|(_, explanation)| explanation.missing_signers());
    missing.filter(|(_, role)| *role == NodeRole::Peer.into()).map(|(organisation, _)| organisation).collect()
}

fn peers_of<'a>(registry: &'a Registry, organisation: &'a Name) -> impl Iterator<Item = Identity> + 'a {
    let peers = registry.nodes.values().filter(move |node| {
        node.organisation == *organisation && node.standing.is_active() && node.roles.contains(&NodeRole::Peer)
    });
    peers.map(|node| node.identity())
}

/// Good for asking what would be met, and nothing else.
fn as_if_signed(endorser: Identity) -> Endorsement {
    Endorsement { endorser, signature: Signature::from_bytes([0; 64]) }
}

//! What this node tells those who ask: where it stands, and blocks. Read off its thread, one answer of
//! each kind at a time to each peer, and one more question of it waits: asking cannot outrun answering.

use std::collections::BTreeMap;

use actix::{ActorFutureExt, AsyncContext, Context, Recipient, WrapFuture};
use actix_rt::task::spawn_blocking;
use log::warn;
use minidlt_protocol::{
    message::{Content, Draft, Recipient as To, SyncContent},
    receipt::CertifiedHeader,
    sync::{ANSWER_BLOCKS, MOST_BYTES},
    types::{Height, Identity},
};

use super::Sync;
use crate::{
    clock,
    messages::{network::Class, signer::SignDraft},
    metrics::count,
    store::reader::{ReadError, Reader},
};

/// What a peer asks.
#[derive(Debug, Clone, Copy)]
pub enum Question {
    Standing { at: Option<Height> },
    Blocks { from: Height, bytes: u64 },
}

/// Which of the two.
type Kind = std::mem::Discriminant<Question>;

pub struct Serving {
    reader: Reader,
    me: Identity,
    signer: Recipient<SignDraft>,
    /// The questions being answered, each with the one that waits for that. A peer has few places.
    under_way: BTreeMap<Identity, Vec<(Kind, Option<Question>)>>,
    /// This node's own standing, which most ask for.
    head: Option<CertifiedHeader>,
}

impl Serving {
    pub fn new(me: Identity, reader: Reader, signer: Recipient<SignDraft>) -> Self {
        Self { reader, me, signer, under_way: BTreeMap::new(), head: None }
    }

    /// Whether the question is to be answered now. It may wait instead, in place of an earlier one.
    fn begin(&mut self, peer: &Identity, question: Question) -> Begun {
        let kind = std::mem::discriminant(&question);
        let theirs = self.under_way.entry(peer.clone()).or_default();
        match theirs.iter_mut().find(|(of, _)| *of == kind) {
            None => {
                theirs.push((kind, None));
                Begun::Now
            }
            Some((_, waiting)) => match waiting.replace(question) {
                None => Begun::Waits,
                Some(_) => Begun::InPlaceOfAnother,
            },
        }
    }

    /// The next question of this kind, if one waits.
    fn end(&mut self, peer: &Identity, question: Question) -> Option<Question> {
        let kind = std::mem::discriminant(&question);
        let theirs = self.under_way.get_mut(peer)?;
        let at = theirs.iter().position(|(of, _)| *of == kind)?;
        let (_, waiting) = theirs.swap_remove(at);
        if theirs.is_empty() {
            self.under_way.remove(peer);
        }
        waiting
    }

    /// Reads the answer and makes it ready to be signed; waits for the disk.
    fn prepare(reader: &Reader, me: Identity, to: Identity, question: Question) -> Result<Answer, ReadError> {
        Ok(Answer::new(reader, me, to, Self::read(reader, question)?))
    }

    fn read(reader: &Reader, question: Question) -> Result<SyncContent, ReadError> {
        match question {
            Question::Standing { at } => {
                let height = at.unwrap_or(reader.head().height);
                reader.certified_header(height).map(SyncContent::Standing)
            }
            Question::Blocks { from, bytes } => {
                let bytes = usize::try_from(bytes).unwrap_or(MOST_BYTES).min(MOST_BYTES);
                Ok(SyncContent::Blocks { from, blocks: reader.blocks(from, bytes, ANSWER_BLOCKS as usize)? })
            }
        }
    }

    /// The answer, where it is at hand.
    fn at_hand(&self, question: Question) -> Option<SyncContent> {
        let head = self.head.as_ref().filter(|head| head.header.height == self.reader.head().height)?;
        match question {
            Question::Standing { at } if at.is_none_or(|at| at == head.header.height) => {
                Some(SyncContent::Standing(Some(head.clone())))
            }
            _ => None,
        }
    }
}

/// What a peer is told, and which standing it tells.
struct Answer {
    draft: Draft,
    standing: Option<CertifiedHeader>,
}

impl Answer {
    fn new(reader: &Reader, me: Identity, to: Identity, content: SyncContent) -> Self {
        let standing = if let SyncContent::Standing(standing) = &content { standing.clone() } else { None };
        let draft = Draft::new(&reader.network(), me, To::One(to), clock::now(), &Content::Sync(content));
        Self { draft, standing }
    }
}

enum Begun {
    Now,
    Waits,
    InPlaceOfAnother,
}

/// Answers a peer's question, now or after the one before.
pub fn answer(sync: &mut Sync, peer: Identity, question: Question, ctx: &mut Context<Sync>) {
    match sync.serving.begin(&peer, question) {
        Begun::Now => read_and_send(sync, peer, question, ctx),
        Begun::Waits => {}
        Begun::InPlaceOfAnother => count(&sync.metrics.messages_refused, "asked-too-soon"),
    }
}

fn read_and_send(sync: &Sync, peer: Identity, question: Question, ctx: &mut Context<Sync>) {
    let Serving { reader, me, signer, .. } = &sync.serving;
    let (reader, me, signer, asking) = (reader.clone(), me.clone(), signer.clone(), peer.clone());
    let at_hand = sync.serving.at_hand(question);
    let answered = async move {
        let to = asking.clone();
        let prepared = match at_hand {
            Some(content) => Ok(Ok(Answer::new(&reader, me, to, content))),
            None => spawn_blocking(move || Serving::prepare(&reader, me, to, question)).await,
        };
        match prepared {
            Ok(Ok(Answer { draft, standing })) => {
                let _ended_at_shutdown = signer.send(SignDraft { class: Class::Sync, draft }).await;
                return standing;
            }
            Ok(Err(error)) => warn!("no answer for {asking}: {error}"),
            Err(error) => warn!("no answer for {asking}: reading was broken off: {error}"),
        }
        None
    };
    ctx.spawn(answered.into_actor(sync).map(move |standing, actor, ctx| {
        let head = actor.serving.reader.head().height;
        if standing.as_ref().is_some_and(|standing| standing.header.height == head) {
            actor.serving.head = standing;
        }
        if let Some(next) = actor.serving.end(&peer, question) {
            answer(actor, peer, next, ctx);
        }
    }));
}

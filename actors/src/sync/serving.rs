//! What this node tells those who ask: where it stands, and blocks. Read off its thread, one answer of
//! each kind at a time to each peer, and one more question of it waits: asking cannot outrun answering.

use std::collections::BTreeMap;

use actix::{ActorFutureExt, AsyncContext, Context, Recipient, WrapFuture};
use actix_rt::task::spawn_blocking;
use log::warn;
use minidlt_protocol::{
    message::{Content, Recipient as To, SyncContent},
    receipt::CertifiedHeader,
    sync::{ANSWER_BLOCKS, MOST_BYTES},
    types::{Height, Identity},
};

use super::Sync;
use crate::{
    messages::{network::Class, signer::Stamp},
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
    signer: Recipient<Stamp>,
    /// The questions being answered, each with the one that waits for that. A peer has few places.
    under_way: BTreeMap<Identity, Vec<(Kind, Option<Question>)>>,
    /// This node's own standing, which most ask for.
    head: Option<CertifiedHeader>,
}

impl Serving {
    pub fn new(reader: Reader, signer: Recipient<Stamp>) -> Self {
        Self { reader, signer, under_way: BTreeMap::new(), head: None }
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

    /// Reads the answer; waits for the disk.
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
    let (at_hand, reader) = (sync.serving.at_hand(question), sync.serving.reader.clone());
    let (signer, asking) = (sync.serving.signer.clone(), peer.clone());
    let answered = async move {
        let content = match at_hand {
            Some(content) => content,
            None => match spawn_blocking(move || Serving::read(&reader, question)).await {
                Ok(Ok(content)) => content,
                Ok(Err(error)) => {
                    warn!("no answer for {asking}: {error}");
                    return None;
                }
                Err(error) => {
                    warn!("no answer for {asking}: reading was broken off: {error}");
                    return None;
                }
            },
        };
        let standing = if let SyncContent::Standing(standing) = &content { standing.clone() } else { None };
        let stamp = Stamp { recipient: To::One(asking), class: Class::Sync, content: Content::Sync(content) };
        let _ended_at_shutdown = signer.send(stamp).await;
        standing
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

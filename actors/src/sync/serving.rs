//! What this node tells those who ask: where it stands, and blocks. Read off its thread, one answer of
//! each kind at a time to each peer: asking cannot outrun answering.

use std::collections::BTreeSet;

use actix::{ActorFutureExt, AsyncContext, Context, Recipient, WrapFuture};
use actix_rt::task::spawn_blocking;
use log::warn;
use minidlt_protocol::{
    message::{Content, Recipient as To, SyncContent},
    receipt::CertifiedHeader,
    sync::MOST_BYTES,
    types::{Height, Identity},
};

use super::Sync;
use crate::{
    messages::{network::Class, signer::Stamp},
    metrics::count,
    store::reader::{ReadError, Reader},
};

/// Most blocks in one answer.
const ANSWER_BLOCKS: usize = 500;

/// What an answer is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Standing,
    Blocks,
}

pub struct Serving {
    reader: Reader,
    signer: Recipient<Stamp>,
    under_way: BTreeSet<(Identity, Kind)>,
    /// This node's own standing, which most ask for.
    head: Option<CertifiedHeader>,
}

impl Serving {
    pub fn new(reader: Reader, signer: Recipient<Stamp>) -> Self {
        Self { reader, signer, under_way: BTreeSet::new(), head: None }
    }
}

/// Where this node stands, or which block it has at a height.
pub fn standing(sync: &mut Sync, peer: Identity, at: Option<Height>, ctx: &mut Context<Sync>) {
    let height = at.unwrap_or(sync.serving.reader.head().height);
    let known = sync.serving.head.clone().filter(|head| head.header.height == height);
    let read = move |reader: &Reader| match known {
        Some(known) => Ok(SyncContent::Standing(Some(known))),
        None => reader.certified_header(height).map(SyncContent::Standing),
    };
    answer(sync, Kind::Standing, peer, read, ctx);
}

/// Blocks from a height on.
pub fn blocks(sync: &mut Sync, peer: Identity, from: Height, bytes: u64, ctx: &mut Context<Sync>) {
    let bytes = usize::try_from(bytes).unwrap_or(MOST_BYTES).min(MOST_BYTES);
    let read = move |reader: &Reader| {
        let blocks = reader.blocks(from, bytes, ANSWER_BLOCKS)?;
        Ok(SyncContent::Blocks { from, blocks })
    };
    answer(sync, Kind::Blocks, peer, read, ctx);
}

fn answer(
    sync: &mut Sync,
    kind: Kind,
    peer: Identity,
    read: impl FnOnce(&Reader) -> Result<SyncContent, ReadError> + Send + 'static,
    ctx: &mut Context<Sync>,
) {
    if !sync.serving.under_way.insert((peer.clone(), kind)) {
        return count(&sync.metrics.messages_refused, "asked-too-soon");
    }
    let (reader, signer, asking) = (sync.serving.reader.clone(), sync.serving.signer.clone(), peer.clone());
    let read = spawn_blocking(move || read(&reader));
    let answered = async move {
        let content = match read.await {
            Ok(Ok(content)) => content,
            Ok(Err(error)) => {
                warn!("no answer for {asking}: {error}");
                return None;
            }
            Err(error) => {
                warn!("no answer for {asking}: reading was broken off: {error}");
                return None;
            }
        };
        let standing = match &content {
            SyncContent::Standing(standing) => standing.clone(),
            _ => None,
        };
        let stamp = Stamp { recipient: To::One(asking), class: Class::Sync, content: Content::Sync(content) };
        let _ended_at_shutdown = signer.send(stamp).await;
        standing
    };
    ctx.spawn(answered.into_actor(sync).map(move |standing, actor, _| {
        actor.serving.under_way.remove(&(peer, kind));
        let head = actor.serving.reader.head().height;
        if standing.as_ref().is_some_and(|standing| standing.header.height == head) {
            actor.serving.head = standing;
        }
    }));
}

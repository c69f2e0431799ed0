//! The stream of committed blocks, over a websocket.
//!
//! Each stream owns the height it sends next. It reads blocks up to the head, then waits for the
//! head to change: replay and live are one loop, so there is no seam to lose or repeat a block at.
//!
//! One frame a stream is under way at a time. It counts as taken once the connection asks for more,
//! which it does only when its buffer has gone to the socket; so a reader that stops holds one
//! frame here and, after [`super::Limits::frame_time`], is closed with the height to resume from.
//! The queue of actix-ws alone would not do: it is bounded in frames, and its reader moves all of
//! it into a buffer without a bound in bytes. Frames of old blocks, which no two streams share, are
//! in memory only a few at a time.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use actix_web::{
    HttpRequest, HttpResponse,
    body::{BodySize, BoxBody, MessageBody},
    web::{self, Bytes},
};
use actix_ws::{CloseCode, CloseReason, Closed, Message, MessageStream, ProtocolError, Session};
use bytestring::ByteString;
use minidlt_protocol::{
    transaction::{id_of, open},
    types::{Height, Identity},
};
use serde::Deserialize;
use serde_json::json;
use tokio::{
    sync::{Mutex, Semaphore, watch},
    time::timeout,
};

use super::{
    State,
    auth::By,
    blocking, blocks,
    limits::{EVENT_MESSAGE_BYTES, SMALL_ANSWER_BYTES},
    problem::Problem,
    shares::{Full, Place},
};
use crate::metrics;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventsQuery {
    from: Option<Height>,
    #[serde(default)]
    view: View,
}

/// How much of a block a frame has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum View {
    #[default]
    Full,
    Ids,
}

/// How far behind the head a frame is shared, and how many are kept.
const RECENT: usize = 4;

/// The latest frames, each encoded once for all streams at the head.
#[derive(Default)]
pub struct Frames(Mutex<VecDeque<(Height, View, ByteString)>>);

impl Frames {
    async fn get(&self, state: &web::Data<State>, height: Height, view: View) -> Result<ByteString, Problem> {
        if is_old(state, height) {
            return encode(state, height, view).await;
        }
        // Held while encoding, so that the others wait for this frame instead of making their own.
        let mut recent = self.0.lock().await;
        if let Some((.., frame)) = recent.iter().find(|(at, seen, _)| (*at, *seen) == (height, view)) {
            return Ok(frame.clone());
        }
        let frame = encode(state, height, view).await?;
        recent.push_back((height, view, frame.clone()));
        if recent.len() > RECENT {
            recent.pop_front();
        }
        Ok(frame)
    }
}

fn is_old(state: &State, height: Height) -> bool {
    state.api.ledger.head().height.get().saturating_sub(height.get()) >= RECENT as u64
}

async fn encode(state: &web::Data<State>, height: Height, view: View) -> Result<ByteString, Problem> {
    let state = state.clone();
    blocking(move || {
        let text = match view {
            View::Full => blocks::text_of(&state, height)?,
            View::Ids => ids(&state, height)?,
        };
        let text = text.ok_or_else(|| Problem::internal(format!("block {height} is missing")))?;
        Ok(text.into())
    })
    .await
}

fn ids(state: &State, height: Height) -> Result<Option<String>, Problem> {
    let network = &state.network;
    if height == Height::GENESIS {
        let created = state.api.genesis.created;
        let genesis = json!({ "height": height, "hash": network, "created": created, "proposer": null, "ids": [] });
        return Ok(Some(genesis.to_string()));
    }
    let Some(block) = state.api.ledger.block(height)? else { return Ok(None) };
    let id = |bytes: &[u8]| open(bytes).map(|(signed, _)| id_of(network, &signed.body));
    let ids = block.transactions.iter().map(|bytes| id(bytes.as_slice())).collect::<Result<Vec<_>, _>>();
    let ids = ids.map_err(|error| Problem::internal(format!("block {height} does not read: {error}")))?;
    let (hash, created) = (block.header.hash(network), block.header.created);
    let proposer = &block.header.proposer;
    let block = json!({ "height": height, "hash": hash, "created": created, "proposer": proposer, "ids": ids });
    Ok(Some(block.to_string()))
}

pub async fn get(
    state: web::Data<State>,
    By(caller): By,
    request: HttpRequest,
    query: web::Query<EventsQuery>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let place = place(&state, &caller.identity)?;
    let (response, session, incoming) = actix_ws::handle(&request, payload)
        .map_err(|error| Problem::bad_request(format!("a websocket over HTTP/1.1 is expected here: {error}")))?;
    let incoming = incoming.max_frame_size(EVENT_MESSAGE_BYTES);
    let (asked, taken) = watch::channel(());
    let response = response.map_body(|_, inner| Observed { inner, asked }).map_into_boxed_body();
    // Without a height, the stream begins with the next block after this very moment.
    let next = query.from.unwrap_or_else(|| state.api.ledger.head().height.next());
    let turns = state.replays.of(&caller.identity);
    let stream = Stream { state, session, taken, next, view: query.view, turns };
    actix_web::rt::spawn(async move {
        let _place = place;
        stream.run(incoming).await;
    });
    Ok(response)
}

fn place(state: &State, caller: &Identity) -> Result<Place, Problem> {
    let subscribers = &state.subscribers;
    subscribers.take(caller, 1).map_err(|full| match full {
        Full::Whole => Problem::too_many_subscribers(subscribers.most),
        Full::Share => Problem::caller_has_its_streams(caller, subscribers.shares.share()),
    })
}

/// Tells when the connection asked for more and there was nothing left: all before was taken.
struct Observed {
    inner: BoxBody,
    asked: watch::Sender<()>,
}

impl MessageBody for Observed {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.inner.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_next(context);
        if polled.is_pending() {
            self.asked.send_replace(());
        }
        polled
    }
}

/// Why a stream ends.
enum End {
    /// The reader closed it or is gone.
    Gone,
    Slow,
    /// The reader sent what it should not.
    Unwelcome,
    Stopping,
    Failed,
}

impl End {
    /// The name for counters of an end that this node puts to it because of its reader.
    fn refused(&self) -> Option<&'static str> {
        match self {
            Self::Slow => Some("slow-subscriber"),
            Self::Unwelcome => Some("unwelcome-frame"),
            Self::Gone | Self::Stopping | Self::Failed => None,
        }
    }
}

/// So often an idle stream is pinged, so that what stands between keeps it open.
const PING_EVERY: Duration = Duration::from_secs(20);

struct Stream {
    state: web::Data<State>,
    session: Session,
    taken: watch::Receiver<()>,
    next: Height,
    view: View,
    /// Its caller's turns to send old blocks.
    turns: Arc<Semaphore>,
}

impl Stream {
    async fn run(mut self, incoming: MessageStream) {
        let (state, session) = (self.state.clone(), self.session.clone());
        let end = tokio::select! {
            end = self.deliver() => end,
            end = listen(incoming, session) => end,
            () = state.closed() => End::Stopping,
        };
        if let Some(reason) = end.refused() {
            metrics::count(&state.api.metrics.requests_refused, reason);
        }
        let resume = format!("resume with from={}", self.next);
        let (code, description) = match end {
            End::Gone => (CloseCode::Normal, None),
            End::Slow => (CloseCode::Policy, Some(format!("too slow; {resume}"))),
            End::Unwelcome => {
                (CloseCode::Unsupported, Some(format!("nothing is read here but control frames; {resume}")))
            }
            End::Stopping => (CloseCode::Away, Some(format!("the node stops; {resume}"))),
            End::Failed => (CloseCode::Error, Some(format!("the node failed; {resume}"))),
        };
        // An error means that the connection is gone already, or that the reader takes nothing.
        let closing = self.session.close(Some(CloseReason { code, description }));
        let _ = timeout(state.api.limits.frame_time, closing).await;
    }

    /// Sends every block from `next` on, for ever.
    async fn deliver(&mut self) -> End {
        let mut heads = self.state.api.ledger.heads();
        loop {
            let head = heads.borrow_and_update().height;
            while self.next <= head {
                if let Err(end) = self.send_next().await {
                    return end;
                }
            }
            let idle = tokio::select! {
                changed = heads.changed() => changed.map_err(|_| End::Stopping),
                () = tokio::time::sleep(PING_EVERY) => self.ping().await,
            };
            if let Err(end) = idle {
                return end;
            }
        }
    }

    async fn send_next(&mut self) -> Result<(), End> {
        let (state, turns) = (self.state.clone(), self.turns.clone());
        let turn = match is_old(&state, self.next) {
            true => Some(state.replays.turn(&turns).await.ok_or(End::Stopping)?),
            false => None,
        };
        let frame = state.frames.get(&state, self.next, self.view).await.map_err(|problem| {
            log::error!("API: a stream of events ends: {problem}");
            End::Failed
        })?;
        // A new block's frame is shared until it is sent; then each connection has a copy of its own.
        let _turn = match turn {
            None if frame.len() as u64 > SMALL_ANSWER_BYTES => {
                Some(state.replays.turn(&turns).await.ok_or(End::Stopping)?)
            }
            turn => turn,
        };
        in_time(&state, self.send(frame)).await?;
        self.next = self.next.next();
        Ok(())
    }

    async fn ping(&mut self) -> Result<(), End> {
        let state = self.state.clone();
        in_time(&state, self.session.ping(b"")).await
    }

    /// Sends a frame and waits until it was taken.
    async fn send(&mut self, frame: ByteString) -> Result<(), Closed> {
        self.session.text(frame).await?;
        self.taken.mark_unchanged();
        self.taken.changed().await.map_err(|_| Closed)
    }
}

/// What its reader takes, it must take in time.
async fn in_time(state: &State, taken: impl Future<Output = Result<(), Closed>>) -> Result<(), End> {
    match timeout(state.api.limits.frame_time, taken).await {
        Ok(taken) => taken.map_err(|Closed| End::Gone),
        Err(_) => Err(End::Slow),
    }
}

/// Answers pings, until the reader closes the stream.
async fn listen(mut incoming: MessageStream, mut session: Session) -> End {
    while let Some(message) = incoming.recv().await {
        let message = match message {
            Ok(message) => message,
            Err(ProtocolError::Io(_)) => return End::Gone,
            Err(_) => return End::Unwelcome,
        };
        match message {
            Message::Ping(bytes) => {
                if session.pong(&bytes).await.is_err() {
                    return End::Gone;
                }
            }
            Message::Pong(_) | Message::Nop => {}
            Message::Close(_) => return End::Gone,
            Message::Text(_) | Message::Binary(_) | Message::Continuation(_) => return End::Unwelcome,
        }
    }
    End::Gone
}

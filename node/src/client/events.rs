//! The stream of committed blocks: every block once, in order, across broken connections and,
//! where several nodes are given, across nodes.

use std::time::Duration;

use actix_rt::time::{Instant, sleep, timeout};
use awc::{
    error::{WsClientError, WsProtocolError},
    ws::{Frame, Message},
};
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use minidlt_protocol::types::Height;
use serde::Deserialize;
use tokio::sync::mpsc;

use super::{
    api::NodeClient,
    error::{ClientError, Problem},
};

/// Largest frame read: a whole block, which JSON may multiply.
const MAX_FRAME_BYTES: usize = 64 << 20;
/// After so long without a frame the node is asked for a sign of life, and after as long again
/// the connection is given up.
const QUIET: Duration = Duration::from_secs(20);
/// How many blocks are held for whoever takes them; beyond that the node is made to wait.
const READ_AHEAD: usize = 16;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    Blocks,
    Ids,
}

/// A frame's text and the height of its block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub height: Height,
    pub text: String,
}

#[derive(Deserialize)]
struct OnlyHeight {
    height: Height,
}

/// A websocket, whatever it runs on.
trait Socket: Stream<Item = Result<Frame, WsProtocolError>> + Sink<Message, Error = WsProtocolError> + Unpin {}

impl<T: Stream<Item = Result<Frame, WsProtocolError>> + Sink<Message, Error = WsProtocolError> + Unpin> Socket for T {}

/// A subscription that outlives its connections.
pub struct Events {
    nodes: Vec<NodeClient>,
    /// Which of the nodes it is connected to, or will try next.
    at: usize,
    view: View,
    /// The next height wanted; unknown until the first frame of a live-only subscription.
    next: Option<Height>,
    socket: Option<Box<dyn Socket>>,
    /// How long to go on without any connection; `None` is for ever.
    patience: Option<Duration>,
    /// When the connection was lost.
    broken: Option<Instant>,
    /// Told why, once each time it is lost.
    notice: Option<fn(&str)>,
}

impl Events {
    /// From a height on, or live only. There must be at least one node.
    pub fn new(nodes: Vec<NodeClient>, view: View, from: Option<Height>) -> Self {
        Self { nodes, at: 0, view, next: from, socket: None, patience: None, broken: None, notice: None }
    }

    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    pub fn with_notice(mut self, notice: fn(&str)) -> Self {
        self.notice = Some(notice);
        self
    }

    /// Reads on in a task of its own, a few blocks ahead of whoever takes them, until an error that
    /// trying again does not mend.
    pub fn spawn(mut self) -> mpsc::Receiver<Result<Event, ClientError>> {
        let (sender, receiver) = mpsc::channel(READ_AHEAD);
        actix_rt::spawn(async move {
            loop {
                let event = self.next().await;
                let ended = event.is_err();
                if sender.send(event).await.is_err() || ended {
                    return;
                }
            }
        });
        receiver
    }

    /// The next block. Connects, and connects again, as needed.
    pub async fn next(&mut self) -> Result<Event, ClientError> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.step().await {
                Ok(event) => {
                    (self.broken, pause) = (None, FIRST_PAUSE);
                    if let Some(event) = event {
                        return Ok(event);
                    }
                }
                Err(error) => {
                    self.socket = None;
                    let first = self.broken.is_none();
                    let broken = *self.broken.get_or_insert_with(Instant::now);
                    let spent = self.patience.is_some_and(|patience| broken.elapsed() > patience);
                    if spent || !error.is_transient() {
                        return Err(error);
                    }
                    if let (true, Some(notice)) = (first, self.notice) {
                        notice(&format!("{error}; trying again from {}", self.wanted()));
                    }
                    self.at = (self.at + 1) % self.nodes.len();
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    fn wanted(&self) -> String {
        self.next.map_or_else(|| "the next block".into(), |height| format!("height {height}"))
    }

    /// Connects, or reads a frame; `None` where there was nothing of interest.
    async fn step(&mut self) -> Result<Option<Event>, ClientError> {
        let node = self.nodes[self.at].clone();
        if self.socket.is_none() {
            self.socket = Some(connect(&node, self.view, self.next).await?);
        }
        let Some(socket) = &mut self.socket else { return Ok(None) };
        let broken = |reason: String| ClientError::Unreachable { url: node.url().to_string(), reason };
        let frame = match timeout(QUIET, socket.next()).await {
            Ok(frame) => frame,
            Err(_) => {
                socket.send(Message::Ping("".into())).await.map_err(|error| broken(error.to_string()))?;
                let answer = timeout(QUIET, socket.next()).await;
                answer.map_err(|_| broken(format!("silent for {} s", 2 * QUIET.as_secs())))?
            }
        };
        let frame = frame.ok_or_else(|| broken("the stream ended".into()))?;
        match frame.map_err(|error| broken(error.to_string()))? {
            Frame::Text(bytes) => {
                let text = String::from_utf8(bytes.to_vec()).map_err(|_| unexpected(&node, "a frame is not UTF-8"))?;
                self.accept(&node, text)
            }
            Frame::Ping(data) => {
                socket.send(Message::Pong(data)).await.map_err(|error| broken(error.to_string()))?;
                Ok(None)
            }
            Frame::Close(reason) => {
                let said = reason.and_then(|reason| reason.description).unwrap_or_else(|| "no reason given".into());
                Err(broken(format!("the node closed the stream: {said}")))
            }
            Frame::Pong(_) => Ok(None),
            Frame::Binary(_) | Frame::Continuation(_) => Err(unexpected(&node, "a frame that is not one text")),
        }
    }

    /// Heights must follow one another: what comes twice is passed over, a gap is an error.
    fn accept(&mut self, node: &NodeClient, text: String) -> Result<Option<Event>, ClientError> {
        let parsed: Result<OnlyHeight, _> = serde_json::from_str(&text);
        let OnlyHeight { height } = parsed.map_err(|error| unexpected(node, &error.to_string()))?;
        match self.next {
            Some(next) if height < next => return Ok(None),
            Some(next) if height > next => {
                return Err(unexpected(node, &format!("block {height} came where {next} was due")));
            }
            _ => self.next = Some(height.next()),
        }
        Ok(Some(Event { height, text }))
    }
}

async fn connect(node: &NodeClient, view: View, from: Option<Height>) -> Result<Box<dyn Socket>, ClientError> {
    let mut query = Vec::new();
    query.extend(from.map(|from| format!("from={from}")));
    query.extend((view == View::Ids).then(|| "view=ids".to_owned()));
    let url = node.url().to_string();
    let address = format!("{url}/v1/events?{}", query.join("&"));
    match node.http()?.ws(address).max_frame_size(MAX_FRAME_BYTES).connect().await {
        Ok((_, socket)) => Ok(Box::new(socket)),
        Err(WsClientError::InvalidResponseStatus(status)) => {
            let title = status.canonical_reason().unwrap_or("refused");
            let problem = Problem::of_status(status.as_u16(), &format!("the stream of events: {title}"));
            Err(ClientError::Refused { url, problem, retry_after: None })
        }
        Err(error) => Err(node.unreachable(error)),
    }
}

fn unexpected(node: &NodeClient, what: &str) -> ClientError {
    ClientError::Unexpected { url: node.url().to_string(), what: what.into() }
}

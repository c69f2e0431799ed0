//! One peer's connection, once the handshake is done: two loops in one task on the network arbiter.
//!
//! Reading is sequential: a frame is opened by a Verifier and handed to the actor it is for, and
//! the next is read only once that has been accepted, so TCP holds back a sender who is too fast.
//! Writing takes the most urgent of what waits, and where nothing does, says now and then that it is
//! there. The session ends when either loop does.

mod connect;
pub mod ended;
pub mod handshake;
pub mod queue;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use actix::Message;
use bytes::Bytes;
use minidlt_config::tls::Validity;
use minidlt_protocol::{
    message::{Alive, MessageError, SyncContent},
    types::{Height, Identity},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::oneshot,
    time::{Instant, timeout},
};

use crate::{
    frame::{FrameError, FrameReader, FrameWriter},
    log_limit::{LogLimit, OneLine},
    messages::{
        network::{Class, FromPeer, Routes},
        verifier::{Open, Opened},
    },
    metrics::{Metrics, count},
    post::post,
};
use ended::Ended;
use handshake::Established;
use queue::{Bounds, Queue};

/// Frames up to this size are opened by the urgent Verifier: votes, proposals of up to some 1,900
/// transactions, and gossip that comes a little at a time. Larger ones would hold up all sessions, and
/// take a while to come as it is. In bytes.
const URGENT_FRAME_BYTES: usize = 64 << 10;
/// Where nothing else is to be said, a session says so often that it is there. By itself, and not by
/// way of the Signer: whether a connection stands must not hang on how busy a disk is.
pub const BEAT_EVERY: Duration = Duration::from_millis(500);
/// Most characters of another node's text that are logged.
const MAX_LOGGED_CHARS: usize = 1_000;

/// A session is over: to the Listener.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct SessionEnded {
    pub peer: Identity,
    /// Which session: the peer may have another by now.
    pub id: u64,
    pub why: Ended,
}

/// The Listener's end of a session.
pub struct Session {
    pub id: u64,
    /// When it was connected.
    began: Instant,
    queue: Arc<Queue>,
    height: Arc<AtomicU64>,
    /// How long the certificate lasts that the peer showed.
    pub certificate: Option<Validity>,
    close: oneshot::Sender<Ended>,
}

/// What a session needs besides its connection.
#[derive(Clone)]
pub struct Surroundings {
    pub routes: Routes,
    pub metrics: Arc<Metrics>,
    pub ended: actix::Recipient<SessionEnded>,
    pub bounds: Bounds,
    /// This many refused messages end a session.
    pub most_refused: u32,
}

impl Session {
    /// Starts the session's task on this thread.
    pub fn start(id: u64, established: Established, surroundings: Surroundings) -> Self {
        let Established { peer, began, certificate, alive, reader, writer, .. } = established;
        let queue = Arc::new(Queue::new(surroundings.bounds));
        let height = Arc::new(AtomicU64::new(alive.height.get()));
        let (close, closed) = oneshot::channel();
        let ended = surroundings.ended.clone();
        let receiving = Receiving {
            peer: peer.clone(),
            height: height.clone(),
            surroundings,
            refused: 0,
            refusals: LogLimit::default(),
            texts: LogLimit::default(),
        };
        let outgoing = queue.clone();
        actix_rt::spawn(async move {
            let why = tokio::select! {
                why = receiving.run(alive, reader) => why,
                why = write(&outgoing, writer) => why.into(),
                why = closed => why.unwrap_or(Ended::ShuttingDown),
            };
            if ended.send(SessionEnded { peer, id, why }).await.is_err() {
                log::debug!("a session ended after the listener");
            }
        });
        Self { id, began, queue, height, certificate, close }
    }

    /// Whether it was connected after that moment.
    pub fn is_newer_than(&self, began: Instant) -> bool {
        self.began > began
    }

    /// Queues a frame; `false` where it did not fit and was dropped.
    pub fn push(&self, class: Class, frame: Bytes) -> bool {
        self.queue.push(class, frame)
    }

    /// The height the peer last told.
    pub fn height(&self) -> Height {
        Height::new(self.height.load(Ordering::Relaxed))
    }

    /// Ends it, for this reason. It may have ended by itself already.
    pub fn close(self, why: Ended) {
        let _already_over = self.close.send(why);
    }
}

async fn write<W: AsyncWrite + Unpin>(queue: &Queue, mut writer: FrameWriter<W>) -> FrameError {
    loop {
        while let Some(frame) = queue.try_pop() {
            if let Err(error) = writer.write(&frame).await {
                return error;
            }
        }
        if let Err(error) = writer.flush().await {
            return error;
        }
        if timeout(BEAT_EVERY, queue.filled()).await.is_err()
            && let Err(error) = writer.beat().await
        {
            return error;
        }
    }
}

struct Receiving {
    peer: Identity,
    height: Arc<AtomicU64>,
    surroundings: Surroundings,
    refused: u32,
    refusals: LogLimit,
    texts: LogLimit,
}

impl Receiving {
    /// Reads until something ends it. The handshake's `Alive` is the first message.
    async fn run<R: AsyncRead + Unpin>(mut self, alive: Alive, mut reader: FrameReader<R>) -> Ended {
        let first = self.deliver(Opened::Sync(SyncContent::Alive(alive))).await;
        if let Err(ended) = first {
            return ended;
        }
        loop {
            if let Err(ended) = self.next(&mut reader).await {
                return ended;
            }
        }
    }

    async fn next<R: AsyncRead + Unpin>(&mut self, reader: &mut FrameReader<R>) -> Result<(), Ended> {
        let frame = reader.next().await?;
        let routes = &self.surroundings.routes;
        let verifier = if frame.len() <= URGENT_FRAME_BYTES { &routes.urgent } else { &routes.bulk };
        match verifier.send(Open { frame, connected: self.peer.clone() }).await? {
            Ok(opened) => self.deliver(opened).await,
            Err(error) => self.refuse(error),
        }
    }

    async fn deliver(&mut self, opened: Opened) -> Result<(), Ended> {
        let (peer, routes) = (self.peer.clone(), &self.surroundings.routes);
        match opened {
            Opened::Ahead => {}
            Opened::Consensus(content) => post(&routes.consensus, FromPeer { peer, content }).await?,
            Opened::Endorsement(content) => routes.endorsement.send(FromPeer { peer, content }).await?,
            Opened::Pool(content) => routes.pool.send(FromPeer { peer, content }).await?,
            Opened::Sync(content) => {
                if let SyncContent::Alive(alive) = &content {
                    self.height.store(alive.height.get(), Ordering::Relaxed);
                }
                routes.sync.send(FromPeer { peer, content }).await?;
            }
            Opened::Text(text) => match self.texts.allow() {
                Some(more) => {
                    let shown: String = text.chars().take(MAX_LOGGED_CHARS).collect();
                    // Escaped: another's text must not look like lines of this log.
                    log::info!("{peer} says {shown:?}{more}");
                }
                None => count(&self.surroundings.metrics.messages_refused, "text-too-soon"),
            },
        }
        Ok(())
    }

    fn refuse(&mut self, error: MessageError) -> Result<(), Ended> {
        count(&self.surroundings.metrics.messages_refused, error.kind());
        self.refused += 1;
        if self.refused >= self.surroundings.most_refused {
            return Err(Ended::TooManyRefused(self.refused, error));
        }
        if let Some(more) = self.refusals.allow() {
            log::warn!("refused a message of {}: {}{more}", self.peer, OneLine(error));
        }
        Ok(())
    }
}

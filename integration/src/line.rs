//! A session with a node that stands, held in the name of another node.
//!
//! A thread reads all that the node says and hands it on, says every now and then that it is there, and
//! writes what it is given, sound or not.

use std::{
    io::{self, ErrorKind, Read, Write},
    sync::{
        Arc,
        mpsc::{Receiver, Sender, TryRecvError, channel},
    },
    thread::{self, JoinHandle, sleep},
    time::{Duration, Instant},
};

use minidlt_protocol::{
    codec,
    message::Content,
    types::{Hash, Timestamp},
    vote::{Proposal, SignedProposal, SignedVote, Vote},
};

use crate::{
    Cluster, now,
    peer::{Credentials, Stream, Voice, content_of, frame, try_tls},
};

/// A node ends a session on which nothing came for two seconds.
const BEAT_EVERY: Duration = Duration::from_millis(500);
/// How long the thread listens before it looks whether something is to be said.
const LISTEN: Duration = Duration::from_millis(2);
/// What is said slowly is said in so many pieces.
const PIECES: u32 = 20;

/// The way from one node to another, and what it takes to be the first.
pub struct Route {
    to: usize,
    port: u16,
    credentials: Credentials,
    voice: Voice,
    network: Hash,
}

impl Route {
    pub fn of(cluster: &Cluster, me: usize, to: usize) -> Arc<Self> {
        Arc::new(Self {
            to,
            port: cluster.peers_port(to),
            credentials: Credentials::of(&cluster.node(me)),
            voice: Voice::of(cluster, me, to),
            network: cluster.genesis().id(),
        })
    }

    /// This vote, signed by the first node.
    pub fn vote(&self, vote: Vote) -> SignedVote {
        self.voice.vote(&self.network, vote)
    }

    /// This proposal, signed by the first node.
    pub fn proposal(&self, proposal: Proposal) -> SignedProposal {
        self.voice.proposal(&self.network, proposal)
    }

    /// A message that says this now.
    pub fn message(&self, content: &Content) -> Vec<u8> {
        self.stamped(&codec::encode(content), now())
    }

    /// A message with these bytes as its content, as of this time.
    pub fn stamped(&self, content: &[u8], at: Timestamp) -> Vec<u8> {
        codec::encode(&self.voice.stamp(&self.network, content, at))
    }

    /// A connection on which the first word is this message, in place of an `Alive` for it.
    pub fn connect_saying(&self, first: &[u8]) -> io::Result<Stream> {
        let mut stream = try_tls(self.port, &self.credentials)?;
        stream.write_all(&frame(first))?;
        Ok(stream)
    }
}

/// What a node said.
pub struct Heard {
    pub from: usize,
    /// As it came.
    pub message: Vec<u8>,
    pub content: Content,
}

/// Bytes to be written, and how long that is to take.
struct Words {
    bytes: Vec<u8>,
    over: Duration,
}

/// A session; it ends when this is dropped, unless the node ends it before.
pub struct Line {
    pub route: Arc<Route>,
    /// The `Alive` that it began with.
    pub first: Vec<u8>,
    words: Sender<Words>,
    thread: JoinHandle<()>,
}

impl Line {
    /// Begins a session, if the node is there. What it says is handed on, also after a later session has
    /// taken the place of this one.
    pub fn open(route: &Arc<Route>, heard: &Sender<Heard>) -> io::Result<Self> {
        let mut stream = try_tls(route.port, &route.credentials)?;
        let alive = route.voice.alive(&stream, &route.network);
        stream.write_all(&alive)?;
        stream.get_ref().set_read_timeout(Some(LISTEN))?;
        let (words, to_be_said) = channel();
        let (from, heard) = (route.to, heard.clone());
        // How it ends is for whoever holds the line to judge.
        let thread = thread::spawn(move || {
            let _ended = hold(&mut stream, &to_be_said, |message| {
                content_of(&message).is_none_or(|content| heard.send(Heard { from, message, content }).is_ok())
            });
        });
        Ok(Self { route: route.clone(), first: alive[4..].to_vec(), words, thread })
    }

    /// The node, or the network, has ended it.
    pub fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    pub fn say(&self, content: &Content) {
        self.send(&self.route.message(content));
    }

    /// Sends these bytes as a message, in a frame of their length. On a line that is over they are lost.
    pub fn send(&self, message: &[u8]) {
        self.send_over(message, Duration::ZERO);
    }

    /// The same, a little at a time.
    pub fn send_over(&self, message: &[u8], over: Duration) {
        let _lost = self.words.send(Words { bytes: frame(message), over });
    }
}

/// Reads, writes and beats until something ends it, or nobody wants it any more.
fn hold(stream: &mut Stream, words: &Receiver<Words>, mut hand_on: impl FnMut(Vec<u8>) -> bool) -> io::Result<()> {
    let (mut unread, mut chunk, mut beat) = (Vec::new(), vec![0; 64 << 10], Instant::now());
    loop {
        match words.try_recv() {
            Ok(words) => write(stream, &words)?,
            Err(TryRecvError::Disconnected) => return Ok(()),
            Err(TryRecvError::Empty) if beat.elapsed() >= BEAT_EVERY => {
                stream.write_all(&frame(&[]))?;
                beat = Instant::now();
            }
            Err(TryRecvError::Empty) => {
                match stream.read(&mut chunk) {
                    Ok(0) => return Ok(()),
                    Ok(size) => unread.extend_from_slice(&chunk[..size]),
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                    Err(error) => return Err(error),
                }
                while let Some(message) = take_frame(&mut unread) {
                    if !message.is_empty() && !hand_on(message) {
                        return Ok(());
                    }
                }
            }
        }
    }
}

/// The first frame's message, if it is there as a whole.
fn take_frame(unread: &mut Vec<u8>) -> Option<Vec<u8>> {
    let (length, rest) = unread.split_first_chunk::<4>()?;
    let message = rest.get(..u32::from_be_bytes(*length) as usize)?.to_vec();
    unread.drain(..4 + message.len());
    Some(message)
}

fn write(stream: &mut Stream, Words { bytes, over }: &Words) -> io::Result<()> {
    if over.is_zero() {
        return stream.write_all(bytes);
    }
    for piece in bytes.chunks(bytes.len().div_ceil(PIECES as usize)) {
        stream.write_all(piece)?;
        sleep(*over / PIECES);
    }
    Ok(())
}

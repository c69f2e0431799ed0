//! Sequences of sound and broken messages, at random, against a model that says what must come of
//! each: heard once and in order, or counted once under its own reason; and when a session ends.

use std::{collections::BTreeMap, pin::Pin};

use minidlt_actors::{clock, frame::FrameReader, tls};
use minidlt_protocol::{
    codec,
    crypto::Signature,
    endorsement::{Answer, EndorsementContent, Reason, Verdict},
    limits::MAX_FRAME_BYTES,
    message::{Alive, Content, Message, PoolContent, Recipient, SyncContent},
    types::{Hash, Height},
};
use openssl::ssl::Ssl;
use tokio::{
    io::{AsyncWriteExt, ReadHalf, WriteHalf},
    net::TcpStream,
};
use tokio_openssl::SslStream;

use crate::{
    cluster::{Heard, Network, PATIENCE, TestNode, count_of, counted, gossip, identity, key, limits, vote},
    random::Random,
    raw::{Stream, alive, stamped, stamped_at},
    seed::{self, sequences},
};

/// The one that runs, whose messages are at random, and somebody else.
const VICTIM: usize = 1;
const PEER: usize = 0;
const OTHER: usize = 2;
const SEQUENCES: usize = 10;
const STEPS: usize = 40;

/// The peer's end of a connection, that need not write whole frames.
struct Connection {
    reader: FrameReader<ReadHalf<Stream>>,
    writer: WriteHalf<Stream>,
    binding: Hash,
}

impl Connection {
    async fn open(network: &Network) -> Self {
        let tcp = TcpStream::connect(network.address(VICTIM)).await.unwrap();
        let context = tls::peer_context(&network.credentials(PEER), &network.authority()).unwrap();
        let mut stream = SslStream::new(Ssl::new(&context).unwrap(), tcp).unwrap();
        Pin::new(&mut stream).connect().await.unwrap();
        let binding = tls::binding(stream.ssl(), &network.id()).unwrap();
        let (from, writer) = tokio::io::split(stream);
        Self { reader: FrameReader::new(from, MAX_FRAME_BYTES, PATIENCE), writer, binding }
    }

    async fn write(&mut self, bytes: &[u8]) {
        // The other side may have closed already.
        let _maybe_closed = self.writer.write_all(bytes).await;
        let _maybe_closed = self.writer.flush().await;
    }

    async fn send(&mut self, frame: &[u8]) {
        let length = u32::try_from(frame.len()).unwrap().to_be_bytes();
        self.write(&[&length[..], frame].concat()).await;
    }

    /// Reads until the other side has closed.
    async fn closed(&mut self) {
        while self.reader.next().await.is_ok() {}
    }
}

/// What one frame is.
#[derive(Debug, Clone, Copy)]
enum Frame {
    Alive,
    Vote,
    Gossip,
    Get,
    Answers,
    Synchronise,
    /// One of those sent before, as it was.
    Replay,
    Empty,
    Garbage,
    CutShort,
    FlippedSignature,
    FlippedContent,
    WrongSize,
    OtherSender,
    OtherRecipient,
    Early,
    Late,
    OtherKey,
    OtherNetwork,
    ForgedVote,
    EmptyProposal,
}

const FRAMES: [Frame; 21] = [
    Frame::Alive,
    Frame::Vote,
    Frame::Gossip,
    Frame::Get,
    Frame::Answers,
    Frame::Synchronise,
    Frame::Replay,
    Frame::Empty,
    Frame::Garbage,
    Frame::CutShort,
    Frame::FlippedSignature,
    Frame::FlippedContent,
    Frame::WrongSize,
    Frame::OtherSender,
    Frame::OtherRecipient,
    Frame::Early,
    Frame::Late,
    Frame::OtherKey,
    Frame::OtherNetwork,
    Frame::ForgedVote,
    Frame::EmptyProposal,
];

/// What must come of a frame.
#[derive(Debug, Clone)]
enum Fate {
    Heard(Box<Heard>),
    Refused(&'static str),
    Nothing,
}

/// What the victim must have heard since it was last looked at, and counted since it began.
#[derive(Default)]
struct Model {
    heard: Vec<Heard>,
    refused: BTreeMap<&'static str, u64>,
    ended: BTreeMap<&'static str, u64>,
    /// Of the session that stands.
    refused_in_session: u32,
    /// Sound frames, to be sent again.
    sent: Vec<(Vec<u8>, Heard)>,
}

struct Course {
    network: Network,
    victim: TestNode,
    random: Random,
    model: Model,
    connection: Connection,
    number: u64,
}

impl Course {
    async fn begin(random: Random) -> Self {
        let mut network = Network::new(3);
        let victim = network.start(VICTIM, limits()).await;
        let connection = Connection::open(&network).await;
        let mut course = Self { network, victim, random, model: Model::default(), connection, number: 0 };
        course.greet().await;
        course
    }

    /// A session anew, in place of one that ended or of one that stands.
    async fn join(&mut self) {
        // The older is held until the newer stands: it is the victim that ends it.
        let _older = std::mem::replace(&mut self.connection, Connection::open(&self.network).await);
        self.greet().await;
    }

    async fn greet(&mut self) {
        let (id, to) = (self.network.id(), Recipient::One(identity(VICTIM)));
        let alive = alive(id, Some(self.connection.binding));
        self.connection.send(&stamped(id, identity(PEER), to, &alive, &key(PEER))).await;
        self.connection.reader.next().await.expect("the other's Alive");
        self.model.heard.push(heard_of(&self.network, alive));
        self.model.refused_in_session = 0;
        self.check().await;
    }

    fn make(&mut self, frame: Frame) -> (Vec<u8>, Fate) {
        self.number += 1;
        let (id, me, to) = (self.network.id(), identity(PEER), Recipient::All);
        let said = vote(id, PEER, &key(PEER));
        let sound = |content: &Content| stamped(id, me.clone(), to.clone(), content, &key(PEER));
        let changed = |change: &dyn Fn(&mut Message)| {
            let mut message: Message = codec::decode(&sound(&said), MAX_FRAME_BYTES).unwrap();
            change(&mut message);
            codec::encode(&message)
        };
        let content = match frame {
            Frame::Alive => Some(alive_later(id, self.number)),
            Frame::Vote => Some(said.clone()),
            Frame::Gossip => Some(gossip(&self.number.to_be_bytes())),
            Frame::Get => Some(Content::Pool(PoolContent::Get { block: Hash::ZERO, leaves: vec![Hash::ZERO; 3] })),
            Frame::Answers => {
                let verdict = Verdict::Refused(Reason::new("operator", &self.number.to_string()));
                let answers = vec![Answer { id: Hash::ZERO, verdict }];
                Some(Content::Endorsement(EndorsementContent::Answers(answers)))
            }
            Frame::Synchronise => Some(Content::Sync(SyncContent::Synchronise { at: Some(Height::new(self.number)) })),
            _ => None,
        };
        if let Some(content) = content {
            let (bytes, heard) = (sound(&content), heard_of(&self.network, content));
            self.model.sent.push((bytes.clone(), heard.clone()));
            return (bytes, Fate::Heard(Box::new(heard)));
        }
        let now = clock::now();
        let refused = |bytes: Vec<u8>, reason| (bytes, Fate::Refused(reason));
        match frame {
            Frame::Replay => match self.model.sent.is_empty() {
                true => refused(vec![0xff], "malformed"),
                false => {
                    let (bytes, heard) = self.model.sent[self.random.below(self.model.sent.len())].clone();
                    (bytes, Fate::Heard(Box::new(heard)))
                }
            },
            Frame::Garbage => {
                let length = 1 + self.random.below(3_000);
                let mut bytes: Vec<u8> = (0..length).map(|_| self.random.below(256) as u8).collect();
                // Never a map, which a message is.
                bytes[0] = 0xff;
                refused(bytes, "malformed")
            }
            Frame::CutShort => {
                let mut bytes = sound(&said);
                bytes.truncate(1 + self.random.below(bytes.len() - 1));
                refused(bytes, "malformed")
            }
            Frame::FlippedSignature => {
                let at = self.random.below(64);
                let flip = move |message: &mut Message| {
                    let mut bytes = *message.payload.signature.as_bytes();
                    bytes[at] ^= 1;
                    message.payload.signature = Signature::from_bytes(bytes);
                };
                refused(changed(&flip), "bad-signature")
            }
            Frame::FlippedContent => {
                let at = self.random.below(100);
                refused(changed(&move |message| message.payload.content[at] ^= 1), "bad-signature")
            }
            Frame::WrongSize => refused(changed(&|message| message.payload.size += 1), "size"),
            Frame::OtherSender => refused(stamped(id, identity(OTHER), to.clone(), &said, &key(OTHER)), "other-sender"),
            Frame::OtherRecipient => {
                let other = Recipient::One(identity(OTHER));
                refused(stamped(id, me.clone(), other, &said, &key(PEER)), "other-recipient")
            }
            Frame::Early => {
                let at = now.plus_millis(40_000);
                refused(stamped_at(id, me.clone(), to.clone(), &said, &key(PEER), at), "time-window")
            }
            Frame::Late => {
                let at = now.minus_millis(40_000);
                refused(stamped_at(id, me.clone(), to.clone(), &said, &key(PEER), at), "time-window")
            }
            Frame::OtherKey => refused(stamped(id, me.clone(), to.clone(), &said, &key(OTHER)), "bad-signature"),
            Frame::OtherNetwork => {
                refused(stamped(Hash::ZERO, me.clone(), to.clone(), &said, &key(PEER)), "bad-signature")
            }
            Frame::EmptyProposal => {
                refused(sound(&Content::Endorsement(EndorsementContent::Propose(vec![]))), "bad-content")
            }
            Frame::ForgedVote => refused(sound(&vote(id, OTHER, &key(PEER))), "bad-content"),
            // A beat: its sender is there.
            _ => (Vec::new(), Fate::Nothing),
        }
    }

    async fn step(&mut self) {
        match self.random.below(24) {
            0 => {
                // A length beyond the bound, and nothing behind it.
                let length = (MAX_FRAME_BYTES as u32 + 1 + self.random.below(1 << 30) as u32).to_be_bytes();
                self.connection.write(&length).await;
                self.ends("oversized-frame").await;
            }
            1 => {
                let (bytes, _) = self.make(Frame::ForgedVote);
                let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
                let within = 1 + self.random.below(bytes.len());
                self.connection.write(&[&length[..], &bytes].concat()[..within]).await;
                self.leave("torn-frame").await;
            }
            2 => self.leave("closed").await,
            3 => {
                // What the older session has not read would be lost.
                self.check().await;
                *self.model.ended.entry("replaced").or_default() += 1;
                self.join().await;
            }
            4 => self.stranger().await,
            5 => self.piecemeal().await,
            _ => {
                for _ in 0..=self.random.below(3) {
                    let frame = FRAMES[self.random.below(FRAMES.len())];
                    if self.send(frame).await {
                        break;
                    }
                }
            }
        }
    }

    /// Sends a frame and expects what must come of it. Whether that was the session's end.
    async fn send(&mut self, frame: Frame) -> bool {
        let (bytes, fate) = self.make(frame);
        self.connection.send(&bytes).await;
        match fate {
            Fate::Heard(heard) => self.model.heard.push(*heard),
            Fate::Nothing => {}
            Fate::Refused(reason) => {
                *self.model.refused.entry(reason).or_default() += 1;
                self.model.refused_in_session += 1;
                if self.model.refused_in_session == limits().most_refused {
                    self.ends("too-many-refused").await;
                    return true;
                }
            }
        }
        false
    }

    /// Several sound frames, cut anywhere into writes.
    async fn piecemeal(&mut self) {
        let mut bytes = Vec::new();
        for _ in 0..3 {
            let (frame, fate) = self.make(Frame::Gossip);
            let Fate::Heard(heard) = fate else { unreachable!("a sound frame") };
            self.model.heard.push(*heard);
            bytes.extend(u32::try_from(frame.len()).unwrap().to_be_bytes());
            bytes.extend(frame);
        }
        while !bytes.is_empty() {
            let rest = bytes.split_off(1 + self.random.below(bytes.len().min(300)));
            self.connection.write(&bytes).await;
            bytes = rest;
        }
    }

    /// The victim ends the session, for this reason; then there is another.
    async fn ends(&mut self, reason: &'static str) {
        self.connection.closed().await;
        *self.model.ended.entry(reason).or_default() += 1;
        self.join().await;
    }

    /// The peer ends it: what it sent before is read first.
    async fn leave(&mut self, reason: &'static str) {
        self.connection.writer.shutdown().await.unwrap();
        self.ends(reason).await;
    }

    /// A connection that becomes no session, beside the one that stands.
    async fn stranger(&mut self) {
        let (id, to) = (self.network.id(), Recipient::One(identity(VICTIM)));
        let refused = self.victim.metrics.clone();
        let before = count_of(&refused.connections_refused, "other-binding");
        let mut stranger = Connection::open(&self.network).await;
        stranger.send(&stamped(id, identity(PEER), to, &alive(id, Some(Hash::ZERO)), &key(PEER))).await;
        stranger.closed().await;
        counted(&refused.connections_refused, "other-binding", before + 1).await;
    }

    /// All that was sound is heard, in order, and all that was not is counted, once.
    async fn check(&mut self) {
        for expected in std::mem::take(&mut self.model.heard) {
            let heard = self.victim.hear(|heard| !matches!(heard, Heard::Changed(..))).await;
            assert_eq!(heard, expected);
        }
        let metrics = &self.victim.metrics;
        for (family, expected) in
            [(&metrics.messages_refused, &self.model.refused), (&metrics.sessions_ended, &self.model.ended)]
        {
            for (reason, count) in expected {
                counted(family, reason, *count).await;
                assert_eq!(count_of(family, reason), *count, "{reason}");
            }
        }
    }

    /// Whatever was counted in all: nothing under a reason that was not expected.
    fn assert_nothing_else_is_counted(&self) {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.victim.metrics.registry).unwrap();
        for (family, expected) in [("messages_refused", &self.model.refused), ("sessions_ended", &self.model.ended)] {
            let begin = format!("minidlt_{family}_total{{");
            let lines = text.lines().filter(|line| line.starts_with(&begin));
            let counts = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
            assert_eq!(counts.sum::<u64>(), expected.values().sum::<u64>(), "{family}: {expected:?}\n{text}");
        }
    }
}

fn alive_later(network: Hash, height: u64) -> Content {
    Content::Sync(SyncContent::Alive(Alive { network, height: Height::new(height), head: Hash::ZERO, binding: None }))
}

fn heard_of(network: &Network, content: Content) -> Heard {
    match content {
        Content::Pool(content) => Heard::Pool(identity(PEER), content),
        Content::Sync(content) => Heard::Sync(identity(PEER), content),
        Content::Consensus(content) => {
            let checked = content.verify(&network.id(), &network.registry().orderers()).unwrap();
            Heard::Consensus(identity(PEER), checked)
        }
        Content::Endorsement(content) => Heard::Endorsement(identity(PEER), content),
        Content::Text(_) => unreachable!("a text is for the log"),
    }
}

#[actix_rt::test]
async fn whatever_a_peer_sends_is_heard_or_counted_once_and_the_node_serves_on() {
    let mut course = Course::begin(seed::random()).await;
    for sequence in 0..sequences(SEQUENCES) {
        for _ in 0..STEPS {
            course.step().await;
        }
        course.leave("closed").await;
        course.assert_nothing_else_is_counted();
        println!("sequence {sequence}: refused {:?}, ended {:?}", course.model.refused, course.model.ended);
        // What is replayed must still be of its time.
        course.model.sent.clear();
    }
    course.send(Frame::Gossip).await;
    course.check().await;
    assert!(course.model.refused.len() > 5 && course.model.ended.len() > 3);
}

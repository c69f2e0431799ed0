//! The handshake: TLS, then an `Alive` each way.
//!
//! ```text
//! dialling node                              accepting node
//!   TCP, TLS 1.3, both certificates: CA of the organisation, an enrolled node
//!   Alive{network, height, head, binding} →  ← Alive{network, height, head, binding}
//!   checks stamp, sender, network, binding     checks the same
//! ```
//!
//! TLS proves who holds the certificate's key, the stamp who holds the node's own key, and the
//! binding that both are at the two ends of this one connection: somebody in the middle, even with
//! a stolen or wrongly issued certificate, cannot forward an `Alive`.
//!
//! Of two nodes the one with the smaller identity dials, so that both never choose differently between
//! two connections: a newer one is meant to replace the older. It may try again beside an attempt that has
//! fallen silent; what is left of that may come to stand later, and replaces nothing: which is newer is
//! told by when it was connected.

use std::{io, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use minidlt_config::tls::Validity;
use minidlt_protocol::{
    codec,
    limits::MAX_FRAME_BYTES,
    message::{Alive, Content, Message, MessageError, Recipient, SyncContent},
    types::{Hash, Identity},
};
use openssl::{ssl::SslRef, x509::X509VerifyResult};
use socket2::SockRef;
use tokio::{
    io::{ReadHalf, WriteHalf},
    net::TcpStream,
    time::{Instant, sleep_until, timeout},
};
use tokio_openssl::SslStream;

use super::{connect::connect, ended::Ended};
use crate::{
    frame::{FrameError, FrameReader, FrameWriter, MAX_HANDSHAKE_FRAME_BYTES},
    members::Members,
    messages::{
        network::Routes,
        signer::StampOne,
        verifier::{Open, Opened},
    },
    progress::{Progress, Watched, Way},
    tls::{self, Current, Live, TlsRefusal},
};

/// So few bytes wait in the system to be sent, beyond those that are on their way: what waits there
/// is overtaken by nothing, and while it is much the other side takes it unseen.
const UNSENT_BYTES: u32 = 64 << 10;

type Stream = SslStream<Watched<TcpStream>>;

/// A connection whose other end has proved who it is.
pub struct Established {
    pub peer: Identity,
    pub address: SocketAddr,
    /// When it was connected.
    pub began: Instant,
    /// How long the certificate lasts that it showed.
    pub certificate: Option<Validity>,
    pub alive: Alive,
    pub reader: FrameReader<ReadHalf<Stream>>,
    pub writer: FrameWriter<WriteHalf<Stream>>,
}

/// What it takes to shake hands.
pub struct Handshaker {
    pub me: Identity,
    pub network: Hash,
    pub members: Members,
    pub tls: Arc<Live>,
    pub routes: Routes,
    /// For all of it, from connecting to the other's `Alive`.
    pub limit: Duration,
    /// How long nothing may come: on the connection that results, and to one who dials before that.
    pub idle: Duration,
    /// How long nothing may come to one who dials before another attempt begins beside it.
    pub beside: Duration,
    /// How long nothing may be taken.
    pub stall: Duration,
}

impl Handshaker {
    /// Shakes hands with whoever connected.
    pub async fn accept(&self, tcp: TcpStream, address: SocketAddr) -> Result<Established, Ended> {
        let began = Instant::now();
        let shaking = async {
            let progress = Progress::new();
            let tls = self.tls.now();
            let mut stream = stream(&tls, tcp, &progress)?;
            let accepted = Pin::new(&mut stream).accept().await;
            accepted.map_err(|error| tls_failed(error, stream.ssl()))?;
            let peer = self.identify(&tls, stream.ssl())?;
            if peer >= self.me {
                return Err(Ended::WrongSide(peer));
            }
            self.greet(stream, progress, peer, (address, began)).await
        };
        timeout(self.limit, shaking).await.map_err(|_| Ended::HandshakeTimeout)?
    }

    /// Connects to a node at one of its addresses and shakes hands with it. Where that falls silent
    /// another attempt begins beside it, and the first to succeed wins: TCP sends again what a network lost
    /// before it was healed, but as late as after 3 s where it had lost a SYN, too (RFC 6298, 5.7).
    pub async fn dial(&self, node: &Identity, addresses: &[SocketAddr]) -> Result<Established, Ended> {
        let deadline = Instant::now() + self.limit;
        let mut shaking = FuturesUnordered::new();
        let mut newest: Option<Arc<Progress>> = None;
        loop {
            let connecting = async {
                if let Some(progress) = &newest {
                    progress.still(Way::In, self.beside).await;
                }
                connect(addresses).await
            };
            tokio::select! {
                connected = connecting => match connected {
                    Ok(tcp) => {
                        let progress = Progress::new();
                        newest = Some(progress.clone());
                        shaking.push(async move {
                            progress.unless_still(Way::In, self.idle, self.shake(node, tcp, progress.clone())).await
                        });
                    }
                    Err(error) if shaking.is_empty() => return Err(Ended::Unreachable(error)),
                    // Those under way may yet succeed; the next attempt is a while away.
                    Err(_) => newest = Some(Progress::new()),
                },
                Some(shaken) = shaking.next(), if !shaking.is_empty() => match shaken {
                    Some(Err(_)) if !shaking.is_empty() => {}
                    Some(result) => return result,
                    // Given up; another is under way, or begins now.
                    None => {}
                },
                () = sleep_until(deadline) => return Err(match shaking.is_empty() {
                    true => Ended::Unreachable(io::ErrorKind::TimedOut.into()),
                    false => Ended::HandshakeTimeout,
                }),
            }
        }
    }

    async fn shake(&self, node: &Identity, tcp: TcpStream, progress: Arc<Progress>) -> Result<Established, Ended> {
        let (address, began) = (tcp.peer_addr().map_err(Ended::Unreachable)?, Instant::now());
        let tls = self.tls.now();
        let mut stream = stream(&tls, tcp, &progress)?;
        let connected = Pin::new(&mut stream).connect().await;
        connected.map_err(|error| tls_failed(error, stream.ssl()))?;
        let found = self.identify(&tls, stream.ssl())?;
        if found != *node {
            return Err(Ended::OtherNode { expected: node.clone(), found });
        }
        self.greet(stream, progress, found, (address, began)).await
    }

    fn identify(&self, tls: &Current, ssl: &SslRef) -> Result<Identity, TlsRefusal> {
        let identity = tls.authority.identify(ssl)?;
        match self.members.hears(&identity) {
            true => Ok(identity),
            false => Err(TlsRefusal::NotANode(identity)),
        }
    }

    async fn greet(
        &self,
        stream: Stream,
        progress: Arc<Progress>,
        peer: Identity,
        (address, began): (SocketAddr, Instant),
    ) -> Result<Established, Ended> {
        let binding = tls::binding(stream.ssl(), &self.network)?;
        let certificate = stream.ssl().peer_certificate().and_then(|shown| Validity::of(&shown).ok());
        let (from, to) = tokio::io::split(stream);
        let mut reader = FrameReader::new(from, MAX_HANDSHAKE_FRAME_BYTES, self.limit).measured_by(progress.clone());
        let mut writer = FrameWriter::new(to, self.stall).measured_by(progress);
        writer.write(&self.alive(&peer, binding).await?).await?;
        writer.flush().await?;
        let alive = self.check(reader.next().await?, &peer, binding).await?;
        reader.set_limits(MAX_FRAME_BYTES, self.idle);
        Ok(Established { peer, address, began, certificate, alive, reader, writer })
    }

    /// This node's `Alive`, for this peer on this connection.
    async fn alive(&self, peer: &Identity, binding: Hash) -> Result<Bytes, Ended> {
        let head = self.members.head();
        let alive = Alive { network: self.network, height: head.height, head: head.hash, binding: Some(binding) };
        let content = Content::Sync(SyncContent::Alive(alive));
        Ok(self.routes.stamp.send(StampOne { recipient: Recipient::One(peer.clone()), content }).await?)
    }

    async fn check(&self, frame: Bytes, peer: &Identity, binding: Hash) -> Result<Alive, Ended> {
        let opened = self.routes.urgent.send(Open { frame: frame.clone(), connected: peer.clone() }).await?;
        let alive = match opened {
            Ok(Opened::Sync(SyncContent::Alive(alive))) => alive,
            Ok(_) => return Err(Ended::NotAlive),
            Err(error) => return Err(self.explain(error, &frame)),
        };
        if alive.network != self.network {
            return Err(Ended::OtherNetwork { theirs: alive.network, ours: self.network });
        }
        if alive.binding != Some(binding) {
            return Err(Ended::OtherBinding);
        }
        Ok(alive)
    }

    /// A stamp of another network fails as a signature does, the network being part of what is
    /// signed. Where the message itself says so, that is the better reason; nothing else is made
    /// of what it says.
    fn explain(&self, error: MessageError, frame: &[u8]) -> Ended {
        let said = || {
            let message: Message = codec::decode(frame, MAX_HANDSHAKE_FRAME_BYTES).ok()?;
            codec::decode::<Content>(&message.payload.content, MAX_HANDSHAKE_FRAME_BYTES).ok()
        };
        match (&error, said()) {
            (MessageError::Signature { .. }, Some(Content::Sync(SyncContent::Alive(alive))))
                if alive.network != self.network =>
            {
                Ended::OtherNetwork { theirs: alive.network, ours: self.network }
            }
            _ => Ended::Message(error),
        }
    }
}

/// TLS over a connection whose bytes are noted as they move.
fn stream(tls: &Current, tcp: TcpStream, progress: &Arc<Progress>) -> Result<Stream, Ended> {
    let unsent = SockRef::from(&tcp).set_tcp_notsent_lowat(UNSENT_BYTES);
    tcp.set_nodelay(true).and(unsent).map_err(FrameError::Io)?;
    Ok(SslStream::new(tls::connection(&tls.peer)?, Watched::new(tcp, progress.clone()))?)
}

fn tls_failed(error: openssl::ssl::Error, ssl: &SslRef) -> Ended {
    match ssl.verify_result() {
        X509VerifyResult::OK => Ended::Tls(error.to_string()),
        refused => {
            let subject = tls::refused_subject(ssl).unwrap_or_else(|| "nobody".into());
            Ended::UntrustedCertificate { subject, reason: refused.error_string().to_owned() }
        }
    }
}

//! The other end of a connection, in the hands of a test.

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use minidlt_actors::{
    clock,
    frame::{FrameError, FrameReader, FrameWriter},
    tls::{self, Authority, Credentials},
};
use minidlt_protocol::{
    codec,
    crypto::SecretKey,
    limits::MAX_FRAME_BYTES,
    message::{Alive, Content, Message, Recipient, SyncContent},
    types::{Hash, Height, Identity, Timestamp},
};
use openssl::ssl::{Ssl, SslRef};
use tokio::{
    io::{ReadHalf, WriteHalf},
    net::TcpStream,
};
use tokio_openssl::SslStream;

use crate::cluster::{Network, PATIENCE, TestNode, identity, key};

pub type Stream = SslStream<TcpStream>;

pub struct Raw {
    pub reader: FrameReader<ReadHalf<Stream>>,
    pub writer: FrameWriter<WriteHalf<Stream>>,
    pub binding: Hash,
}

impl Raw {
    /// TLS alone.
    pub async fn connect(address: &str, credentials: &Credentials, authority: &Arc<Authority>, network: Hash) -> Self {
        let tcp = TcpStream::connect(address).await.unwrap();
        let context = tls::peer_context(credentials, authority).unwrap();
        let mut stream = SslStream::new(Ssl::new(&context).unwrap(), tcp).unwrap();
        // What the server thinks of our certificate shows only on reading: TLS 1.3.
        Pin::new(&mut stream).connect().await.unwrap();
        Self::over(stream, network)
    }

    pub fn over(stream: Stream, network: Hash) -> Self {
        let binding = binding(stream.ssl(), network);
        let (from, to) = tokio::io::split(stream);
        let reader = FrameReader::new(from, MAX_FRAME_BYTES, PATIENCE);
        Self { reader, writer: FrameWriter::new(to, PATIENCE), binding }
    }

    /// As node `n` should, up to and including the handshake with node `with`.
    pub async fn join(network: &Network, n: usize, with: usize) -> Self {
        Self::join_by(network, n, &network.credentials(n), with).await
    }

    /// The same with a certificate of one's choice.
    pub async fn join_by(network: &Network, n: usize, credentials: &Credentials, with: usize) -> Self {
        let id = network.id();
        let mut raw = Self::connect(network.address(with), credentials, &network.authority(), id).await;
        let alive = alive(id, Some(raw.binding));
        raw.send(&stamped(id, identity(n), Recipient::One(identity(with)), &alive, &key(n))).await;
        raw.receive().await.expect("the other's Alive");
        raw
    }

    pub async fn send(&mut self, frame: &[u8]) {
        // The other side may have closed already: that is what the tests are about.
        let _maybe_closed = self.writer.write(frame).await;
        let _maybe_closed = self.writer.flush().await;
    }

    pub async fn receive(&mut self) -> Result<Bytes, FrameError> {
        self.reader.next().await
    }

    /// Reads until the other side closes.
    pub async fn closed(&mut self) -> Duration {
        let since = std::time::Instant::now();
        loop {
            match self.receive().await {
                Ok(_) => {}
                Err(FrameError::Idle(_)) => panic!("the connection was not closed"),
                Err(_) => return since.elapsed(),
            }
        }
    }
}

fn binding(ssl: &SslRef, network: Hash) -> Hash {
    tls::binding(ssl, &network).unwrap()
}

pub fn alive(network: Hash, binding: Option<Hash>) -> Content {
    let alive = Alive { network, height: Height::new(7), head: Hash::ZERO, binding };
    Content::Sync(SyncContent::Alive(alive))
}

pub fn stamped(network: Hash, sender: Identity, to: Recipient, content: &Content, key: &SecretKey) -> Vec<u8> {
    stamped_at(network, sender, to, content, key, clock::now())
}

pub fn stamped_at(
    network: Hash,
    sender: Identity,
    to: Recipient,
    content: &Content,
    key: &SecretKey,
    at: Timestamp,
) -> Vec<u8> {
    codec::encode(&Message::stamp(&network, sender, to, at, content, key))
}

/// Whatever happened before: an honest node 0 still comes through to node 1.
pub async fn still_serving(network: &Network, victim: &mut TestNode) {
    let honest = Raw::join(network, 0, 1).await;
    victim.hear_change(0, true).await;
    drop(honest);
    victim.hear_change(0, false).await;
}

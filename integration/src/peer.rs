//! The other end of a connection with a node, in the hands of a test.

use std::{
    fs,
    io::{self, Read, Write},
    net::TcpStream,
    path::Path,
    time::{Duration, Instant},
};

use minidlt_protocol::{
    codec,
    crypto::{Domain, SecretKey, digest},
    limits::MAX_FRAME_BYTES,
    message::{Alive, Content, Message, Payload, Recipient, SyncContent},
    types::{Hash, Height, Identity, Timestamp},
    vote::{Proposal, SignedProposal, SignedVote, Vote},
};
use openssl::{
    asn1::Asn1Time,
    bn::BigNum,
    ec::{EcGroup, EcKey},
    error::ErrorStack,
    hash::MessageDigest,
    nid::Nid,
    pkey::{PKey, Private},
    ssl::{Ssl, SslContext, SslMethod, SslRef, SslStream, SslVersion},
    x509::{
        X509, X509NameBuilder,
        extension::{ExtendedKeyUsage, SubjectAlternativeName},
    },
};

use crate::{Cluster, PATIENCE, now, secret_key};

pub type Stream = SslStream<TcpStream>;

/// A certificate and its key.
pub struct Credentials {
    certificate: X509,
    key: PKey<Private>,
}

impl Credentials {
    /// Those of the node or user of this directory.
    pub fn of(directory: &Path) -> Self {
        let certificate = X509::from_pem(&read(&directory.join("tls.crt"))).expect("a certificate");
        let key = PKey::private_key_from_pem(&read(&directory.join("tls.key"))).expect("a key");
        Self { certificate, key }
    }

    /// Puts them in the place of a member's.
    pub fn write(&self, directory: &Path) {
        let (certificate, key) = (self.certificate.to_pem(), self.key.private_key_to_pem_pkcs8());
        for (name, pem) in [("tls.crt", certificate), ("tls.key", key)] {
            // What is there keeps its mode.
            fs::write(directory.join(name), pem.expect("PEM")).expect("written");
        }
    }

    /// What an organisation's own CA issues to a node of this name, for a day.
    pub fn issue(cluster: &Cluster, name: &str, organisation: &str) -> Self {
        Self::issue_until(cluster, name, organisation, 24 * 3_600)
    }

    /// The same, until so many seconds from now, or so many ago.
    pub fn issue_until(cluster: &Cluster, name: &str, organisation: &str, seconds: i64) -> Self {
        let ca = cluster.network().join("organisations").join(organisation);
        let issuer = X509::from_pem(&read(&ca.join("ca.crt"))).expect("the CA's certificate");
        let issuers_key = PKey::private_key_from_pem(&read(&ca.join("ca.key"))).expect("the CA's key");
        issue(name, organisation, (&issuer, &issuers_key), seconds).expect("a certificate")
    }
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn issue(
    name: &str,
    organisation: &str,
    (issuer, issuers_key): (&X509, &PKey<Private>),
    seconds: i64,
) -> Result<Credentials, ErrorStack> {
    let key = PKey::from_ec_key(EcKey::generate(&*EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?)?)?;
    let mut subject = X509NameBuilder::new()?;
    subject.append_entry_by_nid(Nid::ORGANIZATIONNAME, organisation)?;
    subject.append_entry_by_nid(Nid::COMMONNAME, name)?;
    let subject = subject.build();
    let until = now().millis() as i64 / 1_000 + seconds;
    let (from, until) = (Asn1Time::from_unix(until - 48 * 3_600)?, Asn1Time::from_unix(until)?);
    let serial = BigNum::from_u32(1)?.to_asn1_integer()?;
    let mut builder = X509::builder()?;
    builder.set_version(2)?;
    builder.set_serial_number(&serial)?;
    builder.set_subject_name(&subject)?;
    builder.set_issuer_name(issuer.subject_name())?;
    builder.set_not_before(&from)?;
    builder.set_not_after(&until)?;
    builder.set_pubkey(&key)?;
    builder.append_extension(ExtendedKeyUsage::new().server_auth().client_auth().build()?)?;
    let names =
        SubjectAlternativeName::new().dns("localhost").ip("127.0.0.1").build(&builder.x509v3_context(None, None))?;
    builder.append_extension(names)?;
    builder.sign(issuers_key, MessageDigest::sha256())?;
    Ok(Credentials { certificate: builder.build(), key })
}

/// A connection to this port, on which nothing is said yet.
pub fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("the port is open");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    stream
}

/// A client's end of TLS. What a node thinks of its certificate shows on reading only: TLS 1.3.
pub fn client(credentials: Option<&Credentials>, newest: SslVersion) -> Ssl {
    let make = || {
        let mut context = SslContext::builder(SslMethod::tls())?;
        context.set_max_proto_version(Some(newest))?;
        if let Some(Credentials { certificate, key }) = credentials {
            context.set_certificate(certificate)?;
            context.set_private_key(key)?;
        }
        Ssl::new(&context.build())
    };
    make().expect("a client's end")
}

/// TLS 1.3 with these credentials, which the node takes to be of one of its network.
pub fn tls(port: u16, credentials: &Credentials) -> Stream {
    try_tls(port, credentials).expect("TLS stands")
}

/// The same with a node that may not be there.
pub fn try_tls(port: u16, credentials: &Credentials) -> io::Result<Stream> {
    let tcp = TcpStream::connect(("127.0.0.1", port))?;
    tcp.set_read_timeout(Some(PATIENCE))?;
    tcp.set_nodelay(true)?;
    let mut stream = SslStream::new(client(Some(credentials), SslVersion::TLS1_3), tcp)?;
    stream.connect().map_err(io::Error::other)?;
    Ok(stream)
}

/// The first message of a TLS client, which nobody answers.
pub fn client_hello() -> Vec<u8> {
    let unanswered = Unanswered(Vec::new());
    let mut stream = SslStream::new(client(None, SslVersion::TLS1_3), unanswered).expect("a stream");
    assert!(stream.connect().is_err(), "it waits for an answer");
    stream.get_ref().0.clone()
}

/// Keeps what is written to it.
struct Unanswered(Vec<u8>);

impl Read for Unanswered {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl Write for Unanswered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads until the node closes the connection; how long it stood since.
pub fn closed(mut stream: impl Read, since: Instant) -> Duration {
    let mut sink = [0; 4096];
    loop {
        match stream.read(&mut sink) {
            Ok(0) => return since.elapsed(),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                panic!("the node did not close the connection")
            }
            // A reset closes, and an alert says why.
            Err(_) => return since.elapsed(),
        }
    }
}

/// The node whose key this is, as it speaks once TLS stands.
pub struct Voice {
    me: Identity,
    to: Identity,
    key: SecretKey,
}

impl Voice {
    /// Of one node of a cluster, to another.
    pub fn of(cluster: &Cluster, node: usize, to: usize) -> Self {
        let nodes = cluster.genesis().nodes;
        let key = secret_key(&cluster.node(node).join("node.key"));
        Self { me: nodes[node].identity(), to: nodes[to].identity(), key }
    }

    /// The frame of an `Alive` for this very connection, as of a node of `network` at genesis.
    pub fn alive(&self, stream: &Stream, network: &Hash) -> Vec<u8> {
        let binding = Some(binding(stream.ssl(), network));
        let alive = Alive { network: *network, height: Height::GENESIS, head: *network, binding };
        self.say(network, &Content::Sync(SyncContent::Alive(alive)))
    }

    /// A frame that says this now.
    pub fn say(&self, network: &Hash, content: &Content) -> Vec<u8> {
        frame(&codec::encode(&self.stamp(network, &codec::encode(content), now())))
    }

    /// A message with these bytes as its content, whatever they are, as of this time.
    pub fn stamp(&self, network: &Hash, content: &[u8], timestamp: Timestamp) -> Message {
        let (recipient, size) = (Recipient::One(self.to.clone()), content.len() as u64);
        let (who, whom) = (codec::encode(&self.me), codec::encode(&recipient));
        let (length, time) = (size.to_be_bytes(), timestamp.millis().to_be_bytes());
        let signature = self.key.sign(&digest(Domain::Message, network, &[&who, &whom, &length, &time, content]));
        let payload = Payload { size, timestamp, signature, content: content.to_vec().into() };
        Message { sender: self.me.clone(), recipient, payload }
    }

    /// This vote in its own name.
    pub fn vote(&self, network: &Hash, vote: Vote) -> SignedVote {
        let signature = self.key.sign(&vote.digest(network));
        SignedVote { voter: self.me.clone(), vote, signature }
    }

    /// This proposal in its own name.
    pub fn proposal(&self, network: &Hash, proposal: Proposal) -> SignedProposal {
        let signature = self.key.sign(&proposal.digest(network));
        SignedProposal { proposer: self.me.clone(), proposal, signature }
    }
}

/// RFC 9266, as `protocol/README.md` has it: the exporter of this connection, digested.
fn binding(ssl: &SslRef, network: &Hash) -> Hash {
    let mut exported = [0; 32];
    ssl.export_keying_material(&mut exported, "EXPORTER-Channel-Binding", Some(&[])).expect("an exporter");
    digest(Domain::Alive, network, &[&exported])
}

/// Its length in four bytes, then the message.
pub fn frame(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("a small message");
    [&length.to_be_bytes(), message].concat()
}

/// What a message says, if it is one. Who signed it is not asked.
pub fn content_of(message: &[u8]) -> Option<Content> {
    let message: Message = codec::decode(message, MAX_FRAME_BYTES).ok()?;
    codec::decode(&message.payload.content, MAX_FRAME_BYTES).ok()
}

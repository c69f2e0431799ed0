//! A client that keeps its connection, for loads that would spend the machine on starting `curl`. As
//! much of HTTP/1.1 as the API answers with; it gives up when it is told to, not when the node is.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use openssl::ssl::{SslConnector, SslFiletype, SslMethod, SslStream, SslVersion};

use crate::Cluster;

/// How long connecting may take, and each step of TLS.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// An answer larger than this is none that a load asks for.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// A user's connection with the API of one node. Its sockets belong to the place of the thread that
/// uses it.
pub struct Client {
    connector: SslConnector,
    host: String,
    address: SocketAddr,
    stream: Option<BufReader<SslStream<TcpStream>>>,
}

impl Client {
    pub fn new(cluster: &Cluster, node: usize, user: &str) -> Self {
        let directory = cluster.user(user);
        let mut builder = SslConnector::builder(SslMethod::tls_client()).expect("TLS");
        builder.set_min_proto_version(Some(SslVersion::TLS1_3)).expect("TLS 1.3");
        builder.set_ca_file(cluster.network().join("ca.crt")).expect("the CAs");
        builder.set_certificate_chain_file(directory.join("tls.crt")).expect("the user's certificate");
        builder.set_private_key_file(directory.join("tls.key"), SslFiletype::PEM).expect("its key");
        let host = cluster.host(node);
        let address = host.parse::<IpAddr>().unwrap_or(Ipv4Addr::LOCALHOST.into());
        Self {
            connector: builder.build(),
            host,
            address: SocketAddr::new(address, cluster.api_port(node)),
            stream: None,
        }
    }

    /// A request; its status and body, or that no whole answer came within this time.
    pub fn request(&mut self, head: &str, body: &[u8], within: Duration) -> io::Result<(u16, String)> {
        let answer = self.exchange(head, body, within);
        if answer.is_err() {
            // What may still come must not be taken for the next answer.
            self.stream = None;
        }
        answer
    }

    /// Connects anew for the next request.
    pub fn disconnect(&mut self) {
        self.stream = None;
    }

    /// Sends a transaction, and waits so long for it to be committed.
    pub fn submit(&mut self, transaction: &[u8], wait: Duration) -> io::Result<(u16, String)> {
        let path = format!("/v1/transactions?wait=committed&timeout={}ms", wait.as_millis());
        let head = format!("POST {path} HTTP/1.1\r\ncontent-type: {}\r\n", crate::CBOR);
        self.request(&head, transaction, wait + CONNECT_WITHIN)
    }

    fn exchange(&mut self, head: &str, body: &[u8], within: Duration) -> io::Result<(u16, String)> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.connect()?,
        };
        stream.get_ref().get_ref().set_read_timeout(Some(within))?;
        let request = format!("{head}host: {}\r\ncontent-length: {}\r\n\r\n", self.host, body.len());
        // One write, so that it is one record.
        stream.get_mut().write_all(&[request.as_bytes(), body].concat())?;
        let answer = read_answer(&mut stream)?;
        self.stream = Some(stream);
        Ok(answer)
    }

    fn connect(&self) -> io::Result<BufReader<SslStream<TcpStream>>> {
        let stream = TcpStream::connect_timeout(&self.address, CONNECT_WITHIN)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(CONNECT_WITHIN))?;
        stream.set_write_timeout(Some(CONNECT_WITHIN))?;
        self.connector.connect(&self.host, stream).map(BufReader::new).map_err(io::Error::other)
    }
}

fn read_answer(stream: &mut impl BufRead) -> io::Result<(u16, String)> {
    let (status, length) = loop {
        let (status, length) = read_head(stream)?;
        // Interim answers, such as 100, come first.
        if status >= 200 {
            break (status, length);
        }
    };
    let length = length.filter(|length| *length <= MAX_ANSWER_BYTES);
    let mut body = vec![0; length.ok_or_else(|| io::Error::other("an answer without its length, or too long"))?];
    stream.read_exact(&mut body)?;
    String::from_utf8(body).map(|body| (status, body)).map_err(io::Error::other)
}

fn read_head(stream: &mut impl BufRead) -> io::Result<(u16, Option<usize>)> {
    let first = line(stream)?;
    let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("not a status line: {first:?}")))?;
    let mut length = None;
    loop {
        let header = line(stream)?;
        match header.split_once(':') {
            None => return Ok((status, length)),
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.trim().parse().ok(),
            Some(_) => {}
        }
    }
}

fn line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if stream.take(MAX_ANSWER_BYTES as u64).read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line)
}

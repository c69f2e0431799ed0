//! One caller cannot keep the others from their node: each has its share of every bound and no more.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use actix_web::web::block;
use awc::http::Method;
use minidlt_actors::{admin::Limits, metrics::Reason};
use minidlt_protocol::{
    codec,
    transaction::{Content, Operation, SignedTransaction},
};
use openssl::ssl::SslStream;
use serde_json::json;
use socket2::{Domain, Socket, Type};
use tokio::time::sleep;

use super::{
    network::{ADMIN, TRADER, key_of},
    node::{Answer, Node},
};

const PATH: &str = "/v1/transactions";
const CBOR: &str = "application/cbor";
/// Until what was begun is sure to be under way.
const A_WHILE: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(10);

/// That it was refused for the trader's own share.
fn assert_share_full(answer: &Answer) {
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (429, "caller-share-full"), "{}", answer.text);
    assert_eq!(answer.header("retry-after"), "1");
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.starts_with(&format!("{TRADER} has its own share of this node in use, ")), "{detail}");
}

/// Submits, and waits for a commit that does not come.
async fn wait(node: &Node, who: &str, nonce: u64) -> Answer {
    let body = codec::encode(&node.network.signed(who, nonce));
    node.call(who, Method::POST, &format!("{PATH}?wait=committed&timeout=2s"), CBOR, body).await
}

#[actix_web::test]
async fn of_requests() {
    let node = Node::with(Limits { requests: 8, ..Limits::default() });
    let later = async {
        sleep(A_WHILE).await;
        (node.get(TRADER, "/v1/users").await, node.get(ADMIN, "/v1/users").await)
    };
    let (first, second, (own, other)) = tokio::join!(wait(&node, TRADER, 1), wait(&node, TRADER, 2), later);
    assert_eq!([first, second, other].map(|answer| answer.status.as_u16()), [202, 202, 200]);
    assert_share_full(&own);
    assert_eq!(node.get(TRADER, "/v1/users").await.status, 200, "it was given back");
}

/// Over HTTP/2 a caller may ask as often as it likes on one connection, and read no answer.
#[actix_web::test]
async fn of_requests_whose_answers_are_never_read() {
    let node = Node::with(Limits { requests: 8, ..Limits::default() });
    let mut connector = node.connector(Some(&node.network.paper(TRADER, "Org01")));
    connector.set_alpn_protos(b"\x02h2").unwrap();
    let ssl = connector.build().configure().unwrap().into_ssl("localhost").unwrap();
    let tcp = tokio::net::TcpStream::connect(node.running.address).await.unwrap();
    let mut tls = tokio_openssl::SslStream::new(ssl, tcp).unwrap();
    std::pin::Pin::new(&mut tls).connect().await.unwrap();
    // Heads of answers come, and not a byte of their bodies is taken.
    let taking_nothing = h2::client::Builder::new().initial_window_size(0).handshake::<_, actix_web::web::Bytes>(tls);
    let (mut requests, connection) = taking_nothing.await.unwrap();
    let connection = actix_web::rt::spawn(connection);
    let mut unread = Vec::new();
    for _ in 0..40 {
        requests = requests.ready().await.unwrap();
        let request = http::Request::get("https://localhost/v1/users").body(()).unwrap();
        let (answer, _) = requests.send_request(request, true).unwrap();
        unread.push(answer.await.unwrap());
    }
    let refused = unread.iter().filter(|answer| answer.status() == http::StatusCode::TOO_MANY_REQUESTS).count();
    assert_eq!(refused, 40 - 2, "a quarter of eight are served");
    assert_eq!(node.get(ADMIN, "/v1/users").await.status, 200, "others have their places");
    connection.abort();
}

#[actix_web::test]
async fn of_waiting_for_commits() {
    let node = Node::with(Limits { waiters: 4, ..Limits::default() });
    let later = async {
        sleep(A_WHILE).await;
        tokio::join!(wait(&node, TRADER, 2), wait(&node, ADMIN, 3))
    };
    let (first, (own, other)) = tokio::join!(wait(&node, TRADER, 1), later);
    assert_eq!((first.status.as_u16(), other.status.as_u16()), (202, 202));
    assert_share_full(&own);
    assert_eq!(node.get(TRADER, "/v1/status").await.json()["mempool"]["transactions"], 2, "it was not submitted");
}

/// A TLS connection from 127.0.0.`host`: all of 127.0.0.0/8 is this machine.
async fn connect(node: &Node, who: &str, host: u8) -> SslStream<TcpStream> {
    let connector = node.connector(Some(&node.network.paper(who, "Org01"))).build();
    let address = node.running.address;
    let connected = block(move || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, host], 0)).into()).unwrap();
        socket.connect(&address.into()).unwrap();
        connector.connect("localhost", TcpStream::from(socket)).unwrap()
    });
    connected.await.unwrap()
}

/// Sends this much of a request, and hands the connection back.
async fn begin(node: &Node, who: &str, request: Vec<u8>) -> SslStream<TcpStream> {
    let mut stream = connect(node, who, 1).await;
    let begun = block(move || {
        stream.write_all(&request).unwrap();
        stream
    });
    begun.await.unwrap()
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").into_bytes()
}

/// What comes until the connection ends, however it does.
async fn rest(mut stream: SslStream<TcpStream>) -> String {
    let read = block(move || {
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    });
    read.await.unwrap()
}

#[actix_web::test]
async fn of_room_for_bodies() {
    const SENT: usize = 60_000;
    let node = Node::with(Limits { body_bytes: 64 << 10, bodies_bytes: 256 << 10, ..Limits::default() });
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {CBOR}\r\nContent-Length: {}\r\n\r\n",
        SENT + 1
    );
    let unfinished = [head.into_bytes(), vec![0; SENT]].concat();
    let _first = begin(&node, TRADER, unfinished.clone()).await;
    sleep(A_WHILE).await;
    let own = rest(begin(&node, TRADER, unfinished).await).await;
    assert!(own.starts_with("HTTP/1.1 429 ") && own.contains("urn:minidlt:problem:caller-share-full"), "{own}");
    let other = node.call(ADMIN, Method::POST, PATH, CBOR, vec![0; SENT]).await;
    assert_eq!(other.problem(), "malformed-transaction", "it was read");
}

#[actix_web::test]
async fn of_answers_that_are_not_read() {
    // One page of 8 MiB and a block fits a share, and two do not.
    let node = Node::with(Limits { answers_bytes: 40 << 20, ..Limits::default() });
    let filler = Content::from_json(&json!("x".repeat(600_000)));
    for nonce in 0..20 {
        let mut body = node.network.body(TRADER, nonce);
        body.operation = Operation::records(vec![filler.clone(), Content::from_json(&json!(nonce))]);
        node.chain.commit(vec![(&SignedTransaction::sign(&body, &key_of(TRADER))).into()]);
    }
    let page = "/v1/blocks?from=1&limit=100";
    let mut stream = begin(&node, TRADER, get(page)).await;
    let unread = block(move || {
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 200");
        stream
    });
    let unread = unread.await.unwrap();
    assert_share_full(&node.get(TRADER, page).await);
    assert_eq!(node.get(TRADER, "/v1/users").await.status, 200, "what is small needs no room");
    assert_eq!(node.get(ADMIN, page).await.status, 200);
    drop(unread);
    let began = Instant::now();
    while node.get(TRADER, page).await.status != 200 {
        assert!(began.elapsed() < PATIENCE, "its room was not given back");
    }
}

/// Whether a request from 127.0.0.`host` is answered.
async fn is_served(node: &Node, who: &str, host: u8) -> bool {
    let mut stream = connect(node, who, host).await;
    let asked = block(move || {
        // Where it was closed, nothing comes.
        let _ = stream.write_all(&get("/v1/users"));
        stream
    });
    rest(asked.await.unwrap()).await.starts_with("HTTP/1.1 200 ")
}

#[actix_web::test]
async fn of_connections_by_where_they_come_from_and_whose_they_are() {
    let node = Node::with(Limits { connections_per_worker: 8, head_time: PATIENCE, ..Limits::default() });
    let open = [connect(&node, TRADER, 2).await, connect(&node, TRADER, 2).await];
    assert_eq!(rest(connect(&node, ADMIN, 2).await).await, "", "closed at once, whoever it is");
    let refused = Reason { reason: "source-share-full".into() };
    assert_eq!(node.metrics.requests_refused.get_or_create(&refused).get(), 1);
    assert!(is_served(&node, ADMIN, 1).await, "another member from another source is served");
    assert!(!is_served(&node, TRADER, 1).await, "the same member from another source is not");
    let refused = Reason { reason: "caller-share-full".into() };
    assert_eq!(node.metrics.requests_refused.get_or_create(&refused).get(), 1);
    drop(open);
    let began = Instant::now();
    while !is_served(&node, TRADER, 2).await {
        assert!(began.elapsed() < PATIENCE, "its places were not given back");
    }
}

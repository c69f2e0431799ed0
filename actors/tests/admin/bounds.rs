//! The bounds on what is under way at once.

use std::{
    convert::Infallible,
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use awc::http::Method;
use bytes::Bytes;
use futures_util::{future::join_all, stream};
use minidlt_actors::admin::Limits;
use minidlt_protocol::codec;

use super::{
    network::TRADER,
    node::{Answer, Node},
};

const PATH: &str = "/v1/transactions";
const CBOR: &str = "application/cbor";

#[actix_web::test]
async fn waiters_are_bounded_before_anything_is_submitted() {
    let node = Node::with(Limits { waiters: 1, ..Limits::default() });
    let [first, second] = [1, 2].map(|nonce| codec::encode(&node.network.signed(TRADER, nonce)));
    let waits = node.call(TRADER, Method::POST, "/v1/transactions?wait=committed&timeout=2s", CBOR, first);
    let refused = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        node.call(TRADER, Method::POST, "/v1/transactions?wait=committed", CBOR, second).await
    };
    let (waited, refused) = tokio::join!(waits, refused);
    assert_eq!(waited.status, 202);
    assert_eq!((refused.status.as_u16(), refused.problem().as_str()), (429, "too-many-requests"));
    assert_eq!(node.get(TRADER, "/v1/status").await.json()["mempool"]["transactions"], 1);
}

#[actix_web::test]
async fn requests_under_way_are_bounded() {
    let node = Node::with(Limits { requests: 1, ..Limits::default() });
    let body = codec::encode(&node.network.signed(TRADER, 1));
    let waits = node.call(TRADER, Method::POST, "/v1/transactions?wait=committed&timeout=2s", CBOR, body);
    let refused = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        node.get(TRADER, "/v1/users").await
    };
    let (_, refused) = tokio::join!(waits, refused);
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (429, "1"));
}

#[actix_web::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let node = Node::with(Limits { body_time: Duration::from_millis(300), ..Limits::default() });
    let connector = node.connector(Some(&node.network.paper(TRADER, "Org01"))).build();
    let address = node.running.address;
    let talk = move || {
        let mut stream = connector.connect("localhost", TcpStream::connect(address).unwrap()).unwrap();
        let head =
            format!("POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {CBOR}\r\nContent-Length: 9\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        // How the connection ends is not the matter here.
        let _ = stream.read_to_string(&mut answer);
        answer
    };
    let answer = actix_web::web::block(talk).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("urn:minidlt:problem:request-timeout"), "{answer}");
}

#[actix_web::test]
async fn bodies_take_no_more_room_than_there_is() {
    let limits = Limits { bodies_bytes: 1 << 20, body_time: Duration::from_millis(600), ..Limits::default() };
    let mut node = Node::with(limits);
    node.http2 = false;
    let none = node.call(TRADER, Method::POST, PATH, CBOR, vec![0; 2 << 20]).await;
    assert_eq!((none.status.as_u16(), none.problem().as_str()), (429, "too-many-requests"));
    let body = codec::encode(&node.network.signed(TRADER, 1));
    assert_eq!(node.call(TRADER, Method::POST, PATH, CBOR, body).await.status, 202);
}

/// Submits a transaction without telling how long it is.
async fn chunked(node: &Node, query: &str, nonce: u64) -> Answer {
    let body = Bytes::from(codec::encode(&node.network.signed(TRADER, nonce)));
    let request = node.client(TRADER).post(node.url(&format!("{PATH}{query}"))).content_type(CBOR);
    Answer::read(request.send_stream(stream::iter([Ok::<_, Infallible>(body)])).await.unwrap()).await
}

#[actix_web::test]
async fn bodies_take_room_for_what_came_and_none_while_a_commit_is_waited_for() {
    // Room for eight that are so small, and not for a ninth if those that wait kept theirs.
    let limits = Limits { bodies_bytes: 8 << 10, body_time: Duration::from_secs(2), ..Limits::default() };
    let mut node = Node::with(limits);
    node.http2 = false;
    let waits = join_all((1..=8).map(|nonce| chunked(&node, "?wait=committed&timeout=4s", nonce)));
    let ninth = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        chunked(&node, "", 9).await
    };
    let (waited, ninth) = tokio::join!(waits, ninth);
    for answer in waited.iter().chain([&ninth]) {
        assert_eq!(answer.status, 202, "{}", answer.text);
    }
}

//! The stream of blocks.

use std::time::Duration;

use awc::{
    Client, Connector,
    error::{WsClientError, WsProtocolError},
    ws::{CloseCode, Frame, Message},
};
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use minidlt_actors::admin::{Ledger as _, Limits};
use minidlt_protocol::transaction::{Content, Operation, SignedTransaction, TransactionBytes};
use serde_json::{Value, json};

use super::{
    network::{ADMIN, TRADER, key_of},
    node::Node,
};

/// Either end of a websocket.
trait Socket: Stream<Item = Result<Frame, WsProtocolError>> + Sink<Message, Error = WsProtocolError> + Unpin {}

impl<T> Socket for T where
    T: Stream<Item = Result<Frame, WsProtocolError>> + Sink<Message, Error = WsProtocolError> + Unpin
{
}

fn client(node: &Node, who: &str) -> Client {
    let connector = node.connector(Some(&node.network.paper(who, "Org01"))).build();
    let connector = Connector::new().openssl(connector);
    Client::builder().connector(connector).finish()
}

async fn try_watch(node: &Node, query: &str) -> Result<impl Socket + use<>, WsClientError> {
    try_watch_as(TRADER, node, query).await
}

async fn try_watch_as(who: &str, node: &Node, query: &str) -> Result<impl Socket + use<>, WsClientError> {
    let request = client(node, who).ws(node.url(&format!("/v1/events{query}"))).max_frame_size(64 << 20);
    request.connect().await.map(|(_, socket)| socket)
}

async fn frame(socket: &mut impl Socket) -> Frame {
    let next = tokio::time::timeout(Duration::from_secs(10), socket.next()).await;
    next.expect("a frame in time").expect("an open stream").expect("a good frame")
}

async fn block(socket: &mut impl Socket) -> Value {
    match frame(socket).await {
        Frame::Text(text) => serde_json::from_slice(&text).unwrap(),
        other => panic!("{other:?} is not a block"),
    }
}

async fn closed(socket: &mut impl Socket) -> (CloseCode, String) {
    loop {
        if let Frame::Close(reason) = frame(socket).await {
            let reason = reason.expect("a reason");
            return (reason.code, reason.description.unwrap_or_default());
        }
    }
}

#[actix_web::test]
async fn replay_then_live_without_gap_or_repeat() {
    let node = Node::start();
    for nonce in 0..30 {
        node.chain.commit(vec![(&node.network.signed(TRADER, nonce)).into()]);
    }
    let mut from_start = try_watch(&node, "?from=0").await.unwrap();
    let mut ids = try_watch(&node, "?from=29&view=ids").await.unwrap();
    let mut live = try_watch(&node, "").await.unwrap();
    // Blocks keep coming while the first is still being read.
    let commits = async {
        for nonce in 30..60 {
            node.chain.commit(vec![(&node.network.signed(TRADER, nonce)).into()]);
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    };
    let reads = async {
        assert_eq!(block(&mut from_start).await["genesis"]["network"], "test");
        let mut previous = json!(node.network.genesis.id());
        for height in 1..=60 {
            let block = block(&mut from_start).await;
            assert_eq!((&block["height"], &block["previous"]), (&json!(height), &previous));
            previous = block["hash"].clone();
        }
    };
    tokio::join!(commits, reads);
    for height in 29..=60 {
        let block = block(&mut ids).await;
        assert_eq!((&block["height"], block["ids"].as_array().map(Vec::len)), (&json!(height), Some(1)));
        assert!(block.get("content").is_none());
    }
    for height in 31..=60 {
        assert_eq!(block(&mut live).await["height"], json!(height));
    }
}

#[actix_web::test]
async fn pings_are_answered_and_other_frames_are_not_welcome() {
    let node = Node::start();
    let mut socket = try_watch(&node, "").await.unwrap();
    socket.send(Message::Ping("x".into())).await.unwrap();
    assert_eq!(frame(&mut socket).await, Frame::Pong("x".into()));
    socket.send(Message::Text("hello".into())).await.unwrap();
    assert_eq!(closed(&mut socket).await.0, CloseCode::Unsupported);
}

#[actix_web::test]
async fn a_slow_reader_is_closed_with_the_height_to_resume_from() {
    let node = Node::start();
    let mut slow = try_watch(&node, "?from=1").await.unwrap();
    let mut quick = try_watch(&node, "?from=1").await.unwrap();
    // Each block more than half a mebibyte, more in all than sockets buffer.
    let filler = Content::from_json(&json!("x".repeat(600_000)));
    for nonce in 0..40 {
        let mut body = node.network.body(TRADER, nonce);
        body.operation = Operation::records(vec![filler.clone(), Content::from_json(&json!(nonce))]);
        let bytes: TransactionBytes = (&SignedTransaction::sign(&body, &key_of(TRADER))).into();
        node.chain.commit(vec![bytes]);
    }
    for height in 1..=40 {
        assert_eq!(block(&mut quick).await["height"], json!(height));
    }
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let mut expected = 1;
    let reason = loop {
        match frame(&mut slow).await {
            Frame::Text(text) => {
                let block: Value = serde_json::from_slice(&text).unwrap();
                assert_eq!(block["height"], json!(expected));
                expected += 1;
            }
            Frame::Close(reason) => break reason.unwrap(),
            other => panic!("{other:?}"),
        }
    };
    assert!(expected < 41, "it was slow");
    assert_eq!(reason.code, CloseCode::Policy);
    // The frame that was not taken in time may still have come: to resume is never to miss one.
    let resume = [expected - 1, expected].map(|height| format!("too slow; resume with from={height}"));
    assert!(resume.contains(&reason.description.clone().unwrap()), "{reason:?}, {expected} expected next");
}

#[actix_web::test]
async fn streams_are_bounded_and_end_with_the_server() {
    let node = Node::with(Limits { subscribers: 1, ..Limits::default() });
    let mut first = try_watch(&node, "").await.unwrap();
    match try_watch(&node, "").await {
        Err(WsClientError::InvalidResponseStatus(status)) => assert_eq!(status, 503),
        other => panic!("{:?}", other.map(|_| "a second stream")),
    }
    let next = node.chain.head().height.next();
    let (reason, ()) = tokio::join!(closed(&mut first), node.running.stop());
    assert_eq!(reason, (CloseCode::Away, format!("the node stops; resume with from={next}")));
}

#[actix_web::test]
async fn a_caller_has_its_share_of_the_streams_and_leaves_the_others_theirs() {
    let node = Node::with(Limits { subscribers: 8, ..Limits::default() });
    let _first = try_watch(&node, "").await.unwrap();
    let mut second = try_watch(&node, "").await.unwrap();
    match try_watch(&node, "").await {
        Err(WsClientError::InvalidResponseStatus(status)) => assert_eq!(status, 503),
        other => panic!("{:?}", other.map(|_| "a third stream")),
    }
    let mut other = try_watch_as(ADMIN, &node, "").await.unwrap();
    node.chain.commit(vec![]);
    assert_eq!(block(&mut second).await["height"], json!(1));
    assert_eq!(block(&mut other).await["height"], json!(1));
}

#[actix_web::test]
async fn old_blocks_come_to_more_readers_than_may_be_sent_one_at_a_time() {
    let node = Node::start();
    for _ in 0..20 {
        node.chain.commit(vec![]);
    }
    let mut sockets = Vec::new();
    for _ in 0..24 {
        sockets.push(try_watch(&node, "?from=1").await.unwrap());
    }
    for socket in &mut sockets {
        for height in 1..=20 {
            assert_eq!(block(socket).await["height"], json!(height));
        }
    }
}

#[actix_web::test]
async fn a_reader_who_stays_away_gives_its_place_back() {
    let node = Node::with(Limits { subscribers: 1, ..Limits::default() });
    drop(try_watch(&node, "").await.unwrap());
    let again = async {
        while try_watch(&node, "").await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), again).await.expect("the place is free again");
}

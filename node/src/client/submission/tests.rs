//! The pipeline against a made-up node, whose stream breaks after every block.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use actix_rt::time::sleep;
use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer,
    web::{self, Bytes, Data},
};
use minidlt_protocol::{
    codec,
    crypto::SecretKey,
    transaction::{Body, Content, Operation, SignedTransaction, Transaction, TransactionBytes},
    types::{Hash, Height, Identity, Timestamp},
};
use openssl::{
    asn1::Asn1Time,
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkey::PKey,
    ssl::{SslAcceptor, SslConnector, SslMethod, SslVerifyMode},
    x509::X509,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::*;
use crate::{
    client::{
        api::{NodeClient, http_client},
        progress::Progress,
        time,
    },
    interrupt::Interrupts,
};

const NETWORK: Hash = Hash::from_bytes([9; 32]);
/// The height of the chain before anything is sent.
const HEAD: u64 = 5;

#[derive(Default)]
struct Node {
    /// Answered 429 as a whole, so many more times.
    full: usize,
    /// Refused one by one as `mempool-full` in the next request, all others being taken.
    full_once: BTreeSet<Hash>,
    bad: BTreeSet<Hash>,
    /// Taken, but never committed.
    stuck: BTreeSet<Hash>,
    requests: usize,
    /// How often it was asked about one transaction.
    asked: usize,
    received: Vec<Vec<u8>>,
    blocks: Vec<(u64, Vec<Hash>)>,
}

type Shared = Data<Arc<Mutex<Node>>>;

async fn post(node: Shared, body: Bytes) -> HttpResponse {
    let mut node = node.lock().unwrap();
    node.requests += 1;
    if node.full > 0 {
        node.full -= 1;
        let problem = json!({"type": "urn:minidlt:problem:too-many-requests", "title": "Busy", "status": 429});
        return HttpResponse::TooManyRequests().insert_header(("retry-after", "0")).json(problem);
    }
    let (mut answers, mut ids, mut rest) = (Vec::new(), Vec::new(), &body[..]);
    while !rest.is_empty() {
        let (item, after) = rest.split_at(codec::first_item(rest).unwrap());
        rest = after;
        node.received.push(item.to_vec());
        let id = Transaction::parse(item.to_vec().into(), &NETWORK).unwrap().id;
        let problem = |kind: &str| json!({"problem": {"type": format!("urn:minidlt:problem:{kind}"), "title": kind}});
        if node.full_once.remove(&id) {
            answers.push(problem("mempool-full"));
        } else if node.bad.contains(&id) {
            answers.push(problem("bad-signature"));
        } else {
            answers.push(json!({"id": id, "status": "pending"}));
            ids.extend((!node.stuck.contains(&id)).then_some(id));
        }
    }
    node.blocks.push((time::now().millis(), ids));
    HttpResponse::Accepted().json(json!({"transactions": answers}))
}

async fn events(node: Shared, request: HttpRequest, stream: web::Payload) -> actix_web::Result<HttpResponse> {
    let from = request.query_string().split('&').find_map(|part| part.strip_prefix("from=")?.parse::<u64>().ok());
    let from = from.expect("submission always says from where");
    let (response, mut session, _incoming) = actix_ws::handle(&request, stream)?;
    actix_rt::spawn(async move {
        loop {
            let block = node.lock().unwrap().blocks.get((from - HEAD - 1) as usize).cloned();
            if let Some((created, ids)) = block {
                let frame = json!({"height": from, "hash": NETWORK, "created": created, "ids": ids});
                let _ = session.text(frame.to_string()).await;
                let _ = session.close(None).await;
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
    });
    Ok(response)
}

/// Its mempool hears of a block after those who follow its blocks: the first answer is too early.
async fn status(node: Shared, path: web::Path<String>) -> HttpResponse {
    let mut node = node.lock().unwrap();
    node.asked += 1;
    if node.asked < 2 || !node.stuck.iter().any(|id| id.to_string() == *path) {
        return HttpResponse::Ok().json(json!({"id": *path, "status": "pending", "missing": []}));
    }
    let missing = ["node2@Org03".parse::<Identity>().unwrap()];
    let reason = "acceptance-missing";
    HttpResponse::Ok().json(json!({"id": *path, "status": "dumped", "reason": reason, "missing": missing}))
}

fn acceptor() -> openssl::ssl::SslAcceptorBuilder {
    let key = EcKey::generate(&EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap()).unwrap();
    let key = PKey::from_ec_key(key).unwrap();
    let mut certificate = X509::builder().unwrap();
    certificate.set_pubkey(&key).unwrap();
    certificate.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    certificate.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
    certificate.sign(&key, MessageDigest::sha256()).unwrap();
    let mut builder = SslAcceptor::mozilla_modern_v5(SslMethod::tls()).unwrap();
    builder.set_private_key(&key).unwrap();
    builder.set_certificate(&certificate.build()).unwrap();
    builder
}

fn start(node: &Arc<Mutex<Node>>) -> NodeClient {
    let shared = Data::new(node.clone());
    let server = HttpServer::new(move || {
        App::new()
            .app_data(shared.clone())
            .route("/v1/transactions", web::post().to(post))
            .route("/v1/events", web::get().to(events))
            .route("/v1/transactions/{id}", web::get().to(status))
    });
    let server = server.workers(1).disable_signals().bind_openssl("127.0.0.1:0", acceptor()).unwrap();
    let port = server.addrs()[0].port();
    actix_rt::spawn(server.run());
    let mut connector = SslConnector::builder(SslMethod::tls_client()).unwrap();
    connector.set_verify(SslVerifyMode::NONE);
    NodeClient::new(format!("https://127.0.0.1:{port}").parse().unwrap(), move || Ok(http_client(connector.build())))
}

fn prepared(nonce: u64, expires: Timestamp) -> Prepared {
    let body = Body {
        network: NETWORK,
        author: "trader@Org01".parse::<Identity>().unwrap(),
        created: time::now().minus_millis(60_000),
        expires,
        nonce,
        operation: Operation::records(vec![Content::from_json(&Value::from(nonce))]),
    };
    let key = SecretKey::from_bytes(&[3; 32]).unwrap();
    let bytes = TransactionBytes::from(&SignedTransaction::sign(&body, &key));
    let id = Transaction::parse(bytes.clone(), &NETWORK).unwrap().id;
    Prepared { id, bytes, records: 1, expires }
}

/// Runs the pipeline over `all` against a node as `node` is.
fn submit(all: &[Prepared], node: Node, wait: bool) -> (Outcome, Node) {
    let node = Arc::new(Mutex::new(node));
    let outcome = actix_rt::System::new().block_on(async {
        let (sender, receiver) = mpsc::channel(all.len() + 1);
        for prepared in all {
            sender.send(Ok(prepared.clone())).await.unwrap();
        }
        drop(sender);
        let options = Options { wait, blocks: false, keep_ids: usize::MAX };
        let mut progress = Progress::new("records");
        let mut interrupts = Interrupts::listen().unwrap();
        submit_all(vec![start(&node)], Height::new(HEAD), receiver, options, &mut interrupts, &mut progress).await
    });
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
    let node = std::mem::take(&mut *node.lock().unwrap());
    (outcome, node)
}

fn an_hour_on() -> Timestamp {
    time::now().plus_millis(3_600_000)
}

#[test]
fn what_a_full_node_puts_off_goes_out_again_as_the_same_bytes() {
    let all: Vec<Prepared> = (0..1200).map(|nonce| prepared(nonce, an_hour_on())).collect();
    let put_off: BTreeSet<Hash> = all.iter().step_by(7).map(|prepared| prepared.id).collect();
    let (outcome, node) = submit(&all, Node { full: 2, full_once: put_off.clone(), ..Node::default() }, true);
    assert_eq!(outcome.tally, Tally { signed: 1200, accepted: 1200, committed: 1200, ..Tally::default() });
    assert_eq!(outcome.ids.iter().collect::<BTreeSet<_>>().len(), 1200);
    assert_eq!(node.received.len(), 1200 + put_off.len());
    let received: BTreeSet<Vec<u8>> = node.received.into_iter().collect();
    let signed: BTreeSet<Vec<u8>> = all.iter().map(|prepared| prepared.bytes.as_slice().to_vec()).collect();
    assert_eq!(received, signed, "nothing was signed anew");
}

#[test]
fn each_fate_is_counted_as_what_it_is() {
    let soon = time::now().plus_millis(300);
    let mut all: Vec<Prepared> = (0..10).map(|nonce| prepared(nonce, an_hour_on())).collect();
    let (bad, stuck) = (all[3].id, prepared(77, soon));
    all.push(stuck.clone());
    let node = Node {
        bad: BTreeSet::from([bad]),
        stuck: BTreeSet::from([stuck.id]),
        // A later, empty block tells that the stuck one's time is over.
        blocks: Vec::new(),
        ..Node::default()
    };
    let shared = Arc::new(Mutex::new(node));
    let outcome = actix_rt::System::new().block_on(async {
        let (sender, receiver) = mpsc::channel(16);
        for prepared in all {
            sender.send(Ok(prepared)).await.unwrap();
        }
        drop(sender);
        let later = shared.clone();
        actix_rt::spawn(async move {
            sleep(Duration::from_millis(600)).await;
            later.lock().unwrap().blocks.push((time::now().millis(), Vec::new()));
        });
        let mut progress = Progress::new("records");
        let options = Options { wait: true, blocks: false, keep_ids: 0 };
        let mut interrupts = Interrupts::listen().unwrap();
        submit_all(vec![start(&shared)], Height::new(HEAD), receiver, options, &mut interrupts, &mut progress).await
    });
    let expected = Tally { signed: 11, accepted: 10, committed: 9, rejected: 1, dumped: 1, ..Tally::default() };
    assert_eq!(outcome.tally, expected, "{:?}", outcome.error);
    assert_eq!(outcome.tally.to_string(), "9 committed, 1 rejected, 1 dumped");
    let missing: Vec<String> = outcome.missing.iter().map(ToString::to_string).collect();
    assert_eq!(missing, ["node2@Org03"], "the node says who was missing");
}

#[test]
fn without_waiting_accepted_is_enough() {
    let all: Vec<Prepared> = (0..3).map(|nonce| prepared(nonce, an_hour_on())).collect();
    let (outcome, _) = submit(&all, Node::default(), false);
    assert_eq!(outcome.tally, Tally { signed: 3, accepted: 3, pending: 3, ..Tally::default() });
    assert_eq!(outcome.tally.to_string(), "0 committed, 0 rejected, 0 dumped, 3 pending (not waited for)");
}

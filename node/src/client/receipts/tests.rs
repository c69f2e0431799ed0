//! A made-up node that gives out receipts, some of which prove nothing.

use std::{collections::BTreeMap, fs, net::TcpListener};

use actix_web::{
    App, HttpResponse, HttpServer,
    web::{self, Data},
};
use minidlt_protocol::state::Outcome;
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};

use super::{
    fixture::{genesis, name, receipt},
    *,
};
use crate::{
    client::api::http_client,
    init::certificates::{Authority, Purpose},
};

async fn give(texts: Data<BTreeMap<String, String>>, id: web::Path<String>) -> HttpResponse {
    match texts.get(id.as_str()) {
        Some(text) => HttpResponse::Ok().body(text.clone()),
        None => HttpResponse::NotFound().finish(),
    }
}

/// What it gives, by the id it is asked for.
fn start(texts: BTreeMap<String, String>) -> NodeClient {
    let texts = Data::new(texts);
    let server = HttpServer::new(move || {
        App::new().app_data(texts.clone()).route("/v1/transactions/{id}/receipt", web::get().to(give))
    });
    let node = "node1@Org01".parse().unwrap();
    let issued = Authority::new(&name("Org01")).unwrap().issue(&node, &Purpose::Node { host: "localhost" }).unwrap();
    let server = server.workers(1).disable_signals().bind_openssl("127.0.0.1:0", issued.acceptor()).unwrap();
    let port = server.addrs()[0].port();
    actix_rt::spawn(server.run());
    node_at(port)
}

fn node_at(port: u16) -> NodeClient {
    let mut connector = SslConnector::builder(SslMethod::tls_client()).unwrap();
    connector.set_verify(SslVerifyMode::NONE);
    NodeClient::new(format!("https://127.0.0.1:{port}").parse().unwrap(), move || Ok(http_client(connector.build())))
}

/// Where nobody listens.
fn dead() -> NodeClient {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    node_at(listener.local_addr().unwrap().port())
}

#[test]
fn only_what_verifies_is_kept_and_the_rest_is_counted_as_what_it_is() {
    let genesis = genesis();
    let [good, edited, swapped] = [0, 1, 2].map(|at| receipt(&genesis, at));
    let forged = Receipt { result: Outcome::Failed { reason: "no".into() }, ..edited.clone() };
    let texts = BTreeMap::from([
        (good.id.to_string(), good.to_text()),
        (edited.id.to_string(), forged.to_text()),
        (swapped.id.to_string(), good.to_text()),
    ]);
    let ids = [good.id, edited.id, swapped.id, Hash::from_bytes([7; 32])];
    let directory = tempfile::tempdir().unwrap();
    let (fetched, said) = actix_rt::System::new().block_on(async {
        let (node, mut progress) = (start(texts), Progress::new("receipts"));
        let said = fetch(&node, &edited.id, &genesis, Known::Nothing, Duration::ZERO).await.unwrap_err().to_string();
        let all = fetch_all(&[node], &ids, &genesis, directory.path(), Duration::ZERO, &mut progress).await;
        (all.unwrap(), said)
    });
    assert_eq!(fetched, Fetched { good: 1, bad: 2, missing: 1 });
    let kept: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(kept, [format!("{}.json", good.id).as_str()]);
    assert!(said.contains(&format!("a receipt of {} that proves nothing: result_inclusion: ", edited.id)), "{said}");
}

#[test]
fn what_one_node_does_not_give_another_does() {
    let genesis = genesis();
    let receipts = [0, 1, 2].map(|at| receipt(&genesis, at));
    let forged = |receipt: &Receipt| Receipt { result: Outcome::Failed { reason: "no".into() }, ..receipt.clone() };
    let good = receipts.iter().map(|receipt| (receipt.id.to_string(), receipt.to_text())).collect();
    let bad = receipts.iter().map(|receipt| (receipt.id.to_string(), forged(receipt).to_text())).collect();
    let ids = receipts.each_ref().map(|receipt| receipt.id);
    let directory = tempfile::tempdir().unwrap();
    let (path, patience, began) = (directory.path(), Duration::from_secs(60), Instant::now());
    let (three, two) = actix_rt::System::new().block_on(async {
        let (bad, mut progress) = (start(bad), Progress::new("receipts"));
        let nodes = [dead(), bad.clone(), start(good)];
        let three = fetch_all(&nodes, &ids, &genesis, path, patience, &mut progress).await.unwrap();
        let two = fetch_all(&[bad, dead()], &ids, &genesis, path, Duration::ZERO, &mut progress).await.unwrap();
        (three, two)
    });
    assert_eq!(three, Fetched { good: 3, bad: 0, missing: 0 }, "a good one makes up for a bad one");
    assert_eq!(two, Fetched { good: 0, bad: 3, missing: 0 });
    assert!(began.elapsed() < patience, "nobody waits for a node that is dead");
}

#[test]
fn another_transactions_receipt_is_none() {
    let genesis = genesis();
    let [one, other] = [0, 1].map(|at| receipt(&genesis, at));
    assert_eq!(check(&one.to_text(), &one.id, &genesis), Ok(()));
    let said = check(&one.to_text(), &other.id, &genesis).unwrap_err().to_string();
    assert_eq!(said, format!("id: {}, expected {}", one.id, other.id));
}

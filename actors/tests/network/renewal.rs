//! Certificates and CAs that change while nodes run.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use minidlt_actors::{
    messages::network::{Class, PeerState},
    metrics::{Certificate, Metrics},
    tls::{self, Credentials, Live, Looked, Renewal},
};
use minidlt_config::tls::{Lapse, TlsFiles, Validity};
use minidlt_protocol::{
    message::{PoolContent, Recipient},
    registry::Organisation,
};
use openssl::{ssl::Ssl, x509::X509};
use tempfile::TempDir;
use tokio_openssl::SslStream;

use crate::{
    certificates::Ca,
    cluster::{Heard, Network, gossip, identity, limits},
    raw::Raw,
};

fn validity(credentials: &Credentials) -> Option<Validity> {
    Some(Validity::of(&credentials.chain[0]).unwrap())
}

fn serial(certificate: Option<X509>) -> String {
    certificate.unwrap().serial_number().to_bn().unwrap().to_string()
}

#[actix_rt::test]
async fn a_renewed_certificate_is_shown_where_connections_begin_and_those_that_stand_go_on() {
    let mut network = Network::new(3);
    let mut zero = network.start(0, limits()).await;
    let mut one = network.start(1, limits()).await;
    let mut two = network.start(2, limits()).await;
    zero.hear_change(1, true).await;
    two.hear_change(1, true).await;
    let before = zero.view(1).await.certificate;
    let renewed = network.cas[1].issue_for("node1", "Org1", 0..90);
    one.tls.renew(renewed.clone()).unwrap();

    // Node 1 dials node 2 anew, and then is dialled by node 0.
    two.close().await;
    one.hear_change(2, false).await;
    let mut two = network.start(2, limits()).await;
    two.hear_change(1, true).await;
    assert_eq!(two.view(1).await.certificate, validity(&renewed));
    one.stamp(Recipient::One(identity(0)), Class::Transactions, gossip(b"a")).await;
    let expected = Heard::Pool(identity(1), PoolContent::Gossip(vec![b"a".to_vec().into()]));
    let heard = zero.hear(|heard| *heard == expected || *heard == Heard::Changed(identity(1), false)).await;
    assert_eq!(heard, expected, "the session went on");
    assert_eq!(zero.view(1).await.certificate, before, "it still is the one of its handshake");
    zero.close().await;
    let mut zero = network.start(0, limits()).await;
    zero.hear_change(1, true).await;
    assert_eq!(zero.view(1).await.certificate, validity(&renewed));
    let gauge =
        |metrics: &Metrics, certificate| metrics.certificate_expires.get_or_create(&Certificate { certificate }).get();
    assert_eq!(Some(gauge(&one.metrics, "own")), validity(&renewed).map(Validity::seconds));
    zero.hear_change(2, true).await;
    let first = [zero.view(1).await, zero.view(2).await].iter().filter_map(|peer| peer.certificate).min();
    assert_eq!(Some(gauge(&zero.metrics, "peer")), first.map(Validity::seconds));
}

#[actix_rt::test]
async fn one_whose_certificate_ran_out_is_refused_by_name_and_comes_back_renewed() {
    let mut network = Network::new(3);
    let mut one = network.start(1, limits()).await;
    one.tls.renew(network.cas[1].issue_for("node1", "Org1", -9..-1)).unwrap();
    let mut zero = network.start(0, limits()).await;
    let mut two = network.start(2, limits()).await;
    // It is dialled by one, and dials the other.
    for node in [&zero, &two] {
        node.refused_connection("untrusted-certificate").await;
    }
    let view = zero.view(1).await;
    let expected = "the certificate for node1@Org1 that it shows was refused: certificate has expired";
    assert_eq!((view.state, view.last_error.as_deref()), (PeerState::Disconnected, Some(expected)));
    one.tls.renew(network.credentials(1)).unwrap();
    for node in [&mut zero, &mut two] {
        node.hear_change(1, true).await;
    }
    one.hear_change(0, true).await;
}

#[actix_rt::test]
async fn during_an_overlap_certificates_of_both_cas_connect_and_afterwards_of_one() {
    let mut network = Network::new(2);
    let mut one = network.start(1, limits()).await;
    let mut organisations = network.genesis.organisations.clone();
    // Of one subject, and nothing in a certificate says which of them signed it.
    let next = Ca::new("Org0");
    let replaced =
        Organisation { former_ca: Some(organisations[0].ca.clone()), ca: next.pem(), ..organisations[0].clone() };
    organisations[0] = replaced.clone();
    one.tls.set_authority(&organisations).unwrap();
    for ca in [&network.cas[0], &next] {
        let session = Raw::join_by(&network, 0, &ca.issue("node0", "Org0"), 1).await;
        one.hear_change(0, true).await;
        drop(session);
        one.hear_change(0, false).await;
    }
    let refused = |credentials: Credentials| {
        let (address, authority, id) = (network.address(1).to_owned(), network.authority(), network.id());
        async move { Raw::connect(&address, &credentials, &authority, id).await.closed().await }
    };
    refused(Ca::new("Org0").issue("node0", "Org0")).await;
    one.refused_connection("untrusted-certificate").await;
    organisations[0] = Organisation { former_ca: None, ..replaced };
    one.tls.set_authority(&organisations).unwrap();
    refused(network.cas[0].issue("node0", "Org0")).await;
    crate::cluster::counted(&one.metrics.connections_refused, "untrusted-certificate", 2).await;
    // A CA that cannot be one takes nobody's with it.
    organisations[1].ca = organisations[0].ca.clone();
    organisations.reverse();
    one.tls.set_authority(&organisations).unwrap();
    let _session = Raw::join_by(&network, 0, &next.issue("node0", "Org0"), 1).await;
    one.hear_change(0, true).await;
}

/// What a client of the API sees, with the server's name in its first message or without: the server's
/// serial number and the protocol chosen.
async fn call(
    tls: &Arc<Live>,
    acceptor: &openssl::ssl::SslAcceptor,
    network: &Network,
    name: bool,
) -> (String, Vec<u8>) {
    let (near, far) = tokio::io::duplex(1 << 16);
    let trader = network.cas[0].issue("trader", "Org0");
    let mut client = Ssl::new(&tls::peer_context(&trader, &tls.now().authority).unwrap()).unwrap();
    client.set_alpn_protos(b"\x08http/1.1\x02h2").unwrap();
    if name {
        client.set_hostname("localhost").unwrap();
    }
    let mut client = SslStream::new(client, near).unwrap();
    let mut server = SslStream::new(Ssl::new(acceptor.context()).unwrap(), far).unwrap();
    let (connected, accepted) = tokio::join!(Pin::new(&mut client).connect(), Pin::new(&mut server).accept());
    connected.and(accepted).unwrap();
    assert_eq!(tls.now().authority.identify(server.ssl()).unwrap().to_string(), "trader@Org0");
    (serial(client.ssl().peer_certificate()), client.ssl().selected_alpn_protocol().unwrap().to_vec())
}

#[actix_rt::test]
async fn the_api_changes_over_with_and_without_a_servers_name() {
    let network = Network::new(2);
    let live = network.tls(1, Arc::new(Metrics::new()));
    let acceptor = live.acceptor().unwrap().build();
    for _ in 0..2 {
        let renewed = network.credentials(1);
        live.renew(renewed.clone()).unwrap();
        let expected = (serial(Some(renewed.chain[0].clone())), b"h2".to_vec());
        for name in [true, false] {
            assert_eq!(call(&live, &acceptor, &network, name).await, expected, "with a name: {name}");
        }
    }
    // Whom it believes changes, too.
    let mut organisations = network.genesis.organisations.clone();
    organisations[0].ca = Ca::new("Org0").pem();
    live.set_authority(&organisations).unwrap();
    let (near, far) = tokio::io::duplex(1 << 16);
    let trader = tls::peer_context(&network.cas[0].issue("trader", "Org0"), &network.authority()).unwrap();
    let mut client = SslStream::new(Ssl::new(&trader).unwrap(), near).unwrap();
    let mut server = SslStream::new(Ssl::new(acceptor.context()).unwrap(), far).unwrap();
    let (_, accepted) = tokio::join!(Pin::new(&mut client).connect(), Pin::new(&mut server).accept());
    assert!(accepted.is_err());
}

#[test]
fn it_is_said_once_a_day_and_at_once_where_it_gets_worse() {
    let network = Network::new(2);
    let (live, files) = (network.tls(1, Arc::new(Metrics::new())), Files::new());
    let mut renewal = Renewal::new(files.files.clone(), live.clone());
    let start = Instant::now();
    let mut said = |hours: u64, until: i64| {
        live.renew(network.cas[1].issue_for("node1", "Org1", -9..until)).unwrap();
        let said = renewal.say(start + Duration::from_secs(hours * 3_600));
        said.contains(&"own")
    };
    assert!(!said(0, 90) && said(1, 10) && !said(2, 10) && !said(24, 9) && said(25, 9), "once a day");
    assert!(said(26, -1) && !said(27, -1) && said(50, -1), "an error at once");
    assert!(!said(51, 90) && said(52, 10), "renewed, it begins anew");
}

/// A node's files, and what looks after them.
struct Files {
    directory: TempDir,
    files: TlsFiles,
}

impl Files {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let [certificate, key] = ["tls.crt", "tls.key"].map(|name| directory.path().join(name));
        let files = TlsFiles { identity: identity(1), directory: directory.path().to_owned(), certificate, key };
        Self { directory, files }
    }

    fn write(&self, Credentials { chain, key }: &Credentials) {
        fs::write(&self.files.certificate, chain[0].to_pem().unwrap()).unwrap();
        fs::write(&self.files.key, key.private_key_to_pem_pkcs8().unwrap()).unwrap();
        fs::set_permissions(&self.files.key, fs::Permissions::from_mode(0o600)).unwrap();
    }
}

#[test]
fn new_files_are_taken_up_where_they_hold_and_else_the_old_certificate_stays() {
    let network = Network::new(2);
    let (live, files) = (network.tls(1, Arc::new(Metrics::new())), Files::new());
    let mut renewal = Renewal::new(files.files.clone(), live.clone());
    let shown = || live.now().certificate().map(|own| own.to_der().unwrap());
    let first = network.credentials(1);
    files.write(&first);
    assert_eq!((renewal.look(false), renewal.look(true)), (Looked::Renewed, Looked::Same));
    let in_use = shown();
    assert_eq!(in_use, Some(first.chain[0].to_der().unwrap()));

    let mixed = Credentials { key: network.credentials(1).key, ..network.credentials(1) };
    let ca = &network.cas[1];
    let cases = [
        (mixed, "is not the key of the certificate"),
        (ca.issue_for("node1", "Org1", -9..-1), "expired on "),
        (ca.issue_for("node1", "Org1", 2..9), "is not valid before "),
        (ca.issue("node2", "Org1"), "names the subject "),
        (network.cas[0].issue("node1", "Org1"), "the CA of Org1 does not vouch for the certificate of node1@Org1"),
    ];
    for (credentials, expected) in cases {
        files.write(&credentials);
        let Looked::Refused(why) = renewal.look(false) else { panic!("refused: {expected}") };
        assert!(why.contains(expected) && why.contains(files.directory.path().to_str().unwrap()), "{why}");
        assert_eq!(shown(), in_use, "the old one stays: {why}");
    }
    fs::remove_file(&files.files.certificate).unwrap();
    assert!(matches!(renewal.look(false), Looked::Refused(why) if why.contains("cannot be read")));

    // What was refused is taken once the ledger has its CA.
    let next = Ca::new("Org1");
    files.write(&next.issue("node1", "Org1"));
    assert!(matches!(renewal.look(false), Looked::Refused(_)));
    let mut organisations = network.genesis.organisations.clone();
    organisations[1].former_ca = Some(std::mem::replace(&mut organisations[1].ca, next.pem()));
    live.set_authority(&organisations).unwrap();
    assert_eq!(renewal.look(false), Looked::Renewed);
}

#[test]
fn a_node_says_in_time_which_certificate_runs_out_and_what_renews_it() {
    let network = Network::new(2);
    let (live, files) = (network.tls(1, Arc::new(Metrics::new())), Files::new());
    let renewal = Renewal::new(files.files.clone(), live.clone());
    let of = |which: &str| renewal.lapses().into_iter().find_map(|(found, lapse)| (found == which).then_some(lapse));
    live.renew(network.cas[1].issue_for("node1", "Org1", 0..90)).unwrap();
    assert_eq!(of("own"), None);
    let command = format!("minidlt renew {} --ca ", files.directory.path().display());
    live.renew(network.cas[1].issue_for("node1", "Org1", 0..10)).unwrap();
    let Some(Lapse::Soon(said)) = of("own") else { panic!("a warning") };
    assert!(said.contains("tls.crt runs out in ") && said.contains(&command), "{said}");
    live.renew(network.cas[1].issue_for("node1", "Org1", -9..-1)).unwrap();
    let Some(Lapse::Over(said)) = of("own") else { panic!("an error") };
    assert!(said.contains("has run out: no node and no client connects") && said.contains(&command), "{said}");
    assert_eq!(of("issuer"), None, "its CA is the right one");
    live.renew(network.cas[0].issue("node1", "Org1")).unwrap();
    let Some(Lapse::Over(said)) = of("issuer") else { panic!("an error") };
    assert!(said.contains("the CA of Org1 does not vouch for"), "{said}");
    // The tests' CAs last a day.
    assert!(matches!(of("ca"), Some(Lapse::Soon(said)) if said.starts_with("the CA of Org1 runs out in ")));
    assert_eq!(of("former_ca"), None);
}

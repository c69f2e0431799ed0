//! What must be refused, each with its reason counted, and the listener serving on.

use std::{pin::Pin, time::Duration};

use minidlt_actors::{clock, listener::Limits, tls};
use minidlt_protocol::{
    message::{Content, Recipient},
    types::Hash,
};
use openssl::ssl::Ssl;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_openssl::SslStream;

use crate::{
    certificates::Ca,
    cluster::{Heard, Network, TestNode, gossip, identity, key, limits, vote},
    raw::{Raw, alive, stamped, stamped_at, still_serving},
};

/// A network of three; node 1, the victim, runs.
async fn victim() -> (Network, TestNode) {
    let mut network = Network::new(3);
    let victim = network.start(1, limits()).await;
    (network, victim)
}

/// Reads plain bytes until the other side closes.
pub async fn closed(tcp: &mut TcpStream) {
    let mut rest = Vec::new();
    // A reset closes as well as an end does.
    let _either = tcp.read_to_end(&mut rest).await;
}

#[actix_rt::test]
async fn garbage_instead_of_tls() {
    let (network, mut victim) = victim().await;
    let mut tcp = TcpStream::connect(network.address(1)).await.unwrap();
    tcp.write_all(&[0xab; 4096]).await.unwrap();
    closed(&mut tcp).await;
    victim.refused_connection("tls").await;
    still_serving(&network, &mut victim).await;
}

#[actix_rt::test]
async fn tls_without_a_word() {
    let mut network = Network::new(3);
    let handshake = Duration::from_millis(300);
    let mut victim = network.start(1, Limits { handshake, ..limits() }).await;
    let mut raw = Raw::connect(network.address(1), &network.credentials(0), &network.authority(), network.id()).await;
    raw.closed().await;
    victim.refused_connection("handshake-timeout").await;
    still_serving(&network, &mut victim).await;
}

#[actix_rt::test]
async fn certificates_that_do_not_count() {
    let (network, mut victim) = victim().await;
    let cases = [
        (Ca::new("Org0").issue("node0", "Org0"), "untrusted-certificate"),
        (network.cas[2].issue("node0", "Org0"), "other-authority"),
        (network.cas[0].intermediate("Org0").issue("node0", "Org0"), "other-authority"),
        (network.cas[0].issue("trader", "Org0"), "not-a-node"),
        (network.cas[0].issue("node9", "Org0"), "not-a-node"),
        (network.cas[0].issue("node0", "Elsewhere"), "unknown-organisation"),
        (network.cas[0].issue("no name", "Org0"), "bad-subject"),
        (network.cas[2].issue("node2", "Org2"), "wrong-side"),
    ];
    for (credentials, reason) in cases {
        let mut raw = Raw::connect(network.address(1), &credentials, &network.authority(), network.id()).await;
        raw.closed().await;
        victim.refused_connection(reason).await;
    }
    still_serving(&network, &mut victim).await;
}

#[actix_rt::test]
async fn no_certificate_at_all_and_old_tls() {
    let (network, mut victim) = victim().await;
    use openssl::ssl::{SslContext, SslMethod, SslVersion};
    for version in [SslVersion::TLS1_3, SslVersion::TLS1_2] {
        let mut context = SslContext::builder(SslMethod::tls()).unwrap();
        context.set_max_proto_version(Some(version)).unwrap();
        let tcp = TcpStream::connect(network.address(1)).await.unwrap();
        let mut stream = SslStream::new(Ssl::new(&context.build()).unwrap(), tcp).unwrap();
        let connected = Pin::new(&mut stream).connect().await;
        assert!(connected.is_err() || stream.read_u8().await.is_err());
    }
    victim.refused_connection("tls").await;
    still_serving(&network, &mut victim).await;
}

#[actix_rt::test]
async fn handshakes_that_do_not_hold() {
    let (network, mut victim) = victim().await;
    let (id, me, to) = (network.id(), identity(0), Recipient::One(identity(1)));
    let other = Hash::from_bytes([5; 32]);
    let late = clock::now().minus_millis(31_000);
    type Make<'a> = Box<dyn Fn(Hash) -> Vec<u8> + 'a>;
    let (me, to) = (&me, &to);
    let cases: Vec<(&str, Make)> = vec![
        ("other-network", Box::new(move |b| stamped(other, me.clone(), to.clone(), &alive(other, Some(b)), &key(0)))),
        ("other-network", Box::new(move |b| stamped(id, me.clone(), to.clone(), &alive(other, Some(b)), &key(0)))),
        ("other-binding", Box::new(move |_| stamped(id, me.clone(), to.clone(), &alive(id, None), &key(0)))),
        ("bad-signature", Box::new(move |b| stamped(id, me.clone(), to.clone(), &alive(id, Some(b)), &key(2)))),
        ("other-sender", Box::new(move |b| stamped(id, identity(2), to.clone(), &alive(id, Some(b)), &key(2)))),
        (
            "other-recipient",
            Box::new(move |b| stamped(id, me.clone(), Recipient::One(identity(2)), &alive(id, Some(b)), &key(0))),
        ),
        ("time-window", Box::new(move |b| stamped_at(id, me.clone(), to.clone(), &alive(id, Some(b)), &key(0), late))),
        ("not-alive", Box::new(move |_| stamped(id, me.clone(), to.clone(), &gossip(b"early"), &key(0)))),
        ("malformed", Box::new(|_| vec![0xff; 100])),
        ("oversized-frame", Box::new(|_| vec![0; 65 << 10])),
    ];
    for (reason, make) in cases {
        let mut raw = Raw::connect(network.address(1), &network.credentials(0), &network.authority(), id).await;
        let frame = make(raw.binding);
        raw.send(&frame).await;
        raw.closed().await;
        victim.refused_connection(reason).await;
    }
    still_serving(&network, &mut victim).await;
}

#[actix_rt::test]
async fn a_relayed_connection_fails_by_its_binding() {
    // Mallory sits between node 0, who dials, and node 1, with certificates in both their names
    // that their own authorities issued; only the nodes' keys are not hers.
    let mut network = Network::new(2);
    let middle = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let real = network.address(1).to_owned();
    network.genesis.nodes[1].address = middle.local_addr().unwrap().to_string();
    let (id, authority) = (network.id(), network.authority());
    let zero = network.start(0, limits()).await;
    let mut one = network.start(1, limits()).await;

    let (tcp, _) = middle.accept().await.unwrap();
    let context = tls::peer_context(&network.credentials(1), &authority).unwrap();
    let mut stream = SslStream::new(Ssl::new(&context).unwrap(), tcp).unwrap();
    Pin::new(&mut stream).accept().await.unwrap();
    let mut to_zero = Raw::over(stream, id);
    let mut to_one = Raw::connect(&real, &network.credentials(0), &authority, id).await;
    let from_zero = to_zero.receive().await.unwrap();
    let from_one = to_one.receive().await.unwrap();
    to_one.send(&from_zero).await;
    to_zero.send(&from_one).await;
    to_one.closed().await;
    to_zero.closed().await;
    one.refused_connection("other-binding").await;
    zero.refused_connection("other-binding").await;

    // With her own certificate she does not even come that far.
    let (tcp, _) = middle.accept().await.unwrap();
    let context = tls::peer_context(&network.credentials(0), &authority).unwrap();
    let mut stream = SslStream::new(Ssl::new(&context).unwrap(), tcp).unwrap();
    Pin::new(&mut stream).accept().await.unwrap();
    Raw::over(stream, id).closed().await;
    zero.refused_connection("other-node").await;

    // Out of the way, she keeps nobody apart.
    let mut honest = Raw::connect(&real, &network.credentials(0), &authority, id).await;
    let binding = honest.binding;
    honest.send(&stamped(id, identity(0), Recipient::One(identity(1)), &alive(id, Some(binding)), &key(0))).await;
    one.hear_change(0, true).await;
}

#[actix_rt::test]
async fn messages_that_do_not_hold_are_passed_over_and_too_many_end_the_session() {
    let (network, mut victim) = victim().await;
    let (id, me) = (network.id(), identity(0));
    let mut raw = Raw::join(&network, 0, 1).await;
    victim.hear_change(0, true).await;
    let to_all = |content: &Content, n| stamped(id, me.clone(), Recipient::All, content, &key(n));
    let said = &vote(id, 0, &key(0));
    let early = clock::now().plus_millis(31_000);
    let mut flipped = to_all(said, 0);
    *flipped.last_mut().unwrap() ^= 1;
    let cases = [
        (vec![0x42; 1000], "malformed"),
        // Of another session: node 2 said it, to all; node 0 forwards it as it is.
        (stamped(id, identity(2), Recipient::All, said, &key(2)), "other-sender"),
        (stamped(id, me.clone(), Recipient::One(identity(2)), said, &key(0)), "other-recipient"),
        (stamped_at(id, me.clone(), Recipient::All, said, &key(0), early), "time-window"),
        (to_all(said, 2), "bad-signature"),
        (flipped, "bad-signature"),
        (stamped(Hash::ZERO, me.clone(), Recipient::All, said, &key(0)), "bad-signature"),
        // Its own stamp, but a vote it made up in another's name.
        (to_all(&vote(id, 2, &key(0)), 0), "bad-content"),
    ];
    for (frame, reason) in &cases {
        raw.send(frame).await;
        victim.refused_message(reason).await;
    }
    // None of them got through, and the session still stands.
    raw.send(&to_all(&gossip(b"good"), 0)).await;
    let heard = victim.hear(|heard| !matches!(heard, Heard::Sync(..))).await;
    assert!(matches!(heard, Heard::Pool(..)), "{heard:?}");
    for _ in cases.len()..limits().most_refused as usize {
        raw.send(b"junk").await;
    }
    raw.closed().await;
    victim.ended_session("too-many-refused").await;
    victim.hear_change(0, false).await;
    still_serving(&network, &mut victim).await;
}

#[actix_rt::test]
async fn an_oversized_frame_ends_the_session_before_it_is_read() {
    let (network, mut victim) = victim().await;
    let mut raw = Raw::join(&network, 0, 1).await;
    victim.hear_change(0, true).await;
    raw.send(&vec![0; (16 << 20) + 1]).await;
    raw.closed().await;
    victim.ended_session("oversized-frame").await;
    victim.hear_change(0, false).await;
    still_serving(&network, &mut victim).await;
}

//! Sequences of requests at random over one connection each: sound, refused, broken, half sent, one
//! behind the other without waiting. Every answer is one that is documented, and the next caller is
//! served.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use awc::http::Method;
use minidlt_actors::admin::Limits;
use minidlt_protocol::codec;
use openssl::ssl::SslConnector;
use serde_json::Value;

use super::{
    network::TRADER,
    node::Node,
    random::Random,
    seed::{self, sequences},
};

const SEQUENCES: usize = 30;
const CBOR: &str = "application/cbor";
const SEQ: &str = "application/cbor-seq";
const JSON: &str = "application/json";
/// Answers that a problem explains.
const PROBLEMS: [u16; 11] = [400, 403, 404, 405, 408, 409, 413, 415, 422, 429, 503];
/// Answers to what is no request at all: the server's own, without a body, and the last.
const BARE: [u16; 3] = [400, 408, 431];

/// Short times, so that what never comes is soon given up, and few places, so that one that is not
/// given back is soon missed: of eight a caller has two.
fn limits() -> Limits {
    let short = Duration::from_secs(1);
    Limits {
        head_time: short,
        body_time: short,
        keep_alive: short,
        requests: 8,
        bodies_bytes: 16 << 20,
        ..Limits::default()
    }
}

/// What is sent, and whether the connection can go on after it.
struct Piece {
    bytes: Vec<u8>,
    is_whole: bool,
    /// Requests that the bytes hold, or begin.
    requests: usize,
}

fn whole(bytes: impl Into<Vec<u8>>) -> Piece {
    Piece { bytes: bytes.into(), is_whole: true, requests: 1 }
}

fn broken(bytes: impl Into<Vec<u8>>) -> Piece {
    Piece { is_whole: false, ..whole(bytes) }
}

fn head(method: &str, path: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n").into_bytes()
}

fn post(path: &str, kind: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len().to_string();
    [head("POST", path, &[("Content-Type", kind), ("Content-Length", &length)]), body.to_vec()].concat()
}

/// One of everything that may come.
fn piece(node: &Node, random: &mut Random, nonce: u64) -> Piece {
    const SUBMIT: &str = "/v1/transactions";
    const PREPARE: &str = "/v1/transactions/prepare";
    let sound = codec::encode(&node.network.signed(TRADER, nonce));
    let mut changed = sound.clone();
    for _ in 0..=random.below(3) {
        change(&mut changed, random);
    }
    let mut record = br#"{"record": {"content": {"a": [1, -2.5e3, "\u00e9"], "b": null}}, "lifetime_s": 60}"#.to_vec();
    match random.below(27) {
        0 => whole(head("GET", "/v1/status", &[])),
        1 => whole(post(SUBMIT, CBOR, &sound)),
        2 | 3 => whole(post(SUBMIT, CBOR, &changed)),
        4 => whole(post(SUBMIT, SEQ, &[sound, changed].concat())),
        5 => whole(post(SUBMIT, JSON, &changed)),
        6 => whole(post(PREPARE, JSON, &record)),
        7 => {
            change(&mut record, random);
            whole(post(PREPARE, JSON, &record))
        }
        8 => whole(post(SUBMIT, "text/plain", &sound)),
        25 => whole(post(SUBMIT, "application/cbor; charset=utf-9", &sound)),
        9 => broken(post(SUBMIT, "application/cbor; charset=\u{7f}", &sound)),
        10 => whole(head("GET", "/v9/no/such/path?x=%00", &[])),
        11 => whole(head("DELETE", "/v1/transactions", &[])),
        12 => whole(head("GET", "/v1/blocks?from=18446744073709551616", &[])),
        13 => whole(head("GET", &format!("/v1/transactions?field={}", "x".repeat(3_000)), &[])),
        14 => broken(head("GET", "/v1/status", &[("X-Long", &"x".repeat(200 << 10))])),
        15 => {
            let names: Vec<String> = (0..200).map(|number| format!("X-{number}")).collect();
            let fields: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
            broken(head("GET", "/v1/status", &fields))
        }
        16 => broken((0..1 + random.below(400)).map(|_| random.below(256) as u8).collect::<Vec<u8>>()),
        17 => {
            let bytes = post(SUBMIT, CBOR, &sound);
            let cut = bytes.len() - 1 - random.below(sound.len());
            broken(&bytes[..cut])
        }
        18 => {
            let bytes = head("GET", "/v1/status", &[]);
            broken(&bytes[..1 + random.below(bytes.len() - 1)])
        }
        19 => whole([chunked_head(SUBMIT), chunk(&sound[..20]), chunk(&sound[20..]), chunk(&[])].concat()),
        20 => broken([chunked_head(SUBMIT), b"zz\r\n".to_vec(), sound].concat()),
        21 => broken([chunked_head(SUBMIT), b"ffffffffffffffff1\r\n".to_vec(), sound].concat()),
        22 => broken([head("POST", SUBMIT, &[("Content-Length", "5"), ("Content-Length", "6")]), sound].concat()),
        23 => {
            let both = [("Content-Type", CBOR), ("Content-Length", "4"), ("Transfer-Encoding", "chunked")];
            broken([head("POST", SUBMIT, &both), chunk(&sound), chunk(&[])].concat())
        }
        24 => broken([head("POST", SUBMIT, &[("Content-Type", CBOR), ("Content-Length", "-1")]), sound].concat()),
        _ => {
            whole(head("POST", SUBMIT, &[("Content-Type", CBOR), ("Content-Length", "0"), ("Expect", "100-continue")]))
        }
    }
}

fn chunked_head(path: &str) -> Vec<u8> {
    head("POST", path, &[("Content-Type", CBOR), ("Transfer-Encoding", "chunked")])
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

fn change(bytes: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(bytes.len());
    match random.below(4) {
        0 => bytes[at] ^= 1 << random.below(8),
        1 => bytes[at] = random.below(256) as u8,
        2 => bytes.insert(at, random.below(256) as u8),
        _ => bytes.truncate(at.max(1)),
    }
}

/// How a connection is used.
struct Sequence {
    bytes: Vec<u8>,
    /// Where the bytes are cut into writes.
    cuts: Vec<usize>,
    requests: usize,
    /// All of them can be answered: the last one asks for the connection to be closed.
    is_whole: bool,
    /// Hangs up without reading.
    hangs_up: bool,
}

fn sequence(node: &Node, random: &mut Random, nonce: &mut u64) -> Sequence {
    let mut sequence =
        Sequence { bytes: Vec::new(), cuts: Vec::new(), requests: 0, is_whole: true, hangs_up: random.below(6) == 0 };
    for _ in 0..1 + random.below(5) {
        *nonce += 1;
        let piece = piece(node, random, *nonce);
        sequence.bytes.extend(piece.bytes);
        sequence.requests += piece.requests;
        sequence.is_whole = piece.is_whole;
        if !piece.is_whole {
            break;
        }
    }
    if sequence.is_whole {
        sequence.bytes.extend(head("GET", "/v1/status", &[("Connection", "close")]));
        sequence.requests += 1;
    }
    let cuts = (0..random.below(4)).map(|_| random.below(sequence.bytes.len()));
    sequence.cuts = cuts.collect();
    sequence.cuts.sort_unstable();
    sequence
}

/// Sends it all, and reads what is answered until the server closes.
fn talk(connector: &SslConnector, address: SocketAddr, sequence: &Sequence) -> Vec<u8> {
    let tcp = TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut stream = connector.connect("localhost", tcp).unwrap();
    let mut from = 0;
    for cut in sequence.cuts.iter().copied().chain([sequence.bytes.len()]) {
        // It may have answered and closed already.
        if stream.write_all(&sequence.bytes[from..cut]).and_then(|()| stream.flush()).is_err() {
            break;
        }
        from = cut;
    }
    let mut answers = Vec::new();
    if !sequence.hangs_up {
        let read = stream.read_to_end(&mut answers);
        // A reset is an end, too; waiting in vain is not.
        let waited = read.err().is_some_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!waited, "the server neither answers nor closes after {} bytes", sequence.bytes.len());
    }
    answers
}

/// An answer's status, content type and body.
type Answered = (u16, String, Vec<u8>);

fn answers(mut bytes: &[u8]) -> Vec<Answered> {
    let mut answers = Vec::new();
    while !bytes.is_empty() {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let Some(end) = end else { panic!("half an answer: {:?}", String::from_utf8_lossy(bytes)) };
        let head = std::str::from_utf8(&bytes[..end]).unwrap().to_ascii_lowercase();
        let field = |name: &str| {
            let line = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.map_or("", str::trim).to_owned()
        };
        let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
        bytes = &bytes[end + 4..];
        if status == 100 {
            continue;
        }
        assert_eq!(field("transfer-encoding"), "", "{head}");
        let length: usize = field("content-length").parse().unwrap_or_else(|_| panic!("no length: {head}"));
        assert!(length <= bytes.len(), "a body cut short: {head}");
        answers.push((status, field("content-type"), bytes[..length].to_vec()));
        bytes = &bytes[length..];
    }
    answers
}

/// Every answer is one that is documented.
fn assert_documented(answers: &[Answered], what: &str) {
    for (number, (status, kind, body)) in answers.iter().enumerate() {
        let text = String::from_utf8_lossy(body);
        match status {
            200 | 202 => {
                assert_eq!(kind, JSON, "{what}");
                serde_json::from_slice::<Value>(body).unwrap();
            }
            _ if BARE.contains(status) && body.is_empty() => {
                assert_eq!(number + 1, answers.len(), "{what}: nothing follows what is no request");
            }
            _ => {
                assert!(PROBLEMS.contains(status), "{what}: {status} {text}");
                assert_eq!(kind, "application/problem+json", "{what}: {text}");
                let problem: Value = serde_json::from_slice(body).unwrap();
                assert_eq!(problem["status"], *status, "{what}: {problem}");
                assert!(problem["type"].as_str().unwrap().starts_with("urn:minidlt:problem:"), "{problem}");
                assert!(!problem["detail"].as_str().unwrap().is_empty(), "{problem}");
            }
        }
    }
}

#[actix_web::test]
async fn whatever_comes_is_answered_as_documented_and_the_next_caller_is_served() {
    let mut node = Node::with(limits());
    node.http2 = false;
    let mut random = seed::random();
    let mut nonce = 0;
    let mut seen = std::collections::BTreeMap::<u16, u32>::new();
    for number in 0..sequences(SEQUENCES) {
        let sequence = sequence(&node, &mut random, &mut nonce);
        let connector = node.connector(Some(&node.network.paper(TRADER, "Org01"))).build();
        let address = node.running.address;
        let (requests, is_whole, hangs_up) = (sequence.requests, sequence.is_whole, sequence.hangs_up);
        let what = format!(
            "sequence {number}: {:?}",
            String::from_utf8_lossy(&sequence.bytes[..sequence.bytes.len().min(2_000)])
        );
        let bytes = actix_web::web::block(move || talk(&connector, address, &sequence)).await.unwrap();
        let answers = answers(&bytes);
        assert_documented(&answers, &what);
        assert!(answers.len() <= requests + usize::from(!is_whole), "{what}: {} answers", answers.len());
        if is_whole && !hangs_up {
            assert_eq!(answers.len(), requests, "{what}");
        }
        answers.iter().for_each(|(status, ..)| *seen.entry(*status).or_default() += 1);

        nonce += 1;
        let body = codec::encode(&node.network.signed(TRADER, nonce));
        let taken = node.call(TRADER, Method::POST, "/v1/transactions", CBOR, body).await;
        assert_eq!(taken.status.as_u16(), 202, "after {what}: {}", taken.text);
    }
    println!("answers by status: {seen:?}");
    assert!([200, 202, 400].iter().all(|status| seen.contains_key(status)), "{seen:?}");
    assert_eq!(node.get(TRADER, "/v1/status").await.status.as_u16(), 200);
}

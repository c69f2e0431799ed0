//! The rules of transactions: each refusal reached, and random damage never taken for another.

use std::sync::LazyLock;

use minidlt_protocol::{
    codec,
    crypto::{CryptoError, Domain, Signature, digest},
    limits::{
        CLOCK_WINDOW_MILLIS, MAX_BULK_TRANSACTION_BYTES, MAX_ENDORSEMENTS, MAX_LIFETIME_MILLIS, MAX_RECORDS,
        MAX_TRANSACTION_BYTES,
    },
    merkle,
    registry::{Entry, Node, Registry, Role, Standing, User},
    transaction::{Body, Effect, Refusal, SignedTransaction, Transaction, TransactionBytes, id_of},
    types::{Hash, Timestamp},
    verified::Verified,
};
use proptest::prelude::*;
use serde_json::json;

use crate::common::{ADMIN, AUDITOR, BROKER, NOW, Network, STRANGER, TRADER, high_s, identity, key, node};

static NETWORK: LazyLock<Network> = LazyLock::new(Network::bft);

/// All that a node checks on arrival, in its order.
fn admit(signed: &SignedTransaction, gateway: u8) -> Result<Verified<Transaction>, Refusal> {
    admit_bytes(TransactionBytes::from(signed), gateway)
}

fn admit_bytes(bytes: TransactionBytes, gateway: u8) -> Result<Verified<Transaction>, Refusal> {
    let transaction = Transaction::parse(bytes, &NETWORK.id)?;
    transaction.check_time(NOW)?;
    transaction.authorise(&NETWORK.registry, Some(&node(gateway)))?;
    transaction.verify(&NETWORK.registry)
}

/// A trader's body, changed, and signed as it then is.
fn signed(change: impl FnOnce(&mut Body)) -> SignedTransaction {
    let mut body = NETWORK.body(TRADER.0, 1);
    change(&mut body);
    SignedTransaction::sign(&body, &key(TRADER.1))
}

/// A body of any bytes, well signed.
fn raw(body: Vec<u8>) -> SignedTransaction {
    let signature = key(TRADER.1).sign(&id_of(&NETWORK.id, &body));
    SignedTransaction::new(body, signature)
}

/// A body whose one record is these bytes, which may be no CBOR at all.
fn with_record(record: &[u8]) -> SignedTransaction {
    let mark = "the record stands here";
    let body = codec::encode(&NETWORK.body_of(TRADER.0, 1, &[json!(mark)]));
    let record_at = body.windows(mark.len()).position(|window| window == mark.as_bytes()).expect("it is there");
    // A byte string of 23 bytes: its head, the text's head, the text.
    let mut changed = body[..record_at - 2].to_vec();
    changed.extend(codec::encode(&serde_bytes::Bytes::new(record)));
    changed.extend(&body[record_at + mark.len()..]);
    raw(changed)
}

fn malformed(result: Result<Verified<Transaction>, Refusal>, says: &str) {
    match result {
        Err(Refusal::Malformed(reason)) => assert!(reason.contains(says), "{reason:?} does not say {says:?}"),
        other => panic!("{other:?}, expected malformed: {says}"),
    }
}

#[test]
fn an_honest_one_is_taken_and_says_what_it_is() {
    let given = signed(|_| {});
    let bytes = TransactionBytes::from(&given);
    let taken = admit(&given, 1).expect("it is honest");
    assert_eq!(taken.id, digest(Domain::Transaction, &NETWORK.id, &[&given.body]));
    assert_eq!(taken.leaf, merkle::leaf_hash(bytes.as_slice()));
    let one = Effect::Records { record_type: None, count: 1 };
    assert_eq!((&taken.effect, taken.records(), taken.size()), (&one, 1, bytes.as_slice().len()));
    assert_eq!(taken.body().expect("it was read before"), NETWORK.body(TRADER.0, 1));
}

#[test]
fn signatures_that_do_not_hold() {
    let honest = signed(|_| {});
    let id = id_of(&NETWORK.id, &honest.body);
    let with = |signature| admit(&SignedTransaction { signature, ..honest.clone() }, 0).unwrap_err();
    let mismatch = Refusal::BadSignature(CryptoError::SignatureMismatch);
    assert_eq!(with(high_s(&honest.signature)), Refusal::BadSignature(CryptoError::HighS));
    assert_eq!(with(Signature::from_bytes([0xff; 64])), Refusal::BadSignature(CryptoError::SignatureEncoding));
    assert_eq!(with(Signature::from_bytes([0; 64])), mismatch, "unsigned");
    assert_eq!(with(key(BROKER.1).sign(&id)), mismatch, "another's");
    for domain in [Domain::Genesis, Domain::Block, Domain::Vote, Domain::Proposal, Domain::Message, Domain::Alive] {
        let elsewhere = key(TRADER.1).sign(&digest(domain, &NETWORK.id, &[&honest.body]));
        assert_eq!(with(elsewhere), mismatch, "{domain:?}");
    }
    let foreign = key(TRADER.1).sign(&id_of(&Hash::ZERO, &honest.body));
    assert_eq!(with(foreign), mismatch, "signed for another network");
    assert_eq!(with(high_s(&honest.signature)).kind(), "high-s-signature");
}

#[test]
fn the_network_and_the_times() {
    let theirs = Hash::from_bytes([3; 32]);
    let refusal = |given: SignedTransaction| admit(&given, 0).unwrap_err();
    assert_eq!(refusal(signed(|b| b.network = theirs)), Refusal::WrongNetwork { theirs, ours: NETWORK.id });
    let expires = NOW.minus_millis(1);
    let old = signed(|b| (b.created, b.expires) = (NOW.minus_millis(9), expires));
    assert_eq!(refusal(old), Refusal::Expired { expires, now: NOW });
    let created = NOW.plus_millis(CLOCK_WINDOW_MILLIS + 1);
    let early = signed(|b| (b.created, b.expires) = (created, created.plus_millis(1)));
    assert_eq!(refusal(early), Refusal::FarFuture { created, now: NOW });
    malformed(admit(&signed(|b| b.expires = b.created), 0), "expires before");
    malformed(admit(&signed(|b| b.expires = b.created.minus_millis(1)), 0), "expires before");
    malformed(admit(&signed(|b| b.expires = NOW.plus_millis(MAX_LIFETIME_MILLIS + 1)), 0), "longer than 24 hours");
    // The very bounds are inside.
    assert!(admit(&signed(|b| (b.created, b.expires) = (NOW.minus_millis(1), NOW)), 0).is_ok());
    assert!(admit(&signed(|b| b.expires = NOW.plus_millis(MAX_LIFETIME_MILLIS)), 0).is_ok());
    let created = NOW.plus_millis(CLOCK_WINDOW_MILLIS);
    assert!(admit(&signed(|b| (b.created, b.expires) = (created, created.plus_millis(1))), 0).is_ok());
}

#[test]
fn the_end_of_time_is_refused_and_not_wrapped_around() {
    let last = Timestamp::from_millis(u64::MAX);
    let at_the_end = signed(|b| (b.created, b.expires) = (last.minus_millis(1), last));
    assert_eq!(admit(&at_the_end, 0).unwrap_err().kind(), "far-future-transaction");
    malformed(admit(&signed(|b| (b.created, b.expires) = (last, last)), 0), "expires before");
    malformed(admit(&signed(|b| b.expires = last), 0), "longer than");
    let transaction = Transaction::parse(TransactionBytes::from(&at_the_end), &NETWORK.id).expect("well-formed");
    assert_eq!(transaction.check_time(last), Ok(()));
    assert!(transaction.check_time(Timestamp::default()).is_err());
}

#[test]
fn the_authors_standing() {
    let by = |(who, seed): (&str, u8), gateway| {
        admit(&SignedTransaction::sign(&NETWORK.body(who, 1), &key(seed)), gateway).map(|_| ())
    };
    assert_eq!(by(STRANGER, 0), Err(Refusal::UnknownAuthor(identity(STRANGER.0))));
    let node_as_author = by(("node0@Org01", 1), 0);
    assert_eq!(node_as_author, Err(Refusal::NodeAuthor(node(0))), "nodes keep no records");
    assert_eq!(by(AUDITOR, 0), Err(Refusal::NotPermitted { author: identity(AUDITOR.0), role: Role::Submitter }));
    let allowed = "node0@Org01, node1@Org02".to_owned();
    let (author, gateway) = (identity(TRADER.0), node(2));
    assert_eq!(by(TRADER, 2), Err(Refusal::GatewayNotPermitted { author, gateway, allowed }));
    assert_eq!(by(BROKER, 2), Ok(()));
    let unsent = Transaction::parse(TransactionBytes::from(&NETWORK.signed(TRADER, 1)), &NETWORK.id).unwrap();
    assert_eq!(unsent.authorise(&NETWORK.registry, None), Ok(()), "gossiped, it has no gateway");
}

#[test]
fn who_has_no_gateway_left_may_use_any_node() {
    let suspended = |nodes: &[u8]| {
        let mut registry = Registry::clone(&NETWORK.registry);
        for node in nodes {
            let before = registry.nodes[&self::node(*node)].clone();
            registry.put(Entry::Node(Node { standing: Standing::Suspended, ..before }));
        }
        registry
    };
    let sent = Transaction::parse(TransactionBytes::from(&NETWORK.signed(TRADER, 1)), &NETWORK.id).unwrap();
    let by = |registry: &Registry, gateway| sent.authorise(registry, Some(&node(gateway)));
    let one_left = suspended(&[0]);
    assert_eq!([1, 0, 2].map(|gateway| by(&one_left, gateway).is_ok()), [true, false, false]);
    let none_left = suspended(&[0, 1]);
    assert_eq!([2, 3].map(|gateway| by(&none_left, gateway)), [Ok(()), Ok(())]);
    let allowed = "any node in good standing".to_owned();
    let (author, gateway) = (identity(TRADER.0), node(0));
    assert_eq!(by(&none_left, 0), Err(Refusal::GatewayNotPermitted { author, gateway, allowed }));
    // Who was given none was given none.
    let mut never_had = none_left;
    let trader = never_had.users[&identity(TRADER.0)].clone();
    never_had.put(Entry::User(User { gateways: [].into(), ..trader }));
    assert!((0..4).all(|gateway| by(&never_had, gateway).is_err()));
}

#[test]
fn sizes() {
    let of = |records: &[serde_json::Value]| {
        admit(&SignedTransaction::sign(&NETWORK.body_of(TRADER.0, 1, records), &key(TRADER.1)), 0)
    };
    let text = |length| json!("x".repeat(length));
    let limit = |refused: Result<Verified<Transaction>, Refusal>| match refused {
        Err(Refusal::Oversized { limit, .. }) => limit,
        other => panic!("{:?}", other.map(|t| t.size())),
    };
    assert!(of(&[text(65_000)]).is_ok());
    assert_eq!(limit(of(&[text(MAX_TRANSACTION_BYTES)])), MAX_TRANSACTION_BYTES);
    assert!(of(&[text(65_000), text(65_000)]).is_ok(), "the larger bound is that of many records");
    assert_eq!(limit(of(&[text(MAX_BULK_TRANSACTION_BYTES / 2), text(MAX_BULK_TRANSACTION_BYTES / 2)])), 1 << 20);
    assert!(of(&vec![json!(1); MAX_RECORDS]).is_ok());
    malformed(of(&vec![json!(1); MAX_RECORDS + 1]), "more than 10000 records");
    malformed(of(&[]), "no record");
}

#[test]
fn records_that_are_not_json() {
    assert!(admit(&with_record(&[0x01]), 0).is_ok());
    let cases: [(&[u8], &str); 9] = [
        (&[], "middle of a value"),
        (&[0xf9, 0x7e, 0x00], "not finite"),
        (&[0xfb, 0x7f, 0xf0, 0, 0, 0, 0, 0, 0], "not finite"),
        (&[0xa2, 0x61, 0x61, 0x01, 0x61, 0x61, 0x02], "repeated map key"),
        (&[0xa1, 0x01, 0x01], "not text"),
        (&[0x41, 0x00], "byte string"),
        (&[0x01, 0x01], "after the end"),
        (&[0xc1, 0x01], "a tag"),
        (&[0x9f, 0xff], "indefinite"),
    ];
    for (record, says) in cases {
        malformed(admit(&with_record(record), 0), says);
    }
    let deep = [vec![0x81; 40], vec![0x00]].concat();
    malformed(admit(&with_record(&deep), 0), "nested deeper");
    let truncated = [0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    malformed(admit(&with_record(&truncated), 0), "middle of a value");
}

#[test]
fn bodies_of_another_shape() {
    malformed(admit(&raw(vec![]), 0), "middle of a value");
    malformed(admit(&raw(codec::encode(&json!({"network": 1}))), 0), "expected shape");
    let mut with_more = serde_json::to_value(NETWORK.body(TRADER.0, 1)).unwrap();
    with_more["more"] = json!(1);
    malformed(admit(&raw(codec::encode(&with_more)), 0), "expected shape");
    malformed(admit_bytes(TransactionBytes::from(vec![0xff; 100]), 0), "");
    let unknown = json!({"x".repeat(60_000): 1});
    match admit(&raw(codec::encode(&unknown)), 0) {
        Err(Refusal::Malformed(reason)) => assert!(reason.len() < 300, "a refusal does not quote a whole body"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn endorsements() {
    let endorsed = |endorsers: &[(&str, u8)]| {
        let mut given = NETWORK.signed(TRADER, 1);
        endorsers.iter().for_each(|(who, seed)| NETWORK.endorse(&mut given, who, *seed));
        admit(&given, 0)
    };
    let taken = endorsed(&[ADMIN, ("node3@Org04", 4), TRADER]).expect("all are enrolled");
    assert_eq!(taken.endorsements.len(), 3);
    let reason = |refused: Result<Verified<Transaction>, Refusal>| match refused {
        Err(Refusal::BadEndorsement { endorser, reason }) => (endorser, reason),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        reason(endorsed(&[STRANGER])),
        (identity(STRANGER.0), "not enrolled, or not in good standing".to_owned())
    );
    let (endorser, why) = reason(endorsed(&[ADMIN, (BROKER.0, ADMIN.1)]));
    assert_eq!(endorser, identity(BROKER.0));
    assert_eq!(why, CryptoError::SignatureMismatch.to_string());
    malformed(endorsed(&[ADMIN, BROKER, ADMIN]), "endorses it twice");
    malformed(endorsed(&[STRANGER; MAX_ENDORSEMENTS + 1]), "more than 64 endorsements");
    let mut high = NETWORK.signed(TRADER, 1);
    NETWORK.endorse(&mut high, ADMIN.0, ADMIN.1);
    high.endorsements[0].signature = high_s(&high.endorsements[0].signature);
    assert_eq!(reason(admit(&high, 0)).1, CryptoError::HighS.to_string());
}

#[test]
fn only_what_may_pass_later_is_transient() {
    let (author, now) = (identity(TRADER.0), NOW);
    assert!(Refusal::MempoolFull("").is_transient());
    assert!(Refusal::UserShareFull(author.clone()).is_transient());
    assert!(Refusal::FarFuture { created: NOW, now }.is_transient());
    assert!(!Refusal::Expired { expires: NOW, now }.is_transient());
    assert!(!Refusal::UnknownAuthor(author).is_transient());
    assert!(!Refusal::AlreadyCommitted.is_transient());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// A changed transaction is refused, or is the very same bytes: nothing in an envelope can be
    /// respelled, and what is signed cannot be changed.
    #[test]
    fn changed_bytes_are_never_taken(at in any::<prop::sample::Index>(), flip in 1u8.., cut in any::<bool>(), endorsed in any::<bool>()) {
        let mut honest = NETWORK.signed(TRADER, 1);
        if endorsed {
            NETWORK.endorse(&mut honest, ADMIN.0, ADMIN.1);
        }
        let mut bytes = codec::encode(&honest);
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] ^= flip }
        prop_assert!(admit_bytes(bytes.into(), 0).is_err());
    }

    /// Any bytes at all: refused without a panic.
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(admit_bytes(bytes.clone().into(), 0).is_err());
        prop_assert!(admit(&raw(bytes.clone()), 0).is_err());
        let _ = admit(&with_record(&bytes), 0);
    }

    #[test]
    fn records_read_back_as_they_were_put_in(numbers in prop::collection::vec(any::<i64>(), 1..20), text in ".{0,40}") {
        let records: Vec<_> = numbers.iter().map(|n| json!({"n": n, text.clone(): [n, null, 0.5]})).collect();
        let given = SignedTransaction::sign(&NETWORK.body_of(TRADER.0, 1, &records), &key(TRADER.1));
        let shown = serde_json::to_value(admit(&given, 0).unwrap().body().unwrap()).unwrap();
        prop_assert_eq!(&shown["operation"]["record"]["contents"], &serde_json::Value::from(records));
    }
}

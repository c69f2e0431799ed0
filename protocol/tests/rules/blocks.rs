//! The rules of blocks: each refusal reached, and a certified block refused after any one change.

use std::sync::LazyLock;

use minidlt_protocol::{
    block::{
        Block, BlockError, CertifiedBlock, CertifiedBlockError, DecidedBlock, Head, Header, SharedTransaction, build,
    },
    codec,
    limits::{CLOCK_WINDOW_MILLIS, MAX_BLOCK_BYTES, MAX_BLOCK_TRANSACTIONS},
    merkle,
    transaction::{Refusal, SignedTransaction, Transaction},
    types::{Hash, Height, Round, Timestamp},
    vote::{Certificate, CertificateError, ConsensusMode, Voters},
};
use proptest::prelude::*;
use serde_json::json;

use crate::common::{ADMIN, AUDITOR, BROKER, NOW, Network, TRADER, key, network, node};

static NETWORK: LazyLock<Network> = LazyLock::new(Network::bft);
static TRANSACTIONS: LazyLock<Vec<SharedTransaction>> =
    LazyLock::new(|| (0..4).map(|n| NETWORK.transaction(if n % 2 == 0 { TRADER } else { BROKER }, n)).collect());

fn header() -> Header {
    NETWORK.certified(&NETWORK.head, &TRANSACTIONS, &[]).block.header
}

fn mismatch(result: Result<(), BlockError>, which: &str) {
    match result {
        Err(BlockError::Mismatch { what, .. }) => assert_eq!(what, which),
        other => panic!("{other:?}, expected another {which}"),
    }
}

fn plain(shared: &[SharedTransaction]) -> impl Iterator<Item = &Transaction> + Clone {
    shared.iter().map(|transaction| &***transaction)
}

#[test]
fn what_a_header_must_be_to_follow() {
    let check = |change: &dyn Fn(&mut Header)| {
        let mut header = header();
        change(&mut header);
        header.check_follows(&NETWORK.head, &NETWORK.voters)
    };
    assert_eq!(check(&|_| {}), Ok(()));
    mismatch(check(&|h| h.height = Height::GENESIS), "height");
    mismatch(check(&|h| h.height = Height::new(2)), "height");
    mismatch(check(&|h| h.previous = Hash::ZERO), "previous hash");
    mismatch(check(&|h| h.results_root = Hash::ZERO), "results root");
    mismatch(check(&|h| h.state_root = Hash::ZERO), "state root");
    mismatch(check(&|h| h.proposer = node(0)), "proposer");
    mismatch(check(&|h| h.round = Round::new(1)), "proposer");
    let (created, previous) = (NOW.minus_millis(1), NOW);
    assert_eq!(check(&|h| h.created = created), Err(BlockError::GoesBack { created, previous }));
    assert_eq!(check(&|h| h.created = NOW), Ok(()), "time may stand still");
    assert_eq!(check(&|h| (h.round, h.proposer) = (Round::new(1), node(2))), Ok(()));
    let nobody = Voters::new(ConsensusMode::Bft, Vec::new());
    mismatch(header().check_follows(&NETWORK.head, &nobody), "proposer");
    let last = Head { height: Height::new(u64::MAX), ..NETWORK.head.clone() };
    mismatch(header().check_follows(&last, &NETWORK.voters), "height");
}

#[test]
fn a_voters_clock() {
    let at = |created: Timestamp, round: u32, now| {
        Header { created, ..header() }.check_clock(&NETWORK.head, Round::new(round), now)
    };
    let (window, refused) = (CLOCK_WINDOW_MILLIS, |created, now| Err(BlockError::ClockWindow { created, now }));
    assert_eq!(at(NOW.plus_millis(window), 0, NOW), Ok(()));
    assert_eq!(at(NOW.minus_millis(window), 0, NOW), Ok(()));
    assert_eq!(at(NOW.plus_millis(window + 1), 0, NOW), refused(NOW.plus_millis(window + 1), NOW));
    assert_eq!(at(NOW.minus_millis(window + 1), 0, NOW), refused(NOW.minus_millis(window + 1), NOW));
    assert_eq!(at(NOW.minus_millis(window + 1), 1, NOW), Ok(()), "proposed again later, it may be old");
    assert_eq!(at(NOW.plus_millis(window + 1), 1, NOW), refused(NOW.plus_millis(window + 1), NOW));
    let last = Timestamp::from_millis(u64::MAX);
    assert_eq!(at(last, 0, NOW), refused(last, NOW));
    assert_eq!(at(last, 0, last), Ok(()));
}

#[test]
fn time_stands_still_where_all_clocks_went_back() {
    let head = Head { created: NOW, ..NETWORK.head.clone() };
    let hour_ago = NOW.minus_millis(3_600_000);
    let at = |created| Header { created, ..header() }.check_clock(&head, Round::ZERO, hour_ago);
    assert_eq!(at(NOW), Ok(()), "the head's own time is the least there can be");
    let created = NOW.plus_millis(1);
    assert_eq!(at(created), Err(BlockError::ClockWindow { created, now: hour_ago }));
}

#[test]
fn what_the_transactions_must_be() {
    let check = |given: &[SharedTransaction], change: &dyn Fn(&mut Header)| {
        let leaves: Vec<Hash> = given.iter().map(|t| t.leaf).collect();
        let mut header = Header { transactions_root: merkle::root(&leaves), ..header() };
        change(&mut header);
        header.check_transactions(plain(given), &NETWORK.registry)
    };
    assert_eq!(check(&TRANSACTIONS, &|_| {}), Ok(()));
    assert_eq!(check(&[], &|_| {}), Ok(()), "a block may be empty");
    mismatch(check(&TRANSACTIONS, &|h| h.transactions_root = Hash::ZERO), "transactions root");
    let twice = [&TRANSACTIONS[..], &TRANSACTIONS[..1]].concat();
    assert_eq!(check(&twice, &|_| {}), Err(BlockError::Repeated { position: 4, id: TRANSACTIONS[0].id }));
    let position = 0;
    let late = TRANSACTIONS[0].expires.plus_millis(1);
    let reason = Refusal::Expired { expires: TRANSACTIONS[0].expires, now: late };
    assert_eq!(check(&TRANSACTIONS, &|h| h.created = late), Err(BlockError::Transaction { position, reason }));
    let early = NOW.minus_millis(CLOCK_WINDOW_MILLIS + 1);
    let reason = Refusal::FarFuture { created: NOW, now: early };
    assert_eq!(check(&TRANSACTIONS, &|h| h.created = early), Err(BlockError::Transaction { position, reason }));
    let unauthorised = [NETWORK.transaction(AUDITOR, 1)];
    match check(&unauthorised, &|_| {}) {
        Err(BlockError::Transaction { position: 0, reason: Refusal::NotPermitted { .. } }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_body_with_two_signatures_stands_once() {
    let mut endorsed = NETWORK.signed(TRADER, 0);
    NETWORK.endorse(&mut endorsed, ADMIN.0, ADMIN.1);
    let both = [TRANSACTIONS[0].clone(), NETWORK.shared(&endorsed)];
    let header = NETWORK.certified(&NETWORK.head, &both, &[]).block.header;
    let repeated = BlockError::Repeated { position: 1, id: both[0].id };
    assert_eq!(header.check_transactions(plain(&both), &NETWORK.registry), Err(repeated));
}

#[test]
fn too_many_and_too_large() {
    let many = vec![TRANSACTIONS[0].clone(); MAX_BLOCK_TRANSACTIONS + 1];
    let count = MAX_BLOCK_TRANSACTIONS + 1;
    assert_eq!(header().check_transactions(plain(&many), &NETWORK.registry), Err(BlockError::TooMany { count }));
    let text = json!("x".repeat(500_000));
    let large = SignedTransaction::sign(&NETWORK.body_of(TRADER.0, 1, &[text.clone(), text]), &key(TRADER.1));
    let large = vec![NETWORK.shared(&large); 5];
    let size = large.iter().map(|t| t.size()).sum();
    assert!(size > MAX_BLOCK_BYTES);
    assert_eq!(header().check_transactions(plain(&large), &NETWORK.registry), Err(BlockError::TooLarge { size }));
}

#[test]
fn what_is_built_follows() {
    let compact = build(&NETWORK.head, Round::ZERO, node(1), NOW.minus_millis(5), &TRANSACTIONS);
    assert_eq!(compact.header.created, NOW, "a clock that lags does not take the chain back");
    assert_eq!(compact.header.check_follows(&NETWORK.head, &NETWORK.voters), Ok(()));
    assert_eq!(compact.header.check_transactions(plain(&TRANSACTIONS), &NETWORK.registry), Ok(()));
    assert_eq!(compact.leaves, TRANSACTIONS.iter().map(|t| t.leaf).collect::<Vec<_>>());
}

fn certify(certified: CertifiedBlock) -> Result<DecidedBlock, CertifiedBlockError> {
    DecidedBlock::certified(certified, &NETWORK.id, &NETWORK.head, &NETWORK.registry)
}

#[test]
fn a_chain_of_certified_blocks_is_taken_and_gives_back_the_same_blocks() {
    let lists = [TRANSACTIONS[..2].to_vec(), Vec::new(), TRANSACTIONS[2..].to_vec()];
    let mut ledger = NETWORK.ledger();
    for certified in NETWORK.chain(&lists) {
        let decided = DecidedBlock::certified(certified.clone(), &NETWORK.id, &ledger.head, &NETWORK.registry).unwrap();
        assert_eq!(decided.block(), certified.block);
        assert_eq!(decided.hash, certified.block.header.hash(&NETWORK.id));
        ledger.execute(&decided);
        assert!(certify(certified).is_ok() == (ledger.head.height == Height::new(1)), "each follows one head only");
    }
}

#[test]
fn quorums() {
    let with = |nodes: &[u8]| NETWORK.certified(&NETWORK.head, &TRANSACTIONS, nodes);
    assert!(certify(with(&[0, 1, 2])).is_ok());
    let height = Height::new(1);
    let reason = CertificateError::NoQuorum { count: 2, quorum: 3 };
    assert_eq!(certify(with(&[0, 1])), Err(CertifiedBlockError::Certificate { height, reason }));
    let reason = CertificateError::OutOfOrder { voter: node(0) };
    assert_eq!(certify(with(&[1, 0, 2])), Err(CertifiedBlockError::Certificate { height, reason }));
    let all = network(ConsensusMode::FullConsent);
    let three = all.certified(&all.head, &[], &[0, 1, 2]);
    assert!(DecidedBlock::certified(three, &all.id, &all.head, &all.registry).is_err());
    let four = all.certified(&all.head, &[], &[0, 1, 2, 3]);
    assert!(DecidedBlock::certified(four, &all.id, &all.head, &all.registry).is_ok());
}

#[test]
fn another_networks_block_is_refused() {
    let mut genesis = crate::common::genesis(ConsensusMode::Bft);
    genesis.network = crate::common::name("other");
    let theirs = NETWORK.certified(&NETWORK.head, &[], &[0, 1, 2]);
    assert!(certify(theirs.clone()).is_ok());
    let other = DecidedBlock::certified(theirs, &genesis.id(), &NETWORK.head, &NETWORK.registry);
    assert!(other.is_err(), "signatures are bound to the network");
}

#[test]
fn votes_for_something_else_certify_nothing() {
    use minidlt_protocol::vote::{CommitSignature, Phase, Vote};
    let honest = NETWORK.certified(&NETWORK.head, &TRANSACTIONS, &[0, 1, 2]);
    let Certificate { height, round, block, .. } = honest.certificate;
    let precommit = Vote { phase: Phase::Precommit, height, round, block: Some(block) };
    let others = [
        Vote { phase: Phase::Prevote, ..precommit.clone() },
        Vote { block: None, ..precommit.clone() },
        Vote { block: Some(Hash::ZERO), ..precommit.clone() },
        Vote { round: Round::new(1), ..precommit.clone() },
        Vote { height: Height::new(2), ..precommit.clone() },
    ];
    for vote in others {
        let mut forged = honest.clone();
        let sign = |at| CommitSignature { voter: node(at), signature: key(at + 1).sign(&vote.digest(&NETWORK.id)) };
        forged.certificate.signatures = (0..3).map(sign).collect();
        assert!(matches!(certify(forged), Err(CertifiedBlockError::Certificate { .. })), "{vote:?}");
    }
}

/// What is changed, and how.
type Mutation = (&'static str, fn(&mut CertifiedBlock));

/// Every way to change one thing of a certified block with just a quorum of signatures.
fn mutations() -> Vec<Mutation> {
    vec![
        ("height", |c| c.block.header.height = Height::new(2)),
        ("round", |c| c.block.header.round = Round::new(4)),
        ("created", |c| c.block.header.created = NOW.plus_millis(1_001)),
        ("previous", |c| c.block.header.previous = Hash::ZERO),
        ("proposer", |c| c.block.header.proposer = node(0)),
        ("transactions_root", |c| c.block.header.transactions_root = Hash::ZERO),
        ("results_root", |c| c.block.header.results_root = Hash::ZERO),
        ("state_root", |c| c.block.header.state_root = Hash::ZERO),
        ("a transaction left out", |c| drop(c.block.transactions.pop())),
        ("a transaction twice", |c| c.block.transactions.push(c.block.transactions[0].clone())),
        ("transactions in another order", |c| c.block.transactions.swap(0, 1)),
        ("a transaction replaced", |c| c.block.transactions[0] = NETWORK.transaction(TRADER, 9).bytes.clone()),
        ("no transactions", |c| c.block.transactions.clear()),
        ("certificate's height", |c| c.certificate.height = Height::new(2)),
        ("certificate's round", |c| c.certificate.round = Round::new(1)),
        ("certificate's block", |c| c.certificate.block = Hash::ZERO),
        ("a signature left out", |c| drop(c.certificate.signatures.pop())),
        ("a signature twice", |c| c.certificate.signatures.push(c.certificate.signatures[2].clone())),
        ("signatures in another order", |c| c.certificate.signatures.swap(0, 1)),
        ("signatures exchanged", |c| {
            let first = c.certificate.signatures[0].signature;
            c.certificate.signatures[0].signature = c.certificate.signatures[1].signature;
            c.certificate.signatures[1].signature = first;
        }),
        ("another voter's name", |c| c.certificate.signatures[2].voter = node(3)),
        ("no voter's name", |c| c.certificate.signatures[2].voter = crate::common::identity("trader@Org01")),
    ]
}

#[test]
fn each_single_change_is_refused() {
    let honest = NETWORK.certified(&NETWORK.head, &TRANSACTIONS, &[0, 1, 2]);
    assert!(certify(honest.clone()).is_ok());
    for (what, change) in mutations() {
        let mut changed = honest.clone();
        change(&mut changed);
        assert!(certify(changed).is_err(), "{what}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Any flipped byte of a stored block or certificate: refused when decoded or when checked.
    #[test]
    fn a_flipped_byte_is_refused(at in any::<prop::sample::Index>(), flip in 1u8.., of_certificate in any::<bool>()) {
        let CertifiedBlock { block, certificate } = NETWORK.certified(&NETWORK.head, &TRANSACTIONS, &[0, 1, 2]);
        let mut bytes = if of_certificate { codec::encode(&certificate) } else { codec::encode(&block) };
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        let changed = if of_certificate {
            let certificate = codec::decode_canonical(&bytes, bytes.len());
            certificate.map(|certificate| CertifiedBlock { block, certificate })
        } else {
            Block::decode(&bytes).map(|block| CertifiedBlock { block, certificate })
        };
        prop_assert!(!changed.map(certify).is_ok_and(|taken| taken.is_ok()));
    }
}

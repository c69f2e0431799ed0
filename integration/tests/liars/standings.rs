//! Where the liar stands, as it says, and answers that nobody asked for. A node that takes part is kept
//! from nothing by it, and takes no made-up chain for a fork.

use std::collections::BTreeSet;

use minidlt_integration::Cluster;
use minidlt_protocol::{
    limits::MAX_BLOCK_TRANSACTIONS,
    message::{Alive, Content, PoolContent, SyncContent},
    receipt::CertifiedHeader,
    transaction::TransactionBytes,
    types::{Hash, Height},
    vote::CommitSignature,
};

use crate::{HONEST, counts::Counts, liar::Liar};

/// Questions at once, of which a node answers one and keeps one.
const QUESTIONS: usize = 30;
const ELSEWHERE: Hash = Hash::from_bytes([0xee; 32]);

pub fn lie(cluster: &Cluster, counts: &Counts, liar: &mut Liar) {
    liar.open_anew();
    let genuine = liar.standing(HONEST[0], None).expect("blocks were committed");
    let highest = Height::new(u64::MAX);
    for (what, at, shown) in made_up(liar, &genuine) {
        let claimed = if at.is_some() { genuine.header.height } else { highest };
        claims_and_shows(liar, claimed, at, &[Some(shown)]);
        counts.refused(what, "bad-standing", 1);
    }
    claims_far_ahead(liar, &genuine);
    counts.refused("below a head far ahead, a made-up block", "bad-standing", 1);
    claims_and_shows(liar, highest, None, &[Some(genuine.clone()), Some(genuine)]);
    counts.refused("a second answer", "unasked-standing", 1);
    answers_nobody_asked_for(cluster, counts, liar);

    for node in HONEST {
        let status = cluster.get(node, "/v1/status");
        assert_eq!(status["voting"]["state"], "voting", "node {node}: {status}");
        assert_eq!(cluster.metric(node, "minidlt_forks"), 0.0, "node {node}");
    }
}

/// What does not hold, and, where it is to be shown as another block of the past, its height.
fn made_up(liar: &Liar, genuine: &CertifiedHeader) -> Vec<(&'static str, Option<Height>, CertifiedHeader)> {
    let named = |shown| named(liar, shown);
    let mut ahead = genuine.clone();
    // No further than it is known who votes.
    ahead.header.height = genuine.header.height.next().next();
    let ahead = named(ahead);
    let mut signed = ahead.clone();
    let digest = signed.certificate.vote();
    let by_me = liar.route(HONEST[0]).vote(digest).signature;
    signed.certificate.signatures =
        ahead.certificate.signatures.iter().map(|one| CommitSignature { signature: by_me, ..one.clone() }).collect();
    let mut fewer = genuine.clone();
    fewer.certificate.signatures.truncate(2);
    fewer.header.height = fewer.header.height.next();
    let mut other = genuine.clone();
    other.header.created = other.header.created.plus_millis(1);
    let height = genuine.header.height;
    vec![
        ("a head ahead, by the signatures of another", None, ahead),
        ("a head ahead, signed by itself for all", None, signed),
        ("a head by too few", None, named(fewer)),
        ("another block of the past", Some(height), named(other)),
    ]
}

/// As it would be, were it certified.
fn named(liar: &Liar, mut shown: CertifiedHeader) -> CertifiedHeader {
    shown.hash = shown.header.hash(&liar.network);
    (shown.certificate.height, shown.certificate.block) = (shown.header.height, shown.hash);
    shown
}

/// Shows a head so far ahead that nobody can tell who votes there, until each node has asked for a block that
/// it can judge; and then one that is made up.
fn claims_far_ahead(liar: &Liar, genuine: &CertifiedHeader) {
    let shown_at = |height| {
        let mut shown = genuine.clone();
        shown.header.height = height;
        Content::Sync(SyncContent::Standing(Some(named(liar, shown))))
    };
    let far = Height::new(genuine.header.height.get() + 1_000_000);
    claims_and_shows(liar, far, None, &[]);
    HONEST.into_iter().for_each(|node| liar.say(node, &shown_at(far)));
    let mut waiting: BTreeSet<usize> = HONEST.into();
    liar.listen("all have asked for what they can judge", |liar, heard| {
        if let Content::Sync(SyncContent::Synchronise { at: Some(at) }) = heard.content
            && waiting.remove(&heard.from)
        {
            liar.say(heard.from, &shown_at(at));
        }
        waiting.is_empty().then_some(())
    });
}

/// Claims to stand there until each node has asked for proof, of its head or of that height, and shows this.
fn claims_and_shows(liar: &Liar, height: Height, at: Option<Height>, shown: &[Option<CertifiedHeader>]) {
    let claim = Alive { network: liar.network, height, head: ELSEWHERE, binding: None };
    let claim = Content::Sync(SyncContent::Alive(claim));
    let mut waiting: BTreeSet<usize> = HONEST.into();
    liar.forget();
    liar.say_to_all(&claim);
    liar.listen("all have asked for proof", |liar, heard| {
        match heard.content {
            Content::Sync(SyncContent::Synchronise { at: asked }) if asked == at && waiting.remove(&heard.from) => {
                shown
                    .iter()
                    .for_each(|shown| liar.say(heard.from, &Content::Sync(SyncContent::Standing(shown.clone()))));
            }
            // A claim too soon after a question is no reason for another.
            Content::Sync(SyncContent::Alive(_)) if waiting.contains(&heard.from) => liar.say(heard.from, &claim),
            _ => {}
        }
        waiting.is_empty().then_some(())
    });
}

fn answers_nobody_asked_for(cluster: &Cluster, counts: &Counts, liar: &Liar) {
    let from = Height::new(1);
    let blocks = vec![liar.block(HONEST[0], from)];
    liar.sync_to_all(&SyncContent::Blocks { from, blocks });
    counts.refused("blocks", "unasked-blocks", 1);
    let junk = vec![TransactionBytes::from(vec![0]); MAX_BLOCK_TRANSACTIONS + 1];
    liar.say_to_all(&Content::Pool(PoolContent::Gossip(junk)));
    counts.refused("more gossip than a block holds", "too-many-transactions", 1);
    (0..QUESTIONS).for_each(|_| liar.sync_to_all(&SyncContent::GetBlocks { from, bytes: u64::MAX }));
    counts.refused_some("more questions than are answered", "asked-too-soon");
    assert!(HONEST.iter().all(|node| cluster.is_ready(*node)));
}

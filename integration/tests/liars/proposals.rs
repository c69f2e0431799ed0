//! When it is the liar's turn to propose. Between lies it proposes as it should, in the same way: that is
//! committed, so what is not was refused for the lie in it.

use std::collections::BTreeSet;

use minidlt_integration::{Author, Cluster, Heard, until};
use minidlt_protocol::{
    block::CompactBlock,
    codec,
    consensus::Wire,
    crypto::SecretKey,
    governance::{Change, ChangeUser, RemoveOrganisation},
    limits::{CLOCK_WINDOW_MILLIS, MAX_BLOCK_TRANSACTIONS},
    merkle,
    message::{ConsensusContent, Content, PoolContent, SyncContent},
    receipt::CertifiedHeader,
    registry::Standing,
    transaction::{Body, Operation, SignedTransaction, TransactionBytes, id_of, open},
    types::{Hash, Height, Identity, Round},
    vote::Proposal,
};
use serde_json::json;

use crate::{
    HONEST, LIAR,
    counts::Counts,
    liar::{Liar, Turn},
};

/// How often the liar tries to have a sound block committed: a busy machine may be late for its turn.
const TRIES: usize = 3;

/// A block as it is proposed, and what the liar has to say to those who ask for its parts.
#[derive(Clone)]
struct Offer {
    block: CompactBlock,
    transactions: Vec<TransactionBytes>,
    says_body: bool,
}

impl Offer {
    /// A block that holds, of these transactions.
    fn of(turn: &Turn, transactions: Vec<TransactionBytes>) -> Self {
        let block = CompactBlock { header: turn.header.clone(), leaves: Vec::new() };
        let mut offer = Self { block, transactions, says_body: true };
        offer.list(offer.transactions.iter().map(|bytes| merkle::leaf_hash(bytes.as_slice())).collect());
        offer
    }

    /// Makes it a block with these leaves.
    fn list(&mut self, leaves: Vec<Hash>) {
        self.block.header.transactions_root = merkle::root(&leaves);
        self.block.leaves = leaves;
    }
}

/// What is to be seen of a lie.
enum Seen {
    /// A message was refused.
    Refused(&'static str),
    /// A transaction that the nodes asked for.
    TransactionRefused(&'static str),
    /// Only the log tells: it may hold later.
    Logged(&'static str),
    /// Who says nothing has said nothing wrong.
    Nothing,
}

struct Lie {
    what: &'static str,
    seen: Seen,
    offer: Offer,
}

/// What makes transactions, none of them twice.
struct Pen {
    author: Author,
    nonce: u64,
}

impl Pen {
    fn body(&mut self) -> Body {
        self.nonce += 1;
        self.author.body(self.nonce, &json!({ "by": "the liar", "number": self.nonce }))
    }

    fn sign(&self, body: &Body) -> TransactionBytes {
        self.author.sign(body).into()
    }

    fn transaction(&mut self) -> TransactionBytes {
        let body = self.body();
        self.sign(&body)
    }

    fn change(&mut self, change: Change) -> TransactionBytes {
        let body = Body { operation: Operation::Change(change.into()), ..self.body() };
        self.sign(&body)
    }
}

pub fn lie(cluster: &Cluster, counts: &Counts, liar: &mut Liar) {
    // Beside those that the load makes.
    let mut pen = Pen { author: Author::of(cluster, "trader"), nonce: 1 << 48 };
    let mut admin = Pen { author: Author::of(cluster, "admin"), nonce: 1 << 48 };
    let committed = is_committed_without_a_lie(liar, &mut pen);
    let mut at = 0;
    loop {
        let turn = liar.turn();
        let Some(Lie { what, seen, offer }) = lies(&turn, &mut pen, &mut admin, &committed).into_iter().nth(at) else {
            break;
        };
        let log = HONEST.map(|node| cluster.log(node).len());
        HONEST.into_iter().for_each(|to| propose(liar, to, &offer));
        not_committed(liar, what, &[offer]);
        match seen {
            Seen::Refused(reason) => counts.refused(what, reason, 1),
            Seen::TransactionRefused(reason) => counts.transaction_refused(what, reason),
            Seen::Logged(line) => {
                let told = |i: usize| cluster.log_since(HONEST[i], log[i]).lines().any(|told| told.contains(line));
                until(&format!("all tell of {what}"), || (0..HONEST.len()).all(told));
                counts.nothing(what);
            }
            Seen::Nothing => counts.nothing(what),
        }
        at += 1;
    }
    println!("{at} invalid blocks were proposed");
    changes_that_fail(cluster, liar, &mut admin);
    proposes_two(cluster, counts, liar, &mut pen);
    is_committed_without_a_lie(liar, &mut pen);
}

/// All the lies, of which one is told a turn.
fn lies(turn: &Turn, pen: &mut Pen, admin: &mut Pen, committed: &TransactionBytes) -> Vec<Lie> {
    let elsewhere = Hash::from_bytes([0xee; 32]);
    let refused = |reason| Seen::Refused(reason);
    let mut lies = Vec::new();
    let mut tell = |what, seen, mut offer: Offer, twist: &dyn Fn(&mut Offer)| {
        twist(&mut offer);
        lies.push(Lie { what, seen, offer });
    };
    let mut sound = || Offer::of(turn, vec![pen.transaction()]);

    tell("another block before", refused("invalid-block"), sound(), &|o| o.block.header.previous = elsewhere);
    tell("another state", refused("invalid-block"), sound(), &|o| o.block.header.state_root = elsewhere);
    tell("other results", refused("invalid-block"), sound(), &|o| o.block.header.results_root = elsewhere);
    tell("another proposer", refused("invalid-block"), sound(), &|o| {
        o.block.header.proposer = turn.head.block.header.proposer.clone();
    });
    tell("a time before the head's", refused("invalid-block"), sound(), &|o| {
        o.block.header.created = turn.head.block.header.created.minus_millis(1);
    });
    tell("a time to come", Seen::Logged("must wait"), sound(), &|o| {
        o.block.header.created = o.block.header.created.plus_millis(2 * CLOCK_WINDOW_MILLIS);
    });
    tell("a transaction twice", refused("invalid-block"), sound(), &|o| o.list([o.block.leaves[0]; 2].into()));
    tell("another tree", refused("bad-content"), sound(), &|o| o.block.header.transactions_root = elsewhere);
    tell("more transactions than allowed", refused("bad-content"), sound(), &|o| {
        o.list(vec![elsewhere; MAX_BLOCK_TRANSACTIONS + 1]);
    });
    tell("a block that it keeps to itself", Seen::Nothing, sound(), &|o| o.says_body = false);
    tell("a transaction that it keeps to itself", Seen::Nothing, sound(), &|o| o.transactions.clear());

    let mut with = |what, reason, transaction| {
        tell(what, Seen::TransactionRefused(reason), Offer::of(turn, vec![transaction]), &|_| {});
    };
    let other = SecretKey::from_bytes(&[7; 32]).expect("a key");
    let forged = codec::encode(&SignedTransaction::sign(&pen.body(), &other));
    with("a forged signature", "gossip-bad-signature", forged.into());
    let nobody: Identity = "nobody@Org01".parse().expect("an identity");
    let body = Body { author: nobody, ..pen.body() };
    let unknown = pen.sign(&body);
    with("an unknown author", "gossip-unknown-author", unknown);
    let (begun, over) = (turn.header.created.minus_millis(1_000), turn.header.created.minus_millis(1));
    let body = Body { created: begun, expires: over, ..pen.body() };
    let expired = pen.sign(&body);
    with("an expired transaction", "gossip-expired-transaction", expired);
    with("a transaction that is committed", "gossip-already-committed", committed.clone());
    with("a change by who has not the role", "gossip-role-missing", pen.change(suspend("admin@Org01", 0)));

    // Well-formed, signed by a member who has the role: that it may not be is found in the block.
    let mut change = |what, change| {
        let transaction = admin.change(change);
        tell(what, refused("invalid-block"), Offer::of(turn, vec![transaction]), &|_| {});
    };
    change("a change of another organisation's user", suspend("admin-Org02@Org02", 0));
    let removed = "Org02".parse().expect("a name");
    let remove = Change::RemoveOrganisation(RemoveOrganisation { organisation: removed, revision: 0 });
    change("a change without the consent that it needs", remove);
    lies
}

fn suspend(user: &str, revision: u64) -> Change {
    Change::ChangeUser(ChangeUser {
        user: user.parse().expect("an identity"),
        revision,
        public_key: None,
        roles: None,
        gateways: None,
        standing: Some(Standing::Suspended),
    })
}

/// What a gateway would have refused, but blocks may hold: it is committed as failed, with the same words on every
/// node, and changes nothing.
fn changes_that_fail(cluster: &Cluster, liar: &Liar, admin: &mut Pen) {
    let lies = [
        (suspend("trader@Org01", 7), "this is a change of revision 7; look at it and sign anew"),
        (suspend("admin@Org01", 0), "Org01 would be left without an admin who is active; enrol another first"),
    ];
    for (change, reason) in lies {
        let transaction = commits(liar, || admin.change(change.clone()));
        let (signed, body) = open(transaction.as_slice()).expect("as it was made");
        let id = id_of(&body.network, &signed.body);
        for node in HONEST {
            let at = format!("/v1/transactions/{id}");
            until("it is told", || cluster.get(node, &at)["status"] == "committed");
            let result = cluster.get(node, &at)["result"].clone();
            assert_eq!(result["status"], "failed", "{result}");
            assert!(result["reason"].as_str().is_some_and(|told| told.contains(reason)), "{result}");
        }
    }
    let users = HONEST.map(|node| cluster.get(node, "/v1/users"));
    assert!(users.iter().all(|list| *list == users[0]), "the same on all");
    let standings = users[0]["users"].as_array().expect("users").iter().map(|user| &user["standing"]);
    assert!(standings.into_iter().all(|standing| standing.is_null()), "nobody was suspended: {users:?}");
}

fn propose(liar: &Liar, to: usize, offer: &Offer) {
    let (height, round) = (turn_of(offer), Round::ZERO);
    let block = offer.block.header.hash(&liar.network);
    let proposal = liar.route(to).proposal(Proposal { height, round, polka_round: None, block });
    liar.say(to, &Content::Consensus(ConsensusContent::Wire(Wire::Proposal(proposal))));
    if offer.says_body {
        liar.say(to, &Content::Consensus(ConsensusContent::Body(offer.block.clone())));
    }
}

fn turn_of(offer: &Offer) -> Height {
    offer.block.header.height
}

/// Answers those who ask for transactions of these blocks, until the height is decided; on what.
fn decided(liar: &Liar, offers: &[Offer]) -> CertifiedHeader {
    let height = turn_of(&offers[0]);
    liar.listen("the height is decided", |liar, Heard { from, content, .. }| match content {
        Content::Pool(PoolContent::Get { block, leaves }) => {
            let asked = offers.iter().filter(|offer| offer.block.header.hash(&liar.network) == block);
            let wanted = |bytes: &&TransactionBytes| leaves.contains(&merkle::leaf_hash(bytes.as_slice()));
            let transactions: Vec<_> = asked.flat_map(|offer| &offer.transactions).filter(wanted).cloned().collect();
            if !transactions.is_empty() {
                liar.say(from, &Content::Pool(PoolContent::Got { block, transactions }));
            }
            None
        }
        Content::Consensus(ConsensusContent::Wire(wire)) => (wire.height() > height).then_some(()),
        Content::Sync(SyncContent::Alive(alive)) => (alive.height >= height).then_some(()),
        _ => None,
    });
    HONEST.iter().find_map(|node| liar.standing(*node, Some(height))).expect("it is decided")
}

fn not_committed(liar: &Liar, what: &str, offers: &[Offer]) {
    let decided = decided(liar, offers);
    let (header, certificate) = (&decided.header, &decided.certificate);
    assert!(header.proposer != liar.me && certificate.round > Round::ZERO, "{what} was committed: {header:?}");
}

/// Gives the transaction in its block.
fn is_committed_without_a_lie(liar: &Liar, pen: &mut Pen) -> TransactionBytes {
    commits(liar, || pen.transaction())
}

/// Has a block of such a transaction committed, and gives it.
fn commits(liar: &Liar, mut make: impl FnMut() -> TransactionBytes) -> TransactionBytes {
    for _ in 0..TRIES {
        let transaction = make();
        let offer = Offer::of(&liar.turn(), vec![transaction.clone()]);
        HONEST.into_iter().for_each(|to| propose(liar, to, &offer));
        if decided(liar, std::slice::from_ref(&offer)).hash == offer.block.header.hash(&liar.network) {
            return transaction;
        }
    }
    panic!("none of {TRIES} sound blocks was committed");
}

/// Two blocks for one round, each sound, to one node in another order than to the rest: each of them
/// accuses it, neither is committed, and what it signed comes to be on the ledger.
fn proposes_two(cluster: &Cluster, counts: &Counts, liar: &Liar, pen: &mut Pen) {
    let turn = liar.turn();
    let offers = [(); 2].map(|()| Offer::of(&turn, vec![pen.transaction()]));
    let [first, second] = &offers;
    for to in HONEST {
        let order = if to == HONEST[0] { [second, first] } else { [first, second] };
        order.into_iter().for_each(|offer| propose(liar, to, offer));
    }
    not_committed(liar, "one of two blocks", &offers);
    counts.refused("two blocks", "equivocation", 1);
    let height = turn_of(first).get();
    let recorded = |node: &usize| {
        let status = cluster.get(*node, "/v1/status");
        let entries = status["evidence"].as_array().into_iter().flatten();
        let kinds: BTreeSet<String> = entries
            .filter(|entry| entry["voter"]["name"] == format!("node{LIAR}") && entry["height"] == height)
            .map(|entry| entry["kind"].to_string())
            .collect();
        kinds.contains("\"proposal\"")
    };
    until("all have it recorded", || HONEST.iter().all(recorded));
}

//! The Mempool on a real ledger: what waits when who may do what changes.

use std::sync::Arc;

use actix::{Actor, Addr, Context, Handler};
use minidlt_actors::{
    clock,
    members::Members,
    mempool::{Links, Mempool},
    messages::{
        mempool::{Ended, FindPending, GetMempoolStatus, Pick, Submit, Waiting},
        signer::Stamp,
        store::Committed,
    },
    metrics::{Metrics, Reason},
    store::{Writer, reader::Reader},
    verifier::{NearVerifier, Verifier, is_committed},
};
use minidlt_protocol::{
    block::Head,
    governance::ChangeUser,
    mempool::{Bounds, Mempool as Pool},
    registry::{Registry, Role, Standing},
    transaction::{Endorsement, Operation, Refusal, SignedTransaction, Transaction},
    types::Hash,
};
use tempfile::{TempDir, tempdir};
use tokio::sync::watch;

use crate::support::{BROKER, Network, TRADER, identity, key};

/// Whom gossip is stamped by.
struct Signer;

impl Actor for Signer {
    type Context = Context<Self>;
}

impl Handler<Stamp> for Signer {
    type Result = ();
    fn handle(&mut self, _: Stamp, _: &mut Self::Context) {}
}

struct World {
    network: Network,
    writer: Writer,
    reader: Reader,
    mempool: Addr<Mempool>,
    metrics: Arc<Metrics>,
    _directory: TempDir,
}

impl World {
    /// Its Verifiers know who is enrolled by `members`, or else by the ledger.
    fn start(members: Option<watch::Receiver<Arc<Registry>>>) -> Self {
        let (directory, network) = (tempdir().unwrap(), Network::new());
        let (writer, reader) = network.open(directory.path()).unwrap();
        let members = members.map_or_else(|| reader.members(), |registry| Members::new(reader.heads(), registry));
        let verifier = Verifier::new(identity(0), network.id, members, is_committed(reader.clone()));
        let links = Links {
            verifiers: verifier.clone().start(1).recipient(),
            near: NearVerifier(verifier).start().recipient(),
            signer: Signer.start().recipient(),
            reader: reader.clone(),
        };
        let metrics = Arc::new(Metrics::new());
        let mempool = Mempool::new(identity(0), Pool::new(Bounds::default()), links, metrics.clone()).start();
        Self { network, writer, reader, mempool, metrics, _directory: directory }
    }

    /// The head, as of now: what is made of it is of this time.
    fn now(&self) -> Head {
        Head { created: clock::now(), ..self.reader.head() }
    }

    async fn submit(&self, transaction: &Transaction) -> Result<Hash, Refusal> {
        let submit = Submit { caller: identity(0), transactions: vec![transaction.bytes.clone()] };
        self.mempool.send(submit).await.unwrap().pop().unwrap()
    }

    async fn waiting(&self, id: Hash) -> Waiting {
        self.mempool.send(FindPending(id)).await.unwrap()
    }

    /// What a block of now would hold.
    async fn proposed(&self) -> Vec<Hash> {
        let picked = self.mempool.send(Pick { created: clock::now() }).await.unwrap();
        picked.iter().map(|transaction| transaction.id).collect()
    }

    /// Commits a block with this change, as Consensus tells of it.
    async fn change(&mut self, user: &str, edit: impl FnOnce(&mut ChangeUser)) {
        let head = self.now();
        let change = self.network.change_user(&head, user, edit);
        let block = Arc::new(self.network.decide(&head, vec![change]));
        let head = self.writer.commit(&block).unwrap();
        self.network.follow(&self.reader);
        let committed = Committed { head, block, registry: self.reader.registry() };
        self.mempool.send(Ended { committed, stalls: vec![], fetched: false }).await.unwrap();
    }

    fn counted(&self, reason: &str) -> u64 {
        self.metrics.submissions_refused.get_or_create(&Reason { reason: reason.into() }).get()
    }
}

fn revoke(change: &mut ChangeUser) {
    change.standing = Some(Standing::Revoked);
}

/// What becomes of a record of the trader, endorsed by the broker, by a change of either.
#[actix_rt::test]
async fn what_waits_is_rejected_by_name_when_who_signed_it_may_not_any_more() {
    type Edit = fn(&mut ChangeUser);
    let cases: [(&str, &str, Edit, &str); 6] = [
        ("the author is revoked", TRADER.0, revoke, "unknown-author"),
        ("the author is suspended", TRADER.0, |change| change.standing = Some(Standing::Suspended), "unknown-author"),
        (
            "the author's key is another",
            TRADER.0,
            |change| change.public_key = Some(key(111).public_key()),
            "key-replaced",
        ),
        ("the author's role is taken", TRADER.0, |change| change.roles = Some([Role::Auditor].into()), "role-missing"),
        ("the endorser is revoked", BROKER.0, revoke, "bad-endorsement"),
        (
            "the endorser's key is another",
            BROKER.0,
            |change| change.public_key = Some(key(111).public_key()),
            "key-replaced",
        ),
    ];
    for (case, whom, edit, kind) in cases {
        let mut world = World::start(None);
        let now = world.now();
        let plain = world.network.transaction(&now);
        let mut signed: SignedTransaction = minidlt_protocol::codec::decode(plain.bytes.as_slice(), 1 << 20).unwrap();
        let endorser = BROKER.0.parse().unwrap();
        signed.endorsements.push(Endorsement { endorser, signature: key(BROKER.1).sign(&plain.id) });
        let endorsed = Transaction::parse((&signed).into(), &world.network.id).unwrap();
        // That of somebody else goes on.
        let Operation::Record { contents, .. } = plain.body().unwrap().operation else { panic!("a record") };
        let other = if whom == BROKER.0 { TRADER } else { BROKER };
        let untouched = world.network.signed(&now, other, Operation::records(contents));
        for transaction in [&endorsed, &untouched] {
            assert_eq!(world.submit(transaction).await, Ok(transaction.id), "{case}");
        }
        assert_eq!(world.proposed().await.len(), 2, "{case}");

        world.change(whom, edit).await;
        match world.waiting(endorsed.id).await {
            Waiting::Rejected(reason) => assert_eq!(reason.kind(), kind, "{case}"),
            other => panic!("{case}: {other:?}"),
        }
        assert_eq!(world.counted(&format!("waiting-{kind}")), 1, "{case}");
        assert_eq!(world.proposed().await, [untouched.id], "{case}");
        let again = world.submit(&endorsed).await.unwrap_err();
        let expected = if kind == "key-replaced" {
            ["bad-signature", "bad-endorsement"][usize::from(whom == BROKER.0)]
        } else {
            kind
        };
        assert_eq!(again.kind(), expected, "{case}: submitted anew");
        assert!(matches!(world.waiting(untouched.id).await, Waiting::Pending(_)), "{case}");
        assert_eq!(world.mempool.send(GetMempoolStatus).await.unwrap().transactions, 1, "{case}");
    }
}

#[actix_rt::test]
async fn a_change_of_somebody_else_rejects_nothing() {
    let mut world = World::start(None);
    let transaction = world.network.transaction(&world.now());
    world.submit(&transaction).await.unwrap();
    world.change(BROKER.0, revoke).await;
    assert_eq!(world.proposed().await, [transaction.id]);
    // More gateways, or fewer: what was taken here stays.
    world.change(TRADER.0, |change| change.gateways = Some([identity(3)].into())).await;
    assert_eq!(world.proposed().await, [transaction.id]);
}

/// It was checked as things stood, and comes to the pool as they stand no more.
#[actix_rt::test]
async fn what_was_being_checked_meanwhile_is_looked_at_again() {
    let (_before, stale) = watch::channel(Arc::new(crate::support::genesis("test").registry()));
    let mut world = World::start(Some(stale));
    world.change(TRADER.0, revoke).await;
    world.change(BROKER.0, |change| change.public_key = Some(key(111).public_key())).await;
    let now = world.now();
    for (author, kind) in [(TRADER, "unknown-author"), (BROKER, "key-replaced")] {
        let contents = vec![minidlt_protocol::transaction::Content::from_json(&serde_json::json!({ "a": 1 }))];
        let late = world.network.signed(&now, author, Operation::records(contents));
        assert_eq!(world.submit(&late).await.unwrap_err().kind(), kind);
        assert!(matches!(world.waiting(late.id).await, Waiting::Unknown));
    }
    assert_eq!(world.proposed().await, []);
}

//! A full mempool refuses by name, keeps nothing of what it refused, and takes the very same
//! transaction once there is room again.

use std::collections::BTreeMap;

use minidlt_integration::{Answer, Author, CBOR, Cluster, Mode, counted, heights_of, until};
use minidlt_protocol::transaction::Body;
use serde_json::{Value, json};

/// Room at node 0: so many transactions, of which one user has a quarter, rounded up.
const ROOM: u64 = 5;
const SHARE: u64 = 2;
/// All refusals that a client meets.
const REFUSALS: [&str; 2] = ["minidlt_submissions_refused_total", "minidlt_requests_refused_total"];

/// A user, and how many of its transactions there are so far.
struct User {
    name: &'static str,
    author: Author,
    made: u64,
}

impl User {
    fn of(cluster: &Cluster, name: &'static str) -> Self {
        Self { name, author: Author::of(cluster, name), made: 0 }
    }

    fn body(&mut self) -> Body {
        self.made += 1;
        self.author.body(self.made, &json!({ "of": self.name, "number": self.made }))
    }

    fn submit(&self, cluster: &Cluster, node: usize, body: &Body) -> Answer {
        cluster.post(node, self.name, "", CBOR, &self.author.sign(body))
    }

    /// Submits a transaction that is taken; its id.
    fn submit_new(&mut self, cluster: &Cluster, node: usize) -> String {
        let body = self.body();
        let answer = self.submit(cluster, node, &body);
        assert_eq!((answer.status, answer.json()["status"].as_str()), (202, Some("pending")), "{answer:?}");
        self.author.id(&body)
    }
}

/// Where a node stands that commits nothing: its height and head, and what waits.
fn standing(cluster: &Cluster, node: usize) -> [Value; 3] {
    let status = cluster.get(node, "/v1/status");
    ["height", "head", "mempool"].map(|member| status[member].clone())
}

fn waiting(cluster: &Cluster, node: usize) -> u64 {
    cluster.get(node, "/v1/status")["mempool"]["transactions"].as_u64().expect("a number")
}

/// Node 0 refuses a transaction for now, counts it once under this reason and under no other, and
/// neither keeps it nor hands it on.
fn assert_refused_for_now(cluster: &Cluster, user: &User, body: &Body, reason: &str) {
    let (before, stood) = (cluster.samples(0, &REFUSALS), standing(cluster, 0));
    let answer = user.submit(cluster, 0, body);
    assert_eq!((answer.status, answer.problem().as_str()), (429, reason), "{answer:?}");
    let wait = answer.header("retry-after").and_then(|seconds| seconds.parse::<u64>().ok());
    assert!(wait.is_some_and(|seconds| seconds >= 1), "when to try again: {answer:?}");

    let expected: BTreeMap<String, f64> = REFUSALS.iter().map(|family| (counted(family, reason), 1.0)).collect();
    assert_eq!(cluster.samples(0, &REFUSALS).since(&before), expected);
    assert_eq!(standing(cluster, 0), stood, "nothing of it is kept");
    let id = user.author.id(body);
    for node in [0, 1] {
        let answer = cluster.ask(node, user.name, &format!("/v1/transactions/{id}"), &[]);
        assert_eq!((answer.status, answer.problem().as_str()), (404, "not-found"), "node {node}: {answer:?}");
    }
}

#[test]
fn a_full_mempool_refuses_for_now_and_takes_the_same_transaction_later() {
    let mut cluster = Cluster::init(3, Mode::FullConsent);
    cluster.configure(0, &format!("limits:\n  mempool:\n    transactions: {ROOM}\n"));
    cluster.start_all();
    // Without node 2 nothing is committed, so what is taken waits.
    cluster.kill_node(2);
    let [mut trader, mut admin, mut other] = ["trader", "admin", "admin-Org02"].map(|name| User::of(&cluster, name));

    let mut taken = vec![trader.submit_new(&cluster, 0)];
    taken.extend((0..SHARE).map(|_| admin.submit_new(&cluster, 0)));
    let over_share = admin.body();
    assert_refused_for_now(&cluster, &admin, &over_share, "user-share-full");

    // The rest comes from node 1, as all comes that other nodes take.
    taken.extend((0..SHARE).map(|_| other.submit_new(&cluster, 1)));
    until("node 0 has no more room, and node 1 holds the same", || {
        waiting(&cluster, 0) == ROOM && waiting(&cluster, 1) == ROOM
    });
    let sixth = trader.body();
    assert_refused_for_now(&cluster, &trader, &sixth, "mempool-full");
    assert_eq!(cluster.height(0), 0, "nothing is committed with one missing");

    cluster.start_node(2);
    until("what waited is committed", || waiting(&cluster, 0) == 0 && cluster.height(0) > 0);
    for (user, body) in [(&trader, &sixth), (&admin, &over_share)] {
        let bytes = user.author.sign(body);
        let answer = cluster.post(0, user.name, "?wait=committed&timeout=60s", CBOR, &bytes);
        assert_eq!((answer.status, answer.json()["status"].as_str()), (200, Some("committed")), "{answer:?}");
        taken.push(user.author.id(body));
    }
    cluster.wait_agreed();
    let chain = cluster.chain(0);
    assert!(cluster.chain(2) == chain, "all hold the same");
    for id in &taken {
        assert_eq!(heights_of(&chain, id).len(), 1, "{id} is committed once");
    }
}

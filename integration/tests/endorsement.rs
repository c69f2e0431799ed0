//! Trades that need the seller's and the buyer's organisations: each one's peer endorses, the gateway collects, and
//! who does not endorse is named with its reason.

use std::time::{Duration, Instant};

use minidlt_integration::{Answer, Author, CBOR, Client, Cluster, Mode, until};
use minidlt_protocol::{
    codec,
    governance::{Change, SetRecordType},
    registry::Policy,
    transaction::{Body, Content, Endorsement, Operation, SignedTransaction, id_of},
};
use serde_json::{Value, json};

const NODES: usize = 4;
const TYPE: &str = "trade";

/// The type `trade`, which both parties' peers have to endorse; set by the admins of three organisations.
fn set_type(cluster: &Cluster) {
    let party = |at: &str| json!({"organisation_in": at, "role": "peer"});
    let policy: Policy = serde_json::from_value(json!({"all": [party("/seller"), party("/buyer")]})).expect("a policy");
    let schema = json!({
        "type": "object",
        "required": ["seller", "buyer", "quantity"],
        "properties": {"quantity": {"type": "integer", "minimum": 1}},
    });
    let set = SetRecordType {
        name: TYPE.parse().expect("a name"),
        revision: None,
        schema: Content::from_json(&schema),
        policy: Some(policy),
        standing: None,
    };
    let author = Author::of(cluster, "admin");
    let operation = Operation::Change(Change::SetRecordType(set).into());
    let mut signed = SignedTransaction::sign(&Body { operation, ..author.body(1, &json!(null)) }, &author.key);
    let id = id_of(&author.network, &signed.body);
    for name in ["admin-Org02", "admin-Org03"] {
        let Author { identity: endorser, key, .. } = Author::of(cluster, name);
        signed.endorsements.push(Endorsement { endorser, signature: key.sign(&id) });
    }
    let answer = cluster.post(0, "admin", "?wait=committed&timeout=30s", CBOR, &codec::encode(&signed));
    assert_eq!(answer.json()["result"]["status"], "ok", "{answer:?}");
    cluster.wait_agreed();
}

/// A trade of the trader's, signed by it alone.
fn trade(trader: &Author, nonce: u64, seller: &str, buyer: &str) -> (String, Vec<u8>) {
    let content = json!({"seller": seller, "buyer": buyer, "quantity": nonce});
    let operation = Operation::Record {
        record_type: Some(TYPE.parse().expect("a name")),
        contents: vec![Content::from_json(&content)],
    };
    let body = Body { operation, ..trader.body(nonce, &json!(null)) };
    (trader.id(&body), trader.sign(&body))
}

struct Market {
    cluster: Cluster,
    trader: Author,
    nonce: u64,
}

impl Market {
    /// `yaml`: what is added to these nodes' files.
    fn open(yaml: &[(usize, &str)]) -> Self {
        let mut cluster = Cluster::init(NODES, Mode::Bft);
        yaml.iter().for_each(|(node, yaml)| cluster.configure(*node, yaml));
        cluster.start_all();
        set_type(&cluster);
        let trader = Author::of(&cluster, "trader");
        Self { cluster, trader, nonce: 1 }
    }

    /// Submits a trade through a node; its id, and the answer.
    fn submit(&mut self, node: usize, seller: &str, buyer: &str) -> (String, Answer) {
        self.nonce += 1;
        let (id, bytes) = trade(&self.trader, self.nonce, seller, buyer);
        (id, self.cluster.post(node, "trader", "?wait=committed&timeout=30s", CBOR, &bytes))
    }

    /// One that is committed; its id.
    fn trades(&mut self, node: usize, seller: &str, buyer: &str) -> String {
        let (id, answer) = self.submit(node, seller, buyer);
        assert_eq!((answer.status, &answer.json()["result"]), (200, &json!({"status": "ok"})), "{answer:?}");
        id
    }

    /// One that is not taken, for want of this organisation's peer; what each node said.
    fn lacks(&mut self, node: usize, (seller, buyer): (&str, &str), lacking: &str) -> Value {
        let (_, answer) = self.submit(node, seller, buyer);
        assert_eq!((answer.status, answer.problem().as_str()), (403, "policy-not-met"), "{answer:?}");
        let problem = answer.json();
        let detail = problem["detail"].as_str().expect("a sentence");
        let what = format!("the policy of record type 'trade' is not met; missing: peer of {lacking}.");
        assert!(detail.contains(&what), "{detail}");
        for one in problem["endorsers"].as_array().expect("who said what") {
            assert!(detail.contains(one["reason"].as_str().expect("a reason")), "{detail}");
        }
        problem["endorsers"].clone()
    }
}

/// Who endorsed it, by what this node holds.
fn endorsers(cluster: &Cluster, node: usize, id: &str) -> Vec<String> {
    let shown = cluster.get(node, &format!("/v1/transactions/{id}"));
    let block = cluster.get(node, &format!("/v1/blocks/{}", shown["height"]));
    let held =
        block["content"].as_array().expect("transactions").iter().find(|one| one["id"] == id).expect("it is there");
    assert_eq!(*held, shown["transaction"], "the block shows the same");
    let name = |one: &Value| {
        let text = |member: &str| one["endorser"][member].as_str().expect("text").to_owned();
        format!("{}@{}", text("name"), text("organisation"))
    };
    let mut names: Vec<_> = held["endorsements"].as_array().into_iter().flatten().map(name).collect();
    names.sort();
    names
}

#[test]
fn a_trade_is_endorsed_by_the_sellers_and_the_buyers_peers() {
    let mut market = Market::open(&[(2, "endorse: nothing\n"), (3, "endorse: [invoice]\n")]);
    let id = market.trades(0, "Org01", "Org02");
    // The gateway endorses none of these parties' trades itself, and one of its own that its trader sells to itself.
    let through_other = market.trades(1, "Org02", "Org01");
    let own = market.trades(0, "Org01", "Org01");
    market.cluster.wait_agreed();
    for node in 0..NODES {
        assert_eq!(endorsers(&market.cluster, node, &id), ["node0@Org01", "node1@Org02"]);
        assert_eq!(endorsers(&market.cluster, node, &through_other), ["node0@Org01", "node1@Org02"]);
        assert_eq!(endorsers(&market.cluster, node, &own), ["node0@Org01"]);
    }
    let given = |node| market.cluster.metric(node, "minidlt_endorsements_given_total");
    assert_eq!([0, 1, 2, 3].map(given), [3.0, 2.0, 0.0, 0.0]);

    // Whose operator does not want it says so, and is named.
    let said = market.lacks(0, ("Org01", "Org03"), "Org03");
    let reason = "this node's operator endorses nothing";
    let expected = json!([{"name": "node2", "organisation": "Org03", "kind": "operator", "reason": reason}]);
    assert_eq!(said, expected);
    let said = market.lacks(0, ("Org04", "Org02"), "Org04");
    assert_eq!(said[0]["reason"], "this node's operator endorses no records of type trade");
    let refused = |node| market.cluster.metric(node, "minidlt_endorsements_refused_total");
    assert_eq!([2, 3].map(refused), [1.0, 1.0]);

    // What does not fit is refused before anybody is asked, and so is what names no organisation.
    let (id, bytes) = trade(&market.trader, 0, "Org01", "Org02");
    let misfit = market.cluster.post(0, "trader", "", CBOR, &bytes);
    assert_eq!((misfit.status, misfit.problem().as_str()), (422, "record-does-not-fit"), "{misfit:?}");
    assert_eq!(market.cluster.request(0, "trader", &format!("/v1/transactions/{id}"), &[]).0, 404);
    let (_, nobody) = market.submit(0, "Org01", "somebody");
    assert_eq!(nobody.problem(), "policy-not-met");
    assert!(nobody.body.contains("which /buyer of a record does not name"), "{nobody:?}");

    // With the buyer's node away it cannot be had, and is told at once.
    let began = Instant::now();
    assert_eq!(market.cluster.stop_node(1), 0);
    until("its end is seen", || market.cluster.metric(0, "minidlt_peers_connected") == 2.0);
    let said = market.lacks(0, ("Org01", "Org02"), "Org02");
    let expected =
        json!([{"name": "node1", "organisation": "Org02", "kind": "not-connected", "reason": "it is not connected"}]);
    assert_eq!(said, expected, "after {:?}", began.elapsed());
    market.cluster.start_node(1);
    market.cluster.wait_ready(1);
    until("it is connected", || market.cluster.metric(0, "minidlt_peers_connected") == 3.0);
    let id = market.trades(0, "Org01", "Org02");
    market.cluster.wait_agreed();
    assert_eq!(endorsers(&market.cluster, 3, &id), ["node0@Org01", "node1@Org02"]);
    for node in 0..NODES {
        assert_eq!(market.cluster.stop_node(node), 0);
        let checked = market.cluster.minidlt(&["verify", &market.cluster.node(node).display().to_string()]);
        assert!(checked.status.success(), "{checked:?}");
    }
}

#[test]
fn a_burst_is_endorsed_in_few_messages_and_one_that_needs_nobody_is_not_held_up_by_it() {
    const BURST: u64 = 1_000;
    let market = Market::open(&[]);
    let (cluster, trader) = (&market.cluster, &market.trader);
    let burst: Vec<_> = (1..=BURST).map(|nonce| trade(trader, nonce, "Org01", "Org02")).collect();
    let bytes = burst.iter().map(|(_, bytes)| bytes.as_slice()).collect::<Vec<_>>().concat();
    let answer = cluster.post(0, "trader", "?wait=committed&timeout=30s", "application/cbor-seq", &bytes);
    assert_eq!((answer.status, &answer.json()["accepted"]), (200, &json!(BURST)), "{}", &answer.body[..500]);
    assert_eq!(cluster.metric(0, "minidlt_endorsements_collected_total"), BURST as f64);

    // Side by side, as a user sees them: the time until one is committed.
    let mut client = Client::new(cluster, 0, "trader");
    let mut time = |bytes: &[u8]| {
        let began = Instant::now();
        let (status, body) = client.submit(bytes, Duration::from_secs(30)).expect("an answer");
        assert_eq!(status, 200, "{body}");
        began.elapsed()
    };
    let (mut plain, mut endorsed) = (Vec::new(), Vec::new());
    for nonce in BURST + 1..=BURST + 100 {
        endorsed.push(time(&trade(trader, nonce, "Org01", "Org02").1));
        plain.push(time(&trader.sign(&trader.body(nonce, &json!({"plain": nonce})))));
    }
    let p50 = |times: &mut Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    let (plain, endorsed) = (p50(&mut plain), p50(&mut endorsed));
    println!("p50 until committed: {plain:?} plain, {endorsed:?} endorsed by two peers");
    assert!(endorsed < plain + Duration::from_millis(200), "{plain:?} plain, {endorsed:?} endorsed");
}

//! Changes of who is enrolled: what the store keeps of them, and what it proves long after.

use std::sync::Arc;

use minidlt_actors::store::{
    Changed, Writer,
    reader::Reader,
    verify::{verify, verify_directory},
};
use minidlt_protocol::{
    block::{CertifiedBlock, DecidedBlock},
    codec,
    receipt::Receipt,
    registry::{EntryKey, REMEMBERED, Registry, Standing},
    state::Outcome,
    state_proof::StateProof,
    types::Height,
    vote::Voters,
};
use tempfile::{TempDir, tempdir};

use crate::support::{BROKER, Network, TRADER, identity, key};

/// Heights of a chain in which other nodes vote from block 4 on, and again others from block 7 on.
pub const ENROLLED: u64 = 2;
pub const SUSPENDED: u64 = 5;
pub const LAST: u64 = 9;

pub struct Ledger {
    pub dir: TempDir,
    pub network: Network,
    pub writer: Writer,
    pub reader: Reader,
    pub blocks: Vec<DecidedBlock>,
}

impl Ledger {
    fn new() -> Self {
        let (dir, network) = (tempdir().unwrap(), Network::new());
        let (writer, reader) = network.open(dir.path()).unwrap();
        Self { dir, network, writer, reader, blocks: vec![] }
    }

    /// Block 2 enrols node 4, block 5 suspends node 3 and gives the broker another key; a change of what is
    /// not so any more fails in it.
    pub fn with_two_changes_of_voters() -> Self {
        let mut ledger = Self::new();
        for height in 1..=LAST {
            let Self { network, writer, reader, .. } = &mut ledger;
            let head = reader.head();
            let mut transactions = vec![network.transaction(&head)];
            match height {
                ENROLLED => transactions.push(network.enrol(&head, 4)),
                SUSPENDED => {
                    let suspend = |change: &mut minidlt_protocol::governance::ChangeNode| {
                        change.standing = Some(Standing::Suspended);
                    };
                    transactions.push(network.change_user(&head, BROKER.0, |change| {
                        change.public_key = Some(key(110).public_key());
                    }));
                    transactions.push(network.change_node(&head, 3, 0, suspend));
                    transactions.push(network.change_node(&head, 3, 0, suspend));
                }
                _ => {}
            }
            let block = network.commit(writer, reader, transactions);
            ledger.blocks.push(block);
        }
        ledger
    }

    fn registry(&self) -> Arc<Registry> {
        self.reader.registry()
    }
}

fn node(n: u8) -> EntryKey {
    EntryKey::Node(identity(n))
}

fn voters_from(height: u64) -> EntryKey {
    EntryKey::Voters(Height::new(height))
}

fn at(height: u64, position: u64) -> Changed {
    Changed { height: Height::new(height), position }
}

fn names(voters: &Voters) -> Vec<String> {
    voters.as_slice().iter().map(|voter| voter.identity.name.to_string()).collect()
}

#[test]
fn the_registry_and_its_history_follow_the_blocks_and_survive_the_node() {
    let ledger = Ledger::with_two_changes_of_voters();
    let registry = ledger.registry();
    let voters = |height| names(registry.voters_at(Height::new(height)));
    let (first, second, third) = (["node0", "node1", "node2", "node3"], 5, ["node0", "node1", "node2", "node4"]);
    assert_eq!((voters(0), voters(3)), (first.map(String::from).to_vec(), first.map(String::from).to_vec()));
    assert_eq!((voters(4).len(), voters(6).len()), (second, second));
    assert_eq!((voters(7), voters(1_000)), (third.map(String::from).to_vec(), third.map(String::from).to_vec()));
    assert_eq!(registry.nodes[&identity(3)].standing, Standing::Suspended);
    assert_eq!(registry.users[&BROKER.0.parse().unwrap()].public_key, key(110).public_key());

    let reader = &ledger.reader;
    let history = |key: &EntryKey| reader.history(key, None, 10).unwrap();
    let broker = EntryKey::User(BROKER.0.parse().unwrap());
    assert_eq!((history(&node(4)), history(&node(3))), (vec![at(2, 1)], vec![at(5, 2)]));
    assert_eq!(history(&broker), [at(5, 1)]);
    assert_eq!((history(&voters_from(4)), history(&voters_from(7))), (vec![at(2, 1)], vec![at(5, 2)]));
    assert_eq!((history(&node(0)), history(&EntryKey::User(TRADER.0.parse().unwrap()))), (vec![], vec![]));
    let stale = reader.locate(&ledger.blocks[4].transactions[3].id).unwrap().unwrap().outcome;
    let expected = "node/node3@Org01 has revision 1 by now, this is a change of revision 0; look at it and sign anew";
    assert_eq!(stale, Outcome::Failed { reason: expected.into() });
    for (from, count) in [(0, 4), (4, 5), (7, 4)] {
        let (height, value) = reader.entry(&voters_from(from).to_string()).unwrap();
        assert_eq!(height, Height::new(LAST - 1));
        let entries: Vec<minidlt_protocol::registry::VoterEntry> = codec::decode(&value.unwrap(), usize::MAX).unwrap();
        assert_eq!(entries.len(), count, "from {from}");
    }

    let Ledger { dir, network, writer, reader, .. } = ledger;
    drop((writer, reader));
    let (_, reopened) = network.open(dir.path()).unwrap();
    assert_eq!(reopened.registry(), registry, "read from the state it is what execution left in memory");
}

#[test]
fn an_entrys_history_comes_in_pages() {
    let mut ledger = Ledger::new();
    for revision in 0..5 {
        let Ledger { network, writer, reader, .. } = &mut ledger;
        let head = reader.head();
        let address = |n: u64| format!("127.0.0.1:{}", 5_000 + n);
        let first = network.change_node(&head, 1, 2 * revision, |change| change.address = Some(address(2 * revision)));
        let second =
            network.change_node(&head, 1, 2 * revision + 1, |change| change.address = Some(address(2 * revision + 1)));
        network.commit(writer, reader, vec![first, second]);
    }
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = ledger.reader.history(&node(1), after, 3).unwrap();
        after = page.last().copied();
        all.extend(page.iter().copied());
        if page.len() < 3 {
            break;
        }
    }
    let expected: Vec<Changed> = (1..=5).flat_map(|height| [at(height, 0), at(height, 1)]).collect();
    assert_eq!(all, expected);
    assert_eq!(ledger.reader.history(&node(0), None, 3).unwrap(), [], "its neighbours have none");
}

#[test]
fn what_was_committed_under_former_voters_is_proven_from_genesis_after_two_changes() {
    let ledger = Ledger::with_two_changes_of_voters();
    let (reader, genesis) = (&ledger.reader, &ledger.network.genesis);
    let mut checked = 0;
    for block in &ledger.blocks[..LAST as usize - 1] {
        let height = block.header.height;
        for transaction in &block.transactions {
            let text = reader.receipt(&transaction.id).unwrap().expect("the next block is there").to_text();
            let receipt = Receipt::from_text(&text).unwrap();
            assert_eq!(receipt.verify(genesis).map(|proven| proven.id), Ok(transaction.id), "block {height}");
            let changes = [4, 7].into_iter().filter(|from| height.next() >= Height::new(*from)).count();
            assert_eq!(receipt.voter_changes.len(), changes, "block {height}");
            for missing in 0..changes {
                let mut receipt = receipt.clone();
                receipt.voter_changes.remove(missing);
                assert!(receipt.verify(genesis).is_err(), "block {height} without change {missing}");
            }
            checked += 1;
        }
    }
    assert_eq!(checked, LAST as usize - 1 + 4, "the changes have receipts, too, also that which failed");

    for key in [
        "node/node4@Org01",
        "node/node3@Org01",
        "user/broker@Org01",
        "voters/00000000000000000007",
        "user/nobody@Org01",
    ] {
        let text = reader.state_proof(key).unwrap().unwrap().to_text();
        let proof = StateProof::from_text(&text).unwrap();
        assert_eq!(proof.verify(genesis), Ok(Height::new(LAST - 1)), "{key}");
        assert_eq!(proof.voter_changes.len(), 2);
        assert_eq!(proof.proven.value.is_none(), key.contains("nobody"));
        let mut early = proof;
        early.voter_changes.pop();
        assert!(early.verify(genesis).is_err(), "{key} by voters of before");
    }
}

/// Each height's certificate has just the quorum of the voters of that height.
fn check_headers(reader: &Reader, blocks: &[DecidedBlock], voters: impl Fn(Height) -> Arc<Voters>) {
    for block in blocks {
        let height = block.header.height;
        let certified = reader.certified_header(height).unwrap().unwrap();
        certified
            .verify("header", &reader.network(), &voters(height))
            .unwrap_or_else(|error| panic!("{height}: {error}"));
    }
}

#[test]
fn headers_of_any_height_are_certified_by_the_voters_of_that_height() {
    let ledger = Ledger::with_two_changes_of_voters();
    let registry = ledger.registry();
    check_headers(&ledger.reader, &ledger.blocks, |height| registry.voters_at(height).clone());
}

#[test]
fn voters_that_are_forgotten_in_memory_are_read_from_the_state_and_prove_as_ever() {
    let mut ledger = Ledger::new();
    // Each but the last few blocks changes who votes.
    let changes = REMEMBERED as u64 + 6;
    let mut sets = vec![ledger.registry().voters_at(Height::new(1)).clone(); 2];
    for height in 1..=changes + 3 {
        let Ledger { network, writer, reader, .. } = &mut ledger;
        let head = reader.head();
        let mut transactions = vec![network.transaction(&head)];
        if height <= changes {
            let standing = [Standing::Active, Standing::Suspended][(height % 2) as usize];
            transactions.push(network.change_node(&head, 3, height - 1, |change| change.standing = Some(standing)));
        }
        let block = network.commit(writer, reader, transactions);
        sets.push(network.registry.voters_at(Height::new(height + 1)).clone());
        ledger.blocks.push(block);
    }
    let (reader, genesis, registry) = (&ledger.reader, &ledger.network.genesis, ledger.registry());
    assert_eq!(registry.voter_sets.iter().count(), REMEMBERED);
    let oldest = registry.voter_sets.iter().next().unwrap().from;
    assert!(oldest > Height::new(6), "{oldest}");
    assert_eq!(reader.entry(&voters_from(0).to_string()).unwrap().1, None, "the state has no more than memory has");
    check_headers(reader, &ledger.blocks, |height| sets[height.get() as usize].clone());
    for block in
        [&ledger.blocks[0], &ledger.blocks[2], &ledger.blocks[oldest.get() as usize], &ledger.blocks[changes as usize]]
    {
        let receipt = reader.receipt(&block.transactions[0].id).unwrap().unwrap();
        assert_eq!(receipt.verify(genesis).map(|proven| proven.id), Ok(block.transactions[0].id));
    }
    assert_eq!(verify(reader).unwrap().head, reader.head());
}

/// Who has only the first blocks' voters checks each block by what the blocks before it made.
#[test]
fn a_node_that_follows_block_by_block_comes_to_the_same() {
    let ledger = Ledger::with_two_changes_of_voters();
    let (dir, network) = (tempdir().unwrap(), Network::new());
    let (mut writer, reader) = network.open(dir.path()).unwrap();
    for block in &ledger.blocks {
        let certified: CertifiedBlock = crate::support::certified(block);
        let checked = DecidedBlock::certified(certified, &network.id, &reader.head(), &reader.registry()).unwrap();
        writer.commit(&checked).unwrap();
    }
    assert_eq!((reader.head(), reader.registry()), (ledger.reader.head(), ledger.registry()));
    writer.flush().unwrap();
    drop((writer, reader));
    let summary = verify_directory(dir.path(), &network.genesis).unwrap();
    assert_eq!(summary.head, ledger.reader.head());
}

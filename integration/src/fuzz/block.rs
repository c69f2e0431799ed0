//! Blocks from elsewhere.

use minidlt_protocol::{
    block::{Block, CertifiedBlock, DecidedBlock},
    codec,
    limits::{MAX_BLOCK_BYTES, MAX_BLOCK_TRANSACTIONS, MAX_FRAME_BYTES},
    merkle,
    state::{self, Empty},
    types::Height,
    view::BlockView,
};

use super::{
    fixture::{NETWORK, certify},
    memory::bounded,
};

pub fn run(bytes: &[u8]) {
    let Some((mode, bytes)) = bytes.split_first() else { return };
    match mode % 3 {
        0 => decode(bytes),
        mode => certified(bytes, mode == 2),
    }
}

fn decode(bytes: &[u8]) {
    let Ok(block) = bounded(bytes.len(), || Block::decode(bytes)) else { return };
    assert_eq!(codec::encode(&block), bytes, "a block has one encoding");
    if block.parse(&NETWORK.id).is_ok() {
        let shown = BlockView::of(&NETWORK.id, &block).expect("what parses can be shown");
        serde_json::to_string(&shown).expect("records are JSON");
    }
}

/// A block with its certificate, which is made good; so are its links and roots, where asked.
fn certified(bytes: &[u8], follows: bool) {
    let decoded = bounded(bytes.len(), || codec::decode::<CertifiedBlock>(bytes, MAX_FRAME_BYTES));
    let Ok(mut certified) = decoded else { return };
    let head = &NETWORK.head;
    let root = merkle::root(&certified.block.leaves());
    let header = &mut certified.block.header;
    if follows {
        (header.height, header.previous, header.created) =
            (head.height.next(), head.hash, header.created.max(head.created));
        (header.results_root, header.state_root) = (head.results_root, head.state_root);
        let proposer = NETWORK.voters.proposer(header.height, header.round).expect("there are voters");
        header.proposer = proposer.identity.clone();
        header.transactions_root = root;
    }
    let hash = certified.block.header.hash(&NETWORK.id);
    certified.certificate.height = certified.block.header.height;
    certify(&mut certified.certificate, hash);
    let given = certified.clone();
    let taken = bounded(bytes.len(), || DecidedBlock::certified(certified, &NETWORK.id, head, &NETWORK.registry));
    let Ok(decided) = taken else { return };
    assert_eq!(decided.block(), given.block);
    assert_eq!((decided.hash, decided.header.height, decided.header.previous), (hash, Height::new(1), head.hash));
    let count = decided.transactions.len();
    let size: usize = decided.transactions.iter().map(|transaction| transaction.size()).sum();
    assert!(count <= MAX_BLOCK_TRANSACTIONS && size <= MAX_BLOCK_BYTES);
    assert!(decided.certificate.signatures.len() >= NETWORK.voters.quorum());
    // A block that was taken must be one that can be executed and shown.
    let header = &decided.header;
    let transactions = decided.transactions.iter().map(|transaction| &***transaction);
    let execution = state::execute(&Empty, &NETWORK.registry, head, header.created, transactions)
        .expect("there is nothing to be damaged");
    assert_eq!(execution.outcomes.len(), count);
    BlockView::of(&NETWORK.id, &decided.block()).expect("what is taken can be shown");
}

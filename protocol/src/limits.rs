//! The bounds every node of a network must share. The README beside the sources lists them all;
//! the compiler checks how they stand to each other.

use crate::codec;

/// Largest frame between nodes, in bytes.
pub const MAX_FRAME_BYTES: usize = 16 << 20;
/// Largest transaction with one record, in bytes as encoded.
pub const MAX_TRANSACTION_BYTES: usize = 64 << 10;
/// Largest transaction with many records, in bytes as encoded.
pub const MAX_BULK_TRANSACTION_BYTES: usize = 1 << 20;
/// Most records in one transaction.
pub const MAX_RECORDS: usize = 10_000;
/// Most endorsements on one transaction.
pub const MAX_ENDORSEMENTS: usize = 64;
/// Most transactions that are proposed for endorsement, or answered about, in one message.
pub const MAX_PROPOSED: usize = 256;
/// Most bytes of the transactions in such a message.
pub const MAX_PROPOSED_BYTES: usize = 2 << 20;
/// Most bytes of a reason why a transaction was not endorsed.
pub const MAX_REFUSAL_BYTES: usize = 512;
/// Largest sum of the transactions of a block, in bytes.
pub const MAX_BLOCK_BYTES: usize = 4 << 20;
/// Most transactions in a block.
pub const MAX_BLOCK_TRANSACTIONS: usize = 10_000;
/// What the header, the certificate and the framing of a block may add, in bytes.
pub const BLOCK_OVERHEAD_BYTES: usize = 1 << 20;
/// Most transactions waiting in a node.
pub const MEMPOOL_TRANSACTIONS: usize = 100_000;
/// Most bytes of transactions waiting in a node.
pub const MEMPOOL_BYTES: usize = 256 << 20;
/// One user's share of the mempool is one part in this many, by count and by bytes.
pub const MEMPOOL_USER_SHARE: usize = 4;
/// How far a message's or transaction's time may lie from the receiver's clock, in milliseconds.
pub const CLOCK_WINDOW_MILLIS: u64 = 30_000;
/// Longest time from a transaction's `created` to its `expires`, in milliseconds: a day.
pub const MAX_LIFETIME_MILLIS: u64 = 24 * 3_600_000;
/// Most organisations, nodes or users a genesis may list, each.
pub const MAX_MEMBERS: usize = 10_000;
/// Most users, and most nodes, of one organisation, those that were revoked included: so that none keeps the
/// others from enrolling theirs.
pub const MAX_USERS_AN_ORGANISATION: usize = 2_500;
pub const MAX_NODES_AN_ORGANISATION: usize = 250;
/// Most voters of a network.
pub const MAX_VOTERS: usize = 100;
/// Most policies of a network.
pub const MAX_POLICIES: usize = 1_000;
/// Most types of records of a network.
pub const MAX_RECORD_TYPES: usize = 1_000;
/// Most parts of a policy that name organisations by what records hold.
pub const MAX_NAMED_PARTS: usize = 16;
/// Deepest nesting of a policy, a single leaf being 1.
pub const MAX_POLICY_DEPTH: usize = 8;
/// Most pieces of evidence that the state keeps of one voter; the first that came.
pub const EVIDENCE_A_VOTER: usize = 16;
/// Most networks before one, each the successor of the one before.
pub const MAX_PREDECESSORS: usize = 6;
/// Most bytes of a genesis file.
pub const MAX_GENESIS_BYTES: usize = 16 << 20;

const _: () = {
    assert!(MAX_TRANSACTION_BYTES <= MAX_BULK_TRANSACTION_BYTES);
    assert!(MAX_BULK_TRANSACTION_BYTES <= MAX_BLOCK_BYTES, "any transaction fits a block");
    assert!(MAX_BULK_TRANSACTION_BYTES <= MAX_PROPOSED_BYTES, "any transaction can be proposed for endorsement");
    assert!(MAX_BLOCK_BYTES + BLOCK_OVERHEAD_BYTES < MAX_FRAME_BYTES, "any block fits a frame");
    assert!(MAX_BLOCK_TRANSACTIONS * 40 < BLOCK_OVERHEAD_BYTES, "a compact proposal is overhead-sized");
    assert!(MEMPOOL_BYTES / MEMPOOL_USER_SHARE >= MAX_BULK_TRANSACTION_BYTES);
    assert!(2 * MAX_POLICY_DEPTH < codec::MAX_DEPTH, "any policy, a map and a list a level, can be decoded");
    assert!(2 * (MAX_PREDECESSORS + MAX_POLICY_DEPTH + 1) < codec::MAX_DEPTH, "so can those of any network before one");
    assert!(CLOCK_WINDOW_MILLIS < MAX_LIFETIME_MILLIS);
};

//! Each fault that the checker is there to find is found, and by its own name.

use serde_json::{Value, json};

use super::{Verdict, compare};
use crate::memory::{Fate, Memory};

/// Three blocks with a transaction each, the last with two.
fn chain() -> Vec<Value> {
    let block = |height: u64, ids: &[&str]| {
        let content: Vec<Value> = ids.iter().map(|id| json!({ "id": id })).collect();
        json!({
            "height": height,
            "hash": format!("hash{height}"),
            "previous": format!("hash{}", height - 1),
            "created": 1_000 + height,
            "content": content,
        })
    };
    vec![block(1, &["a"]), block(2, &["b"]), block(3, &["c", "d"])]
}

fn remembered(id: &str, fate: Fate) -> Memory {
    Memory([(id.to_owned(), fate)].into())
}

fn committed(at: (u64, u64)) -> Fate {
    Fate { committed: vec![at], ..Fate::default() }
}

/// How many were lost, duplicated, forked, and how many other faults there are.
fn counts(verdict: &Verdict) -> [usize; 4] {
    [verdict.lost.len(), verdict.duplicated.len(), verdict.forks.len(), verdict.others.len()]
}

/// What is found where the second of two nodes has this chain.
fn found_where(change: impl FnOnce(&mut Vec<Value>)) -> [usize; 4] {
    let mut changed = chain();
    change(&mut changed);
    counts(&compare(&[chain(), changed], &remembered("d", committed((3, 1)))))
}

#[test]
fn what_is_whole_has_no_faults() {
    let verdict = compare(&[chain(), chain()], &remembered("d", committed((3, 1))));
    assert_eq!(counts(&verdict), [0; 4], "{verdict:?}");
    assert_eq!((verdict.blocks, verdict.transactions, verdict.acknowledged), (3, 4, 1));
}

#[test]
fn a_chain_that_differs_is_a_fork() {
    assert_eq!(found_where(|chain| chain[1]["round"] = json!(1)), [0, 0, 1, 0], "the same hash, another block");
    assert_eq!(found_where(|chain| drop(chain.pop())), [1, 0, 1, 0], "and what was told is not there");
}

#[test]
fn a_chain_that_is_none_is_found() {
    assert_eq!(found_where(|chain| chain[1]["previous"] = json!("hash0")), [0, 0, 1, 1]);
    assert_eq!(found_where(|chain| chain[1]["height"] = json!(3)), [0, 0, 1, 1]);
    assert_eq!(found_where(|chain| chain[1]["created"] = json!(1_000)), [0, 0, 1, 1]);
}

#[test]
fn a_transaction_that_is_there_twice_is_found() {
    assert_eq!(found_where(|chain| chain[1]["content"] = json!([{ "id": "b" }, { "id": "d" }])), [0, 1, 1, 0]);
}

#[test]
fn what_clients_were_told_and_is_not_so_is_found() {
    let found = |id, fate| counts(&compare(&[chain()], &remembered(id, fate)));
    assert_eq!(found("d", committed((3, 0))), [1, 0, 0, 0], "at another position");
    assert_eq!(found("e", committed((1, 0))), [1, 0, 0, 0], "nowhere");
    assert_eq!(found("d", Fate { committed: vec![(3, 1), (2, 0)], ..Fate::default() }), [1, 0, 0, 0], "at two places");
    assert_eq!(found("e", Fate { accepted: true, ..Fate::default() }), [1, 0, 0, 0], "taken, and forgotten");
    let dumped = Fate { accepted: true, dumped: Some("too late".to_owned()), ..Fate::default() };
    assert_eq!(found("e", dumped.clone()), [0; 4]);
    assert_eq!(found("d", dumped), [0, 0, 0, 1], "dumped, and there");
    assert_eq!(found("e", Fate::default()), [0; 4], "nothing was told of it");
}

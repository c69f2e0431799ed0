//! Compares, at the end, what every node holds with what its clients were told. It asks over HTTP as
//! anybody may, and shares nothing with the program.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    Cluster, figures,
    memory::{Memory, Place},
    process::{program, run},
    samples::counted,
};

/// What was found. Each fault is a sentence.
#[derive(Debug, Default)]
pub struct Verdict {
    pub blocks: usize,
    pub transactions: usize,
    /// Transactions that a node said are committed.
    pub acknowledged: usize,
    pub lost: Vec<String>,
    pub duplicated: Vec<String>,
    pub forks: Vec<String>,
    /// Chains that are not chains, and answers that contradict the ledger or each other.
    pub others: Vec<String>,
}

impl Verdict {
    fn faults(&self) -> impl Iterator<Item = &String> {
        [&self.lost, &self.duplicated, &self.forks, &self.others].into_iter().flatten()
    }
}

/// Waits until all nodes run and agree, compares all, stops them, and has each ledger verified. Fails
/// the test with every fault that it found.
pub fn check(cluster: &mut Cluster, memory: &Memory) -> Verdict {
    check_beside(cluster, memory, None)
}

/// The same where this node may have been seen to contradict itself: it was in a test's hands.
pub fn check_beside(cluster: &mut Cluster, memory: &Memory, liar: Option<usize>) -> Verdict {
    assert_eq!(cluster.running().len(), cluster.size(), "all nodes run at the end");
    cluster.wait_agreed();
    let chains: Vec<Vec<Value>> = (0..cluster.size()).map(|i| cluster.chain(i)).collect();
    let mut verdict = compare(&chains, memory);
    find_accused(cluster, liar, &mut verdict);
    figures::count("blocks_compared", verdict.blocks);
    figures::count("acknowledged_checked", verdict.acknowledged);
    figures::count("lost", verdict.lost.len());
    figures::count("duplicated", verdict.duplicated.len());
    figures::count("forks", verdict.forks.len());
    let faults: Vec<&String> = verdict.faults().collect();
    assert!(faults.is_empty(), "{} faults: {faults:#?}", faults.len());
    for i in 0..cluster.size() {
        assert_eq!(cluster.stop_node(i), 0, "node {i} ends cleanly");
        run(program(&[]).arg("verify").arg(cluster.node(i)));
    }
    verdict
}

/// Compares chains from height 1 on, as the nodes tell them, with each other and with what clients heard.
pub fn compare(chains: &[Vec<Value>], memory: &Memory) -> Verdict {
    let mut verdict = Verdict { acknowledged: memory.count(|fate| !fate.committed.is_empty()), ..Verdict::default() };
    find_forks(chains, &mut verdict);
    for (node, chain) in chains.iter().enumerate() {
        find_gaps(node, chain, &mut verdict);
        let places = places(chain);
        find_repeats(node, &places, &mut verdict);
        find_lost(node, &places, memory, &mut verdict);
        verdict.blocks = verdict.blocks.max(chain.len());
        verdict.transactions = verdict.transactions.max(places.len());
    }
    verdict
}

/// Nobody but the liar may have been seen to contradict itself, and nobody a fork.
fn find_accused(cluster: &Cluster, liar: Option<usize>, verdict: &mut Verdict) {
    let liar = liar.map(|liar| json!(cluster.genesis().nodes[liar].identity()));
    for node in 0..cluster.size() {
        let status = cluster.get(node, "/v1/status");
        let others = |entry: &&Value| liar.as_ref() != Some(&entry["voter"]);
        let accused = status["evidence"].as_array().into_iter().flatten().filter(others);
        verdict.others.extend(accused.map(|entry| format!("node {node} tells of evidence: {entry}")));
        if status.get("fork").is_some_and(|fork| !fork.is_null()) {
            verdict.others.push(format!("node {node} tells of a fork: {}", status["fork"]));
        }
        let contradicted = cluster.metric(node, &counted("minidlt_messages_refused_total", "equivocation"));
        if contradicted > 0.0 && liar.is_none() {
            verdict.others.push(format!("node {node} has refused {contradicted} votes that contradict others"));
        }
    }
}

/// Every node has the same at each height, to the last letter.
fn find_forks(chains: &[Vec<Value>], verdict: &mut Verdict) {
    let longest = chains.iter().map(Vec::len).max().unwrap_or(0);
    for at in 0..longest {
        let blocks: Vec<Option<&Value>> = chains.iter().map(|chain| chain.get(at)).collect();
        if blocks.windows(2).any(|pair| pair[0] != pair[1]) {
            let hashes: Vec<String> = blocks
                .iter()
                .map(|block| block.map_or("nothing".to_owned(), |block| block["hash"].to_string()))
                .collect();
            verdict.forks.push(format!("height {}: the nodes hold {}", at + 1, hashes.join(", ")));
        }
    }
}

/// Heights follow each other, each block names the one before, and time does not go back.
fn find_gaps(node: usize, chain: &[Value], verdict: &mut Verdict) {
    for (at, block) in chain.iter().enumerate() {
        if block["height"].as_u64() != Some(at as u64 + 1) {
            verdict.others.push(format!("node {node}: block {} is where {} belongs", block["height"], at + 1));
        }
    }
    for pair in chain.windows(2) {
        let (before, block) = (&pair[0], &pair[1]);
        if block["previous"] != before["hash"] || !before["hash"].is_string() {
            verdict.others.push(format!("node {node}: block {} does not follow the one before", block["height"]));
        }
        if block["created"].as_u64() < before["created"].as_u64() {
            verdict.others.push(format!("node {node}: block {} is older than the one before", block["height"]));
        }
    }
}

/// Where each transaction is, as often as it is there.
fn places(chain: &[Value]) -> BTreeMap<String, Vec<Place>> {
    let mut places: BTreeMap<String, Vec<Place>> = BTreeMap::new();
    for block in chain {
        let height = block["height"].as_u64().unwrap_or(0);
        for (position, transaction) in block["content"].as_array().into_iter().flatten().enumerate() {
            let id = transaction["id"].as_str().unwrap_or_default().to_owned();
            places.entry(id).or_default().push((height, position as u64));
        }
    }
    places
}

fn find_repeats(node: usize, places: &BTreeMap<String, Vec<Place>>, verdict: &mut Verdict) {
    for (id, places) in places.iter().filter(|(_, places)| places.len() > 1) {
        verdict.duplicated.push(format!("node {node}: {id} is at {places:?}"));
    }
}

/// What was said to be committed is there, where it was said to be. What was taken is there, or was
/// said never to be; and what was said never to be is not.
fn find_lost(node: usize, places: &BTreeMap<String, Vec<Place>>, memory: &Memory, verdict: &mut Verdict) {
    for (id, fate) in &memory.0 {
        let there = places.get(id);
        for place in &fate.committed {
            if there.is_none_or(|there| !there.contains(place)) {
                verdict.lost.push(format!("node {node}: {id} was committed at {place:?}, and is at {there:?}"));
            }
        }
        let never = fate.dumped.as_ref().or(fate.refused.as_ref());
        match (there, never) {
            (None, None) if fate.accepted => {
                verdict.lost.push(format!("node {node}: {id} was taken, is nowhere, and nobody said why"));
            }
            (Some(there), Some(never)) => {
                verdict.others.push(format!("node {node}: {id} is at {there:?}, and was said never to be: {never}"));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;

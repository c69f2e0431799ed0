//! `minidlt compare`: do these nodes hold the same chain, and where do they first differ?
//!
//! Every node is asked, whatever becomes of the others, and gets its line. Those of the user's own
//! network are compared with the first of them.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    io::{self, Write as _},
};

use futures_util::future::join_all;
use minidlt_protocol::types::{Hash, Height, Identity};
use thiserror::Error;

use super::Failure;
use crate::client::{
    ClientError, NodeClient, NodeUrl,
    answers::{BlockSummary, Status},
    connect::Connect,
    run::block_on,
};

/// Do these nodes hold the same chain? Exits 1 if one differs, naming the height, or could not be asked
#[derive(Debug, clap::Args)]
pub struct Compare {
    #[command(flatten)]
    connect: Connect,
    /// Two nodes or more, https://HOST:PORT each
    #[arg(value_name = "URL", required = true, num_args = 2.., value_parser = node_url)]
    nodes: Vec<String>,
}

fn node_url(text: &str) -> Result<String, String> {
    let parsed: Result<NodeUrl, _> = text.parse();
    parsed.map(|url| url.to_string()).map_err(|_| "expected https://HOST:PORT".into())
}

impl Compare {
    pub fn run(self) -> Result<(), Failure> {
        block_on(async {
            let session = self.connect.session(&self.nodes)?;
            let (nodes, network) = (session.nodes, session.user.network);
            let answers = join_all(nodes.iter().map(|node| node.status())).await;
            let asked = nodes.iter().zip(answers).map(|(node, answer)| (node.url().clone(), answer.map(Head::from)));
            let asked: Vec<Asked> = asked.collect();
            same_node(&asked).map_or(Ok(()), |same| Err(Failure::usage(same)))?;
            let rows = examine(asked, &network, &nodes).await;
            let verdict = Verdict::of(&rows);
            let printed = print(&rows, &verdict);
            // Whether they are the same counts for more than whether anybody reads of it.
            if !verdict.all_the_same() {
                return Err(Failure::failed(verdict));
            }
            printed.map_err(Failure::from)
        })
    }
}

/// A verdict that is an error is told as one.
fn print(rows: &[Row], verdict: &Verdict) -> io::Result<()> {
    let mut out = io::stdout().lock();
    rows.iter().try_for_each(|row| writeln!(out, "{row}"))?;
    if verdict.all_the_same() { writeln!(out, "{verdict}") } else { Ok(()) }
}

/// A node's address, and where it says that it stands.
type Asked = (NodeUrl, Result<Head, ClientError>);

/// What a node says of itself proves nothing about another.
#[derive(Debug, Error)]
#[error("{} and {} are the same node, {node}; give another", urls[0], urls[1])]
struct SameNode {
    node: Identity,
    urls: [NodeUrl; 2],
}

fn same_node(asked: &[Asked]) -> Option<SameNode> {
    let mut answered = asked.iter().filter_map(|(url, answer)| Some((url, answer.as_ref().ok()?)));
    let mut seen: BTreeMap<(Hash, &Identity), &NodeUrl> = BTreeMap::new();
    answered.find_map(|(url, head)| {
        let before = seen.insert((head.network, &head.node), url)?;
        Some(SameNode { node: head.node.clone(), urls: [before.clone(), url.clone()] })
    })
}

/// The chains that are compared.
trait Chains {
    async fn hash(&self, node: usize, height: Height) -> Result<Hash, ClientError>;
}

impl Chains for Vec<NodeClient> {
    async fn hash(&self, node: usize, height: Height) -> Result<Hash, ClientError> {
        Ok(self[node].block::<BlockSummary>(&height.to_string()).await?.hash)
    }
}

/// Where a node says that it stands.
#[derive(Debug, Clone)]
struct Head {
    node: Identity,
    network: Hash,
    height: Height,
    hash: Hash,
}

impl From<Status> for Head {
    fn from(status: Status) -> Self {
        Self { node: status.node, network: status.network.id, height: status.height, hash: status.head }
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  height {}, {}", self.node, self.height, self.hash)
    }
}

/// How a node stands to the first one.
#[derive(Debug)]
enum Standing {
    /// It is the first, or holds the same as far as both reach.
    Same(Head),
    Differs {
        head: Head,
        from: NodeUrl,
        height: Height,
        hashes: [Hash; 2],
    },
    OtherNetwork {
        theirs: Hash,
        ours: Hash,
    },
    Unknown(ClientError),
}

/// What is told of one node, in a line.
#[derive(Debug)]
struct Row {
    url: NodeUrl,
    standing: Standing,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  ", self.url)?;
        match &self.standing {
            Standing::Same(head) => write!(f, "{head}"),
            Standing::Differs { head, from, height, hashes: [theirs, firsts] } => {
                write!(f, "{head}; first differs from {from} at height {height}: {theirs} and {firsts}")
            }
            Standing::OtherNetwork { theirs, ours } => {
                write!(f, "another network: its genesis is {theirs}, that of the user's directory {ours}")
            }
            Standing::Unknown(error) => {
                // As a rule the error names the node, which the line does already.
                let (error, name) = (error.to_string(), format!("{} ", self.url));
                write!(f, "not compared: {}", error.strip_prefix(&name).unwrap_or(&error))
            }
        }
    }
}

/// Sets each node against the first one that answered and is of `network`.
async fn examine(asked: Vec<Asked>, network: &Hash, chains: &impl Chains) -> Vec<Row> {
    let mut first: Option<(usize, NodeUrl, Height)> = None;
    let mut rows = Vec::with_capacity(asked.len());
    for (node, (url, answer)) in asked.into_iter().enumerate() {
        let standing = match (answer, first.clone()) {
            (Err(error), _) => Standing::Unknown(error),
            (Ok(head), _) if head.network != *network => {
                Standing::OtherNetwork { theirs: head.network, ours: *network }
            }
            (Ok(head), None) => {
                first = Some((node, url.clone(), head.height));
                Standing::Same(head)
            }
            (Ok(head), Some((first, from, top))) => match fork(chains, [node, first], top.min(head.height)).await {
                Ok(None) => Standing::Same(head),
                Ok(Some((height, hashes))) => Standing::Differs { head, from, height, hashes },
                Err(error) => Standing::Unknown(error),
            },
        };
        rows.push(Row { url, standing });
    }
    rows
}

/// The lowest height up to `top` where two nodes differ, and what each has there.
async fn fork(
    chains: &impl Chains,
    [one, other]: [usize; 2],
    top: Height,
) -> Result<Option<(Height, [Hash; 2])>, ClientError> {
    let differ = async |height: Height| {
        Ok::<_, ClientError>(chains.hash(one, height).await? != chains.hash(other, height).await?)
    };
    match first_difference(top, differ).await? {
        None => Ok(None),
        Some(height) => Ok(Some((height, [chains.hash(one, height).await?, chains.hash(other, height).await?]))),
    }
}

/// The lowest height up to `top` where two chains differ. Each block names the one before, so once
/// they differ they differ for good, and halving finds the place.
async fn first_difference<F, E>(top: Height, differ: impl Fn(Height) -> F) -> Result<Option<Height>, E>
where
    F: Future<Output = Result<bool, E>>,
{
    if !differ(top).await? {
        return Ok(None);
    }
    let (mut low, mut high) = (0, top.get());
    while low < high {
        let middle = low + (high - low) / 2;
        if differ(Height::new(middle)).await? {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Ok(Some(Height::new(high)))
}

/// What all rows come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Verdict {
    all: usize,
    same: usize,
    /// The lowest of the heads of those that hold the same.
    common: Height,
    differing: usize,
    foreign: usize,
    unknown: usize,
}

impl Verdict {
    fn of(rows: &[Row]) -> Self {
        let count = |is: fn(&Standing) -> bool| rows.iter().filter(|row| is(&row.standing)).count();
        let heads = rows.iter().filter_map(|row| match &row.standing {
            Standing::Same(head) => Some(head.height),
            _ => None,
        });
        Self {
            all: rows.len(),
            same: count(|standing| matches!(standing, Standing::Same(_))),
            common: heads.min().unwrap_or_default(),
            differing: count(|standing| matches!(standing, Standing::Differs { .. })),
            foreign: count(|standing| matches!(standing, Standing::OtherNetwork { .. })),
            unknown: count(|standing| matches!(standing, Standing::Unknown(_))),
        }
    }

    fn all_the_same(&self) -> bool {
        self.same == self.all
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { all, same, common, differing, foreign, unknown } = *self;
        if self.all_the_same() {
            return write!(f, "same chain up to height {common}, the lowest of their heads");
        }
        match (same, differing) {
            (0, _) => write!(f, "none of {all} nodes could be compared")?,
            (1, 0) => write!(f, "only 1 of {all} nodes could be compared, and with no other")?,
            (_, 0) => write!(f, "{same} of {all} nodes hold the same chain up to height {common}")?,
            _ => write!(f, "not the same chain: {differing} of {all} nodes differ from the first that answered")?,
        }
        if foreign > 0 {
            write!(f, "; of another network than the user's: {foreign}")?;
        }
        if unknown > 0 {
            write!(f, "; could not be asked: {unknown}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Verdict {}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const OURS: Hash = Hash::from_bytes([1; 32]);
    const OTHERS: Hash = Hash::from_bytes([2; 32]);

    /// Made-up nodes: a block's hash is made of one byte.
    struct Made(Vec<&'static [u8]>);

    fn block(byte: u8) -> Hash {
        Hash::from_bytes([byte; 32])
    }

    impl Chains for Made {
        async fn hash(&self, node: usize, height: Height) -> Result<Hash, ClientError> {
            let found = usize::try_from(height.get()).ok().and_then(|height| self.0[node].get(height));
            found.map(|byte| block(*byte)).ok_or_else(|| unreachable(node))
        }
    }

    fn url(node: usize) -> String {
        format!("https://n{node}:1")
    }

    fn unreachable(node: usize) -> ClientError {
        ClientError::Unreachable { url: url(node), reason: "refused".into() }
    }

    /// A node of a network with a chain; `None` is one that does not answer.
    type Node = Option<(Hash, &'static [u8])>;

    fn node(network: Hash, chain: &'static [u8]) -> Node {
        Some((network, chain))
    }

    fn head(at: usize, (network, chain): (Hash, &'static [u8])) -> Head {
        let top = chain.len() - 1;
        let node = format!("node{at}@Org01").parse().unwrap();
        Head { node, network, height: Height::new(top as u64), hash: block(chain[top]) }
    }

    fn told(nodes: &[Node]) -> (Vec<String>, Verdict) {
        let answer = |at: usize, node: &Node| node.map(|node| head(at, node)).ok_or_else(|| unreachable(at));
        let asked = nodes.iter().enumerate().map(|(at, node)| (url(at).parse().unwrap(), answer(at, node)));
        let chains = Made(nodes.iter().map(|node| node.map(|(_, chain)| chain).unwrap_or_default()).collect());
        let rows = block_on(examine(asked.collect(), &OURS, &chains));
        (rows.iter().map(Row::to_string).collect(), Verdict::of(&rows))
    }

    #[test]
    fn nodes_of_one_chain_agree_as_far_as_all_reach() {
        let (_, verdict) = told(&[node(OURS, &[1, 5, 6]), node(OURS, &[1, 5]), node(OURS, &[1, 5, 6, 7])]);
        assert!(verdict.all_the_same());
        assert_eq!(verdict.to_string(), "same chain up to height 1, the lowest of their heads");
    }

    #[test]
    fn one_that_does_not_answer_keeps_none_from_being_compared() {
        let (lines, verdict) = told(&[None, node(OURS, &[1, 5]), node(OURS, &[1, 5])]);
        assert_eq!(lines[0], "https://n0:1  not compared: cannot be reached: refused");
        assert_eq!(lines[2], format!("https://n2:1  node2@Org01  height 1, {}", block(5)));
        assert_eq!(verdict.to_string(), "2 of 3 nodes hold the same chain up to height 1; could not be asked: 1");
        let (_, alone) = told(&[node(OURS, &[1]), None]);
        assert!(alone.to_string().starts_with("only 1 of 2 nodes could be compared"), "{alone}");
        let (_, nobody) = told(&[None, None]);
        assert_eq!(nobody.to_string(), "none of 2 nodes could be compared; could not be asked: 2");
    }

    #[test]
    fn a_node_is_not_compared_with_itself() {
        let chain: &'static [u8] = &[1, 5];
        let asked = |nodes: [usize; 2]| {
            let heads = nodes.map(|at| Ok(head(at, (OURS, chain))));
            let asked: Vec<Asked> = heads.into_iter().zip(0..).map(|(it, at)| (url(at).parse().unwrap(), it)).collect();
            same_node(&asked).map(|same| same.to_string())
        };
        assert_eq!(asked([0, 1]), None);
        let expected = "https://n0:1 and https://n1:1 are the same node, node7@Org01; give another";
        assert_eq!(asked([7, 7]).as_deref(), Some(expected));
    }

    #[test]
    fn each_that_differs_is_named_with_the_height() {
        let (lines, verdict) = told(&[node(OURS, &[1, 5, 6]), node(OURS, &[1, 5, 6]), node(OURS, &[1, 5, 9, 9])]);
        let differs = format!("; first differs from https://n0:1 at height 2: {} and {}", block(9), block(6));
        assert!(lines[2].ends_with(&differs), "{}", lines[2]);
        assert!(!verdict.all_the_same());
        let expected = "not the same chain: 1 of 3 nodes differ from the first that answered";
        assert_eq!(verdict.to_string(), expected);
    }

    #[test]
    fn another_network_than_the_users_is_named_even_where_all_agree_on_it() {
        let (lines, verdict) = told(&[node(OTHERS, &[2, 3]), node(OTHERS, &[2, 3])]);
        assert_eq!(verdict, Verdict { all: 2, same: 0, common: Height::GENESIS, differing: 0, foreign: 2, unknown: 0 });
        assert!(lines[1].contains(&format!("its genesis is {OTHERS}")), "{}", lines[1]);
    }

    #[test]
    fn halving_finds_the_first_difference() {
        for top in [0, 1, 2, 7, 1000] {
            for first in (0..=top).chain([top + 1]) {
                let asked = Cell::new(0);
                let differ = async |height: Height| {
                    asked.set(asked.get() + 1);
                    Ok::<_, ()>(height.get() >= first)
                };
                let found = block_on(first_difference(Height::new(top), differ)).unwrap();
                assert_eq!(found, (first <= top).then(|| Height::new(first)), "{top} {first}");
                assert!(asked.get() <= 12);
            }
        }
    }
}

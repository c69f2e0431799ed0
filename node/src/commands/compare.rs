//! `minidlt compare`: do these nodes hold the same chain, and where do they first differ?

use std::future::Future;

use minidlt_protocol::types::{Hash, Height};
use thiserror::Error;

use super::Failure;
use crate::client::{
    ClientError, NodeClient, NodeUrl,
    answers::{BlockSummary, Status},
    connect::Connect,
    run::block_on,
};

/// Do these nodes hold the same chain? Exits 1 and names the first height where they differ
#[derive(Debug, clap::Args)]
pub struct Compare {
    #[command(flatten)]
    connect: Connect,
    /// The nodes, https://HOST:PORT each
    #[arg(value_name = "URL", required = true, num_args = 2..)]
    nodes: Vec<String>,
}

impl Compare {
    pub fn run(self) -> Result<(), Failure> {
        block_on(async {
            let nodes = self.connect.session(&self.nodes)?.nodes;
            let mut asked = Vec::new();
            for node in &nodes {
                asked.push((node, node.status().await?));
            }
            for (node, status) in &asked {
                println!("{}  height {}, {}", node.url(), status.height, status.head);
            }
            if let Some((first, others)) = asked.split_first() {
                for other in others {
                    pair(first, other).await?;
                }
            }
            let common = asked.iter().map(|(_, status)| status.height).min().unwrap_or_default();
            println!("same chain up to height {common}, the lowest of their heads");
            Ok(())
        })
    }
}

/// How two nodes differ.
#[derive(Debug, Error)]
enum Difference {
    #[error("{} and {} are of different networks: {} and {}", urls[0], urls[1], networks[0], networks[1])]
    Network { urls: [NodeUrl; 2], networks: [Hash; 2] },
    #[error("{} and {} first differ at height {height}: {} and {}", urls[0], urls[1], hashes[0], hashes[1])]
    Block { urls: [NodeUrl; 2], height: Height, hashes: [Hash; 2] },
}

async fn pair((a, a_status): &(&NodeClient, Status), (b, b_status): &(&NodeClient, Status)) -> Result<(), Failure> {
    let urls = [a.url().clone(), b.url().clone()];
    let networks = [a_status.network.id, b_status.network.id];
    if networks[0] != networks[1] {
        return Err(Failure::failed(Difference::Network { urls, networks }));
    }
    let differ = async |height| Ok::<_, ClientError>(hash(a, height).await? != hash(b, height).await?);
    match first_difference(a_status.height.min(b_status.height), differ).await? {
        None => Ok(()),
        Some(height) => {
            let hashes = [hash(a, height).await?, hash(b, height).await?];
            Err(Failure::failed(Difference::Block { urls, height, hashes }))
        }
    }
}

async fn hash(node: &NodeClient, height: Height) -> Result<Hash, ClientError> {
    Ok(node.block::<BlockSummary>(&height.to_string()).await?.hash)
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

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

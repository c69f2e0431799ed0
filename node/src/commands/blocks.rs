//! `minidlt blocks`: blocks as JSON.

use std::io::{self, Write as _};

use minidlt_protocol::types::Height;
use serde_json::Value;
use thiserror::Error;

use super::Failure;
use crate::client::{connect::ConnectNode, run::block_on};

/// Show blocks as JSON
#[derive(Debug, clap::Args)]
pub struct Blocks {
    #[command(flatten)]
    connect: ConnectNode,
    /// First height to show [default: 0, the genesis]
    #[arg(long, value_name = "HEIGHT", conflicts_with = "block")]
    from: Option<u64>,
    /// Most blocks to show
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = count, conflicts_with = "block")]
    limit: usize,
    /// Just this block: a height, a hash or latest
    #[arg(value_name = "HEIGHT|HASH", value_parser = which)]
    block: Option<String>,
}

/// The most a node gives at once.
const PAGE: usize = 100;

#[derive(Debug, Error)]
#[error("there is no block {0} yet; minidlt status shows the height of the chain")]
struct NotYet(Height);

fn count(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| *count > 0);
    count.ok_or_else(|| "expected a number above 0".into())
}

fn which(text: &str) -> Result<String, String> {
    let hash = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let known = text == "latest" || text.parse::<u64>().is_ok() || hash;
    if known { Ok(text.into()) } else { Err("expected a height, a hash of 64 hexadecimal digits, or latest".into()) }
}

impl Blocks {
    pub fn run(self) -> Result<(), Failure> {
        block_on(async {
            let node = self.connect.node().await?;
            if let Some(block) = &self.block {
                let block: Value = node.block(block).await?;
                writeln!(io::stdout(), "{block:#}")?;
                return Ok(());
            }
            let (mut from, mut left) = (self.from.map(Height::new), self.limit);
            while left > 0 {
                let page = node.blocks(from, left.min(PAGE)).await?;
                let blocks = page.get("blocks").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
                if let (true, Some(height)) = (blocks.is_empty() && left == self.limit, from) {
                    return Err(Failure::failed(NotYet(height)));
                }
                blocks.iter().try_for_each(|block| writeln!(io::stdout(), "{block:#}"))?;
                left = left.saturating_sub(blocks.len());
                match page.get("next").and_then(Value::as_u64) {
                    Some(next) if !blocks.is_empty() => from = Some(Height::new(next)),
                    _ => break,
                }
            }
            Ok(())
        })
    }
}

//! `minidlt blocks`: blocks as JSON.

use minidlt_protocol::types::Height;
use serde_json::Value;

use super::Failure;
use crate::client::{connect::ConnectNode, run::block_on};

/// Show blocks as JSON
#[derive(Debug, clap::Args)]
pub struct Blocks {
    #[command(flatten)]
    connect: ConnectNode,
    /// First height to show
    #[arg(long, value_name = "HEIGHT", conflicts_with = "block")]
    from: Option<u64>,
    /// Most blocks to show
    #[arg(long, default_value_t = 20, conflicts_with = "block")]
    limit: usize,
    /// Just this block: a height, a hash or `latest`
    #[arg(value_name = "HEIGHT|HASH", value_parser = which)]
    block: Option<String>,
}

/// The most a node gives at once.
const PAGE: usize = 100;

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
                println!("{:#}", node.block::<Value>(block).await?);
                return Ok(());
            }
            let (mut from, mut left) = (self.from.map(Height::new), self.limit);
            while left > 0 {
                let page = node.blocks(from, left.min(PAGE)).await?;
                let blocks = page.get("blocks").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
                blocks.iter().for_each(|block| println!("{block:#}"));
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

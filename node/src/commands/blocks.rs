//! `minidlt blocks`: blocks as JSON.

use std::process::ExitCode;

use minidlt_protocol::types::Height;
use serde_json::Value;

use crate::client::{ClientError, connect::ConnectNode, run::block_on};

/// Show blocks as JSON
#[derive(Debug, clap::Args)]
pub struct Args {
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

pub fn run(args: Args) -> Result<ExitCode, ClientError> {
    block_on(async {
        let node = args.connect.node().await?;
        if let Some(block) = &args.block {
            println!("{:#}", node.block::<Value>(block).await?);
            return Ok(ExitCode::SUCCESS);
        }
        let (mut from, mut left) = (args.from.map(Height::new), args.limit);
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
        Ok(ExitCode::SUCCESS)
    })
}

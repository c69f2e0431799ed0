//! `minidlt watch`: the live stream of committed blocks.

use std::io::{self, Write as _};

use minidlt_protocol::types::Height;

use super::Failure;
use crate::{
    client::{
        ClientError,
        answers::BlockSummary,
        connect::ConnectNode,
        events::{Event, Events, View},
        run::block_on,
    },
    say,
};

/// Show blocks as they are committed, until Ctrl-C
#[derive(Debug, clap::Args)]
pub struct Watch {
    #[command(flatten)]
    connect: ConnectNode,
    /// Begin with this height [default: the next block]
    #[arg(long, value_name = "HEIGHT")]
    from: Option<u64>,
    /// Print each block as one line of JSON
    #[arg(long)]
    json: bool,
}

impl Watch {
    pub fn run(self) -> Result<(), Failure> {
        block_on(async {
            let nodes = self.connect.session()?.nodes;
            let events = Events::new(nodes, View::Blocks, self.from.map(Height::new));
            let mut events = events.with_notice(|text| say::note(format_args!("minidlt: {text}")));
            loop {
                let event = events.next().await?;
                let line = if self.json { event.text } else { summary(&event)? };
                writeln!(io::stdout(), "{line}")?;
            }
        })
    }
}

fn summary(event: &Event) -> Result<String, ClientError> {
    let block: BlockSummary = serde_json::from_str(&event.text)
        .map_err(|error| ClientError::Unexpected { url: "the stream of events".into(), what: error.to_string() })?;
    Ok(block.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_a_line() {
        let hash = "ab".repeat(32);
        let text = format!(
            r#"{{"height": 7, "hash": "{hash}", "previous": "{hash}", "created": 951782400000, "round": 0,
            "proposer": {{"name": "node0", "organisation": "Org01"}}, "content": [{{"id": "x"}}, {{}}]}}"#
        );
        let line = summary(&Event { height: Height::new(7), text }).unwrap();
        assert_eq!(line, format!("       7  {hash}      2 transactions  node0@Org01  2000-02-29T00:00:00.000Z"));
    }
}

//! `minidlt status`: how a node and its peers are.

use super::Failure;
use crate::client::{
    answers::{Peer, Status},
    connect::ConnectNode,
    run::block_on,
    time::rfc3339,
};

/// Report of a node and its peers
#[derive(Debug, clap::Args)]
pub struct StatusCommand {
    #[command(flatten)]
    connect: ConnectNode,
    /// Print the node's answer as JSON
    #[arg(long)]
    json: bool,
}

impl StatusCommand {
    pub fn run(self) -> Result<(), Failure> {
        block_on(async {
            let node = self.connect.node().await?;
            if self.json {
                println!("{:#}", node.raw_status().await?);
            } else {
                print!("{}", report(&node.status().await?));
            }
            Ok(())
        })
    }
}

fn report(status: &Status) -> String {
    let Status { node, network, consensus, height, head, created, peers, mempool, uptime_s, version } = status;
    let mut lines = vec![
        format!("node       {node}, version {version}, up {}", uptime(*uptime_s)),
        format!("network    {} ({})", network.name, network.id),
        format!("head       {height}, {head}, {}", rfc3339(*created)),
        format!("mempool    {} transactions, {} bytes", mempool.transactions, mempool.bytes),
        format!("consensus  {}, height {}, round {}", consensus.mode, consensus.height, consensus.round),
    ];
    let names = |who: &[_]| who.iter().map(ToString::to_string).collect::<Vec<String>>().join(", ");
    if !consensus.missing.is_empty() {
        lines.push(format!("           accepted by {}", names(&consensus.accepted_by)));
        lines.push(format!("           missing     {}", names(&consensus.missing)));
    }
    lines.extend(peers.iter().map(peer));
    lines.push(String::new());
    lines.join("\n")
}

fn peer(peer: &Peer) -> String {
    let height = peer.height.map_or_else(|| "unknown".into(), |height| height.to_string());
    let error = peer.last_error.as_deref().map(|error| format!(", last error: {error}")).unwrap_or_default();
    let Peer { name, organisation, address, state, .. } = peer;
    format!("peer       {name}@{organisation} at {address}: {state}, height {height}{error}")
}

fn uptime(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_names_who_is_missing() {
        let hash = "ab".repeat(32);
        let text = format!(
            r#"{{"node": {{"name": "node0", "organisation": "Org01"}}, "network": {{"name": "trades", "id": "{hash}"}},
            "consensus": {{"mode": "full-consent", "height": 8, "round": 1, "block": null,
              "accepted_by": [{{"name": "node0", "organisation": "Org01"}}],
              "missing": [{{"name": "node3", "organisation": "Org04"}}]}},
            "height": 7, "head": "{hash}", "created": 0, "uptime_s": 3661, "version": "0.1.0",
            "peers": [{{"name": "node3", "organisation": "Org04", "address": "localhost:3432", "state": "dialling",
              "height": null, "last_error": "connection refused"}}],
            "mempool": {{"transactions": 1, "bytes": 300}}}}"#
        );
        let report = report(&serde_json::from_str(&text).unwrap());
        assert!(report.contains("up 1 h 1 min") && report.contains("missing     node3@Org04"), "{report}");
        assert!(report.contains("dialling, height unknown, last error: connection refused"), "{report}");
    }
}

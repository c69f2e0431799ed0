//! `minidlt status`: how a node and its peers are.

use std::io::{self, Write as _};

use minidlt_protocol::{successor::Origin, types::Identity};

use super::Failure;
use crate::client::{
    answers::{At, Certificates, Consensus, Evidence, Fork, Peer, Place, Status, Validity},
    connect::ConnectNode,
    run::block_on,
    time::rfc3339,
};

/// Show how a node and its peers are: heights, connections, what waits and who is missing
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
            let (node, status) = self.connect.session()?.first_alive().await?;
            if self.json {
                let status = node.raw_status().await?;
                writeln!(io::stdout(), "{status:#}")?;
            } else {
                write!(io::stdout(), "{}", report(&status))?;
            }
            Ok(())
        })
    }
}

fn report(status: &Status) -> String {
    let Status {
        node,
        network,
        consensus,
        voting,
        fork,
        predecessor,
        height,
        head,
        created,
        peers,
        certificates,
        mempool,
        evidence,
        uptime_s,
        version,
    } = status;
    let mut lines = vec![
        format!("node       {node}, version {version}, up {}", uptime(*uptime_s)),
        format!("network    {} ({})", network.name, network.id),
        format!("head       {height}, {head}, {}", rfc3339(*created)),
        format!("mempool    {} transactions, {} bytes", mempool.transactions, mempool.bytes),
    ];
    if let Some(Origin { network, height, block }) = predecessor {
        lines.push(format!("carries on {network} from block {height}, {block}"));
    }
    lines.extend(agreement(consensus));
    if let Some(reason) = &voting.reason {
        lines.push(format!("voting     {}: {reason}", voting.state));
    }
    if let Some(Fork { ours, theirs, shown_by }) = fork {
        let Place { header: At { height }, hash } = ours;
        lines.push(format!("FORK       at height {height}: {hash} here, {} shown by {shown_by}", theirs.hash));
    }
    let Certificates { own, ca, former_ca } = certificates;
    let organisation = &node.organisation;
    lines.extend(own.map(|own| format!("expires    its certificate {}", when(own))));
    lines.extend(ca.map(|ca| format!("expires    the CA of {organisation} {}", when(ca))));
    lines.extend(former_ca.map(|ca| format!("expires    the former CA of {organisation} {}", when(ca))));
    lines.extend(peers.iter().map(peer));
    lines.extend(evidence.iter().map(lie));
    lines.push(String::new());
    lines.join("\n")
}

fn agreement(Consensus { mode, active, height, round, accepted_by, missing }: &Consensus) -> Vec<String> {
    if !active {
        return vec![format!("consensus  {mode}, height {height}: idle")];
    }
    let mut lines = vec![format!("consensus  {mode}, height {height}, round {round}")];
    if !missing.is_empty() {
        lines.push(format!("           accepted by {}", names(accepted_by)));
        lines.push(format!("           missing     {}", names(missing)));
    }
    lines
}

fn names(who: &[Identity]) -> String {
    if who.is_empty() {
        return "nobody yet".into();
    }
    who.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn when(Validity { expires, days_left }: Validity) -> String {
    match days_left {
        0.. => format!("{}, in {days_left} days", rfc3339(expires)),
        _ => format!("{}, IT HAS RUN OUT", rfc3339(expires)),
    }
}

fn peer(peer: &Peer) -> String {
    let Peer { name, organisation, address, state, height, last_error, certificate } = peer;
    let height = height.map_or_else(|| "unknown".into(), |height| height.to_string());
    let error = last_error.as_ref().map(|error| format!(", last error: {error}")).unwrap_or_default();
    let certificate = certificate.map(|validity| format!(", certificate until {}", when(validity))).unwrap_or_default();
    format!("peer       {name}@{organisation} at {address}: {state}, height {height}{certificate}{error}")
}

fn lie(Evidence { voter, height, round, kind, transaction }: &Evidence) -> String {
    format!("evidence   {voter} signed two {kind}s at height {height}, round {round}: transaction {transaction}")
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

    /// As a node of two answers.
    fn status(consensus: &str, peer: &str) -> String {
        let (hash, other) = ("ab".repeat(32), "cd".repeat(32));
        let text = format!(
            r#"{{"node": {{"name": "node0", "organisation": "Org01"}}, "network": {{"name": "trades", "id": "{hash}"}},
            "consensus": {{"mode": "full-consent", "height": 8, "block": null, {consensus}}},
            "voting": {{"state": "waiting", "from": 8, "reason": "too few"}},
            "fork": {{"shown_by": {{"name": "node2", "organisation": "Org03"}},
                "ours": {{"hash": "{hash}", "header": {{"height": 5}}}},
                "theirs": {{"hash": "{other}", "header": {{"height": 5}}}}}},
            "height": 7, "head": "{hash}", "created": 0, "uptime_s": 3661, "version": "0.1.0",
            "peers": [{{"name": "node3", "organisation": "Org04", "address": "localhost:3432", {peer}}}],
            "mempool": {{"transactions": 1, "bytes": 300}}}}"#
        );
        report(&serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn a_voter_that_contradicted_itself_is_named() {
        let hash = "cd".repeat(32);
        let lie = format!(
            r#""state": "connected", "height": 7, "last_error": null}}], "evidence": [{{"height": 5, "round": 1,
            "voter": {{"name": "node3", "organisation": "Org04"}}, "kind": "prevote", "transaction": "{hash}""#
        );
        let report = status(r#""active": false, "round": 0, "accepted_by": [], "missing": []"#, &lie);
        let line = format!("evidence   node3@Org04 signed two prevotes at height 5, round 1: transaction {hash}\n");
        assert!(report.ends_with(&line), "{report}");
    }

    const LOST: &str = r#""state": "disconnected", "height": null, "last_error": "connection refused""#;
    const THERE: &str = r#""state": "connected", "height": 7, "last_error": null"#;

    #[test]
    fn the_report_names_who_is_missing() {
        let consensus = r#""active": true, "round": 1, "accepted_by": [{"name": "node0", "organisation": "Org01"}],
            "missing": [{"name": "node3", "organisation": "Org04"}]"#;
        let report = status(consensus, LOST);
        assert!(report.contains("up 1 h 1 min") && report.contains("missing     node3@Org04"), "{report}");
        assert!(report.contains("disconnected, height unknown, last error: connection refused"), "{report}");
        let nobody = r#""active": true, "round": 0, "missing": [{"name": "node3", "organisation": "Org04"}]"#;
        let report = status(nobody, THERE);
        assert!(report.contains("height 8, round 0\n           accepted by nobody yet\n"), "{report}");
    }

    #[test]
    fn certificates_ends_are_told_by_their_days() {
        let peer = r#""state": "connected", "height": 7, "last_error": null, "certificate": {"expires": 86400000,
            "days_left": 29}}], "certificates": {"own": {"expires": 0, "days_left": -1}, "ca": {"expires": 3600000,
            "days_left": 0}, "former_ca": null}, "evidence": [{"voter": {"name": "a", "organisation": "b"}, "height": 1,
            "round": 0, "kind": "prevote", "transaction": "HASH""#;
        let peer = peer.replace("HASH", &"cd".repeat(32));
        let report = status(r#""active": false, "round": 0, "accepted_by": [], "missing": []"#, &peer);
        let lines = "expires    its certificate 1970-01-01T00:00:00.000Z, IT HAS RUN OUT\n\
                     expires    the CA of Org01 1970-01-01T01:00:00.000Z, in 0 days\n";
        assert!(report.contains(lines), "{report}");
        assert!(report.contains(", height 7, certificate until 1970-01-02T00:00:00.000Z, in 29 days\n"), "{report}");
    }

    #[test]
    fn with_nothing_to_agree_on_nobody_is_missing() {
        let report = status(r#""active": false, "round": 0, "accepted_by": [], "missing": []"#, THERE);
        let end = "consensus  full-consent, height 8: idle\n\
                   voting     waiting: too few\n";
        assert!(report.contains(end), "{report}");
        let (ours, theirs) = ("ab".repeat(32), "cd".repeat(32));
        let fork = format!("FORK       at height 5: {ours} here, {theirs} shown by node2@Org03\n");
        assert!(report.contains(&fork), "{report}");
        let end = "\
                   peer       node3@Org04 at localhost:3432: connected, height 7\n";
        assert!(report.ends_with(end), "{report}");
    }
}

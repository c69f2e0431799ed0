//! What all commands share that change members or policies: a change is signed, and either submitted and followed
//! until it is decided, or written to a file for others to endorse.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    time::Duration,
};

use minidlt_protocol::{
    governance::Change,
    limits::MAX_LIFETIME_MILLIS,
    registry::{EntryKey, NodeRole, Role, SignerRole},
    state::Outcome,
    transaction::Operation,
    types::{Hash, Height},
};
use thiserror::Error;

use super::{Failure, submit::lifetime};
use crate::{
    client::{
        ClientError, NodeClient,
        answers::Fate,
        changes::{Done, Draft, decide, find, revision},
        connect::ConnectNode,
        run::block_on,
        submission::Signer,
        time::now,
    },
    interrupt::{Interrupts, Signal},
};

/// How long a change may wait to be committed, where its user does not say.
const LIFETIME: Duration = Duration::from_secs(3_600);
/// The same of one that is to be endorsed, by people: the longest there is.
const LIFETIME_OF_A_FILE: Duration = Duration::from_millis(MAX_LIFETIME_MILLIS);

/// What becomes of a change once it is signed.
#[derive(Debug, clap::Args)]
pub struct How {
    /// Write it to FILE, to be endorsed and sent, and submit nothing
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// How long it may wait to be committed, such as 30m, at most 24h [default: 1h, and 24h with --out]
    #[arg(long, value_name = "TIME", value_parser = lifetime)]
    lifetime: Option<Duration>,
}

/// Why a change that was submitted is not in force.
#[derive(Debug, Error)]
enum NotDone {
    #[error("{whom} is not {what}: block {height} has it as failed: {reason}")]
    Failed { whom: String, what: &'static str, height: Height, reason: String },
    #[error("{whom} is not {what}: {reason}")]
    Undone { whom: String, what: &'static str, reason: String },
    #[error("interrupted by {signal}: transaction {id} is undecided, it may yet be committed")]
    Interrupted { signal: Signal, id: Hash },
}

/// Makes a change as one user, by what the node that is asked knows.
pub fn make<F>(connect: &ConnectNode, how: &How, change: F) -> Result<(), Failure>
where
    F: AsyncFnOnce(&NodeClient) -> Result<Change, ClientError>,
{
    block_on(async {
        let session = connect.session()?;
        let (node, _) = session.first_alive().await?;
        let change = change(&node).await?;
        let network = session.user.network;
        let lifetime = how.lifetime.unwrap_or(if how.out.is_some() { LIFETIME_OF_A_FILE } else { LIFETIME });
        let millis = u64::try_from(lifetime.as_millis()).unwrap_or(MAX_LIFETIME_MILLIS);
        let mut signer = Signer::new(session.user, millis)?;
        let prepared = signer.sign_operation(Operation::Change(change.into()), now());
        let draft = prepared.and_then(|prepared| Draft::of(prepared.bytes, &network)).map_err(Failure::usage)?;
        match &how.out {
            None => submit(&session.nodes, &draft).await,
            Some(path) => {
                draft.write(path)?;
                let done = Done::from(&draft.body.operation);
                writeln!(io::stdout(), "{}: to be {}; have {} endorsed", done.whom, done.what, path.display())?;
                Ok(())
            }
        }
    })
}

/// Makes a change of an entry that is there, whose revision it names.
pub fn make_of(
    connect: &ConnectNode,
    how: &How,
    key: EntryKey,
    change: impl FnOnce(u64) -> Change,
) -> Result<(), Failure> {
    make(connect, how, async |node| Ok(change(revision(node, &key).await?)))
}

/// Makes a change that sets an entry, whether it is there or not: with the revision that it has, if it has one.
pub fn make_set(
    connect: &ConnectNode,
    how: &How,
    key: EntryKey,
    change: impl FnOnce(Option<u64>) -> Change,
) -> Result<(), Failure> {
    make(connect, how, async |node| {
        let entry = find(node, &key).await?;
        Ok(change(entry.map(|entry| entry["revision"].as_u64().unwrap_or_default())))
    })
}

/// Submits a transaction, and waits until it is decided.
pub async fn submit(nodes: &[NodeClient], draft: &Draft) -> Result<(), Failure> {
    let mut interrupts = Interrupts::listen()?;
    let fate = tokio::select! {
        fate = decide(nodes, &draft.signed) => fate?,
        signal = interrupts.next() => {
            return Err(Failure::interrupted(signal, NotDone::Interrupted { signal, id: draft.id }));
        }
    };
    let line = told(Done::from(&draft.body.operation), fate).map_err(Failure::failed)?;
    writeln!(io::stdout(), "{line}")?;
    Ok(())
}

fn told(done: Done, fate: Fate) -> Result<String, NotDone> {
    let Done { whom, what } = done;
    let undecided = || "the node does not say why".to_owned();
    match (fate.height, fate.result) {
        (Some(height), Some(Outcome::Ok)) => Ok(format!("{whom} {what} in block {height}")),
        (Some(height), Some(Outcome::Failed { reason })) => Err(NotDone::Failed { whom, what, height, reason }),
        _ => Err(NotDone::Undone { whom, what, reason: fate.detail.or(fate.reason).unwrap_or_else(undecided) }),
    }
}

/// A user's role, as an argument.
pub fn user_role(text: &str) -> Result<Role, String> {
    match text.parse().map_err(|error: minidlt_protocol::registry::UnknownRole| error.to_string())? {
        SignerRole::User(role) => Ok(role),
        SignerRole::Node(_) => Err(format!("{text} is a node's role, not a user's")),
    }
}

/// A node's role, as an argument.
pub fn node_role(text: &str) -> Result<NodeRole, String> {
    match text.parse().map_err(|error: minidlt_protocol::registry::UnknownRole| error.to_string())? {
        SignerRole::Node(role) => Ok(role),
        SignerRole::User(_) => Err(format!("{text} is a user's role, not a node's, which are peer and orderer")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(fate: serde_json::Value) -> Result<String, String> {
        let done = Done { whom: "user x@Org01".into(), what: "enrolled" };
        let fate: Fate = serde_json::from_value(fate).unwrap();
        super::told(done, fate).map_err(|error| error.to_string())
    }

    #[test]
    fn only_what_took_effect_is_success() {
        let id = "0".repeat(64);
        let committed = |result| json!({"id": id, "status": "committed", "height": 7, "position": 0, "result": result});
        assert_eq!(told(committed(json!({"status": "ok"}))).unwrap(), "user x@Org01 enrolled in block 7");
        assert_eq!(
            told(committed(json!({"status": "failed", "reason": "it is stale"}))).unwrap_err(),
            "user x@Org01 is not enrolled: block 7 has it as failed: it is stale"
        );
        let dumped = json!({"id": id, "status": "dumped", "reason": "not-seen", "detail": "no block held it"});
        assert_eq!(told(dumped).unwrap_err(), "user x@Org01 is not enrolled: no block held it");
        let rejected = json!({"id": id, "status": "rejected", "kind": "stale-revision", "reason": "it is stale"});
        assert_eq!(told(rejected).unwrap_err(), "user x@Org01 is not enrolled: it is stale");
    }

    #[test]
    fn roles_are_those_of_users_or_those_of_nodes() {
        assert_eq!(user_role("auditor"), Ok(Role::Auditor));
        assert_eq!(node_role("orderer"), Ok(NodeRole::Orderer));
        assert_eq!(user_role("peer").unwrap_err(), "peer is a node's role, not a user's");
        assert!(node_role("admin").unwrap_err().ends_with("which are peer and orderer"));
        assert!(user_role("chief").unwrap_err().starts_with("\"chief\" is not a role; roles are admin, "));
    }
}

//! Listing members, policies and types of records, showing one, and showing who changed it: for each kind the same.

use std::io::{self, Write as _};

use minidlt_protocol::registry::{EntryKey, default_policy, policies};
use serde_json::{Value, json};

use super::Failure;
use crate::client::{
    ClientError, NodeClient, answers::HistoryEntry, changes::find, connect::ConnectNode, run::block_on, time::rfc3339,
};

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    User,
    Node,
    Organisation,
    Policy,
    RecordType,
}

#[derive(Debug, clap::Subcommand)]
pub enum Look {
    /// List all, a line each, as of the last block
    List(List),
    /// Show one, as JSON, as of the last block
    Show(OfOne),
    /// Show who changed one, in which block, and how
    History(OfOne),
}

#[derive(Debug, clap::Args)]
pub struct List {
    #[command(flatten)]
    connect: ConnectNode,
}

#[derive(Debug, clap::Args)]
pub struct OfOne {
    #[command(flatten)]
    connect: ConnectNode,
    /// NAME@ORGANISATION of a member, else the name
    #[arg(value_name = "NAME")]
    name: String,
}

impl Kind {
    fn collection(self) -> &'static str {
        match self {
            Self::User => "users",
            Self::Node => "nodes",
            Self::Organisation => "organisations",
            Self::Policy => "policies",
            Self::RecordType => "record-types",
        }
    }

    fn key(self, name: &str) -> Result<EntryKey, ClientError> {
        let (kind, written) = match self {
            Self::User => ("user", "NAME@ORGANISATION"),
            Self::Node => ("node", "NAME@ORGANISATION"),
            Self::Organisation => ("organisation", "NAME"),
            Self::Policy => ("policy", "NAME"),
            Self::RecordType => ("record-type", "NAME"),
        };
        let wrong = |_| ClientError::Usage(format!("{name:?} names no {kind}; write {written}"));
        format!("{kind}/{name}").parse().map_err(wrong)
    }

    fn line(self, entry: &Value) -> String {
        let text = |name: &str| entry[name].as_str().unwrap_or_default();
        let standing = entry["standing"].as_str().unwrap_or("active");
        let revision = entry["revision"].as_u64().unwrap_or_default();
        let member = format!("{}@{}", text("name"), text("organisation"));
        let roles = names(&entry["roles"]);
        match self {
            Self::User => {
                let gateways = names(&entry["gateways"]);
                format!("{member}  {standing}  {roles}  through {gateways}  revision {revision}")
            }
            Self::Node => format!("{member}  {standing}  {roles}  at {}  revision {revision}", text("address")),
            Self::Organisation => {
                let former = if entry["former_ca"].is_null() { "" } else { "  with its former CA" };
                format!("{}  {standing}{former}  revision {revision}", text("name"))
            }
            Self::Policy => match entry["revision"].as_u64() {
                Some(revision) => format!("{}  {}  revision {revision}", text("name"), entry["policy"]),
                None => format!("{}  {}  by default", text("name"), entry["policy"]),
            },
            Self::RecordType => {
                let policy = if entry["policy"].is_null() { "no policy".into() } else { entry["policy"].to_string() };
                format!("{}  {standing}  {policy}  revision {revision}", text("name"))
            }
        }
    }
}

/// Roles, or members.
fn names(list: &Value) -> String {
    let name = |entry: &Value| match entry.as_str() {
        Some(role) => role.to_owned(),
        None => {
            let part = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
            format!("{}@{}", part("name"), part("organisation"))
        }
    };
    let names: Vec<String> = list.as_array().into_iter().flatten().map(name).collect();
    if names.is_empty() { "none".into() } else { names.join(",") }
}

impl Look {
    pub fn run(self, kind: Kind) -> Result<(), Failure> {
        match self {
            Self::List(List { connect }) => block_on(async {
                let entries = all(&connect.node().await?, kind).await?;
                let mut out = io::stdout().lock();
                entries.iter().try_for_each(|entry| writeln!(out, "{}", kind.line(entry)))?;
                Ok(())
            }),
            Self::Show(OfOne { connect, name }) => block_on(async {
                let key = kind.key(&name)?;
                let node = connect.node().await?;
                // Lists of types leave out the schemas.
                let found = match kind {
                    Kind::RecordType => node.certified(&key).await?,
                    _ => find(&node, &key).await?,
                };
                let entry = match found {
                    Some(entry) => entry,
                    None => {
                        default_of(&key).ok_or_else(|| ClientError::NoEntry { url: node.url().to_string(), key })?
                    }
                };
                writeln!(io::stdout(), "{entry:#}")?;
                Ok(())
            }),
            Self::History(OfOne { connect, name }) => block_on(history(&connect, kind.key(&name)?)),
        }
    }
}

async fn all(node: &NodeClient, kind: Kind) -> Result<Vec<Value>, ClientError> {
    let mut entries = node.entries(kind.collection()).await?;
    if kind == Kind::Policy {
        let unset: Vec<Value> = policies::ALL
            .iter()
            .filter(|name| entries.iter().all(|entry| entry["name"] != **name))
            .map(|name| by_default(name))
            .collect();
        entries.extend(unset);
    }
    Ok(entries)
}

/// What is in force where nobody ever set a policy that every network has.
fn default_of(key: &EntryKey) -> Option<Value> {
    let always = [policies::ORDERERS, policies::ORGANISATIONS, policies::POLICIES];
    let name = key.name();
    (matches!(key, EntryKey::Policy(_)) && always.contains(&name.as_str())).then(|| by_default(&name))
}

fn by_default(name: &str) -> Value {
    json!({ "name": name, "policy": default_policy() })
}

async fn history(connect: &ConnectNode, key: EntryKey) -> Result<(), Failure> {
    let node = connect.node().await?;
    let mut after = None;
    loop {
        let page = node.history(&key, after.as_deref()).await?;
        let mut out = io::stdout().lock();
        page.changes.iter().try_for_each(|change| writeln!(out, "{}", line_of(change)))?;
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(()),
        }
    }
}

fn line_of(HistoryEntry { height, created, id, author, endorsers, operation }: &HistoryEntry) -> String {
    let endorsers: Vec<String> = endorsers.iter().map(ToString::to_string).collect();
    let endorsers = if endorsers.is_empty() { String::new() } else { format!(" endorsed by {}", endorsers.join(", ")) };
    format!("block {height}  {}  {author}{endorsers}  {operation}  {id}", rfc3339(*created))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_lines() {
        let user = json!({
            "name": "x", "organisation": "Org01", "roles": ["submitter"],
            "gateways": [{"name": "node0", "organisation": "Org01"}], "standing": "suspended", "revision": 2
        });
        let line = "x@Org01  suspended  submitter  through node0@Org01  revision 2";
        assert_eq!(Kind::User.line(&user), line);
        let organisation = json!({"name": "Org01", "ca": "…", "former_ca": "…"});
        assert_eq!(Kind::Organisation.line(&organisation), "Org01  active  with its former CA  revision 0");
        assert_eq!(Kind::Policy.line(&by_default("policies")), "policies  {\"majority\":\"admin\"}  by default");
        let trade = json!({"name": "trade", "policy": null, "standing": "suspended", "revision": 3});
        assert_eq!(Kind::RecordType.line(&trade), "trade  suspended  no policy  revision 3");
    }

    #[test]
    fn names_are_those_of_the_kind() {
        assert_eq!(Kind::User.key("x@Org01").unwrap().to_string(), "user/x@Org01");
        let said = Kind::User.key("x").unwrap_err().to_string();
        assert_eq!(said, "\"x\" names no user; write NAME@ORGANISATION");
        assert_eq!(default_of(&Kind::Policy.key("orderers").unwrap()).unwrap()["name"], "orderers");
        assert_eq!(default_of(&Kind::Policy.key("others").unwrap()), None);
    }
}

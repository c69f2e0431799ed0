//! `minidlt policy`: policies of the ledger, changes of them, and what of them a transaction meets.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use minidlt_protocol::{
    governance::{Change, SetPolicy},
    registry::{EntryKey, Policy},
    types::Name,
};
use thiserror::Error;

use super::{
    Failure,
    change::{How, make_set},
    look::{Kind, Look},
};
use crate::client::{
    ClientError,
    answers::{NeededPolicy, Part},
    changes::Draft,
    connect::ConnectNode,
    files::read_text,
    run::block_on,
};

const MAX_POLICY_BYTES: usize = 64 << 10;

/// Set policies; list them; show what of them a transaction meets
#[derive(Debug, clap::Args)]
pub struct PolicyCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Set(Set),
    Explain(Explain),
    #[command(flatten)]
    Look(Look),
}

/// Set a policy, such as '{"majority": "admin"}' or '{"at_least": 2, "of": [{"organisation": "Org01", "role": "admin"}, …]}'
#[derive(Debug, clap::Args)]
struct Set {
    #[command(flatten)]
    connect: ConnectNode,
    #[command(flatten)]
    how: How,
    /// The policy
    #[arg(value_name = "NAME")]
    name: Name,
    /// What is needed: JSON, or a file of it
    #[arg(value_name = "FILE|JSON")]
    policy: String,
}

/// Show which policies a transaction needs, and whose signatures meet which part of them; exit 0 only if all are met
#[derive(Debug, clap::Args)]
struct Explain {
    #[command(flatten)]
    connect: ConnectNode,
    /// The transaction, as --out wrote it and minidlt endorse added to it
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// A transaction that cannot be committed as it is.
#[derive(Debug, Error)]
#[error("it would be refused now: {0}")]
struct NotYet(String);

impl PolicyCommand {
    pub fn run(self) -> Result<(), Failure> {
        match self.action {
            Action::Set(set) => set.run(),
            Action::Explain(explain) => explain.run(),
            Action::Look(look) => look.run(Kind::Policy),
        }
    }
}

impl Set {
    fn run(self) -> Result<(), Failure> {
        let policy = parse(&self.policy)?;
        let Self { connect, how, name, .. } = self;
        // Those of every network have no revision until they are set for the first time.
        make_set(&connect, &how, EntryKey::Policy(name.clone()), |revision| {
            Change::SetPolicy(SetPolicy { name, revision, policy })
        })
    }
}

/// A policy as an argument: JSON, or a file of it.
pub fn parse(given: &str) -> Result<Policy, ClientError> {
    let wrong = |error: serde_json::Error| format!("not a policy: {error}");
    if given.trim_start().starts_with('{') {
        return serde_json::from_str(given).map_err(|error| ClientError::Usage(wrong(error)));
    }
    let path = Path::new(given);
    let text = read_text(path, MAX_POLICY_BYTES)?;
    serde_json::from_str(&text).map_err(|error| ClientError::Content { path: path.into(), what: wrong(error) })
}

impl Explain {
    fn run(self) -> Result<(), Failure> {
        block_on(async {
            let session = self.connect.session()?;
            let draft = Draft::read(&self.file, &session.user.network)?;
            let (node, _) = session.first_alive().await?;
            let explained = node.explain(&draft.to_json()).await?;
            let mut out = io::stdout().lock();
            if explained.policies.is_empty() {
                writeln!(out, "it needs no endorsement")?;
            }
            explained.policies.iter().try_for_each(|needed| show(&mut out, needed))?;
            explained.refusal.map_or(Ok(()), |refusal| Err(Failure::failed(NotYet(refusal.detail))))
        })
    }
}

fn show(out: &mut impl Write, NeededPolicy { policy, part }: &NeededPolicy) -> io::Result<()> {
    // That of a record type has no name of its own.
    let of = if policy.contains(' ') { "of " } else { "" };
    writeln!(out, "policy {of}{policy}: {}", if part.met { "met" } else { "not met" })?;
    show_part(out, part, 1)
}

fn show_part(out: &mut impl Write, part: &Part, depth: usize) -> io::Result<()> {
    let mark = if part.met { "met" } else { "missing" };
    let by: Vec<String> = part.by.iter().map(ToString::to_string).collect();
    let by = if by.is_empty() { String::new() } else { format!(": {}", by.join(", ")) };
    writeln!(out, "{:indent$}{mark:<8}{}{by}", "", part.rule, indent = 2 * depth)?;
    part.parts.iter().try_for_each(|part| show_part(out, part, depth + 1))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_policy_is_shown_as_a_tree() {
        let needed: NeededPolicy = serde_json::from_value(json!({
            "policy": "policies",
            "met": false,
            "rule": "2 of these 2",
            "parts": [
                {"met": true, "rule": "admin of Org01", "by": [{"name": "admin", "organisation": "Org01"}]},
                {"met": false, "rule": "admin of Org02"}
            ]
        }))
        .unwrap();
        let mut out = Vec::new();
        show(&mut out, &needed).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "policy policies: not met\n  missing 2 of these 2\n    met     admin of Org01: admin@Org01\n    \
             missing admin of Org02\n"
        );
    }

    #[test]
    fn a_policy_is_given_as_json_or_in_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("policy.json");
        std::fs::write(&path, r#"{"majority": "admin"}"#).unwrap();
        let expected = minidlt_protocol::registry::default_policy();
        assert_eq!(parse(r#" {"majority": "admin"}"#).unwrap(), expected);
        assert_eq!(parse(path.to_str().unwrap()).unwrap(), expected);
        assert!(parse("{}").unwrap_err().to_string().starts_with("not a policy: "));
        std::fs::write(&path, "[]").unwrap();
        assert!(parse(path.to_str().unwrap()).unwrap_err().to_string().contains("policy.json: not a policy: "));
    }
}

//! `minidlt record-type`: types of records, what records of each must be made of and whose consent they need.

use std::path::{Path, PathBuf};

use minidlt_protocol::{
    governance::{Change, SetRecordType},
    record_type::RecordType,
    registry::{EntryKey, Policy, Standing},
    transaction::Content,
    types::Name,
};
use serde_json::Value;

use super::{
    Failure,
    change::{How, make, make_set},
    look::{Kind, Look},
    policy,
};
use crate::client::{ClientError, NodeClient, changes::revision, connect::ConnectNode, files::read_text};

/// A schema is at most 16 KiB as encoded; as text it may have much space between.
const MAX_SCHEMA_TEXT_BYTES: usize = 256 << 10;

/// Set types of records, suspend them; list them
#[derive(Debug, clap::Args)]
pub struct RecordTypeCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Set(Set),
    /// Take no records of a type until it is resumed
    Suspend(OfOne),
    /// Take records of a type again
    Resume(OfOne),
    #[command(flatten)]
    Look(Look),
}

/// Set a type of records: one that is new, or all of one that is there
#[derive(Debug, clap::Args)]
struct Set {
    #[command(flatten)]
    connect: ConnectNode,
    #[command(flatten)]
    how: How,
    /// The type
    #[arg(value_name = "NAME")]
    name: Name,
    /// What its records must be made of: a file of JSON Schema (2020-12; without $ref and the like)
    #[arg(long, value_name = "FILE")]
    schema: PathBuf,
    /// Whose consent a record needs: JSON, or a file of it; an organisation may be named by the record itself, as in
    /// '{"organisation_in": "/seller", "role": "submitter"}' [default: nobody's but its author's]
    #[arg(long, value_name = "FILE|JSON")]
    policy: Option<String>,
}

#[derive(Debug, clap::Args)]
struct OfOne {
    #[command(flatten)]
    connect: ConnectNode,
    #[command(flatten)]
    how: How,
    /// The type
    #[arg(value_name = "NAME")]
    name: Name,
}

impl RecordTypeCommand {
    pub fn run(self) -> Result<(), Failure> {
        match self.action {
            Action::Set(set) => set.run(),
            Action::Suspend(of) => of.stand(Standing::Suspended),
            Action::Resume(of) => of.stand(Standing::Active),
            Action::Look(look) => look.run(Kind::RecordType),
        }
    }
}

impl Set {
    fn run(self) -> Result<(), Failure> {
        let schema = read_schema(&self.schema)?;
        let policy: Option<Policy> = self.policy.as_deref().map(policy::parse).transpose()?;
        let Self { connect, how, name, .. } = self;
        make_set(&connect, &how, EntryKey::RecordType(name.clone()), |revision| {
            Change::SetRecordType(SetRecordType { name, revision, schema, policy, standing: None })
        })
    }
}

impl OfOne {
    /// All of the type is said again, so that who endorses it sees what it would be.
    fn stand(self, standing: Standing) -> Result<(), Failure> {
        let Self { connect, how, name } = self;
        make(&connect, &how, async |node| -> Result<Change, ClientError> {
            let RecordType { schema, policy, revision, .. } = whole(node, &name).await?;
            let (schema, revision) = (schema.content().clone(), Some(revision));
            Ok(Change::SetRecordType(SetRecordType { name, revision, schema, policy, standing: Some(standing) }))
        })
    }
}

/// A type with its schema, as the last header certifies it: which must be as it is now.
async fn whole(node: &NodeClient, name: &Name) -> Result<RecordType, ClientError> {
    let key = EntryKey::RecordType(name.clone());
    let now = revision(node, &key).await?;
    let value = node.certified(&key).await?;
    let found: RecordType = serde_json::from_value(value.unwrap_or_default())
        .map_err(|error| ClientError::Usage(format!("{key} as the node tells it does not read: {error}")))?;
    match found.revision == now {
        true => Ok(found),
        false => Err(ClientError::Usage(format!("{key} was changed just now; try again when the next block is there"))),
    }
}

fn read_schema(path: &Path) -> Result<Content, ClientError> {
    let text = read_text(path, MAX_SCHEMA_TEXT_BYTES)?;
    let json: Value = serde_json::from_str(&text)
        .map_err(|error| ClientError::Content { path: path.into(), what: format!("not JSON: {error}") })?;
    Ok(Content::from_json(&json))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_a_file_of_json() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("trade.json");
        std::fs::write(&path, "{\"type\": \"object\"}\n").unwrap();
        assert_eq!(read_schema(&path).unwrap(), Content::from_json(&serde_json::json!({"type": "object"})));
        std::fs::write(&path, "{").unwrap();
        let said = read_schema(&path).unwrap_err().to_string();
        assert!(said.contains("trade.json: not JSON: "), "{said}");
    }
}

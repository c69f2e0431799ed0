//! What a node knows of members and policies as of its head: not yet certified, but what a change is made of.

use minidlt_protocol::registry::EntryKey;
use serde_json::Value;

use crate::client::{api::NodeClient, error::ClientError};

/// An entry, if it is there.
pub async fn find(node: &NodeClient, key: &EntryKey) -> Result<Option<Value>, ClientError> {
    let entries = node.entries(key.collection()).await?;
    Ok(entries.into_iter().find(|entry| name_of(entry) == key.name()))
}

/// How often an entry that must be there was changed: what a change of it has to name.
pub async fn revision(node: &NodeClient, key: &EntryKey) -> Result<u64, ClientError> {
    let missing = || ClientError::NoEntry { url: node.url().to_string(), key: key.clone() };
    let entry = find(node, key).await?.ok_or_else(missing)?;
    Ok(entry["revision"].as_u64().unwrap_or_default())
}

/// `NAME@ORGANISATION` of members, the name of all else.
fn name_of(entry: &Value) -> String {
    let name = entry["name"].as_str().unwrap_or_default();
    entry["organisation"].as_str().map_or_else(|| name.into(), |organisation| format!("{name}@{organisation}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn entries_are_named_as_their_keys() {
        assert_eq!(name_of(&json!({"name": "a", "organisation": "Org01", "roles": []})), "a@Org01");
        assert_eq!(name_of(&json!({"name": "Org01", "ca": "…"})), "Org01");
    }
}

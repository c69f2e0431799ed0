//! Fetching state proofs: one that does not verify, or is of something else, is not kept.

use minidlt_protocol::{
    genesis::Genesis,
    receipt::ReceiptError,
    registry::EntryKey,
    state_proof::{StateProof, StateProofError},
};

use super::{api::NodeClient, error::ClientError};

/// Fetches the proof of an entry as it stands now, and checks it as `verify-receipt` does.
pub async fn fetch(node: &NodeClient, key: &EntryKey, genesis: &Genesis) -> Result<String, ClientError> {
    let bad = |reason| ClientError::BadStateProof {
        url: node.url().to_string(),
        key: key.to_string(),
        reason: Box::new(reason),
    };
    let text = node.state_proof(key).await?;
    check(&text, key, genesis).map(|()| text).map_err(bad)
}

fn check(text: &str, key: &EntryKey, genesis: &Genesis) -> Result<(), StateProofError> {
    let proof = StateProof::from_text(text)?;
    let expected = key.to_string();
    if proof.proven.key != expected {
        return Err(ReceiptError::Mismatch { what: "proven.key", found: proof.proven.key, expected }.into());
    }
    proof.verify(genesis).map(drop)
}

#[cfg(test)]
pub mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The proofs that are pinned, and the genesis that they hold against.
    pub fn pinned() -> (Genesis, [String; 2]) {
        let text = include_str!("../../../protocol/tests/vectors.json");
        let mut vectors: BTreeMap<String, String> = serde_json::from_str(text).unwrap();
        let genesis = serde_json::from_str(&vectors["genesis bft, as JSON"]).unwrap();
        let names = ["state proof of presence, policy/orderers", "state proof of absence, user/nobody@Org01"];
        (genesis, names.map(|name| vectors.remove(name).unwrap()))
    }

    #[test]
    fn the_proof_of_something_else_is_none() {
        let (genesis, [presence, absence]) = pinned();
        let [policy, nobody] = ["policy/orderers", "user/nobody@Org01"].map(|key| key.parse().unwrap());
        assert_eq!(check(&presence, &policy, &genesis), Ok(()));
        assert_eq!(check(&absence, &nobody, &genesis), Ok(()));
        let said = check(&absence, &"user/trader@Org01".parse().unwrap(), &genesis).unwrap_err().to_string();
        assert_eq!(said, "proven.key: user/nobody@Org01, expected user/trader@Org01");
        let said = check(&presence.replacen("\"round\": 0", "\"round\": 1", 1), &policy, &genesis).unwrap_err();
        assert!(said.to_string().starts_with("header.hash: "), "{said}");
    }
}

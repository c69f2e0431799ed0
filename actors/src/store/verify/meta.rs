//! Whose ledger it is, and where it says it ends.

use minidlt_protocol::{
    block::Head,
    genesis::Genesis,
    types::{Hash, Height, Identity},
};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    super::schema::{Family, SCHEMA, meta, unseal},
    FirstBad, bad,
    rows::{Rows, unreadable},
};

/// Checks all of the family, and gives the head it has stored.
pub fn check(rows: &Rows<'_>, genesis: &Genesis) -> Result<Head, FirstBad> {
    for row in rows.all(Family::Meta) {
        let (key, _) = row.map_err(|error| unreadable(Height::GENESIS, Family::Meta, &error))?;
        if !meta::ALL.contains(&&*key) {
            return Err(wrong(&key, "is one too many"));
        }
    }
    if entry::<u32>(rows, meta::SCHEMA)? != SCHEMA {
        return Err(wrong(meta::SCHEMA, format_args!("is not {SCHEMA}")));
    }
    let (network, expected) = (entry::<Hash>(rows, meta::NETWORK)?, genesis.id());
    if network != expected {
        return Err(wrong(meta::NETWORK, format_args!("is {network}; the genesis file's is {expected}")));
    }
    // Whose ledger it is does not matter to what it holds: nodes come later, too.
    entry::<Identity>(rows, meta::NODE)?;
    entry(rows, meta::HEAD)
}

fn entry<T: DeserializeOwned + Serialize>(rows: &Rows<'_>, key: &[u8]) -> Result<T, FirstBad> {
    let bytes = rows.get(Family::Meta, key, Height::GENESIS)?.ok_or_else(|| wrong(key, "is missing"))?;
    unseal(&bytes).map_err(|reason| wrong(key, format_args!("cannot be right: {reason}")))
}

fn wrong(key: &[u8], what: impl std::fmt::Display) -> FirstBad {
    bad(Height::GENESIS, format_args!("the entry '{}' {what}", key.escape_ascii()))
}

//! What the indexes have beyond the blocks. That each block has its entries was seen on the walk;
//! so where there are as many entries as blocks and transactions, there are no others.

use minidlt_protocol::{
    block::Block,
    transaction::Transaction,
    types::{Hash, Height},
};

use super::{
    super::schema::{Family, decode_height, decode_place, height_key},
    FirstBad, Summary, bad,
    rows::{Rows, unreadable},
};

pub fn check_nothing_more(rows: &Rows<'_>, summary: &Summary, network: &Hash) -> Result<(), FirstBad> {
    let head = summary.head.height;
    if count(rows, Family::Hashes, head)? != head.get() {
        name_extra(rows, Family::Hashes, head, |key, value| {
            let block = block(rows, decode_height(value)?)?;
            (block.header.hash(network).as_bytes() == key).then_some(())
        })?;
    }
    if count(rows, Family::Transactions, head)? != summary.transactions {
        name_extra(rows, Family::Transactions, head, |key, value| {
            let (height, position, _) = decode_place(value).ok()?;
            let bytes = block(rows, height)?.transactions.get(usize::try_from(position).ok()?)?.clone();
            (Transaction::parse(bytes, network).ok()?.id.as_bytes() == key).then_some(())
        })?;
    }
    Ok(())
}

fn count(rows: &Rows<'_>, family: Family, head: Height) -> Result<u64, FirstBad> {
    rows.all(family).try_fold(0, |count, row| match row {
        Ok(_) => Ok(count + 1),
        Err(error) => Err(unreadable(head, family, &error)),
    })
}

/// Slow, but there is something to be found.
fn name_extra(
    rows: &Rows<'_>,
    family: Family,
    head: Height,
    belongs: impl Fn(&[u8], &[u8]) -> Option<()>,
) -> Result<(), FirstBad> {
    for row in rows.all(family) {
        let (key, value) = row.map_err(|error| unreadable(head, family, &error))?;
        if belongs(&key, &value).is_none() {
            return Err(extra(family, head, &hex::encode(key)));
        }
    }
    Err(extra(family, head, "a key that stands for two"))
}

fn extra(family: Family, head: Height, key: &str) -> FirstBad {
    bad(head, format_args!("{}: an entry too many, under {key}", family.name()))
}

fn block(rows: &Rows<'_>, height: Height) -> Option<Block> {
    let bytes = rows.get(Family::Blocks, &height_key(height), height).ok()??;
    Block::decode(&bytes).ok()
}

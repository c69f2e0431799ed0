//! Who changed an entry of the registry, when, and how.

use std::str::FromStr;

use actix_web::{HttpResponse, web};
use minidlt_protocol::{
    block::Block,
    registry::EntryKey,
    transaction::{Operation, id_of, open},
    types::{Hash, Height, Identity, Timestamp},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{State, auth::By, blocking, limits::PAGE_CHANGES, problem::Problem, registry::Named};
use crate::store::Changed;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryQuery {
    limit: Option<usize>,
    after: Option<String>,
}

/// A change as it is told.
#[derive(Serialize)]
struct Entry {
    height: Height,
    position: u64,
    created: Timestamp,
    id: Hash,
    author: Identity,
    endorsers: Vec<Identity>,
    operation: Operation,
}

pub async fn get(
    state: web::Data<State>,
    By(caller): By,
    Named(key): Named,
    query: web::Query<HistoryQuery>,
) -> Result<HttpResponse, Problem> {
    let query = query.into_inner();
    let limit = query.limit.unwrap_or(PAGE_CHANGES);
    if !(1..=PAGE_CHANGES).contains(&limit) {
        return Err(Problem::bad_request(format!("limit={limit}: from 1 to {PAGE_CHANGES}")));
    }
    let after = query.after.map(|text| text.parse::<Cursor>()).transpose()?.map(|Cursor(place)| place);
    // Each change is looked up in its block, so it costs what a page of blocks costs.
    let turns = state.pages.of(&caller.identity);
    let _turn = state.pages.turn(&turns).await.ok_or_else(|| Problem::not_ready("the node is stopping"))?;
    let reading = state.clone();
    let text = blocking(move || page(&reading, &key, after, limit)).await?;
    Ok(HttpResponse::Ok().content_type("application/json").body(text))
}

fn page(state: &State, key: &EntryKey, after: Option<Changed>, limit: usize) -> Result<String, Problem> {
    let members = &state.api.members;
    let (head, registry) = (members.head().height, members.registry());
    // Nothing is ever forgotten, so what is not there now never was.
    if registry.encoded(key).is_none() {
        return Err(Problem::not_found(format!("the ledger has no {key} as of block {head}")));
    }
    let places = state.api.ledger.history(key, after, limit)?;
    let next = (places.len() == limit).then(|| places.last().copied().map(Cursor)).flatten();
    let mut changes = Vec::with_capacity(places.len());
    let mut last: Option<Block> = None;
    for place in places {
        let block = match last.take().filter(|block| block.header.height == place.height) {
            Some(block) => block,
            None => state.api.ledger.block(place.height)?.ok_or_else(|| broken(key, place, "its block is missing"))?,
        };
        changes.push(entry(&state.network, &block, place).map_err(|reason| broken(key, place, &reason))?);
        last = Some(block);
    }
    let next = next.map(|next| next.to_string());
    Ok(json!({ "key": key.to_string(), "changes": changes, "next": next }).to_string())
}

fn entry(network: &Hash, block: &Block, Changed { height, position }: Changed) -> Result<Entry, String> {
    let at = usize::try_from(position).map_err(|error| error.to_string())?;
    let bytes = block.transactions.get(at).ok_or("there is no such transaction")?;
    let (signed, body) = open(bytes.as_slice()).map_err(|error| error.to_string())?;
    Ok(Entry {
        height,
        position,
        created: block.header.created,
        id: id_of(network, &signed.body),
        author: body.author,
        endorsers: signed.endorsements.into_iter().map(|one| one.endorser).collect(),
        operation: body.operation,
    })
}

fn broken(key: &EntryKey, Changed { height, position }: Changed, reason: &str) -> Problem {
    log::error!("history of {key}: transaction {position} of block {height}: {reason}");
    Problem::internal(format!("the history of {key} does not read"))
}

/// The place of the last change on the page before: `HEIGHT.POSITION`.
struct Cursor(Changed);

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0.height, self.0.position)
    }
}

impl FromStr for Cursor {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once('.').and_then(|(height, position)| {
            Some(Changed { height: Height::new(height.parse().ok()?), position: position.parse().ok()? })
        });
        let wrong = || Problem::bad_request(format!("after={text:.40}: give the 'next' of the page before"));
        parts.map(Self).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_is_written() {
        let place = Changed { height: Height::new(7), position: 12 };
        assert_eq!(Cursor(place).to_string(), "7.12");
        assert_eq!("7.12".parse::<Cursor>().map(|Cursor(found)| found).ok(), Some(place));
        for bad in ["", "7", "7.", ".1", "7.1.2", "-1.0", "7,1", "99999999999999999999.0"] {
            assert!(bad.parse::<Cursor>().is_err(), "{bad}");
        }
    }
}

//! Blocks, one by one and in pages.

use actix_web::{HttpResponse, web};
use minidlt_protocol::{
    types::{Hash, Height},
    view::BlockView,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    State,
    auth::By,
    blocking,
    limits::{PAGE_BLOCKS, PAGE_BYTES},
    problem::Problem,
};

const DEFAULT_PAGE_BLOCKS: u64 = 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PageQuery {
    #[serde(default)]
    from: u64,
    limit: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockQuery {
    #[serde(default)]
    certificate: bool,
}

/// A block as JSON text; `None` where the chain does not reach.
pub fn text_of(state: &State, height: Height) -> Result<Option<String>, Problem> {
    if height == Height::GENESIS {
        return Ok(Some(genesis(state).to_string()));
    }
    let Some(view) = view(state, height)? else { return Ok(None) };
    serde_json::to_string(&view).map(Some).map_err(|error| unreadable(height, &error))
}

/// Block 0 has no header: the network's id is its hash, and the genesis its content.
fn genesis(state: &State) -> Value {
    let genesis = &state.api.genesis;
    json!({
        "height": Height::GENESIS,
        "hash": state.network,
        "previous": Hash::ZERO,
        "created": genesis.created,
        "content": [],
        "genesis": genesis.as_ref(),
    })
}

fn view(state: &State, height: Height) -> Result<Option<BlockView>, Problem> {
    let Some(block) = state.api.ledger.block(height)? else { return Ok(None) };
    BlockView::of(&state.network, &block).map(Some).map_err(|error| unreadable(height, &error))
}

fn unreadable(height: Height, error: &dyn std::fmt::Display) -> Problem {
    log::error!("block {height} does not read: {error}");
    Problem::internal(format!("block {height} does not read"))
}

pub async fn list(
    state: web::Data<State>,
    By(caller): By,
    query: web::Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let limit = query.limit.unwrap_or(DEFAULT_PAGE_BLOCKS);
    if !(1..=PAGE_BLOCKS).contains(&limit) {
        return Err(Problem::bad_request(format!("limit={limit}: from 1 to {PAGE_BLOCKS}")));
    }
    let from = Height::new(query.from);
    // A page's room is known only when it is made, so few are made at once.
    let turns = state.pages.of(&caller.identity);
    let _turn = state.pages.turn(&turns).await.ok_or_else(|| Problem::not_ready("the node is stopping"))?;
    let reading = state.clone();
    let page = blocking(move || page(&reading, from, limit)).await?;
    Ok(HttpResponse::Ok().content_type("application/json").body(page))
}

/// Each block is encoded once, straight into the answer.
fn page(state: &State, from: Height, limit: u64) -> Result<String, Problem> {
    let head = state.api.ledger.head().height;
    let mut page = String::from("{\"blocks\":[");
    let (mut height, mut count) = (from, 0);
    while height <= head && count < limit && page.len() < PAGE_BYTES {
        let Some(block) = text_of(state, height)? else { break };
        if count > 0 {
            page.push(',');
        }
        page.push_str(&block);
        (height, count) = (height.next(), count + 1);
    }
    let next = if height <= head { height.to_string() } else { "null".to_owned() };
    page.push_str("],\"next\":");
    page.push_str(&next);
    page.push('}');
    Ok(page)
}

pub async fn get(
    state: web::Data<State>,
    path: web::Path<String>,
    query: web::Query<BlockQuery>,
) -> Result<HttpResponse, Problem> {
    let text = blocking(move || {
        let height = height_of(&state, &path)?;
        let missing = || Problem::no_such_block(height, state.api.ledger.head().height);
        let mut text = text_of(&state, height)?.ok_or_else(missing)?;
        if query.certificate {
            let certificate = state.api.ledger.certificate(height)?;
            text.pop();
            text.push_str(&format!(",\"certificate\":{}}}", json!(certificate)));
        }
        Ok(text)
    })
    .await?;
    Ok(HttpResponse::Ok().content_type("application/json").body(text))
}

/// A height, a hash, or `latest`.
fn height_of(state: &State, at: &str) -> Result<Height, Problem> {
    if at == "latest" {
        return Ok(state.api.ledger.head().height);
    }
    if let Ok(hash) = at.parse::<Hash>() {
        if hash == state.network {
            return Ok(Height::GENESIS);
        }
        let height = state.api.ledger.height_of(&hash)?;
        return height.ok_or_else(|| Problem::not_found(format!("no block has the hash {hash}")));
    }
    at.parse()
        .map(Height::new)
        .map_err(|_| Problem::bad_request(format!("{at:?} is neither a height, nor a block's hash, nor 'latest'")))
}

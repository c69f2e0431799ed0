//! What administrators of this node's network may do to the node itself. Every use is logged.

use actix_web::{HttpRequest, HttpResponse, web};
use log::LevelFilter;
use minidlt_protocol::{
    message::{Content, Recipient},
    registry::Role,
    types::{Hash, Height},
};
use serde::Deserialize;
use serde_json::json;

use super::{State, auth::By, blocking, body, limits::MESSAGE_BYTES, problem::Problem};
use crate::messages::{network::Class, signer::Stamp};

pub async fn stop(state: web::Data<State>, By(caller): By) -> Result<HttpResponse, Problem> {
    caller.require(Role::Admin)?;
    log::info!("{} stops this node", caller.identity);
    state.api.stop.notify_one();
    Ok(HttpResponse::Accepted().json(json!({ "status": "stopping" })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    text: String,
}

/// Sends a text to all nodes, which log it.
pub async fn message(
    state: web::Data<State>,
    By(caller): By,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    caller.require(Role::Admin)?;
    let Text { text } = body::json(&state, &caller.identity, &request, payload).await?;
    if text.trim().is_empty() {
        return Err(Problem::bad_request("text: it is empty"));
    }
    if text.len() > MESSAGE_BYTES {
        return Err(Problem::payload_too_large(format!("text: at most {MESSAGE_BYTES} bytes")));
    }
    // Quoted, so that it cannot pass for other lines of the log.
    log::info!("{} to all nodes: {text:?}", caller.identity);
    let content = Content::Text(format!("{}: {text}", caller.identity));
    let stamp = Stamp { recipient: Recipient::All, class: Class::Sync, content };
    state.ask("the signer", &state.api.signer, stamp).await?;
    Ok(HttpResponse::Accepted().json(json!({ "status": "sent" })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Level {
    level: String,
}

pub async fn log_level(
    state: web::Data<State>,
    By(caller): By,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    caller.require(Role::Admin)?;
    let Level { level } = body::json(&state, &caller.identity, &request, payload).await?;
    let unknown = |_| Problem::bad_request(format!("level: {level:?} is none of off, error, warn, info, debug, trace"));
    let level: LevelFilter = level.parse().map_err(unknown)?;
    log::info!("{} sets the log level to {level}", caller.identity);
    log::set_max_level(level);
    Ok(HttpResponse::Ok().json(json!({ "level": level.to_string().to_lowercase() })))
}

/// Checks the whole chain, once at a time.
pub async fn verify(state: web::Data<State>, By(caller): By) -> Result<HttpResponse, Problem> {
    caller.require(Role::Admin)?;
    let alone = state.verifying.clone().try_acquire_owned();
    let alone = alone.map_err(|_| Problem::busy("the chain is being checked already"))?;
    log::info!("{} has the whole chain checked", caller.identity);
    let check = state.api.verify.clone();
    let found = blocking(move || {
        // Not kept by the caller, who may hang up: the work goes on all the same.
        let _alone = alone;
        Ok(check()?)
    })
    .await?;
    let first_bad = found.first_bad.as_ref();
    Ok(HttpResponse::Ok().json(json!({
        "ok": first_bad.is_none(),
        "height": found.height,
        "first_bad": first_bad.map(|bad| json!({ "height": bad.height, "reason": bad.reason })),
    })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct At {
    height: Height,
}

/// The hash of one block, by which two nodes tell whether they hold the same chain: each header
/// carries the hash of the one before.
pub async fn compare(
    state: web::Data<State>,
    By(caller): By,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    caller.require(Role::Admin)?;
    let At { height } = body::json(&state, &caller.identity, &request, payload).await?;
    let hash = blocking(move || hash_of(&state, height)).await?;
    Ok(HttpResponse::Ok().json(json!({ "height": height, "hash": hash })))
}

fn hash_of(state: &State, height: Height) -> Result<Hash, Problem> {
    let head = state.api.ledger.head();
    let hash = match height {
        Height::GENESIS => Some(state.network),
        height if height == head.height => Some(head.hash),
        height => state.api.ledger.block(height)?.map(|block| block.header.hash(&state.network)),
    };
    hash.ok_or_else(|| Problem::no_such_block(height, head.height))
}

//! Who and what is enrolled: in lists, and one by one with proof.
//!
//! A single entry is told as the head's header certifies it, so with and without its proof it is the
//! same: as things stood after the block before the head.

use std::str::FromStr;

use actix_web::{HttpResponse, http::header, web};
use minidlt_protocol::{
    codec,
    limits::MAX_GENESIS_BYTES,
    registry::{EntryKey, PolicyEntry},
    types::{Identity, Name},
};
use serde::Deserialize;
use serde_json::json;

use super::{State, blocking, problem::Problem};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntryQuery {
    #[serde(default)]
    proof: bool,
}

pub async fn users(state: web::Data<State>) -> HttpResponse {
    let registry = state.api.members.registry();
    let users: Vec<_> = registry.users.values().collect();
    HttpResponse::Ok().json(json!({ "users": users }))
}

pub async fn nodes(state: web::Data<State>) -> HttpResponse {
    let registry = state.api.members.registry();
    let nodes: Vec<_> = registry.nodes.values().collect();
    HttpResponse::Ok().json(json!({ "nodes": nodes }))
}

pub async fn organisations(state: web::Data<State>) -> HttpResponse {
    let registry = state.api.members.registry();
    let organisations: Vec<_> = registry.organisations.values().collect();
    HttpResponse::Ok().json(json!({ "organisations": organisations }))
}

pub async fn policies(state: web::Data<State>) -> HttpResponse {
    let registry = state.api.members.registry();
    let policies = registry.policies.iter();
    let policies: Vec<_> = policies
        .map(|(name, PolicyEntry { policy, revision })| json!({ "name": name, "policy": policy, "revision": revision }))
        .collect();
    HttpResponse::Ok().json(json!({ "policies": policies }))
}

/// Declares the handler of a single entry, for each kind of them.
macro_rules! entries {
    ($($handler:ident: $name:ty => $key:ident,)+) => {
        $(
            pub async fn $handler(
                state: web::Data<State>,
                path: web::Path<String>,
                query: web::Query<EntryQuery>,
            ) -> Result<HttpResponse, Problem> {
                entry(state, EntryKey::$key(named::<$name>(&path)?), query.proof).await
            }
        )+
    };
}

entries! {
    user: Identity => User,
    node: Identity => Node,
    organisation: Name => Organisation,
    policy: Name => Policy,
}

pub fn named<T: FromStr<Err: std::fmt::Display>>(path: &str) -> Result<T, Problem> {
    path.parse().map_err(|error: T::Err| Problem::bad_request(error.to_string()))
}

async fn entry(state: web::Data<State>, key: EntryKey, proof: bool) -> Result<HttpResponse, Problem> {
    let mut response = HttpResponse::Ok();
    response.content_type("application/json");
    if proof {
        // Its bytes are its spelling: a client writes them to a file as they come.
        let name = key.to_string().replace('/', "-");
        response.insert_header((header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}.proof.json\"")));
    }
    let text = blocking(move || if proof { proven(&state, &key) } else { plain(&state, &key) }).await?;
    Ok(response.body(text))
}

fn plain(state: &State, key: &EntryKey) -> Result<String, Problem> {
    let (height, value) = state.api.ledger.entry(&key.to_string())?;
    let value = value.ok_or_else(|| Problem::no_such_entry(key, height))?;
    // Nothing was ever written that is larger than a genesis.
    let value = codec::to_readable(&value, MAX_GENESIS_BYTES).map_err(|error| {
        log::error!("the state's entry {key} does not read: {error}");
        Problem::internal(format!("the state's entry {key} does not read"))
    })?;
    Ok(json!({ "height": height, "key": key.to_string(), "value": value }).to_string())
}

/// What is absent is proven as well.
fn proven(state: &State, key: &EntryKey) -> Result<String, Problem> {
    let proof = state.api.ledger.state_proof(&key.to_string())?.ok_or_else(Problem::nothing_certified)?;
    Ok(proof.to_text())
}

//! Who and what is enrolled: in lists, and one by one with proof.
//!
//! A single entry is told as the head's header certifies it, so with and without its proof it is the
//! same: as things stood after the block before the head.

use std::{
    future::{Ready, ready},
    str::FromStr,
};

use actix_web::{FromRequest, HttpRequest, HttpResponse, dev::Payload, http::header, web};
use minidlt_protocol::{
    record_type::RecordType,
    registry::{EntryKey, PolicyEntry},
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

/// Without their schemas, which are large and are told one by one.
pub async fn record_types(state: web::Data<State>) -> HttpResponse {
    let registry = state.api.members.registry();
    let types = registry.record_types.iter();
    let types: Vec<_> = types
        .map(|(name, RecordType { policy, standing, revision, .. })| {
            json!({ "name": name, "policy": policy, "standing": standing, "revision": revision })
        })
        .collect();
    HttpResponse::Ok().json(json!({ "record_types": types }))
}

/// The entry that a path names: `/v1/users/{name}` and what lies below it, and so on.
pub struct Named(pub EntryKey);

impl FromRequest for Named {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let collection = request.match_pattern().and_then(|path| path.split('/').nth(2).map(str::to_owned));
        let name = web::Path::<String>::from_request(request, payload).into_inner();
        let name = name.map_err(|error| Problem::bad_request(error.to_string()));
        ready(name.and_then(|name| key(collection.as_deref().unwrap_or_default(), &name)).map(Self))
    }
}

fn key(collection: &str, name: &str) -> Result<EntryKey, Problem> {
    match collection {
        "users" => named(name).map(EntryKey::User),
        "nodes" => named(name).map(EntryKey::Node),
        "organisations" => named(name).map(EntryKey::Organisation),
        "policies" => named(name).map(EntryKey::Policy),
        "record-types" => named(name).map(EntryKey::RecordType),
        _ => Err(Problem::internal("the path names no entry")),
    }
}

fn named<T: FromStr<Err: std::fmt::Display>>(name: &str) -> Result<T, Problem> {
    name.parse().map_err(|error: T::Err| Problem::bad_request(error.to_string()))
}

pub async fn entry(
    state: web::Data<State>,
    Named(key): Named,
    query: web::Query<EntryQuery>,
) -> Result<HttpResponse, Problem> {
    let proof = query.proof;
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
    let value = key.readable(&value).map_err(|error| {
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

//! Who and what is enrolled.

use actix_web::{HttpResponse, web};
use serde_json::json;

use super::State;

pub async fn users(state: web::Data<State>) -> HttpResponse {
    let users: Vec<_> = state.api.registry.users.values().collect();
    HttpResponse::Ok().json(json!({ "users": users }))
}

pub async fn nodes(state: web::Data<State>) -> HttpResponse {
    let nodes: Vec<_> = state.api.registry.nodes.values().collect();
    HttpResponse::Ok().json(json!({ "nodes": nodes }))
}

pub async fn organisations(state: web::Data<State>) -> HttpResponse {
    let organisations: Vec<_> = state.api.registry.organisations.values().collect();
    HttpResponse::Ok().json(json!({ "organisations": organisations }))
}

pub async fn policies(state: web::Data<State>) -> HttpResponse {
    let policies = state.api.registry.policies.iter();
    let policies: Vec<_> = policies.map(|(name, policy)| json!({ "name": name, "policy": policy })).collect();
    HttpResponse::Ok().json(json!({ "policies": policies }))
}

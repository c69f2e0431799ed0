//! Which policies a signed transaction needs, and what of each its signatures meet: asked while endorsements
//! are being collected. Nothing is submitted.

use actix_web::{HttpRequest, HttpResponse, web};
use minidlt_protocol::{registry::Explanation, transaction::Transaction, types::Hash};
use serde::Serialize;
use serde_json::json;

use super::{State, auth::By, blocking, body, limits::EXPLANATION_BYTES, prepare, problem::Problem, submit};

/// A policy, and what of it is met.
#[derive(Serialize)]
struct Needed {
    policy: String,
    #[serde(flatten)]
    explanation: Explanation,
}

/// The answer.
#[derive(Serialize)]
struct Explained {
    id: Hash,
    /// All that it needs.
    policies: Vec<Needed>,
    /// Whether all of them are met.
    met: bool,
    /// Why it would be refused if it were submitted now, if it would be.
    refusal: Option<Refused>,
}

#[derive(Serialize)]
struct Refused {
    kind: &'static str,
    detail: String,
}

pub async fn post(
    state: web::Data<State>,
    By(caller): By,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let body = body::read(&state, &caller.identity, &request, payload, EXPLANATION_BYTES).await?;
    let (node, bytes) = (state.clone(), body.bytes.clone());
    let explained = blocking(move || explain(&node, &bytes)).await?;
    Ok(HttpResponse::Ok().json(json!(explained)))
}

/// Signatures that do not hold are told as such: they would count for nothing.
fn explain(state: &State, asked: &[u8]) -> Result<Explained, Problem> {
    let refused = |refusal| Problem::refused(&refusal);
    let registry = state.api.members.registry();
    let transaction = Transaction::parse(submit::from_json(asked)?, &state.network).map_err(refused)?;
    let transaction = transaction.verify(&registry).map_err(refused)?;
    let policies = transaction.explain(&registry);
    let now = prepare::now()?;
    let possible = transaction.check_time(now).and_then(|()| transaction.authorise(&registry, None));
    let possible = possible.and_then(|()| transaction.rehearse(&registry, now));
    Ok(Explained {
        id: transaction.id,
        met: policies.iter().all(|(_, explanation)| explanation.met),
        policies: policies.into_iter().map(|(policy, explanation)| Needed { policy, explanation }).collect(),
        refusal: possible.err().map(|refusal| Refused { kind: refusal.kind(), detail: refusal.to_string() }),
    })
}

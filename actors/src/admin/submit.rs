//! Taking signed transactions: one in JSON or CBOR, or many as a CBOR sequence (RFC 8742).
//! Submitting twice is harmless, so a caller who heard nothing may submit again.

use std::{collections::BTreeMap, time::Duration};

use actix_web::{
    HttpMessage, HttpRequest, HttpResponse, HttpResponseBuilder, ResponseError, http::StatusCode, http::header, web,
};
use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use minidlt_protocol::{
    codec,
    crypto::Signature,
    limits::{MAX_BULK_TRANSACTION_BYTES, MAX_ENDORSEMENTS},
    transaction::{Endorsement, Refusal, SignedTransaction, TransactionBytes, id_of, open},
    types::{Hash, Identity},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    State, body,
    problem::Problem,
    transactions,
    wait::{self, WaitQuery},
};
use crate::{messages::mempool::Submit, metrics, store::reader::Located};

const ACCEPTED: &str = "application/json, application/cbor, application/cbor-seq";

/// The JSON form of a signed transaction.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonTransaction {
    body: String,
    signature: String,
    #[serde(default)]
    endorsements: Vec<JsonEndorsement>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonEndorsement {
    endorser: Identity,
    signature: String,
}

pub async fn post(
    state: web::Data<State>,
    request: HttpRequest,
    query: web::Query<WaitQuery>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let limits = &state.api.limits;
    let time = query.time(limits.max_wait)?;
    let busy = |_| Problem::too_many_requests(format!("{} requests wait for a commit already", limits.waiters));
    let _waiting = time.map(|_| state.waiters.try_acquire()).transpose().map_err(busy)?;
    let content_type = request.content_type().to_ascii_lowercase();
    if !ACCEPTED.split(", ").any(|accepted| accepted == content_type) {
        return Err(Problem::unsupported_media_type(&content_type, ACCEPTED));
    }
    let body = body::read(&state, &request, payload, limits.body_bytes).await?;
    match content_type.as_str() {
        "application/json" => one(&state, from_json(&body.bytes)?, time).await,
        "application/cbor" => one(&state, body.bytes.to_vec().into(), time).await,
        _ => {
            let transactions = split(&body.bytes, limits.batch)?;
            many(&state, transactions, time).await
        }
    }
}

fn from_json(bytes: &[u8]) -> Result<TransactionBytes, Problem> {
    let JsonTransaction { body, signature, endorsements } =
        serde_json::from_slice(bytes).map_err(|error| Problem::bad_request(format!("the body: {error}")))?;
    if endorsements.len() > MAX_ENDORSEMENTS {
        return Err(Problem::bad_request(format!("endorsements: at most {MAX_ENDORSEMENTS} are accepted")));
    }
    let mut signed = SignedTransaction::new(base64("body", &body)?, signature_of("signature", &signature)?);
    for JsonEndorsement { endorser, signature } in endorsements {
        let signature = signature_of("endorsements.signature", &signature)?;
        signed.endorsements.push(Endorsement { endorser, signature });
    }
    Ok((&signed).into())
}

fn signature_of(member: &str, text: &str) -> Result<Signature, Problem> {
    let bytes = base64(member, text)?;
    Signature::normalise(&bytes).map_err(|_| {
        Problem::bad_request(format!("{member}: neither 64 bytes (R, S) nor a DER signature of secp256k1"))
    })
}

/// Standard base64, with or without padding, and over several lines as `base64` writes it.
fn base64(member: &str, text: &str) -> Result<Vec<u8>, Problem> {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    LENIENT.decode(digits).map_err(|error| Problem::bad_request(format!("{member} is not base64: {error}")))
}

/// One item of a sequence: its bytes, unless they are more than any transaction may have.
type Item = Result<TransactionBytes, Refusal>;

fn split(bytes: &[u8], most: usize) -> Result<Vec<Item>, Problem> {
    let mut items = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        if items.len() == most {
            return Err(Problem::payload_too_large(format!("the sequence has more than the {most} items accepted")));
        }
        let size = codec::first_item(rest)
            .map_err(|error| Problem::bad_request(format!("item {} of the sequence: {error}", items.len())))?;
        let (item, after) = rest.split_at(size);
        let limit = MAX_BULK_TRANSACTION_BYTES;
        items.push(if size > limit { Err(Refusal::Oversized { size, limit }) } else { Ok(item.to_vec().into()) });
        rest = after;
    }
    if items.is_empty() {
        return Err(Problem::bad_request("the sequence is empty"));
    }
    Ok(items)
}

/// Hands transactions to the mempool. A submission is never given up half-way: its answer is
/// awaited for as long as it takes, so that what the caller hears is what happened.
async fn submit(state: &State, items: Vec<Item>) -> Result<Vec<Result<Hash, Refusal>>, Problem> {
    let bytes: Vec<TransactionBytes> = items.iter().filter_map(|item| item.as_ref().ok()).cloned().collect();
    let answers = match bytes.is_empty() {
        true => Vec::new(),
        false => {
            let sent = state.api.mempool.submit.send(Submit(bytes)).await;
            sent.map_err(|error| Problem::not_ready(format!("the mempool does not answer: {error}")))?
        }
    };
    let mut answers = answers.into_iter();
    let mut outcomes = Vec::with_capacity(items.len());
    for item in items {
        let outcome = match item {
            Err(refusal) => Err(refusal),
            Ok(bytes) => match answers.next() {
                Some(Err(Refusal::AlreadyPending | Refusal::AlreadyCommitted)) => id(state, &bytes),
                Some(answer) => answer,
                None => return Err(Problem::internal("the mempool answered for fewer transactions than it was given")),
            },
        };
        if let Err(refusal) = &outcome {
            metrics::count(&state.api.metrics.submissions_refused, refusal.kind());
        }
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

fn id(state: &State, bytes: &TransactionBytes) -> Result<Hash, Refusal> {
    open(bytes.as_slice()).map(|(signed, _)| id_of(&state.network, &signed.body))
}

async fn one(state: &State, bytes: TransactionBytes, time: Option<Duration>) -> Result<HttpResponse, Problem> {
    let outcome = submit(state, vec![Ok(bytes)]).await?.pop();
    let id = match outcome {
        Some(Ok(id)) => id,
        Some(Err(refusal)) => return Err(Problem::refused(&refusal)),
        None => return Err(Problem::internal("the mempool gave no answer")),
    };
    let places = wait::committed(state, std::iter::once(id), time.unwrap_or_default()).await?;
    let answer = status(&id, &places);
    Ok(match places.is_empty() {
        false => HttpResponse::Ok().json(answer),
        true => {
            HttpResponse::Accepted().insert_header((header::LOCATION, format!("/v1/transactions/{id}"))).json(answer)
        }
    })
}

fn status(id: &Hash, places: &BTreeMap<Hash, Located>) -> Value {
    match places.get(id) {
        Some(located) => transactions::committed(id, located),
        None => json!({ "id": id, "status": "pending" }),
    }
}

async fn many(state: &State, items: Vec<Item>, time: Option<Duration>) -> Result<HttpResponse, Problem> {
    let outcomes = submit(state, items).await?;
    let ids = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok()).copied();
    let places = wait::committed(state, ids, time.unwrap_or_default()).await?;
    let accepted = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    let refusals = || outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
    let code = match refusals().next() {
        Some(first) if accepted == 0 && refusals().all(Refusal::is_transient) => Problem::refused(first).status_code(),
        None if outcomes.iter().flatten().all(|id| places.contains_key(id)) => StatusCode::OK,
        _ => StatusCode::ACCEPTED,
    };
    let mut response = HttpResponseBuilder::new(code);
    if refusals().any(Refusal::is_transient) {
        response.insert_header((header::RETRY_AFTER, "1"));
    }
    let list = outcomes.iter().map(|outcome| match outcome {
        Ok(id) => status(id, &places),
        Err(refusal) => json!({ "problem": Problem::refused(refusal).to_json() }),
    });
    let list: Vec<Value> = list.collect();
    let refused = list.len() - accepted;
    Ok(response.json(json!({ "transactions": list, "accepted": accepted, "refused": refused })))
}

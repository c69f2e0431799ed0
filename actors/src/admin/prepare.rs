//! Building the body of a transaction for the caller to sign with any tool: the id is the digest
//! to sign. What submitting it would refuse is refused here already.

use std::time::{SystemTime, UNIX_EPOCH};

use actix_web::{HttpRequest, HttpResponse, web};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use minidlt_protocol::{
    codec,
    crypto::Signature,
    limits::MAX_LIFETIME_MILLIS,
    transaction::{Body, Content, Operation, SignedTransaction, Transaction, TransactionBytes},
    types::Timestamp,
};
use serde_json::{Value, json};

use super::{State, auth::By, body, exact, problem::Problem};

const DEFAULT_LIFETIME_S: u64 = 3_600;
const MAX_LIFETIME_S: u64 = MAX_LIFETIME_MILLIS / 1_000;

pub async fn post(
    state: web::Data<State>,
    By(caller): By,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let read = body::read(&state, &request, payload, state.api.limits.body_bytes).await?;
    let asked = exact::parse(&read.bytes).map_err(|error| Problem::bad_request(format!("the body: {error}")))?;
    let (operation, lifetime_s) = operation(asked)?;
    let created = now()?;
    let body = Body {
        network: state.network,
        author: caller.identity.clone(),
        created,
        expires: created.plus_millis(lifetime_s * 1_000),
        nonce: nonce()?,
        operation,
    };
    let encoded = codec::encode(&body);
    // The signature is not looked at yet: any has the size that counts.
    let unsigned = SignedTransaction::new(encoded.clone(), Signature::from_bytes([0; 64]));
    let checked = Transaction::parse(TransactionBytes::from(&unsigned), &state.network);
    let checked =
        checked.and_then(|parsed| parsed.authorise(&state.api.registry, Some(&state.api.me)).map(|()| parsed));
    let id = checked.map_err(|refusal| Problem::refused(&refusal))?.id;
    Ok(HttpResponse::Ok().json(json!({
        "id": id,
        "body": STANDARD.encode(encoded),
        "digest": id,
        "expires": body.expires,
    })))
}

fn now() -> Result<Timestamp, Problem> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let millis = since.ok().and_then(|since| u64::try_from(since.as_millis()).ok());
    millis.map(Timestamp::from_millis).ok_or_else(|| Problem::internal("this node's clock is before 1970"))
}

fn nonce() -> Result<u64, Problem> {
    let mut bytes = [0; 8];
    openssl::rand::rand_bytes(&mut bytes).map_err(|error| {
        log::error!("no random numbers: {error}");
        Problem::internal("the node has no random numbers")
    })?;
    Ok(u64::from_be_bytes(bytes))
}

const EXPECTED: &str = r#"expected {"record": {"content": …}} or {"record": {"contents": […]}}"#;

fn operation(asked: Value) -> Result<(Operation, u64), Problem> {
    let Value::Object(mut members) = asked else { return Err(Problem::bad_request(EXPECTED)) };
    let lifetime_s = match members.remove("lifetime_s") {
        None => DEFAULT_LIFETIME_S,
        Some(value) => value
            .as_u64()
            .filter(|seconds| (1..=MAX_LIFETIME_S).contains(seconds))
            .ok_or_else(|| Problem::bad_request(format!("lifetime_s: from 1 to {MAX_LIFETIME_S}, not {value}")))?,
    };
    let Some(Value::Object(mut record)) = members.remove("record") else { return Err(Problem::bad_request(EXPECTED)) };
    let contents = match (record.remove("content"), record.remove("contents")) {
        (Some(content), None) => vec![Content::from_json(&content)],
        (None, Some(Value::Array(contents))) => contents.iter().map(Content::from_json).collect(),
        _ => return Err(Problem::bad_request(EXPECTED)),
    };
    if let Some(name) = members.keys().chain(record.keys()).next() {
        return Err(Problem::bad_request(format!("the name {name:?} is not known; {EXPECTED}")));
    }
    Ok((Operation::Record { contents }, lifetime_s))
}

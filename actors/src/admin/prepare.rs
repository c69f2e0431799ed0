//! Building the body of a transaction for the caller to sign with any tool: the id is the digest
//! to sign. What submitting it would refuse is refused here already.

use std::time::{SystemTime, UNIX_EPOCH};

use actix_web::{HttpRequest, HttpResponse, web};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use minidlt_protocol::{
    codec,
    crypto::Signature,
    evidence::Evidence,
    governance::Change,
    limits::{MAX_LIFETIME_MILLIS, MAX_RECORDS},
    transaction::{Body, Content, Operation, Refusal, SignedTransaction, Transaction, TransactionBytes},
    types::{Identity, InvalidName, Timestamp},
};
use serde_json::{Map, Value, json};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    State,
    auth::By,
    blocking, body, exact,
    limits::{PREPARATION_BYTES, PREPARATION_WAIT, PREPARATIONS},
    problem::Problem,
};
use crate::shares::InUse;

const DEFAULT_LIFETIME_S: u64 = 3_600;
const MAX_LIFETIME_S: u64 = MAX_LIFETIME_MILLIS / 1_000;

pub async fn post(
    state: web::Data<State>,
    By(caller): By,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let body = body::read(&state, &caller.identity, &request, payload, PREPARATION_BYTES).await?;
    let turn = Turn::wait(&state, &caller.identity).await?;
    let (node, author, bytes) = (state.clone(), caller.clone(), body.bytes.clone());
    let text = blocking(move || {
        // Not kept by the caller, who may hang up: the work goes on all the same.
        let _turn = turn;
        prepare(&node, &author.identity, &bytes)
    })
    .await?;
    Ok(HttpResponse::Ok().content_type("application/json").body(text))
}

/// A turn to prepare. It goes with the work to the thread that does it.
struct Turn {
    _turn: OwnedSemaphorePermit,
    _of_share: InUse<Identity>,
}

impl Turn {
    /// A caller may have only so many waiting, or the queue would be its own.
    async fn wait(state: &State, caller: &Identity) -> Result<Self, Problem> {
        let callers = &state.preparing_callers;
        let full = || Problem::caller_share_full(caller, format_args!("{} preparations", callers.share()));
        let of_share = callers.take(caller, 1).ok_or_else(full)?;
        match tokio::time::timeout(PREPARATION_WAIT, state.preparing.clone().acquire_owned()).await {
            Ok(Ok(turn)) => Ok(Self { _turn: turn, _of_share: of_share }),
            _ => Err(Problem::too_many_requests(format!("{PREPARATIONS} transactions are being prepared already"))),
        }
    }
}

fn prepare(state: &State, author: &Identity, asked: &[u8]) -> Result<String, Problem> {
    let asked = exact::parse(asked).map_err(|error| Problem::bad_request(format!("the body: {error}")))?;
    let (operation, lifetime_s) = operation(asked)?;
    let created = now()?;
    let body = Body {
        network: state.network,
        author: author.clone(),
        created,
        expires: created.plus_millis(lifetime_s * 1_000),
        nonce: nonce()?,
        operation,
    };
    let encoded = codec::encode(&body);
    // The signature is not looked at yet: any has the size that counts.
    let unsigned = SignedTransaction::new(encoded.clone(), Signature::from_bytes([0; 64]));
    let checked = Transaction::parse(TransactionBytes::from(&unsigned), &state.network);
    let registry = &state.api.members.registry();
    let checked = checked.and_then(|parsed| {
        parsed.authorise(registry, Some(&state.api.me))?;
        parsed.verify_effect(registry)?;
        parsed.check_change(registry, created)?;
        Ok(parsed)
    });
    let id = checked.map_err(|refusal| Problem::refused(&refusal))?.id;
    let answer = json!({
        "id": id,
        "body": STANDARD.encode(encoded),
        "digest": id,
        "expires": body.expires,
    });
    Ok(answer.to_string())
}

pub fn now() -> Result<Timestamp, Problem> {
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

const EXPECTED: &str = r#"expected {"record": {"content": …}}, {"record": {"type": …, "contents": […]}}, {"change": {…}} or {"evidence": {"votes": …}}"#;

fn operation(asked: Value) -> Result<(Operation, u64), Problem> {
    let Value::Object(mut members) = asked else { return Err(Problem::bad_request(EXPECTED)) };
    let lifetime_s = match members.remove("lifetime_s") {
        None => DEFAULT_LIFETIME_S,
        Some(value) => value
            .as_u64()
            .filter(|seconds| (1..=MAX_LIFETIME_S).contains(seconds))
            .ok_or_else(|| Problem::bad_request(format!("lifetime_s: from 1 to {MAX_LIFETIME_S}, not {value}")))?,
    };
    let operation = match (members.remove("record"), members.remove("evidence"), members.remove("change")) {
        (Some(Value::Object(record)), None, None) => records(record)?,
        (None, Some(evidence), None) => Operation::Evidence(evidence_of(evidence)?.into()),
        (None, None, Some(change)) => Operation::Change(change_of(change)?.into()),
        _ => return Err(Problem::bad_request(EXPECTED)),
    };
    no_more(&members)?;
    Ok((operation, lifetime_s))
}

fn records(mut record: Map<String, Value>) -> Result<Operation, Problem> {
    let record_type = match record.remove("type") {
        None => None,
        Some(Value::String(name)) => {
            Some(name.parse().map_err(|error: InvalidName| Problem::bad_request(format!("record: type: {error}")))?)
        }
        Some(_) => return Err(Problem::bad_request(EXPECTED)),
    };
    let contents = match (record.remove("content"), record.remove("contents")) {
        (Some(content), None) => vec![Content::from_json(&content)],
        // Refused like any such transaction, but before each is encoded.
        (None, Some(Value::Array(contents))) if contents.len() > MAX_RECORDS => {
            let refusal = Refusal::Malformed(format!("it holds more than {MAX_RECORDS} records"));
            return Err(Problem::refused(&refusal));
        }
        (None, Some(Value::Array(contents))) => contents.iter().map(Content::from_json).collect(),
        _ => return Err(Problem::bad_request(EXPECTED)),
    };
    no_more(&record)?;
    Ok(Operation::Record { record_type, contents })
}

/// The two statements, in whichever order the caller has them.
fn evidence_of(asked: Value) -> Result<Evidence, Problem> {
    // What is wrong is quoted, and may be long.
    let wrong = |error: serde_json::Error| Problem::bad_request(format!("evidence: {:.200}", error.to_string()));
    serde_json::from_value(asked).map(Evidence::ordered).map_err(wrong)
}

fn change_of(asked: Value) -> Result<Change, Problem> {
    // What is wrong is quoted, and may be long.
    serde_json::from_value(asked).map_err(|error| Problem::bad_request(format!("change: {:.200}", error.to_string())))
}

fn no_more(members: &Map<String, Value>) -> Result<(), Problem> {
    match members.keys().next() {
        Some(name) => Err(Problem::bad_request(format!("the name {name:?} is not known; {EXPECTED}"))),
        None => Ok(()),
    }
}

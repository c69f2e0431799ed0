//! Taking signed transactions: one in JSON or CBOR, or many as a CBOR sequence (RFC 8742).
//! What needs endorsements that peers can give has them collected.
//! Submitting twice is harmless, so a caller who heard nothing may submit again.

use std::{collections::BTreeMap, time::Duration};

use actix_web::{
    HttpMessage, HttpRequest, HttpResponse, HttpResponseBuilder,
    http::{StatusCode, header},
    web,
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
    State,
    auth::By,
    body,
    limits::WAITED_TRANSACTIONS,
    problem::Problem,
    shares::{self, Full, Place},
    transactions,
    wait::{self, WaitQuery},
};
use crate::{
    messages::{
        endorsement::{Collect, NotTaken},
        mempool::{FindPending, Submit, Waiting},
    },
    metrics,
    store::reader::Located,
};

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
    By(caller): By,
    request: HttpRequest,
    query: web::Query<WaitQuery>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let limits = &state.api.limits;
    let time = query.time(limits.max_wait)?;
    let _waiting = time.map(|_| place_to_wait(&state, &caller.identity)).transpose()?;
    let content_type = request.content_type().to_ascii_lowercase();
    let most = if time.is_some() { limits.batch.min(WAITED_TRANSACTIONS) } else { limits.batch };
    let (submitted, room) = {
        let body = body::read(&state, &caller.identity, &request, payload, limits.body_bytes).await?;
        let items: Vec<Item> = match content_type.as_str() {
            "application/json" => vec![Ok(from_json(&body.bytes)?)],
            "application/cbor" => vec![Ok(body.bytes.to_vec().into())],
            "application/cbor-seq" => split(&body.bytes, most)?,
            // Told only now: over HTTP/2 an answer before a body has come breaks the stream for who still sends.
            _ => return Err(Problem::unsupported_media_type(&content_type, ACCEPTED)),
        };
        // Before anything is taken: what was taken must not be answered with a refusal.
        let room = shares::reserve(&state, &caller.identity, items.len() * ANSWERED_BYTES)?;
        // The body keeps its room until the mempool has answered, and no longer: not while a commit
        // is waited for.
        (submit(&state, caller.identity.clone(), items, time).await?, room)
    };
    let mut response = match content_type.as_str() {
        "application/cbor-seq" => many(&state, submitted, time).await?,
        _ => one(&state, submitted, time).await?,
    };
    if let Some(room) = room {
        response.extensions_mut().insert(room);
    }
    Ok(response)
}

/// Room for the answer about one transaction: a problem has some 300 bytes, and quotes at most some 200.
const ANSWERED_BYTES: usize = 768;

fn place_to_wait(state: &State, caller: &Identity) -> Result<Place, Problem> {
    let waiters = &state.waiters;
    waiters.take(caller, 1).map_err(|full| match full {
        Full::Whole => Problem::too_many_requests(format!("{} requests wait for a commit already", waiters.most)),
        Full::Share => {
            let share = waiters.shares.share();
            Problem::caller_share_full(caller, format_args!("{share} requests that wait for a commit"))
        }
    })
}

/// A signed transaction from its JSON form.
pub fn from_json(bytes: &[u8]) -> Result<TransactionBytes, Problem> {
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
            return Err(Problem::payload_too_large(format!(
                "the sequence has more than the {most} items accepted; with wait=committed, {WAITED_TRANSACTIONS} are"
            )));
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

/// What the mempool answered.
struct Submitted {
    /// Each item's id, or why it was not taken.
    outcomes: Vec<Result<Hash, NotTaken>>,
    /// Those that were on the ledger before.
    committed: Vec<Hash>,
}

impl Submitted {
    /// Where they are committed. What was only now taken is looked for if its commit is waited for.
    async fn places(
        &self,
        state: &web::Data<State>,
        time: Option<Duration>,
    ) -> Result<BTreeMap<Hash, Located>, Problem> {
        let ids: Vec<Hash> = match time {
            Some(_) => self.outcomes.iter().flatten().copied().collect(),
            None => self.committed.clone(),
        };
        wait::committed(state, ids, time.unwrap_or_default()).await
    }
}

/// Hands transactions to the mempool. A submission is never given up half-way: its answer is
/// awaited for as long as it takes, so that what the caller hears is what happened.
async fn submit(
    state: &State,
    caller: Identity,
    items: Vec<Item>,
    time: Option<Duration>,
) -> Result<Submitted, Problem> {
    let transactions: Vec<TransactionBytes> = items.iter().filter_map(|item| item.as_ref().ok()).cloned().collect();
    let answers = match transactions.is_empty() {
        true => Vec::new(),
        false => {
            let sent = state.api.mempool.submit.send(Submit { caller: caller.clone(), transactions }).await;
            sent.map_err(|error| Problem::not_ready(format!("the mempool does not answer: {error}")))?
        }
    };
    let mut answers = endorsed(state, caller, &items, answers, time).await?.into_iter();
    let mut outcomes = Vec::with_capacity(items.len());
    let mut committed = Vec::new();
    for item in items {
        let outcome = match item {
            Err(refusal) => Err(refusal.into()),
            Ok(bytes) => match answers.next() {
                Some(Err(NotTaken { refusal: Refusal::AlreadyPending, .. })) => id(state, &bytes),
                Some(Err(NotTaken { refusal: Refusal::AlreadyCommitted, .. })) => {
                    id(state, &bytes).inspect(|id| committed.push(*id))
                }
                Some(answer) => answer,
                None => return Err(Problem::internal("the mempool answered for fewer transactions than it was given")),
            },
        };
        if let Err(NotTaken { refusal, .. }) = &outcome {
            metrics::count(&state.api.metrics.submissions_refused, refusal.kind());
        }
        outcomes.push(outcome);
    }
    Ok(Submitted { outcomes, committed })
}

/// Has endorsements collected for what the Mempool refused because they are missing: so all else costs nothing more.
/// That, too, is awaited for as long as it takes, which has its own deadline.
async fn endorsed(
    state: &State,
    caller: Identity,
    items: &[Item],
    answers: Vec<Result<Hash, Refusal>>,
    time: Option<Duration>,
) -> Result<Vec<Result<Hash, NotTaken>>, Problem> {
    let lacks = |answer: &Result<Hash, Refusal>| answer.as_ref().is_err_and(Refusal::is_lack_of_endorsements);
    let submitted = items.iter().filter_map(|item| item.as_ref().ok());
    let lacking: Vec<_> = submitted.zip(&answers).filter(|(_, answer)| lacks(answer)).collect();
    let transactions: Vec<TransactionBytes> = lacking.into_iter().map(|(bytes, _)| bytes.clone()).collect();
    let mut collected = match transactions.is_empty() {
        true => Vec::new(),
        false => {
            let collect = Collect { caller, transactions, within: time.unwrap_or(Duration::MAX) };
            let sent = state.api.endorsement.send(collect).await;
            sent.map_err(|error| Problem::not_ready(format!("endorsements are not collected: {error}")))?
        }
    }
    .into_iter();
    let answer = |answer| match lacks(&answer) {
        true => collected.next().unwrap_or_else(|| answer.map_err(NotTaken::from)),
        false => answer.map_err(NotTaken::from),
    };
    Ok(answers.into_iter().map(answer).collect())
}

fn id(state: &State, bytes: &TransactionBytes) -> Result<Hash, NotTaken> {
    Ok(open(bytes.as_slice()).map(|(signed, _)| id_of(&state.network, &signed.body))?)
}

async fn one(state: &web::Data<State>, submitted: Submitted, time: Option<Duration>) -> Result<HttpResponse, Problem> {
    let id = match submitted.outcomes.first() {
        Some(Ok(id)) => *id,
        Some(Err(not_taken)) => return Err(Problem::not_taken(not_taken)),
        None => return Err(Problem::internal("the mempool gave no answer")),
    };
    let places = submitted.places(state, time).await?;
    if let Some(located) = places.get(&id) {
        return Ok(HttpResponse::Ok().json(transactions::committed(&id, located)));
    }
    // Only who waited long enough can find it dumped or rejected already.
    if time.is_some() {
        match state.ask("the mempool", &state.api.mempool.find, FindPending(id)).await? {
            Waiting::Dumped { expires, cause } => {
                return Ok(HttpResponse::Ok().json(transactions::dumped(&id, expires, &cause)));
            }
            Waiting::Rejected(reason) => return Ok(HttpResponse::Ok().json(transactions::rejected(&id, &reason))),
            Waiting::Pending(_) | Waiting::Unknown => {}
        }
    }
    let place = (header::LOCATION, format!("/v1/transactions/{id}"));
    Ok(HttpResponse::Accepted().insert_header(place).json(status(&id, &places)))
}

fn status(id: &Hash, places: &BTreeMap<Hash, Located>) -> Value {
    match places.get(id) {
        Some(located) => transactions::committed(id, located),
        None => json!({ "id": id, "status": "pending" }),
    }
}

async fn many(state: &web::Data<State>, submitted: Submitted, time: Option<Duration>) -> Result<HttpResponse, Problem> {
    let places = submitted.places(state, time).await?;
    let outcomes = submitted.outcomes;
    let accepted = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    let refused = outcomes.len() - accepted;
    let refusals = || outcomes.iter().filter_map(|outcome| outcome.as_ref().err().map(|not| &not.refusal));
    let list: Vec<Value> = outcomes
        .iter()
        .map(|outcome| match outcome {
            Ok(id) => status(id, &places),
            Err(not_taken) => json!({ "problem": Problem::not_taken(not_taken).to_json() }),
        })
        .collect();
    if let Some(first) = refusals().next()
        && accepted == 0
        && refusals().all(Refusal::is_transient)
    {
        // Nothing was taken and all may be later: the caller need not take the list apart.
        let problem = Problem::refused(first).with("transactions", list);
        return Err(problem.with("accepted", accepted).with("refused", refused));
    }
    let all_committed = refused == 0 && outcomes.iter().flatten().all(|id| places.contains_key(id));
    let mut response = HttpResponseBuilder::new(if all_committed { StatusCode::OK } else { StatusCode::ACCEPTED });
    if refusals().any(Refusal::is_transient) {
        response.insert_header((header::RETRY_AFTER, "1"));
    }
    Ok(response.json(json!({ "transactions": list, "accepted": accepted, "refused": refused })))
}

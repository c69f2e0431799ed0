//! Refusals, as RFC 9457 problem details: one constructor a refusal, one kind each, so that a
//! program can tell them apart and a person knows what to do next.

use std::{fmt, path::Path};

use actix_web::{
    Error, HttpResponse, HttpResponseBuilder, ResponseError,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{Method, StatusCode, header},
    middleware::Next,
    web,
};
use minidlt_protocol::{
    governance::ChangeRefused,
    record_type::TypeRefused,
    registry::EntryKey,
    transaction::Refusal,
    types::{Hash, Height, Identity},
};
use serde_json::{Map, Value, json};

use super::{State, shares::until_sent};
use crate::{messages::endorsement::NotTaken, metrics, store::reader::ReadError};

/// Most nodes that are named with why they did not endorse a transaction.
const SAID_NAMED: usize = 8;
const CONTENT_TYPE: &str = "application/problem+json";

/// A refusal on its way to the caller.
#[derive(Debug)]
pub struct Problem {
    kind: &'static str,
    title: &'static str,
    status: StatusCode,
    detail: String,
    retry_after_s: Option<u32>,
    /// Members beyond the standard ones, for programs.
    more: Map<String, Value>,
}

/// Left with a response that is a problem, for counting.
struct Kind(&'static str);

/// May the author not do it, is it of another time, or could nobody?
fn of_change(reason: &ChangeRefused) -> StatusCode {
    match reason {
        ChangeRefused::Author(_)
        | ChangeRefused::Role { .. }
        | ChangeRefused::OtherOrganisation { .. }
        | ChangeRefused::Policy { .. } => StatusCode::FORBIDDEN,
        ChangeRefused::Exists(_)
        | ChangeRefused::Missing(_)
        | ChangeRefused::Stale { .. }
        | ChangeRefused::Revoked(_)
        | ChangeRefused::Nothing(_)
        | ChangeRefused::KeyTaken(_)
        | ChangeRefused::AddressTaken { .. } => StatusCode::CONFLICT,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

/// Is the type not as the record has it, or is consent missing?
fn of_record(reason: &TypeRefused) -> StatusCode {
    match reason {
        TypeRefused::Unknown(_) | TypeRefused::Misfit { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        TypeRefused::Standing { .. } => StatusCode::CONFLICT,
        TypeRefused::Policy { .. } => StatusCode::FORBIDDEN,
    }
}

impl Problem {
    fn new(kind: &'static str, title: &'static str, status: StatusCode, detail: impl Into<String>) -> Self {
        Self { kind, title, status, detail: detail.into(), retry_after_s: None, more: Map::new() }
    }

    fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.insert(name.to_owned(), value.into());
        self
    }

    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new("bad-request", "The request is not understood", StatusCode::BAD_REQUEST, detail)
    }

    pub fn payload_too_large(detail: impl Into<String>) -> Self {
        Self::new("payload-too-large", "The request is too large", StatusCode::PAYLOAD_TOO_LARGE, detail)
    }

    pub fn body_too_large(limit: usize) -> Self {
        Self::payload_too_large(format!("the body has more than the {limit} bytes accepted here"))
            .with("limit_bytes", limit)
    }

    pub fn unsupported_media_type(found: &str, accepted: &str) -> Self {
        let detail = format!("the content type is {found:?}; accepted here: {accepted}");
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        Self::new("unsupported-media-type", "The content type is not accepted", status, detail)
    }

    pub fn request_timeout(detail: impl Into<String>) -> Self {
        Self::new("request-timeout", "The request took too long to come", StatusCode::REQUEST_TIMEOUT, detail)
    }

    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new("forbidden", "The caller may not do this", StatusCode::FORBIDDEN, detail)
    }

    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new("not-found", "There is no such thing", StatusCode::NOT_FOUND, detail)
    }

    pub fn no_such_path(path: &str) -> Self {
        Self::not_found(format!("there is no {path}; see /v1/openapi.json for what there is"))
    }

    pub fn no_such_block(height: Height, head: Height) -> Self {
        Self::not_found(format!("there is no block {height} yet; the head is block {head}")).with("height", head.get())
    }

    pub fn unknown_transaction(id: &Hash) -> Self {
        Self::not_found(format!("transaction {id} is neither on the ledger nor waiting at this node"))
    }

    pub fn no_such_entry(key: &EntryKey, height: Height) -> Self {
        let detail = format!("the ledger has no {key} as of block {height}; with proof=true it proves that");
        Self::not_found(detail).with("height", height.get())
    }

    pub fn method_not_allowed(method: &Method, path: &str) -> Self {
        let detail = format!("{path} does not take {method}; the header Allow names what it takes");
        let status = StatusCode::METHOD_NOT_ALLOWED;
        Self::new("method-not-allowed", "The path does not take this method", status, detail)
    }

    pub fn too_many_requests(detail: impl Into<String>) -> Self {
        let status = StatusCode::TOO_MANY_REQUESTS;
        Self::new("too-many-requests", "The node is busy", status, detail).retry_after(1)
    }

    /// Others are served: it is the caller itself that has `what`, its whole share, in use.
    pub fn caller_share_full(caller: &Identity, what: impl fmt::Display) -> Self {
        let detail =
            format!("{caller} has its own share of this node in use, {what}; try again when some of it is done");
        let status = StatusCode::TOO_MANY_REQUESTS;
        Self::new("caller-share-full", "The caller has its whole share in use", status, detail).retry_after(1)
    }

    /// As [`Self::caller_share_full`], of what goes on for long.
    pub fn caller_has_its_streams(caller: &Identity, share: usize) -> Self {
        let problem = Self::caller_share_full(caller, format_args!("{share} streams of events"));
        Self { status: StatusCode::SERVICE_UNAVAILABLE, ..problem }.retry_after(10)
    }

    pub fn too_many_subscribers(limit: usize) -> Self {
        let detail = format!("{limit} streams of events are open, the most this node serves; try another node");
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new("too-many-subscribers", "No more streams of events", status, detail).retry_after(10)
    }

    pub fn not_ready(detail: impl Into<String>) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new("not-ready", "The node cannot answer now", status, detail).retry_after(1)
    }

    pub fn receipt_not_ready(height: Height) -> Self {
        let detail = format!(
            "the transaction is committed in block {height}; its receipt needs the block after that, which \
             certifies its result"
        );
        Self::new("receipt-not-ready", "The receipt is not ready", StatusCode::CONFLICT, detail)
            .retry_after(1)
            .with("height", height.get())
    }

    pub fn nothing_certified() -> Self {
        let detail = "there is no block yet, and so no header that certifies the state; submit a transaction, and ask \
                      again when it is committed; until then the genesis file says how things stand";
        Self::new("nothing-certified", "There is nothing to prove it by yet", StatusCode::CONFLICT, detail)
    }

    pub fn busy(detail: impl Into<String>) -> Self {
        Self::new("busy", "This is already under way", StatusCode::CONFLICT, detail).retry_after(10)
    }

    pub fn backup_exists(path: &Path) -> Self {
        let detail = format!("{} is there already: choose another name, or remove it", path.display());
        Self::new("backup-exists", "There is a backup of this name", StatusCode::CONFLICT, detail)
    }

    pub fn internal(detail: impl Into<String>) -> Self {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self::new("internal", "The node failed; its log says more", status, detail)
    }

    /// A transaction that was not taken.
    pub fn refused(refusal: &Refusal) -> Self {
        let status = match refusal {
            Refusal::Malformed(_) => StatusCode::BAD_REQUEST,
            Refusal::Oversized { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::WrongNetwork { .. }
            | Refusal::Expired { .. }
            | Refusal::FarFuture { .. }
            | Refusal::BadSignature(_)
            | Refusal::BadEndorsement { .. }
            | Refusal::BadEvidence(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Refusal::UnknownAuthor(_)
            | Refusal::GatewayNotPermitted { .. }
            | Refusal::NotPermitted { .. }
            | Refusal::NotNeeded(_)
            | Refusal::NodeAuthor(_) => StatusCode::FORBIDDEN,
            Refusal::Change(reason) => of_change(reason),
            Refusal::Record(reason) => of_record(reason),
            Refusal::KeyReplaced(_) => StatusCode::CONFLICT,
            Refusal::AlreadyCommitted | Refusal::AlreadyPending => StatusCode::CONFLICT,
            Refusal::MempoolFull(_)
            | Refusal::UserShareFull(_)
            | Refusal::CollectingFull
            | Refusal::CollectingShareFull(_) => StatusCode::TOO_MANY_REQUESTS,
        };
        let problem = Self::new(refusal.kind(), "The transaction was refused", status, refusal.to_string());
        if refusal.is_transient() { problem.retry_after(1) } else { problem }
    }

    /// As [`Self::refused`], with what those said who were to endorse it.
    pub fn not_taken(NotTaken { refusal, said }: &NotTaken) -> Self {
        let mut problem = Self::refused(refusal);
        if !said.is_empty() {
            let said = said.iter().take(SAID_NAMED);
            let named = said.clone().map(|one| format!("{}: {}", one.peer, one.reason.reason)).collect::<Vec<_>>();
            problem.detail = format!("{}. Of those who could endorse it, {}", problem.detail, named.join("; "));
            problem = problem.with("endorsers", said.map(|one| json!(one)).collect::<Vec<_>>());
        }
        problem
    }

    /// An answer of the framework's own that says no more than its status.
    fn of_status(status: StatusCode, path: &str, method: &Method) -> Self {
        match status {
            StatusCode::NOT_FOUND => Self::no_such_path(path),
            StatusCode::METHOD_NOT_ALLOWED => Self::method_not_allowed(method, path),
            StatusCode::PAYLOAD_TOO_LARGE => Self::payload_too_large("the body is larger than accepted here"),
            StatusCode::REQUEST_TIMEOUT => Self::request_timeout("the request did not come in time"),
            status if status.is_client_error() => {
                Self { status, ..Self::bad_request(status.canonical_reason().unwrap_or("it cannot be answered")) }
            }
            status => Self { status, ..Self::internal("the request could not be answered") },
        }
    }

    /// The problem as JSON, for lists in which some entries are refused.
    pub fn to_json(&self) -> Value {
        let mut members = self.more.clone();
        members.insert("type".into(), json!(format!("urn:minidlt:problem:{}", self.kind)));
        members.insert("title".into(), json!(self.title));
        members.insert("status".into(), json!(self.status.as_u16()));
        members.insert("detail".into(), json!(self.detail));
        Value::Object(members)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut builder = HttpResponseBuilder::new(self.status);
        if let Some(seconds) = self.retry_after_s {
            builder.insert_header((header::RETRY_AFTER, seconds.to_string()));
        }
        let mut response = builder.content_type(CONTENT_TYPE).body(self.to_json().to_string());
        response.extensions_mut().insert(Kind(self.kind));
        response
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        log::error!("{error}");
        Self::internal("the ledger could not be read; the node's log says why")
    }
}

/// The outermost layer: turns every error without a problem into one, and counts them by kind.
pub async fn finish(
    state: web::Data<State>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let response = next.call(request).await?.map_into_boxed_body();
    Ok(counted(&state, response))
}

/// Refuses a request that has no place among those under way. The caller decides how long it takes
/// to read that, over HTTP/2 for any number of them, so only some of these answers have a body.
pub fn turn_away(state: &State, request: ServiceRequest, problem: &Problem) -> ServiceResponse {
    let answer = problem.error_response();
    if let Ok(place) = state.refusals.clone().try_acquire_owned() {
        return until_sent(request.into_response(answer), place);
    }
    let mut bare = answer.set_body(BoxBody::new(()));
    bare.headers_mut().remove(header::CONTENT_TYPE);
    request.into_response(bare)
}

fn counted(state: &State, response: ServiceResponse) -> ServiceResponse {
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let response = explain(response);
    if let Some(Kind(kind)) = response.response().extensions().get::<Kind>() {
        metrics::count(&state.api.metrics.requests_refused, kind);
    }
    response
}

/// Replaces a bare error by a problem.
fn explain(response: ServiceResponse) -> ServiceResponse {
    if response.response().extensions().contains::<Kind>() {
        return response;
    }
    let allow = response.headers().get(header::ALLOW).cloned();
    let request = response.request();
    let mut problem = Problem::of_status(response.status(), request.path(), request.method()).error_response();
    if let Some(allow) = allow {
        problem.headers_mut().insert(header::ALLOW, allow);
    }
    response.into_response(problem)
}

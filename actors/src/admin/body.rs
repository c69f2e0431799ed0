//! Reading a request's body: never more than its limit, never more in all than there is room for,
//! never for longer than its time.

use actix_web::{
    HttpRequest,
    http::header,
    web::{Bytes, BytesMut, Payload},
};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use tokio::sync::SemaphorePermit;

use super::{State, limits::SMALL_BODY_BYTES, problem::Problem};

/// A body, and the room it takes until it is dropped.
pub struct Body<'a> {
    pub bytes: Bytes,
    _room: SemaphorePermit<'a>,
}

/// Reads a body of at most `limit` bytes.
pub async fn read<'a>(
    state: &'a State,
    request: &HttpRequest,
    payload: Payload,
    limit: usize,
) -> Result<Body<'a>, Problem> {
    if told_length(request)?.is_some_and(|length| length > limit) {
        return Err(Problem::body_too_large(limit));
    }
    let time = state.api.limits.body_time;
    let late = || Problem::request_timeout(format!("the body did not come within {} s", time.as_secs()));
    tokio::time::timeout(time, collect(state, payload, limit)).await.map_err(|_| late())?
}

fn told_length(request: &HttpRequest) -> Result<Option<usize>, Problem> {
    let Some(value) = request.headers().get(header::CONTENT_LENGTH) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|text| text.parse().ok());
    length.map(Some).ok_or_else(|| Problem::bad_request("the header Content-Length is not a length"))
}

/// Takes room for what has come, as it comes: a length that is only told, or not told at all, takes
/// none from others.
async fn collect(state: &State, mut payload: Payload, limit: usize) -> Result<Body<'_>, Problem> {
    let mut bytes = BytesMut::new();
    let mut room = room_for(state, 0, false).await?;
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| Problem::bad_request(format!("the body broke off: {error}")))?;
        let length = bytes.len() + chunk.len();
        if length > limit {
            return Err(Problem::body_too_large(limit));
        }
        let kibibytes = length.div_ceil(1024) - bytes.len().div_ceil(1024);
        // Only who has no room yet waits for some: those who have could all wait for each other.
        room.merge(room_for(state, kibibytes, bytes.is_empty()).await?);
        bytes.extend_from_slice(&chunk);
    }
    Ok(Body { bytes: bytes.freeze(), _room: room })
}

async fn room_for(state: &State, kibibytes: usize, waits: bool) -> Result<SemaphorePermit<'_>, Problem> {
    let full = || Problem::too_many_requests("the node has no room for another body now");
    let kibibytes = u32::try_from(kibibytes).map_err(|_| full())?;
    if !waits {
        return state.bodies.try_acquire_many(kibibytes).map_err(|_| full());
    }
    let wait = state.bodies.acquire_many(kibibytes);
    // Less than a body's time, so that the answer is "busy" and not "too slow".
    match tokio::time::timeout(state.api.limits.body_time / 2, wait).await {
        Ok(Ok(room)) => Ok(room),
        _ => Err(full()),
    }
}

/// Reads a small JSON body of a known shape, whatever its content type says.
pub async fn json<T: DeserializeOwned>(state: &State, request: &HttpRequest, payload: Payload) -> Result<T, Problem> {
    let body = read(state, request, payload, SMALL_BODY_BYTES).await?;
    serde_json::from_slice(&body.bytes).map_err(|error| Problem::bad_request(format!("the body: {error}")))
}

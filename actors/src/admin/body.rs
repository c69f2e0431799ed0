//! Reading a request's body: never more than its limit, never more in all than there is room for,
//! never for longer than its time.

use actix_web::{
    HttpRequest,
    http::header,
    web::{Bytes, BytesMut, Payload},
};
use futures_util::StreamExt;
use minidlt_protocol::types::Identity;
use serde::de::DeserializeOwned;
use tokio::sync::SemaphorePermit;

use super::{State, limits::SMALL_BODY_BYTES, problem::Problem};
use crate::shares::InUse;

/// A body, and the room it takes until it is dropped.
pub struct Body<'a> {
    pub bytes: Bytes,
    _room: Room<'a>,
}

/// Room for what has come of a body: of the whole, and of its caller's share.
struct Room<'a> {
    state: &'a State,
    caller: &'a Identity,
    of_whole: SemaphorePermit<'a>,
    of_share: InUse<Identity>,
}

/// Reads a body of at most `limit` bytes.
pub async fn read<'a>(
    state: &'a State,
    caller: &'a Identity,
    request: &HttpRequest,
    payload: Payload,
    limit: usize,
) -> Result<Body<'a>, Problem> {
    if told_length(request)?.is_some_and(|length| length > limit) {
        return Err(Problem::body_too_large(limit));
    }
    let time = state.api.limits.body_time;
    let late = || Problem::request_timeout(format!("the body did not come within {} s", time.as_secs()));
    let room = Room::none(state, caller)?;
    tokio::time::timeout(time, collect(room, payload, limit)).await.map_err(|_| late())?
}

fn told_length(request: &HttpRequest) -> Result<Option<usize>, Problem> {
    let Some(value) = request.headers().get(header::CONTENT_LENGTH) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|text| text.parse().ok());
    length.map(Some).ok_or_else(|| Problem::bad_request("the header Content-Length is not a length"))
}

/// Takes room for what has come, as it comes: a length that is only told, or not told at all, takes
/// none from others.
async fn collect(mut room: Room<'_>, mut payload: Payload, limit: usize) -> Result<Body<'_>, Problem> {
    let mut bytes = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| Problem::bad_request(format!("the body broke off: {error}")))?;
        let length = bytes.len() + chunk.len();
        if length > limit {
            return Err(Problem::body_too_large(limit));
        }
        let kibibytes = length.div_ceil(1024) - bytes.len().div_ceil(1024);
        // Only who has no room yet waits for some: those who have could all wait for each other.
        room.grow(kibibytes, bytes.is_empty()).await?;
        bytes.extend_from_slice(&chunk);
    }
    Ok(Body { bytes: bytes.freeze(), _room: room })
}

fn full() -> Problem {
    Problem::too_many_requests("the node has no room for another body now")
}

impl<'a> Room<'a> {
    fn none(state: &'a State, caller: &'a Identity) -> Result<Self, Problem> {
        let of_whole = state.bodies.whole.try_acquire_many(0).map_err(|_| full())?;
        let of_share = state.bodies.shares.take(caller, 0).ok_or_else(full)?;
        Ok(Self { state, caller, of_whole, of_share })
    }

    async fn grow(&mut self, kibibytes: usize, waits: bool) -> Result<(), Problem> {
        let State { bodies, api, .. } = self.state;
        if !self.of_share.grow(kibibytes) {
            let share = bodies.shares.share();
            return Err(Problem::caller_share_full(self.caller, format_args!("{share} KiB of bodies")));
        }
        let permits = u32::try_from(kibibytes).map_err(|_| full())?;
        let more = if waits {
            // Less than a body's time, so that the answer is "busy" and not "too slow".
            let room = tokio::time::timeout(api.limits.body_time / 2, bodies.whole.acquire_many(permits));
            room.await.ok().and_then(Result::ok)
        } else {
            bodies.whole.try_acquire_many(permits).ok()
        };
        self.of_whole.merge(more.ok_or_else(full)?);
        Ok(())
    }
}

/// Reads a small JSON body of a known shape, whatever its content type says.
pub async fn json<T: DeserializeOwned>(
    state: &State,
    caller: &Identity,
    request: &HttpRequest,
    payload: Payload,
) -> Result<T, Problem> {
    let body = read(state, caller, request, payload, SMALL_BODY_BYTES).await?;
    serde_json::from_slice(&body.bytes).map_err(|error| Problem::bad_request(format!("the body: {error}")))
}

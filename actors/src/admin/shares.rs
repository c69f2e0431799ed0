//! Each caller's share of what the API takes on, so that one member cannot keep the others from
//! their node: a quarter of each bound, counted by the identity in the certificate. Beyond it the
//! caller is told that it is its own share, and the others are served.
//!
//! A request, and a large answer, count until the answer has been taken, not only until it is made:
//! a caller that does not read holds the memory of its answers.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use actix_web::{
    Error, ResponseError,
    body::{BodySize, BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::StatusCode,
    middleware::Next,
    web::{self, Bytes},
};
use minidlt_protocol::types::Identity;

use super::{
    State,
    auth::By,
    limits::SMALL_ANSWER_BYTES,
    problem::{Problem, turn_away},
};
use crate::shares;
pub use crate::shares::Full;

/// A bound on the whole of something, and on each caller's share of it.
pub type Bound = shares::Bound<Identity>;
/// Some of it, given back when this is dropped.
pub type Place = shares::Place<Identity>;

/// Room for an answer, taken before anything was done that the answer tells of: with the answer.
pub struct Reserved(Place);

/// Takes room for an answer of about so many bytes.
pub fn reserve(state: &State, caller: &Identity, bytes: usize) -> Result<Option<Reserved>, Problem> {
    Ok(room_for(state, caller, BodySize::Sized(bytes as u64))?.map(Reserved))
}

/// Lets a caller have its share of the requests under way, and of the room for answers.
pub async fn within_share(
    state: web::Data<State>,
    By(caller): By,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let requests = &state.requests;
    let place = match requests.take(&caller.identity, 1) {
        Ok(place) => place,
        Err(full) => {
            let problem = match full {
                Full::Whole => Problem::too_many_requests(format!(
                    "{} requests are under way, the most this node serves",
                    requests.most
                )),
                Full::Share => {
                    let share = requests.shares.share();
                    Problem::caller_share_full(&caller.identity, format_args!("{share} requests"))
                }
            };
            return Ok(turn_away(&state, request, &problem));
        }
    };
    let mut response = next.call(request).await?.map_into_boxed_body();
    let reserved = response.response_mut().extensions_mut().remove::<Reserved>();
    if let Some(Reserved(room)) = reserved {
        return Ok(until_sent(response, (place, room)));
    }
    let size = response.response().body().size();
    Ok(match room_for(&state, &caller.identity, size) {
        Ok(room) => until_sent(response, (place, room)),
        Err(problem) => until_sent(response.into_response(problem.error_response()), place),
    })
}

/// Room for an answer until it has been sent. A small one needs none, nor one that is sent as it
/// comes; the largest takes no more than all of a share, so that there is room for it at some time.
fn room_for(state: &State, caller: &Identity, size: BodySize) -> Result<Option<Place>, Problem> {
    let BodySize::Sized(bytes) = size else { return Ok(None) };
    if bytes <= SMALL_ANSWER_BYTES {
        return Ok(None);
    }
    let share = state.answers.shares.share();
    let kibibytes = usize::try_from(bytes.div_ceil(1024)).unwrap_or(share).min(share);
    state.answers.take(caller, kibibytes).map(Some).map_err(|full| match full {
        Full::Whole => Problem::too_many_requests("answers that their callers have not read yet take all the room"),
        Full::Share => Problem::caller_share_full(caller, format_args!("{share} KiB of answers not read yet")),
    })
}

/// Keeps `place` until the answer has been sent, or the connection is gone. What is switched to
/// another protocol is no request any more, and bounded as what it has become.
pub fn until_sent<T: Unpin + 'static>(response: ServiceResponse<BoxBody>, place: T) -> ServiceResponse<BoxBody> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return response;
    }
    response.map_body(|_, body| BoxBody::new(Held { body, _until_sent: place }))
}

struct Held<T> {
    body: BoxBody,
    _until_sent: T,
}

impl<T: Unpin> MessageBody for Held<T> {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(context)
    }
}

//! Accepting connections, never more half-done handshakes at once than there are places for, nor
//! more with one source than its share of them.
//!
//! Who finds no place is closed at once. To let it wait would let those wait who come after it: a
//! single host could keep enrolled nodes out. Who is enrolled dials again.

use std::{io, rc::Rc, sync::Arc, time::Duration};

use actix::Message;
use tokio::{net::TcpListener, time::sleep};

use super::refusals::Refusals;
use crate::{
    session::{
        ended::Ended,
        handshake::{Established, Handshaker},
    },
    shares::{Bound, Full, Place, Source},
};

/// How long to wait when the system gives no connection, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Somebody who connected came through the handshake, or did not.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Accepted {
    pub result: Result<Established, (String, Ended)>,
    /// Free once the Listener has taken the connection over: until then it counts as half open.
    pub place: Place<Source>,
}

/// Accepts for ever.
pub async fn accept(
    listener: TcpListener,
    handshaker: Arc<Handshaker>,
    places: Bound<Source>,
    mut refusals: Refusals,
    to: actix::Recipient<Accepted>,
) {
    let to = Rc::new(to);
    loop {
        let (tcp, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                let pause = pause_after(&error);
                refusals.tell("those who connect", &Ended::NotAccepted(error));
                sleep(pause).await;
                continue;
            }
        };
        let source = Source::from(address.ip());
        let place = match places.take(&source, 1) {
            Ok(place) => place,
            Err(full) => {
                let why = match full {
                    Full::Whole => Ended::HandshakesFull(places.most),
                    Full::Share => Ended::SourceShareFull { with: source, share: places.shares.share() },
                };
                refusals.tell(address, &why);
                continue;
            }
        };
        let (handshaker, to) = (handshaker.clone(), to.clone());
        actix_rt::spawn(async move {
            let result = handshaker.accept(tcp, address).await.map_err(|why| (address.to_string(), why));
            if to.send(Accepted { result, place }).await.is_err() {
                log::debug!("{address} connected after the listener's end");
            }
        });
    }
}

/// A connection that was given up before it was accepted says nothing about the next.
fn pause_after(error: &io::Error) -> Duration {
    match error.kind() {
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset => Duration::ZERO,
        _ => ACCEPT_PAUSE,
    }
}

//! Accepting connections, never more half-done handshakes at once than there are places for, nor
//! more with one source than its share of them.
//!
//! Who finds no place is closed at once. To let it wait would let those wait who come after it: a
//! single host could keep enrolled nodes out. Who is enrolled dials again.

use std::{io, net::IpAddr, rc::Rc, sync::Arc, time::Duration};

use actix::Message;
use tokio::{
    net::TcpListener,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};

use super::refusals::Refusals;
use crate::{
    session::{
        ended::Ended,
        handshake::{Established, Handshaker},
    },
    shares::{InUse, Shares, Source, share_of},
};

/// How long to wait when the system gives no connection, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Places for handshakes of those who connect.
pub struct Places {
    most: usize,
    free: Arc<Semaphore>,
    sources: Arc<Shares<Source>>,
}

/// One of them, taken until this is dropped.
pub struct Place {
    _place: OwnedSemaphorePermit,
    _of_share: InUse<Source>,
}

impl Places {
    pub fn new(most: usize) -> Self {
        Self { most, free: Arc::new(Semaphore::new(most)), sources: Shares::new(share_of(most)) }
    }

    fn take(&self, from: IpAddr) -> Result<Place, Ended> {
        let (with, share) = (Source::from(from), self.sources.share());
        let of_share = self.sources.take(&with, 1).ok_or(Ended::SourceShareFull { with, share })?;
        let place = self.free.clone().try_acquire_owned().map_err(|_| Ended::HandshakesFull(self.most))?;
        Ok(Place { _place: place, _of_share: of_share })
    }
}

/// Somebody who connected came through the handshake, or did not.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Accepted {
    pub result: Result<Established, (String, Ended)>,
    /// Free once the Listener has taken the connection over: until then it counts as half open.
    pub place: Place,
}

/// Accepts for ever.
pub async fn accept(
    listener: TcpListener,
    handshaker: Arc<Handshaker>,
    places: Places,
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
        let place = match places.take(address.ip()) {
            Ok(place) => place,
            Err(why) => {
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

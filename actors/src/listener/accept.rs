//! Accepting connections, never more half-done handshakes at once than there are places for, nor
//! more with one source than its share of them. Where an enrolled node is, places are kept for it that
//! nobody has who comes from elsewhere: all the strangers together cannot keep it out.
//!
//! Who finds no place is closed at once. To let it wait would let those wait who come after it: a
//! single host could keep enrolled nodes out. Who is enrolled dials again.

use std::{io, rc::Rc, sync::Arc, time::Duration};

use actix::Message;
use minidlt_protocol::types::Identity;
use tokio::{net::TcpListener, sync::watch, time::sleep};

use super::{addresses::Known, limits::Room, refusals::Refusals};
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
    pub place: Held,
}

/// A place for a handshake.
pub enum Held {
    Enrolled { _place: Place<Identity> },
    Stranger { _place: Place<Source> },
}

/// The places for handshakes.
pub struct Places {
    /// In the name of each node at its source; who really comes shows in the handshake.
    enrolled: Bound<Identity>,
    strangers: Bound<Source>,
    known: watch::Receiver<Known>,
}

impl Places {
    /// `each` enrolled node has so many places.
    pub fn new(Room { enrolled, strangers }: Room, each: usize, known: watch::Receiver<Known>) -> Self {
        Self { enrolled: Bound::with_share(enrolled, each), strangers: Bound::new(strangers), known }
    }

    fn take(&self, source: Source) -> Result<Held, Ended> {
        let known = self.known.borrow();
        let kept = known.nodes_at(&source).iter().find_map(|node| self.enrolled.take(node, 1).ok());
        if let Some(_place) = kept {
            return Ok(Held::Enrolled { _place });
        }
        let taken = self.strangers.take(&source, 1).map_err(|full| match full {
            Full::Whole => Ended::HandshakesFull(self.strangers.most),
            Full::Share => Ended::SourceShareFull { with: source, share: self.strangers.shares.share() },
        });
        taken.map(|_place| Held::Stranger { _place })
    }
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
        let place = match places.take(address.ip().into()) {
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

//! Accepting connections, never more half-done handshakes at once than a bound.

use std::{io, rc::Rc, sync::Arc, time::Duration};

use actix::Message;
use tokio::{net::TcpListener, sync::Semaphore, time::sleep};

use crate::{
    log_limit::LogLimit,
    metrics::{Metrics, count},
    session::{
        ended::Ended,
        handshake::{Established, Handshaker},
    },
};

/// How long to wait when the system gives no connection, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Somebody who connected came through the handshake, or did not.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Accepted(pub Result<Established, (String, Ended)>);

/// Accepts for ever. Once `half_open` handshakes are under way further connections wait in the
/// system's backlog, first come first served, for at most the handshake's time limit.
pub async fn accept(
    listener: TcpListener,
    handshaker: Arc<Handshaker>,
    half_open: usize,
    metrics: Arc<Metrics>,
    to: actix::Recipient<Accepted>,
) {
    let (room, to) = (Arc::new(Semaphore::new(half_open)), Rc::new(to));
    let mut log = LogLimit::default();
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        let (tcp, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                count(&metrics.connections_refused, "accept-failed");
                if let Some(more) = log.allow() {
                    log::warn!("cannot accept connections: {error}{more}");
                }
                pause(&error).await;
                continue;
            }
        };
        let (handshaker, to) = (handshaker.clone(), to.clone());
        actix_rt::spawn(async move {
            let result = handshaker.accept(tcp, address).await;
            drop(place);
            if to.send(Accepted(result.map_err(|why| (address.to_string(), why)))).await.is_err() {
                log::debug!("{address} connected after the listener's end");
            }
        });
    }
}

/// A connection that was given up before it was accepted says nothing about the next.
async fn pause(error: &io::Error) {
    if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
        sleep(ACCEPT_PAUSE).await;
    }
}

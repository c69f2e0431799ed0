//! Connecting to a node that may just have become reachable.
//!
//! The system repeats a lost SYN after 1 s, and later in ever longer pauses: an attempt begun before a
//! network was healed may be that late. So another attempt is begun beside it every [`CONNECT_EVERY`], and the
//! first that connects wins.

use std::{io, net::SocketAddr, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    net::TcpStream,
    time::{MissedTickBehavior, interval, timeout},
};

/// How often another attempt begins: what a healed network waits for, at most.
const CONNECT_EVERY: Duration = Duration::from_millis(400);
/// How long an attempt may take; the first has all the handshake's time, for links that are slower
/// than that. So at most three are under way.
const ATTEMPT: Duration = Duration::from_millis(800);

/// A connection with one of these addresses, tried in turn. Given up by who asks, or where all
/// refuse.
pub async fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut attempts = FuturesUnordered::new();
    let mut begin = interval(CONNECT_EVERY);
    begin.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut begun = 0;
    loop {
        tokio::select! {
            _ = begin.tick() => {
                let address = addresses.get(begun % addresses.len().max(1)).ok_or(io::ErrorKind::AddrNotAvailable)?;
                attempts.push(attempt(*address, begun == 0));
                begun += 1;
            }
            Some(outcome) = attempts.next(), if !attempts.is_empty() => match outcome {
                Ok(connected) => return Ok(connected),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
                Err(_) if begun < addresses.len() => begin.reset_immediately(),
                Err(error) => return Err(error),
            },
        }
    }
}

async fn attempt(address: SocketAddr, first: bool) -> io::Result<TcpStream> {
    let connecting = TcpStream::connect(address);
    match first {
        true => connecting.await,
        false => timeout(ATTEMPT, connecting).await?,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use socket2::{Domain, Socket, Type};
    use tokio::net::TcpListener;

    use super::*;

    fn loopback() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    /// A port where SYNs are lost: its queue of connections not yet accepted is full.
    fn deaf() -> (Socket, std::net::TcpStream, SocketAddr) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&loopback().into()).unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let waiting = std::net::TcpStream::connect(address).unwrap();
        (socket, waiting, address)
    }

    #[actix_rt::test]
    async fn a_lost_syn_costs_no_more_than_the_time_between_two_attempts() {
        let (socket, _waiting, address) = deaf();
        let connecting = actix_rt::spawn(async move { connect(&[address]).await });
        // The system has just repeated the first attempt's, and does so again in almost a second.
        tokio::time::sleep(Duration::from_millis(3_150)).await;
        assert!(!connecting.is_finished(), "nobody took it");
        let (healed, _accepted) = (Instant::now(), socket.accept().unwrap());
        connecting.await.unwrap().expect("it connects");
        let took = healed.elapsed();
        println!("connected {} ms after the network was healed", took.as_millis());
        assert!(took < Duration::from_millis(700), "{took:?}");
    }

    #[actix_rt::test]
    async fn addresses_are_tried_in_turn_and_a_refusal_waits_for_no_tick() {
        let (_socket, _waiting, deaf) = deaf();
        let refusing = std::net::TcpListener::bind(loopback()).unwrap().local_addr().unwrap();
        let listener = TcpListener::bind(loopback()).await.unwrap();
        let listening = listener.local_addr().unwrap();
        for addresses in [[refusing, listening], [deaf, listening], [listening, deaf]] {
            let connected = connect(&addresses).await.unwrap();
            assert_eq!(connected.peer_addr().unwrap(), listening);
        }
        let error = connect(&[refusing, refusing]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(connect(&[]).await.unwrap_err().kind(), io::ErrorKind::AddrNotAvailable);
    }
}

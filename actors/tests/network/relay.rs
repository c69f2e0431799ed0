//! A relay on the way to a node, which a test cuts, slows down and heals. What it holds back is not
//! lost, as TCP would send it again; connections that are made meanwhile lose their SYNs.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use socket2::{Domain, Socket, Type};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
    task::JoinHandle,
    time::sleep,
};

/// What a slow link takes at once, in bytes, and how long for that: 20 KB/s.
const SLOW_BYTES: usize = 1 << 10;
const SLOW_TIME: Duration = Duration::from_millis(50);
/// As little as the system gives: what waits there has been taken, as far as the sender knows.
const RECEIVE_BUFFER: usize = 4 << 10;

/// How the relay's two sides are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    Good,
    Slow,
    /// Without a word: what goes there is lost, what comes back, or both.
    Cut {
        there: bool,
        back: bool,
    },
    /// Told: connections are closed, new ones refused.
    Refused,
    /// Connections that are made go on no more, for good: what was said on them is lost, and TCP sends it
    /// again too late.
    Lost,
}

#[derive(Clone, Copy)]
enum Way {
    There,
    Back,
}

impl Link {
    fn passes(&self, way: Way) -> bool {
        match (self, way) {
            (Self::Good | Self::Slow | Self::Lost, _) => true,
            (Self::Cut { there, .. }, Way::There) => !there,
            (Self::Cut { back, .. }, Way::Back) => !back,
            (Self::Refused, _) => false,
        }
    }
}

pub struct Relay {
    pub address: SocketAddr,
    target: String,
    link: watch::Sender<Link>,
    serving: Option<JoinHandle<()>>,
    /// A connection was lost.
    taken: Arc<Notify>,
    /// Fills the queue of connections not yet accepted, so that SYNs are lost.
    filler: Option<TcpStream>,
}

impl Relay {
    pub fn to(target: &str) -> Self {
        let socket = listen(SocketAddr::from(([127, 0, 0, 1], 0)));
        let address = socket.local_addr().unwrap();
        let (target, link, taken) = (target.to_owned(), watch::Sender::new(Link::Good), Arc::new(Notify::new()));
        let serving = Some(actix_rt::spawn(serve(socket, target.clone(), link.subscribe(), taken.clone())));
        Self { address, target, link, serving, taken, filler: None }
    }

    /// Waits until a connection was made that is lost.
    pub async fn one_lost(&self) {
        self.taken.notified().await;
    }

    pub async fn set(&mut self, link: Link) {
        let was = self.link.send_replace(link);
        self.filler = match link {
            Link::Cut { .. } => Some(TcpStream::connect(self.address).await.unwrap()),
            _ => None,
        };
        if link == Link::Refused {
            let serving = self.serving.take().unwrap();
            serving.abort();
            // The port refuses once the task is gone.
            let _aborted = serving.await;
        } else if was == Link::Refused {
            let socket = listen(self.address);
            self.serving =
                Some(actix_rt::spawn(serve(socket, self.target.clone(), self.link.subscribe(), self.taken.clone())));
        }
    }
}

/// One connection may wait to be accepted, and no more.
fn listen(address: SocketAddr) -> TcpListener {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.set_recv_buffer_size(RECEIVE_BUFFER).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.listen(0).unwrap();
    TcpListener::from_std(socket.into()).unwrap()
}

async fn serve(socket: TcpListener, target: String, mut link: watch::Receiver<Link>, taken: Arc<Notify>) {
    let mut lost = Vec::new();
    loop {
        link.wait_for(|link| matches!(link, Link::Good | Link::Slow | Link::Lost)).await.unwrap();
        tokio::select! {
            biased;
            _ = link.changed() => {}
            accepted = socket.accept() => {
                let (near, _) = accepted.unwrap();
                if *link.borrow() == Link::Lost {
                    lost.push(near);
                    taken.notify_one();
                    continue;
                }
                let target = target.clone();
                let link = link.clone();
                actix_rt::spawn(async move {
                    // Where the node does not run, its connections are closed.
                    if let Ok(far) = TcpStream::connect(&target).await {
                        forward(near, far, link).await;
                    }
                });
            }
        }
    }
}

async fn forward(near: TcpStream, far: TcpStream, link: watch::Receiver<Link>) {
    let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
    let both = async {
        tokio::join!(
            pump(from_near, to_far, link.clone(), Way::There),
            pump(from_far, to_near, link.clone(), Way::Back)
        )
    };
    let mut refused = link.clone();
    tokio::select! {
        _ = both => {}
        _ = refused.wait_for(|link| *link == Link::Refused) => {}
    }
}

/// Passes bytes, and the end, on; what comes while the way is cut is kept until it is healed.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut link: watch::Receiver<Link>,
    way: Way,
) {
    let mut buffer = [0; SLOW_BYTES];
    loop {
        let read = from.read(&mut buffer).await.unwrap_or(0);
        let Ok(now) = link.wait_for(|link| link.passes(way)).await.map(|link| *link) else { return };
        if read == 0 || to.write_all(&buffer[..read]).await.is_err() {
            let _either_end = to.shutdown().await;
            return;
        }
        if now == Link::Slow {
            sleep(SLOW_TIME).await;
        }
    }
}

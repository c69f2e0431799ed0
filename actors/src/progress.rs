//! Whether bytes still move on a connection, each way: what is slow must not be taken for dead.
//!
//! TLS hands on whole records, and a frame is many of them, so that a deadline for either would end
//! slow connections. Here every byte counts that the system hands over, or takes.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, sleep_until},
};

/// Which way bytes move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    In,
    Out,
}

/// When bytes last moved.
pub struct Progress {
    began: Instant,
    /// Microseconds since then; by way.
    last: [AtomicU64; 2],
}

impl Progress {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { began: Instant::now(), last: Default::default() })
    }

    fn note(&self, way: Way) {
        let micros = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.last[way as usize].store(micros, Ordering::Relaxed);
    }

    fn last(&self, way: Way) -> Instant {
        self.began + Duration::from_micros(self.last[way as usize].load(Ordering::Relaxed))
    }

    /// Waits until nothing has moved this way for `limit`, counted from the beginning.
    pub async fn still(&self, way: Way, limit: Duration) {
        self.still_since(self.began, way, limit).await;
    }

    async fn still_since(&self, since: Instant, way: Way, limit: Duration) {
        loop {
            let deadline = self.last(way).max(since) + limit;
            sleep_until(deadline).await;
            if self.last(way) + limit <= deadline {
                return;
            }
        }
    }

    /// What `doing` comes to; `None` where nothing has moved this way for `limit`, counted from now on.
    pub async fn unless_still<F: Future>(&self, way: Way, limit: Duration, doing: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            done = doing => Some(done),
            () = self.still_since(Instant::now(), way, limit) => None,
        }
    }
}

/// A stream whose bytes are noted as they move.
pub struct Watched<S> {
    stream: S,
    progress: Arc<Progress>,
}

impl<S> Watched<S> {
    pub fn new(stream: S, progress: Arc<Progress>) -> Self {
        Self { stream, progress }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if buffer.filled().len() > before {
            self.progress.note(Way::In);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let taken = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        if taken > 0 {
            self.progress.note(Way::Out);
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::sleep,
    };

    use super::*;

    const LIMIT: Duration = Duration::from_millis(200);

    #[actix_rt::test]
    async fn what_moves_slowly_is_waited_for_and_what_stands_still_is_not() {
        let (near, mut far) = tokio::io::duplex(16);
        let progress = Progress::new();
        let mut near = Watched::new(near, progress.clone());
        let trickle = actix_rt::spawn(async move {
            for byte in 0..8 {
                far.write_u8(byte).await.unwrap();
                sleep(LIMIT / 4).await;
            }
            far
        });
        // Twice the limit, all in all.
        let all = progress.unless_still(Way::In, LIMIT, async {
            let mut bytes = [0; 8];
            near.read_exact(&mut bytes).await.map(|_| bytes)
        });
        assert_eq!(all.await.expect("it moved").unwrap(), [0, 1, 2, 3, 4, 5, 6, 7]);
        let _far = trickle.await.unwrap();
        assert!(progress.unless_still(Way::In, LIMIT, near.read_u8()).await.is_none());
    }

    #[actix_rt::test]
    async fn one_way_says_nothing_of_the_other() {
        let (near, mut far) = tokio::io::duplex(16);
        let progress = Progress::new();
        let mut near = Watched::new(near, progress.clone());
        let talking = actix_rt::spawn(async move {
            while far.read_u8().await.is_ok() {
                sleep(LIMIT / 4).await;
            }
        });
        let writing = progress.unless_still(Way::In, LIMIT, async {
            while near.write_u8(0).await.is_ok() {}
            pending::<()>().await;
        });
        assert!(writing.await.is_none(), "what goes out is not what comes in");
        drop(near);
        talking.await.unwrap();
    }
}

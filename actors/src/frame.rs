//! Frames between nodes: a length in four big-endian bytes, then as many bytes.
//!
//! A length over the limit is refused before anything is allocated for it, and the buffer grows
//! with what has arrived, never with what was announced. A frame without content says nothing but
//! that its sender is still there, and goes no further.

use std::{io, sync::Arc, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufWriter};

use crate::progress::{Progress, Way};

/// Largest frame before the handshake is done, in bytes: an `Alive` has a few hundred.
pub const MAX_HANDSHAKE_FRAME_BYTES: usize = 64 << 10;

/// The length before each frame, in bytes.
const HEADER_BYTES: usize = 4;
/// Least room for one read, and most bytes of one write, in bytes.
const CHUNK_BYTES: usize = 64 << 10;
/// Frames are gathered up to one TLS record, in bytes.
const WRITE_BUFFER_BYTES: usize = 16 << 10;

/// Why no further frame can come or go.
#[derive(Debug, Error)]
pub enum FrameError {
    #[error("a frame of {announced} bytes was announced, at most {limit} are accepted")]
    Oversized { announced: usize, limit: usize },
    #[error("the other side closed the connection")]
    Closed,
    #[error("the other side closed the connection within a frame")]
    Torn,
    #[error("nothing was received for {} ms", .0.as_millis())]
    Idle(Duration),
    #[error("the other side took nothing for {} ms", .0.as_millis())]
    Stalled(Duration),
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
}

impl FrameError {
    /// A stable name for counters.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Oversized { .. } => "oversized-frame",
            Self::Closed => "closed",
            Self::Torn => "torn-frame",
            Self::Idle(_) => "idle",
            Self::Stalled(_) => "stalled",
            Self::Io(_) => "io",
        }
    }
}

/// The receiving half of a connection.
pub struct FrameReader<R> {
    from: R,
    buffer: BytesMut,
    limit: usize,
    idle: Duration,
    progress: Arc<Progress>,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// `limit` is of one frame, in bytes; `idle` is how long nothing at all may come.
    pub fn new(from: R, limit: usize, idle: Duration) -> Self {
        Self { from, buffer: BytesMut::new(), limit, idle, progress: Progress::new() }
    }

    /// Beneath `from` bytes are noted as they come: before it has enough of them to hand any on.
    pub fn measured_by(self, progress: Arc<Progress>) -> Self {
        Self { progress, ..self }
    }

    pub fn set_limits(&mut self, limit: usize, idle: Duration) {
        self.limit = limit;
        self.idle = idle;
    }

    /// The next frame. What was read of an unfinished one is kept if the future is dropped.
    pub async fn next(&mut self) -> Result<Bytes, FrameError> {
        loop {
            if let Some(announced) = self.announced() {
                if announced > self.limit {
                    return Err(FrameError::Oversized { announced, limit: self.limit });
                }
                if self.buffer.len() - HEADER_BYTES >= announced {
                    self.buffer.advance(HEADER_BYTES);
                    if announced == 0 {
                        continue;
                    }
                    return Ok(self.buffer.split_to(announced).freeze());
                }
            }
            self.buffer.reserve(CHUNK_BYTES);
            let reading = self.from.read_buf(&mut self.buffer);
            let read = self.progress.unless_still(Way::In, self.idle, reading).await;
            match read.ok_or(FrameError::Idle(self.idle))?? {
                0 if self.buffer.is_empty() => return Err(FrameError::Closed),
                0 => return Err(FrameError::Torn),
                _ => {}
            }
        }
    }

    fn announced(&self) -> Option<usize> {
        let header = self.buffer.first_chunk::<HEADER_BYTES>()?;
        // A length that is no usize is over any limit.
        Some(usize::try_from(u32::from_be_bytes(*header)).unwrap_or(usize::MAX))
    }
}

/// The sending half of a connection.
pub struct FrameWriter<W> {
    to: BufWriter<W>,
    stall: Duration,
    progress: Arc<Progress>,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    /// `stall` is how long the other side may take nothing.
    pub fn new(to: W, stall: Duration) -> Self {
        Self { to: BufWriter::with_capacity(WRITE_BUFFER_BYTES, to), stall, progress: Progress::new() }
    }

    /// Beneath `to` bytes are noted as they go: before it has handed on all that it was given.
    pub fn measured_by(self, progress: Arc<Progress>) -> Self {
        Self { progress, ..self }
    }

    /// Writes one frame, maybe only into the buffer.
    pub async fn write(&mut self, frame: &[u8]) -> Result<(), FrameError> {
        let limit = u32::MAX as usize;
        let length = u32::try_from(frame.len());
        let length = length.map_err(|_| FrameError::Oversized { announced: frame.len(), limit })?;
        self.write_chunk(&length.to_be_bytes()).await?;
        for chunk in frame.chunks(CHUNK_BYTES) {
            self.write_chunk(chunk).await?;
        }
        Ok(())
    }

    /// Says that this side is still there, and nothing else.
    pub async fn beat(&mut self) -> Result<(), FrameError> {
        self.write(&[]).await?;
        self.flush().await
    }

    pub async fn flush(&mut self) -> Result<(), FrameError> {
        let flushed = self.progress.unless_still(Way::Out, self.stall, self.to.flush()).await;
        Ok(flushed.ok_or(FrameError::Stalled(self.stall))??)
    }

    async fn write_chunk(&mut self, chunk: &[u8]) -> Result<(), FrameError> {
        let written = self.progress.unless_still(Way::Out, self.stall, self.to.write_all(chunk)).await;
        Ok(written.ok_or(FrameError::Stalled(self.stall))??)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_millis(20);

    fn reader(bytes: &[u8], limit: usize) -> FrameReader<&[u8]> {
        FrameReader::new(bytes, limit, IDLE)
    }

    #[actix_rt::test]
    async fn frames_come_out_as_they_went_in() {
        let (near, far) = tokio::io::duplex(7);
        let frames = [vec![1], vec![2; 100_000]];
        let sent = [vec![], vec![1], vec![], vec![], vec![2; 100_000], vec![]];
        let writing = actix_rt::spawn(async move {
            let mut writer = FrameWriter::new(near, IDLE);
            for frame in &sent {
                writer.write(frame).await.unwrap();
            }
            writer.flush().await.unwrap();
        });
        let mut reader = FrameReader::new(far, 100_000, IDLE);
        for frame in &frames {
            assert_eq!(reader.next().await.unwrap(), frame);
        }
        writing.await.unwrap();
        assert!(matches!(reader.next().await, Err(FrameError::Closed)));
    }

    #[actix_rt::test]
    async fn an_announced_length_allocates_nothing() {
        let mut reader = reader(&[0xff, 0xff, 0xff, 0xff, 1], 16 << 20);
        let error = reader.next().await.unwrap_err();
        assert!(matches!(error, FrameError::Oversized { announced: 0xffff_ffff, limit: 0x100_0000 }));
        assert!(reader.buffer.capacity() <= 2 * CHUNK_BYTES);
        let mut reader = super::FrameReader::new(&[0x01, 0x00, 0x00, 0x00, 1][..], 16 << 20, IDLE);
        assert!(matches!(reader.next().await, Err(FrameError::Torn)));
        assert!(reader.buffer.capacity() <= 2 * CHUNK_BYTES);
    }

    #[actix_rt::test]
    async fn silence_and_deafness_have_an_end() {
        let (near, _far) = tokio::io::duplex(16);
        let (from, to) = tokio::io::split(near);
        assert!(matches!(FrameReader::new(from, 16, IDLE).next().await, Err(FrameError::Idle(_))));
        let mut writer = FrameWriter::new(to, IDLE);
        assert!(matches!(writer.write(&[0; 100_000]).await, Err(FrameError::Stalled(_))));
    }
}

//! Limits on the streams that peers open: per connection, and for all strangers together.
//!
//! A peer may send 256 KiB on each stream before this node reads it, and no setting of Yamux lowers that, so memory is
//! bounded by the number of streams. Streams beyond a limit are reset unread.
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::{AsyncRead, AsyncWrite};
use libp2p::PeerId;
use libp2p::core::StreamMuxer;
use libp2p::core::muxing::{StreamMuxerBox, StreamMuxerEvent, SubstreamBox};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::limits;
use super::operators::Operators;

/// The stream limits that all connections share.
#[derive(Clone)]
pub(super) struct Pool {
    operators: Operators,
    strangers: Arc<Semaphore>,
}

impl Pool {
    pub(super) fn new(operators: Operators) -> Self {
        Self { operators, strangers: Arc::new(Semaphore::new(limits::STREAMS_STRANGERS_MAX)) }
    }

    /// Limits the streams that `peer` opens on a connection.
    pub(super) fn bound(&self, peer: &PeerId, muxer: StreamMuxerBox) -> Bounded {
        let strangers = (!self.operators.has(peer)).then(|| Arc::clone(&self.strangers));
        let most =
            if strangers.is_some() { limits::STREAMS_PER_STRANGER_MAX } else { limits::STREAMS_PER_OPERATOR_MAX };
        Bounded { muxer, strangers, own: Arc::new(Semaphore::new(most)), most, refused: 0 }
    }
}

/// A connection with a limit on the streams that its peer opens.
pub(super) struct Bounded {
    muxer: StreamMuxerBox,
    strangers: Option<Arc<Semaphore>>,
    own: Arc<Semaphore>,
    most: usize,
    refused: u32,
}

impl Bounded {
    /// A permit for one more stream. Once half of the strangers' permits are taken, the rest are for connections that
    /// have few streams.
    fn permit(&self) -> Option<StreamPermit> {
        let own = Arc::clone(&self.own).try_acquire_owned().ok()?;
        let Some(strangers) = &self.strangers else { return Some(StreamPermit { _own: Some(own), _shared: None }) };
        let open = self.most - self.own.available_permits();
        let crowded = strangers.available_permits() < limits::STREAMS_STRANGERS_MAX / 2;
        if crowded && open > limits::STREAMS_PER_STRANGER_CROWDED_MAX {
            return None;
        }
        let shared = Arc::clone(strangers).try_acquire_owned().ok()?;
        Some(StreamPermit { _own: Some(own), _shared: Some(shared) })
    }
}

/// Counts one stream against its limits; given back when the stream is dropped.
#[derive(Default)]
struct StreamPermit {
    _own: Option<OwnedSemaphorePermit>,
    _shared: Option<OwnedSemaphorePermit>,
}

/// A stream that holds its permit.
pub(super) struct Stream {
    stream: SubstreamBox,
    _permit: StreamPermit,
}

impl StreamMuxer for Bounded {
    type Substream = Stream;
    type Error = io::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        loop {
            let stream = ready!(Pin::new(&mut self.muxer).poll_inbound(cx))?;
            if let Some(permit) = self.permit() {
                return Poll::Ready(Ok(Stream { stream, _permit: permit }));
            }
            self.refused += 1;
            if self.refused > limits::STREAMS_REFUSED_MAX {
                return Poll::Ready(Err(io::Error::other("too many streams")));
            }
        }
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        let stream = ready!(Pin::new(&mut self.muxer).poll_outbound(cx))?;
        Poll::Ready(Ok(Stream { stream, _permit: StreamPermit::default() }))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.muxer).poll_close(cx)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        Pin::new(&mut self.muxer).poll(cx)
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_read(cx, bytes)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

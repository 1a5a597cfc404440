//! A limit on incoming handshakes per second, for a transport whose senders can forge their addresses.
//!
//! QUIC answers every handshake before the sender has shown that the address is its own, and keeps state for each for
//! three seconds. Handshakes beyond the limit wait unread in QUIC's queue; QUIC itself refuses more once it is full.
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use libp2p::Multiaddr;
use libp2p::core::Transport;
use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use tokio::time::{Instant, Sleep, sleep_until};

use super::limits;

/// A transport that accepts at most [`limits::QUIC_HANDSHAKES_PER_SECOND_MAX`] handshakes per second.
pub(super) struct Paced<T> {
    inner: T,
    /// Handshakes in the second that ends with `next`.
    begun: u32,
    next: Pin<Box<Sleep>>,
}

impl<T> Paced<T> {
    pub(super) fn new(inner: T) -> Self {
        Self { inner, begun: 0, next: Box::pin(sleep_until(Instant::now())) }
    }

    /// Ready while another handshake may begin.
    fn poll_pace(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.begun >= limits::QUIC_HANDSHAKES_PER_SECOND_MAX {
            ready!(self.next.as_mut().poll(cx));
            self.begun = 0;
        }
        Poll::Ready(())
    }

    fn count(&mut self) {
        if self.begun == 0 {
            self.next.as_mut().reset(Instant::now() + Duration::from_secs(1));
        }
        self.begun += 1;
    }
}

impl<T: Transport + Unpin> Transport for Paced<T> {
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = T::Dial;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<T::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(&mut self, address: Multiaddr, options: DialOpts) -> Result<T::Dial, TransportError<T::Error>> {
        self.inner.dial(address, options)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        ready!(self.poll_pace(cx));
        let event = ready!(Pin::new(&mut self.inner).poll(cx));
        if event.is_upgrade() {
            self.count();
        }
        Poll::Ready(event)
    }
}

//! How many requests one client's address block may send: what one asks for, the others cannot.
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::watch;

use super::input;
use super::{ApiError, REQUESTS_MAX};
use crate::config::LiveSettings;
use crate::submit::admission::block;

/// A block may save up the requests of so many seconds.
const BURST_SECONDS: f64 = 5.0;
/// Most requests of one block that are answered at the same time: a quarter of all.
const AT_ONCE_MAX: usize = REQUESTS_MAX / 4;
/// Most blocks that are remembered. When full, those that asked for nothing lately are forgotten; if there are none, the
/// request is answered without being counted.
const BLOCKS_MAX: usize = 65_536;

/// The address block of a request's client, unless that is this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ClientBlock([u8; 6]);

/// What a block has left.
#[derive(Clone, Copy)]
struct Bucket {
    /// Requests that it may send now.
    left: f64,
    /// When that was counted.
    at: Instant,
    /// Its requests that are being answered.
    running: usize,
}

/// The rates of a listener, as the settings want them. Requests from this machine are not counted.
pub struct Rates {
    live: watch::Receiver<Arc<LiveSettings>>,
    blocks: Mutex<HashMap<[u8; 6], Bucket>>,
}

/// Answers a request if its client's block has one left.
pub(super) async fn limit(State(rates): State<Arc<Rates>>, mut request: Request, next: Next) -> Response {
    let (access, rate) = {
        let live = rates.live.borrow();
        (live.access.clone(), live.access.requests_per_second)
    };
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
    let client = peer.map(|peer| input::client(&access, peer, request.headers()));
    let Some(block) = client.and_then(block) else { return next.run(request).await };
    request.extensions_mut().insert(ClientBlock(block));
    if rate == 0 {
        return next.run(request).await;
    }
    match rates.take(block, rate, Instant::now()) {
        Ok(counted) => {
            let response = next.run(request).await;
            drop(counted);
            response
        }
        Err(seconds) => {
            let message =
                format!("more than {rate} requests a second, or too many at once, come from this address block");
            ApiError::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", message).retry_after(seconds).into_response()
        }
    }
}

/// A request that is being answered; counted until it is dropped.
struct Running<'a>(Option<(&'a Rates, [u8; 6])>);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let Some((rates, block)) = self.0 else { return };
        if let Some(bucket) = rates.lock().get_mut(&block) {
            bucket.running = bucket.running.saturating_sub(1);
        }
    }
}

impl Rates {
    /// The buckets of no block yet.
    #[must_use]
    pub fn new(live: watch::Receiver<Arc<LiveSettings>>) -> Arc<Self> {
        Arc::new(Self { live, blocks: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 6], Bucket>> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a request of a block that may send `rate` a second.
    ///
    /// # Errors
    /// After how many seconds it may send one again.
    fn take(&self, block: [u8; 6], rate: u32, now: Instant) -> Result<Running<'_>, u32> {
        let rate = f64::from(rate);
        let most = rate * BURST_SECONDS;
        let mut blocks = self.lock();
        if blocks.len() >= BLOCKS_MAX && !blocks.contains_key(&block) {
            let full =
                |bucket: &Bucket| bucket.left + now.saturating_duration_since(bucket.at).as_secs_f64() * rate >= most;
            blocks.retain(|_, bucket| bucket.running > 0 || !full(bucket));
            if blocks.len() >= BLOCKS_MAX {
                return Ok(Running(None));
            }
        }
        let bucket = blocks.entry(block).or_insert(Bucket { left: most, at: now, running: 0 });
        bucket.left = most.min(bucket.left + now.saturating_duration_since(bucket.at).as_secs_f64() * rate);
        bucket.at = now;
        if bucket.left < 1.0 || bucket.running >= AT_ONCE_MAX {
            return Err(1);
        }
        bucket.left -= 1.0;
        bucket.running += 1;
        Ok(Running(Some((self, block))))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use super::*;

    fn rates() -> Rates {
        let (_, live) = watch::channel(Arc::new(LiveSettings::default()));
        Rates { live, blocks: Mutex::default() }
    }

    fn of(address: [u8; 4]) -> [u8; 6] {
        block(IpAddr::from(address)).unwrap()
    }

    #[test]
    fn a_block_has_what_it_saved_up_and_then_its_rate() {
        let (rates, client, begin) = (rates(), of([198, 51, 100, 7]), Instant::now());
        let sent = |at| (0..1_000).take_while(|_| rates.take(client, 10, at).is_ok()).count();
        assert_eq!(sent(begin), 50);
        assert_eq!(sent(begin + Duration::from_secs(2)), 20);
        assert!(rates.take(of([198, 51, 100, 8]), 10, begin + Duration::from_secs(2)).is_err(), "one block");
        assert!(rates.take(of([198, 51, 101, 7]), 10, begin).is_ok(), "others have their own");
    }

    #[test]
    fn a_block_has_a_quarter_of_the_places() {
        let (rates, client, now) = (rates(), of([203, 0, 113, 1]), Instant::now());
        let held: Vec<_> = (0..1_000).map_while(|_| rates.take(client, 1_000, now).ok()).collect();
        assert_eq!(held.len(), AT_ONCE_MAX);
        drop(held);
        assert!(rates.take(client, 1_000, now).is_ok());
    }

    #[test]
    fn blocks_that_ask_no_more_are_forgotten() {
        let (rates, begin) = (rates(), Instant::now());
        let client = |i: usize| {
            let [.., a, b, c] = u32::try_from(i).unwrap().to_be_bytes();
            of([a + 1, b, c, 1])
        };
        for i in 0..BLOCKS_MAX {
            drop(rates.take(client(i), 10, begin));
        }
        assert!(
            rates.take(client(BLOCKS_MAX), 10, begin).is_ok_and(|one| one.0.is_none()),
            "not counted, but answered"
        );
        let later = begin + Duration::from_secs(10);
        assert!(rates.take(client(BLOCKS_MAX), 10, later).is_ok_and(|one| one.0.is_some()));
        assert_eq!(rates.lock().len(), 1);
    }
}

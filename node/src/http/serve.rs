//! The connections of a listener: bounds on their number, life and slowness.
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::{sleep, timeout};
use tower::ServiceExt;

use super::READS_MAX;
use crate::submit::admission::block;

/// How long a connection must have waited for its client before it may be closed for another of the same block, or of one
/// that has as many. On a busy machine a request may have arrived without having been read yet.
const GRACE: Duration = Duration::from_secs(1);
/// Connections that wait until one has waited that long; further ones are closed.
const NEWCOMERS_MAX: usize = 32;
/// How long a client may take to send a request's head, including silence between requests. Longer than the minute for
/// which proxies keep idle connections, so that the proxy closes first: a request sent into a closing connection is
/// answered 502. Under pressure a silent connection makes room long before: see [`serve`].
pub(super) const HEADER_READ: Duration = Duration::from_secs(75);
/// After this time a connection ends with its current answer, so that slow readers don't stay forever.
const CONNECTION_LIFE: Duration = Duration::from_secs(600);
/// How long an ending connection may still take for its current answer. With the long reads whose clients are gone, for which
/// as long is waited again, less than the ten seconds after which container runtimes kill.
const CONNECTION_END: Duration = Duration::from_secs(4);
/// How often an ending connection is looked at.
const END_LOOK: Duration = Duration::from_millis(100);
/// At so many looks in a row a client must have taken nothing of an answer that is being sent to it, to have given up on it.
const LOOKS_MAX: u32 = 10;
/// Longest request head, in bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Serves like [`serve`], on a runtime of its own with `threads` threads, so that no answer is computed, and nothing is
/// read from disk, on the threads that poll the network. The receiver completes when it has ended.
///
/// # Errors
/// The system gives no thread.
pub fn serve_apart(
    name: &'static str,
    threads: usize,
    listener: std::net::TcpListener,
    router: Router,
    connections_max: u32,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<oneshot::Receiver<()>> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let builder = builder.enable_all().worker_threads(threads).max_blocking_threads(READS_MAX).thread_name(name);
    let (runtime, (done, ended)) = (builder.build()?, oneshot::channel());
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        // The thread ends in any case, and with it `done`.
        let served = runtime.block_on(async {
            let listener = TcpListener::from_std(listener)?;
            // On a thread of the runtime: this one only waits.
            tokio::spawn(serve(listener, router, connections_max, stop)).await.map_err(std::io::Error::other)
        });
        if let Err(error) = served {
            tracing::error!(%error, listener = name, "a listener ended");
        }
        // Long reads whose clients are gone may still run.
        runtime.shutdown_timeout(CONNECTION_END);
        drop(done);
    })?;
    Ok(ended)
}

/// Serves until `stop` completes, then gives current answers a few seconds to finish.
///
/// With `connections_max` open connections, one more is accepted by closing the one that has waited longest for its client,
/// of those of the address block that has the most.
pub async fn serve(listener: TcpListener, router: Router, connections_max: u32, stop: impl Future<Output = ()>) {
    let room = ConnectionRoom::new(connections_max as usize);
    let (ending, ended) = watch::channel(false);
    let mut stop = pin!(stop);
    loop {
        let (stream, peer) = tokio::select! {
            () = &mut stop => break,
            accepted = accept(&listener) => accepted,
        };
        let (router, ended, room) = (router.clone(), ended.clone(), room.clone());
        // Nobody waits for the room of another: the next connection may have room already.
        tokio::spawn(async move {
            let origin = ClientOrigin::of(peer.ip());
            let Some(permit) = room.permit(origin).await else { return };
            let turn = Turn::new(&room.connections, origin);
            connection(stream, peer, (router, turn), ended).await;
            drop(permit);
        });
    }
    drop(listener);
    ending.send_replace(true);
    let _ = timeout(CONNECTION_END, room.permits.acquire_many(connections_max)).await;
}

/// Accepts the next connection.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            // Out of files, or the client is gone: trying again at once would not help.
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Whose connections are counted together: an address block's, or a loopback address's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ClientOrigin {
    Block([u8; 6]),
    Local(IpAddr),
}

impl ClientOrigin {
    fn of(peer: IpAddr) -> Self {
        block(peer).map_or(Self::Local(peer), Self::Block)
    }
}

/// A listener's room for connections.
#[derive(Clone)]
struct ConnectionRoom {
    permits: Arc<Semaphore>,
    newcomers: Arc<Semaphore>,
    connections: Arc<OpenConnections>,
}

impl ConnectionRoom {
    fn new(most: usize) -> Self {
        let permits = [most, NEWCOMERS_MAX].map(|permits| Arc::new(Semaphore::new(permits)));
        let [permits, newcomers] = permits;
        Self { permits, newcomers, connections: Arc::default() }
    }

    /// A permit for a connection of this origin. If none is free, another connection is ended; `None` if none may be, and
    /// enough wait for that already.
    async fn permit(&self, origin: ClientOrigin) -> Option<OwnedSemaphorePermit> {
        let mut place = None;
        loop {
            // Fails while others have ended a connection and wait for its permit.
            if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
                return Some(permit);
            }
            let Some(pause) = self.connections.make_room(origin) else {
                return timeout(GRACE, Arc::clone(&self.permits).acquire_owned()).await.ok()?.ok();
            };
            if place.is_none() {
                place = Some(self.newcomers.try_acquire().ok()?);
            }
            sleep(pause.max(Duration::from_millis(1))).await;
        }
    }
}

/// The open connections, and those of them that wait for their client, which is slow or idle; longest wait first.
#[derive(Default)]
struct OpenConnections(Mutex<ConnectionQueue>);

#[derive(Default)]
struct ConnectionQueue {
    next: u64,
    waiting: BTreeMap<u64, (Instant, ClientOrigin, Arc<Notify>)>,
    origins: BTreeMap<ClientOrigin, OriginConnections>,
}

/// The connections of one origin: how many are open, and which of them wait.
#[derive(Default)]
struct OriginConnections {
    open: usize,
    waiting: BTreeSet<u64>,
}

impl OpenConnections {
    fn lock(&self) -> MutexGuard<'_, ConnectionQueue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a connection in favour of one more of `origin`: the one that has waited longest, of the origin that has most.
    /// If that has more than `origin` will have, at once; else if it has waited for [`GRACE`]. Returns when to look again
    /// if none was ended.
    fn make_room(&self, origin: ClientOrigin) -> Option<Duration> {
        let mut queue = self.lock();
        let own = queue.origins.get(&origin).map_or(0, |of| of.open);
        let largest = queue.origins.values().filter_map(|of| Some((of.open, Reverse(*of.waiting.first()?)))).max();
        let Some((open, Reverse(longest))) = largest else { return Some(GRACE) };
        let left = queue.waiting.get(&longest).map_or(GRACE, |(since, ..)| GRACE.saturating_sub(since.elapsed()));
        if open <= own + 1 && !left.is_zero() {
            return Some(left);
        }
        if let Some(end) = queue.remove(longest) {
            end.notify_one();
        }
        None
    }
}

impl ConnectionQueue {
    /// Takes a connection from those that wait.
    fn remove(&mut self, since: u64) -> Option<Arc<Notify>> {
        let (_, origin, end) = self.waiting.remove(&since)?;
        if let Some(of) = self.origins.get_mut(&origin) {
            of.waiting.remove(&since);
        }
        Some(end)
    }
}

/// Whose turn it is on a connection: the client's, unless the value from [`Turn::ours`] is held.
#[derive(Clone)]
pub(super) struct Turn(Arc<ConnectionTurn>);

struct ConnectionTurn {
    connections: Arc<OpenConnections>,
    origin: ClientOrigin,
    end: Arc<Notify>,
    since: Mutex<Option<u64>>,
}

impl Turn {
    fn new(connections: &Arc<OpenConnections>, origin: ClientOrigin) -> Self {
        connections.lock().origins.entry(origin).or_default().open += 1;
        let connections = Arc::clone(connections);
        let turn = ConnectionTurn { connections, origin, end: Arc::default(), since: Mutex::default() };
        turn.wait();
        Self(Arc::new(turn))
    }

    /// The node's turn: it works on a request, so the connection is not closed for another.
    pub(super) fn ours(&self) -> Ours {
        self.0.stay();
        Ours(Arc::clone(&self.0))
    }
}

impl ConnectionTurn {
    /// Locks `since` before the queue, like [`ConnectionTurn::stay`]: two tasks of a connection may be here at once.
    fn wait(&self) {
        let mut own = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        let mut queue = self.connections.lock();
        let since = queue.next;
        queue.next += 1;
        queue.waiting.insert(since, (Instant::now(), self.origin, Arc::clone(&self.end)));
        queue.origins.entry(self.origin).or_default().waiting.insert(since);
        *own = Some(since);
    }

    fn is_the_clients(&self) -> bool {
        self.since.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn stay(&self) {
        let mut own = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(since) = own.take() {
            self.connections.lock().remove(since);
        }
    }
}

impl Drop for ConnectionTurn {
    fn drop(&mut self) {
        self.stay();
        let mut queue = self.connections.lock();
        let Some(of) = queue.origins.get_mut(&self.origin) else { return };
        of.open = of.open.saturating_sub(1);
        if of.open == 0 {
            queue.origins.remove(&self.origin);
        }
    }
}

/// Gives the turn back to the client when dropped.
pub(super) struct Ours(Arc<ConnectionTurn>);

impl Drop for Ours {
    fn drop(&mut self) {
        self.0.wait();
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    (router, turn): (Router, Turn),
    mut ended: watch::Receiver<bool>,
) {
    // Answers are small and written whole: Nagle's algorithm would only delay them.
    let _ = stream.set_nodelay(true);
    let (end, whose, sending) = (Arc::clone(&turn.0.end), turn.clone(), Arc::new(Sending::default()));
    let stream = WatchedStream { stream, sending: Arc::clone(&sending) };
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(turn.clone());
        let router = router.clone();
        async move {
            // Lets other tasks run between requests: hyper would answer all requests of a pipeline in one go.
            tokio::task::yield_now().await;
            Ok::<_, Infallible>(router.oneshot(request).await.unwrap_or_else(|never| match never {}))
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_READ).max_buf_size(HEAD_BYTES_MAX);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        // An error is the client's: it left, was too slow, or does not speak HTTP.
        _ = connection.as_mut() => return,
        // Closed to make room for another connection.
        () = end.notified() => return,
        () = sleep(CONNECTION_LIFE) => {}
        _ = ended.wait_for(|ended| *ended) => {}
    }
    connection.as_mut().graceful_shutdown();
    let gone = abandoned(&whose, &sending);
    tokio::select! {
        _ = timeout(CONNECTION_END, connection) => {}
        () = gone => {}
    }
}

/// Completes when only the client of an ending connection keeps it open: it has not sent the rest of its request, or takes
/// nothing of its answer.
async fn abandoned(turn: &Turn, sending: &Sending) {
    let (mut taken, mut looks) = (sending.taken.load(Ordering::Relaxed), 0);
    loop {
        sleep(END_LOOK).await;
        let now = sending.taken.load(Ordering::Relaxed);
        let waits = turn.0.is_the_clients() && now == taken;
        (taken, looks) = (now, if waits { looks + 1 } else { 0 });
        if looks >= if sending.blocked.load(Ordering::Relaxed) { LOOKS_MAX } else { 2 } {
            return;
        }
    }
}

/// What a client takes of its answers.
#[derive(Default)]
struct Sending {
    /// Bytes so far.
    taken: AtomicU64,
    /// Whether there are more to send than the system takes now.
    blocked: AtomicBool,
}

/// A stream that notes what is sent.
struct WatchedStream {
    stream: TcpStream,
    sending: Arc<Sending>,
}

impl WatchedStream {
    fn noted(&self, sent: Poll<std::io::Result<usize>>) -> Poll<std::io::Result<usize>> {
        self.sending.blocked.store(sent.is_pending(), Ordering::Relaxed);
        if let Poll::Ready(Ok(bytes)) = &sent {
            self.sending.taken.fetch_add(*bytes as u64, Ordering::Relaxed);
        }
        sent
    }
}

impl AsyncRead for WatchedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, to)
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.noted(sent)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.noted(sent)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Symptom: a listener that hangs. A task that gave its turn back locked the queue, then the connection; one that
    /// took its turn locked them the other way round.
    #[test]
    fn turns_that_cross_do_not_wait_for_each_other() {
        let (done, finished) = std::sync::mpsc::sync_channel(2);
        let turn = Turn::new(&Arc::default(), ClientOrigin::Local(IpAddr::from([127, 0, 0, 1])));
        for _ in 0..2 {
            let (turn, done) = (turn.clone(), done.clone());
            std::thread::spawn(move || {
                for _ in 0..200_000 {
                    drop(turn.ours());
                }
                done.send(()).unwrap();
            });
        }
        for _ in 0..2 {
            finished.recv_timeout(Duration::from_secs(60)).expect("the threads wait for each other");
        }
    }

    fn from(address: [u8; 4]) -> ClientOrigin {
        ClientOrigin::of(IpAddr::from(address))
    }

    /// Connections as a listener has them: a permit, and the client's turn.
    struct Open {
        room: ConnectionRoom,
        open: Vec<(OwnedSemaphorePermit, Turn, ClientOrigin)>,
    }

    impl Open {
        async fn permit(&mut self, origin: ClientOrigin) -> bool {
            let Some(permit) = self.room.permit(origin).await else { return false };
            self.open.push((permit, Turn::new(&self.room.connections, origin), origin));
            true
        }

        /// Lets those leave that were ended, and returns whose they were.
        async fn leave(&mut self) -> Vec<ClientOrigin> {
            let mut left = Vec::new();
            let mut stay = Vec::new();
            for one in std::mem::take(&mut self.open) {
                // A turn that neither works nor waits was taken from those that wait.
                let end = Arc::clone(&one.1.0.end);
                if timeout(Duration::ZERO, end.notified()).await.is_ok() { left.push(one.2) } else { stay.push(one) }
            }
            self.open = stay;
            left
        }
    }

    /// A newcomer waited until some connection had been silent for a second, and all later ones waited behind it: some
    /// thousand slow clients of one address held up all others.
    #[tokio::test]
    async fn whoever_has_the_most_connections_makes_room() {
        let (flood, others) = (from([198, 51, 100, 7]), [from([203, 0, 113, 1]), from([127, 0, 0, 2])]);
        assert_eq!(flood, from([198, 51, 100, 8]), "one block");
        assert_ne!(from([127, 0, 0, 1]), others[1], "loopback addresses are no block");
        let mut open = Open { room: ConnectionRoom::new(8), open: Vec::new() };
        for _ in 0..8 {
            assert!(open.permit(flood).await);
        }
        for other in others {
            let room = open.room.clone();
            let begun = Instant::now();
            let coming = tokio::spawn(async move { room.permit(other).await });
            tokio::task::yield_now().await;
            assert_eq!(open.leave().await, [flood]);
            let permit = coming.await.unwrap().unwrap();
            assert!(begun.elapsed() < GRACE / 2, "at once");
            open.open.push((permit, Turn::new(&open.room.connections, other), other));
        }
        // What works on a request stays, whoever has the most.
        let working: Vec<Ours> = open.open.iter().map(|(_, turn, _)| turn.ours()).collect();
        assert_eq!(open.room.connections.make_room(others[0]), Some(GRACE));
        drop(working);
        // One more of the flood waits until one of its own was silent for long enough, and most are turned away.
        let waiting: Vec<_> = (0..NEWCOMERS_MAX)
            .map(|_| {
                let room = open.room.clone();
                tokio::spawn(async move { room.permit(flood).await })
            })
            .collect();
        while open.room.newcomers.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(!open.permit(flood).await, "no room, and no place to wait for it");
        assert_eq!(open.leave().await, []);
        let begun = Instant::now();
        while open.leave().await.is_empty() {
            sleep(Duration::from_millis(20)).await;
        }
        assert!(begun.elapsed() > GRACE / 4);
        waiting.iter().for_each(tokio::task::JoinHandle::abort);
        drop(open.open);
        assert!(open.room.connections.lock().origins.is_empty() && open.room.connections.lock().waiting.is_empty());
    }
}

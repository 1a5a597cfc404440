//! `GET /api/stream`: what happens, as server-sent events (WHATWG HTML, chapter 9.2).
use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{Extension, Query, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use fama_ledger::frontier::Frontier;
use fama_ledger::id::{Domain, IdentityId};
use futures::stream::unfold;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{interval, timeout};

use super::feed::{Feed, Line, WENT_BACK, before_what_was_dropped, read_id, read_on};
use super::input::Params;
use super::moment::Moment;
use super::rates::ClientBlock;
use super::serve::{Ours, Turn};
use super::{ApiError, Serving};
use crate::clock;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// How often something is sent, so that both ends notice a dead connection.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a client may take nothing of what is sent before it is dropped.
const SLOW: Duration = Duration::from_secs(10);
/// Events that wait for a client.
const WAITING_MAX: usize = 64;
/// Most agents, and most other values, of one filter.
const VALUES_MAX: usize = 100;
/// Most entries that a client may catch up on; with more, pages of history are the better way.
const BEHIND_MAX: u64 = 1_000_000;
/// Clients that catch up at the same time, besides those that wait for it.
const CATCHING_UP_MAX: usize = 2;
/// After how many milliseconds a browser connects again.
const RETRY: Duration = Duration::from_secs(1);
/// The names of events.
const NAMES: [&str; 5] = ["key", "karma", "access", "registration", "checkpoint"];

/// What all streams of a listener share.
pub(super) struct Streams {
    feed: Arc<Feed>,
    places: Arc<Semaphore>,
    /// How many of them each address block has; no more than a quarter.
    of_blocks: Mutex<HashMap<ClientBlock, usize>>,
    of_block_max: usize,
    catching_up: Arc<Semaphore>,
    stopped: Option<watch::Receiver<bool>>,
}

impl Streams {
    /// At most half of the listener's connections, and no more than a quarter of those for one address block. They end when
    /// `stopped` becomes true.
    pub(super) fn new(feed: Arc<Feed>, connections_max: u32, stopped: Option<watch::Receiver<bool>>) -> Arc<Self> {
        let places_max = connections_max as usize / 2;
        let (places, of_block_max) = (Arc::new(Semaphore::new(places_max)), (places_max / 4).max(1));
        let catching_up = Arc::new(Semaphore::new(CATCHING_UP_MAX));
        Arc::new(Self { feed, places, of_blocks: Mutex::default(), of_block_max, catching_up, stopped })
    }

    fn of_blocks(&self) -> MutexGuard<'_, HashMap<ClientBlock, usize>> {
        self.of_blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a client of this block; `None` if there is none, or none for the block.
    fn place(self: &Arc<Self>, block: Option<ClientBlock>) -> Option<StreamPlace> {
        let permit = Arc::clone(&self.places).try_acquire_owned().ok()?;
        if let Some(block) = block {
            let mut of_blocks = self.of_blocks();
            let of = of_blocks.entry(block).or_default();
            if *of >= self.of_block_max {
                return None;
            }
            *of += 1;
        }
        Some(StreamPlace { streams: Arc::clone(self), block, _permit: permit })
    }
}

/// A client's place among those that follow, until dropped.
struct StreamPlace {
    streams: Arc<Streams>,
    block: Option<ClientBlock>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        let Some(block) = self.block else { return };
        let mut of_blocks = self.streams.of_blocks();
        let Some(of) = of_blocks.get_mut(&block) else { return };
        *of = of.saturating_sub(1);
        if *of == 0 {
            of_blocks.remove(&block);
        }
    }
}

/// What a client wants to hear. An empty set is no filter.
#[derive(Clone, Default)]
struct Filter {
    names: BTreeSet<&'static str>,
    agents: BTreeSet<IdentityId>,
    providers: BTreeSet<IdentityId>,
    homes: BTreeSet<Domain>,
}

impl Filter {
    fn read(params: &Params, moment: &Moment<'_>) -> Result<Self, ApiError> {
        let identity = |x: &str| moment.find(x).map(|found| found.id);
        let home = |x: &str| x.parse().map_err(|error| ApiError::bad("bad_parameter", error));
        let name = |x: &str| {
            let name = NAMES.into_iter().find(|name| *name == x);
            name.ok_or_else(|| ApiError::bad("bad_parameter", format!("want some of {}", NAMES.join(", "))))
        };
        Ok(Self {
            names: values(params, "kind", name)?,
            agents: values(params, "agent", identity)?,
            providers: values(params, "provider", identity)?,
            homes: values(params, "home", home)?,
        })
    }

    fn takes(&self, line: &Line) -> bool {
        let checkpoint = line.name == "checkpoint";
        let (agents, providers) = (&self.agents, &self.providers);
        (self.names.is_empty() || self.names.contains(line.name))
            && (checkpoint || agents.is_empty() || line.about.iter().any(|id| agents.contains(id)))
            && (checkpoint || providers.is_empty() || line.provider.is_some_and(|id| providers.contains(&id)))
            && (checkpoint || self.homes.is_empty() || line.home.as_ref().is_some_and(|home| self.homes.contains(home)))
    }
}

/// The values of a parameter, separated by commas.
fn values<T: Ord>(
    params: &Params,
    name: &'static str,
    read: impl Fn(&str) -> Result<T, ApiError>,
) -> Result<BTreeSet<T>, ApiError> {
    let Some(text) = params.get(name) else { return Ok(BTreeSet::new()) };
    let all: Vec<&str> = text.split(',').map(str::trim).collect();
    if all.len() > VALUES_MAX {
        return Err(ApiError::bad("too_many", format!("{name}: at most {VALUES_MAX}")).with("field", name));
    }
    all.into_iter().map(|one| read(one).map_err(|error| error.with("field", name))).collect()
}

pub(super) async fn stream(
    State(streams): State<Arc<Streams>>,
    turn: Option<Extension<Turn>>,
    block: Option<Extension<ClientBlock>>,
    headers: HeaderMap,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Response, ApiError> {
    let params = Params::new(query, &["kind", "agent", "provider", "home", "after"])?;
    let place = streams.place(block.map(|Extension(block)| block)).ok_or_else(|| {
        let message = "too many clients follow this node's stream, or too many of this address block";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_streams", message).retry_after(30)
    })?;
    let (filter, at) = {
        let Serving(app) = streams.feed.app();
        let moment = Moment::open(&app)?;
        let header = headers.get(LAST_EVENT_ID).map(|id| id.to_str().unwrap_or_default());
        let after = header.or(params.get("after")).filter(|id| !id.is_empty());
        let after = after.map(|id| before_what_was_dropped(&moment, read_id(id, &app.shared.manifest)?)).transpose()?;
        (Filter::read(&params, &moment)?, after)
    };
    let (_, goal) = streams.feed.subscribe()?;
    let at = at.unwrap_or_else(|| goal.clone());
    if at.behind(&goal) > BEHIND_MAX {
        let message = "that is more than a million entries ago: begin without an id, and read pages of history";
        return Err(ApiError::new(StatusCode::GONE, "cursor_too_old", message));
    }
    let (events, waiting) = mpsc::channel(WAITING_MAX);
    let held = (place, turn.map(|Extension(turn)| turn.ours()));
    tokio::spawn(follow(Follower { streams, filter, at, fresh: (true, true), events }, held));
    let body = unfold(waiting, async |mut waiting| {
        let event: Event = waiting.recv().await?;
        Some((Ok::<_, Infallible>(event), waiting))
    });
    // Proxies that buffer answers, as nginx does, are told not to.
    let headers = [(header::CACHE_CONTROL, "no-store"), (HeaderName::from_static("x-accel-buffering"), "no")];
    Ok((headers, Sse::new(body)).into_response())
}

/// A client that follows.
struct Follower {
    streams: Arc<Streams>,
    filter: Filter,
    /// Up to where it was told.
    at: Frontier,
    /// Whether this node was up to date, as the client was told; and whether it was at the last look.
    fresh: (bool, bool),
    events: mpsc::Sender<Event>,
}

/// Why a stream ends.
enum End {
    /// The client is gone, or too slow.
    Gone,
    /// It is told why.
    Told(ApiError),
}

impl From<ApiError> for End {
    fn from(error: ApiError) -> Self {
        Self::Told(error)
    }
}

/// Tells a client everything from where it is, until it leaves or the node stops. Holds its place meanwhile.
async fn follow(mut follower: Follower, _held: (StreamPlace, Option<Ours>)) {
    let mut stopped = follower.streams.stopped.clone();
    let stop = async {
        match &mut stopped {
            Some(stopped) => drop(stopped.wait_for(|stopped| *stopped).await),
            None => std::future::pending().await,
        }
    };
    let (told, gone) = (follower.events.clone(), follower.events.clone());
    let end = tokio::select! {
        end = follower.run() => end,
        () = stop => return,
        () = gone.closed() => return,
    };
    if let Err(End::Told(error)) = end {
        let event = Event::default().event("error").data(error.json().to_string());
        let _ = timeout(SLOW, told.send(event)).await;
    }
}

impl Follower {
    async fn run(&mut self) -> Result<Infallible, End> {
        let mut first = true;
        loop {
            let (mut lines, goal) = self.streams.feed.subscribe()?;
            if first {
                self.open().await?;
                first = false;
            }
            self.catch_up(&goal).await?;
            let mut beats = interval(HEARTBEAT);
            beats.reset();
            loop {
                tokio::select! {
                    line = lines.recv() => match line {
                        Ok(line) => self.tell(&line).await?,
                        // Slower than the feed: it reads from the disk what it missed.
                        Err(RecvError::Lagged(_)) => {
                            // One of the lines may have been that a log went back.
                            let Serving(app) = self.streams.feed.app();
                            let at = std::mem::take(&mut self.at);
                            self.at = before_what_was_dropped(&Moment::open(&app)?, at)?;
                            break;
                        }
                        Err(RecvError::Closed) => return Err(End::Gone),
                    },
                    _ = beats.tick() => self.beat().await?,
                }
            }
        }
    }

    fn is_fresh(&self) -> Result<bool, ApiError> {
        let Serving(app) = self.streams.feed.app();
        Moment::open(&app)?.is_fresh(clock::now())
    }

    /// Shows that the connection lives; and says so if this node no longer hears the federation, or does again. In a busy
    /// federation it lags for moments, so it is believed the second time.
    async fn beat(&mut self) -> Result<(), End> {
        let (told, before) = self.fresh;
        let now = self.is_fresh()?;
        self.fresh.1 = now;
        if now == told || (!now && before) {
            return self.send(Event::default().comment("still here")).await;
        }
        self.fresh.0 = now;
        self.send(Event::default().event("freshness").data(json!({"fresh": now}).to_string())).await
    }

    /// The first event: what this is, and an id from which to go on even if nothing else happens.
    async fn open(&mut self) -> Result<(), End> {
        let fresh = self.is_fresh()?;
        self.fresh = (fresh, fresh);
        let (id, data) = {
            let Serving(app) = self.streams.feed.app();
            let manifest = &app.shared.manifest;
            let data = json!({
                "federation": manifest.federation().to_string(),
                "manifest_version": manifest.version(),
                "operator": app.operator.as_ref().map(ToString::to_string),
                "fresh": fresh,
            });
            (self.at.text(manifest), data)
        };
        self.send(Event::default().retry(RETRY).event("open").id(id).data(data.to_string())).await
    }

    /// Tells what is on disk up to `goal`.
    async fn catch_up(&mut self, goal: &Frontier) -> Result<(), End> {
        while self.at.behind(goal) > 0 {
            let turn = Arc::clone(&self.streams.catching_up).acquire_owned().await.map_err(ApiError::internal)?;
            let (feed, from) = (Arc::clone(&self.streams.feed), self.at.clone());
            let read = tokio::task::spawn_blocking(move || {
                let Serving(app) = feed.app();
                let read = read_on(&Moment::open(&app)?, &from);
                drop(turn);
                read
            });
            let (lines, end) = read.await.map_err(ApiError::from)??;
            if end == self.at {
                // A log went back meanwhile: there is nothing more up to the goal.
                return Ok(());
            }
            for line in &lines {
                self.tell(line).await?;
            }
            self.at = end;
        }
        Ok(())
    }

    /// Tells a line if the client wants it and was not told yet.
    async fn tell(&mut self, line: &Line) -> Result<(), End> {
        if line.name == WENT_BACK {
            self.at.set(&line.log, line.index.min(self.at.of(&line.log)));
            return Ok(());
        }
        // Neither is an entry after all that was told of its log.
        let follows = line.name != "checkpoint" && !line.late;
        if follows && line.index < self.at.of(&line.log) {
            return Ok(());
        }
        let ahead = self.at.is_beyond(&line.after);
        if follows {
            self.at.set(&line.log, line.index.saturating_add(1));
        }
        if !self.filter.takes(line) {
            return Ok(());
        }
        let id = {
            let Serving(app) = self.streams.feed.app();
            // What another node had already told it stays told.
            if ahead { self.at.text(&app.shared.manifest) } else { line.after.text(&app.shared.manifest) }
        };
        self.send(Event::default().event(line.name).id(id).data(&line.data)).await
    }

    async fn send(&self, event: Event) -> Result<(), End> {
        match timeout(SLOW, self.events.send(event)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => {
                let message =
                    "this client takes less than what happens; connect again with the last id, or a narrower filter";
                Err(End::Told(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too_slow", message).retry_after(1)))
            }
        }
    }
}

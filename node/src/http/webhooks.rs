//! Webhooks: what happens is posted to addresses that the operator names, for those who cannot hold a connection.
//!
//! At least once, in order, one delivery of a webhook at a time, as Standard Webhooks describes
//! (<https://github.com/standard-webhooks/standard-webhooks>): each is signed with HMAC-SHA256. What is not taken is
//! tried again later and later, then kept aside, so that one event cannot hold up all that follow.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use fama_ledger::base64;
use fama_ledger::frontier::Frontier;
use fama_ledger::id::IdentityId;
use fama_ledger::time::Millis;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::sync::{Notify, Semaphore, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};

use super::feed::{self, Line, read_on};
use super::moment::Moment;
use super::{ApiError, App, input};
use crate::clock;
use crate::config::{LiveSettings, Webhook};
use crate::outgoing::Outgoing;
use crate::store::{DeadLetter, WebhookCursor};

/// How often the logs are looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How often the agents that a webhook names are looked up again, also without a registration: the disk may have failed.
const LOOK_UP: Duration = Duration::from_secs(10);
/// How long is waited after the first failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// How often an event is tried: for about half an hour.
const ATTEMPTS: u32 = 12;
/// How long a test by the operator may take.
const TEST_TIME: Duration = Duration::from_secs(20);
/// Longest name in a request, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// Dead letters that an answer shows.
const DEAD_SHOWN: usize = 20;

/// Memory for bodies posted here, in bytes.
static MEMORY: Semaphore = Semaphore::const_new(input::BODIES_BYTES_MAX);

/// What the admin listener asks a webhook's task for.
#[derive(Default)]
struct Wishes {
    test: Option<oneshot::Sender<Result<u16, String>>>,
    replay: bool,
}

/// A webhook that runs, as others see it.
#[derive(Default)]
pub(super) struct Running {
    wishes: Mutex<Wishes>,
    wished: Notify,
    shown: Mutex<Shown>,
}

/// How a webhook does.
#[derive(Clone, Default)]
struct Shown {
    url: String,
    /// Entries that exist and were not looked at.
    behind: u64,
    delivered: u64,
    /// Failed attempts for the event that is being delivered.
    failures: u32,
    last_error: Option<String>,
    last_delivery: Option<Millis>,
}

/// All webhooks of a node.
#[derive(Default)]
pub struct Webhooks(Mutex<BTreeMap<String, Arc<Running>>>);

impl Webhooks {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Running>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs the webhooks that the settings name until the node stops. They read the node's own copies.
pub async fn run(
    app: Arc<App>,
    webhooks: Arc<Webhooks>,
    mut live: watch::Receiver<Arc<LiveSettings>>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut tasks: BTreeMap<String, (Webhook, tokio::task::JoinHandle<()>)> = BTreeMap::new();
    loop {
        let wanted = live.borrow_and_update().webhooks.clone();
        let same = |name: &String, of: &Webhook| wanted.iter().any(|one| one.name == *name && one == of);
        let gone: Vec<String> =
            tasks.iter().filter(|(name, (of, _))| !same(name, of)).map(|(name, _)| name.clone()).collect();
        for name in gone {
            if let Some((_, task)) = tasks.remove(&name) {
                task.abort();
                // A delivery that runs ends by itself; it may be repeated by the webhook's new settings.
                let _ = task.await;
            }
            webhooks.lock().remove(&name);
        }
        for one in wanted {
            if tasks.contains_key(&one.name) {
                continue;
            }
            let running = Arc::new(Running::default());
            webhooks.lock().insert(one.name.clone(), Arc::clone(&running));
            let delivery = Delivery::new(Arc::clone(&app), one.clone(), running);
            tasks.insert(one.name.clone(), (one, tokio::spawn(delivery.run())));
        }
        // Settings that nobody can change any more stay.
        let changed = async {
            if live.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let ends = async { drop(stopped.wait_for(|stopped| *stopped).await) };
        tokio::select! {
            () = changed => {}
            () = ends => break,
        }
    }
    for (_, (_, task)) in tasks {
        task.abort();
        let _ = task.await;
    }
}

/// One webhook's work.
pub(super) struct Delivery {
    app: Arc<App>,
    webhook: Webhook,
    client: Outgoing,
    running: Arc<Running>,
    agents: BTreeSet<IdentityId>,
    providers: BTreeSet<IdentityId>,
    looked_up: Option<Instant>,
    /// How long is waited after the first failure; each time twice as long.
    pub(super) first_pause: Duration,
}

/// What is posted.
struct Message {
    id: String,
    body: String,
}

impl Message {
    fn of(line: &Line, now: Millis) -> Self {
        let digest = blake3::hash(format!("{}/{}", line.log, line.index).as_bytes());
        let id = format!("msg_{}", digest.to_hex().get(..32).unwrap_or_default());
        Self { id, body: body(line.name, now, &line.data) }
    }
}

/// `{"type", "timestamp", "data"}`; `data` is JSON already.
fn body(kind: &str, now: Millis, data: &str) -> String {
    format!("{{\"type\":\"{kind}\",\"timestamp\":\"{now}\",\"data\":{data}}}")
}

/// The headers of Standard Webhooks. `timestamp` is in seconds since 1970.
fn headers(secret: &[u8], id: &str, timestamp: u64, body: &str) -> Result<[(&'static str, String); 4], String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).map_err(|error| error.to_string())?;
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    let signature = format!("v1,{}", base64::encode(&mac.finalize().into_bytes()));
    Ok([
        ("content-type", "application/json".to_owned()),
        ("webhook-id", id.to_owned()),
        ("webhook-timestamp", timestamp.to_string()),
        ("webhook-signature", signature),
    ])
}

impl Delivery {
    pub(super) fn new(app: Arc<App>, webhook: Webhook, running: Arc<Running>) -> Self {
        let client = Outgoing::new(webhook.allow_private);
        let (agents, providers, looked_up) = (BTreeSet::new(), BTreeSet::new(), None);
        let delivery = Self { app, webhook, client, running, agents, providers, looked_up, first_pause: FIRST_PAUSE };
        delivery.shown().url.clone_from(&delivery.webhook.url);
        delivery.app.shared.metrics.webhook_begins(&delivery.webhook.name);
        delivery
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.running.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn run(mut self) {
        loop {
            match self.follow().await {
                Ok(never) => match never {},
                // The disk failed: the node stops, or the next look is better.
                Err(error) => {
                    tracing::error!(webhook = self.webhook.name, cause = ?error, "a webhook's events could not be read");
                    sleep(LONGEST_PAUSE).await;
                }
            }
        }
    }

    /// Tells everything from where the webhook is.
    async fn follow(&mut self) -> Result<std::convert::Infallible, ApiError> {
        let mut cursor = self.begin().await?;
        loop {
            self.grant().await?;
            let (lines, end) = self.read(&cursor).await?;
            let moved = end != frontier(&cursor);
            for line in &lines {
                if self.takes(line) {
                    cursor = self.deliver(cursor, line).await?;
                }
            }
            if moved {
                cursor.sizes = end.into_iter().collect();
                cursor = self.keep(&cursor, None)?;
            } else {
                // A wish of the operator's is granted at once.
                let _ = timeout(LOOK, self.running.wished.notified()).await;
            }
        }
    }

    /// Where a new webhook begins: at now, once the node has what there is.
    async fn begin(&self) -> Result<WebhookCursor, ApiError> {
        loop {
            if let Some(known) = self.app.shared.store.view().webhook(&self.webhook.name)? {
                return Ok(known);
            }
            let whole = {
                let health = self.app.shared.health.read();
                health.logs.values().all(|log| log.newest <= log.size) && health.waiting != Some("starting")
            };
            if whole {
                let sizes = feed::sizes(&Moment::open(&self.app)?)?.into_iter().collect();
                return self.keep(&WebhookCursor { sizes, ..WebhookCursor::default() }, None);
            }
            sleep(LOOK).await;
        }
    }

    async fn read(&mut self, cursor: &WebhookCursor) -> Result<(Vec<Line>, Frontier), ApiError> {
        let from = frontier(cursor);
        let behind = {
            let health = self.app.shared.health.read();
            health.logs.iter().map(|(log, now)| now.size.saturating_sub(from.of(log))).fold(0, u64::saturating_add)
        };
        {
            let mut shown = self.shown();
            (shown.behind, shown.delivered) = (behind, cursor.delivered);
        }
        if behind == 0 {
            return Ok((Vec::new(), from));
        }
        let app = Arc::clone(&self.app);
        let read = tokio::task::spawn_blocking(move || read_on(&Moment::open(&app)?, &from)).await??;
        // Whom the webhook names may have registered just now.
        let registered = read.0.iter().any(|line| line.name == "registration");
        if registered || self.looked_up.is_none_or(|at| at.elapsed() >= LOOK_UP) {
            self.look_up()?;
        }
        Ok(read)
    }

    /// Finds the agents that the webhook names. Those that are not registered yet are nobody.
    fn look_up(&mut self) -> Result<(), ApiError> {
        let moment = Moment::open(&self.app)?;
        let known =
            |names: &[String]| names.iter().filter_map(|name| moment.find(name).ok()).map(|found| found.id).collect();
        (self.agents, self.providers) = (known(&self.webhook.agents), known(&self.webhook.providers));
        self.looked_up = Some(Instant::now());
        Ok(())
    }

    fn takes(&self, line: &Line) -> bool {
        let Webhook { kinds, agents, providers, homes, .. } = &self.webhook;
        (kinds.is_empty() || kinds.iter().any(|kind| kind == line.name))
            && (agents.is_empty() || line.about.iter().any(|id| self.agents.contains(id)))
            && (providers.is_empty() || line.provider.is_some_and(|id| self.providers.contains(&id)))
            && (homes.is_empty() || line.home.as_ref().is_some_and(|home| homes.iter().any(|one| one == home.as_str())))
    }

    /// Tries until the event is taken, or puts it aside.
    async fn deliver(&self, mut cursor: WebhookCursor, line: &Line) -> Result<WebhookCursor, ApiError> {
        let message = Message::of(line, clock::now());
        let (mut pause, mut attempt) = (self.first_pause, 0);
        let dead = loop {
            attempt += 1;
            match self.send(&message.id, &message.body).await {
                Ok(()) => break None,
                Err(error) => {
                    let metrics = &self.app.shared.metrics;
                    metrics.webhook(&self.webhook.name, "failed");
                    let mut shown = self.shown();
                    (shown.failures, shown.last_error) = (attempt, Some(error.clone()));
                    drop(shown);
                    if attempt >= ATTEMPTS {
                        metrics.webhook(&self.webhook.name, "given_up");
                        tracing::error!(
                            webhook = self.webhook.name,
                            id = message.id,
                            error,
                            "an event could not be delivered to a webhook and is kept aside"
                        );
                        break Some(DeadLetter { id: message.id, body: message.body, time: clock::now(), error });
                    }
                    if attempt == 1 {
                        tracing::warn!(
                            webhook = self.webhook.name,
                            error,
                            "a webhook does not take an event: it is tried again"
                        );
                    }
                }
            }
            sleep(jittered(pause)).await;
            pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        };
        let mut shown = self.shown();
        (shown.failures, shown.last_delivery) = (0, Some(clock::now()));
        drop(shown);
        if dead.is_none() {
            cursor.delivered = cursor.delivered.saturating_add(1);
            self.app.shared.metrics.webhook(&self.webhook.name, "delivered");
        }
        cursor.sizes = line.after.as_ref().clone().into_iter().collect();
        self.keep(&cursor, dead.as_ref())
    }

    /// Posts a message. Taken is what is answered with a status from 200 to 299.
    async fn send(&self, id: &str, body: &str) -> Result<(), String> {
        match self.post(id, body).await? {
            200..=299 => Ok(()),
            status => Err(format!("status {status}")),
        }
    }

    async fn post(&self, id: &str, body: &str) -> Result<u16, String> {
        let headers = headers(self.webhook.secret.bytes(), id, clock::now().0 / 1_000, body)?;
        let (client, url, body) = (self.client.clone(), self.webhook.url.clone(), body.to_owned());
        let posted = tokio::task::spawn_blocking(move || client.post(&url, &headers, body.as_bytes())).await;
        posted.map_err(|error| error.to_string())?
    }

    fn keep(&self, cursor: &WebhookCursor, dead: Option<&DeadLetter>) -> Result<WebhookCursor, ApiError> {
        Ok(self.app.shared.store.put_webhook(&self.webhook.name, cursor, dead)?)
    }

    /// Does what the operator asked for.
    async fn grant(&self) -> Result<(), ApiError> {
        let Wishes { test, replay } =
            std::mem::take(&mut *self.running.wishes.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(reply) = test {
            let data = json!({"webhook": self.webhook.name}).to_string();
            let now = clock::now();
            let sent = self.post(&format!("msg_test_{}", now.0), &body("test", now, &data)).await;
            let _ = reply.send(sent);
        }
        if replay {
            let name = &self.webhook.name;
            for (number, dead) in self.app.shared.store.view().dead_letters(name, crate::store::DEAD_MAX)? {
                if let Err(error) = self.send(&dead.id, &dead.body).await {
                    self.shown().last_error = Some(error);
                    break;
                }
                self.app.shared.metrics.webhook(name, "delivered");
                self.app.shared.store.forget_dead_letter(name, number)?;
            }
        }
        Ok(())
    }
}

fn frontier(cursor: &WebhookCursor) -> Frontier {
    cursor.sizes.iter().cloned().collect()
}

/// Up to a quarter longer, so that webhooks that failed together are not tried together.
fn jittered(pause: Duration) -> Duration {
    let mut random = [0; 1];
    // Without randomness there is no jitter, which only costs a busier moment.
    let _ = getrandom::fill(&mut random);
    pause + pause.mul_f64(f64::from(random[0]) / 1_024.0)
}

/// What the admin listener's routes about webhooks read.
#[derive(Clone)]
pub(super) struct WebhookRoutes {
    pub(super) app: Arc<App>,
    pub(super) webhooks: Arc<Webhooks>,
}

/// `GET /webhooks`: how each does, with its newest dead letters.
pub(super) async fn list(State(of): State<WebhookRoutes>) -> Result<Json<Value>, ApiError> {
    let running: Vec<(String, Shown)> = {
        let running = of.webhooks.lock();
        let shown = |running: &Running| running.shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
        running.iter().map(|(name, running)| (name.clone(), shown(running))).collect()
    };
    let view = of.app.shared.store.view();
    let all = running.into_iter().map(|(name, shown)| {
        let dead = view.dead_letters(&name, crate::store::DEAD_MAX)?;
        let newest = dead.iter().rev().take(DEAD_SHOWN).map(
            |(_, dead)| json!({"id": dead.id, "time": dead.time.to_string(), "error": dead.error, "body": dead.body}),
        );
        Ok(json!({
            "name": name,
            "url": shown.url,
            "delivered": shown.delivered,
            "entries_behind": shown.behind,
            "failures": shown.failures,
            "last_error": shown.last_error,
            "last_delivery": shown.last_delivery.map(|at| at.to_string()),
            "dead_letters": dead.len(),
            "newest_dead_letters": newest.collect::<Vec<_>>(),
        }))
    });
    Ok(Json(json!({"webhooks": all.collect::<Result<Vec<_>, ApiError>>()?})))
}

async fn named(of: &WebhookRoutes, body: Body) -> Result<Arc<Running>, ApiError> {
    let body = input::body(body, NAME_BYTES_MAX, &MEMORY).await?;
    let name = std::str::from_utf8(&body).unwrap_or_default().trim();
    let found = of.webhooks.lock().get(name).cloned();
    found.ok_or_else(|| ApiError::not_found("unknown_webhook", "the configuration in use has no webhook of this name"))
}

/// `POST /webhooks/test`: sends a message of type `test` now; answers with the status.
pub(super) async fn test(State(of): State<WebhookRoutes>, body: Body) -> Result<Json<Value>, ApiError> {
    let running = named(&of, body).await?;
    let (reply, answer) = oneshot::channel();
    running.wishes.lock().unwrap_or_else(PoisonError::into_inner).test = Some(reply);
    running.wished.notify_one();
    let busy = || {
        let message = "the webhook is busy with an event that is not taken: see `fama webhook list`";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "webhook_busy", message).retry_after(60)
    };
    match timeout(TEST_TIME, answer).await {
        Ok(Ok(Ok(status))) => Ok(Json(json!({"status": status, "taken": (200..300).contains(&status)}))),
        Ok(Ok(Err(error))) => Err(ApiError::new(StatusCode::BAD_GATEWAY, "webhook_failed", error)),
        _ => Err(busy()),
    }
}

/// `POST /webhooks/replay`: sends the dead letters again, oldest first, until one is not taken.
pub(super) async fn replay(State(of): State<WebhookRoutes>, body: Body) -> Result<Json<Value>, ApiError> {
    let running = named(&of, body).await?;
    running.wishes.lock().unwrap_or_else(PoisonError::into_inner).replay = true;
    running.wished.notify_one();
    Ok(Json(json!({"replaying": true})))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_that_of_standard_webhooks() {
        // The example of the specification.
        let secret = base64::decode_lenient("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("base64");
        let body = r#"{"test": 2432232314}"#;
        let headers = headers(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body).expect("a key");
        assert_eq!(headers[3].1, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}

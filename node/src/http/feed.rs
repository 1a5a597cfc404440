//! What happened in all logs, in one sequence that any node can continue: for subscribers of `/api/stream`.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use fama_ledger::codec;
use fama_ledger::entry::{Body, Entry, SignedEvent};
use fama_ledger::event::{Action, Event};
use fama_ledger::fold::Void;
use fama_ledger::frontier::{Frontier, FrontierError};
use fama_ledger::id::{Domain, EventId, IdentityId};
use fama_ledger::limits;
use fama_ledger::manifest::{LogId, Manifest};
use serde_json::{Map, Value, json};
use tokio::sync::broadcast;
use tokio::time::sleep;

use super::moment::{Moment, handle};
use super::view::reason;
use super::{ApiError, App, Serving};

/// How often the logs' sizes are looked at.
const LOOK: Duration = Duration::from_millis(50);
/// Most entries that are read at once.
const READ_MAX: usize = 512;
/// Lines that a subscriber may lag behind before it reads from the disk again.
const LINES_MAX: usize = 4_096;

/// The sizes of all logs at this moment; of one that is being rolled back, what is left of it: replaying that is nothing
/// that happens.
pub(super) fn sizes(moment: &Moment<'_>) -> Result<Frontier, ApiError> {
    let manifest = &moment.app.shared.manifest;
    let size = |log: &LogId| match moment.view.size_after_rollback(log)? {
        Some(left) => Ok::<u64, ApiError>(left),
        None => Ok(moment.record_of(log)?.state.size),
    };
    manifest.logs().keys().map(|log| Ok((log.clone(), size(log)?))).collect()
}

/// Where to continue from what a client was told: before entries that this node dropped since, of which the client may have
/// been told, so that it hears of those that are in their place. It may hear of some a second time.
pub(super) fn before_what_was_dropped(moment: &Moment<'_>, mut told: Frontier) -> Result<Frontier, ApiError> {
    for log in moment.app.shared.manifest.logs().keys() {
        if let Some((least, most)) = moment.view.rewound(log)?
            && (least.saturating_add(1)..=most).contains(&told.of(log))
        {
            told.set(log, least);
        }
    }
    Ok(told)
}

/// Reads an id that a node of this federation wrote.
///
/// # Errors
/// `bad_cursor`; `later_version` if this node does not use that version of the manifest yet.
pub(super) fn read_id(text: &str, manifest: &Manifest) -> Result<Frontier, ApiError> {
    Frontier::parse(text, manifest).map_err(|error| match error {
        FrontierError::Malformed => {
            ApiError::bad("bad_cursor", "want the id of an event of this stream").with("field", "after")
        }
        FrontierError::LaterVersion(_) => {
            let message = "this node does not use that version of the manifest yet: try again soon, or another node";
            ApiError::new(axum::http::StatusCode::SERVICE_UNAVAILABLE, "later_version", message).retry_after(5)
        }
    })
}

/// The name of a line that tells clients nothing: its log went back to the size `index`.
pub(super) const WENT_BACK: &str = "went back";

/// Something that happened.
#[derive(Debug)]
pub(super) struct Line {
    /// `key`, `registration`, `karma`, `access` or `checkpoint`, or [`WENT_BACK`].
    pub(super) name: &'static str,
    /// The log and the index of the entry; for a checkpoint, its size.
    pub(super) log: LogId,
    pub(super) index: u64,
    /// The identities that it is about.
    pub(super) about: Vec<IdentityId>,
    /// The provider that it is about.
    pub(super) provider: Option<IdentityId>,
    /// The home of the identity that it is about.
    pub(super) home: Option<Domain>,
    /// A claim that is told after entries behind it in its log: what it revokes is only now there.
    pub(super) late: bool,
    /// One line of JSON.
    pub(super) data: String,
    /// Where the feed is behind it.
    pub(super) after: Arc<Frontier>,
}

/// Reads up to [`READ_MAX`] entries from `from` on, log by log. Returns what they tell and where they end.
pub(super) fn read_on(moment: &Moment<'_>, from: &Frontier) -> Result<(Vec<Line>, Frontier), ApiError> {
    let (mut lines, mut at, mut left) = (Vec::new(), from.clone(), READ_MAX);
    for log in moment.app.shared.manifest.logs().keys() {
        let size = moment.record_of(log)?.state.size;
        let first = at.of(log);
        if left == 0 || size <= first {
            continue;
        }
        if moment.app.partial && moment.view.base(log)?.is_some_and(|base| first < base.size) {
            let message = "this node is still fetching the history before that: ask another node";
            let status = axum::http::StatusCode::SERVICE_UNAVAILABLE;
            return Err(ApiError::new(status, "loading", message).retry_after(60));
        }
        let want = usize::try_from(size.saturating_sub(first)).unwrap_or(usize::MAX).min(left);
        let entries = moment.view.entries(log, first, want, limits::ENTRY_BYTES_MAX.saturating_mul(want))?;
        for (index, bytes) in (first..).zip(entries) {
            at.set(log, index.saturating_add(1));
            left = left.saturating_sub(1);
            let entry: Entry = codec::decode(&bytes, limits::ENTRY_BYTES_MAX)?;
            if let Body::Event(signed) = &entry.body {
                let told = line(moment, (log, index), &entry, signed)?.into_iter();
                let told = told.chain(claim_before(moment, &signed.event, &at)?);
                lines.extend(told.map(|line| Line { after: Arc::new(at.clone()), ..line }));
            }
        }
    }
    Ok((lines, at))
}

/// The claim that revokes what an event brings, if its log was told beyond it already: then nobody was told of the claim,
/// which did not count yet.
fn claim_before(moment: &Moment<'_>, event: &Event, at: &Frontier) -> Result<Option<Line>, ApiError> {
    let identity = match &event.action {
        Action::Register { .. } => event.id(),
        Action::Rotate { identity, .. } => *identity,
        _ => return Ok(None),
    };
    let Some(found) = moment.join().identity(identity)? else { return Ok(None) };
    let Some(revoked) = moment.join().key_status(&found)?.revoked else { return Ok(None) };
    let (Some(operator), Some((generation, index))) = (revoked.operator, revoked.place) else { return Ok(None) };
    let log = LogId { operator, generation };
    if at.of(&log) <= index {
        return Ok(None);
    }
    let Some(bytes) = moment.view.entry(&log, index)? else { return Ok(None) };
    let entry: Entry = codec::decode(&bytes, limits::ENTRY_BYTES_MAX)?;
    let Body::Event(signed) = &entry.body else { return Ok(None) };
    Ok(line(moment, (&log, index), &entry, signed)?.map(|line| Line { late: true, ..line }))
}

/// What an applied event tells; `None` for a void one, and for a claim that does not count.
pub(super) fn line(
    moment: &Moment<'_>,
    (log, index): (&LogId, u64),
    entry: &Entry,
    signed: &SignedEvent,
) -> Result<Option<Line>, ApiError> {
    let (event, id) = (&signed.event, signed.event.id());
    if void(moment, &id, log, index)? {
        return Ok(None);
    }
    let (name, identity, provider) = match &event.action {
        Action::Register { .. } => ("registration", id, None),
        Action::Rotate { identity, .. } => ("key", *identity, None),
        Action::Revoke { identity, version, key, .. } => {
            let Some(found) = moment.join().identity(*identity)? else { return Ok(None) };
            if !moment.join().fits_chain(&found, *version, key.hash(), signed.signer.hash())? {
                return Ok(None);
            }
            ("key", *identity, None)
        }
        Action::Attest { issuer, subject, .. } | Action::Retract { issuer, subject, .. } => {
            ("karma", *subject, Some(*issuer))
        }
        Action::Admit { provider, .. } | Action::Dismiss { provider, .. } => ("karma", *provider, Some(*provider)),
        Action::Grant { issuer, subject, .. } | Action::Ungrant { issuer, subject, .. } => {
            ("access", *subject, Some(*issuer))
        }
        Action::Suspend { identity, .. } | Action::Resume { identity, .. } => ("access", *identity, None),
    };
    let found = moment.join().identity(identity)?;
    let mut data = json!({
        "event": id.to_string(),
        "kind": event.action.kind().as_str(),
        "identity": identity.to_string(),
        "handle": found.as_ref().map(handle),
        "home": found.as_ref().map(|found| found.home.to_string()),
        "log": log.to_string(),
        "index": index,
        "time": entry.time.to_string(),
        "final": moment.is_final(log, index),
    });
    if let Some(more) = data.as_object_mut() {
        details(moment, &event.action, more)?;
    }
    let about = std::iter::once(identity).chain(provider).collect();
    Ok(Some(Line {
        name,
        log: log.clone(),
        index,
        about,
        provider,
        home: found.map(|found| found.home),
        late: false,
        data: data.to_string(),
        after: Arc::default(),
    }))
}

fn details(moment: &Moment<'_>, action: &Action, more: &mut Map<String, Value>) -> Result<(), ApiError> {
    let mut set = |name: &str, value: Value| drop(more.insert(name.to_owned(), value));
    let name = |id: &IdentityId| moment.join().identity(*id).map(|found| found.as_ref().map(handle));
    match action {
        Action::Register { key, .. } => {
            set("key_version", 1.into());
            set("key", key.to_string().into());
        }
        Action::Rotate { version, key, .. } => {
            set("key_version", (*version).into());
            set("key", key.to_string().into());
        }
        Action::Revoke { version, key, reason: why, .. } => {
            set("key_version", (*version).into());
            set("key", key.to_string().into());
            set("reason", reason(*why).into());
        }
        Action::Attest { issuer, delta, context, .. } => {
            set("provider", issuer.to_string().into());
            set("provider_handle", name(issuer)?.into());
            set("delta", (*delta).into());
            set("context", context.as_ref().map(ToString::to_string).into());
        }
        Action::Retract { issuer, attestation, .. } => {
            set("provider", issuer.to_string().into());
            set("provider_handle", name(issuer)?.into());
            set("attestation", attestation.to_string().into());
        }
        Action::Admit { operator, service, domain, .. } | Action::Dismiss { operator, service, domain, .. } => {
            set("operator", operator.to_string().into());
            set("service", service.to_string().into());
            set("domain", domain.to_string().into());
        }
        Action::Grant { issuer, scope, expires, .. } => {
            set("provider", issuer.to_string().into());
            set("provider_handle", name(issuer)?.into());
            set("scope", scope.as_str().into());
            set("expires", expires.as_ref().map(ToString::to_string).into());
        }
        Action::Ungrant { issuer, scope, .. } => {
            set("provider", issuer.to_string().into());
            set("provider_handle", name(issuer)?.into());
            set("scope", scope.as_str().into());
        }
        Action::Suspend { operator, reason, .. } => {
            set("operator", operator.to_string().into());
            set("reason", reason.as_str().into());
        }
        Action::Resume { operator, .. } => set("operator", operator.to_string().into()),
    }
    Ok(())
}

/// Whether an event had no effect at this place: another entry of the log has it first, or a rule made it void.
fn void(moment: &Moment<'_>, id: &EventId, log: &LogId, index: u64) -> Result<bool, ApiError> {
    let position = moment.view.position(id, log)?;
    let void: Option<Option<Void>> = position.filter(|position| position.index == index).map(|position| position.void);
    Ok(!matches!(void, Some(None)))
}

/// The node's feed: reads the logs once for all subscribers, and only while there are any.
pub(super) struct Feed {
    app: Arc<App>,
    told: Mutex<Told>,
    lines: broadcast::Sender<Arc<Line>>,
}

/// How far the feed is.
#[derive(Default)]
struct Told {
    frontier: Frontier,
    /// How many rollbacks had begun.
    rollbacks: u64,
    certified: BTreeMap<LogId, u64>,
    running: bool,
}

impl Feed {
    pub(super) fn new(app: Arc<App>) -> Arc<Self> {
        Arc::new(Self { app, told: Mutex::default(), lines: broadcast::channel(LINES_MAX).0 })
    }

    pub(super) fn app(&self) -> Serving {
        Serving::of(&self.app)
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that happens from a frontier on, which is returned.
    pub(super) fn subscribe(self: &Arc<Self>) -> Result<(broadcast::Receiver<Arc<Line>>, Frontier), ApiError> {
        let Serving(app) = self.app();
        // Before the view: of a rollback in between, the next look tells.
        let rollbacks = app.shared.store.rollbacks_begun();
        let moment = Moment::open(&app)?;
        let mut told = self.told();
        let lines = self.lines.subscribe();
        if !told.running {
            *told = Told { frontier: sizes(&moment)?, rollbacks, certified: certified(&moment)?, running: true };
            tokio::spawn(run(Arc::downgrade(self)));
        }
        Ok((lines, told.frontier.clone()))
    }

    /// Tells what is new. Returns whether there was any.
    fn look(&self) -> Result<bool, ApiError> {
        let Serving(app) = self.app();
        let (mut from, before, seen) = {
            let told = self.told();
            (told.frontier.clone(), told.certified.clone(), told.rollbacks)
        };
        let rollbacks = app.shared.store.rollbacks_begun();
        let grown = {
            let health = app.shared.health.read();
            health.logs.iter().any(|(log, now)| now.size > from.of(log) || before.get(log) != Some(&now.certified))
        };
        if !grown && rollbacks == seen {
            return Ok(false);
        }
        let moment = Moment::open(&app)?;
        let mut went_back = Vec::new();
        if rollbacks != seen {
            let told = from.clone();
            from = before_what_was_dropped(&moment, from)?;
            let lower = app.shared.manifest.logs().keys().filter(|log| from.of(log) < told.of(log));
            went_back.extend(lower.map(|log| went_back_to(log, from.of(log))));
        }
        let (lines, at) = read_on(&moment, &from)?;
        let now = certified(&moment)?;
        let end = Arc::new(at.clone());
        let checkpoints = now.iter().filter(|(log, size)| before.get(*log) != Some(*size));
        let checkpoints = checkpoints.map(|(log, size)| checkpoint(log, *size, Arc::clone(&end)));
        let all: Vec<Line> = went_back.into_iter().chain(lines).chain(checkpoints).collect();
        let any = at != from;
        let mut told = self.told();
        for line in all {
            let _ = self.lines.send(Arc::new(line));
        }
        (told.frontier, told.certified, told.rollbacks) = (at, now, rollbacks);
        Ok(any)
    }
}

fn certified(moment: &Moment<'_>) -> Result<BTreeMap<LogId, u64>, ApiError> {
    let manifest = &moment.app.shared.manifest;
    manifest.logs().keys().map(|log| Ok((log.clone(), moment.record_of(log)?.certified))).collect()
}

fn went_back_to(log: &LogId, size: u64) -> Line {
    Line { name: WENT_BACK, data: String::new(), ..checkpoint(log, size, Arc::default()) }
}

fn checkpoint(log: &LogId, size: u64, after: Arc<Frontier>) -> Line {
    let data = json!({"log": log.to_string(), "size": size, "home": log.operator.to_string()}).to_string();
    Line {
        name: "checkpoint",
        log: log.clone(),
        index: size,
        about: Vec::new(),
        provider: None,
        home: None,
        late: false,
        data,
        after,
    }
}

/// Runs until nobody subscribes any more.
async fn run(feed: Weak<Feed>) {
    loop {
        let Some(feed) = feed.upgrade() else { return };
        {
            let mut told = feed.told();
            if feed.lines.receiver_count() == 0 {
                told.running = false;
                return;
            }
        }
        let reader = Arc::clone(&feed);
        let looked = tokio::task::spawn_blocking(move || reader.look()).await;
        drop(feed);
        // An error is logged where it is made; the next look tries again.
        if !matches!(looked, Ok(Ok(true))) {
            sleep(LOOK).await;
        }
    }
}

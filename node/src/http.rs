//! A node's HTTP listeners: the query listener, which is public and read-only, and the operator's admin listener.
use std::convert::Infallible;
use std::sync::{Arc, PoisonError, RwLock};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::routing::{get, post};
use axum::{Router, middleware};
use fama_ledger::id::Domain;
use fama_ledger::time::Millis;
use tokio::sync::mpsc;

use crate::inbox::InboxInput;
use crate::shared::Shared;

mod access;
mod admin;
mod agent;
mod backup;
mod consistency;
mod error;
mod event;
mod events;
mod federation;
mod governance;
mod input;
mod layers;
mod leaderboard;
mod moment;
mod proof;
mod public;
mod redact;
mod serve;
mod sponsorship;
mod status;
mod template;
#[cfg(test)]
pub(crate) mod tests;
mod verify;
mod view;
mod watch;

pub use access::accessed;
pub use error::ApiError;
pub use events::Desk;
pub use serve::{serve, serve_apart};
pub use watch::watch;

/// Most requests that a listener answers at the same time; more get `overloaded`.
pub const REQUESTS_MAX: usize = 256;
/// Most long reads of a listener at the same time. Cheap ones run on the threads of its runtime.
pub const READS_MAX: usize = 6;

/// What the listeners read. They change only metrics.
pub struct App {
    /// Of the node's own copies, or of a quick state.
    pub shared: Shared,
    /// The operator whose node this is; `None` for a mirror.
    pub operator: Option<Domain>,
    /// The home in which bare names are looked up. Its identities are shown by bare name.
    pub namespace: Option<Domain>,
    /// When the process started.
    pub started: Millis,
    /// Whether the database is a quick state, which does not know what happened before its starting point.
    pub partial: bool,
    /// Holds the quick state that answers instead while the node makes its own copies.
    pub slot: Arc<ServingSlot>,
}

impl App {
    /// How many operators must be heard for this node to be ready: n − f.
    fn operators_needed(&self) -> usize {
        self.shared.manifest.operators().len().saturating_sub(self.shared.manifest.faults())
    }
}

/// Which [`App`] answers queries about agents: that of a quick state, or none for the node's own copies.
#[derive(Default)]
pub struct ServingSlot(RwLock<Option<Arc<App>>>);

impl ServingSlot {
    /// From now on, `app` answers.
    pub fn show(&self, app: Arc<App>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(app);
    }

    /// From now on, the node's own copies answer.
    pub fn clear(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// The [`App`] that answers queries about agents now: that of the quick state if there is one, else the node's own.
struct Serving(Arc<App>);

impl Serving {
    fn of(app: &Arc<App>) -> Self {
        let shown = app.slot.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        Self(shown.unwrap_or_else(|| Arc::clone(app)))
    }
}

impl FromRequestParts<Arc<App>> for Serving {
    type Rejection = Infallible;

    async fn from_request_parts(_: &mut Parts, app: &Arc<App>) -> Result<Self, Infallible> {
        Ok(Self::of(app))
    }
}

/// Routes of the query listener: read-only, safe to expose to the internet.
pub fn query(app: Arc<App>) -> Router {
    let metrics = Arc::clone(&app.shared.metrics);
    let proofs = Router::new()
        .route("/api/agent/{x}/proof", get(proof::agent))
        .route("/api/event/{id}/proof", get(proof::event))
        .with_state(proof::ProofMaker::new(Arc::clone(&app)));
    let router = Router::new()
        .route("/api", get(status::index))
        .route("/api/status", get(status::status))
        .route("/api/agent/{x}", get(agent::profile))
        .route("/api/agent/{x}/sponsorship", get(sponsorship::sponsorship))
        .route("/api/verify", post(verify::verify))
        .route("/api/leaderboard", get(leaderboard::leaderboard))
        .route("/api/event/template", get(template::template))
        .route("/api/event/{id}", get(event::event))
        .route("/api/federation", get(federation::federation))
        .route("/api/federation/manifests", get(federation::manifests))
        .route("/api/federation/consistency", get(consistency::consistency))
        .route("/log/{*file}", get(public::file))
        .route("/manifest/{version}", get(public::file))
        .route("/note/{hash}", get(public::file))
        .fallback(error::no_route)
        .with_state(Arc::clone(&app))
        .merge(proofs)
        .layer(middleware::from_fn_with_state(app, status::tell_if_stale));
    layers::public(router, &metrics, REQUESTS_MAX)
}

/// Routes of the submit listener: takes events in, and answers nothing else.
pub fn submit(desk: Arc<Desk>) -> Router {
    let metrics = desk.metrics();
    let router = Router::new().route("/events", post(events::events)).fallback(error::no_route).with_state(desk);
    layers::submit(router, &metrics, REQUESTS_MAX, (events::HEADERS, events::EVENTS_BYTES_MAX))
}

/// Routes of the admin listener: metrics, liveness, readiness, checkpoints for backups, and posts that change the
/// federation. Never public: it is the only listener that can write to the inbox.
pub fn admin(app: Arc<App>, inputs: mpsc::Sender<InboxInput>) -> Router {
    let metrics = Arc::clone(&app.shared.metrics);
    let notes = Router::new()
        .route("/note/redact", post(redact::redact))
        .layer(middleware::from_fn(governance::own_programs_only))
        .with_state((Arc::clone(&app), inputs.clone()));
    let governance = Router::new()
        .route("/federation/stand", post(governance::stand))
        .route("/federation/agree", post(governance::agree))
        .route("/federation/manifest", post(governance::manifest))
        .layer(middleware::from_fn(governance::own_programs_only))
        .with_state(inputs);
    let backups = Router::new()
        .route("/backup", post(backup::begin))
        .route("/backup/end", post(backup::end))
        .layer(middleware::from_fn(governance::own_programs_only))
        .with_state(Arc::clone(&app));
    let router = Router::new()
        .route("/metrics", get(admin::metrics))
        .route("/healthz", get(admin::healthz))
        .route("/readyz", get(admin::readyz))
        .fallback(error::no_route)
        .with_state(app)
        .merge(governance)
        .merge(notes)
        .merge(backups);
    layers::private(router, &metrics, REQUESTS_MAX)
}

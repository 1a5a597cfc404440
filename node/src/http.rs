//! The listeners of a node: the query listener, which nothing can change the ledger through, and the operator's own.
use std::sync::{Arc, PoisonError, RwLock};

use axum::routing::{get, post};
use axum::{Router, middleware};
use fama_ledger::id::Domain;
use fama_ledger::join::Ranking;
use fama_ledger::manifest::Manifest;
use fama_ledger::time::Millis;
use tokio::sync::mpsc;

use crate::health::Health;
use crate::inbox::Input;
use crate::metrics::Metrics;
use crate::proved::Proved;
use crate::store::Store;

mod admin;
mod agent;
mod consistency;
mod error;
mod event;
mod federation;
mod governance;
mod leaderboard;
mod moment;
mod page;
mod proof;
mod public;
mod serve;
mod shell;
mod status;
mod template;
#[cfg(test)]
mod tests;
mod verify;
mod view;

pub use error::ApiError;
pub use serve::serve;

/// Most requests that a listener answers at the same time.
pub const REQUESTS_MAX: usize = 256;

/// What the listeners read. They write none of it but metrics.
pub struct App {
    /// The database.
    pub store: Arc<Store>,
    /// The federation.
    pub manifest: Arc<Manifest>,
    /// Who has most karma; follows the store.
    pub ranking: Arc<RwLock<Ranking>>,
    /// What the node knows of itself and of the others right now.
    pub health: Arc<Health>,
    /// The states of logs that strangers can be shown.
    pub proved: Arc<Proved>,
    /// What the node counts.
    pub metrics: Arc<Metrics>,
    /// The operator whose node this is; a mirror has none.
    pub operator: Option<Domain>,
    /// The home in which bare names are looked up, and whose identities are shown by them.
    pub namespace: Option<Domain>,
    /// When the process started.
    pub started: Millis,
    /// The database is a quick state: what came before it began is not known.
    pub partial: bool,
    /// What answers in this one's place while the node makes its own copies.
    pub slot: Arc<Slot>,
}

/// A place for what shows a quick state.
#[derive(Default)]
pub struct Slot(RwLock<Option<Arc<App>>>);

impl Slot {
    /// From now on this answers.
    pub fn show(&self, app: Arc<App>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(app);
    }

    /// The node's own copies answer again.
    pub fn clear(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl App {
    /// What answers questions about agents now: this, or the quick state in its place.
    fn serving(self: Arc<Self>) -> Arc<Self> {
        let shown = self.slot.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        shown.unwrap_or(self)
    }
}

/// The query listener: read only, safe to put on the internet.
pub fn query(app: Arc<App>) -> Router {
    let metrics = Arc::clone(&app.metrics);
    let proofs = Router::new()
        .route("/api/agent/{x}/proof", get(proof::agent))
        .route("/api/event/{id}/proof", get(proof::event))
        .with_state(proof::Desk::new(Arc::clone(&app)));
    let router = Router::new()
        .route("/api", get(status::index))
        .route("/api/status", get(status::status))
        .route("/api/agent/{x}", get(agent::profile))
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
        .with_state(app)
        .merge(proofs);
    shell::public(router, &metrics, REQUESTS_MAX)
}

/// The operator's listener: metrics, whether the node lives and is ready, and what changes the federation.
/// Never public. It alone has the way into the inbox.
pub fn admin(app: Arc<App>, inputs: mpsc::Sender<Input>) -> Router {
    let metrics = Arc::clone(&app.metrics);
    let governance = Router::new()
        .route("/federation/stand", post(governance::stand))
        .route("/federation/manifest", post(governance::manifest))
        .layer(middleware::from_fn(governance::own_programs_only))
        .with_state(inputs);
    let router = Router::new()
        .route("/metrics", get(admin::metrics))
        .route("/healthz", get(admin::healthz))
        .route("/readyz", get(admin::readyz))
        .fallback(error::no_route)
        .with_state(app)
        .merge(governance);
    shell::private(router, &metrics, REQUESTS_MAX)
}

//! A node's HTTP listeners: the query listener, which is public and read-only, and the operator's admin listener.
use std::convert::Infallible;
use std::sync::{Arc, PoisonError, RwLock};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::routing::{get, post};
use axum::{Router, middleware};
use fama_ledger::id::Domain;
use fama_ledger::manifest::Endpoints;
use fama_ledger::time::Millis;
use tokio::sync::{mpsc, watch as signal};

use answer::AsOf;
use openapi::{Api, CURSOR, Doc, Docs, Kind, Parameter};

use crate::config::CONNECTIONS_MAX;
use crate::inbox::InboxInput;
use crate::shared::Shared;

mod access;
mod admin;
mod agent;
mod answer;
mod auth;
mod backup;
mod client;
mod consistency;
mod did;
mod error;
mod event;
mod events;
mod federation;
mod feed;
mod governance;
mod grants;
mod history;
mod input;
mod karma;
mod keys;
mod layers;
mod leaderboard;
mod mlauth;
mod moment;
mod openapi;
mod pages;
mod proof;
mod public;
mod rates;
mod ready;
mod search;
mod redact;
mod serve;
mod services;
mod skill;
mod sponsorship;
mod status;
mod stream;
mod template;
#[cfg(test)]
pub(crate) mod tests;
mod verify;
mod view;
mod watch;
mod webhooks;

pub use access::accessed;
pub use auth::{SignIn, sign_in};
pub use error::ApiError;
pub use events::Desk;
pub use rates::Rates;
pub use ready::Ready;
pub use serve::{serve, serve_apart};
pub use services::ServiceList;
pub use verify::FORBIDDEN_LOGINS;
pub use watch::watch;
pub use webhooks::{Webhooks, run as run_webhooks};

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
    /// Where this node's submit listener is, if it has one: `http://127.0.0.1:8070`. The manifest may name a public origin.
    pub submit: Option<String>,
    /// The services that operators sponsor.
    pub services: ServiceList,
    /// Answers that were made before.
    pub ready: Ready,
}

impl App {
    /// How many operators must be heard for this node to be ready: n − f.
    fn operators_needed(&self) -> usize {
        self.shared.manifest.operators().len().saturating_sub(self.shared.manifest.faults())
    }

    fn endpoints(&self) -> Option<&Endpoints> {
        let operator = self.operator.as_ref().and_then(|name| self.shared.manifest.operator(name));
        operator.map(|operator| &operator.endpoints)
    }

    /// The origin at which the manifest says that this node answers queries.
    fn query_origin(&self) -> Option<String> {
        self.endpoints().and_then(|endpoints| endpoints.query.clone())
    }

    /// The origin at which this node takes events: as the manifest says, else the listener's own address.
    fn submit_origin(&self) -> Option<String> {
        self.endpoints().and_then(|endpoints| endpoints.submit.clone()).or_else(|| self.submit.clone())
    }

    /// Where signed events are posted.
    fn post_to(&self) -> Option<String> {
        self.submit_origin().map(|origin| format!("{origin}/events"))
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

/// What bounds the clients of a query listener.
pub struct QueryBounds {
    /// How often each may ask.
    pub rates: Arc<Rates>,
    /// Most open connections.
    pub connections_max: u32,
    /// Streams end when it becomes true.
    pub stopped: signal::Receiver<bool>,
}

/// Routes of the query listener: read-only, safe to expose to the internet.
pub fn query(app: Arc<App>, bounds: Option<QueryBounds>) -> Router {
    let connections_max = bounds.as_ref().map_or(CONNECTIONS_MAX, |bounds| bounds.connections_max);
    let (rates, stopped) = bounds.map(|bounds| (bounds.rates, bounds.stopped)).unzip();
    let metrics = Arc::clone(&app.shared.metrics);
    let about = "The query listener of a Fama node: who agents are, whether their keys are good, and how they behaved. \
                 Read-only.";
    let (proofs, docs) = Api::new(Docs::new(about))
        .get(
            "/api/agent/{x}/proof",
            proof::agent,
            Doc::bytes(&["application/json"], "The proof of a profile, or of its absence").query(&[Parameter(
                "granted_by",
                Kind::Text,
                "also proves what these services let the agent do, with commas; at most 16",
            )]),
        )
        .get("/api/event/{id}/proof", proof::event, Doc::bytes(&["text/plain"], "The c2sp.org/tlog-proof of an event"))
        .end();
    let (streams, docs) = live(Api::new(docs)).end();
    let streams = streams.with_state(stream::Streams::new(feed::Feed::new(Arc::clone(&app)), connections_max, stopped));
    let (router, docs) = mlauth_writes(agents(events(others(Api::new(docs))))).end();
    let router = router
        .merge(docs.served("/api/openapi.json"))
        .fallback(error::no_route)
        .with_state(Arc::clone(&app))
        .merge(proofs.with_state(proof::ProofMaker::new(Arc::clone(&app))))
        .merge(streams)
        .merge(pages::routes(&app))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), status::tell_if_stale));
    // Around all else, so that the errors of all layers are shown as pages, too.
    layers::public(router, &metrics, REQUESTS_MAX, rates).layer(middleware::from_fn_with_state(app, pages::errors))
}

fn live(api: Api<Arc<stream::Streams>>) -> Api<Arc<stream::Streams>> {
    api.get(
        "/api/stream",
        stream::stream,
        Doc::bytes(
            &["text/event-stream"],
            "What happens, as server-sent events; Last-Event-ID resumes it, at any node",
        )
        .query(&[
            Parameter("kind", Kind::Text, "key, karma, access, registration, checkpoint: those wanted, with commas"),
            Parameter("agent", Kind::Text, "only what is about these agents, with commas; at most 100"),
            Parameter("provider", Kind::Text, "only what these providers gave, with commas"),
            Parameter("home", Kind::Text, "only agents of these homes, with commas"),
            Parameter("after", Kind::Text, "like the header Last-Event-ID"),
        ])
        .or(&[410]),
    )
}

type QueryApi = Api<Arc<App>>;

fn agents(api: QueryApi) -> QueryApi {
    const FINAL: Parameter = Parameter("final", Kind::Flag, "karma from final entries only");
    const AT: Parameter = Parameter("at", Kind::Time, "adds `key_at`: the key in force at that time");
    const GIVEN: Parameter = Parameter("given", Kind::Flag, "those that the agent gave, as a provider");
    const WITH: Parameter = Parameter("with", Kind::Text, "only those of this provider, or to this agent");
    const CONTEXT: Parameter = Parameter("context", Kind::Text, "only those of this context; empty: those without one");
    api.get(
        "/api/agent/{x}",
        agent::profile,
        Doc::json::<AsOf<view::ProfileView>>("An agent: who it is, its key, its karma").query(&[FINAL, AT]),
    )
    .post(
        "/api/agents",
        agent::profiles,
        Doc::json::<agent::AgentsView>("Up to 100 agents at once").body::<agent::AgentsQuestion>(),
    )
    .get(
        "/api/agent/{x}/attestations",
        history::attestations,
        Doc::json::<history::AttestationsView>("The attestations that an agent received, and why each counts or not")
            .query(&[Parameter("limit", Kind::Limit, "50 if absent; at most 200"), CURSOR, GIVEN, WITH, CONTEXT]),
    )
    .get(
        "/api/agent/{x}/events",
        history::events,
        Doc::json::<history::EventsView>("Everything that is recorded about an agent")
            .query(&[Parameter("limit", Kind::Limit, "50 if absent; at most 200"), CURSOR]),
    )
    .get(
        "/api/agent/{x}/grants",
        grants::grants,
        Doc::json::<grants::GrantsView>("What services let an agent do").query(&[
            Parameter("given", Kind::Flag, "what the agent lets others do, as a service"),
            Parameter("with", Kind::Text, "only those of this service, or to this agent"),
            Parameter("limit", Kind::Limit, "50 if absent; at most 200"),
            CURSOR,
        ]),
    )
    .get(
        "/api/agent/{x}/keys",
        keys::keys,
        Doc::json::<keys::KeysView>("Every version of an agent's key, and when it held")
            .query(&[Parameter("limit", Kind::Limit, "20 if absent; at most 100"), CURSOR]),
    )
    .get(
        "/api/agent/{x}/karma",
        karma::karma,
        Doc::json::<karma::KarmaView>("Why an agent's score is what it is, and scores by a reader's own weights")
            .query(&[
                Parameter("limit", Kind::Limit, "providers of a page; 100 if absent; at most 500"),
                CURSOR,
                Parameter("provider", Kind::Text, "only what this provider gave"),
                Parameter("as_of", Kind::Day, "the UTC day on which ages are measured; today if absent"),
                Parameter("since", Kind::Day, "the first UTC day that counts"),
                CONTEXT,
                Parameter("half_life", Kind::Number(1, 36_500), "after so many days an attestation counts half"),
                Parameter(
                    "provider_share_max",
                    Kind::Number(1, 100),
                    "the most that one provider contributes, in percent",
                ),
                Parameter("days", Kind::Flag, "adds `days`: what counts, by UTC day"),
                Parameter("contexts", Kind::Flag, "adds `contexts` to each provider: what counts, by context"),
            ])
            .or(&[422]),
    )
    .get(
        "/api/agent/{x}/sponsorship",
        sponsorship::sponsorship,
        Doc::json::<sponsorship::SponsorshipView>("Who sponsors a provider, and what a dismissal would change").query(
            &[
                Parameter("operator", Kind::Text, "with the three below: the dismissal that is asked about"),
                Parameter("service", Kind::Text, "its service"),
                Parameter("domain", Kind::Text, "its domain"),
                Parameter("dismiss_from", Kind::Number(0, u32::MAX), "the first number that would no longer count"),
            ],
        ),
    )
    .get("/api/agent/{x}/did.json", did::agent, Doc::bytes(&["application/did+ld+json"], "An agent's DID document"))
    .get("/api/key/{key}", keys::owner, Doc::json::<keys::KeyOwnerView>("Whose key this is, or was"))
    .get(
        "/api/search",
        search::search,
        Doc::json::<search::SearchView>(
            "Agents and services by the beginning of a handle, id, DID, key, service or domain",
        )
        .query(&[
            Parameter("q", Kind::Text, "the beginning, at most 400 bytes"),
            Parameter("limit", Kind::Limit, "20 if absent; at most 100"),
        ])
        .required(&["q"]),
    )
    .post(
        "/api/verify",
        verify::verify,
        Doc::json::<view::VerifiedView>("Whether an agent signed a message just now: its login")
            .body::<verify::Login>()
            .or(&[401]),
    )
    .get(
        "/api/leaderboard",
        leaderboard::leaderboard,
        Doc::json::<view::LeaderboardView>("Agents by karma, highest first").query(&[
            Parameter("limit", Kind::Limit, "100 if absent; at most 500"),
            CURSOR,
            Parameter("home", Kind::Text, "only agents of this home; a page may be short and yet not the last"),
        ]),
    )
    .get(
        "/api/services",
        services::services,
        Doc::json::<services::ServicesView>("The services that operators sponsor")
            .query(&[Parameter("limit", Kind::Limit, "50 if absent; at most 200"), CURSOR]),
    )
    .get(
        "/api/service/{x}",
        services::service,
        Doc::json::<services::ProviderView>("A provider by handle, id, DID or service, its sponsors, and what it gave")
            .query(&[Parameter("limit", Kind::Limit, "subjects of a page; 50 if absent; at most 200"), CURSOR]),
    )
}

fn events(api: QueryApi) -> QueryApi {
    const FIELDS: &[Parameter] = &[
        Parameter("kind", Kind::Text, "register, rotate, revoke, attest, retract, admit or dismiss"),
        Parameter("key", Kind::Text, "and the other fields of the kind, by their names; identities by handle, too"),
    ];
    api.get(
        "/api/event/template",
        template::template,
        Doc::bytes(&["text/plain"], "The text of an event to sign, with what is missing filled in")
            .query(FIELDS)
            .required(&["kind"]),
    )
    .get(
        "/api/event/{id}",
        event::event,
        Doc::json::<event::EventView>("An event, its places in logs, its outcome, a receipt"),
    )
}

fn others(api: QueryApi) -> QueryApi {
    const SIZES: [Parameter; 3] = [
        Parameter("log", Kind::Text, "like alpha.example/1"),
        Parameter("from", Kind::Number(0, u32::MAX), "a size that the reader knows"),
        Parameter("to", Kind::Number(0, u32::MAX), "a larger one; the certified size if absent"),
    ];
    api.get("/api", status::index, Doc::json::<status::IndexView>("What this service is, and its resources"))
        .get("/api/status", status::status, Doc::json::<status::StatusView>("The node's progress"))
        .get(
            "/api/federation",
            federation::federation,
            Doc::json::<federation::FederationView>("Operators, logs, versions"),
        )
        .get(
            "/api/federation/manifests",
            federation::manifests,
            Doc::bytes(&["text/plain"], "All versions of the manifest"),
        )
        .get(
            "/api/federation/issuers",
            federation::issuers,
            Doc::json::<federation::IssuersView>("Who issues tokens, and with which keys"),
        )
        .get(
            "/api/federation/issuers/{operator}/jwks.json",
            federation::jwks,
            Doc::bytes(
                &["application/jwk-set+json"],
                "One operator's token keys, so that its tokens are checked while it is down",
            ),
        )
        .get(
            "/api/federation/consistency",
            consistency::consistency,
            Doc::json::<consistency::Consistency>("Proof that a log only grew").query(&SIZES).required(&["log"]),
        )
        .get(
            "/log/{*file}",
            public::file,
            Doc::bytes(&["application/octet-stream", "text/plain"], "A log as c2sp.org/tlog-tiles"),
        )
        .get("/manifest/{version}", public::file, Doc::bytes(&["text/plain"], "A version of the manifest"))
        .get("/note/{hash}", public::file, Doc::bytes(&["text/plain"], "The text of a note").or(&[410]))
        .get(
            "/.well-known/did.json",
            did::operator,
            Doc::bytes(&["application/did+ld+json"], "The operator's DID document"),
        )
        .get("/fama.js", client::module, Doc::bytes(&["text/javascript"], "The client for JavaScript, an ES module"))
        .get("/skill.md", skill::skill, Doc::bytes(&["text/markdown"], "How an agent takes part with openssl and curl"))
}

/// MLAuth's paths for writing: they say what to sign instead, and change nothing.
fn mlauth_writes(api: QueryApi) -> QueryApi {
    const SIGN_THIS: &str = "Answers 422 `sign_this`: the text to sign instead of MLAuth's, and where to post it";
    let doc = || Doc::json::<serde_json::Value>(SIGN_THIS).body::<serde_json::Value>().never(&[422]);
    api.post("/api/register", mlauth::register, doc())
        .post("/api/key/rotate", mlauth::rotate, doc())
        .post("/api/key/revoke", mlauth::revoke, doc())
        .post("/api/karma/attest", mlauth::attest, doc())
        .post(
            "/api/services",
            mlauth::admit,
            Doc::json::<serde_json::Value>("Answers 422 `ask_operator`: operators admit services").never(&[422]),
        )
}

/// Routes of the submit listener: takes events in, and answers nothing else.
pub fn submit(desk: Arc<Desk>) -> Router {
    let metrics = desk.metrics();
    let app = desk.app();
    let about = "The submit listener of a Fama node: takes signed events into the ledger.";
    let (events, docs) = Api::new(Docs::new(about)).post("/events", events::events, events::doc()).end();
    let (writes, docs) = mlauth_writes(Api::new(docs)).end();
    let router = events
        .with_state(desk)
        .merge(writes.with_state(app))
        .merge(docs.served("/api/openapi.json"))
        .fallback(error::no_route);
    layers::submit(router, &metrics, REQUESTS_MAX, (events::HEADERS, events::EVENTS_BYTES_MAX))
}

/// Routes of the admin listener: metrics, liveness, readiness, checkpoints for backups, and posts that change the
/// federation. Never public: it is the only listener that can write to the inbox.
pub fn admin(app: Arc<App>, inputs: mpsc::Sender<InboxInput>, webhooks: Arc<Webhooks>) -> Router {
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
    let told = webhooks::WebhookRoutes { app: Arc::clone(&app), webhooks };
    let told = Router::new()
        .route("/webhooks/test", post(webhooks::test))
        .route("/webhooks/replay", post(webhooks::replay))
        .layer(middleware::from_fn(governance::own_programs_only))
        .route("/webhooks", get(webhooks::list))
        .with_state(told);
    let router = Router::new()
        .route("/metrics", get(admin::metrics))
        .route("/healthz", get(admin::healthz))
        .route("/readyz", get(admin::readyz))
        .fallback(error::no_route)
        .with_state(app)
        .merge(governance)
        .merge(told)
        .merge(notes)
        .merge(backups);
    layers::private(router, &metrics, REQUESTS_MAX)
}

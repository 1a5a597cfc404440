//! `GET /api/agent/{x}/proof` and `GET /api/event/{id}/proof`: answers that clients verify themselves.
use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use fama_ledger::id::{EventId, IdentityId};
use fama_ledger::log::prove_inclusion;
use fama_ledger::manifest::{LogId, Manifest};
use fama_ledger::profile::{self, GRANTED_BY_MAX, LogSource, MakeError, ProfileProof, Question, Required};
use fama_ledger::public;
use fama_ledger::rows::{self, LogRow, MapName};
use tokio::sync::Semaphore;

use super::input::Params;
use super::layers::Place;
use super::moment::{Moment, question};
use super::{ApiError, App, READS_MAX};
use crate::certified::{CertifiedRows, Front};
use crate::public::inclusion;
use crate::store::{Position, View};

/// Most proofs that are made at the same time; more requests get `overloaded`. Fewer than [`READS_MAX`], so that
/// proofs leave other long reads their share.
const PROOFS_MAX: usize = 4;
const _: () = assert!(PROOFS_MAX < READS_MAX);
/// How often a view is taken of the database before giving up, if a head above the view is certified each time.
const ATTEMPTS: usize = 8;
/// After how many seconds a client may ask again for a proof that can't be made yet.
const PENDING_SECONDS: u32 = 2;

/// Makes proofs off the listener's threads, a limited number at a time.
pub(super) struct ProofMaker {
    app: Arc<App>,
    permits: Arc<Semaphore>,
}

impl ProofMaker {
    pub(super) fn new(app: Arc<App>) -> Arc<Self> {
        Arc::new(Self { app, permits: Arc::new(Semaphore::new(PROOFS_MAX)) })
    }

    /// Runs `make` as a long read; `overloaded` if [`PROOFS_MAX`] are under way.
    async fn run<T: Send + 'static>(
        &self,
        place: &Place,
        make: impl FnOnce(&App) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let permit = Arc::clone(&self.permits).try_acquire_owned().map_err(|_| ApiError::overloaded())?;
        let app = Arc::clone(&self.app);
        let make = move || {
            let _permit = permit;
            make(&app)
        };
        place.read(make).await
    }
}

fn pending(log: &LogId) -> ApiError {
    let message = format!("no quorum has cosigned a head of {log} yet that proves this; try again soon");
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "proof_pending", message)
        .with("log", log.to_string())
        .retry_after(PENDING_SECONDS)
}

fn too_long() -> ApiError {
    let message = "this agent's keys do not fit into one proof";
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "profile_too_long", message)
}

/// Proof of an agent's profile, or proof that there is no such agent.
pub(super) async fn agent(
    State(maker): State<Arc<ProofMaker>>,
    place: Place,
    Path(x): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Response, ApiError> {
    let params = Params::new(query, &["granted_by"])?;
    let issuers = params.get("granted_by").unwrap_or_default().to_owned();
    let asked = move |app: &App| {
        let granted_by = granted_by(app, &issuers)?;
        profile(app, &Question { granted_by, ..question(app, &x)? })
    };
    let proof = maker.run(&place, asked).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], proof).into_response())
}

/// The identities with these names, which have commas between them: each once, by id.
fn granted_by(app: &App, names: &str) -> Result<Vec<IdentityId>, ApiError> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let wrong = |error: ApiError| error.with("field", "granted_by");
    let names: Vec<&str> = names.split(',').take(GRANTED_BY_MAX + 1).collect();
    if names.len() > GRANTED_BY_MAX {
        let message = format!("granted_by: at most {GRANTED_BY_MAX} services in one proof");
        return Err(wrong(ApiError::bad("too_many", message)));
    }
    let moment = Moment::open(app)?;
    let issuers = names.iter().map(|name| match name.parse() {
        Ok(id) => Ok(id),
        Err(_) => moment.find(name).map(|found| found.id).map_err(wrong),
    });
    issuers.collect::<Result<BTreeSet<_>, _>>().map(|issuers| issuers.into_iter().collect())
}

fn profile(app: &App, question: &Question) -> Result<String, ApiError> {
    for _ in 0..ATTEMPTS {
        let view = app.shared.store.view();
        if let Some(state) = app.shared.certified.state(&view)? {
            return make(&app.shared.manifest, &view, &state, question);
        }
    }
    Err(ApiError::overloaded())
}

fn make(
    manifest: &Arc<Manifest>,
    view: &View<'_>,
    state: &CertifiedRows<'_>,
    question: &Question,
) -> Result<String, ApiError> {
    let mut sources = Vec::new();
    for (log, front) in &state.fronts {
        // A reader would refuse it, as if it were not there.
        if inclusion::is_outdated(manifest, view, log, front.certificate.head().size)? {
            continue;
        }
        let certificate = Some(certificate(manifest, view, state, (log, front))?);
        sources.push(LogSource { log: log.clone(), certificate, maps: &front.maps });
    }
    sources.extend(state.cut.iter().map(|(log, maps)| LogSource { log: log.clone(), certificate: None, maps }));
    let proof = ProfileProof::make(manifest, question.clone(), state, &sources).map_err(|error| match error {
        MakeError::HomeLeftOut { log, .. } => pending(&log),
        MakeError::TooMany => too_long(),
        MakeError::Rows(error) => ApiError::from(error),
        MakeError::Torn => ApiError::internal(error),
    })?;
    // If the proof is wrong, this node must notice before a client does. How old it may be and what it may leave out
    // is for the client to say.
    let anything =
        Required { question: question.clone(), max_age_seconds: u64::MAX, missing_max: usize::MAX, now: u64::MAX };
    proof.verify(manifest, &anything).map_err(ApiError::internal)?;
    Ok(proof.to_string())
}

/// The evidence for a front's head, with the cosignatures of those operators that count there.
fn certificate(
    manifest: &Manifest,
    view: &View<'_>,
    state: &CertifiedRows<'_>,
    (log, front): (&LogId, &Front),
) -> Result<profile::HeadEvidence, ApiError> {
    let row = rows::read::<LogRow, _>(state, MapName::log(log).id(), &())?;
    let adopted = row.and_then(|row| manifest.at(row.version));
    let adopted = adopted.ok_or_else(|| ApiError::internal("a log with a front has adopted a version"))?;
    let (size, before) = (front.certificate.head().size, manifest.at(adopted.version().saturating_sub(1)));
    let last = size.saturating_sub(1);
    let entry = view.entry(log, last)?;
    let entry = entry.ok_or_else(|| ApiError::internal("a certified entry is not stored"))?;
    let (path, shown) = (prove_inclusion(last, size, &view.tiles(log))?, view.adoption(log, size)?);
    // At the head that ends with an adoption, the operators of the version before count too.
    let before = before.filter(|_| shown.as_ref().is_some_and(|shown| shown.end() == size));
    let is_of = |version: &Manifest, by: &LogId| version.operator(&by.operator).is_some_and(|one| one.log() == *by);
    let counts = |by: &LogId| is_of(adopted, by) || before.is_some_and(|before| is_of(before, by));
    let cosigned = front.certificate.cosignatures.iter().filter(|(by, _)| counts(by));
    let note = public::checkpoint(manifest, log, &front.certificate.signed, cosigned);
    let note = note.ok_or_else(|| ApiError::internal("an unknown log"))?;
    Ok(profile::HeadEvidence { note, entry, path, adopted: shown })
}

/// Proof of an event's position, as a c2sp.org/tlog-proof. Its extra data is the entry, followed by the proof of where
/// the log adopted the version that counts.
pub(super) async fn event(
    State(maker): State<Arc<ProofMaker>>,
    place: Place,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let id: EventId = id.parse().map_err(|rule| ApiError::bad("bad_id", format!("id: {rule}")).with("field", "id"))?;
    let proof = maker.run(&place, move |app| position_of(app, id)).await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], proof).into_response())
}

fn position_of(app: &App, id: EventId) -> Result<String, ApiError> {
    let view = app.shared.store.view();
    let mut positions = view.positions(&id)?;
    // The position where the event took effect comes first; other logs may have it too, without effect.
    positions.sort_by_key(|position| position.void.is_some());
    let unknown = || ApiError::not_found("unknown_event", "no event of this id is known here");
    let Position { log, index, .. } = positions.into_iter().next().ok_or_else(unknown)?;
    let proof = inclusion::certified(&view, &app.shared.manifest, &log, index)?;
    proof.map(|proof| proof.to_string()).ok_or_else(|| pending(&log))
}

//! `POST /events` of the submit listener: signed events from agents and services that speak HTTP.
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, FromRequest, Multipart, Query, Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use fama_ledger::base64;
use fama_ledger::entry::VerifiedEvent;
use fama_ledger::event::{Action, Event};
use fama_ledger::id::{FederationId, did};
use fama_ledger::key::{PublicKey, SignatureError};
use fama_ledger::manifest::LogId;
use fama_ledger::proof::TlogProof;
use rayon::prelude::*;
use schemars::generate::SchemaGenerator;
use schemars::{JsonSchema, Schema, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep};

use super::error::Problem;
use super::input::{self, Params};
use super::moment::Moment;
use super::openapi::{Doc, Kind, Parameter};
use super::{ApiError, App, Serving};
use crate::config::LiveSettings;
use crate::metrics::Metrics;
use crate::public::inclusion::{self, CertifiedLog};
use crate::store::View;
use crate::submit::Submitter;
use crate::verify::{self, EdgeError};
use crate::wire::{Receipt, Refusal, SUBMISSIONS_MAX, Submission, SubmitResult};

/// Most events of one request.
pub(super) const EVENTS_MAX: usize = 1_000;
/// Longest request body, in bytes: fits [`EVENTS_MAX`] events with notes.
pub(super) const EVENTS_BYTES_MAX: usize = 4 << 20;
/// How long `?wait=final` holds an answer at most; less than a request's time.
const WAIT_MAX: Duration = Duration::from_secs(20);
/// How often a waiting request looks.
const WAIT_LOOK: Duration = Duration::from_millis(100);
/// Requests that wait at once; further ones are answered without waiting.
const WAITING_MAX: usize = 96;

const SIGNATURE: HeaderName = HeaderName::from_static("fama-signature");
const COUNTERSIGNATURE: HeaderName = HeaderName::from_static("fama-countersignature");
const SIGNER: HeaderName = HeaderName::from_static("fama-signer");
const INVITE: HeaderName = HeaderName::from_static("fama-invite");

/// Headers that browsers may send here.
pub(super) const HEADERS: [HeaderName; 4] = [SIGNATURE, COUNTERSIGNATURE, SIGNER, INVITE];

/// What the submit listener needs besides what all listeners read.
pub struct Desk {
    app: Arc<App>,
    submitter: Arc<Submitter>,
    live: watch::Receiver<Arc<LiveSettings>>,
    waiting: Arc<Semaphore>,
}

impl Desk {
    pub(super) fn app(&self) -> Arc<App> {
        Arc::clone(&self.app)
    }

    pub(super) fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.app.shared.metrics)
    }

    pub(crate) fn new(app: Arc<App>, submitter: Arc<Submitter>, live: watch::Receiver<Arc<LiveSettings>>) -> Arc<Self> {
        Arc::new(Self { app, submitter, live, waiting: Arc::new(Semaphore::new(WAITING_MAX)) })
    }
}

/// An event as a client hands it in.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct Handed {
    /// The canonical text.
    text: String,
    /// The signature of the text, in base64.
    signature: String,
    /// That of the new key of a rotation, in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    countersignature: Option<String>,
    /// The key that signed, if it is neither in the text nor the identity's current one.
    #[serde(skip_serializing_if = "Option::is_none")]
    signer: Option<String>,
    /// The text of the note that the event names.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    /// An invitation, which lifts the rate of registrations.
    #[serde(skip_serializing_if = "Option::is_none")]
    invite: Option<String>,
}

/// The answer to one event that the ledger has now.
#[derive(Serialize, JsonSchema)]
struct ReceiptView {
    event: String,
    kind: &'static str,
    /// The log that holds it, like `alpha.example/1`.
    log: String,
    index: u64,
    /// When the log's operator took it.
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    /// Whether the log had the event before.
    known: bool,
    /// Whether a quorum of operators has certified it.
    r#final: bool,
    /// A c2sp.org/tlog-proof.
    proof: String,
    /// Of a registration: the new agent's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    handle: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    did: Option<String>,
    /// In an array: the status that it would have had alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
}

/// The answer to one event of an array.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
enum SubmittedItemView {
    Taken(Box<ReceiptView>),
    Refused(#[schemars(with = "Problem<'static>")] Value),
}

/// The answer to one event or to an array of them.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
enum SubmittedView {
    One(Box<ReceiptView>),
    /// One for each event, in their order.
    Many(Vec<SubmittedItemView>),
}

/// The description of the route.
pub(super) fn doc() -> Doc {
    const HEADERS: &[Parameter] = &[
        Parameter("Fama-Signature", Kind::Text, "the signature of a text, in base64"),
        Parameter("Fama-Countersignature", Kind::Text, "that of the new key of a rotation without commitment"),
        Parameter("Fama-Signer", Kind::Text, "the key that signed, if it is neither in the text nor the current one"),
        Parameter("Fama-Invite", Kind::Text, "an invitation, which lifts the rate of registrations"),
    ];
    const WAIT: Parameter = Parameter("wait", Kind::Word("final"), "holds the answer until the events are certified");
    Doc::json::<SubmittedView>("Takes in signed events: 201 with the receipt, 200 if known, 202 if waited for in vain")
        .query(&[WAIT])
        .headers(HEADERS)
        .bodies(&[
            ("text/plain", SchemaGenerator::subschema_for::<String>),
            ("application/json", one_or_many),
            ("multipart/form-data", SchemaGenerator::subschema_for::<Handed>),
        ])
        .succeeds(&[200, 201, 202])
        .or(&[401, 403, 409, 422])
}

fn one_or_many(generator: &mut SchemaGenerator) -> Schema {
    let one = generator.subschema_for::<Handed>();
    json_schema!({"anyOf": [one, {"type": "array", "items": one, "maxItems": EVENTS_MAX}]})
}

pub(super) async fn events(
    State(desk): State<Arc<Desk>>,
    Query(query): Query<Vec<(String, String)>>,
    request: Request,
) -> Result<Response, ApiError> {
    let wait = match Params::new(query, &["wait"])?.get("wait") {
        None => false,
        Some("final") => true,
        Some(_) => return Err(ApiError::bad("bad_parameter", "wait: want final").with("field", "wait")),
    };
    let client = client(&desk, &request);
    let (mut handed, many) = read(request).await?;
    if handed.len() > EVENTS_MAX {
        return Err(ApiError::bad("too_many", format!("at most {EVENTS_MAX} events at a time")));
    }
    let (reader, count) = (Arc::clone(&desk), handed.len());
    let texts = std::mem::take(&mut handed);
    // Signatures are verified, and signers looked up.
    let made = tokio::task::spawn_blocking(move || made(&reader.app, texts)).await?;
    let mut results: Vec<Option<Outcome>> = (0..count).map(|_| None).collect();
    let mut events = Vec::new();
    for (at, made) in made?.into_iter().enumerate() {
        match (made, results.get_mut(at)) {
            (Ok(offered), _) => events.push((at, offered)),
            (Err(error), Some(slot)) => *slot = Some(Err(error)),
            (Err(_), None) => {}
        }
    }
    while !events.is_empty() {
        let rest = events.split_off(events.len().min(SUBMISSIONS_MAX));
        let (places, offered): (Vec<usize>, Vec<Offered>) = std::mem::replace(&mut events, rest).into_iter().unzip();
        let actions: Vec<Event> = offered.iter().map(|(one, _)| one.signed.event.clone()).collect();
        let answers = desk.submitter.submit_from(client, offered).await;
        for ((at, event), answer) in places.into_iter().zip(actions).zip(answers) {
            if let Some(slot) = results.get_mut(at) {
                *slot = Some(match answer {
                    SubmitResult::Accepted(receipt) => Ok((event, receipt)),
                    SubmitResult::Refused(refusal) => Err(refused(refusal)),
                });
            }
        }
    }
    let missing = || Err(ApiError::of_status(StatusCode::INTERNAL_SERVER_ERROR));
    let results: Vec<Outcome> = results.into_iter().map(|result| result.unwrap_or_else(missing)).collect();
    let waited = wait && wait_final(&desk, &results).await;
    let app = Arc::clone(&desk.app);
    let mut shown = tokio::task::spawn_blocking(move || answers(&app, results, (wait, waited))).await?;
    if many {
        return Ok(Json(SubmittedView::Many(shown.into_iter().map(one_of_many).collect())).into_response());
    }
    match shown.pop() {
        Some(Ok((status, receipt))) => Ok((status, Json(SubmittedView::One(Box::new(receipt)))).into_response()),
        Some(Err(error)) => Err(error),
        None => Err(ApiError::bad("no_event", "the body holds no event")),
    }
}

/// A submission, and its event once that is verified.
type Offered = (Submission, VerifiedEvent);
type Outcome = Result<(Event, Receipt), ApiError>;

/// The client's address: that of the connection, or what a trusted proxy says.
fn client(desk: &Desk, request: &Request) -> Option<IpAddr> {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip())?;
    let live = Arc::clone(&desk.live.borrow());
    Some(input::client(&live.access, peer, request.headers()))
}

/// The events of a body, and whether it was an array.
async fn read(request: Request) -> Result<(Vec<Handed>, bool), ApiError> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let headers = request.headers().clone();
    match kind.as_str() {
        "application/json" => {
            let body =
                Bytes::from_request(request, &()).await.map_err(|_| ApiError::of_status(StatusCode::BAD_REQUEST))?;
            json_events(&body)
        }
        "multipart/form-data" => Ok((vec![with_headers(parts(request).await?, &headers)?], false)),
        _ => {
            let body =
                Bytes::from_request(request, &()).await.map_err(|_| ApiError::of_status(StatusCode::BAD_REQUEST))?;
            let text =
                String::from_utf8(body.into()).map_err(|_| ApiError::bad("not_utf8", "the text is not UTF-8"))?;
            Ok((vec![with_headers(Handed { text, ..Handed::default() }, &headers)?], false))
        }
    }
}

fn json_events(body: &[u8]) -> Result<(Vec<Handed>, bool), ApiError> {
    let wrong = |error: serde_json::Error| {
        ApiError::bad("bad_json", format!("want an object with text and signature, or an array of them: {error}"))
    };
    match serde_json::from_slice(body).map_err(wrong)? {
        Value::Array(all) if all.len() > EVENTS_MAX => {
            Err(ApiError::bad("too_many", format!("at most {EVENTS_MAX} events at a time")))
        }
        Value::Array(all) => {
            let all = all.into_iter().map(|one| serde_json::from_value(one).map_err(wrong));
            Ok((all.collect::<Result<_, _>>()?, true))
        }
        one => Ok((vec![serde_json::from_value(one).map_err(wrong)?], false)),
    }
}

/// The parts of a form. Shells need not escape anything in it.
async fn parts(request: Request) -> Result<Handed, ApiError> {
    let wrong = |error: &dyn std::fmt::Display| ApiError::bad("bad_form", format!("the form is malformed: {error}"));
    let mut form = Multipart::from_request(request, &()).await.map_err(|error| wrong(&error))?;
    let mut handed = Handed::default();
    while let Some(field) = form.next_field().await.map_err(|error| wrong(&error))? {
        let name = field.name().unwrap_or_default().to_owned();
        let bytes = field.bytes().await.map_err(|error| wrong(&error))?;
        // A signature may come as openssl writes it, in binary.
        if matches!(name.as_str(), "signature" | "countersignature") && std::str::from_utf8(&bytes).is_err() {
            let text = base64::encode(&bytes);
            if name == "signature" {
                handed.signature = text;
            } else {
                handed.countersignature = Some(text);
            }
            continue;
        }
        let text =
            String::from_utf8(bytes.into()).map_err(|_| ApiError::bad("not_utf8", format!("{name} is not UTF-8")))?;
        match name.as_str() {
            "text" => handed.text = text,
            "signature" => handed.signature = text,
            "countersignature" => handed.countersignature = Some(text),
            "signer" => handed.signer = Some(text),
            "note" => handed.note = Some(text),
            "invite" => handed.invite = Some(text),
            _ => return Err(ApiError::bad("unknown_part", "the form has an unknown part").with("field", name)),
        }
    }
    Ok(handed)
}

/// Takes from headers what the body does not have.
fn with_headers(handed: Handed, headers: &HeaderMap) -> Result<Handed, ApiError> {
    let value = |name: &HeaderName| match headers.get(name).map(|value| value.to_str()) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(text.to_owned())),
        Some(Err(_)) => Err(ApiError::bad("bad_header", format!("{name}: want ASCII")).with("field", name.as_str())),
    };
    let signature = if handed.signature.is_empty() { value(&SIGNATURE)?.unwrap_or_default() } else { handed.signature };
    Ok(Handed {
        signature,
        countersignature: handed.countersignature.map_or_else(|| value(&COUNTERSIGNATURE), |one| Ok(Some(one)))?,
        signer: handed.signer.map_or_else(|| value(&SIGNER), |one| Ok(Some(one)))?,
        invite: handed.invite.map_or_else(|| value(&INVITE), |one| Ok(Some(one)))?,
        ..handed
    })
}

/// Reads each event, then verifies all, on all cores.
fn made(app: &Arc<App>, handed: Vec<Handed>) -> Result<Vec<Result<Offered, ApiError>>, ApiError> {
    let Serving(shown) = Serving::of(app);
    let moment = Moment::open(&shown)?;
    let read: Vec<Result<UnverifiedEvent, ApiError>> =
        handed.into_iter().map(|one| UnverifiedEvent::read(&moment, one)).collect();
    let federation = app.shared.manifest.federation();
    Ok(read.into_par_iter().map(|one| one?.verify(&federation)).collect())
}

/// An event with signatures that are not verified yet.
struct UnverifiedEvent {
    event: Event,
    /// The keys of which one must have signed.
    signers: Vec<PublicKey>,
    signature: Vec<u8>,
    countersignature: Option<Vec<u8>>,
    note: Option<String>,
    invite: Option<String>,
}

impl UnverifiedEvent {
    fn read(moment: &Moment<'_>, handed: Handed) -> Result<Self, ApiError> {
        let missing =
            |name: &'static str| ApiError::bad("missing_field", format!("{name}: is missing")).with("field", name);
        if handed.text.is_empty() {
            return Err(missing("text"));
        }
        let event = Event::parse(handed.text.as_bytes()).map_err(|error| {
            let (code, line) = (error.fault.code(), error.line);
            let hint = if handed.text.trim_start().starts_with(['{', '[']) {
                "; JSON needs the header content-type: application/json"
            } else if handed.text.lines().count() == 1 {
                "; with curl, --data-binary keeps line ends, which -d removes"
            } else {
                ""
            };
            ApiError::bad(code, format!("{error}{hint}")).with("field", "text").with("line", line)
        })?;
        if event.federation != moment.app.shared.manifest.federation() {
            let message = "the text is for another federation";
            return Err(ApiError::bad("wrong_federation", message).with("field", "text"));
        }
        if handed.signature.is_empty() {
            return Err(missing("signature"));
        }
        let bytes = |name: &'static str, text: &str| {
            let wrong = || ApiError::bad("bad_signature_form", format!("{name}: want base64")).with("field", name);
            base64::decode_lenient(text).filter(|bytes| !bytes.is_empty()).ok_or_else(wrong)
        };
        let signature = bytes("signature", &handed.signature)?;
        let signers = signers(moment, &event, &handed)?;
        let second = handed.countersignature.as_deref();
        if second.is_some() && !matches!(event.action, Action::Rotate { .. }) {
            let message = "countersignature: only a rotation has one";
            return Err(ApiError::bad("bad_signature_form", message).with("field", "countersignature"));
        }
        let countersignature = second.map(|second| bytes("countersignature", second)).transpose()?;
        Ok(Self { event, signers, signature, countersignature, note: handed.note, invite: handed.invite })
    }

    fn verify(self, federation: &FederationId) -> Result<Offered, ApiError> {
        let signatures = (self.signature.as_slice(), self.countersignature.as_deref());
        let event =
            verify::from_edge(self.event, &self.signers, signatures, federation).map_err(|error| match error {
                EdgeError::Signature(error) => fault("signature", error),
                EdgeError::Countersignature(error) => fault("countersignature", error),
                EdgeError::Event(error) => refused(Refusal::new(error.code(), error)),
            })?;
        let signed = event.signed().clone();
        Ok((Submission { signed, note: self.note, invite: self.invite, recovered: None }, event))
    }
}

/// The keys of which one must have signed.
fn signers(moment: &Moment<'_>, event: &Event, handed: &Handed) -> Result<Vec<PublicKey>, ApiError> {
    if let Some(signer) = handed.signer.as_deref().filter(|signer| !signer.trim().is_empty()) {
        return Ok(vec![key(signer)?]);
    }
    let current = |identity| -> Result<PublicKey, ApiError> {
        let found = moment.join().identity(identity)?;
        let found = found.ok_or_else(|| moment.unknown("unknown_identity", "no such identity is known here"))?;
        Ok(moment.join().key_status(&found)?.current.key)
    };
    Ok(match &event.action {
        Action::Register { key, .. } | Action::Revoke { key, .. } => vec![*key],
        // With a second signature the current key signs and the new one countersigns; else the committed one signs.
        Action::Rotate { identity, .. } if handed.countersignature.is_some() => vec![current(*identity)?],
        Action::Rotate { key, .. } => vec![*key],
        Action::Attest { issuer, .. }
        | Action::Retract { issuer, .. }
        | Action::Grant { issuer, .. }
        | Action::Ungrant { issuer, .. } => vec![current(*issuer)?],
        Action::Admit { operator, .. }
        | Action::Dismiss { operator, .. }
        | Action::Suspend { operator, .. }
        | Action::Resume { operator, .. } => {
            let known = moment.app.shared.manifest.operator(operator);
            let known = known.map(|operator| PublicKey::Ed25519(operator.node_key.to_bytes()));
            let unknown = || ApiError::not_found("unknown_operator", format!("{operator} is not an operator"));
            vec![known.ok_or_else(unknown)?]
        }
    })
}

/// A public key as its text form or as PEM, of which a header has the line breaks as spaces.
fn key(given: &str) -> Result<PublicKey, ApiError> {
    let wrong = |error: fama_ledger::key::KeyError| {
        ApiError::bad(error.code(), format!("signer: {error}")).with("field", "signer")
    };
    let given = given.trim();
    if !given.starts_with("-----BEGIN") {
        return given.parse().map_err(wrong);
    }
    if given.contains("PRIVATE KEY-----") {
        let message = "signer: this is a private key, which is no longer secret now: make a new one";
        return Err(ApiError::bad("private_key", message).with("field", "signer"));
    }
    PublicKey::from_pem(given).map_err(wrong)
}

fn fault(field: &'static str, error: SignatureError) -> ApiError {
    match error {
        SignatureError::Malformed => {
            ApiError::bad("bad_signature_form", format!("{field}: want a signature of the key's curve"))
                .with("field", field)
        }
        error => {
            let message = format!("{field}: it does not match key and text");
            ApiError::new(StatusCode::UNAUTHORIZED, "bad_signature", message)
                .with("field", field)
                .with("reason", error.code())
        }
    }
}

/// The answer to a refusal of the ledger or of a node.
pub(super) fn refused(refusal: Refusal) -> ApiError {
    let status = match refusal.code.as_str() {
        "not_sponsored" | "revoked" | "not_authorized" => StatusCode::FORBIDDEN,
        "unknown_identity" | "not_found" | "unknown_home" => StatusCode::NOT_FOUND,
        "name_taken" | "key_in_use" | "wrong_version" | "cap" | "already_retracted" | "superseded" | "duplicate" => {
            StatusCode::CONFLICT
        }
        // Of a quota, the seconds until a retry are those until midnight UTC.
        "rate" | "quota" | "daily_bytes" => StatusCode::TOO_MANY_REQUESTS,
        "home_unreachable" | "outcome_unknown" | "busy" | "not_ready" | "stopping" | "internal" | "uncertified" => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        code if code.starts_with("signature_") || code.starts_with("key_") => StatusCode::UNAUTHORIZED,
        "wrong_note" | "too_many" => StatusCode::BAD_REQUEST,
        _ if refusal.retry_after.is_some() => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    };
    let error = ApiError::new(status, refusal.code, refusal.message);
    match refusal.retry_after {
        Some(seconds) => error.retry_after(seconds),
        None => error,
    }
}

/// Waits until every accepted event is final; whether they are.
async fn wait_final(desk: &Desk, results: &[Outcome]) -> bool {
    let Ok(_place) = Arc::clone(&desk.waiting).try_acquire_owned() else { return false };
    let deadline = Instant::now() + WAIT_MAX;
    loop {
        let app = Arc::clone(&desk.app);
        let places: Vec<_> =
            results.iter().flatten().map(|(_, receipt)| (receipt.log.clone(), receipt.index)).collect();
        let look = move || {
            let view = app.shared.store.view();
            // What cannot be read is not final, and the log says so when the answer is made.
            places
                .iter()
                .all(|(log, index)| inclusion::is_certified(&view, &app.shared.manifest, log, *index).unwrap_or(false))
        };
        match tokio::task::spawn_blocking(look).await {
            Ok(true) => return true,
            Ok(false) if Instant::now() + WAIT_LOOK < deadline => sleep(WAIT_LOOK).await,
            _ => return false,
        }
    }
}

/// What each outcome is shown as.
type Answer = Result<(StatusCode, ReceiptView), ApiError>;

/// The answers to events, as of one moment.
fn answers(app: &App, results: Vec<Outcome>, waited: (bool, bool)) -> Vec<Answer> {
    let (view, mut logs) = (app.shared.store.view(), BTreeMap::new());
    results
        .into_iter()
        .map(|result| answer(result, waited, |receipt| final_proof(app, &view, &mut logs, receipt)))
        .collect()
}

/// The proof of a receipt's entry under its log's certificate, if there is one already. `logs` are those opened so far.
fn final_proof<'v>(
    app: &App,
    view: &'v View<'v>,
    logs: &mut BTreeMap<LogId, Option<CertifiedLog<'v>>>,
    receipt: &Receipt,
) -> Option<TlogProof> {
    let log = match logs.entry(receipt.log.clone()) {
        Entry::Occupied(opened) => Ok(opened.into_mut()),
        Entry::Vacant(unopened) => {
            CertifiedLog::open(view, &app.shared.manifest, &receipt.log).map(|opened| unopened.insert(opened))
        }
    };
    let proof = log.and_then(|log| log.as_mut().map_or(Ok(None), |log| log.prove(receipt.index)));
    // The receipt proves that the operator took the event, all the same.
    proof.unwrap_or_else(|error| {
        tracing::error!(%error, log = %receipt.log, index = receipt.index, "cannot prove an entry under its certificate");
        None
    })
}

/// The receipt with its status: 201, 200 if the event was known, 202 if it was waited for in vain.
fn answer(
    result: Outcome,
    (wait, waited): (bool, bool),
    final_proof: impl FnOnce(&Receipt) -> Option<TlogProof>,
) -> Answer {
    let (event, receipt) = result?;
    let certified = final_proof(&receipt);
    let is_final = waited || certified.is_some();
    let proof = match certified {
        Some(proof) => proof.to_string(),
        None => carrying(&receipt),
    };
    let entry =
        fama_ledger::codec::decode::<fama_ledger::entry::Entry>(&receipt.entry, fama_ledger::limits::ENTRY_BYTES_MAX);
    let registered = match &event.action {
        Action::Register { home, name, .. } => Some((home, name)),
        _ => None,
    };
    let status = match (receipt.known, wait && !is_final) {
        (_, true) => StatusCode::ACCEPTED,
        (true, false) => StatusCode::OK,
        (false, false) => StatusCode::CREATED,
    };
    let shown = ReceiptView {
        event: receipt.event.to_string(),
        kind: event.action.kind().as_str(),
        log: receipt.log.to_string(),
        index: receipt.index,
        time: entry.ok().map(|entry| entry.time.to_string()),
        known: receipt.known,
        r#final: is_final,
        proof,
        identity: registered.map(|_| receipt.event.to_string()),
        handle: registered.map(|(home, name)| format!("{name}@{home}")),
        did: registered.map(|(home, _)| did(home, &receipt.event)),
        status: None,
    };
    Ok((status, shown))
}

/// The proof with its entry, as `fama verify` reads it.
fn carrying(receipt: &Receipt) -> String {
    let whole = |proof: TlogProof| TlogProof { extra: proof.extra.or(Some(receipt.entry.clone())), ..proof };
    receipt.proof.parse().map_or_else(|_| receipt.proof.clone(), |proof| whole(proof).to_string())
}

/// An item of an array's answer: the receipt or the error, each with the status that it would have had alone.
fn one_of_many(result: Answer) -> SubmittedItemView {
    match result {
        Ok((status, receipt)) => {
            SubmittedItemView::Taken(Box::new(ReceiptView { status: Some(status.as_u16()), ..receipt }))
        }
        Err(error) => SubmittedItemView::Refused(error.json()),
    }
}

//! `GET /api/event/template`: the text of an event to sign, for people with only a shell. Stores nothing.
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::header;
use axum::response::IntoResponse;
use fama_ledger::event::{EVENT_FORMAT, Event, Kind};
use fama_ledger::id::{Hex, IdentityId};
use fama_ledger::join::LocatedIdentity;
use fama_ledger::key::PublicKey;
use fama_ledger::text::{TextError, TextFault, check_value};

use super::input::Params;
use super::moment::Moment;
use super::{ApiError, App};
use crate::clock;

/// The fields between `kind` and `created`, in the order of the event's text.
const fn fields(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Register => &["home", "name", "key", "next", "note"],
        Kind::Rotate => &["home", "identity", "version", "key", "next"],
        Kind::Revoke => &["home", "identity", "version", "key", "reason"],
        Kind::Attest => &["home", "issuer", "subject", "delta", "context", "note"],
        Kind::Retract => &["home", "issuer", "subject", "day", "attestation"],
        Kind::Admit => &["operator", "provider", "service", "domain", "method", "from"],
        Kind::Dismiss => &["operator", "provider", "service", "domain", "from", "reason"],
        Kind::Grant => &["home", "issuer", "subject", "scope", "expires", "note"],
        Kind::Ungrant => &["home", "issuer", "subject", "scope"],
        Kind::Suspend => &["operator", "identity", "reason"],
        Kind::Resume => &["operator", "identity"],
    }
}

/// The fields that name identities. The query may use a handle or a DID; the text has the id.
const IDENTITIES: [&str; 4] = ["identity", "issuer", "subject", "provider"];

pub(super) async fn template(
    State(app): State<Arc<App>>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<impl IntoResponse, ApiError> {
    let text = text(&app, query)?;
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")], text))
}

pub(super) fn text(app: &App, query: Vec<(String, String)>) -> Result<String, ApiError> {
    let kind = query.iter().find(|(name, _)| name == "kind").map(|(_, kind)| kind.parse::<Kind>());
    let kind = kind.ok_or_else(|| missing("kind"))?.map_err(|rule| bad("kind", &rule.to_string()))?;
    let known = [&["kind", "federation"], fields(kind), &["created", "nonce"]].concat();
    let foreign = |name: &String| Kind::ALL.iter().any(|other| fields(*other).contains(&name.as_str()));
    let foreign = query.iter().find(|(name, _)| !known.contains(&name.as_str()) && foreign(name));
    // Whoever names a field of another kind does not mean the text that they would get.
    if let Some((name, _)) = foreign {
        let message = format!("{kind} has no such field; its fields are: {}", known.join(", "));
        return Err(ApiError::bad("unknown_parameter", message).with("field", name.as_str()));
    }
    let params = Params::new(query, &known)?;
    let mut template = Template { moment: Moment::open(app)?, kind, params, actor: None };
    template.actor = template.find_actor()?;
    let mut lines = Vec::with_capacity(known.len());
    for name in ["federation", "kind"].iter().chain(fields(kind)).chain(&["created", "nonce"]).copied() {
        if let Some(value) = template.value(name)? {
            check_value(&value).map_err(|fault| refused(name, &fault))?;
            lines.push((name, value));
        }
    }
    checked(app, &lines)
}

/// Joins the lines into a text and checks it with the ledger's own parser.
fn checked(app: &App, lines: &[(&'static str, String)]) -> Result<String, ApiError> {
    let body: String = lines.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    let text = format!("{EVENT_FORMAT}\n{body}");
    match Event::parse(text.as_bytes()) {
        Ok(event) if event.federation == app.shared.manifest.federation() => check_place(app, &event).map(|()| text),
        Ok(_) => Err(ApiError::bad("wrong_federation", "federation: this node belongs to another federation")),
        Err(TextError { line, fault }) => {
            let name = match &fault {
                TextFault::Missing { want } | TextFault::WrongField { want } => return Err(missing(want)),
                TextFault::Value { field, .. } => field,
                _ => lines.get(line.saturating_sub(2)).map_or("", |(name, _)| *name),
            };
            Err(refused(name, &fault).with("line", line))
        }
    }
}

/// Refuses an event for a home or operator that the federation does not have.
fn check_place(app: &App, event: &Event) -> Result<(), ApiError> {
    let place = event.action.place();
    match event.action.kind() {
        Kind::Admit | Kind::Dismiss | Kind::Suspend | Kind::Resume if app.shared.manifest.operator(place).is_none() => {
            Err(bad("operator", &format!("{place} is not an operator of this federation")))
        }
        Kind::Admit | Kind::Dismiss | Kind::Suspend | Kind::Resume => Ok(()),
        _ if app.shared.manifest.homes().contains_key(place) => Ok(()),
        _ => {
            let message = format!("home: no log of this federation carries {place}");
            Err(ApiError::bad("unknown_home", message).with("field", "home"))
        }
    }
}

fn missing(name: &str) -> ApiError {
    ApiError::bad("missing_field", format!("{name}: is missing")).with("field", name)
}

fn bad(name: &str, rule: &str) -> ApiError {
    ApiError::bad("bad_value", format!("{name}: {rule}")).with("field", name)
}

fn refused(name: &str, fault: &TextFault) -> ApiError {
    let message = match fault {
        TextFault::Value { .. } => fault.to_string(),
        _ => format!("{name}: {fault}"),
    };
    ApiError::bad(fault.code(), message).with("field", name)
}

struct Template<'a> {
    moment: Moment<'a>,
    kind: Kind,
    params: Params,
    /// The identity that acts in the event, if the node knows it.
    actor: Option<LocatedIdentity>,
}

impl Template<'_> {
    /// The identity that acts: that rotates or revokes, attests or retracts, grants or takes that back. An id that this node does not know is accepted.
    fn find_actor(&self) -> Result<Option<LocatedIdentity>, ApiError> {
        let name = match self.kind {
            Kind::Rotate | Kind::Revoke => "identity",
            Kind::Attest | Kind::Retract | Kind::Grant | Kind::Ungrant => "issuer",
            _ => return Ok(None),
        };
        let Some(given) = self.params.get(name) else { return Ok(None) };
        match given.parse::<IdentityId>() {
            Ok(id) => Ok(self.moment.join().identity(id)?),
            Err(_) => self.moment.find(given).map(Some).map_err(|error| error.with("field", name)),
        }
    }

    /// The value of a field: from the query, in the spelling of event texts, or filled in.
    fn value(&self, name: &'static str) -> Result<Option<String>, ApiError> {
        match self.params.get(name) {
            Some(given) if IDENTITIES.contains(&name) => self.id(name, given).map(Some),
            Some(given) if name == "key" => key(given).map(Some),
            Some(given) => Ok(Some(given.to_owned())),
            None => self.filled(name),
        }
    }

    fn id(&self, name: &'static str, given: &str) -> Result<String, ApiError> {
        if given.parse::<IdentityId>().is_ok() {
            return Ok(given.to_owned());
        }
        self.moment.find(given).map(|found| found.id.to_string()).map_err(|error| error.with("field", name))
    }

    fn filled(&self, name: &str) -> Result<Option<String>, ApiError> {
        let app = self.moment.app;
        Ok(match (name, self.kind, &self.actor) {
            ("federation", ..) => Some(app.shared.manifest.federation().to_string()),
            ("home", _, Some(actor)) => Some(actor.home.to_string()),
            ("home", _, None) => app.namespace.as_ref().map(ToString::to_string),
            ("operator", ..) => app.operator.as_ref().map(ToString::to_string),
            ("version", Kind::Rotate, Some(actor)) => Some(actor.identity.version.saturating_add(1).to_string()),
            ("version", Kind::Revoke, Some(actor)) => Some(actor.identity.version.to_string()),
            ("key", Kind::Revoke, Some(actor)) => Some(self.moment.join().key_status(actor)?.current.key.to_string()),
            ("created", ..) => Some(clock::now().to_string()),
            ("nonce", ..) => Some(nonce()?),
            _ => None,
        })
    }
}

fn nonce() -> Result<String, ApiError> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(ApiError::internal)?;
    Ok(Hex(&random).to_string())
}

/// The text form of a key, which is given in that form or as PEM.
fn key(given: &str) -> Result<String, ApiError> {
    if !given.trim_start().starts_with("-----BEGIN") {
        return Ok(given.to_owned());
    }
    if given.contains("PRIVATE KEY-----") {
        let message =
            "key: this is a private key, which is no longer secret now: make a new one, and send its public part";
        return Err(ApiError::bad("private_key", message).with("field", "key"));
    }
    match PublicKey::from_pem(given) {
        Ok(key) => Ok(key.to_string()),
        Err(error) => Err(ApiError::bad(error.code(), format!("key: {error}")).with("field", "key")),
    }
}

//! MLAuth's own paths for writing. What its clients sign there is not what the ledger holds: the same signature could be
//! had from an agent as a login, and attestations could be replayed. So each answer is 422 with the text that has to be
//! signed instead, and where to post it.
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use fama_ledger::event::RevokeReason;
use fama_ledger::id::{EventId, Hex, Name};
use fama_ledger::key::PublicKey;
use fama_ledger::note::{Note, note_hash};
use serde_json::{Map, Value, json};

use super::moment::Moment;
use super::{ApiError, App, Serving, services, template};

/// Digits of the key's hash in a name that an agent did not choose.
const NAME_DIGITS: usize = 12;

/// The fields of a request, each read once.
struct Fields(Map<String, Value>);

impl Fields {
    fn read(body: &[u8]) -> Result<Self, ApiError> {
        let fields = serde_json::from_slice(body);
        fields.map(Self).map_err(|_| ApiError::bad("bad_json", "want a JSON object"))
    }

    /// The text of a field; `None` if it is absent, null or empty.
    fn optional(&self, name: &'static str) -> Result<Option<&str>, ApiError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
            Some(_) => Err(wrong(name, "bad_value", "want a string")),
        }
    }

    fn text(&self, name: &'static str) -> Result<&str, ApiError> {
        self.optional(name)?.ok_or_else(|| wrong(name, "missing_field", "is missing"))
    }
}

fn wrong(name: &'static str, code: &'static str, rule: &str) -> ApiError {
    ApiError::bad(code, format!("{name}: {rule}")).with("field", name)
}

/// What the agent has to sign, in the place of what it sent.
struct Instead {
    /// What MLAuth's request asked for, as an error in words.
    error: &'static str,
    text: String,
    /// The note that the text names.
    note: Option<String>,
    /// Whose key signs.
    signer: &'static str,
}

impl Instead {
    fn answer(self, app: &App) -> ApiError {
        let post_to = app.post_to();
        let place = post_to.as_deref().unwrap_or("the submit listener of a node, at /events");
        let note = if self.note.is_some() {
            "; send `note` along, as a form: -F note=… -F text=<event.txt -F signature=…"
        } else {
            ""
        };
        let how = format!(
            "Read `text`. Write it to event.txt, byte for byte with its last newline. Sign it with {}: openssl dgst -sha256 \
             -sign private.pem event.txt | openssl base64 -A (Ed25519: openssl pkeyutl -sign -rawin -inkey private.pem -in \
             event.txt). Post it to {place}: curl --data-binary @event.txt -H 'Fama-Signature: …' {place}{note}",
            self.signer
        );
        let message = format!("{}: sign `text` and post it to `post_to`", self.error);
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "sign_this", message)
            .with("text", self.text)
            .with("note", self.note)
            .with("post_to", post_to)
            .with("how", how)
    }
}

/// The text of an event with these fields; the others are filled in.
fn text(app: &App, fields: &[(&str, String)]) -> Result<String, ApiError> {
    template::text(app, fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
}

fn noted(note: Note) -> Result<(String, String), ApiError> {
    let mut note = note;
    getrandom::fill(&mut note.salt).map_err(ApiError::internal)?;
    note.check().map_err(|error| ApiError::bad(error.fault.code(), error))?;
    let text = note.text();
    Ok((format!("sha256:{}", note_hash(text.as_bytes())), text))
}

/// The identity by whatever MLAuth calls it, as an id.
fn id(app: &App, name: &'static str, given: &str) -> Result<EventId, ApiError> {
    Moment::open(app)?.find(given).map(|found| found.id).map_err(|error| error.with("field", name))
}

pub(super) async fn register(Serving(app): Serving, body: Bytes) -> ApiError {
    sign(register_text(&app, &body), &app)
}

pub(super) async fn rotate(Serving(app): Serving, body: Bytes) -> ApiError {
    sign(rotate_text(&app, &body), &app)
}

pub(super) async fn revoke(Serving(app): Serving, body: Bytes) -> ApiError {
    sign(revoke_text(&app, &body), &app)
}

pub(super) async fn attest(Serving(app): Serving, body: Bytes) -> ApiError {
    sign(attest_text(&app, &body), &app)
}

fn sign(made: Result<Instead, ApiError>, app: &App) -> ApiError {
    made.map_or_else(|error| error, |instead| instead.answer(app))
}

/// Operators admit services; there is nothing to sign for the service itself.
pub(super) async fn admit(State(app): State<Arc<App>>) -> ApiError {
    let operators = app.shared.manifest.operators().iter();
    let operators: Vec<Value> = operators
        .map(|operator| json!({"operator": operator.name.to_string(), "query": operator.endpoints.query}))
        .collect();
    let want = app.shared.manifest.policy().min_sponsors;
    let message = format!(
        "services are admitted by the federation's operators: {want} of them must sponsor yours before its attestations \
         count; register your service as an agent, prove your domain, and ask them"
    );
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "ask_operator", message)
        .with("operators", operators)
        .with("sponsors_wanted", want)
        .with(
            "how",
            "`fama request` writes what operators want to see: the service's handle, its domain and how that is proven",
        )
}

/// `{public_key, dumbname?, bio?}`.
fn register_text(app: &App, body: &[u8]) -> Result<Instead, ApiError> {
    let fields = Fields::read(body)?;
    let key = fields.text("public_key")?;
    let mut parts = vec![("kind", "register".to_owned()), ("key", key.to_owned())];
    match fields.optional("dumbname")? {
        Some(given) => match given.split_once('@') {
            Some((name, home)) => parts.extend([("name", name.to_owned()), ("home", home.to_owned())]),
            None => parts.push(("name", given.to_owned())),
        },
        None => parts.push(("name", name_of(key)?.to_string())),
    }
    let note = match fields.optional("bio")? {
        Some(bio) => Some(noted(Note { bio: Some(bio.to_owned()), ..Note::default() })?),
        None => None,
    };
    parts.extend(note.as_ref().map(|(hash, _)| ("note", hash.clone())));
    Ok(Instead {
        error: "a registration is signed by the agent's key",
        text: text(app, &parts)?,
        note: note.map(|(_, text)| text),
        signer: "the private key of `public_key`",
    })
}

/// A name for an agent that chose none: from its key, so that asking again gives the same.
fn name_of(key: &str) -> Result<Name, ApiError> {
    let wrong = |error: &dyn std::fmt::Display| wrong("public_key", "bad_key", &error.to_string());
    let key: PublicKey = match key.trim_start().starts_with("-----BEGIN") {
        true => PublicKey::from_pem(key).map_err(|error| wrong(&error))?,
        false => key.parse().map_err(|error| wrong(&error))?,
    };
    let digits: String = Hex(&key.hash().0).to_string().chars().take(NAME_DIGITS).collect();
    format!("agent-{digits}").parse().map_err(ApiError::internal)
}

/// `{dumbname, timestamp, signature, new_public_key}`.
fn rotate_text(app: &App, body: &[u8]) -> Result<Instead, ApiError> {
    let fields = Fields::read(body)?;
    let identity = id(app, "dumbname", fields.text("dumbname")?)?;
    let key = fields.text("new_public_key")?.to_owned();
    let parts = [("kind", "rotate".to_owned()), ("identity", identity.to_string()), ("key", key)];
    Ok(Instead {
        error: "a rotation is signed by the key in force, and by the new one as `Fama-Countersignature`; or by the new one \
                alone if the key in force committed to it",
        text: text(app, &parts)?,
        note: None,
        signer: "the private key in force, and with the new one (the header Fama-Countersignature)",
    })
}

/// `{dumbname, timestamp, signature, reason}`.
fn revoke_text(app: &App, body: &[u8]) -> Result<Instead, ApiError> {
    let fields = Fields::read(body)?;
    let identity = id(app, "dumbname", fields.text("dumbname")?)?;
    // MLAuth's reasons are ours in capitals; it has more, which are no reason here.
    let reason = fields.optional("reason")?.and_then(|reason| reason.to_ascii_lowercase().parse::<RevokeReason>().ok());
    let reason = reason.unwrap_or(RevokeReason::Unspecified).to_string();
    let parts = [("kind", "revoke".to_owned()), ("identity", identity.to_string()), ("reason", reason)];
    Ok(Instead {
        error: "a revocation is signed by the key in force or by the committed next one",
        text: text(app, &parts)?,
        note: None,
        signer: "the private key that is to be revoked",
    })
}

/// `{provider_name, agent_id, score_change, reason, external_ref?, signature}`.
fn attest_text(app: &App, body: &[u8]) -> Result<Instead, ApiError> {
    let fields = Fields::read(body)?;
    let subject = id(app, "agent_id", fields.text("agent_id")?)?;
    let issuer = services::provider(&Moment::open(app)?, fields.text("provider_name")?);
    let issuer = issuer.map_err(|error| error.with("field", "provider_name"))?;
    let delta = match fields.0.get("score_change") {
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => return Err(wrong("score_change", "missing_field", "is missing")),
        Some(_) => return Err(wrong("score_change", "bad_value", "want a whole number")),
    };
    let (reason, reference) = (fields.optional("reason")?, fields.optional("external_ref")?);
    let note = match (reason, reference) {
        (None, None) => None,
        _ => {
            let (reason, reference) = (reason.map(str::to_owned), reference.map(str::to_owned));
            Some(noted(Note { reason, reference, ..Note::default() })?)
        }
    };
    let mut parts = vec![
        ("kind", "attest".to_owned()),
        ("issuer", issuer.to_string()),
        ("subject", subject.to_string()),
        ("delta", delta),
    ];
    parts.extend(note.as_ref().map(|(hash, _)| ("note", hash.clone())));
    Ok(Instead {
        error: "an attestation is signed by the service's key",
        text: text(app, &parts)?,
        note: note.map(|(_, text)| text),
        signer: "the service's private key",
    })
}

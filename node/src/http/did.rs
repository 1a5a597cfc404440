//! DID documents (W3C DID Core 1.0) of agents, and of the operator whose node this is, with keys as `Multikey`.
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use fama_ledger::id::did;
use fama_ledger::key::PublicKey;
use serde_json::{Value, json};

use super::moment::{Moment, handle};
use super::{ApiError, App, Serving};

/// DID Core, and <https://www.w3.org/TR/cid-1.0/#Multikey>.
const CONTEXT: [&str; 2] = ["https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1"];
const CONTENT_TYPE: &str = "application/did+ld+json";
/// Multicodec prefixes of public keys, as varints: `secp256k1-pub` (0xe7) and `ed25519-pub` (0xed).
const SECP256K1_PUB: [u8; 2] = [0xe7, 0x01];
const ED25519_PUB: [u8; 2] = [0xed, 0x01];

/// A key as multibase base58btc of its multicodec prefix and its bytes.
pub(super) fn multikey(key: &PublicKey) -> String {
    let bytes = match key {
        PublicKey::Secp256k1(bytes) => [SECP256K1_PUB.as_slice(), bytes].concat(),
        PublicKey::Ed25519(bytes) => [ED25519_PUB.as_slice(), bytes].concat(),
    };
    format!("z{}", bs58::encode(bytes).into_string())
}

fn method(did: &str, version: u32, key: &PublicKey) -> Value {
    json!({
        "id": format!("{did}#key-{version}"),
        "type": "Multikey",
        "controller": did,
        "publicKeyMultibase": multikey(key),
    })
}

fn answer(document: &Value) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], document.to_string()).into_response()
}

/// The document of an agent: the key in force may authenticate and assert; a revoked one is shown as such, and may
/// nothing.
pub(super) async fn agent(Serving(app): Serving, Path(x): Path<String>) -> Result<Response, ApiError> {
    let moment = Moment::open(&app)?;
    let found = moment.find(&x)?;
    let status = moment.join().key_status(&found)?;
    let did = did(&found.home, &found.id);
    let mut key = method(&did, status.version, &status.current.key);
    let id = key["id"].clone();
    let mut may = vec![id];
    if let Some(revoked) = &status.revoked {
        key["revoked"] = revoked.time.to_string().into();
        may.clear();
    }
    let operator = app.shared.manifest.homes().get(&found.home).map(|log| &log.operator);
    let query =
        operator.and_then(|name| app.shared.manifest.operator(name)).and_then(|one| one.endpoints.query.as_ref());
    let profile = query.map(|origin| {
        json!({"id": format!("{did}#profile"), "type": "FamaProfile", "serviceEndpoint": format!("{origin}/api/agent/{}", found.id)})
    });
    let document = json!({
        "@context": CONTEXT,
        "id": did,
        "alsoKnownAs": [format!("fama:{}", handle(&found))],
        "verificationMethod": [key],
        "authentication": may,
        "assertionMethod": may,
        "service": profile.into_iter().collect::<Vec<_>>(),
    });
    Ok(answer(&document))
}

/// The document of the operator, as `did:web` of its query origin, which the manifest names.
pub(super) async fn operator(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let operator = app.operator.as_ref().and_then(|name| app.shared.manifest.operator(name));
    let origin = operator.and_then(|operator| Some((operator, operator.endpoints.query.as_deref()?)));
    let (operator, origin) = origin.ok_or_else(|| {
        let message = "the manifest names no query origin for this node, so it has no did:web";
        ApiError::new(StatusCode::NOT_FOUND, "no_did", message)
    })?;
    let host = origin.split_once("://").map_or(origin, |(_, host)| host).replace(':', "%3A");
    let did = format!("did:web:{host}");
    let key = PublicKey::Ed25519(operator.node_key.to_bytes());
    let key = method(&did, 1, &key);
    let may = vec![key["id"].clone()];
    let endpoints = [("FamaQuery", &operator.endpoints.query), ("FamaSubmit", &operator.endpoints.submit)];
    let services = endpoints.iter().filter_map(|(kind, origin)| {
        let origin = origin.as_ref()?;
        Some(json!({"id": format!("{did}#{}", kind.to_ascii_lowercase()), "type": kind, "serviceEndpoint": origin}))
    });
    let document = json!({
        "@context": CONTEXT,
        "id": did,
        "alsoKnownAs": [format!("dns:{}", operator.name)],
        "verificationMethod": [key],
        "assertionMethod": may,
        "service": services.collect::<Vec<_>>(),
    });
    Ok(answer(&document))
}

//! Sign in with Fama, with axum and fama-ledger: `login_server NODE_URL PORT MIN_KARMA`.
#![allow(clippy::print_stdout)] // a program of its own
use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::{Json, Router, routing};
use fama_ledger::key::{PublicKey, Signature};
use fama_ledger::{base64, id::Handle, time::Millis};
use serde_json::{Value, json};

/// What agents sign: a login for another service is worth nothing here.
const AUDIENCE: &str = "login to shop.example";
const WINDOW_MILLIS: u64 = 300_000;
const BODY_BYTES_MAX: usize = 65_536;
const PROFILES_MAX: usize = 10_000;
const AGENTS_MAX: usize = 100_000;

#[derive(Default)]
struct Kept {
    /// Used for 10 s, and for 300 s while the node's stream says what changes.
    profiles: HashMap<String, (Value, Instant)>,
    followed: bool,
    changes: u64,
    /// The newest time of each agent's logins, in milliseconds: an agent's times must grow, so no login works twice.
    newest: HashMap<String, u64>,
}

struct App {
    node: String,
    min_karma: i64,
    kept: Mutex<Kept>,
}

impl App {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Refused = (u16, &'static str);

const fn no(status: u16, code: &'static str) -> Refused {
    (status, code)
}

fn profile_of(app: &App, name: &str) -> Result<Value, Refused> {
    let (begun, changes) = {
        let kept = app.kept();
        let age_max = Duration::from_secs(if kept.followed { 300 } else { 10 });
        match kept.profiles.get(name) {
            Some((profile, at)) if at.elapsed() < age_max => return Ok(profile.clone()),
            _ => (Instant::now(), kept.changes),
        }
    };
    let request = ureq::get(format!("{}/api/agent/{name}", app.node)).config();
    let answer = request.timeout_global(Some(Duration::from_secs(10))).build().call();
    let mut answer = answer.map_err(|error| match error {
        ureq::Error::StatusCode(404) => no(401, "unknown_agent"),
        _ => no(503, "unreachable"),
    })?;
    let profile: Value = answer.body_mut().read_json().map_err(|_| no(503, "unreachable"))?;
    if profile["identity"]["handle"] != name {
        return Err(no(401, "wrong_agent"));
    }
    let mut kept = app.kept();
    if kept.changes == changes {
        if kept.profiles.len() >= PROFILES_MAX {
            kept.profiles.clear();
        }
        kept.profiles.insert(name.to_owned(), (profile.clone(), begun));
    }
    Ok(profile)
}

/// Milliseconds since 1970, of strict RFC 3339 with `Z`, with milliseconds or without a fraction.
fn time_of(text: &str) -> Option<u64> {
    let seconds = text.strip_suffix('Z').filter(|seconds| seconds.len() == 19);
    let whole = seconds.map_or_else(|| text.to_owned(), |seconds| format!("{seconds}.000Z"));
    whole.parse().ok().map(|Millis(millis)| millis)
}

fn login(app: &App, body: &[u8]) -> Result<Value, Refused> {
    let body: Value = serde_json::from_slice(body).map_err(|_| no(400, "bad_json"))?;
    let text = |name: &str| body[name].as_str().ok_or(no(400, "missing_field"));
    let (name, stamp, signature) = (text("dumbname")?, text("timestamp")?, text("signature")?);
    name.parse::<Handle>().map_err(|_| no(400, "bad_name"))?;
    let time = time_of(stamp).ok_or(no(400, "bad_timestamp"))?;
    let signature = base64::decode_lenient(signature).ok_or(no(400, "bad_signature_form"))?;
    let now = SystemTime::UNIX_EPOCH.elapsed().ok().and_then(|age| u64::try_from(age.as_millis()).ok());
    let now = now.ok_or(no(500, "clock"))?;
    if now.abs_diff(time) > WINDOW_MILLIS {
        return Err(no(401, "expired"));
    }
    let profile = profile_of(app, name)?;
    let (identity, broken) = (&profile["identity"], no(503, "bad_answer"));
    let key = PublicKey::from_pem(identity["public_key"].as_str().ok_or(broken)?).map_err(|_| broken)?;
    let signed = [name, stamp, AUDIENCE].concat();
    Signature::from_edge(&key, signed.as_bytes(), &signature).map_err(|_| no(401, "bad_signature"))?;
    if profile["key_status"]["is_revoked"] != false {
        return Err(no(401, "revoked"));
    }
    let karma = profile["reputation"]["global_score"].as_i64().ok_or(broken)?;
    if karma < app.min_karma {
        return Err(no(403, "low_karma"));
    }
    let agent = identity["agent_id"].as_str().ok_or(broken)?;
    let mut kept = app.kept();
    let newest = &mut kept.newest;
    if newest.get(agent).is_some_and(|newest| time <= *newest) {
        return Err(no(401, "replayed"));
    }
    if newest.len() >= AGENTS_MAX {
        newest.retain(|_, time| now.saturating_sub(*time) <= WINDOW_MILLIS);
    }
    if newest.len() >= AGENTS_MAX {
        return Err(no(503, "busy"));
    }
    newest.insert(agent.to_owned(), time);
    Ok(json!({"handle": name, "karma": karma}))
}

/// Reads the node's stream until it ends; `None` always, with or without an error. A dead one ends after 300 s.
fn follow(app: &App) -> Option<()> {
    let request = ureq::get(format!("{}/api/stream", app.node)).header("accept-encoding", "identity");
    let limits = request.config().timeout_connect(Some(Duration::from_secs(10)));
    let limits = limits.timeout_recv_response(Some(Duration::from_secs(10)));
    let answer = limits.timeout_recv_body(Some(Duration::from_secs(300))).build().call().ok()?;
    {
        let mut kept = app.kept();
        kept.changes += 1;
        kept.profiles.clear();
        kept.followed = true;
    }
    let mut lines = BufReader::new(answer.into_body().into_reader());
    loop {
        let mut line = String::new();
        lines.by_ref().take(65_536).read_line(&mut line).ok()?;
        if !line.ends_with('\n') {
            return None;
        }
        let Some(event) = line.strip_prefix("data:") else { continue };
        let event: Value = serde_json::from_str(event).ok()?;
        let mut kept = app.kept();
        kept.changes += 1;
        kept.profiles.retain(|_, (profile, _)| profile["identity"]["agent_id"] != event["identity"]);
    }
}

async fn answer(State(app): State<Arc<App>>, body: Result<Bytes, BytesRejection>) -> (StatusCode, Json<Value>) {
    let outcome = match body {
        Ok(body) => tokio::task::spawn_blocking(move || login(&app, &body)).await.unwrap_or(Err(no(500, "internal"))),
        Err(_) => Err(no(413, "body_too_large")),
    };
    let refused = |(status, code): Refused| {
        (StatusCode::from_u16(status).expect("a status of ours"), Json(json!({"code": code})))
    };
    outcome.map_or_else(refused, |who| (StatusCode::OK, Json(who)))
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, node, port, min_karma] = &arguments[..] else { panic!("login_server NODE_URL PORT MIN_KARMA") };
    let min_karma = min_karma.parse().expect("MIN_KARMA is a number");
    let app = Arc::new(App { node: node.clone(), min_karma, kept: Mutex::default() });
    let follower = Arc::clone(&app);
    std::thread::spawn(move || {
        loop {
            follow(&follower);
            follower.kept().followed = false;
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    let not_found = || async { (StatusCode::NOT_FOUND, Json(json!({"code": "not_found"}))) };
    let router = Router::new().route("/login", routing::post(answer)).fallback(not_found).with_state(app);
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await.expect("the port is free");
    println!("listening on http://127.0.0.1:{port}");
    axum::serve(listener, router.layer(DefaultBodyLimit::max(BODY_BYTES_MAX))).await.expect("axum's loop never ends");
}

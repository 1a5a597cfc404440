//! Sign in with Fama, with axum and fama-ledger: `login_server NODE_URL PORT MIN_KARMA`.
#![allow(clippy::print_stdout, clippy::unwrap_used)] // a program of its own, and no thread panics while it holds the lock
use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
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
const ANSWER_TIME: Option<Duration> = Some(Duration::from_secs(10));

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

/// A refusal: its status and its code.
struct No(u16, &'static str);

impl IntoResponse for No {
    fn into_response(self) -> Response {
        (StatusCode::from_u16(self.0).unwrap(), Json(json!({"code": self.1}))).into_response()
    }
}

fn profile_of(app: &App, name: &str) -> Result<Value, No> {
    let (begun, changes) = {
        let kept = app.kept.lock().unwrap();
        let age_max = Duration::from_secs(if kept.followed { 300 } else { 10 });
        match kept.profiles.get(name) {
            Some((profile, at)) if at.elapsed() < age_max => return Ok(profile.clone()),
            _ => (Instant::now(), kept.changes),
        }
    };
    let request = ureq::get(format!("{}/api/agent/{name}", app.node)).config().timeout_global(ANSWER_TIME).build();
    let answer = request.call().and_then(|mut answer| answer.body_mut().read_json::<Value>());
    let profile = answer.map_err(|error| match error {
        ureq::Error::StatusCode(404) => No(401, "unknown_agent"),
        _ => No(503, "unreachable"),
    })?;
    if profile["identity"]["handle"] != name {
        return Err(No(401, "wrong_agent"));
    }
    let mut kept = app.kept.lock().unwrap();
    if kept.profiles.len() >= PROFILES_MAX {
        kept.profiles.clear();
    }
    if kept.changes == changes {
        kept.profiles.insert(name.to_owned(), (profile.clone(), begun));
    }
    Ok(profile)
}

fn login(app: &App, body: &[u8]) -> Result<Value, No> {
    let body: Value = serde_json::from_slice(body).map_err(|_| No(400, "bad_json"))?;
    let text = |name: &str| body[name].as_str().ok_or(No(400, "missing_field"));
    let (name, stamp, signature) = (text("dumbname")?, text("timestamp")?, text("signature")?);
    name.parse::<Handle>().map_err(|_| No(400, "bad_name"))?;
    // Strict RFC 3339 with `Z`, with milliseconds or without a fraction.
    let stamp_millis = if stamp.len() == 20 { stamp.replace('Z', ".000Z") } else { stamp.to_owned() };
    let Millis(time) = stamp_millis.parse().map_err(|_| No(400, "bad_timestamp"))?;
    let signature = base64::decode_lenient(signature).ok_or(No(400, "bad_signature_form"))?;
    let now = u64::try_from(SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    if now.abs_diff(time) > WINDOW_MILLIS {
        return Err(No(401, "expired"));
    }
    let profile = profile_of(app, name)?;
    let (identity, broken) = (&profile["identity"], || No(503, "bad_answer"));
    let key = PublicKey::from_pem(identity["public_key"].as_str().unwrap_or_default()).map_err(|_| broken())?;
    let signed = [name, stamp, AUDIENCE].concat();
    Signature::from_edge(&key, signed.as_bytes(), &signature).map_err(|_| No(401, "bad_signature"))?;
    if profile["key_status"]["is_revoked"] != false {
        return Err(No(401, "revoked"));
    }
    if profile["key_status"]["is_suspended"] != false {
        return Err(No(401, "suspended"));
    }
    let karma = profile["reputation"]["global_score"].as_i64().ok_or_else(broken)?;
    if karma < app.min_karma {
        return Err(No(403, "low_karma"));
    }
    let agent = identity["agent_id"].as_str().ok_or_else(broken)?;
    let newest = &mut app.kept.lock().unwrap().newest;
    if newest.get(agent).is_some_and(|newest| time <= *newest) {
        return Err(No(401, "replayed"));
    }
    if newest.len() >= AGENTS_MAX {
        newest.retain(|_, time| now.saturating_sub(*time) <= WINDOW_MILLIS);
    }
    if newest.len() >= AGENTS_MAX {
        return Err(No(503, "busy"));
    }
    newest.insert(agent.to_owned(), time);
    Ok(json!({"handle": name, "karma": karma}))
}

/// Reads the node's stream until it ends; `None` always, with or without an error. A dead one ends after 300 s.
fn follow(app: &App) -> Option<()> {
    let request = ureq::get(format!("{}/api/stream", app.node)).header("accept-encoding", "identity").config();
    let request = request.timeout_connect(ANSWER_TIME).timeout_recv_response(ANSWER_TIME);
    let answer = request.timeout_recv_body(Some(Duration::from_secs(300))).build().call().ok()?;
    let heard = |forget: &dyn Fn(&Value) -> bool| {
        let mut kept = app.kept.lock().unwrap();
        (kept.followed, kept.changes) = (true, kept.changes + 1);
        kept.profiles.retain(|_, (profile, _)| !forget(&profile["identity"]["agent_id"]));
    };
    heard(&|_| true);
    let mut lines = BufReader::new(answer.into_body().into_reader());
    loop {
        let mut line = String::new();
        lines.by_ref().take(65_536).read_line(&mut line).ok()?;
        if let Some(event) = line.strip_suffix('\n')?.strip_prefix("data:") {
            let event: Value = serde_json::from_str(event).ok()?;
            heard(&|agent| *agent == event["identity"]);
        }
    }
}

async fn answer(State(app): State<Arc<App>>, body: Result<Bytes, BytesRejection>) -> Result<Json<Value>, No> {
    let body = body.map_err(|_| No(413, "body_too_large"))?;
    tokio::task::spawn_blocking(move || login(&app, &body)).await.unwrap_or(Err(No(500, "internal"))).map(Json)
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
            follower.kept.lock().unwrap().followed = false;
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    let router = Router::new().route("/login", routing::post(answer)).fallback(async || No(404, "not_found"));
    let router = router.with_state(app).layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await.expect("the port is free");
    println!("listening on http://127.0.0.1:{port}");
    axum::serve(listener, router).await.expect("axum's loop never ends");
}

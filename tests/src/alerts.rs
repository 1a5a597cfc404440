//! The alerting rules of `config/`, in a real Prometheus that scrapes real nodes: each outage fires the alerts that are
//! for it, health fires none, and the dashboard has something to show. Times are shortened; the expressions are those
//! of the file. What takes hours is played to Prometheus' own rule tests, with the series that a node gives.
#![allow(clippy::print_stdout, reason = "a test that shows nothing must say so")]
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fama_ledger::replica::Overrides;
use fama_node::config::{AuthSettings, Config, Listener, ScrubSettings, Webhook, WebhookSecret};
use fama_node::wire::SubmitRequest;
use fama_tests::secret;
use serde_json::{Value, json};

use crate::federation::{LocalFederation, copy, eventually, free_ports, get, multi};
use crate::papers::{root, watching};

/// How long an alert may take to fire or to end: an operator counts as away after a minute.
const PATIENCE: Duration = Duration::from_secs(150);
/// How long health is watched.
const CALM: Duration = Duration::from_secs(15);
/// What stands for a month without a scrub, in seconds.
const MONTH: u64 = 20;
/// What a busy machine fires truthfully once minutes are seconds: one slow batch is a hundredth of a few. When they fire is
/// played to Prometheus.
const OF_THE_MACHINE: [&str; 2] = ["FamaDiskSlow", "FamaReadsSlow"];
/// The equivocating operator, and its log.
const LIAR: (usize, &str) = (3, "delta.example/1");
/// Scrubs at once, and then again only after an hour.
const SCRUBBED_ONCE: ScrubSettings = ScrubSettings { bytes_per_second: 1 << 30, pause_seconds: 3_600 };

/// A program of Debian's package, from the system or from where `make test` unpacked it.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let places = std::env::var_os("PATH").into_iter().flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    let tests = std::env::current_exe().unwrap();
    let unpacked = ["bin", "sbin"].map(|part| tests.ancestors().nth(3).unwrap().join("foreign/usr").join(part));
    places.chain(unpacked).map(|place| place.join(name)).find(|file| file.exists())
}

struct Prometheus {
    process: Child,
    address: SocketAddr,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The rules with seconds in place of minutes. What must last does so for longer than a busy machine holds up a node.
fn hurried() -> String {
    let rules = std::fs::read_to_string(root().join("config/prometheus-rules.yml")).unwrap();
    let mut hurried = String::new();
    for line in rules.lines() {
        let line = if line.trim_start().starts_with("for:") { "        for: 6s" } else { line };
        writeln!(hurried, "{line}").unwrap();
    }
    let month = MONTH.to_string();
    let times = [
        ("fama_log_unfinal_seconds > ", "120", "5"),
        ("fama_operator_silent_seconds > ", "300", "15"),
        ("fama_node_start_timestamp_seconds) > ", "30 * 86400", &month),
    ];
    for (expression, long, short) in times {
        assert_eq!(hurried.matches(&format!("{expression}{long}")).count(), 1, "{expression}{long}");
        hurried = hurried.replace(&format!("{expression}{long}"), &format!("{expression}{short}"));
    }
    hurried.replace("[5m]", "[15s]")
}

/// A program without which a test shows nothing: says so, or fails where it must not be missing.
fn needed(name: &str) -> Option<PathBuf> {
    let found = program(name);
    if found.is_none() {
        assert!(std::env::var_os("FAMA_FOREIGN").is_none(), "no {name}");
        println!("skipped: there is no {name} on this machine, so the alerts were not tried");
    }
    found
}

/// A text as a part of a URL.
fn escaped(text: &str) -> String {
    let part = |byte: u8| match byte.is_ascii_alphanumeric() {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(part).collect()
}

/// What a node's `/metrics` answers.
async fn metrics(admin: SocketAddr) -> String {
    let read = move || ureq::get(format!("http://{admin}/metrics")).call().unwrap().body_mut().read_to_string();
    tokio::task::spawn_blocking(read).await.unwrap().unwrap()
}

fn admins() -> Vec<SocketAddr> {
    free_ports(4).into_iter().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))).collect()
}

impl Prometheus {
    fn start(program: &Path, folder: &Path, targets: &[SocketAddr]) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_ports(1)[0]));
        std::fs::write(folder.join("rules.yml"), hurried()).unwrap();
        let targets: Vec<String> = targets.iter().map(ToString::to_string).collect();
        let config = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [rules.yml]\n\
             scrape_configs: [{{ job_name: fama, static_configs: [{{ targets: {targets:?} }}] }}]\n"
        );
        std::fs::write(folder.join("prometheus.yml"), config).unwrap();
        let process = Command::new(program)
            .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=error")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self { process, address }
    }

    /// Waits until it answers: while it starts, it says so in plain text.
    async fn ready(&self) {
        eventually("Prometheus is ready", async || {
            let url = format!("http://{}/-/ready", self.address);
            let asked = tokio::task::spawn_blocking(move || ureq::get(&url).call().map(drop)).await.unwrap();
            asked.map_err(|error| error.to_string())
        })
        .await;
    }

    /// The names of the alerts that fire, but for [`OF_THE_MACHINE`], each with what it is about.
    async fn firing(&self) -> BTreeSet<(String, String)> {
        let answer = get(self.address, "/api/v1/alerts").await;
        let alerts = answer["data"]["alerts"].as_array().cloned().unwrap_or_default();
        let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        firing
            .map(|alert| {
                for annotation in ["summary", "what_to_do"] {
                    let said = text(&alert["annotations"][annotation]);
                    assert!(!said.is_empty() && !said.contains("error expanding") && !said.contains("{{"), "{alert}");
                }
                let labels = &alert["labels"];
                let about = ["operator", "log", "code", "route", "instance"]
                    .iter()
                    .map(|label| text(&labels[*label]))
                    .filter(|one| !one.is_empty());
                (text(&labels["alertname"]), about.collect::<Vec<_>>().join(" "))
            })
            .filter(|(name, _)| !OF_THE_MACHINE.contains(&name.as_str()))
            .collect()
    }

    /// Waits until exactly these alerts fire, `one` of them for so many nodes or logs.
    async fn fires(&self, one: &str, times: usize, names: &[&str]) {
        let wanted: BTreeSet<&str> = names.iter().copied().collect();
        let begun = Instant::now();
        loop {
            let firing = self.firing().await;
            let now: BTreeSet<&str> = firing.iter().map(|(name, _)| name.as_str()).collect();
            if now == wanted && firing.iter().filter(|(name, _)| name == one).count() == times {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "want {wanted:?}, have {firing:?}");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Waits until this alert fires about this, whatever others do; acts again and again meanwhile.
    async fn shows<F: Future<Output = ()>>(&self, name: &str, about: &str, mut act: impl FnMut() -> F) {
        let begun = Instant::now();
        loop {
            act().await;
            let firing = self.firing().await;
            if firing.iter().any(|(one, of)| one == name && of.contains(about)) {
                return println!("{name} {about}: {:?}", begun.elapsed());
            }
            assert!(begun.elapsed() < PATIENCE, "want {name} {about}, have {firing:?}");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Waits until none of these alerts fires.
    async fn ends(&self, names: &[&str]) {
        let begun = Instant::now();
        loop {
            let firing = self.firing().await;
            if !firing.iter().any(|(one, _)| names.contains(&one.as_str())) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "still {firing:?}");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// What a query gives: the labels of each series, and its newest value.
    async fn query(&self, expression: &str) -> Vec<(Value, String)> {
        let answer = get(self.address, &format!("/api/v1/query?query={}", escaped(expression))).await;
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        let series = answer["data"]["result"].as_array().unwrap();
        series.iter().map(|one| (one["metric"].clone(), one["value"][1].as_str().unwrap().to_owned())).collect()
    }

    /// Each panel of the dashboard has data, with the labels that its legend names, and so has its choice of nodes.
    async fn fills_the_dashboard(&self, nodes: usize) {
        let text = std::fs::read_to_string(root().join("config/grafana.json")).unwrap();
        let dashboard: Value = serde_json::from_str(&text).unwrap();
        let variables = dashboard["templating"]["list"].as_array().unwrap();
        let choice = variables.iter().find(|one| one["name"] == "instance").unwrap();
        let choice = choice["query"]["query"].as_str().unwrap();
        let (metric, label) = choice.strip_prefix("label_values(").unwrap().split_once(", ").unwrap();
        let path = format!("/api/v1/label/{}/values?match[]={metric}", label.trim_end_matches(')'));
        assert_eq!(get(self.address, &path).await["data"].as_array().unwrap().len(), nodes, "{path}");
        let panels = dashboard["panels"].as_array().unwrap();
        assert!(panels.len() > 10, "{} panels", panels.len());
        for panel in panels {
            let (title, targets) = (panel["title"].as_str().unwrap(), panel["targets"].as_array().unwrap());
            assert!(!targets.is_empty(), "{title}");
            for target in targets {
                // As Grafana fills in "All".
                let expression = target["expr"].as_str().unwrap().replace("$instance", ".*");
                assert!(!expression.contains('$'), "{expression}");
                let series = eventually(title, || async {
                    let series = self.query(&expression).await;
                    let filled = series.iter().any(|(_, value)| value != "NaN");
                    if filled { Ok(series) } else { Err(format!("{expression}: {series:?}")) }
                })
                .await;
                let legend = target["legendFormat"].as_str().unwrap_or_default();
                for label in legend.split("{{").skip(1).filter_map(|rest| rest.split_once("}}")) {
                    assert!(series[0].0[label.0.trim()].is_string(), "{title}: {legend}: {:?}", series[0].0);
                }
            }
        }
    }
}

/// One to which nobody listens, and which wants nothing that these tests do.
fn webhook() -> Webhook {
    Webhook {
        name: "idle".to_owned(),
        url: "http://127.0.0.1:9/".to_owned(),
        secret: WebhookSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap(),
        kinds: vec!["karma".to_owned()],
        agents: Vec::new(),
        providers: Vec::new(),
        homes: Vec::new(),
        allow_private: true,
    }
}

/// Symptom: with two of four nodes stopped, nothing became final, and no alert told the survivors from health; an
/// operator that was never heard since the start was reported by none.
#[test]
fn each_outage_fires_its_alerts_and_health_fires_none() {
    let Some(prometheus) = needed("prometheus") else { return };
    multi(async {
        let mut net = LocalFederation::new(4);
        let admins = admins();
        let config = |net: &LocalFederation, i: usize| -> Config {
            let scrub = ScrubSettings { pause_seconds: 1, ..SCRUBBED_ONCE };
            let webhooks = vec![webhook()];
            Config { admin: Listener { enabled: true, listen: admins[i] }, scrub, webhooks, ..net.config(i) }
        };
        for i in 0..3 {
            let config = config(&net, i);
            net.start_with(i, config).await;
        }
        let folder = tempfile::tempdir().unwrap();
        let watched = Prometheus::start(&prometheus, folder.path(), &admins);
        watched.ready().await;

        // The fourth never started: it is missed all the same.
        watched.fires("FamaOperatorSilent", 3, &["FamaNodeDown", "FamaOperatorSilent"]).await;
        let last = config(&net, 3);
        net.start_with(3, last).await;
        watched.fires("", 0, &[]).await;
        let calm = Instant::now();
        let mut round = 0;
        while calm.elapsed() < CALM {
            assert_eq!(watched.firing().await, BTreeSet::new());
            round += 1;
            let (_, registration) = net.register(0, &format!("busy-{round}"), &secret(20 + round));
            net.accepted(1, registration).await;
            let (_, taken) = net.register(0, "busy-1", &secret(120 + round));
            assert_eq!(net.refused(0, taken).await, "name_taken");
            net.shows("busy-1@alpha.example", |profile| profile["identity"].is_object()).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        watched.fills_the_dashboard(4).await;
        let mut live = BTreeSet::new();
        for admin in &admins {
            live.extend(watching::live(&metrics(*admin).await));
        }
        watching::are_in_the_paper(&live);

        for gone in [2, 3] {
            net.stop(gone).await;
        }
        let (_, registration) = net.register(0, "waits", &secret(6));
        net.accepted(0, registration).await;
        let outage = ["FamaNodeDown", "FamaOperatorSilent", "FamaNothingFinal", "FamaNotReady"];
        watched.fires("FamaNotReady", 2, &outage).await;
        for back in [2, 3] {
            let config = config(&net, back);
            net.start_with(back, config).await;
        }
        watched.fires("", 0, &[]).await;
    });
}

/// A log whose owner signed two histories, a node whose operator vouches for its clock, a client that hammers, a node
/// that is cut off, one that starts alone, and a scrub that does not come round.
#[test]
fn each_fault_fires_its_alert() {
    let Some(prometheus) = needed("prometheus") else { return };
    multi(async {
        let mut net = LocalFederation::running(4).await;
        let (_, registration) = net.register(LIAR.0, "on-all-branches", &secret(2));
        net.accepted(LIAR.0, registration).await;
        net.settled().await;
        for i in 0..4 {
            net.stop(i).await;
        }
        let before = net.dir.path().join("before");
        copy(&net.data(LIAR.0), &before);
        for i in 0..2 {
            net.shows_to(i, &before).await;
        }
        let admins = admins();
        let config = |net: &LocalFederation, i: usize| -> Config {
            let overrides = Overrides { accept_clock: i == 1, ..Overrides::default() };
            let admin = Listener { enabled: true, listen: admins[i] };
            // An issuer that the manifest does not name.
            let (listener, token_key) = (net.config(i).query, Arc::new(secret(5)));
            let auth = (i == 0).then_some(AuthSettings { listener, token_key, token_seconds: 300 });
            Config { admin, overrides, scrub: SCRUBBED_ONCE, auth, ..net.config(i) }
        };
        for i in 0..3 {
            let config = config(&net, i);
            net.start_with(i, config).await;
        }
        let folder = tempfile::tempdir().unwrap();
        let watched = Prometheus::start(&prometheus, folder.path(), &admins[..3]);
        watched.ready().await;
        let about = |what: &str, i: usize| format!("{what} {}", admins[i]);
        let idle = || async {};
        for i in 0..3 {
            watched.shows("FamaLogFault", &about(LIAR.1, i), idle).await;
        }
        // It knows of entries that nobody may give it.
        watched.shows("FamaLags", &about(LIAR.1, 2), idle).await;
        watched.shows("FamaWritesDespiteWarning", &about("accept_clock", 1), idle).await;

        net.wait("all write", |status| status["waiting"].is_null()).await;
        let (_, first) = net.register(0, "taken", &secret(4));
        net.accepted(0, first).await;
        let client = &net.client(0).await;
        let refused = || async {
            let submissions = (10..40).map(|seed| net.register(0, "taken", &secret(seed)).1).collect();
            client.submit(SubmitRequest { forwarded: false, submissions }).await.unwrap();
        };
        watched.shows("FamaRefusesMuch", &about("name_taken", 0), refused).await;
        let auth = net.nodes[0].as_ref().unwrap().auth;
        let signed_in = || async {
            let url = format!("http://{auth}/oauth/token");
            let asked = tokio::task::spawn_blocking(move || {
                let config = ureq::Agent::config_builder().http_status_as_error(false).build();
                config.new_agent().post(&url).send_form([("grant_type", "client_credentials")]).unwrap().status()
            });
            assert_eq!(asked.await.unwrap(), 503);
        };
        watched.shows("FamaIssuesNothing", &about("unknown_token_key", 0), signed_in).await;
        for admin in &admins[..3] {
            watched.shows("FamaNotScrubbed", &admin.to_string(), idle).await;
        }
        watched.ends(&["FamaRefusesMuch", "FamaCutOff", "FamaTakesNothingIn", "FamaAnswersFail"]).await;

        net.stop(1).await;
        net.stop(2).await;
        watched.shows("FamaCutOff", &admins[0].to_string(), idle).await;
        let (event, registration) = net.register(0, "waits", &secret(6));
        net.accepted(0, registration).await;
        let query = net.nodes[0].as_ref().unwrap().query;
        let asked = || async {
            let answer = get(query, &format!("/api/event/{event}/proof")).await;
            assert_eq!(answer["code"], "proof_pending", "{answer}");
        };
        watched.shows("FamaAnswersFail", &about("/api/event/{id}/proof", 0), asked).await;
        watched.shows("FamaNothingFinal", &about("alpha.example/1", 0), idle).await;

        net.stop(0).await;
        let alone = config(&net, 0);
        net.start_with(0, alone).await;
        watched.shows("FamaTakesNothingIn", &admins[0].to_string(), idle).await;
        for i in [1, 2] {
            let config = config(&net, i);
            net.start_with(i, config).await;
        }
        watched.ends(&["FamaCutOff", "FamaTakesNothingIn", "FamaAnswersFail"]).await;
    });
}

/// A play for Prometheus' rule tests: an alert, the series of some nodes, and which of them it must fire for.
struct Play {
    alert: &'static str,
    /// Each node's name, its series, and whether the alert fires for it.
    nodes: Vec<(&'static str, Series, bool)>,
    /// A moment at which it does not fire yet, and one at which it does.
    times: [&'static str; 2],
    step: &'static str,
}

/// The values of the series with this name and these labels; `None` if it is not in the play.
type Series = Box<dyn Fn(&str, &BTreeMap<String, String>) -> Option<String>>;

/// One series each for these names.
fn series(values: &'static [(&'static str, &'static str)]) -> Series {
    Box::new(move |name, _| values.iter().find(|(one, _)| *one == name).map(|(_, value)| (*value).to_owned()))
}

/// A histogram whose values are all just below `seconds`, and some come in each step.
fn all_below(name: &'static str, seconds: f64) -> Series {
    Box::new(move |one, labels| {
        let bound = labels.get("le").filter(|_| one == name)?;
        let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() };
        Some(if bound >= seconds { "0+10x120" } else { "0x120" }.to_owned())
    })
}

/// How often a node gave up on an event for its webhook.
fn given_up(values: &'static str) -> Series {
    Box::new(move |name, labels| {
        let is_it = name == "fama_webhook_deliveries_total" && labels["outcome"] == "given_up";
        is_it.then(|| values.to_owned())
    })
}

fn plays() -> Vec<Play> {
    const ENTRIES: &str = "fama_log_entries";
    const NEWEST: &str = "fama_log_newest_entries";
    const LAG: &str = "fama_ranking_lag_providers";
    const LOST: &str = "fama_domains_lost";
    const PASS: &str = "fama_scrub_last_pass_timestamp_seconds";
    const START: &str = "fama_node_start_timestamp_seconds";
    let batches = |seconds| all_below("fama_inbox_batch_seconds_bucket", seconds);
    let reads = |seconds| all_below("fama_http_request_seconds_bucket", seconds);
    let (minute, minutes) = ("1m", "4m");
    vec![
        Play {
            alert: "FamaLags",
            nodes: vec![
                ("stuck", series(&[(ENTRIES, "5x120"), (NEWEST, "9x120")]), true),
                ("catches-up", series(&[(ENTRIES, "5+1x120"), (NEWEST, "999x120")]), false),
                ("whole", series(&[(ENTRIES, "9x120"), (NEWEST, "9x120")]), false),
            ],
            times: ["4m", "20m"],
            step: minute,
        },
        Play {
            alert: "FamaDiskSlow",
            nodes: vec![("slow", batches(0.512), true), ("fast", batches(0.064), false)],
            times: ["9m", "30m"],
            step: minute,
        },
        Play {
            alert: "FamaReadsSlow",
            nodes: vec![("slow", reads(1.024), true), ("fast", reads(0.256), false)],
            times: ["9m", "30m"],
            step: minute,
        },
        Play {
            alert: "FamaLeaderboardBehind",
            nodes: vec![("behind", series(&[(LAG, "3x120")]), true), ("whole", series(&[(LAG, "0x120")]), false)],
            times: ["14m", "30m"],
            step: minute,
        },
        Play {
            alert: "FamaWebhookGaveUp",
            nodes: vec![
                ("gave-up", given_up("0x10 1x110"), true),
                ("again", given_up("7x10 9x110"), true),
                ("long-ago", given_up("5x120"), false),
            ],
            times: ["10m", "30m"],
            step: minute,
        },
        Play {
            alert: "FamaDomainLost",
            nodes: vec![
                ("lost", series(&[(LOST, "2x120")]), true),
                ("blinked", series(&[(LOST, "1x10 0x110")]), false),
                ("proven", series(&[(LOST, "0x120")]), false),
            ],
            times: ["14m", "30m"],
            step: minute,
        },
        // Time begins at 0 here. A series of which nothing came for five minutes is gone.
        Play {
            alert: "FamaNotScrubbed",
            nodes: vec![
                ("too-slow", series(&[(PASS, "3600x12000"), (START, "60x12000")]), true),
                ("never", series(&[(PASS, "0x12000"), (START, "60x12000")]), true),
                ("restarted", series(&[(PASS, "0x12000"), (START, "60x9000 2160000x3000")]), false),
                ("scrubbed", series(&[(PASS, "0+240x12000"), (START, "60x12000")]), false),
            ],
            times: ["719h", "725h"],
            step: minutes,
        },
    ]
}

/// Name and labels of a line of `/metrics`.
fn labelled(line: &str) -> Option<(&str, BTreeMap<String, String>)> {
    let (series, _) = line.rsplit_once(' ').filter(|_| !line.starts_with('#'))?;
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    let pairs = labels.trim_end_matches('}').split("\",").filter_map(|pair| pair.split_once("=\""));
    Some((name, pairs.map(|(label, value)| (label.to_owned(), value.trim_end_matches('"').to_owned())).collect()))
}

/// What takes minutes or a month: too long to wait for. The names and labels are those of a running node; the rules are
/// the file's, times and all, without their annotations.
#[test]
fn what_takes_long_fires_in_prometheus_own_tests() {
    let Some(promtool) = needed("promtool") else { return };
    let mut shown = String::new();
    multi(async {
        let mut net = LocalFederation::new(1);
        let config = Config { webhooks: vec![webhook()], ..net.config(0) };
        net.start_with(0, config).await;
        net.wait("it writes", |status| status["waiting"].is_null()).await;
        let (_, registration) = net.register(0, "seen", &secret(2));
        net.accepted(0, registration).await;
        net.settled().await;
        let admin = net.nodes[0].as_ref().unwrap().admin;
        // The first answer is counted in the next; a webhook shows when its task has begun.
        metrics(admin).await;
        shown = eventually("the webhook shows", async || {
            let shown = metrics(admin).await;
            if shown.contains("fama_webhook_deliveries_total{") { Ok(shown) } else { Err(shown) }
        })
        .await;
    });
    let live: Vec<_> = shown.lines().filter_map(labelled).collect();
    let rules = std::fs::read_to_string(root().join("config/prometheus-rules.yml")).unwrap();
    let told = ["annotations:", "summary:", "what_to_do:"];
    let kept = rules.lines().filter(|line| !told.iter().any(|word| line.trim_start().starts_with(word)));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("rules.yml"), kept.collect::<Vec<_>>().join("\n") + "\n").unwrap();

    let mut tests = Vec::new();
    for Play { alert, nodes, times, step } in plays() {
        let (mut input, mut fired) = (Vec::new(), BTreeSet::new());
        for (node, series, fires) in &nodes {
            let before = input.len();
            for (name, labels) in &live {
                let Some(values) = series(name, labels) else { continue };
                let labels: Vec<String> = labels.iter().map(|(label, value)| format!(",{label}=\"{value}\"")).collect();
                let one = format!("{name}{{instance=\"{node}\"{}}}", labels.concat());
                input.push(json!({"series": one, "values": values}));
            }
            assert!(input.len() > before, "{alert}: a running node has no such series");
            if *fires {
                fired.insert(*node);
            }
        }
        let expected = |node: &str| -> Vec<Value> {
            let each = |label: &str, name: &str| -> Vec<Value> {
                let of = live.iter().filter(|(one, _)| *one == name).map(|(_, labels)| labels[label].clone());
                let values: BTreeSet<String> = of.collect();
                values.into_iter().map(|value| json!({label: value})).collect()
            };
            let more = match alert {
                "FamaLags" => each("log", "fama_log_entries"),
                "FamaReadsSlow" => each("route", "fama_http_request_seconds_bucket"),
                // The rule's labels are the series', the outcome included.
                "FamaWebhookGaveUp" => vec![json!({"webhook": "idle", "outcome": "given_up"})],
                _ => vec![json!({})],
            };
            more.into_iter()
                .map(|mut labels| {
                    labels["severity"] = "ticket".into();
                    labels["instance"] = node.into();
                    json!({"exp_labels": labels})
                })
                .collect()
        };
        let all: Vec<Value> = fired.iter().flat_map(|node| expected(node)).collect();
        assert!(!all.is_empty() && fired.len() < nodes.len(), "{alert}");
        tests.push(json!({"interval": step, "input_series": input, "alert_rule_test": [
            {"eval_time": times[0], "alertname": alert, "exp_alerts": []},
            {"eval_time": times[1], "alertname": alert, "exp_alerts": all},
        ]}));
    }
    let whole = json!({"rule_files": ["rules.yml"], "evaluation_interval": "4m", "tests": tests});
    std::fs::write(folder.path().join("tests.yml"), whole.to_string()).unwrap();
    let ran = Command::new(promtool).args(["test", "rules", "tests.yml"]).current_dir(folder.path()).output().unwrap();
    let said = [ran.stdout, ran.stderr].concat();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&said));
}

/// Prometheus itself finds no fault with the file.
#[test]
fn the_rules_are_valid() {
    let Some(promtool) = needed("promtool") else { return };
    let checked =
        Command::new(promtool).args(["check", "rules"]).arg(root().join("config/prometheus-rules.yml")).output();
    let checked = checked.unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

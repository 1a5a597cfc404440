//! The alerting rules of `config/`, in a real Prometheus that scrapes real nodes: each outage fires the alerts that are
//! for it, health fires none. Times are shortened; the expressions are those of the file.
#![allow(clippy::print_stdout, reason = "a test that shows nothing must say so")]
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fama_node::config::{Config, Listener};

use crate::federation::{LocalFederation, free_ports, get, multi};
use crate::papers::root;

/// How long an alert may take to fire or to end: an operator counts as away after a minute.
const PATIENCE: Duration = Duration::from_secs(150);
/// How long health is watched.
const CALM: Duration = Duration::from_secs(15);

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

/// The rules with seconds in place of minutes.
fn hurried() -> String {
    let rules = std::fs::read_to_string(root().join("config/prometheus-rules.yml")).unwrap();
    let mut hurried = String::new();
    for line in rules.lines() {
        let line = if line.trim_start().starts_with("for:") { "        for: 2s" } else { line };
        writeln!(hurried, "{line}").unwrap();
    }
    for (minutes, seconds) in
        [("fama_log_unfinal_seconds > 120", "> 5"), ("fama_operator_silent_seconds > 300", "> 15")]
    {
        assert_eq!(hurried.matches(minutes).count(), 1, "{minutes}");
        let name = minutes.split(' ').next().unwrap();
        hurried = hurried.replace(minutes, &format!("{name} {seconds}"));
    }
    hurried
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

    /// The names of the alerts that fire, each with what it is about.
    async fn firing(&self) -> BTreeSet<(String, String)> {
        let answer = get(self.address, "/api/v1/alerts").await;
        let alerts = answer["data"]["alerts"].as_array().cloned().unwrap_or_default();
        let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        firing
            .map(|alert| {
                let labels = &alert["labels"];
                let about = ["operator", "log", "instance"].iter().map(|label| text(&labels[*label]));
                (text(&labels["alertname"]), about.collect::<Vec<_>>().join(" ").trim().to_owned())
            })
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
}

/// Symptom: with two of four nodes stopped, nothing became final, and no alert told the survivors from health; an
/// operator that was never heard since the start was reported by none.
#[test]
fn each_outage_fires_its_alerts_and_health_fires_none() {
    let Some(prometheus) = program("prometheus") else {
        assert!(std::env::var_os("FAMA_FOREIGN").is_none(), "no prometheus");
        return println!("skipped: there is no prometheus on this machine, so the alerts were not tried");
    };
    multi(async {
        let mut net = LocalFederation::new(4);
        let admins: Vec<SocketAddr> =
            free_ports(4).into_iter().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))).collect();
        let config = |net: &LocalFederation, i: usize| -> Config {
            Config { admin: Listener { enabled: true, listen: admins[i] }, ..net.config(i) }
        };
        for i in 0..3 {
            let config = config(&net, i);
            net.start_with(i, config).await;
        }
        let folder = tempfile::tempdir().unwrap();
        let watched = Prometheus::start(&prometheus, folder.path(), &admins);

        // The fourth never started: it is missed all the same.
        watched.fires("FamaOperatorSilent", 3, &["FamaNodeDown", "FamaOperatorSilent"]).await;
        let last = config(&net, 3);
        net.start_with(3, last).await;
        watched.fires("", 0, &[]).await;
        let calm = Instant::now();
        while calm.elapsed() < CALM {
            assert_eq!(watched.firing().await, BTreeSet::new());
            tokio::time::sleep(Duration::from_secs(1)).await;
        }

        for gone in [2, 3] {
            net.stop(gone).await;
        }
        let (_, registration) = net.register(0, "waits", &fama_tests::secret(6));
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

/// Prometheus itself finds no fault with the file.
#[test]
fn the_rules_are_valid() {
    let Some(promtool) = program("promtool") else {
        assert!(std::env::var_os("FAMA_FOREIGN").is_none(), "no promtool");
        return println!("skipped: there is no promtool on this machine, so the rules were not checked");
    };
    let checked =
        Command::new(promtool).args(["check", "rules"]).arg(root().join("config/prometheus-rules.yml")).output();
    let checked = checked.unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

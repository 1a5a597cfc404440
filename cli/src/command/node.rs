//! `fama node`: runs a node until it gets a signal.
use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fama_ledger::replica::Overrides;
use fama_node::config::{self, Config, Level, LiveSettings, LogFormat, LogSettings, REFERENCE, Verify};
use fama_node::network::LOG_DIRECTIVES;
use fama_node::node;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

use crate::failure::Failure;
use crate::terminal::{FieldList, Terminal};

/// What a node takes under load beyond what `[storage]` bounds, in bytes: connections, requests, scores.
const ELSE_BYTES: usize = 250_000_000;

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Example:
  fama node --config demo/alpha.example/node.toml

It stops cleanly on SIGTERM or Ctrl-C. With SIGHUP it takes up the log level, the access log,
proxies, rates and invitations from its configuration. All settings: fama node --example-config";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The configuration file
    #[arg(long, value_name = "FILE", required_unless_present = "example_config")]
    config: Option<PathBuf>,
    /// Print a configuration file with every setting, its default and what it means, and stop
    #[arg(long, conflicts_with = "config")]
    example_config: bool,
    /// Check the configuration, the files that it names, and that the data folder can be used; change nothing, and stop
    #[arg(long)]
    check: bool,
    /// While this node is far behind, answer from what it has verified itself (`full`), or long before that from states
    /// that a quorum of operators certified (`certified`); overrides the configuration
    #[arg(long, value_name = "HOW", value_parser = ["full", "certified"])]
    verify: Option<String>,
    /// Write without first asking the other operators what this node signed before: only if they can't answer and
    /// the data folder is certainly not an old copy
    #[arg(long)]
    assume_disk_current: bool,
    /// Accept events although the clock jumped or is ahead of the other operators' clocks: only if it is right
    #[arg(long)]
    accept_clock: bool,
    /// Cosign entries that reached this node more than `max_lag_ms` after their time: only if you found out why they
    /// are late, and for as short as possible
    #[arg(long)]
    accept_late: bool,
    /// Stop cleanly when standard input ends, as it does when the parent process is gone
    #[arg(long, hide = true)]
    stop_with_stdin: bool,
}

/// Runs a node, or only checks its configuration.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let Some(path) = &args.config else {
        return terminal.answer(&json!({"config": REFERENCE}), REFERENCE.trim_end());
    };
    config::raise_limit();
    if args.check {
        return checked(path, &configured(args, path)?, terminal);
    }
    // Before anything can fail: the first error, too, has the configured format.
    let log = LogSettings::of_file(path);
    let set_level = start_logging(log);
    let ended = configured(args, path).and_then(|config| run_node(args, path, config, set_level));
    ended.map_err(|failure| {
        let failure = failure.or_usual_hint();
        if log.format == LogFormat::Text {
            return failure;
        }
        let hint = failure.hint.as_deref().unwrap_or_default();
        tracing::error!(code = failure.code, hint, "{}", failure.message);
        Failure { logged: true, ..failure }
    })
}

fn configured(args: &Args, path: &Path) -> Result<Config, Failure> {
    let mut config = node::configured(path)?;
    let Args { assume_disk_current, accept_clock, accept_late, .. } = *args;
    config.overrides = Overrides { assume_disk_current, accept_clock, accept_late };
    match args.verify.as_deref() {
        Some("certified") => config.verify = Verify::Certified,
        Some(_) => config.verify = Verify::Full,
        None => {}
    }
    Ok(config)
}

fn run_node(args: &Args, path: &Path, config: Config, set_level: SetLevel) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("network").build();
    let runtime = runtime.map_err(|error| Failure::new("runtime", error))?;
    // Fails in a process that has verified something already: then its threads stay as they are.
    let _ = rayon::ThreadPoolBuilder::new().thread_name(|number| format!("verify-{number}")).build_global();
    runtime.block_on(async {
        let signal = stop_signal()?;
        let (sender, live) = watch::channel(Arc::new(config.live()));
        let hangups = hangups(path, sender, set_level)?;
        let stop = async {
            tokio::select! {
                () = signal => (),
                () = hangups => (),
                () = stdin_end(), if args.stop_with_stdin => (),
            }
        };
        Box::pin(node::run_with(config, live, stop, |_| ())).await.map_err(|error| Failure::new(error.code(), error))
    })
}

/// Takes up what can change while the node runs, with every SIGHUP: `systemctl reload`. Completes with a SIGHUP if the
/// node belongs to a terminal, which sends it when it closes.
///
/// # Errors
/// `signal` if no handler can be installed.
fn hangups(
    path: &Path,
    sender: watch::Sender<Arc<LiveSettings>>,
    set_level: SetLevel,
) -> Result<impl Future<Output = ()>, Failure> {
    let mut hangup = signal(SignalKind::hangup()).map_err(|error| Failure::new("signal", error))?;
    let path = path.to_owned();
    Ok(async move {
        while hangup.recv().await.is_some() {
            if std::io::stdin().is_terminal() {
                return;
            }
            match LiveSettings::load(&path) {
                Ok(settings) => {
                    set_level(settings.level);
                    let settings = Arc::new(settings);
                    sender.send_replace(Arc::clone(&settings));
                    let LiveSettings { level, access, admission, webhooks } = &*settings;
                    tracing::info!(
                        level = level.as_str(),
                        access_log = access.log,
                        trusted_proxies = access.trusted_proxies.len(),
                        registrations_per_hour = admission.registrations_per_hour,
                        invites = admission.invites.len(),
                        webhooks = webhooks.len(),
                        "configuration read again; all other settings need a restart"
                    );
                }
                Err(error) => tracing::error!(code = error.code(), %error, "the configuration is not taken up"),
            }
        }
        // No more signals can arrive.
        std::future::pending::<()>().await;
    })
}

fn checked(path: &Path, config: &Config, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let mut warnings = config.warnings();
    let folders = node::try_folders(config).map_err(|error| Failure::new(error.code(), error))?;
    // A later version in a data folder that is in use cannot be read.
    if !folders.is_empty()
        && let Err(error) = Config::load(path)
    {
        warnings.push(format!("{error}; only a version in the data folder, which is in use, could fit"));
    }
    warnings.extend(folders);
    warnings.iter().for_each(|warning| terminal.say(format!("warning: {warning}")));
    let operator = config.operator.as_ref().map(ToString::to_string);
    let listen: Vec<String> = config.network.listen.iter().map(ToString::to_string).collect();
    let json = json!({
        "operator": operator, "federation": config.manifest.federation().to_string(),
        "data_dir": config.data_dir.display().to_string(), "verify": config.verify.as_str(), "network": listen,
        "query": config.query.enabled.then(|| config.query.listen.to_string()),
        "submit": config.submit.enabled.then(|| config.submit.listen.to_string()),
        "auth": config.auth.as_ref().map(|auth| auth.listener.listen.to_string()),
        "admin": config.admin.enabled.then(|| config.admin.listen.to_string()),
        "memory_bytes": memory(config), "warnings": warnings,
    });
    let http = |listener: fama_node::config::Listener| {
        if listener.enabled { format!("http://{}", listener.listen) } else { "off".to_owned() }
    };
    let lines = vec![
        ("operator", operator.unwrap_or_else(|| "none: a mirror".to_owned())),
        ("federation", format!("{} {}", config.manifest.name(), config.manifest.federation())),
        ("data", config.data_dir.display().to_string()),
        ("network", listen.join("\n")),
        ("query", http(config.query)),
        ("submit", http(config.submit)),
        ("auth", config.auth.as_ref().map_or_else(|| "off".to_owned(), |auth| http(auth.listener))),
        ("admin", http(config.admin)),
        ("memory", format!("{} MB", memory(config) / 1_000_000)),
    ];
    terminal.answer(&json, FieldList(lines))
}

/// About how much memory the node takes under load, in bytes: what the settings bound, and what everything else does. Twice
/// as much while it answers from certified states, next to which it makes its own copies.
const fn memory(config: &Config) -> usize {
    let states = if matches!(config.verify, Verify::Certified) { 2 } else { 1 };
    config.storage.memory().saturating_add(ELSE_BYTES).saturating_mul(states)
}

/// Completes when standard input ends. Reads in a thread of its own, which the runtime does not wait for.
async fn stdin_end() {
    let (end, ended) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        // An input error counts as the end, too.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _ = end.send(());
    });
    let _ = ended.await;
}

/// Changes the least severe level that is logged; does nothing if `RUST_LOG` says what is.
type SetLevel = Box<dyn Fn(Level) + Send>;

/// Sends the node's log to stderr. Has no effect if the process has a logger already.
pub(crate) fn start_logging(log: LogSettings) -> SetLevel {
    let variable = |name: &str| std::env::var_os(name);
    let (filter, fault) = log_filter(variable("RUST_LOG").as_deref(), log.level);
    let colours = std::io::stderr().is_terminal() && may_colour(variable("NO_COLOR"), variable("TERM"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    let chosen = move |level| log_filter(std::env::var_os("RUST_LOG").as_deref(), level).0;
    let set_level: SetLevel = match log.format {
        LogFormat::Text => {
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            let _ = builder.try_init();
            // An error: this logger is not the process's.
            Box::new(move |level| drop(handle.reload(chosen(level))))
        }
        LogFormat::Json => {
            let builder = builder.json().with_filter_reloading();
            let handle = builder.reload_handle();
            let _ = builder.try_init();
            Box::new(move |level| drop(handle.reload(chosen(level))))
        }
    };
    if let Some(fault) = fault {
        tracing::warn!(%fault, level = log.level.as_str(), "RUST_LOG is malformed and not used");
    }
    set_level
}

/// What is logged: what `RUST_LOG` says, unless it is empty or malformed; then also what is wrong with it.
fn log_filter(rust_log: Option<&OsStr>, level: Level) -> (EnvFilter, Option<String>) {
    let configured = || EnvFilter::new(format!("{},{LOG_DIRECTIVES}", level.as_str()));
    let Some(text) = rust_log.filter(|text| !text.is_empty()) else { return (configured(), None) };
    let read = text.to_str().ok_or_else(|| "not UTF-8".to_owned());
    match read.and_then(|text| EnvFilter::builder().parse(text.trim()).map_err(|error| error.to_string())) {
        Ok(filter) if !text.to_string_lossy().trim().is_empty() => (filter, None),
        Ok(_) => (configured(), None),
        Err(fault) => (configured(), Some(fault)),
    }
}

/// Whether a terminal may get colours: not if `NO_COLOR` (no-color.org) is set to anything, and not if it knows none.
fn may_colour(no_color: Option<OsString>, term: Option<OsString>) -> bool {
    no_color.is_none_or(|set| set.is_empty()) && term.is_none_or(|term| term != "dumb")
}

/// Completes on SIGTERM or SIGINT.
///
/// # Errors
/// `signal` if no handler can be installed.
pub(crate) fn stop_signal() -> Result<impl Future<Output = ()>, Failure> {
    let failed = |error| Failure::new("signal", error);
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => (),
            _ = interrupt.recv() => (),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn an_empty_filter_is_none_and_a_bad_one_is_told() {
        let filter = |text: Option<&[u8]>| {
            let (filter, fault) = log_filter(text.map(OsStr::from_bytes), Level::Info);
            (filter.to_string(), fault.is_some())
        };
        let (configured, none) = filter(None);
        assert!(configured.contains("info") && !none, "{configured}");
        for unset in ["", " "] {
            assert_eq!(filter(Some(unset.as_bytes())), (configured.clone(), false), "{unset:?}");
        }
        assert_eq!(filter(Some(b"debug")), ("debug".to_owned(), false));
        for bad in [&b"fama_node=loud"[..], b"a=b=c", b"\xff"] {
            assert_eq!(filter(Some(bad)), (configured.clone(), true), "{bad:?}");
        }
    }

    #[test]
    fn colours_only_where_they_are_wanted() {
        let set = |text: &str| Some(OsString::from(text));
        assert!(may_colour(None, set("xterm")) && may_colour(set(""), set("xterm")) && may_colour(None, None));
        assert!(!may_colour(set("1"), set("xterm")) && !may_colour(set("0"), None) && !may_colour(None, set("dumb")));
    }
}

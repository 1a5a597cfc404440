//! The command line as a person and a program meet it.
#![allow(clippy::unwrap_used)]
#[path = "run/governance.rs"]
mod governance;
#[path = "run/inputs.rs"]
mod inputs;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use clap::CommandFactory;
use fama_ledger::base64;
use fama_ledger::event::Event;
use fama_ledger::id::EventId;
use fama_ledger::key::{PublicKey, Signature};
use fama_ledger::manifest::Manifest;
use fama_ledger::note::{Note, note_hash};
use serde_json::Value;

/// Runs a command line within `dir`: its exit code, stdout and stderr. `{}` stands for the folder, `~` for a
/// space within an argument.
fn run(dir: &Path, line: &str) -> (ExitCode, String, String) {
    let args = line.split_whitespace().map(|arg| arg.replace("{}", dir.to_str().unwrap()).replace('~', " "));
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = fama_cli::run(["fama".to_owned()].into_iter().chain(args), &mut out, &mut err);
    (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

/// Runs a command line that succeeds, and reads its one JSON object.
fn json(dir: &Path, line: &str) -> Value {
    let (code, out, err) = run(dir, &format!("{line} --json"));
    assert_eq!(code, ExitCode::SUCCESS, "{line}\n{out}\n{err}");
    assert_eq!(out.lines().count(), 1, "{out}");
    serde_json::from_str(&out).unwrap()
}

/// Runs a command line that fails, and gives its code.
fn failure(dir: &Path, line: &str) -> String {
    let (code, out, err) = run(dir, &format!("{line} --json"));
    assert_eq!(code, ExitCode::from(fama_cli::FAILED), "{line}\n{out}\n{err}");
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert!(!answer["error"].as_str().unwrap().is_empty());
    let (_, out, people) = run(dir, line);
    assert!(out.is_empty() && people.contains("error: "), "{people}");
    answer["code"].as_str().unwrap().to_owned()
}

fn openssl(args: &[&str]) -> String {
    let output = Command::new("openssl").args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn path(dir: &Path, name: &str) -> String {
    dir.join(name).to_str().unwrap().to_owned()
}

/// A federation of one, with an agent's key.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    json(dir.path(), "federation new Test alpha.example --out {}");
    json(dir.path(), "key new --out {}/agent.pem");
    dir
}

/// Every command's help, in one file. After an intended change: `FAMA_BLESS=1 cargo test -p fama-cli`.
#[test]
fn help_is_what_it_was() {
    fn collect(command: &clap::Command, line: &str, all: &mut String) {
        let (code, out, err) = run(Path::new("/"), &format!("{line} --help"));
        assert!(code == ExitCode::SUCCESS && err.is_empty(), "{line}");
        assert!(out.contains("Example"), "{line} --help shows no example");
        let out: Vec<&str> = out.lines().map(str::trim_end).collect();
        all.push_str(&format!("$ fama {line}\n\n{}\n\n", out.join("\n")).replace(" \n", "\n"));
        for sub in command.get_subcommands() {
            collect(sub, format!("{line} {}", sub.get_name()).trim(), all);
        }
    }
    let mut all = String::new();
    collect(&fama_cli::Cli::command(), "", &mut all);
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/help.txt");
    if std::env::var_os("FAMA_BLESS").is_some() {
        fs::write(file, &all).unwrap();
    }
    assert_eq!(all, fs::read_to_string(file).unwrap());
    fama_cli::Cli::command().debug_assert();
}

#[test]
fn usage_errors() {
    let dir = Path::new("/");
    for line in
        ["", "nonsense", "key new", "key new --out x --ed25519 --secp256k1", "attest x --delta five", "register Swift"]
    {
        let (code, out, err) = run(dir, line);
        assert_eq!(code, ExitCode::from(fama_cli::USAGE), "{line}");
        assert!(out.is_empty() && err.contains("--help"), "{line}: {out}{err}");
        let (code, out, err) = run(dir, &format!("{line} --json"));
        assert_eq!(code, ExitCode::from(fama_cli::USAGE), "{line}");
        let answer: Value = serde_json::from_str(&out).unwrap();
        assert!(answer["code"] == "usage" && err.is_empty(), "{answer}");
    }
}

#[test]
fn openssl_reads_our_keys() {
    let dir = tempfile::tempdir().unwrap();
    for curve in ["secp256k1", "ed25519"] {
        let (file, public) = (path(dir.path(), curve), path(dir.path(), "public.pem"));
        let shown = json(dir.path(), &format!("key new --{curve} --out {{}}/{curve}"));
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(openssl(&["pkey", "-in", &file, "-pubout"]), shown["public_key"].as_str().unwrap());
        fs::write(&public, shown["public_key"].as_str().unwrap()).unwrap();
        for line in [&format!("key show {{}}/{curve}"), "key show {}/public.pem"] {
            assert_eq!(json(dir.path(), line), shown, "{line}");
        }
        let (_, out, err) = run(dir.path(), &format!("key show {{}}/{curve}"));
        assert!(!out.contains("PRIVATE") && err.is_empty());
        assert_eq!(failure(dir.path(), &format!("key new --out {{}}/{curve}")), "file_exists");
    }
}

#[test]
fn openssl_checks_our_logins_and_we_check_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| path(dir.path(), name);
    json(dir.path(), "key new --out {}/agent.pem");
    let signed = json(dir.path(), "sign --key {}/agent.pem --name swift-core-maps --payload hello");
    let member = |name: &str| signed[name].as_str().unwrap();
    let message = [member("dumbname"), member("timestamp"), member("message")].concat();
    fs::write(file("message"), &message).unwrap();
    fs::write(file("sig"), base64::decode_lenient(member("signature")).unwrap()).unwrap();
    fs::write(file("public.pem"), openssl(&["pkey", "-in", &file("agent.pem"), "-pubout"])).unwrap();
    let (public, signature, text) = (file("public.pem"), file("sig"), file("message"));
    openssl(&["dgst", "-sha256", "-verify", &public, "-signature", &signature, &text]);

    openssl(&["dgst", "-sha256", "-sign", &file("agent.pem"), "-out", &signature, &text]);
    let theirs = base64::encode(&fs::read(&signature).unwrap());
    let verify =
        format!("check-login --name swift-core-maps --timestamp {} --public {{}}/public.pem", member("timestamp"));
    assert_eq!(json(dir.path(), &format!("{verify} --payload hello --signature {theirs}"))["verified"], true);
    assert_eq!(failure(dir.path(), &format!("{verify} --payload hullo --signature {theirs}")), "signature_mismatch");
    assert_eq!(failure(dir.path(), &format!("{verify} --payload hello --signature ?")), "signature_malformed");
    let order = "sign --key {}/agent.pem --name swift --payload ROTATE_KEY:x";
    assert_eq!(failure(dir.path(), order), "dangerous_payload");
}

#[test]
fn a_federation_is_founded_once() {
    let dir = tempfile::tempdir().unwrap();
    let line = "federation new Test alpha.example beta.example --out {}/f --port 5001";
    let made = json(dir.path(), line);
    let manifest = Manifest::parse(&fs::read_to_string(path(dir.path(), "f/manifest.txt")).unwrap()).unwrap();
    assert_eq!(made["federation"], manifest.federation().to_string());
    assert_eq!(manifest.operators()[1].addresses, ["/ip4/127.0.0.1/tcp/5002", "/ip4/127.0.0.1/udp/5002/quic-v1"]);
    assert_eq!(json(dir.path(), "federation show {}/f/manifest.txt")["operators"], made["operators"]);
    for secret in ["f/alpha.example/node.pem", "f/beta.example/governance.pem"] {
        assert_eq!(fs::metadata(path(dir.path(), secret)).unwrap().permissions().mode() & 0o7777, 0o600);
    }
    let checked = json(dir.path(), "node --config {}/f/beta.example/node.toml --check");
    assert_eq!((&checked["operator"], &checked["query"]), (&"beta.example".into(), &"127.0.0.1:8081".into()));
    assert_eq!(failure(dir.path(), line), "file_exists");
    let base = "federation new Test a.example b.example --out {}/g";
    assert_eq!(failure(dir.path(), &format!("{base} --host x --host y --host z")), "hosts");
    assert_eq!(failure(dir.path(), "federation new Test a.example a.example --out {}/g"), "manifest_value");
    assert_eq!(failure(dir.path(), "federation show {}/f/alpha.example/node.toml"), "manifest_note");
    assert!(!dir.path().join("g").exists());
}

#[test]
fn a_registration_is_signed_as_it_is_shown() {
    let dir = folder();
    let hand_in = "--manifest {}/manifest.txt --key {}/agent.pem --dry-run";
    let line = format!("register swift-core-maps@alpha.example --bio I~map~cores {hand_in}");
    let signed = json(dir.path(), &line);
    let text = signed["text"].as_str().unwrap();
    let event = Event::parse(text.as_bytes()).unwrap();
    assert_eq!(event.id().to_string(), signed["event"]);
    let key: PublicKey = signed["signer"].as_str().unwrap().parse().unwrap();
    let signature = base64::decode_lenient(signed["signature"].as_str().unwrap()).unwrap();
    Signature::from_edge(&key, text.as_bytes(), &signature).unwrap();
    let note = signed["note"].as_str().unwrap();
    assert_eq!(Note::parse(note.as_bytes()).unwrap().bio.unwrap(), "I map cores");
    assert_eq!(event.action.note(), Some(note_hash(note.as_bytes())));
    let next = json(dir.path(), "key show {}/agent.next.pem");
    assert!(text.contains(&format!("next: {}\n", next["hash"].as_str().unwrap())));
    // Submitting the same again reuses the next key; without one, nothing is committed to.
    assert!(json(dir.path(), &line)["text"].as_str().unwrap().contains(next["hash"].as_str().unwrap()));
    assert!(!json(dir.path(), &format!("{line} --no-next"))["text"].as_str().unwrap().contains("next:"));
    let (_, _, remarks) = run(dir.path(), &line);
    assert!(remarks.contains("name: swift-core-maps"), "{remarks}");
}

#[test]
fn every_kind_can_be_signed() {
    let dir = folder();
    let id = EventId([7; 32]);
    let agent = "--manifest {}/manifest.txt --key {}/agent.pem --dry-run";
    let node = "--manifest {}/manifest.txt --key {}/alpha.example/node.pem --dry-run";
    let own = "--home alpha.example";
    fs::copy(dir.path().join("agent.pem"), dir.path().join("old.pem")).unwrap();
    json(dir.path(), "key new --out {}/agent.next.pem");
    let table = [
        (format!("rotate {id} {own} --key-version 1 {agent}"), "version: 2\n"),
        (format!("rotate {id} {own} --key-version 3 --uncommitted {agent}"), "version: 4\n"),
        (format!("revoke {id} {own} --key-version 1 --reason key_compromised {agent}"), "reason: key_compromised\n"),
        (
            format!("attest {id} --issuer {} {own} --delta -3 --context code --ref x {agent}", EventId([8; 32])),
            "delta: -3\n",
        ),
        (format!("retract {id} --issuer {id} --subject {id} --day 2026-11-22 {own} {agent}"), "day: 2026-11-22\n"),
        (
            format!("admit {id} --service s --domain s.example --method dns --no-check {node}"),
            "operator: alpha.example\n",
        ),
        (format!("dismiss {id} --service s --domain s.example --from 9 {node}"), "from: 9\n"),
    ];
    for (line, want) in table {
        let signed = json(dir.path(), &line);
        assert!(signed["text"].as_str().unwrap().contains(want), "{line}\n{signed}");
        assert_eq!(signed["countersignature"].is_string(), line.contains("--uncommitted"), "{line}");
    }
    let table = [
        (format!("attest swift@alpha.example --issuer {id} --delta 1 {agent}"), "query_needed"),
        (format!("attest {id} --issuer {id} --delta 1 {agent}"), "home_needed"),
        (format!("attest {id} --issuer {id} {own} --delta 6 {agent}"), "delta"),
        (format!("rotate {id} {own} {agent}"), "version_needed"),
        (format!("retract {id} {agent}"), "query_needed"),
        (format!("rotate {id} {own} --key-version 1 --new {{}}/no.pem {agent}"), "file_not_found"),
        (format!("admit {id} --service s --domain s.example --method dns --no-check {agent}"), "not_an_operator"),
        ("register swift@alpha.example --manifest {}/no.txt --key {}/agent.pem".to_owned(), "file_not_found"),
        ("agent swift --query http://127.0.0.1:1".to_owned(), "unreachable"),
    ];
    for (line, code) in table {
        assert_eq!(failure(dir.path(), &line), code, "{line}");
    }
}

#[test]
fn nothing_is_signed_without_consent() {
    let dir = folder();
    let (manifest, key) = (path(dir.path(), "manifest.txt"), path(dir.path(), "agent.pem"));
    let args = ["register", "swift@alpha.example", "--manifest", &manifest, "--key", &key];
    let output = Command::new(env!("CARGO_BIN_EXE_fama")).args(args).stdin(Stdio::null()).output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        err.ends_with(
            "error: standard input is not a terminal, so nobody can confirm (not_confirmed)\nhint: consent with --yes\n"
        ),
        "{err}"
    );
}

#[test]
fn a_configuration_error_names_file_and_line() {
    let dir = folder();
    let file = path(dir.path(), "alpha.example/node.toml");
    let config = fs::read_to_string(&file).unwrap();
    fs::write(&file, config.replace("[query]\nlisten", "[query]\nlissen")).unwrap();
    let (_, _, err) = run(dir.path(), "node --config {}/alpha.example/node.toml");
    assert!(err.starts_with(&format!("error: {file}:11: unknown field `lissen`")), "{err}");
    assert!(err.contains("(config_toml)\nhint: "), "{err}");
}

#[test]
fn completions_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (code, out, _) = run(Path::new("/"), &format!("completions {shell}"));
        assert!(code == ExitCode::SUCCESS && out.contains("leaderboard"), "{shell}");
    }
}

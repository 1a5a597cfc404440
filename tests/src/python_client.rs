//! The tests of the Python client, of the module `fama`, and those of the login servers in `docs/examples`, against nodes of this build.
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::auditor::python;
use crate::cli::program;

/// Whether what a test needs may be missing here.
fn may_be_missing() -> bool {
    std::env::var_os("FAMA_FOREIGN").is_none()
}

/// The login server in Rust, which cargo builds next to this test's program.
fn login_server() -> Option<PathBuf> {
    let tests = std::env::current_exe().unwrap();
    let server = tests.ancestors().nth(2).unwrap().join("examples/login_server");
    server.is_file().then_some(server)
}

/// Runs these files of the client's tests.
fn run(pattern: &str) {
    run_in("node/clients/python/tests", pattern, "cryptography, httpx");
}

/// Runs these files of tests with these packages. Says what they skipped.
#[allow(clippy::print_stdout, reason = "a test that shows nothing must say so")]
fn run_in(folder: &str, pattern: &str, packages: &str) {
    let has_packages = Command::new(python()).args(["-c", &format!("import {packages}")]).output();
    if !has_packages.is_ok_and(|output| output.status.success()) {
        assert!(may_be_missing(), "{} has no {packages}", python().display());
        println!("skipped: no Python with {packages}; `.cargo/needs.sh test` and `.cargo/wheel.sh` prepare one");
        return;
    }
    let server = login_server();
    assert!(server.is_some() || may_be_missing(), "no login server: cargo build --release -p fama-tests --examples");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut command = Command::new(python());
    command.current_dir(root).env("PYTHONDONTWRITEBYTECODE", "1").env("FAMA_BIN", program());
    command.args(["-m", "unittest", "discover", "--verbose", "--start-directory", folder]);
    if let Some(server) = server {
        command.env("FAMA_LOGIN_SERVER", server);
    }
    let output = command.args(["--pattern", pattern]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    // A pattern that finds nothing must not pass for a success.
    assert!(!said.contains("Ran 0 tests"), "{said}");
    said.lines().filter(|line| line.contains("skipped")).for_each(|line| println!("{line}"));
}

#[test]
fn texts_logins_and_streams() {
    for pattern in
        ["test_texts.py", "test_login.py", "test_stream.py", "test_transport.py", "test_tokens.py", "test_resource.py"]
    {
        run(pattern);
    }
}

#[test]
fn clients_against_nodes() {
    run("test_live.py");
    run("test_examples.py");
}

#[test]
fn the_module_in_rust() {
    run_in("cli/python/tests", "test_fama.py", "fama");
    run_in("node/clients/python/tests", "test_proofs.py", "cryptography, httpx, fama");
}

#[test]
fn login_servers_accept_good_logins_only() {
    run("test_login_servers.py");
}

//! All tests that cross crate boundaries, in one binary: one module per subject, grouped by kind.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "tests"
)]

// The house and its papers: import arrows, and documents that must match the code.
mod architecture;
mod papers;
mod protocol;

// Rules of the ledger: one table of cases per subject, all in memory.
mod confusion;
mod fold;
mod join;
mod profile;
mod signature;
mod snapshot;
mod text;
mod tokens;

// Properties of random histories, the model of cuts and adoptions, the simulation of whole federations.
mod model;
mod properties;
mod simulation;

// Golden vectors, third-party vectors, the independent implementation in Python, and the client in JavaScript.
mod auditor;
mod clients;
mod ed25519;
mod invalid_logs;
mod vectors;
mod wycheproof;

// The clients in other languages, against real nodes.
mod python_client;

// Real nodes on loopback sockets: federations, their governance, starts, copies, data folders, alerts, upgrades
// and proxies.
mod alerts;
mod backup;
mod branches;
mod browser;
mod check;
#[path = "../../node/src/http/tests/conforms.rs"]
mod conforms;
mod copies;
mod domains;
mod federation;
mod governance;
mod live;
mod mixed;
mod proxies;
mod quick;
mod ratings;
mod redaction;
mod sign_in;
mod submit;
mod upgrade;

// Attacks and faults: malformed input, hostile peers and clients, kills, failing disks, damaged files.
mod crash;
mod faults;
mod fuzz;
mod hostile;
mod scrub;

// The commands, what they read from public files, and the packages that bring them.
mod audit;
mod cli;
mod mcp;
mod packages;
mod publish;

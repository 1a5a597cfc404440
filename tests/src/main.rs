//! Everything that is tested across crates, in one binary: one file per subject.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "tests"
)]

mod architecture;
mod audit;
mod auditor;
mod branches;
mod check;
mod cli;
mod confusion;
mod copies;
mod crash;
mod ed25519;
mod faults;
mod federation;
mod fold;
mod fuzz;
mod governance;
mod hostile;
mod invalid_logs;
mod join;
mod model;
mod papers;
mod profile;
mod properties;
mod protocol;
mod publish;
mod quick;
mod ratings;
mod scrub;
mod signature;
mod simulation;
mod snapshot;
mod text;
mod vectors;
mod wycheproof;

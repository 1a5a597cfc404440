//! Everything that is tested across crates, in one binary: one file per subject.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "tests"
)]

mod confusion;
mod crash;
mod federation;
mod fold;
mod signature;
mod text;

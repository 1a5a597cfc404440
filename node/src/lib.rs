//! A Fama node: moves bytes between disk, peers, HTTP and the ledger; decides nothing about validity.
pub mod clock;
pub mod config;
pub mod health;
pub mod http;
pub mod metrics;
pub mod network;
pub mod store;

//! A Fama node: moves bytes between disk, peers, HTTP and the ledger; decides nothing about validity.
pub mod admission;
pub mod clock;
pub mod config;
pub mod driver;
pub mod health;
pub mod http;
pub mod inbox;
pub mod metrics;
pub mod network;
pub mod news;
pub mod node;
pub mod public;
pub mod scrub;
pub mod shares;
pub mod store;
pub mod submit;
pub mod sync;

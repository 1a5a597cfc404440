//! A Fama node: moves bytes between disk, peers, HTTP and the ledger; decides nothing about validity.
//!
//! Modules stand on floors, bottom first; each imports only from the floors below its own, which a test holds.

// The vocabulary of nodes: their messages and the codec of these.
pub mod wire;

// What every floor above may read: settings, time, and what the node shows of itself.
pub mod clock;
pub mod config;
mod health;
mod metrics;

// Disk and peers, side by side: neither knows the other.
pub mod network;
pub mod store;

// What can be shown of the store to strangers.
mod certified;
pub mod public;

// What the parts above share, in one value.
pub mod shared;

// What nodes tell one another of their logs, what folds entries again, and what looks for damage on disk.
pub mod replay;
mod scrub;
pub mod sync;

// The door: every event and every foreign entry enters here, is folded, appended and announced.
pub mod inbox;

// Who may submit how much, and which log it goes to.
mod submit;

// The HTTP listeners.
pub mod http;

// Between network and inbox.
mod bridge;

// The start from certified states.
mod state_sync;

// The wiring of all of it.
pub mod node;

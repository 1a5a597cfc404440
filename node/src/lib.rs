//! A Fama node: moves bytes between disk, peers, HTTP and the ledger; decides nothing about validity.
//!
//! Modules are in groups, lowest first. A module imports only from groups above it in this list; a test checks that.

// The messages between nodes and their encoding, looking domains up, and verifying on all cores: none knows anything else here.
pub mod domains;
pub mod verify;
pub mod wire;

// What every other module may use: time, settings, and what the node shows of itself.
pub mod clock;
pub mod config;
mod health;
mod metrics;

// Disk and peers, next to each other: neither knows the other.
pub mod store;
pub mod network;

// What strangers can be shown of the store: certified states and public files.
mod certified;
pub mod public;

// Karma of all identities, kept by difference.
pub mod scores;

// One value with what all modules below use.
pub mod shared;

// Folding entries again, checking the disk for damage, looking at the domains of sponsored services again, and what nodes
// tell each other about their logs.
pub mod replay;
mod scrub;
mod sponsored;
pub mod sync;

// The only way in: every event and every foreign entry is verified, folded, appended and announced here.
pub mod inbox;

// Who may submit how much, and to which log a submission goes.
mod submit;

// The HTTP listeners.
pub mod http;

// Passes messages between network and inbox.
mod bridge;

// Starts a node from certified states.
mod state_sync;

// Wires everything together.
pub mod node;
mod outgoing;

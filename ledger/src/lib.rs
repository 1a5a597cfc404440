//! What a Fama event is, when it is valid, and what all events together mean.
//!
//! Pure: no input or output, no clock, no randomness, no floating point. Every byte and every rule is written down in
//! `PROTOCOL.md` next to this crate's sources.
//!
//! The modules are listed in reading order, in groups. A group uses nothing from the groups below it.
#![no_std]
#![deny(clippy::float_arithmetic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects))]

extern crate alloc;
#[cfg(test)]
extern crate std;

// The vocabulary: bounds, ids, times, and the two encodings of everything (text for people, bytes for logs).
pub mod limits;
pub mod time;
pub mod id;
pub mod base64;
pub mod codec;
pub mod text;

// Keys and what authors sign with them: events, the notes that events name, the entries that carry events.
pub mod key;
pub mod secret;
pub mod event;
pub mod note;
pub mod entry;

// Logs: the Merkle tree, and the heads that owners sign and operators cosign.
pub mod log;
pub mod signed_note;
pub mod checkpoint;

// The operators of each manifest version, and the quorums that make a head final.
pub mod manifest;
pub mod note_quorum;
pub mod adoption;

// What entries mean: rows, the maps over them, the fold of one log, the join of all.
pub mod map;
pub mod rows;
pub mod fold;
pub mod batch;
pub mod join;
pub mod weighted;

// Proof that a log's owner misbehaved, and the rules by which operators cut its log.
pub mod equivocation;
pub mod stand;
pub mod cut;

// How nodes keep copies of each other's logs: a state machine without I/O.
pub mod frontier;
pub mod lateness;
pub mod replica;

// For readers: public files, and proofs that need no trust in the sender.
pub mod public;
pub mod proof;
pub mod profile;
pub mod snapshot;

// For signing in: signed JSON, and the tokens of operators, agents and their processes.
pub mod jose;
pub mod token;

//! What a Fama event is, when it is valid, and what all events together mean.
//!
//! Pure: no input or output, no clock, no randomness, no floating point. The format and every rule
//! are written down in `PROTOCOL.md` beside this crate's sources.
#![no_std]
#![deny(clippy::float_arithmetic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects))]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod adoption;
pub mod base64;
pub mod batch;
pub mod checkpoint;
pub mod codec;
pub mod cut;
pub mod entry;
pub mod equivocation;
pub mod event;
pub mod fold;
pub mod id;
pub mod join;
pub mod key;
pub mod limits;
pub mod log;
pub mod manifest;
pub mod map;
pub mod note;
pub mod profile;
pub mod proof;
pub mod public;
pub mod replica;
pub mod rows;
pub mod secret;
pub mod signed_note;
pub mod snapshot;
pub mod stand;
pub mod text;
pub mod time;

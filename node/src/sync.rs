//! What nodes tell one another of their logs: said to a peer that asks, heard from peers, offered to nodes that start.
pub mod heard;
pub mod offered;
pub mod said;

//! What nodes exchange about their logs: `said` to a peer that asks, `heard` from peers, `offered` to starting nodes.
pub mod heard;
pub mod offered;
pub mod said;

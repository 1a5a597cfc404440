//! libp2p: who is connected, what is asked and answered, what is gossiped.
pub mod wire;

//! fama
fn main() {}

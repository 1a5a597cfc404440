//! Stands in for the node's entry point until it is merged.
use fama_node::config::Config;

pub(crate) async fn run(_config: Config, _stop: impl Future) -> Result<(), &'static str> {
    Err("not built in")
}

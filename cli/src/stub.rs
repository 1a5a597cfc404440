//! Stands in for parts of the node that are not merged yet.
#![allow(missing_docs, clippy::unused_async)]
use fama_ledger::id::FederationId;
use fama_node::config::Config;
use fama_node::network::wire::{SubmitRequest, SubmitResponse, SyncRequest, SyncResponse};

pub(crate) struct Client;

impl Client {
    pub(crate) async fn connect(_federation: FederationId, _addr: u16) -> Result<Self, &'static str> {
        Err("not built in")
    }
    pub(crate) async fn submit(&self, _request: SubmitRequest) -> Result<SubmitResponse, &'static str> {
        Err("not built in")
    }
    pub(crate) async fn sync(&self, _request: SyncRequest) -> Result<SyncResponse, &'static str> {
        Err("not built in")
    }
}

pub(crate) async fn run(_config: Config, _stop: impl Future) -> Result<(), &'static str> {
    Err("not built in")
}

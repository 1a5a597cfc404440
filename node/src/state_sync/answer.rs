//! Serving a loaded quick state: an inbox of its own keeps it up to date, and it is compared with the own copies.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fama_ledger::id::NoteHash;
use fama_ledger::join::LogState;
use fama_ledger::log::{self, LogError};
use fama_ledger::manifest::LogId;
use fama_ledger::replica::Fault;
use tokio::sync::mpsc;

use super::{AttemptEnd, StateSync, StateSyncError};
use crate::clock;
use crate::http::App;
use crate::inbox::{self, COMMANDS_MAX, INPUTS_MAX, Inbox, InboxEnd, InboxInput};
use crate::replay::Fatal;
use crate::shared::Shared;
use crate::store::{self, Store};

/// How often the quick state is compared with the node's own copies.
const TICK: Duration = Duration::from_millis(500);

impl StateSync {
    /// Answers from a loaded quick state until the node's own copies have caught up.
    pub(super) async fn answer(&mut self, store: Arc<Store>) -> Result<AttemptEnd, StateSyncError> {
        if store.view().needs_rebuild()? {
            return Err(StateSyncError::Rewound);
        }
        let begins = begins(&store)?;
        let shared = Shared::with(Arc::clone(&store), self.shared.clock.clone(), self.shared.session);
        drop(store);
        let (commands, commands_in) = mpsc::channel(COMMANDS_MAX);
        let (inputs, inputs_in) = mpsc::channel(INPUTS_MAX);
        let of_inbox = shared.clone();
        let mut loading = tokio::task::spawn_blocking(move || Inbox::load(of_inbox, None, commands));
        let loaded = tokio::select! {
            _ = self.stopped.wait_for(|stopped| *stopped) => None,
            inbox = &mut loading => Some(inbox),
        };
        let Some(inbox) = loaded else {
            shared.store.interrupt();
            let _ = loading.await;
            let store = Arc::clone(&shared.store);
            drop(shared);
            store::close(store).await;
            return Ok(AttemptEnd::Stopped);
        };
        let inbox = inbox.map_err(|_| StateSyncError::Internal("the inbox did not load"))??;
        let (thread, mut end) =
            inbox::spawn("quick", inbox, inputs_in).map_err(|_| StateSyncError::Internal("no thread for the inbox"))?;
        let bridge = self.bridge.following(shared.clone(), inputs.clone());
        let commands = tokio::spawn(bridge.clone().commands(commands_in));
        let following = tokio::spawn(bridge.clone().follow());
        // Before it shows, and once more for what was redacted meanwhile.
        self.redact(&shared)?;
        self.slot.show(self.app_of(&shared));
        self.redact(&shared)?;
        self.report(|quick| quick.get_or_insert_default().phase = "answering");
        tracing::info!("queries are answered from a certified state; meanwhile the node verifies its own copies");

        let done = tokio::select! {
            _ = end.changed() => None,
            compared = self.compare(&shared, begins) => Some(compared),
        };
        self.slot.clear();
        following.abort();
        let _ = inputs.send(InboxInput::Stop).await;
        let ended = tokio::task::spawn_blocking(move || thread.join()).await.ok().and_then(Result::ok);
        commands.abort();
        drop(bridge);
        let store = Arc::clone(&shared.store);
        drop(shared);
        store::close(store).await;
        match (done, ended.ok_or(Fatal::Internal("the inbox panicked"))?) {
            (Some(done), _) => done,
            (None, Ok(InboxEnd::Reload)) => Ok(AttemptEnd::Again),
            (None, Ok(InboxEnd::Stopped)) => Ok(AttemptEnd::Stopped),
            (None, Err(error)) => Err(error.into()),
        }
    }

    /// Drops what the operator has dropped from the node's own copies.
    fn redact(&self, quick: &Shared) -> Result<(), StateSyncError> {
        let (own, here) = (self.shared.store.view().redacted_notes()?, quick.store.view().redacted_notes()?);
        let left: Vec<NoteHash> = own.difference(&here).copied().collect();
        if left.is_empty() { Ok(()) } else { Ok(quick.store.redact_notes(&left)?) }
    }

    fn app_of(&self, shared: &Shared) -> Arc<App> {
        // The node has one registry: metrics that the quick state's inbox counts are not shown.
        let shared = Shared { metrics: Arc::clone(&self.app.shared.metrics), ..shared.clone() };
        Arc::new(App {
            shared,
            operator: self.app.operator.clone(),
            namespace: self.app.namespace.clone(),
            started: clock::now(),
            partial: true,
            slot: Arc::default(),
            submit: self.app.submit.clone(),
            services: crate::http::ServiceList::default(),
            ready: crate::http::Ready::default(),
        })
    }

    /// Waits until the node's own copies have reached what the quick state had at the tick before, or the node stops.
    async fn compare(&mut self, quick: &Shared, begins: Vec<LogState>) -> Result<AttemptEnd, StateSyncError> {
        let (mut left, mut before) = (begins, None);
        loop {
            if self.rest(TICK).await {
                return Ok(AttemptEnd::Stopped);
            }
            let mut open = Vec::new();
            for begin in left {
                if !self.agrees(&begin)? {
                    open.push(begin);
                }
            }
            left = open;
            let reached = |sizes: &BTreeMap<LogId, u64>| sizes.iter().all(|(log, size)| self.held(log) >= *size);
            if left.is_empty() && before.as_ref().is_some_and(reached) {
                return Ok(AttemptEnd::Complete);
            }
            before = Some(quick.health.read().logs.iter().map(|(log, known)| (log.clone(), known.size)).collect());
        }
    }

    fn held(&self, log: &LogId) -> u64 {
        // Complete also for a log that a version in use cut.
        self.shared.health.read().logs.get(log).map_or(0, |known| known.size)
    }

    /// Whether the node's own copy has reached the size at which the quick state of a log began, with the same root.
    ///
    /// # Errors
    /// [`StateSyncError::Disagrees`] if the root differs or the entries up to there are invalid.
    fn agrees(&self, begin: &LogState) -> Result<bool, StateSyncError> {
        let (log, size) = (&begin.log, begin.size);
        let disagrees = || StateSyncError::Disagrees { log: log.clone(), size };
        if self.held(log) < size {
            let fault = self.shared.health.read().logs.get(log).and_then(|known| known.fault);
            // Then the entries that a quorum certified are invalid.
            return if fault == Some(Fault::Invalid.code()) { Err(disagrees()) } else { Ok(false) };
        }
        match log::root_at(size, &self.shared.store.view().tiles(log)) {
            Ok(root) if root == begin.root => Ok(true),
            Err(LogError::Tiles(error)) => Err(error.into()),
            _ => Err(disagrees()),
        }
    }
}

/// The state of each log at which the quick state began.
fn begins(store: &Store) -> Result<Vec<LogState>, StateSyncError> {
    let (view, mut found) = (store.view(), Vec::new());
    for log in store.manifest().logs().keys() {
        found.extend(view.base(log)?);
    }
    Ok(found)
}

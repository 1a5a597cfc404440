//! A snapshot of the database from which one whole answer is computed, and the names of identities in it.
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use axum::http::StatusCode;
use fama_ledger::codec;
use fama_ledger::entry::{Body, Entry};
use fama_ledger::id::{Domain, EventId, Handle, IdentityId, Name, StateId, StateRoot, from_hex};
use fama_ledger::join::{Join, LocatedIdentity, LogState, Numbers, Score, Scores as _, state_id};
use fama_ledger::limits;
use fama_ledger::log::Head;
use fama_ledger::manifest::LogId;
use fama_ledger::profile::{Agent, Question};
use fama_ledger::time::Millis;

use super::ready::Logs;
use super::{ApiError, App};
use crate::scores::{OPEN_MAX, Open};
use crate::store::{HistoryItem, LogRecord, Position, View};

/// For how long after its last message an operator counts as heard, in milliseconds.
pub(super) const HEARD_MILLIS: u64 = 60_000;

/// A consistent view of the database, with the state of each operator's log in it.
pub(super) struct Moment<'a> {
    pub(super) app: &'a App,
    pub(super) view: View<'a>,
    logs: Arc<Logs>,
}

impl<'a> Moment<'a> {
    pub(super) fn open(app: &'a App) -> Result<Self, ApiError> {
        let view = app.shared.store.view();
        let logs = app.ready.logs(view.write_number(), || {
            let records = app.shared.manifest.operators().iter().map(|operator| record(&view, &operator.log()));
            let records = records.collect::<Result<Vec<_>, ApiError>>()?;
            let states: Vec<LogState> = records.iter().map(|record| record.state.clone()).collect();
            let state_id = state_id(app.shared.manifest.hash(), &states);
            Ok(Logs { records, has_scores: view.has_scores()?, state_id })
        })?;
        Ok(Self { app, view, logs })
    }

    /// The states of the operators' logs, in the manifest's order.
    pub(super) fn logs(&self) -> &[LogRecord] {
        &self.logs.records
    }

    /// Whether the kept scores are complete, but for providers that are still to be recounted.
    pub(super) fn has_scores(&self) -> bool {
        self.logs.has_scores
    }

    /// The state of any log, including logs that were cut.
    pub(super) fn record_of(&self, log: &LogId) -> Result<LogRecord, ApiError> {
        record(&self.view, log)
    }

    pub(super) fn join(&self) -> Join<'_, View<'a>> {
        Join::new(&self.app.shared.manifest, &self.view)
    }

    /// The kept score of a subject; `None` while the scores are incomplete, or too many providers are to be recounted.
    pub(super) fn score(&self, subject: &IdentityId) -> Result<Option<Score>, ApiError> {
        if !self.has_scores() {
            return Ok(None);
        }
        Ok(Score::read(&self.view, subject, OPEN_MAX)?)
    }

    /// The providers about which there are statements that are not final.
    pub(super) fn open_statements(&self) -> Open {
        let open = self.app.shared.open.read().unwrap_or_else(PoisonError::into_inner);
        open.open(|log, index| self.is_final(log, index))
    }

    /// The numbers at which a provider is sponsored: kept ones if they are complete, else from the rows.
    pub(super) fn sponsored(&self, provider: IdentityId) -> Result<Numbers, ApiError> {
        if self.has_scores() {
            return Ok(self.view.numbers(&provider)?.unwrap_or_default());
        }
        Ok(self.join().sponsored(provider)?)
    }

    pub(super) fn record(&self, log: &LogId) -> Option<&LogRecord> {
        self.logs().iter().find(|record| record.state.log == *log)
    }

    /// Whether entry `index` of `log` can no longer be undone.
    pub(super) fn is_final(&self, log: &LogId, index: u64) -> bool {
        let end = self.app.shared.manifest.cut(log).map(|cut| cut.head.size);
        index < end.or_else(|| self.record(log).map(|record| record.certified)).unwrap_or_default()
    }

    /// Sizes of the operators' logs, by operator.
    pub(super) fn frontier(&self) -> BTreeMap<String, u64> {
        self.logs().iter().map(|record| (record.state.log.operator.to_string(), record.state.size)).collect()
    }

    /// Certified sizes of the operators' logs, by operator.
    pub(super) fn certified(&self) -> BTreeMap<String, u64> {
        self.logs().iter().map(|record| (record.state.log.operator.to_string(), record.certified)).collect()
    }

    pub(super) fn state_id(&self) -> StateId {
        self.logs.state_id
    }

    /// The largest size of `log` that this node knows to be signed by its owner.
    pub(super) fn newest(&self, log: &LogId) -> Result<u64, ApiError> {
        let stored = self.view.newest(log)?.map_or(0, |signed| signed.head.size);
        let heard = self.app.shared.health.read().logs.get(log).map_or(0, |known| known.newest);
        Ok(stored.max(heard))
    }

    /// Whether the copy of some log is smaller than the largest size known of it, or is being rolled back.
    pub(super) fn lags(&self) -> Result<bool, ApiError> {
        if self.view.needs_rebuild()? {
            return Ok(true);
        }
        for record in self.logs() {
            if self.newest(&record.state.log)? > record.state.size {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether n − f operators were heard in the last minute and this node has all entries known to exist.
    pub(super) fn is_fresh(&self, now: Millis) -> Result<bool, ApiError> {
        Ok(operators_heard(self.app, now) >= self.app.operators_needed() && !self.lags()?)
    }

    /// The identity that `x` names: `name@home`, an id, a DID, or a name of the node's namespace.
    pub(super) fn find(&self, x: &str) -> Result<LocatedIdentity, ApiError> {
        let unknown = || self.unknown("unknown_agent", "no agent of this name or id is known here");
        let join = self.join();
        let (id, home) = match Named::parse(x).ok_or_else(bad_name)? {
            Named::Id(id) => return join.identity(id)?.ok_or_else(unknown),
            Named::Did(home, digits) => (join.with_prefix(&home, &digits)?, home),
            Named::Handle(Handle { name, home }) => (join.named(&name, &home)?, home),
            Named::Name(name) => {
                let home = self.app.namespace.clone().ok_or_else(ambiguous)?;
                (join.named(&name, &home)?, home)
            }
        };
        join.identity_in(&home, id.ok_or_else(unknown)?)?.ok_or_else(unknown)
    }

    /// 404, or 503 if a log that may have it is being rolled back.
    pub(super) fn unknown(&self, code: &'static str, message: &str) -> ApiError {
        match self.view.needs_rebuild() {
            Ok(false) => ApiError::not_found(code, message),
            Ok(true) => {
                let message = "this node is rebuilding its copy of a log, and does not know it meanwhile: ask another";
                ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", message).retry_after(10)
            }
            Err(error) => error.into(),
        }
    }

    /// The bare name of an identity of the node's namespace, the handle of any other, so that an identity of another
    /// home can't pass for a local one.
    pub(super) fn dumbname(&self, found: &LocatedIdentity) -> String {
        if self.app.namespace.as_ref() == Some(&found.home) { found.identity.name.to_string() } else { handle(found) }
    }

    /// Like [`Moment::dumbname`]; for an identity that is not known, its id.
    pub(super) fn dumbname_of(&self, id: IdentityId) -> Result<String, ApiError> {
        Ok(self.join().identity(id)?.map_or_else(|| id.to_string(), |found| self.dumbname(&found)))
    }

    /// An entry of this node's copy, as bytes and decoded. Its signatures were verified before it was stored.
    pub(super) fn entry(&self, log: &LogId, index: u64) -> Result<(Vec<u8>, Entry), ApiError> {
        let found = self.view.entry(log, index)?;
        let bytes = found.ok_or_else(|| ApiError::internal("an indexed entry is not stored"))?;
        let entry = codec::decode(&bytes, limits::ENTRY_BYTES_MAX)?;
        Ok((bytes, entry))
    }

    /// The event of an item of a history.
    pub(super) fn signed(&self, item: &HistoryItem) -> Result<fama_ledger::entry::SignedEvent, ApiError> {
        match self.entry(&item.log, item.index)?.1.body {
            Body::Event(signed) => Ok(signed),
            _ => Err(ApiError::internal("a history names an entry without an event")),
        }
    }

    /// The position where an event took effect; `None` if it is unknown or void everywhere.
    pub(super) fn applied(&self, event: &EventId) -> Result<Option<Position>, ApiError> {
        Ok(self.view.positions(event)?.into_iter().find(|position| position.void.is_none()))
    }
}

/// The question that `x` stands for: `name@home`, an id, a DID, or a name of the node's namespace.
pub(super) fn question(app: &App, x: &str) -> Result<Question, ApiError> {
    match Named::parse(x).ok_or_else(bad_name)? {
        Named::Id(id) => Ok(Agent::Id(id).into()),
        Named::Did(home, digits) => Ok(Agent::Did(home, digits).into()),
        Named::Handle(handle) => Ok(Agent::Handle(handle).into()),
        Named::Name(name) => {
            let home = app.namespace.clone().ok_or_else(ambiguous)?;
            Ok(Agent::Handle(Handle { name, home }).into())
        }
    }
}

/// How many operators were heard in the last minute, this node's own included.
pub(super) fn operators_heard(app: &App, now: Millis) -> usize {
    let health = app.shared.health.read();
    let heard = |name: &Domain| {
        let last = health.operators.get(name).and_then(|operator| operator.heard);
        last.is_some_and(|last| now.0.saturating_sub(last.0) <= HEARD_MILLIS)
    };
    let own = |name: &Domain| app.operator.as_ref() == Some(name);
    app.shared.manifest.operators().iter().filter(|operator| own(&operator.name) || heard(&operator.name)).count()
}

pub(super) fn handle(found: &LocatedIdentity) -> String {
    Handle { name: found.identity.name.clone(), home: found.home.clone() }.to_string()
}

fn record(view: &View<'_>, log: &LogId) -> Result<LogRecord, ApiError> {
    Ok(view.log(log)?.unwrap_or_else(|| empty(log.clone())))
}

fn empty(log: LogId) -> LogRecord {
    let state = LogState { log, size: 0, root: Head::EMPTY.root, state_root: StateRoot([0; 32]) };
    LogRecord { state, certified: 0, adopted: Vec::new() }
}

fn bad_name() -> ApiError {
    let message = "no name, id or DID has this form: want name@home, an id of 64 hex digits, a did:agent:… or a name";
    ApiError::bad("bad_name", message)
}

fn ambiguous() -> ApiError {
    ApiError::bad("ambiguous_name", "a bare name is ambiguous on this node: want name@home, an id or a DID")
}

/// The ways in which a request names an identity.
enum Named {
    Id(IdentityId),
    Did(Domain, [u8; 16]),
    Handle(Handle),
    Name(Name),
}

impl Named {
    /// Unambiguous: a name is at most 50 bytes long, an id has 64 digits.
    fn parse(x: &str) -> Option<Self> {
        if let Some(rest) = x.strip_prefix("did:agent:") {
            let (home, digits) = rest.split_once(':')?;
            return Some(Self::Did(home.parse().ok()?, from_hex(digits).ok()?));
        }
        if x.contains('@') {
            return x.parse().ok().map(Self::Handle);
        }
        x.parse().map(Self::Id).or_else(|_| x.parse().map(Self::Name)).ok()
    }
}

//! Verifies proof files against a manifest and shows what they prove.
use std::sync::Arc;

use fama_ledger::entry::VerifiedBody;
use fama_ledger::event::Action;
use fama_ledger::id::{Domain, Handle};
use fama_ledger::join::{Karma, Revoked};
use fama_ledger::manifest::Manifest;
use fama_ledger::profile::{
    Agent, LeftOut, Profile, ProfileAnswer, ProfileError, ProfileProof, Proven, ProvenGrants, ProvenLog, ProvenStatus,
    ProvenSuspension, Required,
};
use fama_ledger::proof::{CertifiedBy, Included, TlogProof};
use fama_ledger::time::Millis;
use fama_node::clock;
use serde_json::Value;

use crate::failure::Failure;
use crate::terminal::FieldList;

/// First line of a proof of inclusion.
const TLOG_PROOF: &str = "c2sp.org/tlog-proof@v1\n";
/// Default of `--max-age`. In a federation that works, every log is cosigned again within two minutes.
pub(crate) const MAX_AGE_SECONDS: u64 = 600;
/// How many providers are listed for people; `--json` lists all.
const PROVIDERS_SHOWN: usize = 20;

/// What a proof of a profile may lack.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Accepted {
    /// Oldest certificate of a log that is accepted; a log with an older one counts as left out
    #[arg(long, value_name = "SECONDS", default_value_t = MAX_AGE_SECONDS)]
    pub(crate) max_age: u64,
    /// How many logs may be left out [default: f, as many operators as may lie]
    #[arg(long, value_name = "LOGS")]
    pub(crate) missing: Option<usize>,
}

impl Default for Accepted {
    /// What the options default to.
    fn default() -> Self {
        Self { max_age: MAX_AGE_SECONDS, missing: None }
    }
}

/// The content of a verified proof.
pub(crate) enum VerifiedProof {
    /// The profile of an agent, or its absence; checked at this time, in seconds since 1970.
    Profile(Box<Proven>, u64),
    /// An entry and its place in a log.
    Entry(Box<Included>),
}

impl VerifiedProof {
    /// Reads and verifies a proof of either kind, or the JSON answer of a command that submitted an event.
    ///
    /// # Errors
    /// The rule that the proof breaks; `proof_no_entry`.
    pub(crate) fn read(text: &str, manifest: &Arc<Manifest>, accepted: Accepted) -> Result<Self, Failure> {
        if text.starts_with(TLOG_PROOF) {
            return entry(text, manifest);
        }
        if let Ok(answer) = serde_json::from_str::<Value>(text)
            && let Some(receipt) = answer["proof"].as_str()
        {
            return entry(receipt, manifest);
        }
        let (proof, now) = (text.parse::<ProfileProof>()?, clock::now().0 / 1_000);
        let missing_max = accepted.missing.unwrap_or(usize::MAX);
        // Whether it is about what the caller means is compared later, as for proofs of events.
        let question = proof.question.clone();
        let required = Required { question, max_age_seconds: accepted.max_age, missing_max, now };
        let proven = proof.verify(manifest, &required)?;
        let max = accepted.missing.unwrap_or_else(|| proven.manifest.faults());
        if proven.left_out.len() > max {
            return Err(ProfileError::LeftOut { left_out: proven.left_out, max }.into());
        }
        Ok(Self::Profile(Box::new(proven), now))
    }

    /// Its subject: the question, or the id of the event.
    #[must_use]
    pub(crate) fn about(&self) -> String {
        match self {
            Self::Profile(proven, _) => proven.question.agent.to_string(),
            Self::Entry(included) => event_id(included),
        }
    }

    /// Whether a quorum cosigned it.
    #[must_use]
    pub(crate) const fn is_certified(&self) -> bool {
        match self {
            Self::Profile(..) => true,
            Self::Entry(included) => included.certified.is_some(),
        }
    }

    /// As a JSON object.
    #[must_use]
    pub(crate) fn json(&self) -> Value {
        match self {
            Self::Profile(proven, now) => proven.to_json(*now),
            Self::Entry(included) => included.to_json(),
        }
    }

    /// As lines for people.
    #[must_use]
    pub(crate) fn table(&self) -> FieldList {
        match self {
            Self::Profile(proven, now) => profile_table(proven, *now),
            Self::Entry(included) => entry_table(included),
        }
    }
}

fn entry(text: &str, manifest: &Manifest) -> Result<VerifiedProof, Failure> {
    let proof: TlogProof = text.parse()?;
    let entry = proof.extra.as_ref().ok_or_else(|| {
        Failure::new("proof_no_entry", "the proof does not contain the entry that it is about")
            .hint("`fama prove ID` gets one that does")
    })?;
    Ok(VerifiedProof::Entry(Box::new(proof.included(entry, manifest)?)))
}

fn event_id(included: &Included) -> String {
    included.entry.event().map(|event| event.id().to_string()).unwrap_or_default()
}

fn seconds(seconds: u64) -> String {
    Millis(seconds.saturating_mul(1_000)).to_string()
}

fn names<'a>(cosigned: impl IntoIterator<Item = &'a (Domain, u64)>) -> String {
    cosigned.into_iter().map(|(operator, _)| operator.as_str()).collect::<Vec<_>>().join(", ")
}

fn karma_text(karma: Karma) -> String {
    let plural = if karma.count == 1 { "" } else { "s" };
    format!("{} from {} attestation{plural}", karma.sum, karma.count)
}

/// `name@home`.
pub(crate) fn handle(profile: &Profile) -> String {
    let (name, home) = (profile.found.identity.name.clone(), profile.found.home.clone());
    Handle { name, home }.to_string()
}

fn profile_table(proven: &Proven, now: u64) -> FieldList {
    let age = |as_of: u64| {
        let age = now.saturating_sub(as_of);
        format!("{age} s, as of {}; later entries of any log are not included", seconds(as_of))
    };
    let age = proven.as_of().map_or("none: all logs that are shown have ended".to_owned(), age);
    let mut lines = vec![("age", age), ("proven", proven.question.to_string())];
    lines.extend(proven.left_out.iter().map(|one| ("left out", hidden(one))));
    match &proven.answer {
        ProfileAnswer::Found(profile) => lines.extend(agent_lines(profile)),
        ProfileAnswer::Absent => lines.push(("answer", absent(proven))),
    }
    lines.extend(proven.logs.iter().map(|log| ("read from", log_line(log))));
    let manifest = &proven.manifest;
    lines.push(("by", format!("version {} of the manifest of {}", manifest.version(), manifest.federation())));
    FieldList(lines)
}

/// What a log that is left out could hide.
fn hidden(left_out: &LeftOut) -> String {
    let could = left_out.maps.iter().map(|map| match map.split_once('/') {
        Some(("claims", operator)) => format!("a revocation of the key that was sent to {operator}"),
        Some(("home", home)) => format!("attestations by agents of {home}"),
        Some(("statements", operator)) => format!("which providers {operator} sponsors"),
        _ => map.clone(),
    });
    let could: Vec<String> = could.collect();
    format!("{left_out}; it could hide {}", if could.is_empty() { "nothing".to_owned() } else { could.join(", ") })
}

fn absent(proven: &Proven) -> String {
    match &proven.question.agent {
        Agent::Handle(Handle { name, home }) if proven.manifest.homes().contains_key(home) => {
            format!("nobody in {home} has the name {name}")
        }
        Agent::Handle(Handle { home, .. }) | Agent::Did(home, _) if !proven.manifest.homes().contains_key(home) => {
            format!("the federation has no home {home}")
        }
        Agent::Did(home, _) => format!("nobody in {home} has such an id"),
        _ => "nobody in any home has this id".to_owned(),
    }
}

fn agent_lines(profile: &Profile) -> Vec<(&'static str, String)> {
    let Profile { found, version, current, status, keys, karma, providers, .. } = profile;
    let standing = match status {
        ProvenStatus::Active => "in force: no log has revoked it".to_owned(),
        ProvenStatus::Revoked(revoked) => revocation(revoked),
        ProvenStatus::NotKnownRevoked => "not known to be revoked: a log that is left out may revoke it".to_owned(),
    };
    let mut lines = vec![
        ("agent", handle(profile)),
        ("id", found.id.to_string()),
        ("key", format!("version {version}, {standing}\n{}", current.key)),
    ];
    let former = keys.iter().zip(1u32..).filter(|(_, number)| number < version);
    lines.extend(former.map(|(key, version)| ("former", format!("version {version}, {}\n{}", key.time, key.key))));
    lines.extend(suspension_lines(profile));
    lines.extend(profile.granted.iter().flat_map(granted_lines));
    lines.push(("karma", karma_text(*karma)));
    let shown = providers.iter().take(PROVIDERS_SHOWN);
    lines.extend(shown.map(|(provider, karma)| ("of that", format!("{}, by {provider}", karma_text(*karma)))));
    if let Some(more) = providers.len().checked_sub(PROVIDERS_SHOWN).filter(|more| *more > 0) {
        lines.push(("", format!("and {more} more providers: --json lists them")));
    }
    lines
}

fn suspension_lines(profile: &Profile) -> Vec<(&'static str, String)> {
    let by = profile
        .suspended_by
        .iter()
        .map(|(operator, standing)| format!("by {operator} since {}: {}", standing.since, standing.reason.as_str()));
    let by = by.collect::<Vec<_>>().join("\n");
    match profile.suspension {
        ProvenSuspension::None if by.is_empty() => Vec::new(),
        ProvenSuspension::None => vec![("use", format!("suspended by too few operators to hold:\n{by}"))],
        ProvenSuspension::Holds => vec![("use", format!("SUSPENDED: no operator signs it in\n{by}"))],
        ProvenSuspension::NotKnown => {
            let hidden = "not known to be suspended: logs that are left out may suspend it".to_owned();
            vec![("use", if by.is_empty() { hidden } else { format!("{hidden}\n{by}") })]
        }
    }
}

/// What one service lets the agent do.
pub(crate) fn granted_lines(granted: &ProvenGrants) -> Vec<(&'static str, String)> {
    let by = match &granted.found {
        None => format!("nothing: no home has an identity {}", granted.issuer),
        Some(_) if granted.is_in_force() => format!("by {}", granted.issuer),
        Some(_) => format!("by {}, whose key is not known to be in force: no grant of it counts", granted.issuer),
    };
    let mut lines = vec![("granted", by)];
    lines.extend(granted.grants.iter().map(|grant| {
        (
            "",
            grant
                .expires
                .map_or_else(|| grant.scope.to_string(), |expires| format!("{}, until {expires}", grant.scope)),
        )
    }));
    if granted.grants.is_empty() && granted.found.is_some() {
        lines.push(("", "nothing".to_owned()));
    }
    lines
}

fn revocation(revoked: &Revoked) -> String {
    let by = revoked.operator.as_ref().map_or("its home", Domain::as_str);
    format!("REVOKED {} in the log of {by}: {}", revoked.time, revoked.reason.as_str())
}

fn log_line(log: &ProvenLog) -> String {
    let entries = format!("{} up to entry {}", log.log, log.size.saturating_sub(1));
    match (log.as_of, log.time) {
        (Some(as_of), Some(time)) => {
            format!("{entries} of {time}\ncosigned by {}, a quorum of them by {}", names(&log.cosigned), seconds(as_of))
        }
        _ => format!("{entries}, where the manifest cuts it"),
    }
}

fn entry_table(included: &Included) -> FieldList {
    let Included { log, index, entry, head, certified } = included;
    let what = match &entry.body {
        VerifiedBody::Event(event) => format!("{}, signed by its author", kind(&event.event().action)),
        VerifiedBody::Adopt { version, .. } => format!("the log adopts version {version} of the manifest"),
        VerifiedBody::State { .. } => "a state root".to_owned(),
    };
    let mut lines = vec![
        ("proven", what),
        ("event", event_id(included)),
        ("where", format!("entry {index} of the log {log}, {}", entry.time)),
        ("below", format!("the head of size {}, signed by the log's owner", head.size)),
    ];
    lines.push(match certified {
        None => ("final", "not by this proof: fewer operators than a quorum cosigned that head".to_owned()),
        Some(CertifiedBy::Cut) => ("final", "yes: the manifest cuts the log at that head".to_owned()),
        Some(CertifiedBy::Cosigned { version, by }) => {
            let newest = by.iter().map(|(_, at)| *at).max().map(seconds).unwrap_or_default();
            let who = format!("cosigned by {}, a quorum of version {version} of the manifest", names(by));
            ("final", format!("yes: {who}, last {newest}"))
        }
    });
    lines.extend(entry.event().map(|event| ("text", event.event().text())));
    FieldList(lines)
}

const fn kind(action: &Action) -> &'static str {
    match action {
        Action::Register { .. } => "a registration",
        Action::Rotate { .. } => "a change of key",
        Action::Revoke { .. } => "a revocation",
        Action::Attest { .. } => "an attestation",
        Action::Retract { .. } => "a retraction",
        Action::Admit { .. } => "a sponsorship",
        Action::Dismiss { .. } => "the end of a sponsorship",
        Action::Grant { .. } => "a grant",
        Action::Ungrant { .. } => "the end of a grant",
        Action::Suspend { .. } => "a suspension",
        Action::Resume { .. } => "the end of a suspension",
    }
}

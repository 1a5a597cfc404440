//! Verifies proof files against a manifest and shows what they prove.
use std::sync::Arc;

use fama_ledger::entry::VerifiedBody;
use fama_ledger::event::Action;
use fama_ledger::id::{Domain, Handle, did};
use fama_ledger::join::{Karma, Revoked};
use fama_ledger::manifest::Manifest;
use fama_ledger::profile::{Profile, ProfileAnswer, ProfileProof, Proven, ProvenLog, Question};
use fama_ledger::proof::{CertifiedBy, Included, TlogProof};
use fama_ledger::time::Millis;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::terminal::FieldList;

/// First line of a proof of inclusion.
const TLOG_PROOF: &str = "c2sp.org/tlog-proof@v1\n";
/// How many providers are listed for people; `--json` lists all.
const PROVIDERS_SHOWN: usize = 20;

/// The content of a verified proof.
pub(crate) enum VerifiedProof {
    /// The profile of an agent, or its absence.
    Profile(Box<Proven>),
    /// An entry and its place in a log.
    Entry(Box<Included>),
}

impl VerifiedProof {
    /// Reads and verifies a proof of either kind, or the JSON answer of a command that submitted an event.
    ///
    /// # Errors
    /// The rule that the proof breaks; `proof_no_entry`.
    pub(crate) fn read(text: &str, manifest: &Arc<Manifest>) -> Result<Self, Failure> {
        if text.starts_with(TLOG_PROOF) {
            return entry(text, manifest);
        }
        if let Ok(answer) = serde_json::from_str::<Value>(text)
            && let Some(receipt) = answer["proof"].as_str()
        {
            return entry(receipt, manifest);
        }
        let proven = text.parse::<ProfileProof>()?.verify(manifest)?;
        Ok(Self::Profile(Box::new(proven)))
    }

    /// Its subject: the question, or the id of the event.
    #[must_use]
    pub(crate) fn about(&self) -> String {
        match self {
            Self::Profile(proven) => proven.question.to_string(),
            Self::Entry(included) => event_id(included),
        }
    }

    /// Whether a quorum cosigned it.
    #[must_use]
    pub(crate) const fn is_certified(&self) -> bool {
        match self {
            Self::Profile(_) => true,
            Self::Entry(included) => included.certified.is_some(),
        }
    }

    /// As a JSON object.
    #[must_use]
    pub(crate) fn json(&self) -> Value {
        match self {
            Self::Profile(proven) => profile_json(proven),
            Self::Entry(included) => entry_json(included),
        }
    }

    /// As lines for people.
    #[must_use]
    pub(crate) fn table(&self) -> FieldList {
        match self {
            Self::Profile(proven) => profile_table(proven),
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

fn karma_json(karma: Karma) -> Value {
    json!({"sum": karma.sum, "count": karma.count})
}

fn log_json(log: &ProvenLog) -> Value {
    let cosigned: Vec<Value> =
        log.cosigned.iter().map(|(by, at)| json!({"operator": by.as_str(), "time": seconds(*at)})).collect();
    json!({
        "log": log.log.to_string(), "size": log.size, "adopted": log.adopted, "cut": log.as_of.is_none(),
        "last_entry": log.time.map(|time| time.to_string()), "as_of": log.as_of.map(seconds), "cosigned": cosigned,
    })
}

fn profile_json(proven: &Proven) -> Value {
    let mut json = json!({
        "proven": true, "kind": "profile", "question": proven.question.to_string(), "found": false,
        "as_of": proven.as_of().map(seconds), "federation": proven.manifest.federation().to_string(),
        "manifest_version": proven.manifest.version(), "logs": proven.logs.iter().map(log_json).collect::<Vec<_>>(),
    });
    if let ProfileAnswer::Found(profile) = &proven.answer {
        json["found"] = json!(true);
        json["agent"] = agent_json(profile);
    }
    json
}

fn agent_json(profile: &Profile) -> Value {
    let Profile { found, status, keys, karma, providers } = profile;
    let revoked = status.revoked.as_ref().map(|revoked| {
        let by = revoked.operator.as_ref().map_or("home", Domain::as_str);
        json!({"by": by, "time": revoked.time.to_string(), "reason": revoked.reason.as_str()})
    });
    let keys: Vec<Value> =
        keys.iter().map(|key| json!({"key": key.key.to_string(), "since": key.time.to_string()})).collect();
    let providers: Vec<Value> = providers
        .iter()
        .map(|(provider, karma)| json!({"provider": provider.to_string(), "karma": karma_json(*karma)}))
        .collect();
    json!({
        "id": found.id.to_string(), "handle": handle(profile), "did": did(&found.home, &found.id),
        "key": status.current.key.to_string(), "key_version": status.version, "revoked": revoked,
        "keys": keys, "karma": karma_json(*karma), "providers": providers,
    })
}

fn handle(profile: &Profile) -> String {
    let (name, home) = (profile.found.identity.name.clone(), profile.found.home.clone());
    Handle { name, home }.to_string()
}

fn profile_table(proven: &Proven) -> FieldList {
    let mut lines = vec![("proven", proven.question.to_string())];
    match &proven.answer {
        ProfileAnswer::Found(profile) => lines.extend(agent_lines(profile)),
        ProfileAnswer::Absent => lines.push(("answer", absent(proven))),
    }
    let as_of = proven.as_of().map_or("no time: all logs have ended".to_owned(), seconds);
    lines.push(("as of", format!("{as_of}; later entries of any log are not included")));
    lines.extend(proven.logs.iter().map(|log| ("read from", log_line(log))));
    let manifest = &proven.manifest;
    lines.push(("by", format!("version {} of the manifest of {}", manifest.version(), manifest.federation())));
    FieldList(lines)
}

fn absent(proven: &Proven) -> String {
    match &proven.question {
        Question::Handle(Handle { name, home }) if proven.manifest.homes().contains_key(home) => {
            format!("nobody in {home} has the name {name}")
        }
        Question::Handle(Handle { home, .. }) | Question::Did(home, _)
            if !proven.manifest.homes().contains_key(home) =>
        {
            format!("the federation has no home {home}")
        }
        Question::Did(home, _) => format!("nobody in {home} has such an id"),
        _ => "nobody in any home has this id".to_owned(),
    }
}

fn agent_lines(profile: &Profile) -> Vec<(&'static str, String)> {
    let Profile { found, status, keys, karma, providers } = profile;
    let standing = match &status.revoked {
        None => "in force: no log has revoked it".to_owned(),
        Some(revoked) => revocation(revoked),
    };
    let mut lines = vec![
        ("agent", handle(profile)),
        ("id", found.id.to_string()),
        ("key", format!("version {}, {standing}\n{}", status.version, status.current.key)),
    ];
    let former = keys.iter().zip(1u32..).filter(|(_, version)| *version < status.version);
    lines.extend(former.map(|(key, version)| ("former", format!("version {version}, {}\n{}", key.time, key.key))));
    lines.push(("karma", karma_text(*karma)));
    let shown = providers.iter().take(PROVIDERS_SHOWN);
    lines.extend(shown.map(|(provider, karma)| ("of that", format!("{}, by {provider}", karma_text(*karma)))));
    if let Some(more) = providers.len().checked_sub(PROVIDERS_SHOWN).filter(|more| *more > 0) {
        lines.push(("", format!("and {more} more providers: --json lists them")));
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

fn entry_json(included: &Included) -> Value {
    let mut json = json!({
        "proven": true, "kind": "event", "event": event_id(included), "log": included.log.to_string(),
        "index": included.index, "time": included.entry.time.to_string(), "size": included.head.size,
        "final": included.certified.is_some(),
    });
    if let Some(event) = included.entry.event() {
        json["text"] = json!(event.event().text());
    }
    if let Some(CertifiedBy::Cosigned { version, by }) = &included.certified {
        json["manifest_version"] = json!(version);
        json["cosigned"] = by.iter().map(|(by, at)| json!({"operator": by.as_str(), "time": seconds(*at)})).collect();
    }
    json
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
    }
}

//! Describes what a manifest version changes.
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::{Cut, Manifest, Operator, Policy};
use crate::key::PublicKey;
use crate::log::Head;

/// One sentence for each thing that `next` changes.
#[must_use]
pub fn changes(previous: &Manifest, next: &Manifest) -> Vec<String> {
    let mut found = Vec::new();
    for operator in next.operators() {
        match previous.operator(&operator.name) {
            None => found.push(format!("{} joins and starts the log {}", operator.name, operator.log())),
            Some(before) => changed(before, operator, &mut found),
        }
    }
    let gone = previous.operators().iter().filter(|operator| next.operator(&operator.name).is_none());
    found.extend(gone.map(|operator| format!("{} leaves forever", operator.name)));
    found.extend(next.cuts().map(cut));
    found.extend(homes(previous, next));
    found.extend(policy(previous, next));
    let quorum = |manifest: &Manifest| format!("{} of {}", manifest.quorum(), manifest.operators().len());
    if quorum(previous) != quorum(next) {
        found.push(format!("a head is final with {} operators, previously {}", quorum(next), quorum(previous)));
    }
    found
}

fn changed(before: &Operator, now: &Operator, found: &mut Vec<String>) {
    let name = &now.name;
    if before.node_key != now.node_key {
        found.push(format!("{name} has a new node key and starts the log {}", now.log()));
    }
    if before.governance_key != now.governance_key {
        let [new, old] = [&now, &before].map(|one| PublicKey::Ed25519(one.governance_key.to_bytes()));
        found.push(format!("{name} has the governance key {new}, previously {old}"));
    }
    if before.addresses != now.addresses {
        found.push(format!("{name} is now at {}", now.addresses.join(", ")));
    }
    let (was, is) = (&before.endpoints, &now.endpoints);
    for (what, was, is) in
        [("query", &was.query, &is.query), ("submit", &was.submit, &is.submit), ("issuer", &was.issuer, &is.issuer)]
    {
        match is {
            Some(is) if was.as_ref() != Some(is) => found.push(format!("{name} has the {what} address {is}")),
            None if was.is_some() => found.push(format!("{name} has no {what} address any more")),
            _ => {}
        }
    }
    if was.token_keys != is.token_keys {
        let keys: Vec<String> =
            is.token_keys.iter().map(|key| PublicKey::Ed25519(key.to_bytes()).to_string()).collect();
        found.push(format!(
            "{name} has the token keys {}",
            if keys.is_empty() { "none".into() } else { keys.join(", ") }
        ));
    }
}

fn cut(cut: &Cut) -> String {
    let Cut { log, head, adopted, successor, .. } = cut;
    let end = if *head == Head::EMPTY {
        "ends before its first entry".to_owned()
    } else {
        format!("ends forever at {} entries, under version {adopted}", head.size)
    };
    format!("the log {log} {end}; {successor} continues its statements and claims")
}

fn homes(previous: &Manifest, next: &Manifest) -> Vec<String> {
    let line = |(home, log): (_, _)| match previous.homes().get(home) {
        None => Some(format!("the home {home} starts in the log {log}")),
        Some(before) if before != log => Some(format!("the home {home} passes from the log {before} to {log}")),
        Some(_) => None,
    };
    next.homes().iter().filter_map(line).collect()
}

fn policy(previous: &Manifest, next: &Manifest) -> Vec<String> {
    let (was, is) = (fields(previous.policy()), fields(next.policy()));
    let changed = is.into_iter().zip(was).filter(|((_, is), (_, was))| is != was);
    changed.map(|((name, is), (_, was))| format!("{name} is {is}, previously {was}")).collect()
}

/// The rules by their names, in the order of these.
fn fields(policy: &Policy) -> [(&'static str, u64); 13] {
    [
        ("batch_ms", policy.batch_ms),
        ("daily_attestations", policy.daily_attestations.into()),
        ("daily_bytes", policy.daily_bytes),
        ("daily_cap", policy.daily_cap.into()),
        ("daily_grants", policy.daily_grants.into()),
        ("daily_new_providers", policy.daily_new_providers.into()),
        ("daily_registrations", policy.daily_registrations.into()),
        ("daily_retractions", policy.daily_retractions.into()),
        ("heartbeat_ms", policy.heartbeat_ms),
        ("max_age_ms", policy.max_age_ms),
        ("max_delta", policy.max_delta.into()),
        ("max_lag_ms", policy.max_lag_ms),
        ("min_sponsors", policy.min_sponsors.into()),
    ]
}

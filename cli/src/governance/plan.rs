//! The changes of a draft, and the text that makes them.
use std::collections::BTreeMap;

use fama_ledger::id::Domain;
use fama_ledger::key::PublicKey;
use fama_ledger::manifest::{Cut, Draft, Endpoints, LogId, Manifest, Operator};
use serde_json::Value;

use crate::failure::Failure;
use crate::federation;

/// The changes of the next version.
#[derive(Clone, Debug, Default)]
pub(crate) struct VersionPlan {
    /// Operators that join.
    pub(crate) add: Vec<Operator>,
    /// Operators that leave; their logs are cut.
    pub(crate) remove: Vec<Domain>,
    /// New node keys; the operator's log is cut, and a new generation continues it.
    pub(crate) rotate: Vec<(Domain, PublicKey)>,
    /// New governance keys.
    pub(crate) governance: Vec<(Domain, PublicKey)>,
    /// New addresses, which replace all of the operator's.
    pub(crate) addresses: BTreeMap<Domain, Vec<String>>,
    /// Operators with new HTTP addresses or token keys.
    pub(crate) endpoints: BTreeMap<Domain, EndpointChanges>,
    /// New values of policy rules, by name.
    pub(crate) policy: Vec<(String, String)>,
    /// The operator that takes over the homes of those that leave.
    pub(crate) successor: Option<Domain>,
}

/// What changes in the HTTP addresses and token keys of one operator; an empty text removes an address.
#[derive(Clone, Debug, Default)]
pub(crate) struct EndpointChanges {
    pub(crate) query: Option<String>,
    pub(crate) submit: Option<String>,
    pub(crate) issuer: Option<String>,
    /// Replace all previous ones.
    pub(crate) token_keys: Vec<PublicKey>,
}

impl EndpointChanges {
    fn make(&self, name: &Domain, endpoints: &mut Endpoints) -> Result<(), Failure> {
        let changes = [
            (&mut endpoints.query, &self.query),
            (&mut endpoints.submit, &self.submit),
            (&mut endpoints.issuer, &self.issuer),
        ];
        for (address, change) in changes {
            if let Some(change) = change {
                *address = Some(change.clone()).filter(|change| !change.is_empty());
            }
        }
        if !self.token_keys.is_empty() || endpoints.issuer.is_none() {
            let keys = self.token_keys.iter().map(|key| key.ed25519().ok_or_else(|| not_ed25519(name, "token")));
            endpoints.token_keys = keys.collect::<Result<_, _>>()?;
        }
        Ok(())
    }
}

fn not_ed25519(name: &Domain, what: &str) -> Failure {
    Failure::new("key_algorithm", format!("{name}: a {what} key is an Ed25519 key"))
        .hint("`fama key new --ed25519 --out FILE` makes one")
}

impl VersionPlan {
    /// The logs that it cuts, each with its successor.
    ///
    /// # Errors
    /// `unknown_operator`, `no_successor`.
    pub(crate) fn ends(&self, newest: &Manifest) -> Result<Vec<(LogId, LogId)>, Failure> {
        let mut ends = Vec::new();
        for (name, _) in &self.rotate {
            ends.push((operator(newest, name)?.log(), next_log(newest, name)));
        }
        for name in &self.remove {
            ends.push((operator(newest, name)?.log(), self.successor(newest)?));
        }
        Ok(ends)
    }

    /// The log that takes over the homes of operators that leave.
    fn successor(&self, newest: &Manifest) -> Result<LogId, Failure> {
        let name = self.successor.as_ref().ok_or_else(|| {
            Failure::new("no_successor", "an operator that leaves has a home that another one must take over")
                .hint("name it with --successor NAME")
        })?;
        let joins = self.add.iter().find(|operator| operator.name == *name).map(Operator::log);
        match joins {
            Some(log) => Ok(log),
            None if self.remove.contains(name) => {
                Err(Failure::new("no_successor", format!("{name} leaves, too, and cannot take over a home")))
            }
            None if self.rotate.iter().any(|(rotated, _)| rotated == name) => Ok(next_log(newest, name)),
            None => Ok(operator(newest, name)?.log()),
        }
    }

    /// The draft of the version after `newest`.
    ///
    /// # Errors
    /// `unknown_operator`, `key_algorithm`, `bad_policy`.
    pub(crate) fn draft(&self, newest: &Manifest, cuts: Vec<Cut>) -> Result<Draft, Failure> {
        let mut draft = newest.draft();
        for (name, key) in &self.rotate {
            let node_key = key.ed25519().ok_or_else(|| not_ed25519(name, "node"))?;
            let operator = operator_mut(&mut draft, name)?;
            (operator.node_key, operator.generation) = (node_key, next_log(newest, name).generation);
            operator.begins = federation::begins();
        }
        for (name, key) in &self.governance {
            let key = key.ed25519().ok_or_else(|| not_ed25519(name, "governance"))?;
            operator_mut(&mut draft, name)?.governance_key = key;
        }
        for (name, addresses) in &self.addresses {
            operator_mut(&mut draft, name)?.addresses.clone_from(addresses);
        }
        draft.operators.retain(|operator| !self.remove.contains(&operator.name));
        for operator in &self.add {
            draft.homes.insert(operator.name.clone(), operator.log());
            // Not when its folder was made: a log that may begin earlier may also have older entries.
            draft.operators.push(Operator { begins: federation::begins(), ..operator.clone() });
        }
        for (name, changes) in &self.endpoints {
            changes.make(name, &mut operator_mut(&mut draft, name)?.endpoints)?;
        }
        for cut in &cuts {
            draft.homes.values_mut().filter(|log| **log == cut.log).for_each(|log| *log = cut.successor.clone());
        }
        self.set_policy(&mut draft)?;
        draft.cuts = cuts;
        Ok(draft)
    }

    fn set_policy(&self, draft: &mut Draft) -> Result<(), Failure> {
        let mut rules = serde_json::to_value(draft.policy).map_err(|error| Failure::new("bad_policy", error))?;
        for (name, value) in &self.policy {
            let known = rules.get_mut(name);
            let Some(rule) = known else {
                let names: Vec<&str> = rules.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
                let names = names.join(", ");
                return Err(
                    Failure::new("bad_policy", format!("there is no rule {name}")).hint(format!("rules: {names}"))
                );
            };
            let number: u64 =
                value.parse().map_err(|_| Failure::new("bad_policy", format!("{name}: want a number")))?;
            *rule = Value::from(number);
        }
        draft.policy = serde_json::from_value(rules).map_err(|error| Failure::new("bad_policy", error))?;
        Ok(())
    }
}

fn unknown(name: &Domain) -> Failure {
    Failure::new("unknown_operator", format!("{name} is not an operator of the newest version"))
}

fn operator<'a>(newest: &'a Manifest, name: &Domain) -> Result<&'a Operator, Failure> {
    newest.operator(name).ok_or_else(|| unknown(name))
}

fn operator_mut<'a>(draft: &'a mut Draft, name: &Domain) -> Result<&'a mut Operator, Failure> {
    draft.operators.iter_mut().find(|operator| operator.name == *name).ok_or_else(|| unknown(name))
}

/// The log of an operator's next generation.
fn next_log(newest: &Manifest, name: &Domain) -> LogId {
    let last = newest.generations(name).next().map_or(0, |(log, _)| log.generation);
    LogId { operator: name.clone(), generation: last.saturating_add(1) }
}

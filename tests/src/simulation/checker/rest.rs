//! When all is quiet: what is still missing, and what must hold then.
use fama_ledger::entry::{Body, Entry};
use fama_ledger::event::{Event, Kind};
use fama_ledger::id::Domain;
use fama_ledger::join::{Join, LogState, state_id};
use fama_ledger::rows::{self, MapName, Tally};
use fama_ledger::{codec, limits};
use fama_node::wire::NoteAnswer;

use super::super::federation::{DAILY_BYTES, DAILY_NEW_PROVIDERS};
use super::*;

impl PromiseChecker {
    /// `None` if all honest logs are final everywhere, otherwise what is missing.
    pub(in crate::simulation) fn missing(&self, views: &[(usize, View<'_>)]) -> Option<String> {
        if let Some(behind) = self.behind(views) {
            return Some(behind);
        }
        for log in self.honest_logs().filter(|log| self.newest_version.cut(&self.federation.logs[*log]).is_none()) {
            let (id, mut sizes) = (&self.federation.logs[log], BTreeSet::new());
            for (node, view) in views {
                let record = view.log(id).unwrap();
                let size = size_of(record.as_ref());
                let certified = record.map_or(0, |record| record.certified);
                let newest = view.newest(id).unwrap().map_or(0, |newest| newest.head.size);
                if size == 0 || certified != size || newest != size {
                    let all = views.iter().map(|(node, view)| held(*node, view, id)).collect::<Vec<_>>().join("; ");
                    return Some(format!("n{node}: {id} is not final: {all}"));
                }
                sizes.insert(size);
            }
            if sizes.len() > 1 {
                return Some(format!("{id} has several sizes: {sizes:?}"));
            }
        }
        if let Some(identity) = views.first().and_then(|(_, view)| self.unclaimed(view)) {
            return Some(format!("a claim against {identity} is not taken over by its home"));
        }
        // Notes are sent on best effort: some are lost with the only disk that had them.
        if !self.forgetful.is_empty() || self.ended().any(|(log, _)| self.honest(log)) {
            return None;
        }
        let wants = views.iter().find(|(_, view)| !self.wanted(view).is_empty());
        wants.map(|(node, _)| format!("n{node} lacks notes"))
    }

    /// A node that does not use the newest version yet or lacks part of a log that ended, or a log that has not
    /// adopted it.
    fn behind(&self, views: &[(usize, View<'_>)]) -> Option<String> {
        let wanted = self.newest_version.version();
        for (node, view) in views {
            let version = view.store().manifest().version();
            if version != wanted {
                let next = view.store().pending();
                let waits = next.into_iter().flat_map(|next| next.must_have_adopted());
                let copies: Vec<String> = waits.map(|log| held(*node, view, log)).collect();
                return Some(format!("n{node} uses version {version} of {wanted}: {}", copies.join("; ")));
            }
            for (log, cut) in self.ended() {
                let record = view.log(&self.federation.logs[log]).unwrap();
                let whole = match &record {
                    None => cut.head.size == 0,
                    Some(record) => record.state.head() == cut.head && record.certified == cut.head.size,
                };
                if !whole {
                    return Some(format!("n{node} has {} of {}, not whole", size_of(record.as_ref()), cut.log));
                }
            }
            let going = self.honest_logs().map(|log| &self.federation.logs[log]);
            for log in going.filter(|log| self.newest_version.cut(log).is_none()) {
                let adopted = view.log(log).unwrap().and_then(|record| Some(record.adopted.last()?.version));
                if adopted != Some(wanted) {
                    let all = views.iter().map(|(node, view)| held(*node, view, log)).collect::<Vec<_>>().join("; ");
                    return Some(format!("at n{node} {log} has adopted {adopted:?} of {wanted}: {all}"));
                }
            }
        }
        None
    }

    /// A log with entries that were only on a lost disk, below a head that others know: it stands still until a
    /// manifest gives it a new generation.
    pub(in crate::simulation) fn lost_forever(&self, views: &[(usize, View<'_>)]) -> Option<usize> {
        let open = self.forgotten.iter().filter(|log| self.newest_version.cut(&self.federation.logs[**log]).is_none());
        open.copied().find(|log| {
            let id = &self.federation.logs[*log];
            let held = views.iter().map(|(_, view)| size_of(view.log(id).ok().flatten().as_ref())).max();
            let newest = views.iter().filter_map(|(_, view)| view.newest(id).ok().flatten());
            newest.map(|newest| newest.head.size).max() > held
        })
    }

    /// Notes that honest logs name and a node lacks.
    fn wanted(&self, view: &View<'_>) -> Vec<String> {
        let named = self.acknowledged.iter().filter_map(|one| {
            let entry =
                fama_ledger::entry::VerifiedEntry::decode(one.entry.clone(), &self.federation.manifest.federation());
            entry.ok()?.event()?.event().action.note()
        });
        let lacks = named.filter(|hash| !matches!(view.note(hash), Ok(Some(NoteAnswer::Text(_)))));
        lacks.map(|hash| format!("{hash:?}")).collect()
    }

    /// The checks for when all is quiet again.
    pub(in crate::simulation) fn end(&self, views: &[(usize, View<'_>)], stores: &[&Store]) -> CheckResult {
        self.receipts_are_kept_everywhere(views)?;
        self.identities_are_intact(views)?;
        self.one_home_crowds_no_subject(views)?;
        self.claims_keep_their_share(views)?;
        self.equal_frontiers_are_equal_states(views, stores)
    }

    /// By the true time `now`, no certificate of a log that continues is two minutes old, and no node keeps a
    /// cosignature from the future.
    pub(in crate::simulation) fn recent(&self, views: &[View<'_>], now: Millis) -> CheckResult {
        for log in self.honest_logs() {
            let id = &self.federation.logs[log];
            for view in views {
                let found = view.certificate(id)?;
                let mut times: Vec<u64> =
                    found.iter().flat_map(|found| &found.cosignatures).map(|(_, one)| one.seconds).collect();
                times.sort_unstable_by(|a, b| b.cmp(a));
                let as_of = times.get(view.store().manifest().quorum() - 1).copied().unwrap_or_default();
                must(as_of * 1_000 + 120_000 > now.0, "certificates stay recent", || {
                    format!("{id}: {as_of} at {now}")
                })?;
                let kept = view.cosigned(id)?.into_iter().map(|one| one.cosignature.seconds);
                let latest = kept.chain(times).max().unwrap_or_default();
                must(latest * 1_000 <= now.0 + 60_000, "nothing from the future is kept", || {
                    format!("{id}: {latest}")
                })?;
            }
        }
        Ok(())
    }

    fn receipts_are_kept_everywhere(&self, views: &[(usize, View<'_>)]) -> CheckResult {
        for one in &self.acknowledged {
            let log = &self.federation.logs[one.log];
            for (node, view) in views {
                let entry = view.entries(log, one.index, 1, usize::MAX).unwrap().pop();
                let position = view.position(&one.event, log).unwrap();
                let applied = position.is_some_and(|position| position.index == one.index && position.void.is_none());
                must(entry.as_ref() == Some(&one.entry) && applied, "an acknowledged event is never lost", || {
                    format!("n{node}: {} at {} of {log}", one.event, one.index)
                })?;
            }
        }
        Ok(())
    }

    /// An identity whose home has not yet taken over what another log recorded against its current key.
    fn unclaimed(&self, view: &View<'_>) -> Option<IdentityId> {
        let join = Join::new(&self.newest_version, view);
        let mut claims = self.acknowledged.iter().filter_map(|one| one.claim);
        let open = claims.find(|(identity, version)| {
            let found = join.identity(*identity).unwrap().filter(|found| found.identity.version == *version);
            found.is_some_and(|found| join.key_status(&found).unwrap().revoked.is_none_or(|one| one.operator.is_some()))
        });
        open.map(|(identity, _)| identity)
    }

    /// An identity registered in a log that ended is known under the home that passed on.
    fn identities_are_intact(&self, views: &[(usize, View<'_>)]) -> CheckResult {
        let ended: BTreeSet<usize> = self.ended().map(|(log, _)| log).collect();
        for identity in self.registered(|one| ended.contains(&one.log)) {
            for (node, view) in views {
                let found = Join::new(view.store().manifest(), view).identity(identity).unwrap();
                must(found.is_some(), "identities survive their log's end", || format!("n{node}: {identity}"))?;
            }
        }
        Ok(())
    }

    /// The identities registered by acknowledged events.
    fn registered(&self, of: impl Fn(&Acknowledged) -> bool) -> Vec<IdentityId> {
        let events = self.acknowledged.iter().filter(|one| of(one)).filter_map(|one| event_of(&one.entry));
        let registered = events.filter(|(_, event)| event.action.kind() == Kind::Register);
        registered.map(|(_, event)| event.id()).collect()
    }

    /// However many identities a liar has, its home adds a few providers a day to a subject.
    fn one_home_crowds_no_subject(&self, views: &[(usize, View<'_>)]) -> CheckResult {
        let subjects = self.registered(|_| true);
        for (node, view) in views {
            for liar in &self.liars {
                let entries = view.entries(&self.federation.logs[*liar], 0, usize::MAX, usize::MAX).unwrap();
                let days: BTreeSet<Day> = entries.iter().map(|entry| entry_time(entry).day()).collect();
                let (map, most) = (MapName::home(&self.federation.names[*liar]).id(), days.len());
                for subject in &subjects {
                    let start = rows::prefix::<Tally>(subject);
                    let found = rows::collect::<Tally, _>(view, map, &start, usize::MAX).unwrap().len();
                    must(found <= most * DAILY_NEW_PROVIDERS as usize, "one home crowds no subject", || {
                        format!("n{node}: {found} providers of n{liar} attest to {subject} on {most} days")
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Claims against a liar's home are against the one version that its identities have, and use no more of a log's day
    /// than an operator's share.
    fn claims_keep_their_share(&self, views: &[(usize, View<'_>)]) -> CheckResult {
        let Some((_, view)) = views.first() else { return Ok(()) };
        let versions = (1..=self.newest_version.version()).filter_map(|version| self.newest_version.at(version));
        let faults = versions.map(Manifest::faults).min().unwrap_or_default();
        let share = DAILY_BYTES / 20 / (faults as u64 + 1);
        // A disk that was lost had counted what claims used, and a home that passed on is the log's own.
        for log in self.honest_logs().filter(|log| !self.forgotten.contains(log)) {
            let going = |liar: &&usize| self.newest_version.cut(&self.federation.logs[**liar]).is_none();
            let liars: Vec<&Domain> =
                self.liars.iter().filter(going).map(|liar| &self.federation.names[*liar]).collect();
            let mut used: BTreeMap<(Day, Domain), u64> = BTreeMap::new();
            let entries = view.entries(&self.federation.logs[log], 0, usize::MAX, usize::MAX).unwrap();
            for (entry, (time, event)) in entries.iter().filter_map(|entry| Some((entry, event_of(entry)?))) {
                let Action::Revoke { home, version, .. } = &event.action else { continue };
                if !liars.contains(&home) {
                    continue;
                }
                must(*version == 1, "claims are against keys that their home had", || {
                    format!("{}: version {version} in {home}", self.federation.logs[log])
                })?;
                let used = used.entry((time.day(), home.clone())).or_default();
                *used += entry.len() as u64;
                must(*used <= share, "claims keep their share", || {
                    format!("{}: {used} bytes of {share} against {home}", self.federation.logs[log])
                })?;
            }
        }
        Ok(())
    }

    fn equal_frontiers_are_equal_states(&self, views: &[(usize, View<'_>)], stores: &[&Store]) -> CheckResult {
        let states = |view: &View<'_>| -> Vec<LogState> {
            let records = self.federation.logs.iter().map(|log| view.log(log).unwrap());
            records.flatten().map(|record| record.state).collect()
        };
        let mut known: BTreeMap<Vec<(u64, TreeRoot)>, (usize, _, &Store)> = BTreeMap::new();
        for ((node, view), store) in views.iter().zip(stores) {
            let states = states(view);
            let frontier = states.iter().map(|state| (state.size, state.root)).collect::<Vec<_>>();
            let id = state_id(view.store().manifest().hash(), &states);
            let (first, first_id, first_store) = *known.entry(frontier).or_insert((*node, id, store));
            must(first_id == id, "equal frontiers, equal states", || format!("n{first} and n{node}"))?;
            let differences = store.differences(first_store).unwrap();
            // Of a liar's log, one may have more certified than another.
            let differences: Vec<_> = differences.iter().filter(|line| !is_of_certified_size(line)).collect();
            must(differences.is_empty(), "equal frontiers, equal states", || {
                format!("n{first} and n{node}: {differences:?}")
            })?;
        }
        Ok(())
    }
}

/// Whether stores differ in a log's certified size: the key is the log's, then 1.
fn is_of_certified_size(difference: &str) -> bool {
    difference.strip_prefix("logs: ").is_some_and(|rest| rest.split(' ').next().is_some_and(|key| key.ends_with("01")))
}

/// The time of an encoded entry and its event, if it has one.
fn event_of(entry: &[u8]) -> Option<(Millis, Event)> {
    let entry: Entry = codec::decode(entry, limits::ENTRY_BYTES_MAX).unwrap();
    let Body::Event(signed) = entry.body else { return None };
    Some((entry.time, signed.event))
}

/// A node's copy of a log, described for people.
pub(in crate::simulation) fn held(node: usize, view: &View<'_>, log: &LogId) -> String {
    let size = size_of(view.log(log).ok().flatten().as_ref());
    let last = size.checked_sub(1).and_then(|last| view.entries(log, last, 1, usize::MAX).ok()?.pop());
    let time = last.map_or(Millis(0), |entry| entry_time(&entry));
    let newest = view.newest(log).ok().flatten().map_or(0, |newest| newest.head.size);
    let cosigned = view.cosigned_by(log).unwrap_or_default();
    let cosigned: Vec<_> = cosigned.iter().map(|(by, one)| format!("{by} {}", one.signed.head.size)).collect();
    let record = view.log(log).ok().flatten();
    let (certified, adopted) = record.map_or((0, Vec::new()), |record| (record.certified, record.adopted));
    let adopted: Vec<_> = adopted.iter().map(|one| format!("{} at {}", one.version, one.size)).collect();
    format!("n{node} has {size} to {time}, newest {newest}, certified {certified}, adopted {adopted:?}, {cosigned:?}")
}

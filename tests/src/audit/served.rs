//! A federation's public files in memory, as honest operators sign them; tests modify them.
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fama_ledger::checkpoint::{Checkpoint, Cosignature, SignedCheckpoint, note};
use fama_ledger::entry::{SignedEvent, VerifiedEntry};
use fama_ledger::event::{Action, Method};
use fama_ledger::id::EventId;
use fama_ledger::key::Curve;
use fama_ledger::log::{Head, MemoryTiles, Tiles, Tree, leaf_hash};
use fama_ledger::manifest::{LogId, Manifest};
use fama_ledger::note::{Note, note_hash};
use fama_ledger::public::{self, LogFile};
use fama_ledger::secret::SecretKey;
use fama_reader::audit::PublicFiles;
use fama_reader::error::ReadError;
use fama_tests::{DOMAINS, MemoryReplica, SECOND, START, domain, event, log, node_key, secret, signed};

/// Encoded entries of each log.
pub(super) type EncodedLogs = BTreeMap<LogId, Vec<Vec<u8>>>;

/// Public files as one source serves them.
#[derive(Clone, Default)]
pub(super) struct Folder {
    pub(super) name: &'static str,
    pub(super) files: BTreeMap<String, Vec<u8>>,
    /// How many more requests are answered; `None` is no limit.
    pub(super) patience: Option<Arc<AtomicU64>>,
}

impl PublicFiles for Folder {
    fn name(&self) -> &str {
        self.name
    }

    fn get(&self, path: &public::Path) -> Result<Option<Vec<u8>>, ReadError> {
        if let Some(left) = &self.patience {
            let some = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            some.map_err(|_| ReadError::Unreachable { what: path.to_string(), reason: "gone".to_owned() })?;
        }
        Ok(self.files.get(&path.to_string()).cloned())
    }
}

impl Folder {
    pub(super) fn put(&mut self, path: String, bytes: Vec<u8>) {
        self.files.insert(path, bytes);
    }

    /// The only path that begins and ends this way.
    pub(super) fn path(&self, begin: &str, end: &str) -> String {
        let fits = |path: &&String| path.starts_with(begin) && path.ends_with(end);
        let found: Vec<_> = self.files.keys().filter(fits).collect();
        assert_eq!(found.len(), 1, "{begin} … {end}: {found:?}");
        found[0].clone()
    }

    pub(super) fn file(&mut self, begin: &str, end: &str) -> &mut Vec<u8> {
        let path = self.path(begin, end);
        self.files.get_mut(&path).unwrap()
    }

    /// Rewrites a bundle from changed entries.
    pub(super) fn rewrite(&mut self, path: &str, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
        let mut entries = split(&self.files[path]);
        change(&mut entries);
        self.put(path.to_owned(), bundle(&entries));
    }

    pub(super) fn log(&mut self, manifest: &Manifest, log: &LogId, entries: &[Vec<u8>], cosigners: u8) {
        let (mut tree, mut tiles) = (Tree::default(), MemoryTiles::default());
        tiles.write(tree.append(entries.iter().map(|entry| leaf_hash(entry))));
        for file in LogFile::grown(0, entries.len() as u64) {
            let bytes = match file {
                LogFile::Entries(place) => bundle(&entries[place.first() as usize..place.end() as usize]),
                LogFile::Tile(level, place) => public::tile(&tiles.tile(level, place.index()).unwrap()),
                LogFile::Checkpoint => continue,
            };
            self.put(public::Path::Log(log.clone(), file).to_string(), bytes);
        }
        self.sign(manifest, log, tree.head(), cosigners);
    }

    pub(super) fn sign(&mut self, manifest: &Manifest, log: &LogId, head: Head, cosigners: u8) {
        let owner = DOMAINS.iter().position(|name| *name == log.operator.as_str()).unwrap() as u8;
        let checkpoint = Checkpoint { origin: manifest.origin(log), head };
        let signed = SignedCheckpoint::sign(checkpoint.clone(), node_key(owner).ed25519().unwrap());
        let cosign = |i: u8| {
            let (key, name) = (node_key(i), domain(DOMAINS[usize::from(i)]));
            let key = key.ed25519().unwrap();
            let cosignature = Cosignature::sign(&checkpoint, name, key, 1_795_323_600 + u64::from(i));
            (cosignature, key.verifying_key())
        };
        let cosignatures: Vec<_> = (0..cosigners).map(cosign).collect();
        let key = node_key(owner).ed25519().unwrap().verifying_key();
        self.put(format!("log/{log}/checkpoint"), note(&signed, &key, &cosignatures).to_string().into_bytes());
    }
}

pub(super) fn bundle(entries: &[Vec<u8>]) -> Vec<u8> {
    public::bundle(entries).unwrap()
}

pub(super) fn split(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut entries = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let (entry, rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)));
        entries.push(entry.to_vec());
        bytes = rest;
    }
    entries
}

/// A federation whose first log is longer than two tiles and whose second log's service gives karma.
pub(super) struct Story<'a> {
    pub(super) replica: MemoryReplica<'a>,
    pub(super) notes: BTreeMap<String, Vec<u8>>,
}

pub(super) const AGENTS: u64 = 560;

pub(super) fn story(manifest: &Manifest) -> Story<'_> {
    let mut replica = MemoryReplica::adopted(manifest);
    let federation = manifest.federation();
    let agent = |i: u64| {
        let seed: [u8; 32] = std::array::from_fn(|at| if at % 2 == 0 { 1 + (i % 150) as u8 } else { (i / 150) as u8 });
        let key = SecretKey::from_seed(Curve::Ed25519, &seed).unwrap();
        let (home, name) = (domain(DOMAINS[0]), format!("agent-{i}").parse().unwrap());
        let action = Action::Register { home, name, key: key.public(), next: None, note: None };
        let event = event(federation, action, START, i);
        (event.id(), signed(event, &key))
    };
    let agents: Vec<(EventId, _)> = (0..AGENTS).map(agent).collect();
    for some in agents.chunks(50) {
        let entry =
            |(_, said): &(EventId, SignedEvent)| VerifiedEntry::of(START, said.clone().verify(&federation).unwrap());
        replica.append(&log(0), some.iter().map(entry).collect());
    }
    let (judge, key) = (replica.register(1, "judge", 4), secret(4));
    for (i, operator) in DOMAINS.iter().take(2).enumerate() {
        let operator = domain(operator);
        let (service, domain) = ("judge".parse().unwrap(), domain("judge.example"));
        let action = Action::Admit { operator, provider: judge, service, domain, method: Method::Dns, from: 0 };
        replica
            .append_event(
                &log(i),
                START,
                signed(event(federation, action, START, 1), &node_key(u8::try_from(i).unwrap())),
            )
            .unwrap();
    }
    let mut notes = BTreeMap::new();
    for (i, (subject, _)) in agents.iter().take(20).enumerate() {
        let text = Note { salt: [i as u8; 32], reason: Some("well done".into()), ..Note::default() }.text();
        let hash = note_hash(text.as_bytes());
        // This one's note was dropped.
        if i > 0 {
            notes.insert(format!("note/{hash}"), text.into_bytes());
        }
        let (home, delta) = (domain(DOMAINS[1]), 1 + (i % 5) as i32);
        let action = Action::Attest { home, issuer: judge, subject: *subject, delta, context: None, note: Some(hash) };
        let said = signed(event(federation, action, START, 100 + i as u64), &key);
        replica.append_event(&log(1), START.plus(SECOND), said).unwrap();
    }
    Story { replica, notes }
}

impl Story<'_> {
    pub(super) fn logs(&self) -> EncodedLogs {
        let bytes = |entries: &[VerifiedEntry]| entries.iter().map(|entry| entry.bytes().to_vec()).collect();
        self.replica.logs.iter().map(|(log, mirror)| (log.clone(), bytes(&mirror.entries))).collect()
    }

    pub(super) fn folder(&self, name: &'static str) -> Folder {
        self.folder_of(name, &self.logs())
    }

    pub(super) fn folder_of(&self, name: &'static str, logs: &EncodedLogs) -> Folder {
        let manifest = self.replica.manifest;
        let mut folder = Folder { name, files: self.notes.clone(), patience: None };
        folder.put("manifest/1".to_owned(), manifest.note().to_string().into_bytes());
        logs.iter().for_each(|(log, entries)| folder.log(manifest, log, entries, 3));
        folder
    }

    /// The logs, with the first one cut off after `size` entries.
    pub(super) fn earlier(&self, size: usize) -> EncodedLogs {
        let mut logs = self.logs();
        let entries = logs.get_mut(&log(0)).unwrap();
        entries.truncate(size);
        assert!(self.replica.logs[&log(0)].entries[size - 1].is_state(), "a head ends a batch");
        logs
    }
}

impl Folder {
    /// Writes the files in the layout of `fama publish`.
    pub(super) fn write(&self, dir: &Path) -> String {
        for (path, bytes) in &self.files {
            let path = dir.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        dir.display().to_string()
    }
}

/// Two branches of the first log that share its first `common` entries.
pub(super) fn branches(story: &Story<'_>, common: usize) -> (EncodedLogs, EncodedLogs) {
    let manifest = story.replica.manifest;
    let mut other = MemoryReplica::new(manifest);
    for (log, mirror) in &story.replica.logs {
        let keep = if *log == fama_tests::log(0) { common } else { mirror.entries.len() };
        other.deliver(log, 0, &mirror.entries[..keep]);
    }
    other.register(0, "on-the-other-branch", 6);
    let bytes = |entries: &[VerifiedEntry]| entries.iter().map(|entry| entry.bytes().to_vec()).collect();
    let logs = other.logs.iter().map(|(log, mirror)| (log.clone(), bytes(&mirror.entries))).collect();
    (story.logs(), logs)
}

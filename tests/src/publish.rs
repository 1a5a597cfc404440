//! Public files: copied from place to place, refused where a source lies, and checked by independent programs.
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path as File, PathBuf};
use std::process::Command;
use std::sync::Arc;

use fama_cli::failure::Failure;
use fama_ledger::checkpoint::{Checkpoint, Cosignature, SignedCheckpoint};
use fama_ledger::entry::VerifiedEntry;
use fama_ledger::log::{Head, MemoryTiles, Tiles, Tree, leaf_hash};
use fama_ledger::manifest::Manifest;
use fama_ledger::public::{self, LogFile, Path};
use fama_reader::bucket::Bucket;
use fama_reader::error::ReadError;
use fama_reader::publish::{Pass, Publisher};
use fama_reader::source::PublicSource;
use fama_tests::{DOMAINS, START, domain, federation, log, node_key, secret};
use tempfile::TempDir;

use crate::cli::program;
use crate::federation::{LocalFederation, eventually, multi};

pub(crate) mod s3;

/// A folder as an honest node would serve it: four operators, of whose logs two have begun.
struct Published {
    dir: TempDir,
    manifest: Arc<Manifest>,
    /// The entries of the two logs that have begun.
    entries: [Vec<Vec<u8>>; 2],
}

impl Published {
    fn new() -> Self {
        let manifest = Arc::new(federation(4, |_| ()));
        let adopt = VerifiedEntry::adopt(START, 1, manifest.hash()).bytes().to_vec();
        let new = Self { dir: tempfile::tempdir().unwrap(), manifest, entries: [vec![adopt.clone()], vec![adopt]] };
        new.write(&Path::Manifest(1), new.manifest.note().to_string().as_bytes());
        new.write(&Path::Policy, public::policy(&new.manifest).as_bytes());
        new
    }

    fn name(&self) -> &str {
        self.dir.path().to_str().unwrap()
    }

    fn file(&self, path: &Path) -> PathBuf {
        self.dir.path().join(path.to_string())
    }

    fn write(&self, path: &Path, bytes: &[u8]) {
        let file = self.file(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
    }

    fn head(&self, i: usize, entries: &[Vec<u8>]) -> (Head, MemoryTiles) {
        let (mut tree, mut tiles) = (Tree::default(), MemoryTiles::default());
        tiles.write(tree.append(entries.iter().map(|entry| leaf_hash(entry))));
        assert!(i < 2);
        (tree.head(), tiles)
    }

    /// Grows log `i` to this size; these operators cosign its head.
    fn grow(&mut self, i: usize, size: usize, by: &[u8]) {
        while self.entries[i].len() < size {
            self.entries[i].push(format!("entry {} of log {i}", self.entries[i].len()).into_bytes());
        }
        let (head, tiles) = self.head(i, &self.entries[i]);
        for file in LogFile::grown(0, head.size) {
            let bytes = match file {
                LogFile::Entries(place) => {
                    let of = place.first() as usize..place.end() as usize;
                    public::bundle(&self.entries[i][of]).unwrap()
                }
                LogFile::Tile(level, place) => public::tile(&tiles.tile(level, place.index()).unwrap()),
                LogFile::Checkpoint => panic!("no tile"),
            };
            self.write(&Path::Log(log(i), file), &bytes);
        }
        self.sign(i, head, by);
    }

    fn sign(&self, i: usize, head: Head, by: &[u8]) {
        let key = |i: u8| node_key(i).ed25519().unwrap().clone();
        let signed = SignedCheckpoint::sign(Checkpoint { origin: self.manifest.origin(&log(i)), head }, &key(i as u8));
        let cosign = |by: &u8| {
            let operator = domain(DOMAINS[usize::from(*by)]);
            (log(usize::from(*by)), Cosignature::sign(signed.checkpoint(), operator, &key(*by), 1_795_323_600))
        };
        let cosigned: Vec<_> = by.iter().map(cosign).collect();
        let cosigned = cosigned.iter().map(|(by, one)| (by, one));
        let note = public::checkpoint(&self.manifest, &log(i), &signed, cosigned).unwrap();
        self.write(&checkpoint(i), note.to_string().as_bytes());
    }
}

fn checkpoint(i: usize) -> Path {
    Path::Log(log(i), LogFile::Checkpoint)
}

fn publisher(from: &str, to: &str) -> Publisher {
    Publisher::new(PublicSource::open(from).unwrap(), Bucket::create(to).unwrap(), None).unwrap()
}

pub(crate) fn pass(from: &str, to: &str) -> Result<Pass, ReadError> {
    publisher(from, to).pass(&mut |_, _| ())
}

/// Every file in a folder and below it, by its relative path.
fn files(dir: &File) -> BTreeMap<PathBuf, Vec<u8>> {
    fn add(dir: &File, found: &mut BTreeMap<PathBuf, Vec<u8>>, root: &File) {
        for file in fs::read_dir(dir).unwrap().map(|file| file.unwrap().path()) {
            if file.is_dir() {
                add(&file, found, root);
            } else {
                found.insert(file.strip_prefix(root).unwrap().to_owned(), fs::read(&file).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    add(dir, &mut found, dir);
    found
}

/// Runs a checker that shares no code with ours; returns its output.
fn check_independently(folder: &File) -> Result<String, String> {
    let target = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().join("tiles-check");
    let manifest = File::new(env!("CARGO_MANIFEST_DIR")).join("tiles/Cargo.toml");
    let mut command = Command::new(env!("CARGO"));
    command.args(["run", "--quiet", "--locked", "--manifest-path"]).arg(manifest).arg("--target-dir").arg(target);
    let output = command.arg("--").arg(folder).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

#[test]
fn a_folder_is_copied_file_by_file_and_then_what_is_new() {
    let (mut from, to) = (Published::new(), tempfile::tempdir().unwrap());
    let target = to.path().join("new/folder");
    let target = target.to_str().unwrap();
    from.grow(0, 700, &[0, 1, 2]);
    from.grow(1, 1, &[0, 1, 2, 3]);
    let done = pass(from.name(), target).unwrap();
    assert_eq!((done.version, done.entries, done.logs[&log(0)], done.logs[&log(1)]), (1, 701, 700, 1));
    assert_eq!((done.logs[&log(2)], done.logs[&log(3)]), (0, 0), "nothing is certified there");
    assert_eq!(files(File::new(target)), files(from.dir.path()));
    assert_eq!(done.files as usize, files(from.dir.path()).len());
    assert_eq!(pass(from.name(), target).unwrap(), Pass { entries: 0, files: 0, bytes: 0, ..done }, "nothing new");

    // More cosignatures are copied, fewer never.
    let head = from.head(0, &from.entries[0]).0;
    from.sign(0, head, &[0, 1, 2, 3]);
    assert_eq!(pass(from.name(), target).unwrap().files, 1);
    from.sign(0, head, &[1, 2, 3]);
    assert_eq!(pass(from.name(), target).unwrap().files, 0);

    let mut publisher = publisher(from.name(), target);
    for size in [701, 768, 769, 1_500] {
        from.grow(0, size, &[1, 2, 3]);
        let before = files(File::new(target));
        let done = publisher.pass(&mut |_, _| ()).unwrap();
        let after = files(File::new(target));
        assert!(before.iter().all(|(file, bytes)| after[file] == *bytes || file.ends_with("checkpoint")), "{size}");
        assert_eq!(after.len() - before.len() + 1, done.files as usize, "only the checkpoint is replaced");
        assert_eq!(after, files(from.dir.path()), "{size}");
    }
    let independently = check_independently_of_begun(&from, File::new(target));
    assert!(independently.is_ok_and(|told| told.contains("alpha.example/1 1500 3")));
}

/// The independent program reads every log in the policy, so the two that have not begun are left out of it.
fn check_independently_of_begun(from: &Published, folder: &File) -> Result<String, String> {
    let policy = public::policy(&from.manifest);
    let begun = |line: &&str| !line.starts_with("log ") || line.contains(DOMAINS[0]) || line.contains(DOMAINS[1]);
    let lines: Vec<&str> = policy.lines().filter(begun).collect();
    fs::write(folder.join("log/policy"), lines.join("\n") + "\n").unwrap();
    check_independently(folder)
}

#[test]
fn the_independent_program_refuses_what_is_wrong() {
    let mut from = Published::new();
    from.grow(0, 300, &[0, 1, 2]);
    from.grow(1, 3, &[0, 1, 2]);
    check_independently_of_begun(&from, from.dir.path()).unwrap();
    for file in ["checkpoint", "tile/entries/001.p/44", "tile/0/000", "tile/1/000.p/1", "tile/0/001.p/44"] {
        let path = from.file(&Path::Log(log(0), file.parse().unwrap()));
        let good = fs::read(&path).unwrap();
        let mut bad = good.clone();
        let at = good.len() - 10;
        bad[at] = if bad[at] == b'A' { b'B' } else { b'A' };
        fs::write(&path, bad).unwrap();
        assert!(check_independently(from.dir.path()).is_err(), "{file}");
        fs::write(&path, good).unwrap();
    }
}

/// Each lie, and the code that it is refused with; what was published before stays as it is.
#[test]
fn a_lying_source_is_refused_and_nothing_of_it_is_published() {
    type Tampering = fn(&mut Published);
    let flip = |from: &Published, file: &str| {
        let path = from.file(&Path::Log(log(0), file.parse().unwrap()));
        let mut bytes = fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    fn tampered(file: &str, flip: impl Fn(&Published, &str)) -> impl Fn(&mut Published) {
        move |from| flip(from, file)
    }
    let other_history: Tampering = |from| {
        from.entries[0][3] = b"another one".to_vec();
        from.grow(0, 600, &[0, 1, 2]);
    };
    let smaller: Tampering = |from| {
        from.entries[0].truncate(200);
        from.grow(0, 200, &[0, 1, 2]);
    };
    let same_size: Tampering = |from| {
        from.entries[0].truncate(300);
        from.entries[0][299] = b"another one".to_vec();
        from.grow(0, 300, &[0, 1, 2]);
    };
    let other_federation: Tampering = |from| {
        from.manifest = Arc::new(federation(4, |policy| policy.daily_cap += 1));
        from.write(&Path::Manifest(1), from.manifest.note().to_string().as_bytes());
    };
    let unsigned: Tampering = |from| {
        let text = fs::read_to_string(from.file(&checkpoint(0))).unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("— fama/")).collect();
        from.write(&checkpoint(0), (lines.join("\n") + "\n").as_bytes());
    };
    let gone: Tampering = |from| fs::remove_file(from.file(&checkpoint(0))).unwrap();
    let no_manifest: Tampering = |from| fs::remove_file(from.file(&Path::Manifest(1))).unwrap();
    let missing: Tampering =
        |from| fs::remove_file(from.file(&Path::Log(log(0), "tile/entries/001".parse().unwrap()))).unwrap();
    let table: [(&str, Box<dyn Fn(&mut Published)>); 13] = [
        ("wrong_tree", Box::new(tampered("tile/entries/001", flip))),
        ("wrong_tree", Box::new(tampered("tile/entries/002.p/88", flip))),
        ("wrong_tree", Box::new(tampered("tile/0/001", flip))),
        ("wrong_tree", Box::new(tampered("tile/0/002.p/88", flip))),
        ("checkpoint_cosignature", Box::new(tampered("checkpoint", |from, _| resigned(from)))),
        ("conflict", Box::new(other_history)),
        ("behind", Box::new(smaller)),
        ("conflict", Box::new(same_size)),
        ("other_federation", Box::new(other_federation)),
        ("checkpoint_unsigned", Box::new(unsigned)),
        ("behind", Box::new(gone)),
        ("no_manifest", Box::new(no_manifest)),
        ("missing_file", Box::new(missing)),
    ];
    for (code, lie) in table {
        let (mut from, to) = (Published::new(), tempfile::tempdir().unwrap());
        let target = to.path().to_str().unwrap();
        from.grow(0, 300, &[0, 1, 2]);
        pass(from.name(), target).unwrap();
        let before = files(to.path());
        from.grow(0, 600, &[1, 2, 3]);
        lie(&mut from);
        assert_eq!(pass(from.name(), target).map_err(|error| error.code()), Err(code));
        assert_eq!(
            files(to.path())[&PathBuf::from(checkpoint(0).to_string())],
            before[&PathBuf::from(checkpoint(0).to_string())]
        );
        assert!(before.iter().all(|(file, bytes)| files(to.path())[file] == *bytes), "{code}");
    }
}

/// Changes one cosignature in its last bytes.
fn resigned(from: &Published) {
    let text = fs::read_to_string(from.file(&checkpoint(0))).unwrap();
    let end = text.len() - 12;
    let other = if text.as_bytes()[end] == b'A' { "B" } else { "A" };
    from.write(&checkpoint(0), [&text[..end], other, &text[end + 1..]].concat().as_bytes());
}

#[test]
fn what_no_quorum_cosigned_waits() {
    let (mut from, to) = (Published::new(), tempfile::tempdir().unwrap());
    let target = to.path().to_str().unwrap();
    from.grow(0, 300, &[0, 1]);
    assert_eq!(pass(from.name(), target).unwrap().logs[&log(0)], 0);
    assert!(!to.path().join("log/alpha.example").exists());
    from.grow(0, 300, &[0, 1, 3]);
    assert_eq!(pass(from.name(), target).unwrap().logs[&log(0)], 300);
}

#[test]
fn partial_tiles_that_gave_way_to_full_ones_are_no_loss() {
    let (mut from, to) = (Published::new(), tempfile::tempdir().unwrap());
    from.grow(0, 300, &[0, 1, 2]);
    let old = fs::read(from.file(&checkpoint(0))).unwrap();
    from.grow(0, 512, &[0, 1, 2]);
    for partial in ["tile/0/001.p/44", "tile/entries/001.p/44"] {
        fs::remove_file(from.file(&Path::Log(log(0), partial.parse().unwrap()))).unwrap();
    }
    from.write(&checkpoint(0), &old);
    assert_eq!(pass(from.name(), to.path().to_str().unwrap()).unwrap().logs[&log(0)], 300);
}

#[test]
fn damage_at_the_place_itself_is_told_from_a_lying_source() {
    let (mut from, to) = (Published::new(), tempfile::tempdir().unwrap());
    let target = to.path().to_str().unwrap();
    from.grow(0, 300, &[0, 1, 2]);
    pass(from.name(), target).unwrap();
    fs::remove_file(to.path().join("log/alpha.example/1/tile/0/001.p/44")).unwrap();
    from.grow(0, 400, &[0, 1, 2]);
    assert_eq!(pass(from.name(), target).map_err(|error| error.code()), Err("published_damaged"));
}

/// Nodes, folders, a bucket and data folders give the same files, whichever is the source.
#[test]
fn a_federation_is_published_from_any_node_and_read_anywhere() {
    multi(async {
        let mut net = LocalFederation::running(4).await;
        let (judge, agent) = (secret(10), secret(12));
        let provider = net.provider(0, "judge-service", &judge).await;
        let (subject, registration) = net.register(1, "swift-core-maps", &agent);
        net.accepted(1, registration).await;
        net.accepted(0, net.attest(0, (provider, &judge), subject, 3)).await;
        net.settled().await;
        let queries: Vec<String> = net.up().map(|(_, query)| format!("http://{query}")).collect();
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("public");
        let target = folder.to_str().unwrap().to_owned();
        let (from, to) = (queries[0].clone(), target.clone());
        let done = tokio::task::spawn_blocking(move || pass(&from, &to).unwrap()).await.unwrap();
        assert!(done.logs.len() == 4 && done.logs.values().all(|size| *size > 0), "{done:?}");
        assert_eq!(done.notes_missing, 0);
        assert_eq!(fs::read_dir(folder.join("note")).unwrap().count(), 1);
        let told = check_independently(&folder).unwrap();
        assert_eq!(told.lines().count(), 4, "{told}");

        // Another node continues where the first one stopped.
        let (_, registration) = net.register(2, "late-comer", &secret(14));
        net.accepted(2, registration).await;
        net.settled().await;
        let (from, to) = (queries[3].clone(), target.clone());
        let more = tokio::task::spawn_blocking(move || pass(&from, &to).unwrap()).await.unwrap();
        assert_eq!(more.logs[&log(2)], done.logs[&log(2)] + 2);
        check_independently(&folder).unwrap();

        // Notes arrive after their entries.
        has_notes(&queries[1], &folder).await;
        let store = s3::S3Server::start();
        store.publishes(&queries[1], &folder);
        let data = net.data(1).display().to_string();
        let locked = Failure::from(PublicSource::open(&data).err().unwrap());
        assert!(locked.code == "locked" && locked.hint.unwrap().contains("query URL"));
        net.stop(1).await;
        same_files(&PublicSource::open(&data).unwrap(), &folder);
        let to = dir.path().join("from-data");
        let target = to.to_str().unwrap().to_owned();
        tokio::task::spawn_blocking(move || pass(&data, &target).unwrap()).await.unwrap();
        check_independently(&to).unwrap();
    });
}

/// Every running node's files go to one folder, one node after the other. The folder then has each current log
/// completely, and each log that a manifest cuts up to its end.
pub(crate) async fn publishes(net: &LocalFederation) {
    let folder = net.dir.path().join("public");
    for query in net.up().map(|(_, query)| format!("http://{query}")).collect::<Vec<_>>() {
        let target = folder.to_str().unwrap().to_owned();
        let done = tokio::task::spawn_blocking(move || pass(&query, &target)).await.unwrap().unwrap();
        assert_eq!((done.version, done.logs.len()), (net.manifest.version(), net.manifest.logs().len()));
        for (log, size) in &done.logs {
            let end = net.manifest.cut(log).map(|cut| cut.head.size);
            assert!(*size > 0 && end.is_none_or(|end| end == *size), "{log} {size}");
        }
    }
    check_independently(&folder).unwrap();
}

/// Waits until the node has all notes that the folder has.
async fn has_notes(query: &str, folder: &File) {
    let notes: Vec<Path> = fs::read_dir(folder.join("note"))
        .unwrap()
        .map(|file| format!("note/{}", file.unwrap().file_name().to_str().unwrap()).parse().unwrap())
        .collect();
    eventually("the notes are there", || async {
        let (query, notes) = (query.to_owned(), notes.clone());
        let missing = tokio::task::spawn_blocking(move || {
            let source = PublicSource::open(&query).unwrap();
            notes.into_iter().find(|note| source.get(note).unwrap().is_none())
        });
        missing.await.unwrap().map_or(Ok(()), |note| Err(note.to_string()))
    })
    .await;
}

/// Compares all files except the checkpoints, of which one side's may have more cosignatures.
fn same_files(source: &PublicSource, folder: &File) {
    for (file, bytes) in files(folder) {
        let path: Path = file.to_str().unwrap().parse().unwrap();
        let found = source.get(&path).unwrap().unwrap_or_else(|| panic!("{path}"));
        assert!(found == bytes || path.to_string().ends_with("checkpoint"), "{path}");
    }
}

//! The public files over HTTP: they follow their specifications, and suffice to check a whole log.
use fama_ledger::log::MemoryTiles;
use fama_ledger::public::{LogFile, Path, TilePosition, entries, hashes};

use super::*;
use crate::store::StoredCertificate;

const LOG: &str = "/log/alpha.example/1";

impl World {
    /// Has the owner sign the log's head and both operators cosign it, and stores that as the certificate.
    fn certificate(&self, log: &Log) {
        self.cosign(log);
        let (signed, cosigned) = (self.app.shared.store.view().newest(&log.id).unwrap().unwrap(), {
            let cosigned = self.app.shared.store.view().cosigned_by(&log.id).unwrap();
            cosigned.into_iter().map(|(by, one)| (by, one.cosignature)).collect()
        });
        self.app.shared.store.put_certificate(&log.id, &StoredCertificate { signed, cosignatures: cosigned }).unwrap();
    }

    fn grow(&mut self, entries: u64) {
        for i in 0..entries {
            self.register("alpha.example", &format!("agent-{i}"), &seeded(i), None);
        }
    }

    async fn bytes(&self, path: &str) -> Option<Vec<u8>> {
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        let response = self.query().oneshot(request).await.unwrap();
        let found = response.status() == 200;
        assert!(found || response.status() == 404, "{path}: {}", response.status());
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        found.then(|| bytes.to_vec())
    }

    async fn checkpoint(&self) -> SignedNote {
        SignedNote::parse(&self.bytes(&format!("{LOG}/checkpoint")).await.unwrap(), 16_384).unwrap()
    }
}

fn seeded(i: u64) -> SecretKey {
    let seed: Vec<u8> = [i + 1_000; 4].iter().flat_map(|part| part.to_be_bytes()).collect();
    SecretKey::from_seed(Curve::Secp256k1, &seed.try_into().unwrap()).unwrap()
}

fn size(note: &SignedNote) -> u64 {
    note.text.parse::<Checkpoint>().unwrap().head.size
}

#[tokio::test]
async fn a_log_is_read_and_checked_from_its_files_alone() {
    let mut world = World::new(Some("alpha.example"));
    world.grow(140);
    world.certificate(&world.alpha);
    let certified = world.alpha.tree.size();
    assert_eq!(certified, 282);
    world.grow_beyond().await;
    let note = world.checkpoint().await;
    assert_eq!((size(&note), note.signatures.len()), (certified, 3), "all cosignatures, not the newest head");

    let mut tiles = MemoryTiles::default();
    for file in LogFile::grown(0, certified) {
        let bytes = world.bytes(&format!("{LOG}/{file}")).await.unwrap_or_else(|| panic!("{file}"));
        match file {
            LogFile::Tile(level, place) => {
                let hashes = hashes(&bytes, place).unwrap();
                tiles.write([fama_ledger::log::TileWrite { level, index: place.index(), hashes }]);
            }
            LogFile::Entries(place) => {
                let leaves = world.bytes(&format!("{LOG}/tile/0/{place}")).await.unwrap();
                let of: Vec<_> = entries(&bytes, place).unwrap().into_iter().map(leaf_hash).collect();
                assert_eq!(of, hashes(&leaves, place).unwrap());
            }
            LogFile::Checkpoint => panic!("no tile"),
        }
    }
    let head = note.text.parse::<Checkpoint>().unwrap().head;
    assert_eq!(fama_ledger::log::root_at(certified, &tiles), Ok(head.root));
}

impl World {
    /// Appends entries that are not certified, and checks that no file shows them.
    async fn grow_beyond(&mut self) {
        self.register("alpha.example", "not-final", &agent(77), None);
        for file in ["tile/entries/001.p/27", "tile/0/001.p/27", "tile/entries/001", "tile/0/001", "tile/1/001"] {
            assert_eq!(self.bytes(&format!("{LOG}/{file}")).await, None, "{file}");
        }
    }
}

#[tokio::test]
async fn partial_tiles_of_all_widths_are_prefixes() {
    let mut world = World::new(Some("alpha.example"));
    world.grow(12);
    world.certificate(&world.alpha);
    let (size, mut longest) = (26, [Vec::new(), Vec::new()]);
    for width in 1..=size {
        let place = TilePosition::new(0, width).unwrap();
        for (file, longest) in [format!("tile/0/{place}"), format!("tile/entries/{place}")].iter().zip(&mut longest) {
            let bytes = world.bytes(&format!("{LOG}/{file}")).await.unwrap();
            assert!(bytes.starts_with(longest) && bytes.len() > longest.len(), "{file}");
            *longest = bytes;
        }
    }
    assert_eq!(world.bytes(&format!("{LOG}/tile/0/000.p/{}", size + 1)).await, None);
}

#[tokio::test]
async fn before_a_certificate_the_owners_newest_head_on_this_copy_is_shown() {
    let mut world = World::new(Some("alpha.example"));
    assert_eq!(world.bytes(&format!("{LOG}/checkpoint")).await, None);
    assert_eq!(world.bytes(&format!("{LOG}/tile/0/000.p/1")).await, None, "nothing signed");
    world.cosign(&world.alpha);
    let note = world.checkpoint().await;
    assert_eq!((size(&note), note.signatures.len()), (2, 3));
    // Neither a head beyond the copy nor one of a fork hides a smaller one.
    for head in [Head { size: 9, root: TreeRoot([7; 32]) }, Head { size: 2, root: TreeRoot([7; 32]) }] {
        let checkpoint = Checkpoint { origin: world.app.shared.manifest.origin(&world.alpha.id), head };
        let signed = SignedCheckpoint::sign(checkpoint, world.alpha.node_key.ed25519().unwrap());
        world.app.shared.store.put_newest(&world.alpha.id, &SignedHead::of(&signed)).unwrap();
        assert_eq!(size(&world.checkpoint().await), 2);
    }
    world.grow(1);
    assert_eq!(world.bytes(&format!("{LOG}/tile/0/000.p/3")).await, None);
}

#[tokio::test]
async fn manifests_policy_and_notes_are_there() {
    let mut world = World::new(Some("alpha.example"));
    let (hash, text) = note(&Note { bio: Some("maps things".into()), ..Note::default() });
    world.register("alpha.example", "swift-core-maps", &agent(1), Some("maps things"));
    let manifest = world.get("/manifest/1").await;
    assert_eq!(manifest.text, world.app.shared.manifest.note().to_string());
    assert!(Manifest::parse(&manifest.text).is_ok());
    assert_eq!(world.bytes("/manifest/2").await, None);
    let policy = world.get("/log/policy").await;
    assert_eq!(policy.text, fama_ledger::public::policy(&world.app.shared.manifest));
    let path = format!("/note/{hash}");
    assert_eq!(world.get(&path).await.text, text);
    world.app.shared.store.redact_note(&hash).unwrap();
    let gone = world.get(&path).await;
    assert_eq!((gone.status, gone.json()["code"].as_str()), (410, Some("redacted")));
    assert_eq!(world.get("/note/dropped").await.text, format!("{hash}\n"));
}

#[tokio::test]
async fn files_have_the_headers_of_the_specification() {
    let mut world = World::new(Some("alpha.example"));
    world.register("alpha.example", "swift-core-maps", &agent(1), Some("maps things ".repeat(20).trim()));
    world.certificate(&world.alpha);
    let (hash, _) = note(&Note { bio: Some("maps things ".repeat(20).trim().into()), ..Note::default() });
    let (ever, moment) = ("public, max-age=31536000, immutable", "public, max-age=1");
    let (text, bytes) = ("text/plain; charset=utf-8", "application/octet-stream");
    for (path, kind, cache) in [
        (format!("{LOG}/checkpoint"), text, moment),
        ("/log/policy".to_owned(), text, moment),
        (format!("{LOG}/tile/0/000.p/4"), bytes, ever),
        (format!("{LOG}/tile/entries/000.p/4"), bytes, ever),
        ("/manifest/1".to_owned(), text, ever),
        (format!("/note/{hash}"), text, "public, max-age=3600"),
    ] {
        let answer = world.get(&path).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, kind), "{path}");
        assert_eq!(answer.header("cache-control"), cache, "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), "*");
        let tag = answer.header("etag").to_owned();
        let known = ask(world.query(), Method::GET, &path, &[("if-none-match", &tag)], "").await;
        assert_eq!((known.status, known.text.as_str(), known.header("cache-control")), (304, "", cache), "{path}");
        let head = ask(world.query(), Method::HEAD, &path, &[], "").await;
        assert_eq!((head.status, head.text.as_str(), head.header("etag")), (200, "", tag.as_str()), "{path}");
    }
    let packed = [("accept-encoding", "gzip")];
    let bundle = ask(world.query(), Method::GET, &format!("{LOG}/tile/entries/000.p/4"), &packed, "").await;
    assert_eq!(bundle.header("content-encoding"), "gzip");
}

#[tokio::test]
async fn paths_without_a_file_get_an_error_in_the_usual_form() {
    let mut world = World::new(Some("alpha.example"));
    world.grow(1);
    world.certificate(&world.alpha);
    for path in [
        "/log/gamma.example/1/checkpoint",
        "/log/alpha.example/2/checkpoint",
        "/log/alpha.example/1/tile/0/0",
        "/log/alpha.example/1/tile/0/000.p/0",
        "/log/alpha.example/1/tile/0/x000/000.p/1",
        "/manifest/01",
        "/log/alpha.example/1/tile/0/%30%30%30.p/1",
        "/manifest/0",
        "/log/alpha.example/1/../../policy",
        "/note/xyz",
        "/log//policy",
    ] {
        let answer = world.get(path).await;
        assert_eq!((answer.status, problem(&answer).as_str()), (404, "no_such_file"), "{path}");
        assert!(path.trim_start_matches('/').parse::<Path>().is_err() || path.contains("/checkpoint"));
    }
    let posted = ask(world.query(), Method::POST, &format!("{LOG}/checkpoint"), &[], "").await;
    assert_eq!((posted.status, posted.header("allow")), (405, "GET,HEAD"));
}

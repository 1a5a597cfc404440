//! The valid inputs that each decoder starts from, taken from the golden vectors or made from them.
use std::sync::{Arc, LazyLock};

use fama_ledger::checkpoint::Cosignature;
use fama_ledger::codec;
use fama_ledger::entry::SignedEvent;
use fama_ledger::equivocation::Equivocation;
use fama_ledger::id::StateRoot;
use fama_ledger::log::{Hash, Head, MemoryTiles, Tree, leaf_hash, prove_consistency, root_at};
use fama_ledger::secret::SecretKey;
use fama_ledger::signed_note::{SignedNote, sign};
use fama_ledger::stand::Stand;
use fama_ledger::time::Millis;
use fama_node::wire;
use fama_tests::{DOMAINS, START, domain, federation, governance_key, log, node_key, secret};
use serde_json::Value;

pub(crate) use super::http::{logins as login, questions as question, recipes as recipe};
use super::targets::MESSAGE;
use crate::vectors::{manifest as vectors_manifest, read, unhex};

type Corpus = Vec<Vec<u8>>;

/// The texts in one field of all vectors of one type.
fn texts(file: &str, kind: &str, field: &str) -> Vec<String> {
    let all = read(file);
    let ours = all.iter().filter(|vector| vector["type"] == kind);
    ours.map(|vector| vector[field].as_str().unwrap().to_owned()).collect()
}

fn bytes(file: &str, kind: &str, field: &str) -> Corpus {
    texts(file, kind, field).into_iter().map(String::into_bytes).collect()
}

/// The story's events, made again for the federation whose keys the targets know.
fn story() -> Vec<SignedEvent> {
    let ours = federation(2, |_| ()).federation();
    let events =
        crate::vectors::story().into_iter().map(|(_, _, said)| said).filter(|said| said.countersignature.is_none());
    let keys: Vec<SecretKey> = (2..=6).map(secret).chain((0..2).map(node_key)).collect();
    events
        .map(|said| {
            let key = keys.iter().find(|key| key.public() == said.signer).unwrap();
            fama_tests::signed(fama_ledger::event::Event { federation: ours, ..said.event }, key)
        })
        .collect()
}

pub(crate) fn event() -> Corpus {
    bytes("events.json", "event", "text")
}

pub(crate) fn note() -> Corpus {
    bytes("notes.json", "note", "text")
}

pub(crate) fn entry() -> Corpus {
    let ours = federation(2, |_| ());
    let adopt = fama_ledger::entry::VerifiedEntry::adopt(START, 1, ours.hash());
    let state = fama_ledger::entry::VerifiedEntry::state(START, StateRoot([1; 32]));
    let said = story().into_iter().map(|said| {
        let verified = said.verify(&ours.federation()).unwrap();
        fama_ledger::entry::VerifiedEntry::of(START, verified)
    });
    said.chain([adopt, state]).map(fama_ledger::entry::VerifiedEntry::into_bytes).collect()
}

pub(crate) fn manifest() -> Corpus {
    let text = |manifest: fama_ledger::manifest::Manifest| manifest.note().text.clone().into_bytes();
    vec![text(vectors_manifest()), text(federation(2, |_| ()))]
}

pub(crate) fn chain() -> Corpus {
    let genesis = Arc::new(federation(2, |_| ()));
    let mut draft = genesis.draft();
    draft.policy.daily_cap = 30;
    let text = draft.text().unwrap();
    let line = |i: u8| sign(&text, DOMAINS[usize::from(i)], governance_key(i).ed25519().unwrap());
    let note = SignedNote { signatures: (0..2).map(line).collect(), text: text.clone() };
    let newest = genesis.successor(&note.to_string()).unwrap();
    vec![genesis.chain().into_bytes(), newest.chain().into_bytes()]
}

pub(crate) fn stand() -> Corpus {
    let head = Head { size: 3, root: fama_ledger::id::TreeRoot([3; 32]) };
    let stand = |head| Stand {
        federation: federation(2, |_| ()).federation(),
        version: 2,
        log: log(1),
        operator: domain(DOMAINS[0]),
        head,
    };
    [head, Head::EMPTY].map(|head| stand(head).text().into_bytes()).to_vec()
}

pub(crate) fn equivocation() -> Corpus {
    let tree = |seed: u8| {
        let (mut tree, mut tiles) = (Tree::default(), MemoryTiles::default());
        tiles.write(tree.append((0..9).map(|i| leaf_hash(&[seed, i]))));
        (tree.head(), tiles)
    };
    let ((larger, tiles), (other, others)) = (tree(1), tree(2));
    let proof = |smaller: Head| Equivocation {
        log: log(0),
        larger: owned(larger),
        smaller: owned(smaller),
        root: root_at(smaller.size, &tiles).unwrap(),
        proof: prove_consistency(smaller.size, larger.size, &tiles).unwrap(),
    };
    let smaller = Head { size: 5, root: root_at(5, &others).unwrap() };
    [smaller, other].map(|head| codec::encode(&proof(head))).to_vec()
}

/// A head with its owner's signature.
fn owned(head: Head) -> (Head, [u8; 64]) {
    let checkpoint = fama_ledger::checkpoint::Checkpoint { origin: federation(2, |_| ()).origin(&log(0)), head };
    let signed = fama_ledger::checkpoint::SignedCheckpoint::sign(checkpoint, node_key(0).ed25519().unwrap());
    (head, *signed.signature())
}

pub(crate) fn signed_note() -> Corpus {
    let short = "a\n\nb\n\n— x AAAAAAA=\n— é/y AAAAAAB1\n".as_bytes().to_vec();
    [bytes("checkpoints.json", "checkpoint", "note"), bytes("manifests.json", "manifest", "note"), vec![short]].concat()
}

pub(crate) fn checkpoint() -> Corpus {
    bytes("checkpoints.json", "checkpoint", "text")
}

pub(crate) fn public_path() -> Corpus {
    let note = "note/0000000000000000000000000000000000000000000000000000000000000000";
    let log = "log/alpha.example/1/checkpoint";
    let tiles = ["log/alpha.example/1/tile/0/x001/x234/067.p/112", "log/alpha.example/1/tile/entries/000"];
    [&["manifest/1", "log/policy", note, log][..], &tiles]
        .concat()
        .iter()
        .map(|path| path.as_bytes().to_vec())
        .collect()
}

pub(crate) fn entry_bundle() -> Corpus {
    let of = |count: u8| {
        let entries: Vec<Vec<u8>> = (0..=count).map(|i| vec![i; usize::from(i % 7)]).collect();
        [&[count][..], &fama_ledger::public::bundle(&entries).unwrap()].concat()
    };
    [0, 1, 30, 255].map(of).to_vec()
}

pub(crate) fn tlog_proof() -> Corpus {
    let proofs = texts("checkpoints.json", "proof", "proof");
    let extra = proofs[0].replacen('\n', "\nextra AAAA\n", 1);
    proofs.into_iter().chain([extra]).map(String::into_bytes).collect()
}

pub(crate) fn jws() -> Corpus {
    crate::tokens::examples().into_iter().map(String::into_bytes).collect()
}

/// Only the small proof: the others are too long to be mutated often enough.
pub(crate) fn profile_proof() -> Corpus {
    vec![crate::profile::small_story().1.to_string().into_bytes()]
}

/// A proof and what it shows: all rows of each prefix.
pub(crate) struct ProvenRowsInput {
    pub(crate) root: StateRoot,
    pub(crate) answers: Vec<(Vec<u8>, Vec<(Vec<u8>, Vec<u8>)>)>,
    pub(crate) proof: Vec<u8>,
}

/// A range proof and what it shows: the rows from a key on.
pub(crate) struct ProvenRange {
    pub(crate) root: StateRoot,
    pub(crate) start: Vec<u8>,
    pub(crate) rows: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) proof: Vec<u8>,
}

fn pairs(rows: &Value) -> Vec<(Vec<u8>, Vec<u8>)> {
    let pair = |row: &Value| (unhex(row[0].as_str().unwrap()), unhex(row[1].as_str().unwrap()));
    rows.as_array().unwrap().iter().map(pair).collect()
}

fn map_vectors(kind: &str) -> Vec<Value> {
    read("maps.json").into_iter().filter(|vector| vector["type"] == kind).collect()
}

fn hexed(value: &Value) -> Vec<u8> {
    unhex(value.as_str().unwrap())
}

pub(crate) fn proven() -> &'static [ProvenRowsInput] {
    static PROVEN: LazyLock<Vec<ProvenRowsInput>> = LazyLock::new(|| {
        let answer = |answer: &Value| (hexed(&answer[0]), pairs(&answer[1]));
        let proven = |vector: Value| ProvenRowsInput {
            root: vector["root"].as_str().unwrap().parse().unwrap(),
            answers: vector["answers"].as_array().unwrap().iter().map(answer).collect(),
            proof: hexed(&vector["proof"]),
        };
        map_vectors("map proof").into_iter().map(proven).collect()
    });
    &PROVEN
}

pub(crate) fn ranged() -> &'static [ProvenRange] {
    static RANGED: LazyLock<Vec<ProvenRange>> = LazyLock::new(|| {
        let ranged = |vector: Value| ProvenRange {
            root: vector["root"].as_str().unwrap().parse().unwrap(),
            start: hexed(&vector["start"]),
            rows: pairs(&vector["rows"]),
            proof: hexed(&vector["proof"]),
        };
        map_vectors("range proof").into_iter().map(ranged).collect()
    });
    &RANGED
}

pub(crate) fn map_proof() -> Corpus {
    proven().iter().map(|proven| proven.proof.clone()).collect()
}

pub(crate) fn range_proof() -> Corpus {
    ranged().iter().map(|ranged| ranged.proof.clone()).collect()
}

pub(crate) fn tree_proof() -> Corpus {
    let (mut tree, mut tiles, mut heads) = (Tree::default(), MemoryTiles::default(), vec![Head::EMPTY]);
    for size in 0u8..20 {
        tiles.write(tree.append([leaf_hash(&[size])]));
        heads.push(tree.head());
    }
    let pairs = [(0, 0), (0, 7), (1, 2), (3, 7), (4, 8), (6, 8), (7, 20), (16, 20), (20, 20)];
    let prove = |(old, new): (usize, usize)| {
        let proof: Vec<Hash> = match old {
            0 => Vec::new(),
            _ => prove_consistency(old as u64, new as u64, &tiles).unwrap(),
        };
        codec::encode(&(heads[old], heads[new], proof))
    };
    pairs.into_iter().map(prove).collect()
}

pub(crate) fn row() -> Corpus {
    let all = read("logs.json");
    let rows = all.iter().filter(|vector| vector["type"] == "row");
    let row = |v: &Value| [vec![v["tag"].as_u64().unwrap() as u8], unhex(v["value"].as_str().unwrap())].concat();
    rows.map(row).collect()
}

fn signed_head() -> wire::SignedHead {
    let ours = federation(2, |_| ());
    let head = Head { size: 3, root: fama_ledger::id::TreeRoot([3; 32]) };
    let checkpoint = fama_ledger::checkpoint::Checkpoint { origin: ours.origin(&log(0)), head };
    let owner = node_key(0);
    wire::SignedHead::of(&fama_ledger::checkpoint::SignedCheckpoint::sign(checkpoint, owner.ed25519().unwrap()))
}

fn cosigned_head() -> wire::CosignedHead {
    let ours = federation(2, |_| ());
    let signed = signed_head();
    let held = signed.verify(&ours, &log(0)).unwrap();
    let key = node_key(0);
    let operator = domain("alpha.example");
    let cosignature = Cosignature::sign(held.checkpoint(), operator, key.ed25519().unwrap(), 1_795_323_600);
    wire::CosignedHead { signed, cosignature }
}

fn frontier() -> wire::Frontier {
    let one = wire::LogFrontier {
        log: log(0),
        size: 3,
        newest: Some(signed_head()),
        cosigned: vec![cosigned_head(), cosigned_head()],
        equivocation: None,
        certificate: Some(Box::new(wire::CertifiedHead {
            signed: signed_head(),
            cosignatures: vec![(1, cosigned_head().cosignature)],
        })),
    };
    let other = wire::LogFrontier {
        log: log(1),
        size: 0,
        newest: None,
        cosigned: Vec::new(),
        equivocation: Some(some_equivocation()),
        certificate: None,
    };
    let session = |id, writes| wire::Session { id: [id; 16], writes };
    let (session, other_session) = (session(7, false), Some(session(8, true)));
    let manifest_hash = fama_ledger::id::ManifestHash([5; 32]);
    wire::Frontier { time: START, session, other: other_session, manifest: 2, manifest_hash, logs: vec![one, other] }
}

fn some_equivocation() -> Equivocation {
    let head = |size| (Head { size, root: fama_ledger::id::TreeRoot([3; 32]) }, [4; 64]);
    let (root, proof) = (fama_ledger::id::TreeRoot([6; 32]), vec![[7; 32]]);
    Equivocation { log: log(1), larger: head(9), smaller: head(4), root, proof }
}

fn refusal() -> wire::Refusal {
    wire::Refusal { retry_after: Some(3), ..wire::Refusal::new("busy", "later") }
}

pub(crate) fn sync_request() -> Corpus {
    let head = Head { size: 9, root: fama_ledger::id::TreeRoot([9; 32]) };
    let notes = vec![fama_ledger::id::NoteHash([1; 32]); 3];
    let requests = [
        wire::SyncRequest::Frontier(frontier()),
        wire::SyncRequest::Entries { log: log(1), from: 7, head },
        wire::SyncRequest::Notes(notes),
        wire::SyncRequest::Manifests { from: 2 },
        wire::SyncRequest::Offers,
        wire::SyncRequest::Rows { log: log(1), head, map: 2, from: vec![1; 9], to: Some(vec![2; 9]) },
    ];
    requests.iter().map(codec::encode).collect()
}

pub(crate) fn sync_response() -> Corpus {
    let range =
        wire::EntryRange { first: 4, entries: entry(), proof: vec![[5; 32]; 3], notes: vec!["note".to_owned()] };
    let hash = fama_ledger::id::NoteHash([1; 32]);
    let text = texts("notes.json", "note", "text").remove(0);
    let notes = vec![(hash, wire::NoteAnswer::Text(text)), (hash, wire::NoteAnswer::Redacted)];
    let ours = federation(2, |_| ());
    let offer = crate::snapshot::offer(&ours, &fama_tests::MemoryReplica::adopted(&ours), &[0, 1]);
    let ranged = &ranged()[0];
    let proof = codec::decode(&ranged.proof, ranged.proof.len()).unwrap();
    let responses = [
        wire::SyncResponse::Frontier(frontier()),
        wire::SyncResponse::Entries(range),
        wire::SyncResponse::Notes(notes),
        wire::SyncResponse::Manifests(vec![federation(2, |_| ()).note().to_string()]),
        wire::SyncResponse::Refused(refusal()),
        wire::SyncResponse::Offers(vec![offer]),
        wire::SyncResponse::Rows(wire::RowRange { rows: ranged.rows.clone(), proof }),
    ];
    responses.iter().map(codec::encode).collect()
}

pub(crate) fn gossip() -> Corpus {
    let messages = [
        wire::Gossip::Head {
            log: log(0),
            signed: signed_head(),
            first: 2,
            entries: entry(),
            notes: vec!["note".to_owned()],
        },
        wire::Gossip::Cosignature { log: log(0), cosigned: cosigned_head() },
        wire::Gossip::Equivocation(some_equivocation()),
    ];
    messages.iter().map(codec::encode).collect()
}

pub(crate) fn submit_request() -> Corpus {
    let note = texts("notes.json", "note", "text").remove(0);
    let submission = |signed: SignedEvent| wire::Submission {
        signed,
        note: Some(note.clone()),
        invite: Some("token".to_owned()),
        recovered: Some(wire::Recovered { entry: vec![1, 2], proof: "proof".to_owned() }),
    };
    let whole: Vec<_> = story().into_iter().map(submission).collect();
    let one = wire::Submission { note: None, invite: None, recovered: None, ..whole[0].clone() };
    let requests = [(false, vec![]), (true, vec![one]), (false, whole)];
    requests.map(|(forwarded, submissions)| codec::encode(&wire::SubmitRequest { forwarded, submissions })).to_vec()
}

pub(crate) fn submit_response() -> Corpus {
    let proof = texts("checkpoints.json", "proof", "proof").remove(0);
    let receipt = wire::Receipt {
        event: fama_ledger::id::EventId([4; 32]),
        log: log(0),
        index: 2,
        known: true,
        entry: entry().remove(0),
        proof,
    };
    let both = vec![wire::SubmitResult::Accepted(receipt), wire::SubmitResult::Refused(refusal())];
    [vec![], both].map(|results| codec::encode(&wire::SubmitResponse(results))).to_vec()
}

pub(crate) fn base64() -> Corpus {
    let all = [&b""[..], b"QQ", b"QQ==", b"+/8=", b"-_8", b" +\r\n/\t8 = \n", b"QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo="];
    all.map(<[u8]>::to_vec).to_vec()
}

pub(crate) fn public_key() -> Corpus {
    let raw = (2..6).map(|seed| codec::encode(&secret(seed).public()));
    let [pem, text] = ["pem", "public"].map(|field| bytes("keys.json", "key", field));
    [pem, text, raw.collect()].concat()
}

pub(crate) fn secret_key() -> Corpus {
    // As `openssl ecparam -name secp256k1 -genkey` writes it.
    let sec1 = "-----BEGIN EC PARAMETERS-----
BgUrgQQACg==
-----END EC PARAMETERS-----
-----BEGIN EC PRIVATE KEY-----
MHQCAQEEIKxWm3pLjQSCgeYtnyJ61b0kCfX5i8eeZMcNx2FREgEooAcGBSuBBAAK
oUQDQgAE2Bx97IWaA+IROpCnVI5QGXBu76vpzqdWYZcxZlEVphIRnWmTke7LyMZa
w9s/DbDtUgai5nr69pJ0tN2x1jCHlw==
-----END EC PRIVATE KEY-----
";
    let pem = (2..6).map(|seed| secret(seed).to_pem().as_bytes().to_vec());
    pem.chain([sec1.as_bytes().to_vec()]).collect()
}

pub(crate) fn short_text() -> Corpus {
    let origin = vectors_manifest().origin(&log(0)).to_string();
    let id = fama_ledger::id::EventId([0xab; 32]).to_string();
    let all = ["alpha.example", "swift-core-maps", "swift-core-maps@alpha.example", "ml_overflow", "attest", "ed25519"];
    let rest = ["2026-11-22", "0123456789abcdef", &Millis(0).plus(START.0).to_string(), &id, &origin];
    all.into_iter().chain(rest).map(|text| text.as_bytes().to_vec()).collect()
}

pub(crate) fn edge() -> Corpus {
    let (ecdsa, edwards) = (secret(2).sign(MESSAGE), secret(3).sign(MESSAGE));
    let (r, s) = (&ecdsa.as_bytes()[..32], &ecdsa.as_bytes()[32..64]);
    let high = crate::signature::negated(s);
    let dress = |s: &[u8]| [[&[0], r, s].concat(), [&[0][..], &crate::signature::der(r, s)].concat()];
    let whole = [(0, ecdsa), (1, edwards)].map(|(which, signature)| [&[which], signature.as_bytes()].concat());
    [dress(s), dress(&high), whole].concat()
}

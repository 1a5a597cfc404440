//! State maps in the vectors: roots, and what their proofs show.
use fama_ledger::codec;
use fama_ledger::id::StateRoot;
use fama_ledger::map::{MapProof, RangeProof, StateMap, Whole, value_hash};
use serde_json::{Value, json};

use super::{Vector, hex, unhex};

type RowPairs = Vec<(Vec<u8>, Vec<u8>)>;

fn tables() -> Vec<RowPairs> {
    let tables: [&[(&[u8], &[u8])]; 5] = [
        &[],
        &[(b"\x01a", b"one")],
        &[(b"\x01a", b"one"), (b"\x01b", b"two")],
        &[(&[0, 0], b""), (&[0, 1], b"1"), (&[0x7f, 0xff], b"2"), (&[0x80, 0], b"3"), (&[0xff, 0xff], b"4")],
        &[(&[1, 0, 0, 0, 1], b"a"), (&[1, 0, 0, 0, 2], b"b"), (&[2, 0, 0], b"c"), (&[2, 0, 0x10], b"d"), (&[12], b"e")],
    ];
    tables.map(|rows| rows.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect()).into()
}

fn built(rows: &RowPairs) -> StateMap {
    StateMap::from_sorted(rows.iter().map(|(key, value)| (key, value_hash(value)))).unwrap()
}

fn list(rows: &RowPairs) -> Vec<[String; 2]> {
    rows.iter().map(|(key, value)| [hex(key), hex(value)]).collect()
}

pub(super) fn made() -> Value {
    let mut vectors = Vec::new();
    for rows in tables() {
        let root = built(&rows).root().to_string();
        vectors.push(json!({"type": "map", "rows": list(&rows), "root": root}));
        vectors.extend(prefixes().iter().map(|prefixes| proof(&rows, prefixes)));
        vectors.extend([&[][..], &[1], &[2, 0, 1], &[0x80, 0], &[0xff; 3]].map(|start| range(&rows, start)));
    }
    vectors.extend(invalid());
    vectors.into()
}

/// Prefixes with and without rows, alone and together; some leave a node's path, others extend it.
fn prefixes() -> Vec<Vec<&'static [u8]>> {
    vec![
        vec![b"\x01a"],
        vec![&[2]],
        vec![b"\x01", &[2, 0, 0x10], &[11]],
        vec![&[0, 1], &[0x60], &[0x80, 0], &[0x80, 0x80], &[0xc0]],
    ]
}

fn proof(rows: &RowPairs, prefixes: &[&[u8]]) -> Value {
    let (map, found) = (built(rows), |p: &[u8]| rows.iter().filter(|(key, _)| key.starts_with(p)).cloned().collect());
    let answers: Vec<_> = prefixes.iter().map(|prefix| (hex(prefix), list(&found(prefix)))).collect();
    let proof = hex(codec::encode(&map.prove(prefixes, &Whole).unwrap()));
    json!({"type": "map proof", "root": map.root().to_string(), "answers": answers, "proof": proof})
}

/// A proof of at most two rows from `start` on.
fn range(rows: &RowPairs, start: &[u8]) -> Value {
    let map = built(rows);
    let behind = rows.iter().filter(|(key, _)| key.as_slice() >= start);
    let (shown, ends): (RowPairs, _) = (behind.clone().take(2).cloned().collect(), behind.count() <= 2);
    let proof = map.prove_range(start, shown.last().map(|(key, _)| key.as_slice()), &Whole).unwrap();
    json!({
        "type": "range proof", "root": map.root().to_string(), "start": hex(start), "rows": list(&shown), "ends": ends,
        "proof": hex(codec::encode(&proof)),
    })
}

/// Proofs that show the rows of other prefixes, or only some rows.
fn invalid() -> Vec<Value> {
    let rows = tables().remove(3);
    let map = built(&rows);
    let proof = |prefixes: &[&[u8]]| hex(codec::encode(&map.prove(prefixes, &Whole).unwrap()));
    let one = [(&[0u8, 0][..], &b""[..])];
    let vector = |why: &str, prefix: &[u8], rows: &[(&[u8], &[u8])], proof: String, code: &str| {
        let rows: Vec<_> = rows.iter().map(|(key, value)| [hex(key), hex(value)]).collect();
        let root = map.root().to_string();
        json!({"type": "invalid map proof", "why": why, "root": root, "answers": [(hex(prefix), rows)], "proof": proof, "code": code})
    };
    vec![
        vector("a hash hides a row of the prefix", &[0], &one, proof(&[&[0, 0]]), "proof_claim"),
        vector("a row of the prefix is not among its rows", &[0, 0], &[], proof(&[&[0, 0]]), "proof_claim"),
        vector("another value", &[0, 0], &[(&[0, 0], b"1")], proof(&[&[0, 0]]), "proof_root"),
        vector("no proof", &[0, 0], &one, hex(codec::encode(&MapProof::default())), "proof_claim"),
        vector("a row shown that need not be", &[0x20], &[], proof(&[&[0, 0, 0]]), "proof_malformed"),
    ]
}

fn pairs(rows: &Value) -> RowPairs {
    let pair = |row: &Value| (unhex(row[0].as_str().unwrap()), unhex(row[1].as_str().unwrap()));
    rows.as_array().unwrap().iter().map(pair).collect()
}

pub(super) fn check_map(v: &mut Vector) {
    let rows = pairs(&v.take("rows"));
    assert_eq!(built(&rows).root().to_string(), v.text("root"));
    let mut grown = StateMap::default();
    for (key, value) in rows.iter().rev() {
        grown.update(&[(key, Some(value_hash(value)))], &Whole).unwrap();
    }
    assert_eq!(grown.root(), built(&rows).root());
}

fn root(v: &mut Vector) -> StateRoot {
    v.text("root").parse().unwrap()
}

/// Compares what the vector's proof shows with its answers.
fn verified(v: &mut Vector) -> Result<(), fama_ledger::map::MapProofError> {
    let answers = v.take("answers");
    let answers: Vec<_> =
        answers.as_array().unwrap().iter().map(|a| (unhex(a[0].as_str().unwrap()), pairs(&a[1]))).collect();
    let answers: Vec<_> = answers.iter().map(|(prefix, rows)| (prefix, rows.as_slice())).collect();
    let proof: MapProof = codec::decode(&v.bytes("proof"), fama_ledger::map::MAP_PROOF_BYTES_MAX).unwrap();
    proof.verify(&root(v), &answers)
}

pub(super) fn check_proof(v: &mut Vector) {
    assert_eq!(verified(v), Ok(()));
}

pub(super) fn check_invalid(v: &mut Vector) {
    v.text("why");
    assert_eq!(verified(v).unwrap_err().code(), v.text("code"));
}

pub(super) fn check_range(v: &mut Vector) {
    let (start, rows, ends) = (v.bytes("start"), pairs(&v.take("rows")), v.take("ends"));
    let proof: RangeProof = codec::decode(&v.bytes("proof"), fama_ledger::map::RANGE_PROOF_BYTES_MAX).unwrap();
    assert_eq!(proof.verify(&root(v), &start, &rows), Ok(ends == true));
}

//! Every decoder against mutated inputs that start from the golden vectors; a seed repeats them.
//!
//! A short run is part of the tests; `FAMA_FUZZ_SECONDS` (for all decoders together) and `FAMA_FUZZ_SEED` make a
//! longer or a different one. `targets.rs` holds what each target asserts; a failure prints decoder, seed and input.
use std::collections::BTreeSet;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use crate::vectors::hex;

mod batches;
pub(crate) mod corpus;
mod http;
pub(crate) mod targets;

use targets::FuzzTarget;

/// For all decoders together, unless `FAMA_FUZZ_SECONDS` says otherwise.
const SHORT_SECONDS: f64 = 5.0;
const SEED: u64 = 0xfa3a_fa3a_fa3a_fa3a;
/// Most inputs that are kept per decoder to mutate further.
const POOL_MAX: usize = 512;
/// Longest input made, in bytes.
const INPUT_BYTES_MAX: usize = 160_000;
/// No decoder may take this long for an input of that length, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(10);

/// Fragments that the formats consist of.
const WORDS: [&[u8]; 64] = [
    b"\n",
    b"\n\n",
    b": ",
    b" ",
    b"\r\n",
    b"=",
    b"\"",
    b"+",
    b"-",
    b"/",
    b"0",
    b"00",
    b"-0",
    b"18446744073709551615",
    b"18446744073709551616",
    b"9223372036854775808",
    b"fama.event/1\n",
    b"fama.note/1\n",
    b"fama/",
    b"kind: ",
    b"register",
    b"rotate",
    b"revoke",
    b"attest",
    b"retract",
    b"admit",
    b"dismiss",
    b"federation: ",
    b"home: ",
    b"identity: ",
    b"name: ",
    b"key: ",
    b"next: ",
    b"note: ",
    b"sha256:",
    b"secp256k1:",
    b"ed25519:",
    b"version: ",
    b"reason: ",
    b"issuer: ",
    b"subject: ",
    b"delta: ",
    b"context: ",
    b"day: ",
    b"created: ",
    b"nonce: ",
    b"salt: ",
    b"bio: ",
    b"ref: ",
    b"service: ",
    b"\xe2\x80\x94 ",
    b"\xe2\x80\xae",
    b"\xef\xbb\xbf",
    b"\xff",
    b"extra ",
    b"index ",
    b"c2sp.org/tlog-proof@v1\n",
    b"[[operators]]\n",
    b"[policy]\n",
    b"format = \"fama.manifest/1\"\n",
    b"-----BEGIN PUBLIC KEY-----",
    b"-----END PRIVATE KEY-----",
    b"AAAA",
    b"==",
];

/// Marsaglia's xorshift64*; the seed repeats a run.
struct FuzzRandom(u64);

impl FuzzRandom {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`, or 0 if `end` is 0.
    fn below(&mut self, end: usize) -> usize {
        (self.next() % (end as u64).max(1)) as usize
    }

    fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// A random part of `bytes`, mostly short.
    fn part<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let from = self.below(bytes.len() + 1);
        let longest = if self.next().is_multiple_of(4) { bytes.len() } else { 40 };
        let len = self.below(longest.min(bytes.len() - from) + 1);
        &bytes[from..from + len]
    }
}

/// Overwrites `bytes` from `at` on with `new`, up to their end.
fn overwrite(bytes: &mut [u8], at: usize, new: &[u8]) {
    bytes[at..].iter_mut().zip(new).for_each(|(byte, new)| *byte = *new);
}

/// A wrong length: tiny, huge, or slightly off from the one that is there.
fn wrong_length(bytes: &[u8], at: usize, random: &mut FuzzRandom) -> u64 {
    let mut now = [0; 8];
    overwrite(&mut now, 0, &bytes[at..]);
    let now = u64::from_le_bytes(now);
    let shift = random.below(64);
    *random.pick(&[
        0,
        1,
        2,
        now.wrapping_add(1),
        now.wrapping_sub(1),
        now << 1,
        1 << shift,
        u64::MAX >> shift,
        bytes.len() as u64,
    ])
}

/// Mutates an input a little.
fn mutate(bytes: &mut Vec<u8>, pool: &[Vec<u8>], random: &mut FuzzRandom) {
    let at = random.below(bytes.len());
    let slot = random.below(bytes.len() + 1);
    match random.below(11) {
        0 | 1 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
        2 if !bytes.is_empty() => bytes[at] = *random.pick(&[0, 1, 2, 0x0a, 0x20, 0x30, 0x7f, 0x80, 0xff, b'a', b'Z']),
        3 => {
            let lie = wrong_length(bytes, slot, random).to_le_bytes();
            let len = *random.pick(&[4, 8]);
            overwrite(bytes, slot, &lie[..len]);
        }
        4 => {
            let word = *random.pick(&WORDS);
            bytes.splice(slot..slot, word.iter().copied());
        }
        5 => {
            let word = *random.pick(&WORDS);
            overwrite(bytes, slot, word);
        }
        6 => bytes.truncate(slot),
        7 => {
            let len = random.below(20).min(bytes.len() - slot);
            bytes.drain(slot..slot + len);
        }
        8 => {
            let part = random.part(bytes).to_vec();
            bytes.splice(slot..slot, part);
        }
        9 => {
            let other = random.pick(pool);
            let part = random.part(other).to_vec();
            let end = if random.next().is_multiple_of(2) { slot } else { (slot + part.len()).min(bytes.len()) };
            bytes.splice(slot..end, part);
        }
        _ => {
            let fresh: Vec<u8> = (0..random.below(9)).map(|_| random.next() as u8).collect();
            bytes.splice(slot..slot, fresh);
        }
    }
    bytes.truncate(INPUT_BYTES_MAX);
}

/// Runs a target once; a failure prints how to repeat it.
fn attempt(name: &str, target: FuzzTarget, seed: u64, input: &[u8]) -> Result<(), &'static str> {
    let begun = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| target(input))).unwrap_or_else(|panic| {
        let _ = writeln!(std::io::stderr(), "fuzz: {name}, seed {seed:#x}, input {}", hex(input));
        resume_unwind(panic)
    });
    assert!(begun.elapsed() < PATIENCE, "{name} takes too long: {}", hex(input));
    outcome
}

fn setting<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name)
        .ok()
        .filter(|text| !text.is_empty())
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// Checks that every input of the corpus decodes, then tries ever more mutated ones until the time is up.
fn fuzz(name: &str, target: FuzzTarget, corpus: Vec<Vec<u8>>) {
    let asked = setting::<f64>("FAMA_FUZZ_SECONDS");
    let budget = Duration::from_secs_f64(asked.unwrap_or(SHORT_SECONDS) / targets::COUNT as f64);
    let seed = setting("FAMA_FUZZ_SEED").unwrap_or(SEED);
    assert!(!corpus.is_empty());
    for input in &corpus {
        assert_eq!(attempt(name, target, seed, input), Ok(()), "{name} reads {}", hex(input));
    }
    let (mut random, mut pool, mut seen) = (FuzzRandom(seed | 1), corpus, BTreeSet::from([Ok(())]));
    let (mut runs, mut read, begun) = (0u64, 0u64, Instant::now());
    while begun.elapsed() < budget || runs < 64 {
        let mut input = random.pick(&pool).clone();
        for _ in 0..=random.below(4) {
            mutate(&mut input, &pool, &mut random);
        }
        let outcome = attempt(name, target, seed, &input);
        runs += 1;
        read += u64::from(outcome.is_ok());
        let fresh = seen.insert(outcome) || (outcome.is_ok() && random.next().is_multiple_of(64));
        if fresh && pool.len() < POOL_MAX {
            pool.push(input);
        }
    }
    if asked.is_some() {
        let codes = seen.len() - 1;
        let _ = writeln!(std::io::stdout(), "fuzz: {name}: {runs} inputs, {read} read, {codes} codes, seed {seed:#x}");
    }
}

macro_rules! fuzzed {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            fuzz(stringify!($name), targets::$name, corpus::$name());
        })*

        #[test]
        fn every_target_is_run() {
            assert_eq!([$(stringify!($name)),*].len(), targets::COUNT);
        }
    };
}

fuzzed! {
    event note entry manifest chain stand equivocation signed_note checkpoint public_path entry_bundle tlog_proof profile_proof map_proof range_proof tree_proof row
    sync_request sync_response gossip submit_request submit_response
    base64 public_key secret_key short_text edge
    login question recipe jws
}

/// Guards against the bound on claimed memory refusing an honest message: decodes the emptiest parts, which take the
/// most memory for their bytes, in every number up to the largest.
#[test]
fn the_emptiest_parts_in_any_number_are_read() {
    use fama_ledger::codec;
    use fama_node::wire;
    for count in [0, 1, 2, 10, 30, 32, 33, 39, 40, 48, 49, 64, 100, 256, 257, 1_000, 4_097] {
        let refused = wire::SubmitResult::Refused(wire::Refusal::new("", ""));
        let response = wire::SubmitResponse(vec![refused; count]);
        assert_eq!(codec::decode(&codec::encode(&response), wire::RESPONSE_BYTES_MAX), Ok(response), "{count}");
        let log = fama_ledger::manifest::LogId { operator: "a.b".parse().unwrap(), generation: 1 };
        let log = wire::LogFrontier {
            log,
            size: 0,
            newest: None,
            cosigned: Vec::new(),
            equivocation: None,
            certificate: None,
        };
        let frontier = wire::Frontier {
            time: fama_tests::START,
            session: wire::Session::default(),
            other: None,
            manifest: 1,
            manifest_hash: fama_ledger::id::ManifestHash([5; 32]),
            logs: vec![log; count],
        };
        let request = wire::SyncRequest::Frontier(frontier);
        assert_eq!(codec::decode(&codec::encode(&request), wire::REQUEST_BYTES_MAX), Ok(request), "{count}");
        let range =
            wire::EntryRange { first: 0, entries: vec![Vec::new(); count], proof: Vec::new(), notes: Vec::new() };
        let response = wire::SyncResponse::Entries(range);
        assert_eq!(codec::decode(&codec::encode(&response), wire::RESPONSE_BYTES_MAX), Ok(response), "{count}");
        let notes = vec![(fama_ledger::id::NoteHash([0; 32]), wire::NoteAnswer::Redacted); count];
        let response = wire::SyncResponse::Notes(notes);
        assert_eq!(codec::decode(&codec::encode(&response), wire::RESPONSE_BYTES_MAX), Ok(response), "{count}");
    }
}

//! Keys of every column family.
use fama_ledger::id::{EventId, Hex, IdentityId, Name, NoteHash};
use fama_ledger::key::PublicKey;
use fama_ledger::manifest::LogId;
use fama_ledger::rows::{Grant, Identity, KeyVersion, MapId, Row, decode_row, text_key};
use fama_ledger::time::Millis;

use super::{History, HistoryItem, SearchedBy, Touch};

/// A log in a key: the first bytes of the BLAKE3 of its name.
pub(super) type Log8 = [u8; 8];

/// The column families, in the order in which RocksDB numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Meta,
    Logs,
    Entries,
    Tiles,
    Rows,
    Events,
    History,
    Touched,
    Given,
    Notes,
    Wanted,
    Heads,
    Manifests,
    Dropped,
    Search,
    Webhooks,
    Scores,
    Used,
}

impl Family {
    pub(super) const ALL: [Self; 18] = [
        Self::Meta,
        Self::Logs,
        Self::Entries,
        Self::Tiles,
        Self::Rows,
        Self::Events,
        Self::History,
        Self::Touched,
        Self::Given,
        Self::Notes,
        Self::Wanted,
        Self::Heads,
        Self::Manifests,
        Self::Dropped,
        Self::Search,
        Self::Webhooks,
        Self::Scores,
        Self::Used,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Logs => "logs",
            Self::Entries => "entries",
            Self::Tiles => "tiles",
            Self::Rows => "rows",
            Self::Events => "events",
            Self::History => "history",
            Self::Touched => "touched",
            Self::Given => "given",
            Self::Notes => "notes",
            Self::Wanted => "wanted",
            Self::Heads => "heads",
            Self::Manifests => "manifests",
            Self::Dropped => "dropped",
            Self::Search => "search",
            Self::Webhooks => "webhooks",
            Self::Scores => "scores",
            Self::Used => "used",
        }
    }
}

pub(super) const META_FORMAT: &[u8] = b"format";
pub(super) const META_FEDERATION: &[u8] = b"federation";

pub(super) const META_USED: &[u8] = b"used";
pub(super) const META_DAY_USAGE: &[u8] = b"day_usage";
pub(super) const META_CHANGES: &[u8] = b"changes";
pub(super) const META_ROLLBACK: &[u8] = b"rollback";
/// Followed by a log.
pub(super) const META_REWOUND: &[u8] = b"rewound";
pub(super) const META_QUICK: &[u8] = b"quick";
/// Prefix of [`redacted`].
pub(super) const META_REDACTED: &[u8] = b"redacted";
/// Prefix of [`stand_copy`].
pub(super) const META_STANDS: &[u8] = b"stand";

pub(super) fn log8(log: &LogId) -> Log8 {
    let [a, b, c, d, e, f, g, h, ..] = text_key(&log.to_string());
    [a, b, c, d, e, f, g, h]
}

pub(super) fn log_state(log: &LogId) -> Vec<u8> {
    [log8(log).as_slice(), &[0]].concat()
}

pub(super) fn log_certified(log: &LogId) -> Vec<u8> {
    [log8(log).as_slice(), &[1]].concat()
}

pub(super) fn log_adopted(log: &LogId) -> Vec<u8> {
    [log8(log).as_slice(), &[2]].concat()
}

pub(super) fn log_base(log: &LogId) -> Vec<u8> {
    [log8(log).as_slice(), &[3]].concat()
}

pub(super) fn quick_offer(log: &LogId) -> Vec<u8> {
    [b"offer".as_slice(), &log8(log)].concat()
}

pub(super) fn quick_parts(log: &LogId) -> Vec<u8> {
    [b"parts".as_slice(), &log8(log)].concat()
}

/// Whether a key of `logs` comes from [`log_adopted`].
pub(super) fn is_adopted(key: &[u8]) -> bool {
    key.get(8..) == Some(&[2])
}

pub(super) fn manifest(version: u32) -> Vec<u8> {
    [[0].as_slice(), &version.to_be_bytes()].concat()
}

pub(super) fn stands() -> Vec<u8> {
    vec![1]
}

pub(super) fn stand(log: Log8) -> Vec<u8> {
    [[1].as_slice(), &log].concat()
}

/// Key in `meta` of the second copy of [`stand`]'s value.
pub(super) fn stand_copy(log: Log8) -> Vec<u8> {
    [META_STANDS, &log].concat()
}

/// The key of [`View::rewound`](super::View::rewound).
pub(super) fn rewound(log: &LogId) -> Vec<u8> {
    [META_REWOUND, &log8(log)].concat()
}

/// Key in `meta` of a note whose text may not be here.
pub(super) fn redacted(hash: &NoteHash) -> Vec<u8> {
    [META_REDACTED, &hash.0].concat()
}

pub(super) fn rival_manifest() -> Vec<u8> {
    vec![2]
}

pub(super) fn entry(log: &LogId, index: u64) -> Vec<u8> {
    [log8(log), index.to_be_bytes()].concat()
}

pub(super) fn tile(log: &LogId, level: u8, index: u64) -> Vec<u8> {
    [log8(log).as_slice(), &[level], &index.to_be_bytes()].concat()
}

pub(super) fn row(map: MapId, key: &[u8]) -> Vec<u8> {
    [map.0.as_slice(), key].concat()
}

pub(super) fn event(event: &EventId, log: &LogId) -> Vec<u8> {
    [event.0.as_slice(), &log8(log)].concat()
}

pub(super) fn given(provider: &IdentityId, subject: &IdentityId) -> Vec<u8> {
    [provider.0, subject.0].concat()
}

pub(super) fn all_touched(touch: Touch) -> Vec<u8> {
    match touch {
        Touch::Subject => vec![0],
        Touch::Sponsorship => vec![1],
    }
}

pub(super) fn touched(identity: &IdentityId, touch: Touch) -> Vec<u8> {
    [all_touched(touch).as_slice(), &identity.0].concat()
}

pub(super) fn score_progress() -> Vec<u8> {
    vec![0]
}

pub(super) fn recounting() -> Vec<u8> {
    vec![1]
}

/// The prefix of [`score`].
pub(super) fn scores() -> Vec<u8> {
    vec![2]
}

pub(super) fn score(subject: &IdentityId) -> Vec<u8> {
    [scores().as_slice(), &subject.0].concat()
}

/// The prefix of [`rank`].
pub(super) fn ranks() -> Vec<u8> {
    vec![3]
}

/// Sorts by descending karma: the sign bit flipped makes the order of the numbers that of their bytes, and all bits
/// flipped turns it around.
pub(super) fn rank(sum: i64, subject: &IdentityId) -> Vec<u8> {
    let descending = !(sum.cast_unsigned() ^ (1 << 63));
    [ranks().as_slice(), &descending.to_be_bytes(), &subject.0].concat()
}

pub(super) fn numbers(provider: &IdentityId) -> Vec<u8> {
    [[4].as_slice(), &provider.0].concat()
}

/// The prefix of [`mark`].
pub(super) fn marks() -> Vec<u8> {
    vec![5]
}

pub(super) fn mark(provider: &IdentityId) -> Vec<u8> {
    [marks().as_slice(), &provider.0].concat()
}

pub(super) fn used(key: &super::UsedKey) -> Vec<u8> {
    key.to_vec()
}

/// A webhook's name has no zero byte.
pub(super) fn webhook(name: &str) -> Vec<u8> {
    [name.as_bytes(), &[0, 0]].concat()
}

/// The prefix of [`dead_letter`].
pub(super) fn dead_letters(name: &str) -> Vec<u8> {
    [name.as_bytes(), &[0, 1]].concat()
}

pub(super) fn dead_letter(name: &str, number: u64) -> Vec<u8> {
    [dead_letters(name).as_slice(), &number.to_be_bytes()].concat()
}

/// The prefix of the keys of what begins with `text`, which has no zero byte.
pub(super) fn searched(by: SearchedBy, text: &str) -> Vec<u8> {
    let kind = match by {
        SearchedBy::Name => 0,
        SearchedBy::Key => 1,
        SearchedBy::KeyHash => 2,
    };
    [[kind].as_slice(), text.as_bytes()].concat()
}

fn search(by: SearchedBy, text: &str, identity: &IdentityId) -> Vec<u8> {
    [searched(by, text).as_slice(), &[0], &identity.0].concat()
}

/// An identity by its name.
pub(super) fn search_name(name: &Name, identity: &IdentityId) -> Vec<u8> {
    search(SearchedBy::Name, name.as_str(), identity)
}

/// An identity by a key that it has or had.
pub(super) fn search_key(key: &PublicKey, identity: &IdentityId) -> [Vec<u8>; 2] {
    [
        search(SearchedBy::Key, &key.to_string(), identity),
        search(SearchedBy::KeyHash, &Hex(&key.hash().0).to_string(), identity),
    ]
}

/// The prefix of [`granted`]: an identity as the subject of grants.
pub(super) fn granted_to(subject: &IdentityId) -> Vec<u8> {
    [[3].as_slice(), &subject.0].concat()
}

/// An identity as the subject of a grant, and the issuer. It stays when the grant is withdrawn.
pub(super) fn granted(subject: &IdentityId, issuer: &IdentityId) -> Vec<u8> {
    [granted_to(subject).as_slice(), &issuer.0].concat()
}

/// The keys of `search` that follow from a row of a state map.
pub(super) fn search_row(key: &[u8], value: &[u8]) -> Vec<Vec<u8>> {
    let Some((tag, rest)) = key.split_first() else { return Vec::new() };
    let Some(identity) = rest.first_chunk().map(|id| EventId(*id)) else { return Vec::new() };
    match *tag {
        Identity::TAG => match decode_row::<Identity, ()>(value) {
            Ok(row) => vec![search_name(&row.name, &identity)],
            Err(_) => Vec::new(),
        },
        KeyVersion::TAG => match decode_row::<KeyVersion, ()>(value) {
            Ok(row) => search_key(&row.key, &identity).to_vec(),
            Err(_) => Vec::new(),
        },
        Grant::TAG => {
            let subject = rest.get(32..).and_then(|rest| rest.first_chunk()).map(|id| EventId(*id));
            subject.map(|subject| granted(&subject, &identity)).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

/// Differs from every [`cosigned`] key: no domain begins with byte 0.
pub(super) fn conflicting(log: &LogId) -> Vec<u8> {
    [log8(log).as_slice(), &[0]].concat()
}

/// Differs from every [`cosigned`] key: no domain begins with byte 1.
pub(super) fn equivocation(log: &LogId) -> Vec<u8> {
    [log8(log).as_slice(), &[1]].concat()
}

/// Differs from every [`cosigned`] key: no domain begins with byte 2.
pub(super) fn certificate(log: &LogId) -> Vec<u8> {
    [log8(log).as_slice(), &[2]].concat()
}

/// Differs from every [`cosigned`] key, and is before them: no domain begins with byte 3. Here because a rebuild of
/// what follows from the entries leaves this family alone.
pub(super) fn lateness(log: &LogId) -> Vec<u8> {
    [log8(log).as_slice(), &[3]].concat()
}

pub(super) fn cosigned(log: &LogId, by: &LogId) -> Vec<u8> {
    [log8(log).as_slice(), by.to_string().as_bytes()].concat()
}

pub(super) fn history(identity: &IdentityId, history: History) -> Vec<u8> {
    let kind = match history {
        History::Keys => 0,
        History::Received => 1,
        History::Given => 2,
        History::Stated => 3,
        History::Access => 4,
    };
    [identity.0.as_slice(), &[kind]].concat()
}

/// The part of the key after [`history`]. No domain has a zero byte, so keys sort as operators do.
pub(super) fn history_item(item: &HistoryItem) -> Vec<u8> {
    let HistoryItem { time, log, index } = item;
    let operator = log.operator.as_str().as_bytes();
    [&time.0.to_be_bytes(), operator, &[0], &log.generation.to_be_bytes(), &index.to_be_bytes()].concat()
}

/// The inverse of [`history_item`].
pub(super) fn parse_history_item(bytes: &[u8]) -> Option<HistoryItem> {
    let (time, rest) = bytes.split_first_chunk()?;
    let (rest, index) = rest.split_last_chunk()?;
    let (rest, generation) = rest.split_last_chunk()?;
    let [operator @ .., 0] = rest else { return None };
    let operator = std::str::from_utf8(operator).ok()?.parse().ok()?;
    let log = LogId { operator, generation: u32::from_be_bytes(*generation) };
    Some(HistoryItem { time: Millis(u64::from_be_bytes(*time)), log, index: u64::from_be_bytes(*index) })
}

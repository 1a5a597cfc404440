//! Up to where each log was read: what events of `/api/stream` have as their id, and access tokens as a claim.
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use base64ct::{Base64UrlUnpadded, Encoding};

use crate::manifest::{LogId, Manifest};

/// Why a text is no frontier for this reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrontierError {
    /// No node of the federation writes this.
    #[error("not a frontier of this federation")]
    Malformed,
    /// It is of a version of the manifest that the reader does not hold.
    #[error("it is of version {0} of the manifest, which is not held here")]
    LaterVersion(u32),
}

/// Sizes of logs: how many entries of each were read. A log that is not in it was not read at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier(BTreeMap<LogId, u64>);

impl FromIterator<(LogId, u64)> for Frontier {
    fn from_iter<I: IntoIterator<Item = (LogId, u64)>>(sizes: I) -> Self {
        Self(sizes.into_iter().collect())
    }
}

impl IntoIterator for Frontier {
    type Item = (LogId, u64);
    type IntoIter = alloc::collections::btree_map::IntoIter<LogId, u64>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl Frontier {
    /// How many entries of this log were read.
    #[must_use]
    pub fn of(&self, log: &LogId) -> u64 {
        self.0.get(log).copied().unwrap_or(0)
    }

    /// So many entries of this log were read.
    pub fn set(&mut self, log: &LogId, size: u64) {
        self.0.insert(log.clone(), size);
    }

    /// How many entries there are from here to `goal`.
    #[must_use]
    pub fn behind(&self, goal: &Self) -> u64 {
        let missing = goal.0.iter().map(|(log, size)| size.saturating_sub(self.of(log)));
        missing.fold(0, u64::saturating_add)
    }

    /// Whether more of some log was read here than there.
    #[must_use]
    pub fn is_beyond(&self, other: &Self) -> bool {
        self.0.iter().any(|(log, size)| *size > other.of(log))
    }

    /// `<version>.<sizes>`: the sizes of the logs of that version of the manifest, in its order, as LEB128 in base64url.
    #[must_use]
    pub fn text(&self, manifest: &Manifest) -> String {
        let mut bytes = Vec::with_capacity(self.0.len().saturating_mul(4));
        for log in manifest.logs().keys() {
            let mut rest = self.of(log);
            while rest >= 0x80 {
                bytes.push((rest & 0x7f) as u8 | 0x80);
                rest >>= 7;
            }
            bytes.push((rest & 0x7f) as u8);
        }
        format!("{}.{}", manifest.version(), Base64UrlUnpadded::encode_string(&bytes))
    }

    /// Reads what [`Frontier::text`] wrote, at any node of this federation.
    ///
    /// # Errors
    /// [`FrontierError`].
    pub fn parse(text: &str, manifest: &Manifest) -> Result<Self, FrontierError> {
        let wrong = FrontierError::Malformed;
        let (version, sizes) = text.split_once('.').ok_or(wrong)?;
        // As it is written: no sign, no zero in front.
        if !version.starts_with(|first: char| first.is_ascii_digit() && first != '0') {
            return Err(wrong);
        }
        let version: u32 = version.parse().map_err(|_| wrong)?;
        if version > manifest.version() {
            return Err(FrontierError::LaterVersion(version));
        }
        let known = manifest.at(version).ok_or(wrong)?;
        let bytes = Base64UrlUnpadded::decode_vec(sizes).map_err(|_| wrong)?;
        let (mut bytes, mut found) = (bytes.into_iter(), BTreeMap::new());
        for log in known.logs().keys() {
            let (mut size, mut shift) = (0u64, 0u32);
            loop {
                let byte = bytes.next().filter(|_| shift < 63).ok_or(wrong)?;
                size |= u64::from(byte & 0x7f) << shift;
                shift = shift.saturating_add(7);
                if byte & 0x80 == 0 {
                    break;
                }
            }
            found.insert(log.clone(), size);
        }
        if bytes.next().is_some() { Err(wrong) } else { Ok(Self(found)) }
    }
}

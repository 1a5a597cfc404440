//! Bits of keys, counted from the most significant bit of byte 0, and the hashes of leaves and inner nodes.

/// Longest key of a row, in bytes. Limits the depth of the tree, and so every recursion, to 1,024.
pub const KEY_BYTES_MAX: usize = 128;

/// A BLAKE3-256 hash.
pub(super) type NodeHash = [u8; 32];

/// The part of a row's value that its leaf holds: BLAKE3 of the encoded value.
#[must_use]
pub fn value_hash(value: &[u8]) -> [u8; 32] {
    *blake3::hash(value).as_bytes()
}

/// Whether bit `index` of `key` is 1; bits past the end are 0.
pub(super) fn bit(key: &[u8], index: u16) -> bool {
    key.get(usize::from(index / 8)).is_some_and(|byte| byte & 0x80u8.wrapping_shr(u32::from(index % 8)) != 0)
}

/// The length of `key` in bits; keys are at most [`KEY_BYTES_MAX`] bytes.
pub(super) fn bits(key: &[u8]) -> u16 {
    u16::try_from(key.len()).unwrap_or(u16::MAX).saturating_mul(8)
}

/// How many leading bits `a` and `b` share: at most all bits of the shorter one.
pub(super) fn common_bits(a: &[u8], b: &[u8]) -> u16 {
    let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let (whole, rest) = (a.get(..same).map_or(0, bits), a.get(same).zip(b.get(same)));
    let partial = rest.map_or(0, |(a, b)| (a ^ b).leading_zeros());
    whole.saturating_add(u16::try_from(partial).unwrap_or(8))
}

/// The first `depth` bits of `key`: the whole bytes, then the last partial byte, if any, zero-padded.
pub(super) fn prefix(key: &[u8], depth: u16) -> (&[u8], Option<u8>) {
    let (whole, rest) = key.split_at_checked(usize::from(depth / 8)).unwrap_or((key, &[]));
    let unused = 0xffu8.wrapping_shr(u32::from(depth % 8));
    (whole, rest.first().filter(|_| unused != 0xff).map(|byte| byte & !unused))
}

/// BLAKE3(0x00 ‖ key length ‖ key ‖ value hash).
pub(super) fn leaf_hash(key: &[u8], value: &NodeHash) -> NodeHash {
    let length = u16::try_from(key.len()).unwrap_or(u16::MAX);
    hash([&[0], &length.to_le_bytes(), key, value, &[]])
}

/// BLAKE3(0x01 ‖ depth ‖ first `depth` bits of `key`, zero-padded ‖ left ‖ right).
pub(super) fn inner_hash(depth: u16, key: &[u8], left: &NodeHash, right: &NodeHash) -> NodeHash {
    let (whole, partial) = prefix(key, depth);
    let [low, high] = depth.to_le_bytes();
    hash([&[1, low, high], whole, partial.as_slice(), left, right])
}

/// The hash of the concatenated parts, which together are no longer than the largest inner node.
fn hash(parts: [&[u8]; 5]) -> NodeHash {
    let mut buffer = [0; 3 + KEY_BYTES_MAX + 64];
    let mut length = 0usize;
    for part in parts {
        let end = length.saturating_add(part.len());
        buffer.get_mut(length..end).expect("keys are at most KEY_BYTES_MAX bytes").copy_from_slice(part);
        length = end;
    }
    value_hash(buffer.get(..length).expect("what was just filled"))
}

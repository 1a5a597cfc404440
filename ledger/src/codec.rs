//! The ledger's binary format: bincode, little-endian, fixed-width integers, decoded strictly.
use alloc::vec::Vec;

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bincode::{Decode, Encode};

/// Why bytes were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Longer than the bound for this kind of value.
    #[error("{len} bytes, at most {max} allowed")]
    TooLong {
        /// Length of the input.
        len: usize,
        /// Largest length allowed.
        max: usize,
    },
    /// Truncated, an unknown variant, or a length beyond the input.
    #[error("truncated bytes, an unknown variant, or a length beyond the input")]
    Malformed,
    /// Bytes after the value, or another encoding of the same value.
    #[error("trailing bytes or not the canonical encoding")]
    NotCanonical,
    /// A field of the decoded value breaks a rule of its type.
    #[error("a field breaks a rule of its type")]
    Field,
}

impl CodecError {
    /// A stable code for answers, logs and metrics.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::TooLong { .. } => "too_long",
            Self::Malformed => "malformed_encoding",
            Self::NotCanonical => "not_canonical",
            Self::Field => "malformed_field",
        }
    }
}

type Strict<const N: usize> = Configuration<LittleEndian, Fixint, Limit<N>>;

const fn strict<const N: usize>() -> Strict<N> {
    bincode::config::standard().with_little_endian().with_fixed_int_encoding().with_limit::<N>()
}

/// Most memory that decoding or encoding one value may claim, in bytes.
const CLAIM_BYTES_MAX: usize = 1 << 28;

/// The bytes of `value`.
///
/// # Panics
/// Never for the types of this crate: none has a value that the format cannot express.
#[must_use]
pub fn encode<T: Encode>(value: &T) -> Vec<u8> {
    bincode::encode_to_vec(value, strict::<CLAIM_BYTES_MAX>()).expect("our types have no unencodable part")
}

/// Decodes `bytes`, all of them, and refuses any encoding that [`encode`] would not have made.
///
/// Before it has read the content, decoding claims at most 64 times the input's length in memory, or 8 KiB.
///
/// # Errors
/// [`CodecError`]: the sender of the bytes is at fault.
pub fn decode<T: Decode<()> + Encode>(bytes: &[u8], max: usize) -> Result<T, CodecError> {
    let value = decode_written(bytes, max)?;
    if encode(&value) == bytes { Ok(value) } else { Err(CodecError::NotCanonical) }
}

/// Decodes `bytes`, all of them, which this program's [`encode`] made, or which a hash that honest nodes agree on covers:
/// does not encode them again to compare.
///
/// # Errors
/// Those of [`decode`]: storage is broken.
pub fn decode_written<T: Decode<()>>(bytes: &[u8], max: usize) -> Result<T, CodecError> {
    let len = bytes.len();
    if len > max {
        return Err(CodecError::TooLong { len, max });
    }
    // In memory a value takes at most about eight times its encoded length (a Vec of short strings),
    // so each limit is eight times the longest input of its step.
    let (value, used) = match len {
        0..=0x400 => bincode::decode_from_slice(bytes, strict::<0x2000>()),
        0x401..=0x2000 => bincode::decode_from_slice(bytes, strict::<0x1_0000>()),
        0x2001..=0x1_0000 => bincode::decode_from_slice(bytes, strict::<0x8_0000>()),
        0x1_0001..=0x8_0000 => bincode::decode_from_slice(bytes, strict::<0x40_0000>()),
        0x8_0001..=0x40_0000 => bincode::decode_from_slice(bytes, strict::<0x200_0000>()),
        _ => bincode::decode_from_slice(bytes, strict::<CLAIM_BYTES_MAX>()),
    }
    .map_err(|_| CodecError::Malformed)?;
    if used == len { Ok(value) } else { Err(CodecError::NotCanonical) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use alloc::vec;

    #[test]
    fn strict() {
        let bytes = encode(&vec![String::from("ab"), String::new()]);
        assert_eq!(bytes, [2, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, b'a', b'b', 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(decode::<Vec<String>>(&bytes, 64), Ok(vec![String::from("ab"), String::new()]));
        assert_eq!(decode::<Vec<String>>(&bytes, 8), Err(CodecError::TooLong { len: 26, max: 8 }));
        for end in 0..bytes.len() {
            assert_eq!(decode::<Vec<String>>(&bytes[..end], 64), Err(CodecError::Malformed), "cut at {end}");
        }
        let mut longer = bytes;
        longer.push(0);
        assert_eq!(decode::<Vec<String>>(&longer, 64), Err(CodecError::NotCanonical));
        assert_eq!(decode::<Vec<u8>>(&u64::MAX.to_le_bytes(), 64), Err(CodecError::Malformed));
    }

    /// A 256 KiB input with one false length could claim 256 MiB, because the steps were too far apart.
    /// Only the limit can be observed from outside, through values with large elements.
    #[test]
    fn claims_are_bounded_by_the_input() {
        for len in [1_025, 8_193, 65_537, 262_145, 524_289, 4_194_305] {
            let elements = len - 8;
            let greedy = encode(&vec![None::<[u8; 64]>; elements]);
            assert_eq!(greedy.len(), len);
            assert_eq!(decode::<Vec<Option<[u8; 64]>>>(&greedy, len), Err(CodecError::Malformed), "{len}");
            let modest = vec![None::<[u8; 6]>; elements];
            assert_eq!(decode(&encode(&modest), len), Ok(modest), "{len}");
        }
    }
}

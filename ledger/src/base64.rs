//! Base64: a lenient decoder for input, one canonical encoding for output.
use alloc::string::String;
use alloc::vec::Vec;

use base64ct::{Base64, Base64Unpadded, Encoding};
use k256::elliptic_curve::zeroize::Zeroizing;

/// Longest text that [`decode_lenient`] accepts, in bytes, white space included.
pub const TEXT_BYTES_MAX: usize = 4_096;

/// Decodes the standard or the URL-safe alphabet, padded or not, with ASCII white space anywhere.
///
/// `None` for anything else: a mix of both alphabets, wrong padding, non-zero bits after the last
/// byte, or a text above [`TEXT_BYTES_MAX`]. Wipes its copy of the text, which may be a secret.
#[must_use]
pub fn decode_lenient(text: &str) -> Option<Vec<u8>> {
    if text.len() > TEXT_BYTES_MAX || mixes_alphabets(text) {
        return None;
    }
    let mut plain = Zeroizing::new(String::with_capacity(text.len()));
    plain.extend(text.chars().filter(|c| !c.is_ascii_whitespace()).map(to_standard));
    if plain.ends_with('=') { Base64::decode_vec(&plain).ok() } else { Base64Unpadded::decode_vec(&plain).ok() }
}

/// Encodes in the standard alphabet, padded, on one line.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    Base64::encode_string(bytes)
}

fn mixes_alphabets(text: &str) -> bool {
    text.contains(['-', '_']) && text.contains(['+', '/'])
}

const fn to_standard(c: char) -> char {
    match c {
        '-' => '+',
        '_' => '/',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts() {
        let table: [(&str, Option<&[u8]>); 15] = [
            ("", Some(b"")),
            ("+/8=", Some(b"\xfb\xff")),
            ("-_8", Some(b"\xfb\xff")),
            ("-_8=", Some(b"\xfb\xff")),
            (" +\r\n/\t8 = \n", Some(b"\xfb\xff")),
            ("QUI=", Some(b"AB")),
            ("QQ==", Some(b"A")),
            ("QQ", Some(b"A")),
            ("+_8=", None),
            ("QQ=", None),
            ("QQ===", None),
            ("QR==", None),
            ("Q", None),
            ("Q\u{a0}Q", None),
            ("=", None),
        ];
        for (text, want) in table {
            assert_eq!(decode_lenient(text).as_deref(), want, "{text:?}");
        }
    }

    #[test]
    fn length_is_bounded() {
        assert!(decode_lenient(&"A".repeat(TEXT_BYTES_MAX)).is_some());
        assert_eq!(decode_lenient(&"A".repeat(TEXT_BYTES_MAX + 4)), None);
        assert_eq!(decode_lenient(&" ".repeat(TEXT_BYTES_MAX + 1)), None);
    }

    proptest! {
        #[test]
        fn comes_back_in_any_dress(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let text = encode(&bytes);
            let url_safe = text.replace('+', "-").replace('/', "_");
            for dressed in [&text, &url_safe, &alloc::string::String::from(url_safe.trim_end_matches('='))] {
                prop_assert_eq!(decode_lenient(dressed), Some(bytes.clone()));
            }
        }

        #[test]
        fn never_panics(text in ".{0,100}") {
            let _ = decode_lenient(&text);
        }
    }
}

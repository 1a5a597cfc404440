//! Signed notes: text followed by signature lines (c2sp.org/signed-note).
use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use base64ct::{Base64, Encoding};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

use crate::id::Hex;

/// Type byte of a plain Ed25519 signature over the text.
pub const ED25519: u8 = 0x01;
/// Type byte of a timestamped Ed25519 cosignature of a checkpoint.
pub const COSIGNATURE: u8 = 0x04;
/// Most signature lines in a note.
pub const SIGNATURES_MAX: usize = 128;

/// Why a text is not a signed note, or not signed by the expected key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoteError {
    /// Longer than the caller allows.
    #[error("note is longer than {bytes_max} bytes")]
    TooLong {
        /// The bound, in bytes.
        bytes_max: usize,
    },
    /// Not UTF-8, or with a control character other than newline.
    #[error("want UTF-8 without control characters other than newline")]
    Text,
    /// No empty line between text and signatures, or no signature, or no newline at the end.
    #[error("want text, an empty line and signature lines, each ended by a newline")]
    Form,
    /// More than [`SIGNATURES_MAX`] signature lines.
    #[error("note has more than {SIGNATURES_MAX} signatures")]
    TooMany,
    /// A signature line that is not `— <name> <base64>`.
    #[error("malformed signature line")]
    Line,
    /// No signature with this name and key id.
    #[error("no signature by this key of {name}")]
    Unsigned {
        /// The key's name.
        name: String,
    },
    /// A signature with this name and key id is invalid.
    #[error("invalid signature by {name}")]
    Signature {
        /// The key's name.
        name: String,
    },
}

impl NoteError {
    /// A stable code for answers, logs and metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "note_too_long",
            Self::Text => "note_text",
            Self::Form => "note_form",
            Self::TooMany => "note_signatures",
            Self::Line => "note_signature_line",
            Self::Unsigned { .. } => "note_unsigned",
            Self::Signature { .. } => "note_signature",
        }
    }
}

/// One signature line, unverified.
#[derive(Clone, PartialEq, Eq)]
pub struct NoteSignature {
    /// The key's name: not empty, no white space, no `+`.
    pub name: String,
    /// Short hash of name, type and key; see [`key_id`].
    pub key_id: [u8; 4],
    /// The payload that the key's type defines; at least one byte.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for NoteSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NoteSignature({} {})", self.name, Hex(&self.key_id))
    }
}

/// A text with unverified signatures. `Display` writes exactly the bytes of the note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedNote {
    /// Ends with a newline, and contains no control characters but newlines.
    pub text: String,
    /// At least one, in the order of their lines.
    pub signatures: Vec<NoteSignature>,
}

/// Decodes base64; `None` unless the bytes encode back to the same text.
pub(crate) fn from_base64(text: &str) -> Option<Vec<u8>> {
    Base64::decode_vec(text).ok().filter(|bytes| Base64::encode_string(bytes) == text)
}

/// The id by which a signature line names its key.
#[must_use]
pub fn key_id(name: &str, type_byte: u8, public_key: &[u8]) -> [u8; 4] {
    let hash = Sha256::new().chain_update(name).chain_update([b'\n', type_byte]).chain_update(public_key).finalize();
    let [a, b, c, d, ..] = <[u8; 32]>::from(hash);
    [a, b, c, d]
}

/// Signs a note's text with a plain Ed25519 key called `name`.
#[must_use]
pub fn sign(text: &str, name: &str, key: &SigningKey) -> NoteSignature {
    NoteSignature {
        name: name.to_owned(),
        key_id: key_id(name, ED25519, key.verifying_key().as_bytes()),
        bytes: key.sign(text.as_bytes()).to_bytes().to_vec(),
    }
}

impl SignedNote {
    /// Reads a note strictly: what is read displays as exactly these bytes. Also refuses DEL and C1
    /// controls, which the format allows.
    ///
    /// # Errors
    /// [`NoteError`] for anything else, or for more than `bytes_max` bytes.
    pub fn parse(note: &[u8], bytes_max: usize) -> Result<Self, NoteError> {
        if note.len() > bytes_max {
            return Err(NoteError::TooLong { bytes_max });
        }
        let note = core::str::from_utf8(note).map_err(|_| NoteError::Text)?;
        if note.chars().any(|c| c.is_control() && c != '\n') {
            return Err(NoteError::Text);
        }
        let (body, lines) = note.rsplit_once("\n\n").ok_or(NoteError::Form)?;
        let lines = lines.strip_suffix('\n').ok_or(NoteError::Form)?;
        if lines.split('\n').count() > SIGNATURES_MAX {
            return Err(NoteError::TooMany);
        }
        let signatures =
            lines.split('\n').map(|line| parse_line(line).ok_or(NoteError::Line)).collect::<Result<_, _>>()?;
        Ok(Self { text: [body, "\n"].concat(), signatures })
    }

    /// The bytes of all signatures that name this key, in the order of their lines.
    pub(crate) fn signatures_of<'a>(&'a self, name: &'a str, key_id: [u8; 4]) -> impl Iterator<Item = &'a [u8]> {
        let ours = move |line: &&NoteSignature| line.name == name && line.key_id == key_id;
        self.signatures.iter().filter(ours).map(|line| line.bytes.as_slice())
    }

    /// Checks the plain Ed25519 signature of a known key. Lines of other names and keys are ignored.
    ///
    /// # Errors
    /// [`NoteError::Unsigned`] if no signature names this key, [`NoteError::Signature`] if one
    /// that names it is invalid.
    pub fn verify(&self, name: &str, key: &VerifyingKey) -> Result<(), NoteError> {
        let mut found = false;
        for bytes in self.signatures_of(name, key_id(name, ED25519, key.as_bytes())) {
            let holds = |signature| key.verify_strict(self.text.as_bytes(), &signature).is_ok();
            if !Signature::from_slice(bytes).is_ok_and(holds) {
                return Err(NoteError::Signature { name: name.to_string() });
            }
            found = true;
        }
        if found { Ok(()) } else { Err(NoteError::Unsigned { name: name.to_string() }) }
    }
}

fn parse_line(line: &str) -> Option<NoteSignature> {
    let (name, base64) = line.strip_prefix("— ")?.split_once(' ')?;
    let name_ok = !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == '+');
    let decoded = from_base64(base64)?;
    let (key_id, bytes) = decoded.split_first_chunk::<4>()?;
    (name_ok && !bytes.is_empty()).then(|| NoteSignature {
        name: name.to_owned(),
        key_id: *key_id,
        bytes: bytes.to_vec(),
    })
}

impl fmt::Display for SignedNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        for line in &self.signatures {
            let bytes = [line.key_id.as_slice(), &line.bytes].concat();
            writeln!(f, "— {} {}", line.name, Base64::encode_string(&bytes))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    /// The example from the format's specification, which does not publish the key.
    const EXAMPLE: &str = "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito sera.\n\n\
         — quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=\n";

    fn parse(text: &str) -> Result<SignedNote, NoteError> {
        SignedNote::parse(text.as_bytes(), 4_096)
    }

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    #[test]
    fn example_of_the_specification() {
        let note = parse(EXAMPLE).unwrap();
        assert_eq!(note.to_string(), EXAMPLE);
        assert!(note.text.ends_with(":\n\ned è subito sera.\n"));
        let [line] = note.signatures.as_slice() else { panic!("one signature") };
        assert_eq!((line.name.as_str(), line.bytes.len()), ("quasimodo.example/salvatore", 64));
    }

    #[test]
    fn only_notes_are_read_and_each_reads_back() {
        let lines = |count: usize| format!("a\n\n{}", "— x AAAAAAA=\n".repeat(count));
        for good in [&*lines(1), &*lines(SIGNATURES_MAX), "\n\n— x AAAAAAA=\n", "a\n\n\n\nb\n\n\n— é AAAAAAA=\n"] {
            assert_eq!(parse(good).unwrap().to_string(), good);
        }
        let check = |note: &str, expect: NoteError| assert_eq!(parse(note), Err(expect), "{note:?}");
        check("", NoteError::Form);
        check("a\n", NoteError::Form);
        check("a\n\n", NoteError::Form);
        check("a\n— x AAAAAAA=\n", NoteError::Form);
        check("a\n\n— x AAAAAAA=", NoteError::Form);
        check("a\r\n\n— x AAAAAAA=\n", NoteError::Text);
        check("a\u{7f}\n\n— x AAAAAAA=\n", NoteError::Text);
        check("a\t\n\n— x AAAAAAA=\n", NoteError::Text);
        check(&lines(SIGNATURES_MAX + 1), NoteError::TooMany);
        check(&"a".repeat(4_097), NoteError::TooLong { bytes_max: 4_096 });
        for line in [
            "- x AAAAAAA=",
            "—  AAAAAAA=",
            "— x+y AAAAAAA=",
            "— x\u{a0}y AAAAAAA=",
            "— x y AAAAAAA=",
            "— x  AAAAAAA=",
            "— x",
            "— x ",
            "— x AAAAAAB=",
            "— x AAAAAAA",
            "— x AAAAAA==",
            "— x ====",
            "— x AAAAAAA= ",
            "— x AAAA_AA=",
        ] {
            check(&format!("a\n\n{line}\n"), NoteError::Line);
        }
        assert_eq!(SignedNote::parse(b"\xff\n\n", 10), Err(NoteError::Text));
    }

    #[test]
    fn signatures_of_known_keys_must_hold() {
        let text = "what\nis signed\n";
        let (ours, theirs) = (sign(text, "a.example", &key(1)), sign(text, "b.example", &key(2)));
        let note = |signatures: &[&NoteSignature]| SignedNote {
            text: text.to_owned(),
            signatures: signatures.iter().map(|line| (*line).clone()).collect(),
        };
        let verify = |note: &SignedNote| note.verify("a.example", &key(1).verifying_key());
        let (unsigned, wrong) = (
            Err(NoteError::Unsigned { name: "a.example".to_owned() }),
            Err(NoteError::Signature { name: "a.example".to_owned() }),
        );
        let spoiled = NoteSignature { bytes: theirs.bytes.clone(), ..ours.clone() };
        let short = NoteSignature { bytes: ours.bytes[..63].to_vec(), ..ours.clone() };
        let other_id = NoteSignature { key_id: [0; 4], ..spoiled.clone() };
        assert_eq!(verify(&note(&[&theirs, &ours])), Ok(()));
        assert_eq!(verify(&note(&[&other_id, &ours])), Ok(()));
        assert_eq!(verify(&note(&[&theirs])), unsigned);
        assert_eq!(verify(&note(&[&other_id])), unsigned);
        assert_eq!(verify(&note(&[&ours, &spoiled])), wrong);
        assert_eq!(verify(&note(&[&ours, &short])), wrong);
        let mut other_text = note(&[&ours]);
        other_text.text.push('\n');
        assert_eq!(verify(&other_text), wrong);
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let signed = SignedNote { text: "a\n".to_owned(), signatures: [sign("a\n", "x", &key(3))].into() }.to_string();
        for at in 0..signed.len() * 8 {
            let mut bytes = signed.clone().into_bytes();
            bytes[at / 8] ^= 1 << (at % 8);
            let holds =
                SignedNote::parse(&bytes, 4_096).is_ok_and(|note| note.verify("x", &key(3).verifying_key()).is_ok());
            assert!(!holds, "bit {at}");
        }
    }
}

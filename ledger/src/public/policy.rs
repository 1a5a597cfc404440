//! The manifest as a c2sp.org/tlog-policy, by which tools that know nothing of Fama can check a head.
use alloc::string::{String, ToString};
use core::fmt::Write;

use base64ct::{Base64, Encoding};
use ed25519_dalek::VerifyingKey;

use crate::id::Hex;
use crate::limits::OPERATORS_MAX;
use crate::manifest::Manifest;
use crate::signed_note::{COSIGNATURE, ED25519, key_id};

/// Longest policy, in bytes.
pub(super) const POLICY_BYTES_MAX: usize = 256 + OPERATORS_MAX * 2_048;

/// A verifier key in the format of c2sp.org/signed-note.
fn verifier_key(name: &str, type_byte: u8, key: &VerifyingKey) -> String {
    let id = key_id(name, type_byte, key.as_bytes());
    let key = [&[type_byte], key.as_bytes().as_slice()].concat();
    [name, "+", &Hex(&id).to_string(), "+", &Base64::encode_string(&key)].concat()
}

/// The policy of this version: its operators' logs, the operators as witnesses, and its quorum.
#[must_use]
pub fn policy(manifest: &Manifest) -> String {
    let (mut logs, mut witnesses, mut members) = (String::new(), String::new(), String::new());
    for operator in manifest.operators() {
        let (name, origin) = (operator.name.as_str(), manifest.origin(&operator.log()).to_string());
        let log = verifier_key(&origin, ED25519, &operator.node_key);
        let witness = verifier_key(name, COSIGNATURE, &operator.node_key);
        writeln!(logs, "log {log}")
            .and_then(|()| writeln!(witnesses, "witness {name} {witness}"))
            .and_then(|()| write!(members, " {name}"))
            .expect("writing to a String cannot fail");
    }
    // No operator has the name "operators": domains have a dot.
    let group = ["group operators ", &manifest.quorum().to_string(), &members, "\nquorum operators\n"];
    [logs, witnesses, group.concat()].concat()
}

//! Verifies the signatures of many events at once, on all cores.
use std::sync::LazyLock;

use fama_ledger::entry::{EntryError, SignedEvent, VerifiedEntry, VerifiedEvent};
use fama_ledger::event::{Action, Event};
use fama_ledger::id::FederationId;
use fama_ledger::key::batch::{Signed, Verifier};
use fama_ledger::key::{PublicKey, Signature, SignatureError};
use rayon::prelude::*;
use secp256k1::Message;
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use sha2::{Digest, Sha256};

/// With fewer signatures than this, libsecp256k1 is faster one by one.
const BATCH_MIN: usize = 64;
/// Fewest and most of what is verified in one piece: a small one saves less, and of a large one, one bad signature has more
/// verified again.
const PIECE_MIN: usize = 64;
const PIECE_MAX: usize = 4_096;

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let mut seed = [0; 32];
    // Without randomness it would do, too: who knows the seed needs 2¹²⁸ attempts.
    if getrandom::fill(&mut seed).is_err() {
        tracing::warn!("the operating system gives no randomness");
    }
    Verifier { seed, alone: verify_one, batch_min: BATCH_MIN }
});

/// What this node verifies with.
#[must_use]
pub fn verifier() -> Verifier {
    *VERIFIER
}

/// [`Signed::verify`] in about half the time: libsecp256k1 finds the key for which the signature holds. With r and the
/// recovery id there is one R, so there is one such key, Q = (s·R − z·G) / r, and it is the signer's exactly if the
/// signature holds with that id.
///
/// # Errors
/// Those of [`Signed::verify`], which decides what this does not find to hold.
pub fn verify_one(signed: &Signed<'_>) -> Result<(), SignatureError> {
    if let (PublicKey::Secp256k1(key), Signature::Secp256k1(bytes)) = (signed.key, signed.signature)
        && is_low(bytes)
        && recovered(signed.message, bytes).is_some_and(|found| found.serialize() == *key)
    {
        return Ok(());
    }
    signed.verify()
}

/// Why an event from outside is none.
pub(crate) enum EdgeError {
    /// The signature holds for none of the keys.
    Signature(SignatureError),
    /// The new key's signature does not hold.
    Countersignature(SignatureError),
    /// The signatures hold, but the event is not one that these signatures make valid.
    Event(EntryError),
}

/// An event with signatures as clients send them ([`Signature::from_edge`]): the first by one of the keys `signers`, the
/// second by the new key of a rotation. Each is verified once.
///
/// # Errors
/// [`EdgeError`].
pub(crate) fn from_edge(
    event: Event,
    signers: &[PublicKey],
    (signature, countersignature): (&[u8], Option<&[u8]>),
    federation: &FederationId,
) -> Result<VerifiedEvent, EdgeError> {
    let text = event.text();
    let mut found = Err(SignatureError::Mismatch);
    for key in signers {
        found = signature_from_edge(key, text.as_bytes(), signature).map(|signature| (*key, signature));
        if found.is_ok() {
            break;
        }
    }
    let (signer, signature) = found.map_err(EdgeError::Signature)?;
    let countersignature = match (countersignature, &event.action) {
        (None, _) => None,
        (Some(second), Action::Rotate { key, .. }) => {
            Some(signature_from_edge(key, text.as_bytes(), second).map_err(EdgeError::Countersignature)?)
        }
        (Some(_), _) => return Err(EdgeError::Countersignature(SignatureError::Malformed)),
    };
    let signed = SignedEvent { event, signer, signature, countersignature };
    // Both were found to hold for the keys and the text that the ledger would take.
    let holds = Verifier { seed: [0; 32], alone: |_| Ok(()), batch_min: usize::MAX };
    let verified = SignedEvent::verify_all(vec![signed], federation, &holds).pop();
    verified.unwrap_or(Err(EntryError::Signature(SignatureError::Mismatch))).map_err(EdgeError::Event)
}

/// [`Signature::from_edge`] in less time for what most clients send, r ‖ s with a low s: the recovery id is the one with
/// which libsecp256k1 finds the signer's key.
///
/// # Errors
/// Those of [`Signature::from_edge`], which decides what this does not find to hold.
fn signature_from_edge(key: &PublicKey, message: &[u8], bytes: &[u8]) -> Result<Signature, SignatureError> {
    if let (PublicKey::Secp256k1(signer), Ok(rs)) = (key, <&[u8; 64]>::try_from(bytes)) {
        let mut whole = [0; 65];
        whole[..64].copy_from_slice(rs);
        // With an id above 1, r would have to be below 2^129.
        for id in [0, 1] {
            whole[64] = id;
            if is_low(&whole) && recovered(message, &whole).is_some_and(|found| found.serialize() == *signer) {
                return Ok(Signature::Secp256k1(whole));
            }
        }
    }
    Signature::from_edge(key, message, bytes)
}

/// The key by which r, s and the recovery id are a signature of the message.
fn recovered(message: &[u8], bytes: &[u8; 65]) -> Option<secp256k1::PublicKey> {
    let [rs @ .., id] = bytes;
    let id = RecoveryId::try_from(i32::from(*id)).ok()?;
    let signature = RecoverableSignature::from_compact(rs, id).ok()?;
    signature.recover_ecdsa(Message::from_digest(Sha256::digest(message).into())).ok()
}

/// Whether s is at most half the group's order.
fn is_low(bytes: &[u8; 65]) -> bool {
    const HALF: [u8; 32] = [
        0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x5d, 0x57,
        0x6e, 0x73, 0x57, 0xa4, 0x50, 0x1d, 0xdf, 0xe9, 0x2f, 0x46, 0x68, 0x1b, 0x20, 0xa0,
    ];
    bytes[32..64] <= HALF[..]
}

/// Decodes entries and verifies their signatures, on all cores: those before the first invalid one, and why that one is.
///
/// However many a stranger sends, no more than some thousands are held decoded beyond it.
#[must_use]
pub fn decode_all(entries: Vec<Vec<u8>>, federation: &FederationId) -> (Vec<VerifiedEntry>, Option<EntryError>) {
    let (mut good, mut entries) = (Vec::new(), entries.into_iter());
    loop {
        let some: Vec<Vec<u8>> = entries.by_ref().take(PIECE_MAX * rayon::current_num_threads()).collect();
        if some.is_empty() {
            return (good, None);
        }
        for decoded in in_pieces(some, |piece| VerifiedEntry::decode_all(piece, federation, &VERIFIER)) {
            match decoded {
                Ok(entry) => good.push(entry),
                Err(error) => return (good, Some(error)),
            }
        }
    }
}

/// [`SignedEvent::verify`] of each.
#[must_use]
pub fn verify_all(events: Vec<SignedEvent>, federation: &FederationId) -> Vec<Result<VerifiedEvent, EntryError>> {
    in_pieces(events, |piece| SignedEvent::verify_all(piece, federation, &VERIFIER))
}

fn in_pieces<T: Send, R: Send>(all: Vec<T>, verify: impl Fn(Vec<T>) -> Vec<R> + Send + Sync) -> Vec<R> {
    let size = all.len().div_ceil(rayon::current_num_threads()).clamp(PIECE_MIN, PIECE_MAX);
    if all.len() <= size {
        return verify(all);
    }
    // Each piece is a vector of its own: a part that is split off would keep the room of the whole.
    let (mut all, mut pieces) = (all.into_iter(), Vec::new());
    loop {
        let piece: Vec<T> = all.by_ref().take(size).collect();
        if piece.is_empty() {
            return pieces.into_par_iter().flat_map_iter(verify).collect();
        }
        pieces.push(piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What fits into one answer of a peer: entries of no bytes at all.
    #[test]
    fn more_empty_entries_than_an_honest_range_has_cost_little() {
        let begun = std::time::Instant::now();
        let federation = FederationId([1; 32]);
        let (good, fault) = decode_all(vec![Vec::new(); 2_600_000], &federation);
        assert!(good.is_empty() && fault.is_some());
        assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
    }

    #[test]
    fn a_signature_from_outside_becomes_the_same_as_in_the_ledger() {
        use fama_ledger::key::Curve;
        use fama_ledger::secret::SecretKey;

        let mut ids = std::collections::BTreeSet::new();
        for seed in 1..=40 {
            for curve in [Curve::Secp256k1, Curve::Ed25519] {
                let (key, message) = (SecretKey::from_seed(curve, &[seed; 32]).unwrap(), [seed, 7]);
                let (public, signature) = (key.public(), key.sign(&message));
                let bytes = signature.as_bytes();
                ids.insert(bytes.get(64).copied());
                assert_eq!(signature_from_edge(&public, &message, &bytes[..64]), Ok(signature));
                let other = SecretKey::from_seed(curve, &[99; 32]).unwrap().public();
                let mut high = <[u8; 64]>::try_from(&bytes[..64]).unwrap();
                if let Ok(given) = k256::ecdsa::Signature::from_slice(&high)
                    && curve == Curve::Secp256k1
                {
                    let (r, s) = given.split_scalars();
                    let whole = k256::ecdsa::Signature::from_scalars(*r, -*s).unwrap();
                    high.copy_from_slice(&whole.to_bytes());
                    assert_eq!(signature_from_edge(&public, &message, &high), Ok(signature));
                    let der = given.to_der();
                    assert_eq!(signature_from_edge(&public, &message, der.as_bytes()), Ok(signature));
                }
                for (key, message, bytes) in [
                    (&public, &[seed, 8], &bytes[..64]),
                    (&other, &message, &bytes[..64]),
                    (&public, &message, &[0; 64]),
                    (&public, &message, &[0xff; 64]),
                    (&public, &message, &bytes[..63]),
                ] {
                    assert_eq!(signature_from_edge(key, message, bytes), Signature::from_edge(key, message, bytes));
                    assert!(signature_from_edge(key, message, bytes).is_err());
                }
            }
        }
        assert_eq!(ids, [None, Some(0), Some(1)].into());
    }

    #[test]
    fn an_event_from_outside_is_taken_if_the_ledger_takes_it() {
        use fama_ledger::event::Nonce;
        use fama_ledger::id::EventId;
        use fama_ledger::key::Curve;
        use fama_ledger::secret::SecretKey;
        use fama_ledger::time::Millis;

        let federation = FederationId([1; 32]);
        let keys: Vec<SecretKey> = [(Curve::Secp256k1, 1), (Curve::Secp256k1, 2), (Curve::Ed25519, 3)]
            .map(|(curve, seed)| SecretKey::from_seed(curve, &[seed; 32]).unwrap())
            .into();
        let (home, id, key) = ("alpha.example".parse().unwrap(), EventId([7; 32]), keys[0].public());
        let rotation =
            |key| Action::Rotate { home: "alpha.example".parse().unwrap(), identity: id, version: 2, key, next: None };
        let actions = [
            Action::Register { home, name: "agent".parse().unwrap(), key, next: None, note: None },
            rotation(key),
            rotation(keys[2].public()),
        ];
        let (mut taken, mut refused) = (0, 0);
        for (action, federation_of) in actions.into_iter().flat_map(|one| [(one.clone(), [1; 32]), (one, [2; 32])]) {
            let nonce = Nonce([0; 8]);
            let event = Event { federation: FederationId(federation_of), action, created: Millis::FIRST, nonce };
            let signatures: Vec<_> = keys.iter().map(|key| key.sign(event.text().as_bytes())).collect();
            for (signer, by) in (0..3).flat_map(|signer| (0..3).map(move |by| (signer, by))) {
                for second in [None, Some(0), Some(1), Some(2)] {
                    let (signer, signature) = (keys[signer].public(), signatures[by]);
                    let countersignature = second.map(|second: usize| signatures[second]);
                    let given = countersignature.as_ref().map(|second| &second.as_bytes()[..64]);
                    let found = from_edge(event.clone(), &[signer], (&signature.as_bytes()[..64], given), &federation);
                    let signed = SignedEvent { event: event.clone(), signer, signature, countersignature };
                    let wanted = signed.verify(&federation);
                    (taken, refused) = if wanted.is_ok() { (taken + 1, refused) } else { (taken, refused + 1) };
                    assert_eq!(found.ok(), wanted.ok());
                }
            }
        }
        assert!(taken >= 6 && refused > 100, "{taken} taken, {refused} refused");
    }

    #[test]
    fn pieces_stay_in_order() {
        for count in [0, 1, 63, 64, 65, 1_000, 20_000] {
            let all: Vec<usize> = (0..count).collect();
            let found = in_pieces(all.clone(), |piece| {
                assert!(piece.capacity() <= 2 * PIECE_MAX);
                piece
            });
            assert_eq!(found, all);
        }
    }
}

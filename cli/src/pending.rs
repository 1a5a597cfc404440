//! Submissions whose outcome is not known yet, one file each, so that a crash or a lost connection never makes a user
//! sign the same thing twice: the same text again is the same event, which counts once.
//!
//! The files are in `$XDG_STATE_HOME/fama/pending`, else `~/.local/state/fama/pending`. A file is durable before its event
//! is sent, and goes once a log has the event (final, if that was wanted) or a node has refused it.
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use fama_ledger::base64;
use fama_ledger::entry::SignedEvent;
use fama_ledger::event::{Action, Event};
use fama_ledger::id::EventId;
use fama_ledger::key::{PublicKey, Signature};
use fama_node::wire::{Recovered, Submission};
use serde::{Deserialize, Serialize};

use crate::author;
use crate::failure::Failure;
use crate::files::{self, SECRET_MODE};
use crate::settings;

/// Longest file, in bytes: an event, its note, and a receipt.
const FILE_BYTES_MAX: usize = 256 << 10;

/// A signed event with what is sent along, as text: what `--dry-run` prints and a pending file holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SubmissionText {
    /// The event's id; checked if it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) event: Option<String>,
    /// The canonical text.
    pub(crate) text: String,
    /// The key that signed: `curve:hex`.
    pub(crate) signer: String,
    /// Base64 of the signature: DER or r ‖ s for secp256k1, 64 bytes for Ed25519.
    pub(crate) signature: String,
    /// Base64 of the new key's signature, with a rotation that the current key signed.
    #[serde(default)]
    pub(crate) countersignature: Option<String>,
    /// The note's text.
    #[serde(default)]
    pub(crate) note: Option<String>,
    /// An invitation of the home.
    #[serde(default)]
    pub(crate) invite: Option<String>,
    /// With a revocation: the receipt of what brought the version that it names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) recovered: Option<RecoveredText>,
}

/// A [`Recovered`] as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecoveredText {
    /// Base64 of the entry.
    entry: String,
    /// The tlog-proof.
    proof: String,
}

impl SubmissionText {
    /// # Errors
    /// As [`author::edge_bytes`].
    pub(crate) fn of(submission: &Submission) -> Result<Self, Failure> {
        let SignedEvent { event, signer, signature, countersignature } = &submission.signed;
        let base64_of = |signature| author::edge_bytes(signature).map(|bytes| base64::encode(&bytes));
        let recovered = submission.recovered.as_ref();
        Ok(Self {
            event: Some(event.id().to_string()),
            text: event.text(),
            signer: signer.to_string(),
            signature: base64_of(signature)?,
            countersignature: countersignature.as_ref().map(base64_of).transpose()?,
            note: submission.note.clone(),
            invite: submission.invite.clone(),
            recovered: recovered
                .map(|one| RecoveredText { entry: base64::encode(&one.entry), proof: one.proof.clone() }),
        })
    }

    /// Reads it back, and verifies it as every node will.
    ///
    /// # Errors
    /// `event_id`, `base64`, or the reason for which every log would refuse it.
    pub(crate) fn read(&self) -> Result<Submission, Failure> {
        let event = Event::parse(self.text.as_bytes())?;
        let id = event.id().to_string();
        if let Some(named) = self.event.as_ref().filter(|named| **named != id) {
            return Err(Failure::new("event_id", format!("the text is that of {id}, not of {named}")));
        }
        let signer: PublicKey = self.signer.parse()?;
        let signature = |key: &PublicKey, text: &str| -> Result<Signature, Failure> {
            Ok(Signature::from_edge(key, self.text.as_bytes(), &bytes(text)?)?)
        };
        let countersignature = match (&self.countersignature, &event.action) {
            (None, _) => None,
            (Some(text), Action::Rotate { key, .. }) => Some(signature(key, text)?),
            (Some(_), _) => return Err(Failure::new("countersignature", "only a rotation has a second signature")),
        };
        let recovered = self
            .recovered
            .as_ref()
            .map(|one| Ok::<_, Failure>(Recovered { entry: bytes(&one.entry)?, proof: one.proof.clone() }));
        let signed = SignedEvent { signature: signature(&signer, &self.signature)?, event, signer, countersignature };
        signed.clone().verify(&signed.event.federation)?;
        let (note, invite) = (self.note.clone(), self.invite.clone());
        Ok(Submission { signed, note, invite, recovered: recovered.transpose()? })
    }
}

fn bytes(text: &str) -> Result<Vec<u8>, Failure> {
    base64::decode_lenient(text).ok_or_else(|| Failure::new("base64", format!("not base64: {text:?}")))
}

/// A submission whose outcome is not known, and how it was to be sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pending {
    /// The signed event.
    pub(crate) submission: SubmissionText,
    /// The file of the federation's manifest.
    pub(crate) manifest: PathBuf,
    /// The nodes that the user named, as multiaddresses.
    pub(crate) nodes: Vec<String>,
    /// Whether the user wants it final.
    pub(crate) until_final: bool,
}

/// The folder of pending submissions.
#[derive(Clone, Debug)]
pub(crate) struct PendingFolder(PathBuf);

impl PendingFolder {
    /// The user's folder, which need not exist yet; `None` if no variable says where the home is.
    #[must_use]
    pub(crate) fn of_user() -> Option<Self> {
        Some(Self(settings::base("XDG_STATE_HOME", ".local/state")?.join("pending")))
    }

    fn path(&self, id: &EventId) -> PathBuf {
        self.0.join(format!("{id}.json"))
    }

    /// Keeps a submission, durable before this returns.
    ///
    /// # Errors
    /// The error of the file.
    pub(crate) fn put(&self, id: &EventId, pending: &Pending) -> Result<(), Failure> {
        files::create_folder(&self.0)?;
        let text = serde_json::to_string(pending).map_err(|error| Failure::new("internal", error))?;
        files::replace(&self.path(id), &text, SECRET_MODE)
    }

    /// Whether a submission is pending.
    #[must_use]
    pub(crate) fn has(&self, id: &EventId) -> bool {
        self.path(id).exists()
    }

    /// Forgets a submission; whether it was there.
    ///
    /// # Errors
    /// The error of the file.
    pub(crate) fn remove(&self, id: &EventId) -> Result<bool, Failure> {
        let path = self.path(id);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Failure::new("file", format!("{}: {error}", path.display()))),
        }
    }

    /// All pending submissions, oldest event first.
    ///
    /// # Errors
    /// The error of a file; `pending` if one cannot be read back.
    pub(crate) fn all(&self) -> Result<Vec<(EventId, Pending)>, Failure> {
        let listed = match fs::read_dir(&self.0) {
            Ok(listed) => listed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Failure::new("file", format!("{}: {error}", self.0.display()))),
        };
        let mut found = Vec::new();
        for file in listed {
            let path = file.map_err(|error| Failure::new("file", format!("{}: {error}", self.0.display())))?.path();
            // Anything else is half a file of a process that was killed before it sent the event.
            if path.extension().is_some_and(|ending| ending == "json") {
                found.extend(read(&path)?);
            }
        }
        found.sort_by_key(|(id, created, _)| (*created, *id));
        Ok(found.into_iter().map(|(id, _, pending)| (id, pending)).collect())
    }

    /// The pending submission with this action, whatever its note, nonce and time; `None` if there is none.
    ///
    /// # Errors
    /// As [`PendingFolder::all`].
    pub(crate) fn same(&self, wanted: &Event) -> Result<Option<Submission>, Failure> {
        for (_, pending) in self.all()? {
            let submission = pending.submission.read()?;
            let event = &submission.signed.event;
            if event.federation == wanted.federation && bare(&event.action) == bare(&wanted.action) {
                return Ok(Some(submission));
            }
        }
        Ok(None)
    }
}

type Found = (EventId, fama_ledger::time::Millis, Pending);

/// Reads a file; `None` if another process has removed it since it was listed.
fn read(path: &Path) -> Result<Option<Found>, Failure> {
    let text = match files::read(path, FILE_BYTES_MAX) {
        Ok(text) => text,
        Err(failure) if failure.code == "file_not_found" => return Ok(None),
        Err(failure) => return Err(failure),
    };
    let wrong = |error: &dyn std::fmt::Display| {
        Failure::new("pending", format!("{}: {error}", path.display())).hint("move that file away")
    };
    let pending: Pending = serde_json::from_str(&text).map_err(|error| wrong(&error))?;
    let event = Event::parse(pending.submission.text.as_bytes()).map_err(|error| wrong(&error))?;
    Ok(Some((event.id(), event.created, pending)))
}

/// An action without the hash of its note, which has a random salt.
fn bare(action: &Action) -> Action {
    let mut bare = action.clone();
    if let Action::Register { note, .. } | Action::Attest { note, .. } = &mut bare {
        *note = None;
    }
    bare
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::author::EventDraft;
    use fama_ledger::id::FederationId;
    use fama_ledger::key::Curve;

    fn submission(name: &str, curve: Curve) -> Submission {
        let key = files::draw_key(curve).unwrap();
        let home = "alpha.example".parse().unwrap();
        let action = Action::Register { home, name: name.parse().unwrap(), key: key.public(), next: None, note: None };
        let event = author::event(FederationId([7; 32]), action).unwrap();
        EventDraft { invite: Some("token".into()), ..EventDraft::new(event, &key) }.sign().unwrap()
    }

    #[test]
    fn what_was_signed_is_kept_until_its_outcome_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let folder = PendingFolder(dir.path().join("a/pending"));
        assert_eq!(folder.all().unwrap().len(), 0);
        let all = [submission("swift", Curve::Secp256k1), submission("slow", Curve::Ed25519)];
        for one in &all {
            let submission = SubmissionText::of(one).unwrap();
            let pending =
                Pending { submission, manifest: "/m".into(), nodes: vec!["/ip4/1".into()], until_final: true };
            folder.put(&one.signed.event.id(), &pending).unwrap();
        }
        fs::write(dir.path().join("a/pending/x.json.new"), "half a fi").unwrap();
        let kept = folder.all().unwrap();
        assert_eq!(kept.len(), 2);
        for one in &all {
            let (_, pending) = kept.iter().find(|(id, _)| *id == one.signed.event.id()).unwrap();
            assert_eq!(pending.submission.read().unwrap(), *one, "the same bytes again");
        }
        // The same registration signed again is the one that is pending.
        let again = author::event(FederationId([7; 32]), all[0].signed.event.action.clone()).unwrap();
        assert_ne!(again.id(), all[0].signed.event.id());
        assert_eq!(folder.same(&again).unwrap().unwrap(), all[0]);
        assert!(folder.remove(&all[0].signed.event.id()).unwrap() && !folder.remove(&again.id()).unwrap());
        assert_eq!(folder.same(&again).unwrap(), None);
    }

    #[test]
    fn a_changed_text_is_refused() {
        let good = SubmissionText::of(&submission("swift", Curve::Secp256k1)).unwrap();
        let other = SubmissionText::of(&submission("swift", Curve::Secp256k1)).unwrap();
        let code = |text: SubmissionText| text.read().unwrap_err().code;
        assert_eq!(code(SubmissionText { text: other.text.clone(), ..good.clone() }), "event_id");
        let text = SubmissionText { text: other.text, event: None, ..good.clone() };
        assert_eq!(code(text), "signature_mismatch");
        assert_eq!(code(SubmissionText { signature: "?".into(), ..good.clone() }), "base64");
        let second = SubmissionText { countersignature: Some(good.signature.clone()), ..good };
        assert_eq!(code(second), "countersignature");
    }
}

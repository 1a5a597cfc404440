//! The Python module `fama`: what `fama_ledger` verifies, for those who work in Python. `fama.pyi` is its documentation.
use std::sync::Arc;

use fama_ledger::entry::{EntryError, VerifiedBody, VerifiedEntry};
use fama_ledger::key::batch::{self, Signed, Verifier};
use fama_ledger::key::{Curve, PublicKey, Signature, SignatureError};
use fama_ledger::manifest::Manifest;
use fama_ledger::profile::{ProfileProof, Question, Required};
use fama_ledger::proof::TlogProof;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use rayon::prelude::*;
use serde_json::Value;

pyo3::create_exception!(
    fama,
    FamaError,
    PyValueError,
    "Something does not hold: `code` is a stable word, `message` the reason."
);

/// A refusal with the code that all of Fama's software has for it.
fn refused(code: &str, message: impl std::fmt::Display) -> PyErr {
    let message = message.to_string();
    let error = FamaError::new_err(format!("{code}: {message}"));
    let named = Python::attach(|py| {
        let value = error.value(py);
        value.setattr("code", code).and_then(|()| value.setattr("message", message))
    });
    named.err().unwrap_or(error)
}

/// A JSON object as a `dict`.
fn dict<'py>(py: Python<'py>, json: &Value) -> PyResult<Bound<'py, PyDict>> {
    Ok(py.import("json")?.call_method1("loads", (json.to_string(),))?.cast_into::<PyDict>()?)
}

/// A federation, by its manifest.
#[pyclass(frozen, module = "fama")]
struct Federation {
    manifest: Arc<Manifest>,
}

#[pymethods]
impl Federation {
    #[new]
    fn new(manifest: &str) -> PyResult<Self> {
        Ok(Self { manifest: Manifest::parse_chain(manifest).map_err(|error| refused(error.code(), error))? })
    }

    /// The federation's id: 64 hex digits.
    #[getter]
    fn id(&self) -> String {
        self.manifest.federation().to_string()
    }

    /// The version of the manifest, from 1.
    #[getter]
    fn version(&self) -> u32 {
        self.manifest.version()
    }

    /// What a profile proof shows: the object that `fama verify --json` prints.
    #[pyo3(signature = (proof, *, about, max_age, missing, now))]
    fn verify_profile<'py>(
        &self,
        py: Python<'py>,
        proof: &str,
        about: &str,
        max_age: u64,
        missing: usize,
        now: u64,
    ) -> PyResult<Bound<'py, PyDict>> {
        let question: Question = about.parse().map_err(|error| refused("question", error))?;
        let required = Required { question, max_age_seconds: max_age, missing_max: missing, now };
        let verified = py.detach(|| proof.parse::<ProfileProof>()?.verify(&self.manifest, &required));
        dict(py, &verified.map_err(|error| refused(error.code(), error))?.to_json(now))
    }

    /// Decodes entries of a log and verifies their signatures.
    fn verify_entries<'py>(&self, py: Python<'py>, entries: Vec<Vec<u8>>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let (verifier, federation) = (verifier(py)?, self.manifest.federation());
        let verified = py.detach(|| {
            let mut pieces: Vec<Vec<Vec<u8>>> = Vec::new();
            for (at, entry) in entries.into_iter().enumerate() {
                match pieces.last_mut().filter(|_| at % PIECE != 0) {
                    Some(piece) => piece.push(entry),
                    None => pieces.push(vec![entry]),
                }
            }
            let verify = |piece| VerifiedEntry::decode_all(piece, &federation, &verifier);
            pieces.into_par_iter().flat_map_iter(verify).collect::<Vec<_>>()
        });
        verified.into_iter().map(|found| entry(py, found)).collect()
    }

    /// What a proof of inclusion or a receipt shows, with the entry in it.
    #[pyo3(signature = (proof, *, about))]
    fn verify_event<'py>(&self, py: Python<'py>, proof: &str, about: &str) -> PyResult<Bound<'py, PyDict>> {
        let proof = proof.parse::<TlogProof>().map_err(|error| refused(error.code(), error))?;
        let Some(entry) = &proof.extra else {
            return Err(refused("proof_no_entry", "the proof does not contain the entry that it is about"));
        };
        let shown = proof.included(entry, &self.manifest).map_err(|error| refused(error.code(), error))?;
        let id = shown.entry.event().map(|event| event.id().to_string()).unwrap_or_default();
        if id != about {
            return Err(refused("other_proof", format!("this proof is about {id}, not about {about}")));
        }
        dict(py, &shown.to_json())
    }
}

/// Entries or signatures that are verified in one piece by one core.
const PIECE: usize = 2_048;

/// What batches are verified with: factors from randomness of the operating system.
fn verifier(py: Python<'_>) -> PyResult<Verifier> {
    Ok(Verifier::new(py.import("os")?.call_method1("urandom", (32,))?.extract()?))
}

/// The members of an entry that holds, or why it does not.
fn entry<'py>(py: Python<'py>, found: Result<VerifiedEntry, EntryError>) -> PyResult<Bound<'py, PyDict>> {
    let members = PyDict::new(py);
    let entry = match found {
        Ok(entry) => entry,
        Err(error) => {
            members.set_item("error", error.code())?;
            return Ok(members);
        }
    };
    members.set_item("time", entry.time.0)?;
    match &entry.body {
        VerifiedBody::Adopt { version, .. } => members.set_item("adopts", version)?,
        VerifiedBody::State { root } => members.set_item("state_root", root.to_string())?,
        VerifiedBody::Event(event) => {
            members.set_item("event", event.id().to_string())?;
            members.set_item("text", event.event().text())?;
            members.set_item("signer", event.signed().signer.to_string())?;
        }
    }
    Ok(members)
}

/// A signature in the ledger's form.
fn signature(curve: Curve, bytes: &[u8]) -> Result<Signature, SignatureError> {
    let malformed = |_| SignatureError::Malformed;
    match curve {
        Curve::Secp256k1 => Ok(Signature::Secp256k1(bytes.try_into().map_err(malformed)?)),
        Curve::Ed25519 => Ok(Signature::Ed25519(bytes.try_into().map_err(malformed)?)),
    }
}

/// A key, a message and a signature, as Python gives them.
type Given = (String, Vec<u8>, Vec<u8>);

/// Verifies signatures: of each the code why it does not hold, or `None`.
#[pyfunction]
fn verify_signatures(py: Python<'_>, signatures: Vec<Given>) -> PyResult<Vec<Option<&'static str>>> {
    let verifier = verifier(py)?;
    Ok(py.detach(|| signatures.par_chunks(PIECE).flat_map_iter(|piece| codes(piece, &verifier)).collect()))
}

/// The code of each that does not hold.
fn codes(piece: &[Given], verifier: &Verifier) -> Vec<Option<&'static str>> {
    let read = |(key, _, bytes): &Given| {
        let key: PublicKey = key.parse().map_err(SignatureError::Key)?;
        Ok((key, signature(key.curve(), bytes)?))
    };
    let read: Vec<Result<(PublicKey, Signature), SignatureError>> = piece.iter().map(read).collect();
    let signed = read.iter().zip(piece).filter_map(|(read, (_, message, _))| {
        let (key, signature) = read.as_ref().ok()?;
        Some(Signed { key, message, signature })
    });
    // One for each that could be read, in the same order.
    let mut outcomes = batch::verify_all(&signed.collect::<Vec<_>>(), verifier).into_iter();
    let outcome = |read: &Result<_, SignatureError>| match read {
        Ok(_) => outcomes.next()?.err().map(|error| error.code()),
        Err(error) => Some(error.code()),
    };
    read.iter().map(outcome).collect()
}

/// Verifies proofs, entries and events of a Fama federation.
#[pymodule]
fn fama(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("FamaError", module.py().get_type::<FamaError>())?;
    module.add_function(wrap_pyfunction!(verify_signatures, module)?)?;
    module.add_class::<Federation>()
}

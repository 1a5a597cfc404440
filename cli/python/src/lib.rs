//! The Python module `fama`: what `fama_ledger` verifies, for those who work in Python. `fama.pyi` is its documentation.
use std::sync::Arc;

use fama_ledger::manifest::Manifest;
use fama_ledger::profile::{ProfileProof, Question, Required};
use fama_ledger::proof::TlogProof;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde_json::Value;

pyo3::create_exception!(
    fama,
    FamaError,
    PyValueError,
    "Something does not hold: `args` are a stable code and the reason."
);

/// A refusal with the code that all of Fama's software has for it.
fn refused(code: &str, message: impl std::fmt::Display) -> PyErr {
    FamaError::new_err((code.to_owned(), message.to_string()))
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

    #[getter]
    fn id(&self) -> String {
        self.manifest.federation().to_string()
    }

    #[getter]
    fn version(&self) -> u32 {
        self.manifest.version()
    }

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

/// Verifies proofs, entries and events of a Fama federation.
#[pymodule]
fn fama(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("FamaError", module.py().get_type::<FamaError>())?;
    module.add_class::<Federation>()
}

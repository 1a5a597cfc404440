//! The library of an independent auditor: reads what a federation publishes and trusts none of its sources.
//!
//! In reading order:
//!
//! - Asking servers: [`http`].
//! - Where files lie: [`source`] reads them from a node, a static host, a folder, a bucket or a stopped node;
//!   [`bucket`] also writes to folders and S3-compatible stores.
//! - What is done with them: [`audit`] verifies everything and recomputes every state; [`export`] writes an audited
//!   federation as tables; [`publish`] copies files to a bucket after checking them; [`backup`] keeps copies of a node's
//!   database there.
//! - What can go wrong: [`error`]. A source that lies is no error but an [`audit::finding::AuditFinding`].
//!
//! Nothing here prints or asks. Long work reports its progress to a closure.
//!
//! ```no_run
//! use fama_reader::audit::{self, Hooks, PublicFiles};
//! use fama_reader::source::PublicSource;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let names = ["https://node.alpha.example", "https://mirror.beta.example/fama"];
//! let open = |name| Ok(Box::new(PublicSource::open(name)?) as Box<dyn PublicFiles>);
//! let sources: Vec<_> = names.into_iter().map(open).collect::<Result<_, fama_reader::error::ReadError>>()?;
//! let mut hooks = Hooks { progress: &mut |_done, _total| {}, watch: &mut |_log, _index, _entry, _outcome| {} };
//! let (report, _store) = audit::run(&sources, None, "audit".as_ref(), &mut hooks)?;
//! for finding in &report.findings {
//!     println!("{finding}");
//! }
//! # Ok(()) }
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod http;

pub mod bucket;
pub mod source;

pub mod audit;
pub mod backup;
pub mod export;
pub mod publish;

pub mod error;

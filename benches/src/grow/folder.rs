//! The folder: a federation of one operator with known keys, its configuration and its data.
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fama_cli::synthetic::{self, Shape};
use fama_ledger::key::Curve;
use fama_ledger::manifest::{Endpoints, Genesis, LogId, Manifest, Operator};
use fama_ledger::secret::SecretKey;
use fama_ledger::signed_note::{SignedNote, sign};
use fama_ledger::time::Millis;
use fama_tests::domain;

use crate::renewals::ports;

/// The only operator and its home.
pub(super) const OPERATOR: &str = "grow.example";

/// A folder and the federation in it.
pub(super) struct Folder {
    pub(super) path: PathBuf,
    pub(super) manifest: Arc<Manifest>,
    pub(super) node_key: SecretKey,
}

impl Folder {
    /// Creates it, or opens it, which must have been made for the same workload, though perhaps a shorter one.
    pub(super) fn open(path: &Path, shape: &Shape) -> Self {
        DirBuilder::new().recursive(true).mode(0o700).create(path).unwrap();
        let Shape { events_per_identity, providers, skew, seed, .. } = shape;
        let made_for =
            format!("events_per_identity {events_per_identity}, providers {providers}, skew {skew}, seed {seed}\n");
        let record = path.join("workload.txt");
        match fs::read_to_string(&record) {
            Ok(before) => assert_eq!(before, made_for, "{} is of another workload", path.display()),
            Err(_) => fs::write(&record, &made_for).unwrap(),
        }
        let (node_key, governance) = (node_key(), key(*b"grow: its governance key        "));
        let operator = Operator {
            name: domain(OPERATOR),
            node_key: node_key.ed25519().unwrap().verifying_key(),
            governance_key: governance.ed25519().unwrap().verifying_key(),
            generation: 1,
            begins: Millis::FIRST,
            addresses: vec!["/ip4/127.0.0.1/tcp/4001".into()],
            endpoints: Endpoints::default(),
        };
        let genesis = Genesis { name: "grow".into(), policy: synthetic::policy(1), operators: vec![operator] };
        let text = genesis.text().unwrap();
        let signatures = vec![sign(&text, OPERATOR, governance.ed25519().unwrap())];
        let note = SignedNote { text, signatures }.to_string();
        let folder = Self { path: path.to_owned(), manifest: Arc::new(Manifest::parse(&note).unwrap()), node_key };
        fs::write(path.join("manifest.txt"), note).unwrap();
        let pem = path.join("node.pem");
        if !pem.exists() {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(pem).unwrap();
            file.write_all(folder.node_key.to_pem().as_bytes()).unwrap();
        }
        folder
    }

    pub(super) fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    pub(super) fn log(&self) -> LogId {
        LogId { operator: domain(OPERATOR), generation: 1 }
    }

    /// The same with a copy of the data. Tables never change: the copy has links to them.
    pub(super) fn copy(&self, path: &Path) -> Self {
        fs::remove_dir_all(path).or_else(|error| if path.exists() { Err(error) } else { Ok(()) }).unwrap();
        let copy = Self { path: path.to_owned(), manifest: Arc::clone(&self.manifest), node_key: node_key() };
        DirBuilder::new().recursive(true).mode(0o700).create(copy.data()).unwrap();
        for name in ["manifest.txt", "node.pem"] {
            fs::copy(self.path.join(name), path.join(name)).unwrap();
        }
        for file in fs::read_dir(self.data()).unwrap() {
            let file = file.unwrap();
            let to = copy.data().join(file.file_name());
            if file.path().extension().is_some_and(|ending| ending == "sst") {
                fs::hard_link(file.path(), to).unwrap();
            } else {
                fs::copy(file.path(), to).unwrap();
            }
        }
        copy
    }

    /// Writes a configuration with free ports; returns its file, and the ports of the query and the submit listener.
    pub(super) fn configure(&self) -> (PathBuf, u16, u16) {
        let [p2p, query, submit, admin] = ports(4).try_into().unwrap();
        let text = format!(
            "data_dir = \"data\"\nmanifest = \"manifest.txt\"\noperator = \"{OPERATOR}\"\nnode_key = \"node.pem\"\n\
             [network]\nlisten = [\"/ip4/127.0.0.1/tcp/{p2p}\"]\n\
             [query]\nlisten = \"127.0.0.1:{query}\"\nrequests_per_second = 1000000\n\
             [submit]\nlisten = \"127.0.0.1:{submit}\"\n\
             [admin]\nlisten = \"127.0.0.1:{admin}\"\n[scrub]\nbytes_per_second = 0\n[domains]\nevery_seconds = 0\n"
        );
        let config = self.path.join("node.toml");
        fs::write(&config, text).unwrap();
        (config, query, submit)
    }
}

fn node_key() -> SecretKey {
    key(*b"grow: the key of the only node  ")
}

/// Known to everybody: the folder is for measuring.
fn key(seed: [u8; 32]) -> SecretKey {
    SecretKey::from_seed(Curve::Ed25519, &seed).unwrap()
}

//! What a user need not repeat: the variables `FAMA_MANIFEST`, `FAMA_KEY` and `FAMA_QUERY`, and the configuration file
//! that `fama init` writes. An option of a command counts before its variable, and that before the file.
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fama_ledger::manifest::Manifest;
use serde::Deserialize;

use crate::chain;
use crate::failure::Failure;
use crate::files;
use crate::query::{self, Query};

/// Name of the configuration file in [`folder`].
pub(crate) const FILE: &str = "config.toml";
/// Longest configuration file, in bytes.
const FILE_BYTES_MAX: usize = 64 << 10;

/// The settings of the environment and the configuration file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// The federation's manifest: its genesis, or the chain of its versions.
    pub(crate) manifest: Option<PathBuf>,
    /// The key that signs.
    pub(crate) key: Option<PathBuf>,
    /// The query listener to ask.
    pub(crate) query: Option<String>,
}

/// The folder of the configuration: `$XDG_CONFIG_HOME/fama`, else `~/.config/fama`.
///
/// # Errors
/// `no_home` if neither variable is set.
pub(crate) fn folder() -> Result<PathBuf, Failure> {
    base("XDG_CONFIG_HOME", ".config").ok_or_else(|| {
        Failure::new("no_home", "neither HOME nor XDG_CONFIG_HOME is set").hint("set one of them to a folder")
    })
}

/// A folder `fama` below a base folder of the XDG specification; `None` if no variable says where it is.
#[must_use]
pub(crate) fn base(variable: &str, in_home: &str) -> Option<PathBuf> {
    // The specification has relative paths ignored.
    let named = set(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    Some(named.or_else(|| Some(PathBuf::from(set("HOME")?).join(in_home)))?.join("fama"))
}

/// The value of a variable; an empty one is not set.
fn set(variable: &str) -> Option<OsString> {
    env::var_os(variable).filter(|value| !value.is_empty())
}

impl Settings {
    /// Reads the environment and, for what it does not say, the configuration file, which may be missing.
    ///
    /// # Errors
    /// `settings` with the line that is wrong, or the error of the file.
    pub(crate) fn load() -> Result<Self, Failure> {
        let file = match folder() {
            Ok(folder) => Self::read(&folder.join(FILE))?,
            Err(_) => Self::default(),
        };
        let path = |variable| set(variable).map(PathBuf::from);
        let query = match set("FAMA_QUERY").map(OsString::into_string).transpose() {
            Ok(query) => query,
            Err(_) => return Err(Failure::new("settings", "FAMA_QUERY is not UTF-8")),
        };
        Ok(Self {
            manifest: path("FAMA_MANIFEST").or(file.manifest),
            key: path("FAMA_KEY").or(file.key),
            query: query.or(file.query),
        })
    }

    /// Reads a configuration file; paths in it are relative to its folder.
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let text = match files::read(path, FILE_BYTES_MAX) {
            Ok(text) => text,
            Err(failure) if failure.code == "file_not_found" => return Ok(Self::default()),
            Err(failure) => return Err(failure),
        };
        let read: Self = toml::from_str(&text).map_err(|error| {
            Failure::new("settings", format!("{}: {}", path.display(), error.to_string().trim_end()))
                .hint("it may set manifest, key and query; `fama init` writes it")
        })?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let absolute = |path: PathBuf| match (path.strip_prefix("~"), set("HOME")) {
            (Ok(rest), Some(home)) => PathBuf::from(home).join(rest),
            _ => folder.join(path),
        };
        Ok(Self { manifest: read.manifest.map(absolute), key: read.key.map(absolute), query: read.query })
    }

    /// The text of a configuration file that says the same.
    #[must_use]
    pub(crate) fn text(&self) -> String {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let lines = [("manifest", path(&self.manifest)), ("key", path(&self.key)), ("query", self.query.clone())];
        let lines = lines.into_iter().filter_map(|(name, value)| Some(format!("{name} = {}\n", toml_string(&value?))));
        lines.collect()
    }
}

/// A TOML basic string.
fn toml_string(value: &str) -> String {
    // JSON's escapes are TOML's, too.
    serde_json::Value::from(value).to_string()
}

/// The manifest of an option, else of the settings, with the newest version that is known from it.
///
/// # Errors
/// `no_manifest`; as [`chain::read`].
pub(crate) fn manifest(option: Option<&Path>) -> Result<(PathBuf, Arc<Manifest>), Failure> {
    let path = match option {
        Some(path) => path.to_owned(),
        None => Settings::load()?.manifest.ok_or_else(|| {
            Failure::new("no_manifest", "which federation? No manifest is given")
                .hint("--manifest FILE, or FAMA_MANIFEST; `fama init` gets it from a node and remembers it")
        })?,
    };
    let manifest = chain::read(&path)?;
    Ok((path, manifest))
}

/// As [`manifest`], for commands that check more when they have one; `None` without one.
///
/// # Errors
/// As [`chain::read`].
pub(crate) fn trusted(option: Option<&Path>) -> Result<Option<Arc<Manifest>>, Failure> {
    match manifest(option) {
        Ok((_, manifest)) => Ok(Some(manifest)),
        Err(failure) if failure.code == "no_manifest" => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// The file of the key that signs: of an option, else of the settings.
///
/// # Errors
/// `no_key`.
pub(crate) fn key(option: Option<&Path>) -> Result<PathBuf, Failure> {
    match option {
        Some(path) => Ok(path.to_owned()),
        None => Settings::load()?.key.ok_or_else(|| {
            Failure::new("no_key", "which key signs?").hint("--key FILE, FAMA_KEY, or key in the file of `fama init`")
        }),
    }
}

/// The node to ask.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct QueryArgs {
    /// Node to ask [default: FAMA_QUERY, that of `fama init`, those that the manifest names, or this machine's]
    #[arg(long, value_name = "URL")]
    query: Option<String>,
}

impl QueryArgs {
    /// The node of the option or the settings, else those that the configured manifest names, else the one at
    /// [`query::DEFAULT`].
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub(crate) fn open(&self) -> Result<Query, Failure> {
        let known = || Ok(trusted(None)?.map(|manifest| named(&manifest)).unwrap_or_default());
        let found = self.chosen(known)?;
        Ok(found.unwrap_or_else(|| Query::new(query::DEFAULT)))
    }

    /// The node of the option or the settings, else the one at [`query::DEFAULT`]: for questions about one node.
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub(crate) fn open_own(&self) -> Result<Query, Failure> {
        Ok(self.chosen(|| Ok(Vec::new()))?.unwrap_or_else(|| Query::new(query::DEFAULT)))
    }

    /// The node of the option or the settings, else those that this manifest names; `None` if it names none.
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub(crate) fn open_for(&self, manifest: &Manifest) -> Result<Option<Query>, Failure> {
        self.chosen(|| Ok(named(manifest)))
    }

    fn chosen(&self, else_of: impl FnOnce() -> Result<Vec<String>, Failure>) -> Result<Option<Query>, Failure> {
        if let Some(base) = &self.query {
            return Ok(Some(Query::new(base)));
        }
        if let Some(base) = Settings::load()?.query {
            return Ok(Some(Query::new(&base)));
        }
        Ok(Query::of_any(&else_of()?))
    }
}

/// The query listeners that a manifest names, in its order.
fn named(manifest: &Manifest) -> Vec<String> {
    manifest.operators().iter().filter_map(|operator| operator.endpoints.query.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        assert_eq!(Settings::read(&path).unwrap(), Settings::default(), "no file");
        let settings = Settings {
            manifest: Some("/a \"quoted\"/manifest.txt".into()),
            key: Some("/keys/agent.pem".into()),
            query: Some("https://fama.example".into()),
        };
        std::fs::write(&path, settings.text()).unwrap();
        assert_eq!(Settings::read(&path).unwrap(), settings);
        std::fs::write(&path, "manifest = \"manifest.txt\"\nkey = \"~/agent.pem\"\n").unwrap();
        let read = Settings::read(&path).unwrap();
        assert_eq!(read.manifest.unwrap(), dir.path().join("manifest.txt"));
        assert_eq!(read.key.unwrap(), PathBuf::from(env::var_os("HOME").unwrap()).join("agent.pem"));
        std::fs::write(&path, "manifets = \"x\"\n").unwrap();
        let failure = Settings::read(&path).unwrap_err();
        assert_eq!(failure.code, "settings");
        assert!(failure.message.contains("manifets"), "{}", failure.message);
    }
}

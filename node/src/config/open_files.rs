//! How many files the process may open, and how many of them each listener may use.
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{Config, Verify};

/// Files for peers, standard streams, the configuration and whatever else is neither of the database nor of a listener.
const ELSEWHERE: u32 = 388;
/// Listeners, each of which may use as many as the others: query, submit, sign-in and admin.
const LISTENERS: u32 = 4;
/// Connections that a listener accepts even if the process may open few files.
const CONNECTIONS_MIN: u32 = 48;
/// Most connections of a listener, if the process may open enough files.
pub const CONNECTIONS_MAX: u32 = 1_024;

/// Files that this process may open now.
fn limit() -> u32 {
    // None: unlimited.
    getrlimit(Resource::Nofile).current.map_or(u32::MAX, |files| u32::try_from(files).unwrap_or(u32::MAX))
}

/// Raises this process's soft limit of open files to the hard one. The usual soft limit, 1,024, is meant for programs that
/// use `select`, which no part of a node does.
pub fn raise_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // If it is not allowed, the limit stays, and the number of connections follows from it.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

impl Config {
    /// Files of the database. While a node answers from certified states it has two.
    const fn database_files(&self) -> u32 {
        let states = if matches!(self.verify, Verify::Certified) { 2 } else { 1 };
        self.storage.open_files.saturating_mul(states)
    }

    /// Most open connections of one listener.
    #[must_use]
    pub fn connections_max(&self) -> u32 {
        self.connections_of(limit())
    }

    fn connections_of(&self, limit: u32) -> u32 {
        let left = limit.saturating_sub(self.database_files()).saturating_sub(ELSEWHERE);
        (left / LISTENERS).clamp(CONNECTIONS_MIN, CONNECTIONS_MAX)
    }

    /// What to do if the process may open fewer files than its database, its peers and a few clients need: if the database
    /// can't open a file, the node stops.
    pub(super) fn too_few_files(&self) -> Option<String> {
        self.too_few_of(limit())
    }

    fn too_few_of(&self, limit: u32) -> Option<String> {
        let wanted = self.database_files().saturating_add(ELSEWHERE).saturating_add(LISTENERS * CONNECTIONS_MIN);
        (limit < wanted).then(|| {
            format!(
                "the process may open {limit} files, and with storage.open_files = {} the node may need {wanted}: raise the \
                 limit (`ulimit -Hn`, LimitNOFILE= of systemd), or lower storage.open_files",
                self.storage.open_files
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{SHORT, load};
    use super::*;

    fn config(more: &str) -> Config {
        load(&format!("{SHORT}operator = \"alpha.example\"\n{more}")).unwrap()
    }

    #[test]
    fn the_database_keeps_its_files() {
        let usual = config("");
        assert_eq!(usual.connections_of(256), CONNECTIONS_MIN);
        assert_eq!(usual.connections_of(1_024), CONNECTIONS_MIN);
        assert_eq!(usual.connections_of(2_000), (2_000 - 512 - ELSEWHERE) / LISTENERS);
        assert_eq!(usual.connections_of(20_000), CONNECTIONS_MAX);
        assert_eq!(usual.connections_of(u32::MAX), CONNECTIONS_MAX);
        let more = config("[storage]\nopen_files = 1000\n");
        assert_eq!(more.connections_of(2_000), (2_000 - 1_000 - ELSEWHERE) / LISTENERS);
        let twice = config("verify = \"certified\"\n");
        assert_eq!(twice.connections_of(2_000), (2_000 - 2 * 512 - ELSEWHERE) / LISTENERS);
    }

    #[test]
    fn a_limit_that_the_database_can_reach_is_warned_about() {
        let usual = config("");
        assert_eq!(usual.too_few_of(512 + ELSEWHERE + 4 * CONNECTIONS_MIN), None);
        let warning = usual.too_few_of(1_024).unwrap();
        assert!(warning.starts_with("the process may open 1024 files, and with storage.open_files = 512"), "{warning}");
        let twice = config("verify = \"certified\"\n");
        assert!(twice.too_few_of(1_500).is_some() && twice.too_few_of(1_604).is_none());
    }

    #[test]
    fn a_process_takes_what_it_may_have() {
        raise_limit();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
    }
}

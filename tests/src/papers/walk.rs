//! Every block of a paper that a reader can run, in its order, in one folder; what is printed is what the paper shows.
//!
//! A walk has a network of its own (a namespace), so the ports that the papers name are free, and a process
//! namespace of its own, so nothing that it starts outlives it. Where a machine allows neither, the test says so and
//! ends; with `FAMA_FOREIGN=1` that is a failure.
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use super::{ShownBlock, ShownCommand, read, root};
use crate::audit::engines_python;
use crate::cli::program;
use crate::clients::node;

/// How long one command may take: Spark needs half a minute of two cores to begin.
const COMMAND_MAX: Duration = Duration::from_secs(240);
/// How long a question may be repeated until its answer is the paper's: what one node said reaches the others.
const EVENTUALLY: Duration = Duration::from_secs(20);
/// How many lines of output may wait to be read.
const LINES_MAX: usize = 1_024;
/// After how many commands that print something else a walk ends.
const DIFFERING_MAX: usize = 5;
/// Between two such questions.
const PAUSE: Duration = Duration::from_millis(100);
/// Questions: commands that change nothing.
const QUESTIONS: [&str; 8] = [
    "curl ",
    "fama status",
    "fama agent",
    "fama grants",
    "fama leaderboard",
    "fama event ",
    "fama federation show",
    "fama prove ",
];
/// Stands before the exit code in what the shell prints behind each command.
const DONE: &str = "__done__";
/// The file of real ratings as the papers name it.
const RATINGS: &str = "soc-sign-bitcoinotc.csv";
/// The folder of the Python with Spark and DuckDB, as the papers name it.
const ENGINES: &str = "$ENGINES";
/// Stands in a paper for what it leaves out.
const MORE: &str = "…";

/// A reader who types everything that a paper shows: a shell in namespaces of its own, and its folder.
struct PaperReader {
    shell: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    dir: tempfile::TempDir,
    nodes: usize,
}

/// How to enter the namespaces here: as root, or as nobody in particular.
fn entrance() -> Option<Vec<&'static str>> {
    let own = ["--net", "--pid", "--fork", "--kill-child"];
    let ways = [own.to_vec(), [&["--user", "--map-root-user"], &own[..]].concat()];
    ways.into_iter().find(|way| {
        let tried = Command::new("unshare").args(way).args(["ip", "link", "set", "lo", "up"]).output();
        tried.is_ok_and(|output| output.status.success())
    })
}

/// Where the program lies, then the Python of `tests/auditor`, then everything else.
fn path() -> OsString {
    let program = program();
    let folder = program.parent().unwrap();
    let auditor = folder.parent().unwrap().join("auditor/bin");
    let others = std::env::var_os("PATH").unwrap();
    std::env::join_paths([folder.to_owned(), auditor].into_iter().chain(std::env::split_paths(&others))).unwrap()
}

fn lines(out: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = sync_channel(LINES_MAX);
    std::thread::spawn(move || {
        for line in BufReader::new(out).split(b'\n') {
            let Ok(line) = line else { return };
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    });
    receiver
}

impl PaperReader {
    fn begin(entrance: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        if let Some(ratings) = std::env::var_os("FAMA_RATINGS") {
            std::os::unix::fs::symlink(fs::canonicalize(ratings).unwrap(), dir.path().join(RATINGS)).unwrap();
        }
        // Spark looks for its workers in /proc, which shows the processes outside: it starts them one by one instead.
        fs::write(dir.path().join("spark-defaults.conf"), "spark.python.use.daemon false\n").unwrap();
        let mut shell = Command::new("unshare")
            .args(entrance)
            .args(["bash", "--noprofile", "--norc"])
            .current_dir(dir.path())
            .env("PATH", path())
            .env("HOME", dir.path())
            .env("FAMA", root())
            .env("ENGINES", engines().unwrap_or_default())
            .env("SPARK_CONF_DIR", dir.path())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env_remove("RUST_LOG")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, lines) = (shell.stdin.take().unwrap(), lines(shell.stdout.take().unwrap()));
        let mut reader = Self { shell, input, lines, dir, nodes: 0 };
        assert_eq!(reader.run("exec 2>&1; ip link set lo up").0, 0);
        reader
    }

    /// The exit code of a command and the lines that it printed.
    fn run(&mut self, line: &str) -> (i32, Vec<String>) {
        writeln!(self.input, "{{ {line}\n}} </dev/null; printf '\\n{DONE} %s\\n' $?").unwrap();
        let (deadline, mut printed) = (Instant::now() + COMMAND_MAX, Vec::<String>::new());
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let next = self.lines.recv_timeout(left).unwrap_or_else(|error| panic!("{error}: {line}\n{printed:#?}"));
            if let Some(code) = next.strip_prefix(DONE) {
                while printed.last().is_some_and(|line| line.trim().is_empty()) {
                    printed.pop();
                }
                return (code.trim().parse().unwrap(), printed);
            }
            printed.push(next.trim_end().to_owned());
        }
    }

    /// Runs a command of a paper as often as it takes to see what the paper shows.
    fn follow(&mut self, paper: &str, command: &ShownCommand) -> Result<(), String> {
        let line = self.for_shell(&command.line);
        let deadline = Instant::now() + EVENTUALLY;
        let fails = command.output.iter().any(|line| line.starts_with("error: "));
        loop {
            let (code, printed) = self.run(&line);
            if (code != 0) == fails && agrees(&command.output, &printed) {
                return Ok(());
            }
            let again = QUESTIONS.iter().any(|question| line.starts_with(question)) && Instant::now() < deadline;
            if !again {
                return Err(self.report(paper, command, code, &printed));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// What the runner does for the reader: what stays in the foreground gets a terminal of its own.
    fn for_shell(&mut self, line: &str) -> String {
        if line == "make run" {
            return "fama demo --exit".to_owned();
        }
        if line.starts_with("fama node ") && !line.contains("--check") && !line.ends_with('&') {
            self.nodes += 1;
            return format!("{line} > terminal{}.log 2>&1 &", self.nodes);
        }
        if line.starts_with("for ") && !line.contains(" & ") {
            // A loop whose last round succeeds would hide that others failed.
            return format!("( set -e\n{line}\n)");
        }
        line.to_owned()
    }

    fn report(&self, paper: &str, command: &ShownCommand, code: i32, printed: &[String]) -> String {
        let ShownCommand { line, output, at } = command;
        let logs = logs(self.dir.path()).into_iter().map(|log| {
            let text = fs::read_to_string(&log).unwrap_or_default();
            // The end, and all of it from a panic on.
            let panic = text.lines().position(|line| line.contains(" panicked at ")).unwrap_or(usize::MAX);
            let last: Vec<&str> = text.lines().skip(panic.min(text.lines().count().saturating_sub(3))).collect();
            format!("{}:\n{}\n", log.display(), last.join("\n"))
        });
        let logs: String = logs.collect();
        let (wanted, found) = (output.join("\n"), printed.join("\n"));
        format!("{paper}:{at}: $ {line}\nshows:\n{wanted}\n\nprinted, with exit code {code}:\n{found}\n\n{logs}")
    }
}

impl Drop for PaperReader {
    fn drop(&mut self) {
        // The namespace's first process ends with this, and all others with that.
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

fn logs(dir: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "log")).collect()
}

/// Whether what was printed is what a paper shows: `…` alone on a line stands for any lines, inside a line for
/// anything, and what differs from run to run is compared by its kind only.
fn agrees(shown: &[String], printed: &[String]) -> bool {
    match (shown, printed) {
        ([], []) => true,
        ([more, shown @ ..], _) if more == MORE => {
            (0..=printed.len()).any(|skipped| agrees(shown, &printed[skipped..]))
        }
        ([line, shown @ ..], [found, printed @ ..]) => like(&general(line), &general(found)) && agrees(shown, printed),
        _ => false,
    }
}

/// Whether `text` has the parts of `shown` between its `…`, in their order, from the beginning to the end.
fn like(shown: &str, text: &str) -> bool {
    let Some((first, rest)) = shown.split_once(MORE) else { return shown == text };
    let Some(text) = text.strip_prefix(first) else { return false };
    text.char_indices().map(|(at, _)| at).chain([text.len()]).any(|at| like(rest, &text[at..]))
}

/// A line with signs in the place of hashes, times, and numbers with a unit that measures; spaces as one.
fn general(line: &str) -> String {
    let mut words = Vec::new();
    for word in line.split_whitespace() {
        let measured = [",", ";", ":", "."].iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word);
        let unit =
            ["bytes", "s", "MB", "kB"].contains(&measured) || (measured == "per" && line.contains(" per second"));
        if let Some(number) = words.last_mut().filter(|last: &&mut String| unit && is_number(last)) {
            "#".clone_into(number);
        }
        words.push(parts(word));
    }
    words.join(" ")
}

fn is_number(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|c| c.is_ascii_digit() || ".,".contains(c))
}

/// A word with signs in the place of hashes and times.
fn parts(word: &str) -> String {
    let (mut out, mut rest) = (String::new(), word);
    while let Some(first) = rest.chars().next() {
        if let Some(after) = after_time(rest) {
            out.push_str("<time>");
            rest = after;
            continue;
        }
        let run = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        if run == 0 {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let (part, after) = rest.split_at(run);
        let hex = part.len() >= 8 && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        out.push_str(if hex { "<hex>" } else { part });
        rest = after;
    }
    out
}

/// What follows a time like 2026-11-22T11:47:09.056Z, with or without fractions of a second.
fn after_time(text: &str) -> Option<&str> {
    let (time, after) = text.split_once('Z')?;
    let form: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    ["0000-00-00T00:00:00", "0000-00-00T00:00:00.000"].contains(&form.as_str()).then_some(after)
}

/// The folder of the Python with Spark and DuckDB.
fn engines() -> Option<PathBuf> {
    engines_python().map(|python| python.parent().unwrap().to_owned())
}

/// Walks through a paper. Blocks that need the real ratings, Node.js, or Spark and DuckDB are left out where there are none.
#[allow(clippy::print_stdout, reason = "a test that shows nothing must say so")]
fn walk(paper: &str) {
    let Some(entrance) = entrance() else {
        assert!(
            std::env::var_os("FAMA_FOREIGN").is_none(),
            "no network namespace for {paper}: unshare, ip and the right to"
        );
        return println!("skipped: this machine gives no network namespace, so {paper} was not run");
    };
    let text = read(paper);
    let blocks = ShownBlock::all(&text);
    let ratings = std::env::var_os("FAMA_RATINGS").is_some();
    let (mut reader, mut differing) = (PaperReader::begin(&entrance), Vec::new());
    for block in blocks.iter().filter(|block| block.not_run.is_none()) {
        if block.text.contains(RATINGS) && !ratings {
            println!("left out, as FAMA_RATINGS is not set:\n{}", block.text);
            continue;
        }
        if block.text.contains(ENGINES) && engines().is_none() {
            println!("left out, as there are no Spark and DuckDB:\n{}", block.text);
            continue;
        }
        if block.commands.iter().any(|command| command.line.starts_with("node ")) && node().is_none() {
            println!("left out, as there is no Node.js:\n{}", block.text);
            continue;
        }
        for command in &block.commands {
            differing.extend(reader.follow(paper, command).err());
            assert!(differing.len() < DIFFERING_MAX, "{}", differing.join("\n"));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

#[test]
fn the_readme_runs() {
    walk("README.md");
}

#[test]
fn the_paper_for_operators_runs() {
    walk("docs/operating.md");
}

#[test]
fn the_paper_for_agents_and_services_runs() {
    walk("docs/using.md");
}

#[test]
fn the_paper_for_integrators_runs() {
    walk("docs/integrating.md");
}

#[test]
fn the_paper_for_auditors_runs() {
    walk("docs/auditing.md");
}

#[test]
fn what_differs_from_run_to_run_is_compared_by_its_kind() {
    let check = |shown: &str, printed: &str, expect: bool| {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(agrees(&lines(shown), &lines(printed)), expect, "{shown}\n{printed}");
    };
    check("accepted  4b955ada6378", "accepted   00000000ffff", true);
    check("accepted  4b955ada6378", "refused    00000000ffff", false);
    check("at 2026-11-22T11:47:09.056Z,", "at 2030-01-01T00:00:00.000Z,", true);
    check("at 2026-11-22T11:47:09Z", "at soon", false);
    check("5881 identities  1.3 s  4498 per second", "5881 identities  21.9 s  7 per second", true);
    check("5881 identities  1.3 s", "5882 identities  1.3 s", false);
    check("written  swift.proof, 8952 bytes", "written  swift.proof, 9017 bytes", true);
    check("yes: … of 4", "yes: 3 of 4", true);
    check("a\n…\nb", "a\nx\ny\nb", true);
    check("a\n…\nb", "a\nb\nc", false);
    check("…", "", true);
    check("", "a", false);
    check("{\"karma\":5,…}", "{\"karma\":5,\"more\":[1]}", true);
    check("{\"karma\":5,…}", "{\"karma\":6,\"more\":[1]}", false);
}

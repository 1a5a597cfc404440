//! What `make package` makes, used as a stranger would: the Debian package in a Debian of its own, the image in a
//! container. Both need root, and programs that few machines have.
#![allow(clippy::print_stdout, reason = "a test that shows nothing must say so")]
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cli::program;
use crate::papers::{console_block, root};

/// How long a node in a container may take until it answers.
const PATIENCE: Duration = Duration::from_secs(60);
/// The user of the image.
const IMAGE_USER: u32 = 10_001;

/// Whether there is all that a test needs here. If not, says so; where everything is to be tried, that is a failure.
fn has(programs: &[&str]) -> bool {
    let found = |name: &&&str| {
        let places = std::env::var_os("PATH").into_iter();
        let mut places = places.flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
        places.any(|place| place.join(name).is_file())
    };
    let mut missing: Vec<&str> = programs.iter().filter(|name| !found(name)).copied().collect();
    // Who owns a folder that this process makes.
    let here = tempfile::tempdir().unwrap();
    if fs::metadata(here.path()).unwrap().uid() != 0 {
        missing.push("root");
    }
    if missing.is_empty() {
        return true;
    }
    assert!(std::env::var_os("FAMA_FOREIGN").is_none(), "missing: {missing:?}");
    println!("skipped, since this machine lacks {missing:?}: the packages were not tried");
    false
}

fn output(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Runs a command that must succeed; returns what it printed.
fn done(command: &mut Command) -> String {
    let output = output(command);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}\n{out}\n{err}");
    out.into_owned()
}

/// The script that makes the packages, with the program that is tested; returns the paths of what it made.
fn packaged(folder: &Path, what: &[&str]) -> Vec<PathBuf> {
    let mut script = Command::new(root().join(".cargo/package.sh"));
    script.args(what).env("FAMA_PROGRAM", program()).env("FAMA_PACKAGES", folder.join("package"));
    done(&mut script).lines().map(PathBuf::from).collect()
}

/// A small Debian in a folder, in which programs run that see nothing else.
struct SmallDebian(PathBuf);

impl SmallDebian {
    fn unpack(archive: &Path, folder: PathBuf) -> Self {
        fs::create_dir(&folder).unwrap();
        done(Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(&folder));
        Self(folder)
    }

    /// With a file in place of systemd that notes what it is told.
    fn with_systemctl(self) -> Self {
        self.write("usr/local/bin/systemctl", "#!/bin/sh\necho \"$*\" >> /told\n", 0o755);
        fs::create_dir_all(self.0.join("run/systemd/system")).unwrap();
        self
    }

    /// What systemd was told since the last call.
    fn told(&self) -> Vec<String> {
        let told = fs::read_to_string(self.0.join("told")).unwrap_or_default();
        fs::write(self.0.join("told"), "").unwrap();
        told.lines().map(str::to_owned).collect()
    }

    fn write(&self, file: &str, text: &str, mode: u32) {
        let path = self.0.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// A shell command in it, with processes of its own that end with it.
    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "chroot"]).arg(&self.0);
        command.args(["sh", "-ec", line]).env_clear().env("PATH", "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    fn run(&self, line: &str) -> String {
        done(&mut self.command(line))
    }

    /// Type, owner and mode of a file.
    fn rights(&self, file: &str) -> String {
        self.run(&format!("stat -c '%F %U:%G %a' {file}")).trim().to_owned()
    }

    fn has(&self, file: &str) -> bool {
        self.0.join(file).exists()
    }
}

/// Installed, configured as the paper says, upgraded, removed and purged: the service is never started without a
/// configuration, and the ledger and the keys are still there in the end.
#[test]
fn the_debian_package_installs_and_leaves_the_ledger() {
    if !has(&["dpkg-deb", "dpkg-shlibdeps", "strip", "mmdebstrap", "unshare", "chroot", "tar"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let made = packaged(dir.path(), &["deb", "base"]);
    let debian = SmallDebian::unpack(&made[1], dir.path().join("debian")).with_systemctl();
    let package = made[0].file_name().unwrap().to_str().unwrap();
    fs::copy(&made[0], debian.0.join(package)).unwrap();

    let said = debian.run(&format!("dpkg --install /{package}"));
    assert!(said.contains("systemctl enable --now fama"), "{said}");
    assert_eq!(debian.told(), ["daemon-reload"], "it isn't started");
    assert_eq!(debian.run("fama --version"), done(Command::new(program()).arg("--version")));
    assert_eq!(debian.run("getent passwd fama | cut -d: -f 6-"), "/var/lib/fama:/usr/sbin/nologin\n");
    for (file, rights) in [
        ("/usr/bin/fama", "regular file root:root 755"),
        ("/etc/fama", "directory root:fama 750"),
        ("/etc/fama/node.toml", "regular file root:root 644"),
        ("/var/lib/fama", "directory fama:fama 700"),
        ("/usr/lib/systemd/system/fama.service", "regular file root:root 644"),
        ("/usr/share/bash-completion/completions/fama", "regular file root:root 644"),
    ] {
        assert_eq!(debian.rights(file), rights, "{file}");
    }
    debian.run("dpkg --verify fama; dpkg --audit");
    // The small Debian leaves manuals out: these are the package's.
    let contents = done(Command::new("dpkg-deb").arg("--contents").arg(&made[0]));
    for page in ["fama.1.gz", "fama-node.1.gz", "fama-federation-draft.1.gz"] {
        assert!(contents.contains(&format!("/usr/share/man/man1/{page}")), "{page}");
    }
    assert!(!contents.contains("fama-man.1.gz"), "no page for what only packagers use");
    for file in ["usr/share/doc/fama/copyright", "usr/share/doc/fama/changelog.gz"] {
        assert!(debian.has(file), "{file}");
    }
    let unit = fs::read_to_string(debian.0.join("usr/lib/systemd/system/fama.service")).unwrap();
    let started: Vec<&str> = unit.lines().filter(|line| line.starts_with("ExecStart")).collect();
    assert!(started.len() == 2 && started.iter().all(|line| line.contains("=/usr/bin/fama node --config /etc/fama/")));

    // As the unit starts it, before anybody configured it.
    let check = "runuser -u fama -- fama --json node --config /etc/fama/node.toml --check";
    let refused = output(&mut debian.command(check));
    let answer: Value = serde_json::from_slice(&refused.stdout).unwrap();
    assert!(!refused.status.success() && answer["code"] == "config_file", "{answer}");
    // And as the paper says to configure it.
    for line in console_block("docs/operating.md", "Install from a package").into_iter().skip(1) {
        debian.run(&line);
    }
    assert_eq!(debian.told(), ["enable --now fama"]);
    let answer: Value = serde_json::from_str(&debian.run(check)).unwrap();
    assert_eq!(answer["data_dir"], "/var/lib/fama/data");
    assert_eq!(answer["operator"], "alpha.example");
    debian.run("runuser -u fama -- sh -c 'mkdir /var/lib/fama/data; echo entries > /var/lib/fama/data/log'");

    debian.run("chmod 0700 /etc/fama");
    debian.run(&format!("dpkg --install /{package}"));
    assert_eq!(debian.told(), ["daemon-reload", "try-restart fama.service"], "an upgrade");
    assert_eq!(debian.rights("/etc/fama"), "directory root:fama 700", "what an administrator set stays");
    assert!(fs::read_to_string(debian.0.join("etc/fama/node.toml")).unwrap().contains("\noperator = "));

    debian.run("dpkg --remove fama");
    assert_eq!(debian.told(), ["disable --now fama.service", "daemon-reload"]);
    assert!(!debian.has("usr/bin/fama") && debian.has("etc/fama/node.toml"));
    let said = debian.run("dpkg --purge fama");
    assert!(!debian.has("etc/fama/node.toml"));
    for kept in ["var/lib/fama/data", "etc/fama/node.pem", "etc/fama/manifest.txt"] {
        assert!(debian.has(kept) && said.contains(&format!("kept /{kept}:")), "{kept}: {said}");
    }
    assert_eq!(fs::read_to_string(debian.0.join("var/lib/fama/data/log")).unwrap(), "entries\n");
    assert_eq!(debian.rights("/var/lib/fama/data"), "directory fama:fama 755", "the owner has its name");

    // Where there is nothing, nothing stays.
    debian.run("rm -r /var/lib/fama/data /etc/fama/*");
    debian.run(&format!("dpkg --install /{package}; dpkg --purge fama"));
    assert!(!debian.has("var/lib/fama") && !debian.has("etc/fama"));
}

/// An image in a storage of its own.
struct Storage(PathBuf);

impl Storage {
    fn buildah(&self, args: &[&str]) -> String {
        let mut buildah = Command::new("buildah");
        buildah.arg("--root").arg(self.0.join("storage")).arg("--runroot").arg(self.0.join("run"));
        done(buildah.args(["--storage-driver", "vfs"]).args(args)).trim().to_owned()
    }
}

/// A container; dropping it ends everything in it.
struct Container {
    runc: PathBuf,
    process: Child,
}

impl Container {
    fn runc(folder: &Path) -> Command {
        let mut runc = Command::new("runc");
        runc.arg("--root").arg(folder.join("runc"));
        runc
    }

    /// With a read-only root, no capability, no rights to gain, a network of its own, and the image's user and command.
    fn start(folder: &Path, tree: &str, image: &Value, mounts: &[(&str, &Path, &str)]) -> Self {
        let words = |field: &str| image[field].as_array().cloned().unwrap_or_default();
        let args = [words("Entrypoint"), words("Cmd")].concat();
        let (user, group) = image["User"].as_str().unwrap().split_once(':').unwrap();
        let mut all = vec![
            json!({"destination": "/proc", "type": "proc", "source": "proc"}),
            json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]}),
        ];
        all.extend(mounts.iter().map(|(place, source, right)| {
            json!({"destination": place, "type": "bind", "source": source, "options": ["bind", right]})
        }));
        let spaces = ["pid", "mount", "ipc", "uts", "network"].map(|kind| json!({"type": kind}));
        let config = json!({
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": user.parse::<u32>().unwrap(), "gid": group.parse::<u32>().unwrap()},
                "args": args, "env": image["Env"],
                "cwd": image["WorkingDir"], "capabilities": {}, "noNewPrivileges": true,
            },
            "root": {"path": tree, "readonly": true}, "mounts": all, "linux": {"namespaces": spaces},
        });
        fs::write(folder.join("config.json"), config.to_string()).unwrap();
        let log = fs::File::create(folder.join("log")).unwrap();
        let process = Self::runc(folder)
            .args(["run", "--bundle"])
            .arg(folder)
            .arg("node")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { runc: folder.to_owned(), process }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.runc.join("log")).unwrap()
    }

    fn execute(&self, args: &[&str]) -> Output {
        output(Self::runc(&self.runc).args(["exec", "node"]).args(args))
    }

    /// Repeats a command in the container until it succeeds; returns what it printed.
    fn eventually(&mut self, args: &[&str]) -> String {
        let begun = Instant::now();
        loop {
            let output = self.execute(args);
            if output.status.success() {
                return String::from_utf8(output.stdout).unwrap();
            }
            let (ended, log) = (self.process.try_wait().unwrap(), self.log());
            assert!(ended.is_none() && begun.elapsed() < PATIENCE, "{args:?}: {output:?}, {ended:?}\n{log}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = Self::runc(&self.runc).args(["delete", "--force", "node"]).output();
        let _ = self.process.wait();
    }
}

/// The image, as an engine would run it that trusts nobody: no root, nothing to write but the volume, no capability. Its
/// health check succeeds, the node is ready, and SIGTERM stops it in order.
#[test]
fn the_image_runs_with_a_read_only_root_and_no_rights() {
    if !has(&["buildah", "runc", "mmdebstrap", "dpkg-deb", "dpkg-shlibdeps", "strip"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let made = packaged(dir.path(), &["deb", "image"]);
    let storage = Storage(dir.path().join("containers"));
    let container = storage.buildah(&["from", &format!("docker-archive:{}", made[1].display())]);
    let tree = storage.buildah(&["mount", &container]);
    let image: Value = serde_json::from_str(&storage.buildah(&["inspect", &container])).unwrap();
    let image = &image["Docker"]["config"];
    assert_eq!(image["User"], format!("{IMAGE_USER}:{IMAGE_USER}"));
    assert_eq!(image["Volumes"], json!({"/var/lib/fama": {}}));
    let volume = fs::metadata(Path::new(&tree).join("var/lib/fama")).unwrap();
    assert_eq!((volume.uid(), volume.mode() & 0o7777), (IMAGE_USER, 0o700), "a new volume gets these");

    // An operator's folder as the program makes it, with the paths of the image.
    let (settings, data) = (dir.path().join("demo/alpha.example"), dir.path().join("volume"));
    let mut new = Command::new(program());
    done(new.args(["federation", "new", "Demo", "alpha.example", "--out"]).arg(dir.path().join("demo")));
    let file = settings.join("node.toml");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("\ndata_dir = \"data\"\n"), "{text}");
    fs::write(&file, text.replace("\ndata_dir = \"data\"\n", "\ndata_dir = \"/var/lib/fama/data\"\n")).unwrap();
    fs::create_dir(&data).unwrap();
    for owned in [&data, &settings, &settings.join("node.pem")] {
        std::os::unix::fs::chown(owned, Some(IMAGE_USER), Some(IMAGE_USER)).unwrap();
    }

    let mounts: [(&str, &Path, &str); 2] = [("/etc/fama", &settings, "ro"), ("/var/lib/fama", &data, "rw")];
    let mut node = Container::start(dir.path(), &tree, image, &mounts);
    let check: Vec<&str> =
        image["Healthcheck"]["Test"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    assert_eq!(check[0], "CMD");
    let status = node.eventually(&check[1..]);
    assert!(status.contains("alpha.example"), "{status}");
    // What /readyz says, in the words of a shell of the base image; it has no program for HTTP.
    let ready =
        "exec 3<>/dev/tcp/127.0.0.1/9090; printf 'GET /readyz HTTP/1.0\\r\\n\\r\\n' >&3; grep -F '\"ready\"' <&3";
    node.eventually(&["bash", "-c", ready]);
    let rights = node.eventually(&["grep", "-E", "^(Uid|CapPrm|CapBnd|NoNewPrivs)", "/proc/1/status"]);
    let rights: Vec<String> =
        rights.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let none = "0000000000000000";
    let (user, permitted, bound) =
        (format!("Uid: {0} {0} {0} {0}", IMAGE_USER), format!("CapPrm: {none}"), format!("CapBnd: {none}"));
    assert_eq!(rights, [user, permitted, bound, "NoNewPrivs: 1".to_owned()]);
    let refused = node.execute(&["touch", "/var/log/x", "/etc/fama/x", "/usr/x"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(said.matches("Read-only file system").count(), 3, "{said}");
    assert_eq!(fs::metadata(data.join("data")).unwrap().uid(), IMAGE_USER);

    done(Container::runc(dir.path()).args(["kill", "node", "TERM"]));
    let ended = node.process.wait().unwrap();
    assert!(ended.success(), "{ended}\n{}", node.log());
}

//! What people, tools and platforms really pass: each of these failed once.
use super::*;

/// Runs the program itself with these variables: they belong to the whole process.
fn program(dir: &Path, line: &str, variables: &[(&str, &str)]) -> (bool, String, String) {
    let args = line.split_whitespace().map(|arg| arg.replace("{}", dir.to_str().unwrap()).replace('~', " "));
    let mut command = Command::new(env!("CARGO_BIN_EXE_fama"));
    for (name, _) in std::env::vars_os() {
        let lower = name.to_string_lossy().to_lowercase();
        if lower.ends_with("_proxy")
            || ["ssl_cert", "aws_", "rust_log", "credentials"].iter().any(|known| lower.starts_with(known))
        {
            command.env_remove(name);
        }
    }
    let output = command.args(args).envs(variables.iter().copied()).stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

fn mode(path: &str, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_node_listens_where_the_manifest_says() {
    let dir = tempfile::tempdir().unwrap();
    for (host, listen) in [("::1", "\"/ip6/::/tcp/4001\""), ("203.0.113.7", "\"/ip4/0.0.0.0/tcp/4001\"")] {
        fs::remove_dir_all(dir.path().join("f")).ok();
        json(dir.path(), &format!("federation new T a.example --host {host} --out {{}}/f"));
        let config = fs::read_to_string(path(dir.path(), "f/a.example/node.toml")).unwrap();
        assert!(config.contains(listen), "{host}: {config}");
        assert!(!config.contains(if host == "::1" { "ip4" } else { "ip6" }), "{host}: {config}");
    }
    json(dir.path(), "federation operator b.example --host N.Example. --out {}/b");
    let config = fs::read_to_string(path(dir.path(), "b/node.toml")).unwrap();
    assert!(config.contains("/ip4/0.0.0.0/tcp/4001") && config.contains("/ip6/::/tcp/4001"), "{config}");
    assert!(fs::read_to_string(path(dir.path(), "b/operator.toml")).unwrap().contains("/dns/n.example/tcp/4001"));
    // Several nodes of one machine, named once for each, count up, too.
    json(dir.path(), "federation new T a.example b.example --host h.example --host h.example --out {}/g");
    let manifest = fs::read_to_string(path(dir.path(), "g/manifest.txt")).unwrap();
    assert!(manifest.contains("/dns/h.example/tcp/4001") && manifest.contains("/dns/h.example/tcp/4002"), "{manifest}");
}

#[test]
fn what_nobody_can_dial_is_refused_before_it_is_signed() {
    let dir = tempfile::tempdir().unwrap();
    for host in ["[::1]", "https://a.example", "a.example:4001", "0.0.0.0", "::", "256.1.1.1", "a..b", "~"] {
        for command in ["federation new T a.example", "federation operator a.example"] {
            let (code, _, err) = run(dir.path(), &format!("{command} --out {{}}/f --host {host}"));
            assert_eq!(code, ExitCode::from(fama_cli::USAGE), "{command} {host}: {err}");
        }
        let draft = format!("federation draft --address a.example=/dns/{host}/tcp/4001 --out {{}}/f");
        assert_eq!(run(dir.path(), &draft).0, ExitCode::from(fama_cli::USAGE), "{draft}");
    }
    let empty = ["fama", "federation", "operator", "a.example", "--host", "", "--out", "/nowhere/f"];
    assert_eq!(fama_cli::run(empty, &mut Vec::new(), &mut Vec::new()), ExitCode::from(fama_cli::USAGE));
    for port in ["--port", "--query-port", "--admin-port"] {
        for command in ["federation new T a.example", "federation operator a.example"] {
            let (code, _, err) = run(dir.path(), &format!("{command} --out {{}}/f {port} 0"));
            assert_eq!(code, ExitCode::from(fama_cli::USAGE), "{command} {port}: {err}");
        }
    }
    for (address, what) in
        [("/ip4/203.0.113.7/tcp/0", "port 0"), ("203.0.113.7:4001", "want"), ("/ip6/::/tcp/1", "no address")]
    {
        let (code, _, err) = run(dir.path(), &format!("federation draft --address a.example={address} --out {{}}/f"));
        assert!(code == ExitCode::from(fama_cli::USAGE) && err.contains(what), "{address}: {err}");
    }
    // From another operator's file.
    json(dir.path(), "federation operator b.example --host b.example --out {}/b");
    let file = path(dir.path(), "b/operator.toml");
    fs::write(&file, fs::read_to_string(&file).unwrap().replace("/dns/b.example/tcp", "/dns/https://b/tcp")).unwrap();
    assert_eq!(failure(dir.path(), "federation draft --add {}/b/operator.toml --out {}/f"), "address");
    for ports in ["--port 8080", "--query-port 9090", "--admin-port 4001"] {
        assert_eq!(failure(dir.path(), &format!("federation operator a.example --out {{}}/f {ports}")), "ports");
    }
    let crossing = "federation new T a.example b.example --query-port 4002 --out {}/f";
    assert_eq!(failure(dir.path(), crossing), "ports", "the query listener of one is the network port of the other");
    assert!(!dir.path().join("f").exists());
}

/// One base64url challenge in 64 begins with a hyphen.
#[test]
fn texts_may_begin_with_a_hyphen() {
    let dir = folder();
    let signed = json(dir.path(), "sign --key {}/agent.pem --name swift --payload -AbC");
    assert_eq!(signed["message"], "-AbC");
    json(dir.path(), "sign --key {}/agent.pem --name swift --payload --AbC");
    let key = openssl(&["pkey", "-in", &path(dir.path(), "agent.pem"), "-pubout"]);
    fs::write(path(dir.path(), "public.pem"), key).unwrap();
    let check = format!(
        "check-login --name swift --timestamp {} --payload -AbC --public {{}}/public.pem --signature",
        signed["timestamp"].as_str().unwrap()
    );
    json(dir.path(), &format!("{check} {}", signed["signature"].as_str().unwrap()));
    assert_eq!(failure(dir.path(), &format!("{check} -AbC")), "signature_malformed");
    let hand_in = "--manifest {}/manifest.txt --key {}/agent.pem --dry-run";
    let register = format!("register swift@alpha.example --bio -AbC --invite -AbC {hand_in}");
    assert!(json(dir.path(), &register)["note"].as_str().unwrap().contains("-AbC"));
    let id = format!("{}", EventId([7; 32]));
    let attest = "--delta -2 --context -a --reason -AbC --ref -AbC --home alpha.example";
    let attested = json(dir.path(), &format!("attest {id} --issuer {id} {attest} {hand_in}"));
    assert!(attested["note"].as_str().unwrap().contains("-AbC"), "{attested}");
    let admit =
        format!("admit {id} --service -a --domain a.example --method dns --no-check --manifest {{}}/manifest.txt");
    json(dir.path(), &format!("{admit} --key {{}}/alpha.example/node.pem --dry-run"));
}

/// A sign-in listener whose key the manifest does not name: it starts, issues nothing, and says so before.
#[test]
fn a_token_key_that_the_manifest_does_not_name_is_a_warning() {
    let dir = folder();
    json(dir.path(), "key new --out {}/token.pem --ed25519");
    let (config, token) = (path(dir.path(), "alpha.example/node.toml"), path(dir.path(), "token.pem"));
    let plain = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{plain}\n[auth]\nlisten = \"127.0.0.1:0\"\ntoken_key = \"{token}\"\n")).unwrap();
    let check = "node --config {}/alpha.example/node.toml --check";
    let warnings = json(dir.path(), check)["warnings"].to_string();
    assert!(warnings.contains("version 1 of the manifest names no token key ed25519:"), "{warnings}");
    fs::write(&config, plain).unwrap();
    assert_eq!(json(dir.path(), check)["warnings"].to_string(), "[]");
}

#[test]
fn an_issuer_that_does_not_answer_is_named_as_one() {
    let dir = folder();
    json(dir.path(), "key new --out {}/caller.pem");
    let asked =
        "token get swift@alpha.example --issuer http://127.0.0.1:1 --resource https://a.example --key {}/caller.pem";
    let (ok, _, err) = program(dir.path(), asked, &[]);
    assert!(!ok && err.contains("(unreachable)") && err.contains("is the issuer running?"), "{err}");
}

/// Modes with which service managers and orchestrators hand out keys.
#[test]
fn a_group_may_read_a_key_where_it_is_handed_out_so() {
    let dir = folder();
    let (key, config) = (path(dir.path(), "alpha.example/node.pem"), path(dir.path(), "alpha.example/node.toml"));
    let check = "node --config {}/alpha.example/node.toml --check";
    let plain = fs::read_to_string(&config).unwrap();
    for bits in [0o440, 0o640] {
        mode(&key, bits);
        fs::write(&config, &plain).unwrap();
        let (ok, _, err) = program(dir.path(), check, &[("CREDENTIALS_DIRECTORY", "")]);
        assert!(!ok && err.contains("key_permissions") && err.contains("group_readable_keys = true"), "{err}");
        let folder = path(dir.path(), "alpha.example");
        for line in [check, "key show {}/alpha.example/node.pem"] {
            let (ok, _, err) = program(dir.path(), line, &[("CREDENTIALS_DIRECTORY", &folder)]);
            assert!(ok, "{line}: {err}");
        }
        fs::write(&config, format!("group_readable_keys = true\n{plain}")).unwrap();
        json(dir.path(), check);
    }
    for bits in [0o444, 0o644, 0o460, 0o604, 0o602, 0o660] {
        mode(&key, bits);
        let (ok, _, err) = program(dir.path(), check, &[("CREDENTIALS_DIRECTORY", &path(dir.path(), "alpha.example"))]);
        assert!(!ok && err.contains("key_permissions") && err.contains("hint: chmod 600"), "{bits:o}: {err}");
    }
}

/// Keys as other tools write them: read where they are meant to be read, else refused with the way out, which works.
#[test]
fn keys_of_other_tools() {
    let dir = folder();
    let file = |name: &str| path(dir.path(), name);
    let agent = fs::read_to_string(file("agent.pem")).unwrap();
    let shown = json(dir.path(), "key show {}/agent.pem");
    openssl(&["req", "-x509", "-new", "-key", &file("agent.pem"), "-subj", "/CN=a", "-out", &file("cert.pem")]);
    let certificate = fs::read_to_string(file("cert.pem")).unwrap();
    for text in [format!("# my key\n{agent}"), format!("{agent}{certificate}"), format!("{certificate}{agent}")] {
        fs::write(file("k.pem"), text).unwrap();
        mode(&file("k.pem"), 0o600);
        assert_eq!(json(dir.path(), "key show {}/k.pem"), shown);
    }
    fs::remove_file(file("k.pem")).unwrap();
    openssl(&["pkcs8", "-topk8", "-in", &file("agent.pem"), "-passout", "pass:x", "-out", &file("encrypted8.pem")]);
    openssl(&["ec", "-in", &file("agent.pem"), "-aes128", "-passout", "pass:x", "-out", &file("encrypted1.pem")]);
    for name in ["encrypted8.pem", "encrypted1.pem"] {
        mode(&file(name), 0o600);
        assert_eq!(failure(dir.path(), &format!("key show {{}}/{name}")), "key_encrypted");
        let (_, _, err) = run(dir.path(), &format!("sign --key {{}}/{name} --name swift --payload x"));
        assert!(err.contains("hint: `openssl pkey -in FILE -out NEW`"), "{err}");
        openssl(&["pkey", "-in", &file(name), "-passin", "pass:x", "-out", &file("plain.pem")]);
        assert_eq!(json(dir.path(), "key show {}/plain.pem"), shown);
        fs::remove_file(file("plain.pem")).unwrap();
    }
    for (options, name) in [(&["-noout"][..], "sec1.pem"), (&[], "with_parameters.pem")] {
        let out = file(name);
        let base = ["ecparam", "-name", "secp256k1", "-genkey", "-param_enc", "explicit", "-out", &out];
        openssl(&[&base, options].concat());
        mode(&out, 0o600);
        let (_, _, err) = run(dir.path(), &format!("key show {{}}/{name}"));
        assert!(err.contains("explicit curve parameters (key_algorithm)") && err.contains("named_curve"), "{err}");
        openssl(&["ec", "-in", &out, "-param_enc", "named_curve", "-out", &file("named.pem")]);
        json(dir.path(), "key show {}/named.pem");
    }
    openssl(&["pkey", "-in", &file("agent.pem"), "-outform", "DER", "-out", &file("agent.der")]);
    mode(&file("agent.der"), 0o600);
    let (_, _, err) = run(dir.path(), "sign --key {}/agent.der --name swift --payload x");
    assert!(err.contains("hint: want a text file"), "{err}");
    let ssh = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjE=\n-----END OPENSSH PRIVATE KEY-----\n";
    fs::write(file("ssh.pem"), ssh).unwrap();
    mode(&file("ssh.pem"), 0o600);
    let (_, _, err) = run(dir.path(), "key show {}/ssh.pem");
    assert!(err.contains("(key_openssh)") && err.contains("ssh-keygen"), "{err}");
}

/// `--check` finds what would keep the node from starting, and leaves everything as it was.
#[test]
fn the_check_of_a_configuration_tries_what_a_start_needs() {
    let dir = folder();
    let (folder, config) = (path(dir.path(), "alpha.example"), path(dir.path(), "alpha.example/node.toml"));
    let check = "node --config {}/alpha.example/node.toml --check";
    let plain = fs::read_to_string(&config).unwrap();
    let names = || fs::read_dir(&folder).unwrap().count();
    let before = names();
    assert_eq!(json(dir.path(), check)["warnings"], serde_json::json!([]));
    fs::write(&config, plain.replace("\"data\"", "\"a/b/data\"")).unwrap();
    json(dir.path(), check);
    assert_eq!(names(), before, "the folders that were made to try it are gone");
    // Below a file no folder can be created, whoever runs this; in a folder of the kernel's nobody can write.
    for place in ["node.pem/data", "node.pem", "/proc/sys/data", "/proc/self"] {
        fs::write(&config, plain.replace("\"data\"", &format!("\"{place}\""))).unwrap();
        let (code, _, err) = run(dir.path(), check);
        assert!(code == ExitCode::from(fama_cli::FAILED) && err.contains(place), "{place}: {err}");
    }
    fs::write(&config, &plain).unwrap();
    fs::create_dir(path(dir.path(), "alpha.example/data.rebuilt")).unwrap();
    assert_eq!(failure(dir.path(), check), "store_half_repaired");
    fs::remove_dir(path(dir.path(), "alpha.example/data.rebuilt")).unwrap();

    fs::write(&config, plain.replace("127.0.0.1:9090", "127.0.0.1:8080")).unwrap();
    assert_eq!(failure(dir.path(), check), "config_value");
    fs::write(&config, plain.replace("127.0.0.1:9090", "0.0.0.0:9090")).unwrap();
    let (_, _, err) = run(dir.path(), check);
    assert!(err.contains("warning: admin.listen 0.0.0.0:9090"), "{err}");
}

/// A server with a certificate of an authority of its own; any request gets the same JSON.
struct TlsServer {
    child: std::process::Child,
    port: u16,
}

impl TlsServer {
    /// With `leaf.pem` and `leaf.key` in `dir`, which also has what it serves.
    fn start(dir: &Path) -> Self {
        use std::io::{BufRead, BufReader};
        fs::create_dir_all(dir.join("api")).unwrap();
        fs::write(dir.join("api/leaderboard?limit=20"), "HTTP/1.0 200 OK\r\ncontent-length: 13\r\n\r\n{\"agents\":[]}")
            .unwrap();
        let mut command = Command::new("openssl");
        command.args(["s_server", "-accept", "127.0.0.1:0", "-cert", "leaf.pem", "-key", "leaf.key", "-HTTP"]);
        command.current_dir(dir).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let accept = lines.find(|line| line.starts_with("ACCEPT")).unwrap();
        let port = accept.rsplit_once(':').unwrap().1.trim().parse().unwrap();
        // It goes on writing.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, port }
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn certificates_of_the_system_and_of_the_user_count() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| path(dir.path(), name);
    let ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    openssl(
        &[&["req", "-x509", "-subj", "/CN=ca", "-out", &file("ca.pem"), "-keyout", &file("ca.key")], &ec[..]].concat(),
    );
    openssl(
        &[&["req", "-subj", "/CN=leaf", "-out", &file("leaf.csr"), "-keyout", &file("leaf.key")], &ec[..]].concat(),
    );
    fs::write(file("names"), "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n").unwrap();
    let sign = ["x509", "-req", "-in", &file("leaf.csr"), "-CA", &file("ca.pem"), "-CAkey", &file("ca.key")];
    openssl(&[&sign[..], &["-CAcreateserial", "-extfile", &file("names"), "-out", &file("leaf.pem")]].concat());
    let server = TlsServer::start(dir.path());
    let ask = |options: &str, variables: &[(&str, &str)]| {
        program(dir.path(), &format!("leaderboard --query https://127.0.0.1:{} {options}", server.port), variables)
    };
    let (ok, _, err) = ask("", &[]);
    assert!(
        !ok && err.contains("UnknownIssuer") && err.contains("(certificate)") && err.contains("hint: --ca FILE"),
        "{err}"
    );
    let (ca, empty) = (file("ca.pem"), file("empty"));
    fs::create_dir(dir.path().join("certificates")).unwrap();
    fs::copy(&ca, dir.path().join("certificates/ca.pem")).unwrap();
    fs::write(&empty, "").unwrap();
    for (options, variables) in [
        ("", &[("SSL_CERT_FILE", ca.as_str())][..]),
        ("", &[("SSL_CERT_DIR", &file("certificates"))]),
        ("--ca {}/ca.pem", &[]),
        ("--ca {}/ca.pem", &[("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")]),
        ("--ca {}/ca.pem", &[("SSL_CERT_FILE", "")]),
    ] {
        let (ok, _, err) = ask(options, variables);
        assert!(ok, "{options} {variables:?}: {err}");
    }
    let (_, _, err) = ask("", &[("SSL_CERT_FILE", "/nowhere/ca.pem")]);
    assert!(err.contains("(certificate)") && err.contains("SSL_CERT_FILE: "), "what the variable names is told: {err}");
    for bad in ["--ca /nowhere", "--ca {}/empty", "--ca {}/leaf.key"] {
        let (ok, _, err) = ask(bad, &[]);
        assert!(!ok && err.contains("(ca)") && err.contains("hint: "), "{bad}: {err}");
    }
    let other = format!("leaderboard --ca {{}}/ca.pem --query https://localhost:{}", server.port);
    let (_, _, err) = program(dir.path(), &other, &[]);
    assert!(err.contains("(certificate)") && err.contains("another name"), "{err}");
    // The reader of public files has the same client.
    let audit = format!("audit https://127.0.0.1:{}", server.port);
    let (_, _, err) = program(dir.path(), &audit, &[]);
    assert!(err.contains("UnknownIssuer") && err.contains("hint: --ca FILE"), "{err}");
    let (_, _, err) = program(dir.path(), &format!("{audit} --ca {{}}/ca.pem"), &[]);
    assert!(!err.contains("UnknownIssuer"), "{err}");
    // So has that of buckets.
    let endpoint = format!("https://127.0.0.1:{}", server.port);
    let keys = [("AWS_ENDPOINT", endpoint.as_str()), ("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")];
    let export = "export --format csv --to {}/tables --from s3://bucket/fama";
    let (_, _, err) = program(dir.path(), export, &keys);
    assert!(err.contains("UnknownIssuer"), "{err}");
    let (_, _, err) = program(dir.path(), &format!("{export} --ca {{}}/ca.pem"), &keys);
    assert!(!err.contains("UnknownIssuer"), "{err}");
}

/// Answers every connection: what comes first says what. Gives the first line of each.
fn stand_in(answers: &'static [&'static str]) -> (u16, std::sync::mpsc::Receiver<String>) {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (told, heard) = std::sync::mpsc::sync_channel(64);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            for answer in answers {
                let (mut head, mut byte) = (Vec::new(), [0]);
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read > 0) {
                    head.push(byte[0]);
                }
                let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
                let _ = told.send(line);
                let _ = stream.write_all(answer.as_bytes());
            }
        }
    });
    (port, heard)
}

const CONNECTED: &str = "HTTP/1.1 200 Connection established\r\n\r\n";
const JSON: &str = "HTTP/1.1 200 OK\r\ncontent-length: 13\r\nconnection: close\r\n\r\n{\"agents\":[]}";

/// As curl goes.
#[test]
fn proxies_are_those_that_curl_takes() {
    let dir = tempfile::tempdir().unwrap();
    let (node, _) = stand_in(&[JSON]);
    let line = format!("leaderboard --query http://127.0.0.1:{node}");
    let dead = "http://127.0.0.1:9";
    for variables in [
        &[("https_proxy", dead)][..],
        &[("HTTP_PROXY", dead)],
        &[("http_proxy", ""), ("all_proxy", dead)],
        &[("http_proxy", dead), ("NO_PROXY", "127.0.0.0/8")],
        &[("http_proxy", dead), ("no_proxy", "example.org, 127.0.0.1")],
        &[("all_proxy", dead), ("no_proxy", "*")],
    ] {
        let (ok, _, err) = program(dir.path(), &line, variables);
        assert!(ok, "{variables:?}: {err}");
    }
    for variables in
        [&[("http_proxy", dead)][..], &[("ALL_PROXY", dead)], &[("http_proxy", dead), ("no_proxy", "128.0.0.0/8")]]
    {
        let (ok, _, err) = program(dir.path(), &line, variables);
        let name = variables[0].0;
        assert!(!ok && err.contains(&format!("the proxy {dead} ({name})")) && err.contains("(proxy)"), "{err}");
        assert!(err.contains("no_proxy"), "the hint fits: {err}");
        let (_, _, err) = program(dir.path(), &format!("audit http://127.0.0.1:{node}"), variables);
        assert!(err.contains("the proxy") && err.contains("hint: is the proxy right?"), "{err}");
    }
    let (proxy, heard) = stand_in(&[CONNECTED, JSON]);
    let through = format!("user:pass@127.0.0.1:{proxy}");
    let (ok, _, err) = program(dir.path(), "leaderboard --query http://node.example:8080", &[("http_proxy", &through)]);
    assert!(ok, "{err}");
    assert_eq!(heard.recv().unwrap(), "CONNECT node.example:8080 HTTP/1.1");
    assert!(heard.recv().unwrap().starts_with("GET /api/leaderboard"));
    let (refusing, _) = stand_in(&["HTTP/1.1 407 Who are you\r\ncontent-length: 0\r\n\r\n"]);
    let refusing = format!("http://user:secret@127.0.0.1:{refusing}");
    let (_, _, err) = program(dir.path(), &line, &[("http_proxy", &refusing)]);
    assert!(err.contains("407") && err.contains("(proxy)") && !err.contains("secret"), "{err}");
    let (_, _, err) = program(dir.path(), &line, &[("http_proxy", "ftp://p.example")]);
    assert!(err.contains("http_proxy: want a URL"), "{err}");
}

/// Symptom: a minute of silence, and no word of credentials.
#[test]
fn a_bucket_without_credentials_says_so_at_once() {
    let dir = tempfile::tempdir().unwrap();
    // Accepts connections and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let service = format!("http://{}", silent.local_addr().unwrap());
    let begun = std::time::Instant::now();
    let source = "publish --from http://127.0.0.1:1 --once --to";
    let (ok, _, err) = program(
        dir.path(),
        &format!("{source} s3://bucket/fama"),
        &[("AWS_METADATA_ENDPOINT", &service), ("AWS_ACCESS_KEY_ID", "")],
    );
    assert!(!ok && err.contains("no AWS credentials") && err.contains("AWS_SECRET_ACCESS_KEY"), "{err}");
    assert!(begun.elapsed() < std::time::Duration::from_secs(10), "{:?}", begun.elapsed());
    for (place, what) in
        [("s3:///fama", "the bucket has no name"), ("S3://", "the bucket has no name"), ("gs://b", "want s3://")]
    {
        let (ok, _, err) = program(dir.path(), &format!("{source} {place}"), &[]);
        assert!(!ok && err.contains(what), "{place}: {err}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "and makes no folder");
}

#[test]
fn a_malformed_filter_of_the_log_is_told() {
    let dir = folder();
    let config = path(dir.path(), "alpha.example/node.toml");
    // An address that is warned about.
    let text = fs::read_to_string(&config).unwrap().replace("127.0.0.1:9090", "0.0.0.0:9090");
    let text = ["tcp/4001", "udp/4001", ":8080", ":9090"].iter().fold(text, |text, port| {
        text.replace(port, &format!("{}0", port.trim_end_matches(|c: char| c.is_ascii_digit())))
    });
    fs::write(config, text).unwrap();
    // It ends at once: its parent is gone.
    let node = "node --config {}/alpha.example/node.toml --stop-with-stdin";
    for (filter, told) in [("", false), ("info", false), ("fama_node=loud", true)] {
        let (ok, _, err) = program(dir.path(), node, &[("RUST_LOG", filter)]);
        assert!(ok, "{err}");
        assert!(err.contains("WARN") && err.contains("admin.listen"), "{filter:?}: {err}");
        assert_eq!(err.contains("RUST_LOG is malformed"), told, "{filter:?}: {err}");
    }
}

//! What people, tools and platforms really pass: each of these failed once.
use super::*;

/// Runs the program itself with these variables: they belong to the whole process.
fn program(dir: &Path, line: &str, variables: &[(&str, &str)]) -> (bool, String, String) {
    let args = line.split_whitespace().map(|arg| arg.replace("{}", dir.to_str().unwrap()).replace('~', " "));
    let mut command = Command::new(env!("CARGO_BIN_EXE_fama"));
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
    let admit = format!("admit {id} --service -a --domain a.example --method dns --manifest {{}}/manifest.txt");
    json(dir.path(), &format!("{admit} --key {{}}/alpha.example/node.pem --dry-run"));
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

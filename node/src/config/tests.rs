//! What a configuration may say, and how a wrong one is refused.
use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

use fama_ledger::key::Curve;
use fama_ledger::manifest::{Genesis, Operator, Policy};
use fama_ledger::signed_note::{self, SignedNote};

/// A manifest of alpha.example, whose node key has this seed.
fn note(node: u8) -> String {
    let key = |seed| SecretKey::from_seed(Curve::Ed25519, &[seed; 32]).unwrap();
    let (node, governance) = (key(node), key(2));
    let name: Domain = "alpha.example".parse().unwrap();
    let operator = Operator {
        name: name.clone(),
        node_key: node.ed25519().unwrap().verifying_key(),
        governance_key: governance.ed25519().unwrap().verifying_key(),
        generation: 1,
        begins: fama_ledger::time::Millis::FIRST,
        addresses: vec!["/ip4/127.0.0.1/tcp/4001".to_owned()],
        endpoints: fama_ledger::manifest::Endpoints::default(),
    };
    let genesis = Genesis { name: "Test".to_owned(), policy: Policy::recommended(1), operators: vec![operator] };
    let text = genesis.text().unwrap();
    let signatures = vec![signed_note::sign(&text, name.as_str(), governance.ed25519().unwrap())];
    SignedNote { text, signatures }.to_string()
}

/// A folder with a manifest of alpha.example, its key, other keys, and a configuration.
fn folder(config: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let key = |seed| SecretKey::from_seed(Curve::Ed25519, &[seed; 32]).unwrap();
    let (node, note) = (key(1), note(1));
    fs::write(dir.path().join("manifest.txt"), &note).unwrap();
    fs::write(dir.path().join("broken.txt"), note.replace("Test", "Rest")).unwrap();
    let agent = SecretKey::from_seed(Curve::Secp256k1, &[3; 32]).unwrap();
    for (name, pem, mode) in [
        ("node.pem", node.to_pem(), 0o600),
        ("open.pem", node.to_pem(), 0o640),
        ("other.pem", key(4).to_pem(), 0o600),
        ("agent.pem", agent.to_pem(), 0o600),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, pem.as_bytes()).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::write(dir.path().join("node.toml"), config).unwrap();
    dir
}

pub(super) fn load(config: &str) -> Result<Config, ConfigError> {
    Config::load(&folder(config).path().join("node.toml"))
}

pub(super) const SHORT: &str = "data_dir = \"data\"\nmanifest = \"manifest.txt\"\nnode_key = \"node.pem\"\n";

/// The reference with `operator` and `namespace` uncommented.
fn reference() -> String {
    REFERENCE.replace("# operator =", "operator =").replace("# namespace =", "namespace =")
}

#[test]
fn the_reference_holds_the_defaults() {
    let (short, long) = (load(&format!("{SHORT}operator = \"alpha.example\"\n")), load(&reference()));
    let (short, long) = (short.unwrap(), long.unwrap());
    assert_eq!(long.network, short.network);
    assert_eq!((long.query, long.admin), (short.query, short.admin));
    assert_eq!((&long.access, &short.access), (&AccessSettings::default(), &long.access));
    assert_eq!(long.admission, short.admission);
    assert_eq!(long.domains, short.domains);
    assert_eq!(long.storage, short.storage);
    assert_eq!(long.log, short.log);
    assert_eq!((long.operator, long.namespace.clone()), (short.operator, short.namespace));
    assert_eq!(long.namespace.unwrap().as_str(), "alpha.example");
    assert_eq!(long.data_dir.file_name().unwrap(), "data");
}

/// Compares the settings that the parser knows, in every table, with those that the reference names.
#[test]
fn the_reference_names_every_setting() {
    let text = reference();
    let tables = [
        "",
        "[network]\n",
        "[query]\n",
        "[admin]\n",
        "[admission]\n",
        "[auth]\n",
        "[scrub]\n",
        "[domains]\n",
        "[storage]\n",
        "[log]\n",
    ];
    for table in tables {
        let unknown = if table.is_empty() { format!("zzz = 1\n{SHORT}") } else { format!("{SHORT}{table}zzz = 1\n") };
        let message = load(&unknown).unwrap_err().to_string();
        let known: Vec<&str> = message.split('`').skip(3).step_by(2).collect();
        assert!(!known.is_empty(), "{message}");
        let section = text.split_once(table).unwrap().1;
        let section = if table.is_empty() { section } else { section.split("\n[").next().unwrap() };
        // Commented out in the reference: few nodes have a next key.
        let section = &section
            .replace("# next_node_key =", "next_node_key =")
            .replace("# token_key =", "token_key =")
            .replace("# resolver =", "resolver =");
        for setting in known {
            let named = section.lines().any(|line| line.starts_with(&format!("{setting} =")))
                || section.contains(&format!("\n[{setting}]\n"))
                || section.contains(&format!("\n# [[{setting}]]\n"));
            assert!(named, "{table}{setting}");
        }
    }
    // A table that may be there several times is a comment in the reference.
    let message = load(&format!("{SHORT}[[webhooks]]\nzzz = 1\n")).unwrap_err().to_string();
    let known: Vec<&str> = message.split('`').skip(3).step_by(2).collect();
    assert!(!known.is_empty(), "{message}");
    for setting in known {
        assert!(text.contains(&format!("\n# {setting} = ")), "webhooks.{setting}");
    }
}

#[test]
fn no_two_listeners_share_a_port() {
    let refused = |config: &str| {
        load(&format!("{SHORT}operator = \"alpha.example\"\n{config}")).err().map(|error| error.to_string())
    };
    for config in [
        "[query]\nlisten = \"127.0.0.1:9090\"\n",
        "[admin]\nlisten = \"0.0.0.0:8080\"\n",
        "[admin]\nlisten = \"[::]:8080\"\n",
        "[query]\nlisten = \"127.0.0.1:4001\"\n",
        "[query]\nlisten = \"[::1]:4001\"\n",
        "[network]\nlisten = [\"/ip4/0.0.0.0/tcp/9090\"]\n",
        "[network]\nlisten = [\"/ip4/0.0.0.0/tcp/4001\", \"/ip4/127.0.0.1/tcp/4001\"]\n",
        "[network]\nlisten = [\"/ip4/127.0.0.1/udp/1/quic-v1\", \"/ip4/127.0.0.1/udp/1/quic-v1\"]\n",
    ] {
        let refused = refused(config).unwrap_or_default();
        assert!(refused.contains("listen: ") && refused.contains("is also taken by"), "{config}: {refused}");
    }
    assert!(refused("[admin]\nlisten = \"0.0.0.0:8080\"\n").unwrap().contains("node.toml:6: admin.listen"));
    for config in [
        "[query]\nlisten = \"127.0.0.2:9090\"\n",
        "[query]\nlisten = \"127.0.0.1:9090\"\n[admin]\nenabled = false\n",
        "[query]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n",
        "[network]\nlisten = [\"/ip4/0.0.0.0/udp/8080/quic-v1\", \"/ip6/::/udp/8080/quic-v1\"]\n",
    ] {
        assert_eq!(refused(config), None, "{config}");
    }
}

#[test]
fn a_public_admin_listener_is_warned_about() {
    for (listen, warned) in [
        ("127.0.0.1:9090", false),
        ("[::1]:9090", false),
        ("10.0.0.7:9090", false),
        ("192.168.1.7:9090", false),
        ("100.64.0.1:9090", false),
        ("[fd00::1]:9090", false),
        ("[::ffff:10.0.0.7]:9090", false),
        ("0.0.0.0:9090", true),
        ("[::]:9090", true),
        ("203.0.113.7:9090", true),
        ("[2001:db8::7]:9090", true),
    ] {
        let config = load(&format!("{SHORT}operator = \"alpha.example\"\n[admin]\nlisten = \"{listen}\"\n"));
        let about = |warning: &String| warning.starts_with("admin.listen");
        assert_eq!(config.unwrap().warnings().iter().any(about), warned, "{listen}");
    }
}

#[test]
fn files_as_other_systems_write_them() {
    let dir = folder(&format!("{SHORT}operator = \"alpha.example\"\n"));
    for name in ["node.toml", "manifest.txt", "node.pem"] {
        let path = dir.path().join(name);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, format!("\u{feff}{}", text.replace('\n', "\r\n"))).unwrap();
    }
    assert_eq!(Config::load(&dir.path().join("node.toml")).unwrap().operator.unwrap().as_str(), "alpha.example");
}

#[test]
fn a_mirror_needs_no_operator() {
    let config = load(&SHORT.replace("node.pem", "other.pem")).unwrap();
    assert!(config.operator.is_none() && config.namespace.is_none());
}

/// An operator sees the line, the reason, a code and the next step.
/// Symptom: a node with its new key refused to start, although its data had the version that gives it that key. Cause:
/// only the file with the genesis counted.
#[test]
fn a_version_in_the_data_folder_counts_where_the_file_is_older() {
    let dir = folder(&format!("{SHORT}operator = \"alpha.example\"\n").replace("node.pem", "other.pem"));
    let load = |newest: Option<u8>| {
        let newest = newest.map(|key| Arc::new(Manifest::parse(&note(key)).unwrap()));
        Config::load_with(&dir.path().join("node.toml"), |data, _| {
            assert_eq!(data, dir.path().join("data"));
            newest.map_or(StoredManifest::Absent, StoredManifest::Newest)
        })
    };
    assert_eq!(load(None).unwrap_err().code(), "wrong_node_key");
    assert_eq!(load(Some(1)).unwrap_err().code(), "wrong_node_key");
    assert_eq!(load(Some(4)).unwrap().operator.unwrap().as_str(), "alpha.example");
    let unreadable = Config::load_with(&dir.path().join("node.toml"), |_, _| StoredManifest::Unreadable);
    assert_eq!(unreadable.unwrap().namespace.unwrap().as_str(), "alpha.example", "the database's error says more");
}

#[test]
fn errors_name_file_and_line() {
    let operator = "operator = \"alpha.example\"\n";
    let with = |from: &str, to: &str| format!("{SHORT}{operator}").replace(from, to);
    let table = [
        (with("data_dir", "datadir"), "node.toml:1: unknown field `datadir`", "config_toml"),
        (with("manifest = \"manifest.txt\"\n", ""), "node.toml:1: missing field `manifest`", "config_toml"),
        (with("\"data\"", "\"data"), "node.toml:1: invalid basic string", "config_toml"),
        (with("manifest.txt", "no.txt"), "node.toml:2: manifest: {dir}/no.txt: No such file", "config_file"),
        (with("manifest.txt", "node.pem"), "node.toml:2: {dir}/node.pem: not a signed note", "manifest_note"),
        (with("manifest.txt", "broken.txt"), "node.toml:2: {dir}/broken.txt: the gov", "manifest_signature"),
        (with("node.pem", "open.pem"), "node.toml:3: {dir}/open.pem has mode 0640, want 0600", "key_permissions"),
        (with("node.pem", "no.pem"), "node.toml:3: node_key: {dir}/no.pem: No such file", "config_file"),
        (with("node.pem", "manifest.txt"), "node.toml:3: {dir}/manifest.txt has mode", "key_permissions"),
        (with("node.pem", "agent.pem"), "node.toml:3: {dir}/agent.pem holds a secp", "key_algorithm"),
        (with("node.pem", "other.pem"), "node.toml:3: {dir}/other.pem holds ed25519:", "wrong_node_key"),
        (SHORT.to_owned(), "node.toml:3: {dir}/node.pem holds ed25519:", "wrong_node_key"),
        (with("alpha", "beta"), "node.toml:4: the manifest has no operator beta.example", "unknown_operator"),
        (with("alpha.example", "Alpha"), "node.toml:4: operator: want a domain", "config_value"),
        (
            with(operator, "namespace = \"b.example\"\noperator = \"alpha.example\""),
            "node.toml:4: namespace: the manifest has no",
            "config_value",
        ),
        (with(operator, "[query]\nlisten = 8080\n"), "node.toml:5: ", "config_toml"),
        (with(operator, "[query]\ntrusted_proxies = [\"10.0.0.0/33\"]\n"), "node.toml:5: want an addr", "config_toml"),
        (
            with(operator, &format!("[query]\ntrusted_proxies = [{}]\n", "\"::1\",".repeat(PROXIES_MAX + 1))),
            "node.toml:5: query.trusted_proxies: at most 64",
            "config_value",
        ),
        (with(operator, "\n[network]\nlisten = [\"1.2.3.4\"]\n"), "node.toml:6: ", "config_toml"),
        (with(operator, "[network]\nlisten = []\n"), "node.toml:4: network.listen: want 1 to 16", "config_value"),
        (with(operator, "[log]\nlevel = \"loud\"\n"), "node.toml:5: unknown variant `loud`", "config_toml"),
    ];
    for (config, message, code) in table {
        let dir = folder(&config);
        let error = Config::load(&dir.path().join("node.toml")).unwrap_err();
        let path = dir.path().display().to_string();
        let want = format!("{path}/{}", message.replace("{dir}", &path));
        assert!(error.to_string().starts_with(&want), "{error}\nwant {want}");
        assert_eq!(error.code(), code, "{error}");
        assert!(!error.hint().is_empty() && !error.to_string().contains('\n'));
    }
    let error = Config::load(Path::new("/nowhere/node.toml")).unwrap_err();
    assert_eq!(error.code(), "config_unreadable");
}

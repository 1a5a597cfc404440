//! The next version of a manifest from draft to chain, with nodes that are only what they answer.
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use fama_ledger::checkpoint::{Checkpoint, SignedCheckpoint};
use fama_ledger::codec;
use fama_ledger::equivocation::Equivocation;
use fama_ledger::id::{Hex, StateRoot};
use fama_ledger::limits::MANIFEST_BYTES_MAX;
use fama_ledger::log::{Head, MemoryTiles, Tree, leaf_hash, prove_consistency, root_at};
use fama_ledger::manifest::{LogId, Manifest};
use fama_ledger::secret::SecretKey;
use fama_ledger::signed_note::{self, SignedNote};
use fama_ledger::stand::Stand;
use serde_json::{Value, json};

use super::{failure, json, path, run};

const OPERATORS: [&str; 4] = ["alpha.example", "beta.example", "gamma.example", "delta.example"];
/// The state root that nodes tell at every head.
const STATE: StateRoot = StateRoot([5; 32]);

/// A log: 4 entries as every branch has them, then its own.
struct Branch(MemoryTiles);

impl Branch {
    fn new(seed: u8) -> Self {
        let (mut tree, mut tiles) = (Tree::default(), MemoryTiles::default());
        let own = |i: u64| if i < 4 { 0 } else { seed };
        tiles.write(tree.append((0..20).map(|i| leaf_hash(&[&[own(i)][..], &i.to_le_bytes()].concat()))));
        Self(tiles)
    }

    fn at(&self, size: u64) -> Head {
        Head { size, root: root_at(size, &self.0).unwrap() }
    }
}

/// What a node answers.
struct Node {
    chain: String,
    stands: Vec<String>,
    equivocations: Vec<String>,
    /// Its copy of every log.
    branch: u8,
    state: StateRoot,
    /// How many adoptions it knows no certificate of.
    uncertified: u64,
}

impl Node {
    fn answer(&self, request: &str) -> (u16, String) {
        let (path, query) = request.split_once('?').unwrap_or((request, ""));
        let parameter = |name: &str| {
            let found = query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")));
            found.and_then(|value| value.parse::<u64>().ok()).unwrap_or_default()
        };
        match path {
            "/api/federation/manifests" => (200, self.chain.clone()),
            "/api/federation" => {
                let proofs: Vec<Value> = self.equivocations.iter().map(|hex| json!({"encoded": hex})).collect();
                (200, json!({"stands": self.stands, "equivocations": proofs}).to_string())
            }
            "/api/federation/consistency" => (200, self.consistency(parameter("from"), parameter("to")).to_string()),
            "/federation/agree" => (200, json!({"agreed": true}).to_string()),
            "/federation/stand" => (200, json!({"stand": "a stand\n"}).to_string()),
            "/federation/manifest" => (409, json!({"code": "manifest_version", "error": "not now"}).to_string()),
            _ => (404, json!({"code": "no_such_route", "error": "nothing here"}).to_string()),
        }
    }

    fn consistency(&self, from: u64, to: u64) -> Value {
        let branch = Branch::new(self.branch);
        let head = |size| branch.at(size).root.to_string();
        let proof: Vec<String> =
            prove_consistency(from, to, &branch.0).unwrap().iter().map(|hash| Hex(hash).to_string()).collect();
        json!({
            "from": {"size": from, "root": head(from)}, "proof": proof, "checkpoint": null,
            "to": {"size": to, "root": head(to), "state_root": self.state.to_string(), "adopted": 1,
                   "uncertified_adoptions": self.uncertified},
        })
    }

    /// Answers from now on; gives the address.
    fn serve(self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut buffer = [0; 65_536];
                let len = stream.read(&mut buffer).unwrap();
                let request = String::from_utf8_lossy(&buffer[..len]).into_owned();
                let (status, body) = self.answer(request.split(' ').nth(1).unwrap_or_default());
                let head =
                    format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
                stream.write_all([head, body].concat().as_bytes()).unwrap();
            }
        });
        base
    }
}

/// A federation of four in `f`, in a folder that goes away with this.
struct World {
    dir: tempfile::TempDir,
    genesis: Arc<Manifest>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        json(dir.path(), &format!("federation new Test {} --out {{}}/f", OPERATORS.join(" ")));
        let text = fs::read_to_string(path(dir.path(), "f/manifest.txt")).unwrap();
        Self { genesis: Manifest::parse_chain(&text).unwrap(), dir }
    }

    fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(path(self.dir(), name)).unwrap()
    }

    fn node(&self) -> Node {
        let chain = self.genesis.chain();
        Node { chain, stands: Vec::new(), equivocations: Vec::new(), branch: 1, state: STATE, uncertified: 1 }
    }

    fn node_key(&self, operator: &str) -> SecretKey {
        SecretKey::from_pem(&self.read(&format!("f/{operator}/node.pem"))).unwrap()
    }

    /// A stand for version 2 in a log.
    fn stand(&self, operator: &str, log: &str, head: Head) -> String {
        let stand = Stand {
            federation: self.genesis.federation(),
            version: 2,
            log: log.parse().unwrap(),
            operator: operator.parse().unwrap(),
            head,
        };
        stand.sign(self.node_key(operator).ed25519().unwrap()).to_string()
    }

    /// That delta signed both branches.
    fn equivocation(&self) -> String {
        let log: LogId = "delta.example/1".parse().unwrap();
        let (one, other) = (Branch::new(1), Branch::new(2));
        let signed = |head| {
            let checkpoint = Checkpoint { origin: self.genesis.origin(&log), head };
            let key = self.node_key("delta.example");
            (head, *SignedCheckpoint::sign(checkpoint, key.ed25519().unwrap()).signature())
        };
        let (larger, smaller) = (signed(one.at(8)), signed(other.at(6)));
        let (root, proof) = (one.at(6).root, prove_consistency(6, 8, &one.0).unwrap());
        Hex(&codec::encode(&Equivocation { log, larger, smaller, root, proof })).to_string()
    }

    fn json(&self, line: &str) -> Value {
        json(self.dir(), line)
    }

    fn refused(&self, line: &str) -> String {
        failure(self.dir(), line)
    }

    fn agree(&self, draft: &str, operators: &[&str], more: &str) -> Value {
        let line = |name| format!("federation agree {{}}/{draft} --key {{}}/f/{name}/node.pem --yes {more}");
        operators.iter().map(|name| self.json(&line(name))).collect::<Vec<_>>().pop().unwrap()
    }

    fn sign(&self, draft: &str, operators: &[&str]) -> Value {
        operators.iter().map(|name| self.json(&sign(draft, name))).collect::<Vec<_>>().pop().unwrap()
    }

    /// The genesis with a draft's text behind it, as a node would read it.
    fn chain_with(&self, draft: &str) -> Arc<Manifest> {
        Manifest::parse_chain(&[self.genesis.chain(), self.read(draft)].concat()).unwrap()
    }
}

fn sign(draft: &str, operator: &str) -> String {
    format!("federation sign {{}}/{draft} --key {{}}/f/{operator}/governance.pem --yes")
}

#[test]
fn a_version_is_drafted_agreed_on_signed_and_joined() {
    let world = World::new();
    let from = world.node().serve();
    world.json("federation operator epsilon.example --host fama.epsilon.example --out {}/epsilon");
    let line = format!("federation draft --from {from} --policy daily_cap=30 --add {{}}/epsilon/operator.toml");
    let drafted = world.json(&format!("{line} --out {{}}/next"));
    assert_eq!(
        drafted["changes"],
        json!([
            "epsilon.example joins and starts the log epsilon.example/1",
            "the home epsilon.example starts in the log epsilon.example/1",
            "daily_cap is 30, previously 25",
            "a head is final with 4 of 5 operators, previously 3 of 4",
        ])
    );
    assert_eq!((&drafted["evidence"], &drafted["complete"]), (&json!(null), &json!(false)));
    assert_eq!(world.refused(&format!("{line} --out {{}}/next")), "file_exists");

    assert_eq!(world.refused(&sign("next/draft.txt", "alpha.example")), "words_missing");
    let two = world.agree("next/draft.txt", &OPERATORS[..2], "");
    assert_eq!(two["words"], json!({"wanted": 3, "given": ["alpha.example", "beta.example"]}));
    let again = world.agree("next/draft.txt", &OPERATORS[..1], "");
    assert_eq!(again["words"], two["words"], "a word counts once");
    assert_eq!(world.refused(&sign("next/draft.txt", "alpha.example")), "words_missing");
    world.agree("next/draft.txt", &OPERATORS[2..3], "");

    for (key, code) in [("f/alpha.example/node.pem", "not_an_operator"), ("epsilon/governance.pem", "not_an_operator")]
    {
        assert_eq!(world.refused(&format!("federation sign {{}}/next/draft.txt --key {{}}/{key} --yes")), code);
    }
    let wrong = "federation agree {}/next/draft.txt --key {}/f/alpha.example/governance.pem --yes";
    assert_eq!(world.refused(wrong), "not_an_operator");

    // Two sign apart, one signs a copy.
    fs::copy(path(world.dir(), "next/draft.txt"), path(world.dir(), "next/copy.txt")).unwrap();
    let signed = world.sign("next/draft.txt", &OPERATORS[..2]);
    assert_eq!(signed["signers"][0]["missing"], json!(["gamma.example", "delta.example"]));
    assert_eq!(signed["complete"], false);
    assert_eq!(world.refused("federation show {}/next/draft.txt --chain {}/nothing.txt"), "file_not_found");
    world.sign("next/copy.txt", &["gamma.example"]);
    world.json("federation merge {}/next/draft.txt {}/next/copy.txt --out {}/next/joined.txt");
    let shown = world.json("federation show {}/next/joined.txt");
    assert_eq!((&shown["version"], &shown["progress"]["complete"]), (&json!(2), &json!(true)));
    let newest = world.chain_with("next/joined.txt");
    assert_eq!((newest.version(), newest.policy().daily_cap), (2, 30));
    assert_eq!(newest.operators().len(), 5);

    // The chain is a manifest for every command and for a node.
    fs::write(path(world.dir(), "f/alpha.example/chain.txt"), newest.chain()).unwrap();
    let config = world.read("f/alpha.example/node.toml").replace("manifest.txt", "chain.txt");
    fs::write(path(world.dir(), "f/alpha.example/node.toml"), config).unwrap();
    world.json("node --config {}/f/alpha.example/node.toml --check");
    assert_eq!(world.json("federation show {}/f/alpha.example/chain.txt")["version"], 2);
    fs::write(path(world.dir(), "epsilon/manifest.txt"), newest.chain()).unwrap();
    assert_eq!(world.json("node --config {}/epsilon/node.toml --check")["operator"], "epsilon.example");
    let (_, people, _) = run(world.dir(), "federation show {}/next/joined.txt");
    assert!(people.contains("3 of 3 needed of version 1") && people.contains("daily_cap is 30"), "{people}");
}

#[test]
fn a_key_signs_one_text_of_a_version() {
    let world = World::new();
    let from = world.node().serve();
    for cap in [30, 31] {
        world.json(&format!("federation draft --from {from} --policy daily_cap={cap} --out {{}}/{cap}"));
        world.agree(&format!("{cap}/draft.txt"), &OPERATORS[..3], "");
    }
    world.sign("30/draft.txt", &["alpha.example"]);
    assert_eq!(world.refused(&sign("31/draft.txt", "alpha.example")), "second_text");
    assert!(!world.read("31/draft.txt").contains(&world.read("30/draft.txt").lines().last().unwrap()[..40]));
    let again = world.sign("30/draft.txt", &["alpha.example"]);
    assert_eq!(again["signers"][0]["signed"], json!(["alpha.example"]), "the same text may be signed again");
    world.sign("31/draft.txt", &["beta.example"]);
    let records = fs::read_dir(path(world.dir(), "f/alpha.example")).unwrap();
    let names: Vec<String> = records.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(names.iter().filter(|name| name.starts_with("governance.pem.signed.")).count(), 1, "{names:?}");
    assert_eq!(world.refused("federation merge {}/30/draft.txt {}/31/draft.txt --out {}/x"), "texts_differ");
    world.json(&format!("federation draft --from {from} --policy daily_cap=32 --out {{}}/32"));
    world.agree("32/draft.txt", &OPERATORS[..3], "");
    for (draft, code) in [("30/draft.txt", "manifest_signature"), ("32/draft.txt", "bad_word")] {
        let text = world.read(draft).replace("daily_cap = 3", "daily_cap = 4");
        fs::write(path(world.dir(), draft), text).unwrap();
        assert_eq!(world.refused(&sign(draft, "beta.example")), code, "a changed text");
    }
    for (from, to, code) in
        [("example", "ex\u{1b}mple", "manifest_note"), ("addresses = [\"", "addresses = [\"\\u001b", "manifest_value")]
    {
        let text = world.read("31/chain.txt").replace("version = 1\n", "version = 2\n");
        let text = text.split("\n\n— ").next().unwrap().replacen(from, to, 1);
        fs::write(path(world.dir(), "31/other.txt"), [&text, "\n"].concat()).unwrap();
        let line = "federation agree {}/31/other.txt --key {}/f/alpha.example/node.pem --yes";
        assert_eq!(world.refused(line), code, "no terminal is shown what it obeys");
    }
}

#[test]
fn what_cannot_be_drafted_says_why() {
    let world = World::new();
    let from = world.node().serve();
    let other = World::new().node().serve();
    for (options, code) in [
        ("", "no_change"),
        ("--policy daily_cup=30", "bad_policy"),
        ("--policy daily_cap=many", "bad_policy"),
        ("--policy daily_cap=2", "manifest_value"),
        ("--policy min_sponsors=5", "manifest_value"),
        ("--remove epsilon.example --successor alpha.example", "unknown_operator"),
        ("--remove delta.example", "no_successor"),
        ("--remove delta.example --successor delta.example", "no_successor"),
        ("--remove delta.example --successor alpha.example", "stands_missing"),
        ("--rotate delta.example={}/f/alpha.example/node.pem", "stands_missing"),
        ("--add {}/f/alpha.example/node.toml", "manifest_toml"),
        ("--address epsilon.example=/ip4/127.0.0.1/tcp/1", "unknown_operator"),
        (&format!("--policy daily_cap=30 --from {other}"), "chains_conflict"),
    ] {
        assert_eq!(world.refused(&format!("federation draft --from {from} --out {{}}/x {options}")), code, "{options}");
        assert!(!world.dir().join("x").exists());
    }
    let down = "federation draft --from http://127.0.0.1:1 --out {}/x --policy daily_cap=30";
    assert_eq!(world.refused(down), "unreachable");
    let one_is_up = format!("{down} --from {from} --address delta.example=/dns/d.example/tcp/1");
    assert_eq!(world.json(&one_is_up)["changes"][0], "delta.example is now at /dns/d.example/tcp/1");
}

/// The command line by which delta's log ends.
fn remove(from: &str, out: &str) -> String {
    format!(
        "federation draft --from {from} --remove delta.example --successor alpha.example --policy min_sponsors=1 --out {{}}/{out}"
    )
}

#[test]
fn a_log_ends_where_all_that_was_cosigned_is_kept() {
    let world = World::new();
    let branch = Branch::new(1);
    let stand = |operator, size| world.stand(operator, "delta.example/1", branch.at(size));
    let all = [("alpha.example", 3), ("beta.example", 12), ("gamma.example", 7)];
    let stands: Vec<String> = all.iter().map(|(name, size)| stand(name, *size)).collect();
    let few = Node { stands: stands[..2].to_vec(), ..world.node() }.serve();
    assert_eq!(world.refused(&remove(&few, "x")), "stands_missing");
    let from = Node { stands: stands.clone(), ..world.node() }.serve();
    let elsewhere = Node { stands: vec![stand("gamma.example", 7)], branch: 2, ..world.node() }.serve();
    let ahead = Node { stands, uncertified: 2, ..world.node() }.serve();
    assert_eq!(world.refused(&remove(&ahead, "x")), "cut_unheld", "no honest operator cosigns that");
    // What one node lacks another has.
    world.json(&remove(&format!("{few} --from {elsewhere}"), "both"));
    let drafted = world.json(&remove(&from, "next"));
    let change = "the log delta.example/1 ends forever at 12 entries, under version 1; alpha.example/1 continues its \
                  statements and claims";
    assert!(drafted["changes"].as_array().unwrap().contains(&json!(change)), "{drafted}");
    assert_eq!(
        world.refused(
            "federation agree {}/next/draft.txt --key {}/f/alpha.example/node.pem --yes --query http://127.0.0.1:1"
        ),
        "unreachable"
    );
    let agree = |node: &str| {
        format!(
            "federation agree {{}}/next/draft.txt --key {{}}/f/beta.example/node.pem --yes --query {node} --admin {node}"
        )
    };
    assert_eq!(world.refused(&agree(&elsewhere)), "cut_unheld");
    let wrong = Node { state: StateRoot([6; 32]), ..world.node() }.serve();
    assert_eq!(world.refused(&agree(&wrong)), "cut_state");
    let ahead = Node { uncertified: 2, ..world.node() }.serve();
    world.json(&agree(&ahead)); // An operator other than the owner stands there: it knew what is certified.
    let owner = [("alpha.example", 3), ("beta.example", 7), ("gamma.example", 7), ("delta.example", 12)];
    let stands = owner.iter().map(|(name, size)| stand(name, *size)).collect();
    let from_owner = Node { stands, ..world.node() }.serve();
    world.json(&remove(&from_owner, "owner"));
    assert_eq!(world.refused(&agree(&ahead).replace("/next/", "/owner/")), "cut_uncertified");
    world.agree("next/draft.txt", &OPERATORS[..3], &format!("--query {from} --admin {from}"));
    world.sign("next/draft.txt", &OPERATORS[..3]);
    let newest = world.chain_with("next/draft.txt");
    let cut = newest.cuts().next().unwrap();
    assert_eq!((cut.head, cut.state_root, cut.adopted), (branch.at(12), STATE, 1));
    assert_eq!(newest.homes()[&"delta.example".parse().unwrap()].to_string(), "alpha.example/1");
    // delta did not freeze the log: it can neither sign nor agree.
    assert_eq!(world.refused(&sign("next/draft.txt", "delta.example")), "cut_no_stand");
    let late = format!(
        "federation agree {{}}/next/draft.txt --key {{}}/f/delta.example/node.pem --yes --query {from} --admin {from}"
    );
    assert_eq!(world.refused(&late), "cut_no_stand");
}

#[test]
fn nobody_signs_a_cut_below_what_it_cosigned() {
    let world = World::new();
    let branch = Branch::new(1);
    let stands = |beta| {
        [("alpha.example", 3), ("beta.example", beta), ("gamma.example", 7)]
            .map(|(name, size)| world.stand(name, "delta.example/1", branch.at(size)))
            .to_vec()
    };
    let from = Node { stands: stands(7), ..world.node() }.serve();
    world.json(&remove(&from, "next"));
    world.agree("next/draft.txt", &OPERATORS[..3], &format!("--query {from} --admin {from}"));
    // Beta cosigned more than it is shown to have: its own word, in another evidence file, says so.
    let more = Node { stands: stands(9), ..world.node() }.serve();
    world.json(&remove(&more, "more"));
    let signing = format!("{} --evidence {{}}/more/evidence.json", sign("next/draft.txt", "beta.example"));
    assert_eq!(world.refused(&signing), "cut_conflict");
    let spoiled = world.read("next/evidence.json").replace("size: 7", "size: 6");
    fs::write(path(world.dir(), "next/evidence.json"), spoiled).unwrap();
    assert_eq!(world.refused(&sign("next/draft.txt", "alpha.example")), "stand_unsigned");
    fs::remove_file(path(world.dir(), "next/evidence.json")).unwrap();
    assert_eq!(world.refused(&sign("next/draft.txt", "alpha.example")), "file_not_found");
}

#[test]
fn an_equivocators_other_branch_is_given_up_with_proof() {
    let world = World::new();
    let stands = [("alpha.example", 1, 8), ("beta.example", 2, 6), ("gamma.example", 1, 8)];
    let stands = || {
        stands
            .iter()
            .map(|(name, seed, size)| world.stand(name, "delta.example/1", Branch::new(*seed).at(*size)))
            .collect()
    };
    let unproven = Node { stands: stands(), ..world.node() }.serve();
    assert_eq!(world.refused(&remove(&unproven, "x")), "cut_unsignable");
    let from = Node { stands: stands(), equivocations: vec![world.equivocation()], ..world.node() }.serve();
    world.json(&remove(&from, "next"));
    world.agree("next/draft.txt", &OPERATORS[..1], &format!("--query {from} --admin {from}"));
    let line = format!(
        "federation agree {{}}/next/draft.txt --key {{}}/f/beta.example/node.pem --yes --query {from} --admin {from}"
    );
    let (code, _, remarks) = run(world.dir(), &line);
    assert_eq!(code, ExitCode::SUCCESS, "{remarks}");
    assert!(remarks.contains("your node cosigned entries of delta.example/1 that are not in the cut"), "{remarks}");
    world.agree("next/draft.txt", &OPERATORS[2..3], &format!("--query {from} --admin {from}"));
    world.sign("next/draft.txt", &OPERATORS[..3]);
    assert_eq!(world.chain_with("next/draft.txt").cuts().next().unwrap().head, Branch::new(1).at(8));
}

/// Each of three nodes holds the branch that its own operator cosigned, and none of the others.
#[test]
fn a_log_of_many_branches_ends_on_one() {
    let world = World::new();
    let stands = [("alpha.example", 1, 8), ("beta.example", 2, 6), ("gamma.example", 3, 7)];
    let nodes = stands.map(|(name, branch, size)| {
        let stands = vec![world.stand(name, "delta.example/1", Branch::new(branch).at(size))];
        Node { stands, branch, equivocations: vec![world.equivocation()], ..world.node() }.serve()
    });
    let [alpha, beta, gamma] = &nodes;
    // Delta, the liar, stands where gamma does, but nobody has to believe that.
    let liar = vec![world.stand("delta.example", "delta.example/1", Branch::new(3).at(7))];
    let liar = Node { stands: liar, branch: 3, ..world.node() }.serve();
    assert_eq!(world.refused(&remove(&format!("{alpha} --from {beta}"), "x")), "stands_missing");
    assert_eq!(world.refused(&remove(&format!("{alpha} --from {beta} --from {liar}"), "x")), "cut_unsignable");
    world.json(&remove(&format!("{alpha} --from {beta} --from {gamma}"), "next"));

    let agree = |operator: &str, node: &str| {
        format!(
            "federation agree {{}}/next/draft.txt --key {{}}/f/{operator}/node.pem --yes --query {node} --admin {node}"
        )
    };
    for (operator, node) in [("beta.example", beta), ("gamma.example", gamma)] {
        let (code, _, remarks) = run(world.dir(), &agree(operator, node));
        assert_eq!(code, ExitCode::SUCCESS, "{remarks}");
        assert!(remarks.contains("does not have the branch of delta.example/1 that continues"), "{remarks}");
    }
    let wrong = Node { state: StateRoot([6; 32]), ..world.node() }.serve();
    assert_eq!(world.refused(&agree("beta.example", &wrong)), "cut_state", "who can compare does");
    assert_eq!(world.refused(&agree("alpha.example", beta)), "cut_unheld", "alpha's own branch is the one");
    // A third word makes a quorum, but none of the three has seen that branch.
    let path = path(world.dir(), "next/draft.txt");
    let agreed = fs::read_to_string(&path).unwrap();
    let mut note = SignedNote::parse(agreed.as_bytes(), MANIFEST_BYTES_MAX).unwrap();
    let key = world.node_key("delta.example");
    note.signatures.push(signed_note::sign(&note.text, "delta.example", key.ed25519().unwrap()));
    fs::write(&path, note.to_string()).unwrap();
    assert_eq!(world.refused(&sign("next/draft.txt", "beta.example")), "words_missing");
    fs::write(&path, agreed).unwrap();
    world.agree("next/draft.txt", &OPERATORS[..1], &format!("--query {alpha} --admin {alpha}"));

    let evidence = world.read("next/evidence.json");
    for (from, to, code) in [
        ("\"extensions\"", "\"proofs\"", "bad_evidence"),
        ("\"size\": 4,", "\"size\": 3,", "bad_evidence"),
        ("\"proof\": [", "\"proof\": [\"00\",", "bad_evidence"),
        ("\"smaller\": {", "\"smaller\": {\"more\": 1,", "bad_evidence"),
    ] {
        assert!(evidence.contains(from), "{from} in {evidence}");
        fs::write(world.dir().join("next/evidence.json"), evidence.replacen(from, to, 1)).unwrap();
        assert_eq!(world.refused(&sign("next/draft.txt", "beta.example")), code, "{to}");
    }
    let mut less: Value = serde_json::from_str(&evidence).unwrap();
    less["cuts"][0]["extensions"] = json!([]);
    fs::write(world.dir().join("next/evidence.json"), less.to_string()).unwrap();
    assert_eq!(world.refused(&sign("next/draft.txt", "beta.example")), "cut_too_few_stands");
    fs::write(world.dir().join("next/evidence.json"), evidence).unwrap();
    world.sign("next/draft.txt", &OPERATORS[..3]);
    assert_eq!(world.chain_with("next/draft.txt").cuts().next().unwrap().head, Branch::new(1).at(8));
}

#[test]
fn a_node_key_is_replaced() {
    let world = World::new();
    let stands = OPERATORS.map(|name| world.stand(name, "beta.example/1", Head::EMPTY));
    let from = Node { stands: stands.to_vec(), ..world.node() }.serve();
    world.json("key new --ed25519 --out {}/new.pem");
    world.json("key new --secp256k1 --out {}/other.pem");
    let line = |key| format!("federation draft --from {from} --rotate beta.example={{}}/{key} --out {{}}/next");
    assert_eq!(world.refused(&line("other.pem")), "key_algorithm");
    let changes = world.json(&line("new.pem"))["changes"].clone();
    assert_eq!(
        changes,
        json!([
            "beta.example has a new node key and starts the log beta.example/2",
            "the log beta.example/1 ends before its first entry; beta.example/2 continues its statements and claims",
            "the home beta.example passes from the log beta.example/1 to beta.example/2",
        ])
    );
    // The node is told, but has nothing to compare. Its own word is still the old key's.
    world.agree("next/draft.txt", &OPERATORS[1..], &format!("--admin {from}"));
    world.sign("next/draft.txt", &OPERATORS[1..]);
    let newest = world.chain_with("next/draft.txt");
    let key = fama_ledger::key::PublicKey::from_pem(world.json("key show {}/new.pem")["public_key"].as_str().unwrap());
    assert_eq!(newest.operators()[1].node_key.as_bytes(), key.unwrap().as_bytes());
}

#[test]
fn ones_own_node_is_told() {
    let world = World::new();
    let admin = world.node().serve();
    let stand = format!("federation stand --log delta.example/1 --admin {admin}");
    assert_eq!(world.json(&format!("{stand} --yes"))["stand"], "a stand\n");
    assert_eq!(world.refused(&stand), "not_confirmed");
    let (code, _, _) = run(world.dir(), "federation stand --log delta.example --yes");
    assert_eq!(code, ExitCode::from(fama_cli::USAGE));
    assert_eq!(world.refused(&format!("federation publish {{}}/f/manifest.txt --admin {admin}")), "manifest_version");
    assert_eq!(world.refused("federation publish {}/f/manifest.txt --admin http://127.0.0.1:1"), "unreachable");
    let shown = world.json(&format!("federation show {admin}"));
    assert_eq!(shown["hash"], world.genesis.hash().to_string());
}

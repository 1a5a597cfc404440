//! Creates a federation on disk: the genesis, and a folder for each operator.
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use fama_ledger::id::Domain;
use fama_ledger::key::Curve;
use fama_ledger::manifest::{Endpoints, Genesis, Manifest, Operator, Policy};
use fama_ledger::secret::SecretKey;
use fama_ledger::signed_note::{self, SignedNote};
use fama_ledger::time::Millis;
use fama_node::clock;
use fama_node::config::AUTH;

use crate::failure::Failure;
use crate::files::{self, PUBLIC_MODE, SECRET_MODE};
use crate::host::{self, Host};

/// File name of a manifest.
pub(crate) const MANIFEST_FILE: &str = "manifest.txt";
/// File name of a node's configuration.
pub(crate) const CONFIG_FILE: &str = "node.toml";
/// File name of a node's key.
pub(crate) const NODE_KEY_FILE: &str = "node.pem";
/// File name of an operator's governance key.
pub(crate) const GOVERNANCE_KEY_FILE: &str = "governance.pem";

/// File name of the key of an operator's tokens.
pub(crate) const TOKEN_KEY_FILE: &str = "token.pem";

/// File name of a new operator's entry for the next version of the manifest.
pub(crate) const OPERATOR_FILE: &str = "operator.toml";

/// An operator of a new federation: where its node listens, and under which address others reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorPlan {
    /// Name of the operator and of its home.
    pub domain: Domain,
    /// IP address or DNS name under which other nodes reach it.
    pub host: String,
    /// The addresses on which it listens for other nodes.
    pub bind: Vec<IpAddr>,
    /// TCP and QUIC port for other nodes.
    pub port: u16,
    /// Address of its query listener.
    pub query: SocketAddr,
    /// Address of its admin listener.
    pub admin: SocketAddr,
    /// The HTTP addresses that the manifest names. With an issuer, a token key is drawn.
    pub endpoints: Endpoints,
}

/// The first port of each kind; further nodes on the same machine count up from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FirstPorts {
    /// libp2p, over TCP and QUIC.
    pub network: u16,
    /// The public query listener.
    pub query: u16,
    /// The private admin listener.
    pub admin: u16,
}

impl Default for FirstPorts {
    fn default() -> Self {
        Self { network: 4001, query: 8080, admin: 9090 }
    }
}

impl OperatorPlan {
    /// The `i`-th node of this machine, on its loopback interface.
    ///
    /// # Errors
    /// `ports` if a port number would exceed 65535.
    pub(crate) fn local(domain: Domain, i: usize, ports: FirstPorts) -> Result<Self, Failure> {
        Self::at(domain, "127.0.0.1".to_owned(), vec![Ipv4Addr::LOCALHOST.into()], i, ports)
    }

    /// The `i`-th node of a machine that the internet reaches under `host`. It listens on all addresses of the host's
    /// family; for a name, which may stand for addresses of either, of both.
    ///
    /// # Errors
    /// `ports` if a port number would exceed 65535.
    pub(crate) fn hosted(domain: Domain, host: &Host, i: usize, ports: FirstPorts) -> Result<Self, Failure> {
        let (v4, v6) = (Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into());
        let bind = match host {
            Host::Ip(IpAddr::V4(_)) => vec![v4],
            Host::Ip(IpAddr::V6(_)) => vec![v6],
            Host::Name(_) => vec![v4, v6],
        };
        Self::at(domain, host.to_string(), bind, i, ports)
    }

    fn at(domain: Domain, host: String, bind: Vec<IpAddr>, i: usize, ports: FirstPorts) -> Result<Self, Failure> {
        let nth = |first: u16| u16::try_from(i).ok().and_then(|i| first.checked_add(i));
        match (nth(ports.network), nth(ports.query), nth(ports.admin)) {
            (Some(port), Some(query), Some(admin)) if port == query || port == admin || query == admin => {
                let message = format!("two listeners of {domain} share a port: {port}, {query}, {admin}");
                Err(Failure::new("ports", message))
            }
            (Some(port), Some(query), Some(admin)) => {
                let http = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
                let endpoints = Endpoints::default();
                Ok(Self { domain, host, bind, port, query: http(query), admin: http(admin), endpoints })
            }
            _ => Err(Failure::new("ports", "port numbers end at 65535")),
        }
    }

    /// The multiaddresses under which other nodes reach it, over TCP and QUIC.
    #[must_use]
    pub(crate) fn addresses(&self) -> Vec<String> {
        // A host that is neither is refused when the manifest is made.
        let host = self.host.parse::<Host>().map_or_else(|_| format!("/dns/{}", self.host), |host| host.multiaddress());
        multiaddresses(&host, self.port)
    }

    /// The address of the sign-in listener: the issuer's own on this machine, else the default, for a proxy before it.
    fn auth(&self) -> Option<SocketAddr> {
        let issuer = self.endpoints.issuer.as_deref()?;
        let own = issuer.strip_prefix("http://").and_then(|place| place.parse().ok());
        Some(own.unwrap_or(AUTH.listen))
    }

    fn listen(&self) -> Vec<String> {
        let of = |ip: &IpAddr| multiaddresses(&Host::Ip(*ip).multiaddress(), self.port);
        self.bind.iter().flat_map(of).collect()
    }

    /// Checks what would be signed into a manifest.
    fn check(&self) -> Result<(), Failure> {
        let faults = self.addresses().into_iter().filter_map(|address| {
            let fault = host::check_multiaddress(&address).err()?;
            Some(Failure::new("address", format!("{address}: {fault}")).about(&self.domain))
        });
        faults.map(Err).next().unwrap_or(Ok(()))
    }

    /// The text of the node's configuration, whose folder also holds the manifest and key.
    #[must_use]
    pub(crate) fn config(&self) -> String {
        let Self { domain, query, admin, .. } = self;
        let listen = self.listen();
        let auth = self.auth().map_or_else(String::new, |auth| {
            format!("\n[auth]\nlisten = \"{auth}\"\ntoken_key = \"{TOKEN_KEY_FILE}\"\n")
        });
        format!(
            "# The node of {domain}. Every setting with its default: fama node --example-config\n\
             data_dir = \"data\"\nmanifest = \"{MANIFEST_FILE}\"\noperator = \"{domain}\"\nnode_key = \"{NODE_KEY_FILE}\"\n\n\
             [network]\nlisten = {listen:?}\n\n[query]\nlisten = \"{query}\"\n\n[admin]\nlisten = \"{admin}\"\n{auth}"
        )
    }
}

fn multiaddresses(host: &str, port: u16) -> Vec<String> {
    vec![format!("{host}/tcp/{port}"), format!("{host}/udp/{port}/quic-v1")]
}

/// The description of a federation to create.
#[derive(Clone, Debug)]
pub struct FederationPlan {
    /// Name of the federation, for people.
    pub name: String,
    /// One for each operator, in the order of the manifest.
    pub operators: Vec<OperatorPlan>,
    /// Limits and quotas of the genesis.
    pub policy: Policy,
}

/// A federation that was written to disk.
#[derive(Debug)]
pub struct Created {
    /// The genesis, signed by all operators.
    pub manifest: Manifest,
    /// File of the genesis.
    pub manifest_path: PathBuf,
    /// Folder of each operator, with manifest, configuration and both keys.
    pub folders: Vec<(OperatorPlan, PathBuf)>,
}

impl Created {
    /// The configuration file in an operator's folder.
    #[must_use]
    pub fn config(folder: &Path) -> PathBuf {
        folder.join(CONFIG_FILE)
    }
}

/// The keys of one operator, all Ed25519.
struct Keys {
    node: SecretKey,
    governance: SecretKey,
    /// Of an operator with an issuer.
    token: Option<SecretKey>,
}

/// Generates all keys, signs the genesis with every governance key, and writes everything below `dir`.
///
/// # Errors
/// `file_exists`, as nothing is ever overwritten; the rule that the plan breaks.
pub fn create(plan: &FederationPlan, dir: &Path) -> Result<Created, Failure> {
    plan.operators.iter().try_for_each(OperatorPlan::check)?;
    check_ports(&plan.operators)?;
    let keys = plan.operators.iter().map(draw).collect::<Result<Vec<Keys>, Failure>>()?;
    let text = genesis(plan, &keys)?;
    let manifest = Manifest::parse(&text)?;
    let manifest_path = dir.join(MANIFEST_FILE);
    files::create_folder(dir)?;
    files::create(&manifest_path, &text, PUBLIC_MODE)?;
    let operators = plan.operators.iter().zip(&keys);
    let folders = operators.map(|(operator, keys)| write(operator, keys, &text, dir)).collect::<Result<_, _>>()?;
    Ok(Created { manifest, manifest_path, folders })
}

/// Checks that no two nodes of one machine listen on the same port.
fn check_ports(operators: &[OperatorPlan]) -> Result<(), Failure> {
    let mut taken = BTreeMap::new();
    for operator in operators {
        let auth = operator.auth().map(|auth| auth.port());
        for port in [operator.port, operator.query.port(), operator.admin.port()].into_iter().chain(auth) {
            if let Some(other) = taken.insert((&operator.host, port), &operator.domain) {
                let message = format!("{} would listen on port {port}, as does {other}", operator.domain);
                return Err(Failure::new("ports", message)
                    .hint("further nodes on a machine count up from --port, --query-port and --admin-port"));
            }
        }
    }
    Ok(())
}

fn draw(operator: &OperatorPlan) -> Result<Keys, Failure> {
    let draw = || files::draw_key(Curve::Ed25519);
    let token = operator.endpoints.issuer.as_ref().map(|_| draw()).transpose()?;
    Ok(Keys { node: draw()?, governance: draw()?, token })
}

const ED25519: &str = "operators' keys are drawn as Ed25519";

fn genesis(plan: &FederationPlan, keys: &[Keys]) -> Result<String, Failure> {
    let operators = plan.operators.iter().zip(keys).map(|(operator, keys)| manifest_entry(operator, keys)).collect();
    let mut signatures = Vec::new();
    let text = Genesis { name: plan.name.clone(), policy: plan.policy, operators }.text()?;
    for (operator, keys) in plan.operators.iter().zip(keys) {
        let governance = keys.governance.ed25519().expect(ED25519);
        signatures.push(signed_note::sign(&text, operator.domain.as_str(), governance));
    }
    Ok(SignedNote { text, signatures }.to_string())
}

fn write(operator: &OperatorPlan, keys: &Keys, manifest: &str, dir: &Path) -> Result<(OperatorPlan, PathBuf), Failure> {
    let folder = dir.join(operator.domain.as_str());
    write_folder(operator, keys, &folder)?;
    files::create(&folder.join(MANIFEST_FILE), manifest, PUBLIC_MODE)?;
    Ok((operator.clone(), folder))
}

fn write_folder(operator: &OperatorPlan, keys: &Keys, folder: &Path) -> Result<(), Failure> {
    files::create_folder(folder)?;
    files::create(&folder.join(NODE_KEY_FILE), &keys.node.to_pem(), SECRET_MODE)?;
    files::create(&folder.join(GOVERNANCE_KEY_FILE), &keys.governance.to_pem(), SECRET_MODE)?;
    if let Some(token) = &keys.token {
        files::create(&folder.join(TOKEN_KEY_FILE), &token.to_pem(), SECRET_MODE)?;
    }
    files::create(&folder.join(CONFIG_FILE), &operator.config(), PUBLIC_MODE)
}

/// Generates the keys of an operator that is to join a federation, and writes its folder, except for the manifest.
///
/// # Errors
/// `file_exists`, as nothing is ever overwritten.
pub(crate) fn join(operator: &OperatorPlan, folder: &Path) -> Result<Operator, Failure> {
    operator.check()?;
    let keys = draw(operator)?;
    write_folder(operator, &keys, folder)?;
    let operator = manifest_entry(operator, &keys);
    files::create(&folder.join(OPERATOR_FILE), &operator.to_toml(), PUBLIC_MODE)?;
    Ok(operator)
}

/// When a log that is drafted now begins: now, in whole seconds.
pub(crate) fn begins() -> Millis {
    let now = clock::now();
    Millis(now.0.saturating_sub(now.0 % 1_000))
}

fn manifest_entry(operator: &OperatorPlan, keys: &Keys) -> Operator {
    let token_keys = keys.token.iter().filter_map(|key| Some(key.ed25519()?.verifying_key())).collect();
    Operator {
        name: operator.domain.clone(),
        node_key: keys.node.ed25519().expect(ED25519).verifying_key(),
        governance_key: keys.governance.ed25519().expect(ED25519).verifying_key(),
        generation: 1,
        begins: begins(),
        addresses: operator.addresses(),
        endpoints: Endpoints { token_keys, ..operator.endpoints.clone() },
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use super::*;
    use fama_node::config::Config;

    /// A federation of `n` local operators below `dir`.
    pub(crate) fn small_federation(dir: &Path, n: usize) -> Created {
        create(&plan(n), dir).unwrap()
    }

    /// The note of a version after `newest`, with a policy that `salt` changes, signed by all operators; without
    /// signatures if `salt` is 0.
    pub(crate) fn next_version(created: &Created, newest: &Arc<Manifest>, salt: u64) -> String {
        let mut draft = newest.draft();
        draft.policy.daily_bytes += salt;
        let text = draft.text().unwrap();
        let signed = created.folders.iter().filter(|_| salt > 0).map(|(operator, folder)| {
            let key = files::read_key(&folder.join(GOVERNANCE_KEY_FILE)).unwrap();
            signed_note::sign(&text, operator.domain.as_str(), key.ed25519().unwrap())
        });
        let signatures = signed.collect();
        SignedNote { text, signatures }.to_string()
    }

    fn plan(n: usize) -> FederationPlan {
        let operator =
            |i| OperatorPlan::local(format!("op{i}.example").parse().unwrap(), i, FirstPorts::default()).unwrap();
        FederationPlan {
            name: "Test".to_owned(),
            operators: (0..n).map(operator).collect(),
            policy: Policy::recommended(n),
        }
    }

    #[test]
    fn every_node_can_start_from_its_folder_alone() {
        let dir = tempfile::tempdir().unwrap();
        let created = create(&plan(4), dir.path()).unwrap();
        for (operator, folder) in &created.folders {
            let moved = tempfile::tempdir().unwrap();
            let there = moved.path().join("node");
            std::fs::rename(folder, &there).unwrap();
            let config = Config::load(&Created::config(&there)).unwrap();
            assert_eq!(config.operator.as_ref(), Some(&operator.domain));
            assert_eq!(config.manifest.federation(), created.manifest.federation());
            assert_eq!((config.query.listen, config.admin.listen), (operator.query, operator.admin));
            let listen: Vec<String> = config.network.listen.iter().map(ToString::to_string).collect();
            assert_eq!(created.manifest.operator(&operator.domain).unwrap().addresses, listen);
            let governance = files::read_key(&there.join(GOVERNANCE_KEY_FILE)).unwrap();
            assert_ne!(governance.public(), config.node_key.public());
        }
    }

    /// What a program that calls `create` passes is checked as well as what a person types.
    #[test]
    fn what_nobody_can_dial_is_not_signed() {
        let dir = tempfile::tempdir().unwrap();
        for (host, port) in [("", 1), ("https://a.example", 1), ("0.0.0.0", 1), ("a.example:1", 1), ("a.example", 0)] {
            let mut plan = plan(1);
            plan.operators[0] = OperatorPlan { host: host.to_owned(), port, ..plan.operators[0].clone() };
            assert_eq!(create(&plan, dir.path()).unwrap_err().code, "address", "{host} {port}");
        }
        let mut plan = plan(2);
        plan.operators[1].query = plan.operators[0].admin;
        assert_eq!(create(&plan, dir.path()).unwrap_err().code, "ports");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        create(&plan(1), dir.path()).unwrap();
        assert_eq!(create(&plan(2), dir.path()).unwrap_err().code, "file_exists");
        assert!(!dir.path().join("op1.example").exists());
    }

    #[test]
    fn addresses() {
        let domain: Domain = "a.example".parse().unwrap();
        let both = |host: &str| [format!("{host}/tcp/4002"), format!("{host}/udp/4002/quic-v1")];
        for (host, want, listen) in [
            ("203.0.113.7", "/ip4/203.0.113.7", &["/ip4/0.0.0.0"][..]),
            ("::1", "/ip6/::1", &["/ip6/::"]),
            ("n.example", "/dns/n.example", &["/ip4/0.0.0.0", "/ip6/::"]),
        ] {
            let host = host.parse().unwrap();
            let operator = OperatorPlan::hosted(domain.clone(), &host, 1, FirstPorts::default()).unwrap();
            assert_eq!(operator.addresses(), both(want));
            // Symptom: nobody was ever ready. Cause: the manifest named an IPv6 address, and the node listened on IPv4.
            assert_eq!(operator.listen(), listen.iter().flat_map(|listen| both(listen)).collect::<Vec<_>>());
        }
        let ports = FirstPorts { network: 65_535, ..FirstPorts::default() };
        assert_eq!(OperatorPlan::local(domain.clone(), 1, ports).unwrap_err().code, "ports");
        let ports = FirstPorts { network: 8080, ..FirstPorts::default() };
        assert_eq!(OperatorPlan::local(domain, 0, ports).unwrap_err().code, "ports", "of the query listener, too");
    }
}

//! A new federation on disk: the genesis, and a folder for each operator.
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use fama_ledger::id::Domain;
use fama_ledger::key::Curve;
use fama_ledger::manifest::{Genesis, Manifest, Operator, Policy};
use fama_ledger::secret::SecretKey;
use fama_ledger::signed_note::{self, SignedNote};

use crate::failure::Failure;
use crate::files::{self, PUBLIC_MODE, SECRET_MODE};

/// File name of a manifest.
pub const MANIFEST_FILE: &str = "manifest.txt";
/// File name of a node's configuration.
pub const CONFIG_FILE: &str = "node.toml";
/// File name of a node's key.
pub const NODE_KEY_FILE: &str = "node.pem";
/// File name of an operator's governance key.
pub const GOVERNANCE_KEY_FILE: &str = "governance.pem";

/// File name of what a newcomer hands to those who draft the next version.
pub const OPERATOR_FILE: &str = "operator.toml";

/// Where an operator's node listens, and where others find it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The operator.
    pub domain: Domain,
    /// Address or DNS name under which others reach it.
    pub host: String,
    /// The address it listens on for them.
    pub bind: IpAddr,
    /// TCP and QUIC port for them.
    pub port: u16,
    /// Its query listener.
    pub query: SocketAddr,
    /// Its admin listener.
    pub admin: SocketAddr,
}

/// The first of each kind of port; seats on one machine count up from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// libp2p.
    pub network: u16,
    /// HTTP, public.
    pub query: u16,
    /// HTTP, private.
    pub admin: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self { network: 4001, query: 8080, admin: 9090 }
    }
}

impl Seat {
    /// A seat on the loopback interface of this machine, the `i`-th there.
    ///
    /// # Errors
    /// `ports` if the numbers run out.
    pub fn local(domain: Domain, i: usize, ports: Ports) -> Result<Self, Failure> {
        Self::at(domain, "127.0.0.1".to_owned(), IpAddr::V4(Ipv4Addr::LOCALHOST), i, ports)
    }

    /// A seat that the internet reaches under `host`; the `i`-th on its machine.
    ///
    /// # Errors
    /// `ports` if the numbers run out.
    pub fn hosted(domain: Domain, host: String, i: usize, ports: Ports) -> Result<Self, Failure> {
        Self::at(domain, host, IpAddr::V4(Ipv4Addr::UNSPECIFIED), i, ports)
    }

    fn at(domain: Domain, host: String, bind: IpAddr, i: usize, ports: Ports) -> Result<Self, Failure> {
        let nth = |first: u16| u16::try_from(i).ok().and_then(|i| first.checked_add(i));
        match (nth(ports.network), nth(ports.query), nth(ports.admin)) {
            (Some(port), Some(query), Some(admin)) => {
                let http = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
                Ok(Self { domain, host, bind, port, query: http(query), admin: http(admin) })
            }
            _ => Err(Failure::new("ports", "port numbers end at 65535")),
        }
    }

    /// The multiaddresses under which others find this node: TCP and QUIC.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        let host = match self.host.parse() {
            Ok(IpAddr::V4(ip)) => format!("/ip4/{ip}"),
            Ok(IpAddr::V6(ip)) => format!("/ip6/{ip}"),
            Err(_) => format!("/dns/{}", self.host),
        };
        multiaddresses(&host, self.port)
    }

    fn listen(&self) -> Vec<String> {
        let family = if self.bind.is_ipv4() { "ip4" } else { "ip6" };
        multiaddresses(&format!("/{family}/{}", self.bind), self.port)
    }

    /// The node's configuration, next to its manifest and key.
    #[must_use]
    pub fn config(&self) -> String {
        let Self { domain, query, admin, .. } = self;
        let listen = self.listen();
        format!(
            "# The node of {domain}. Every setting with its default: config/node.toml in the sources.\n\
             data_dir = \"data\"\nmanifest = \"{MANIFEST_FILE}\"\noperator = \"{domain}\"\nnode_key = \"{NODE_KEY_FILE}\"\n\n\
             [network]\nlisten = {listen:?}\n\n[query]\nlisten = \"{query}\"\n\n[admin]\nlisten = \"{admin}\"\n"
        )
    }
}

fn multiaddresses(host: &str, port: u16) -> Vec<String> {
    vec![format!("{host}/tcp/{port}"), format!("{host}/udp/{port}/quic-v1")]
}

/// What a new federation is to be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its name for people.
    pub name: String,
    /// Its operators.
    pub seats: Vec<Seat>,
    /// Its rules.
    pub policy: Policy,
}

/// A federation on disk.
#[derive(Debug)]
pub struct Created {
    /// Its genesis.
    pub manifest: Manifest,
    /// The genesis' file.
    pub manifest_path: PathBuf,
    /// Each operator's folder: manifest, configuration and both keys.
    pub folders: Vec<(Seat, PathBuf)>,
}

impl Created {
    /// An operator's configuration file.
    #[must_use]
    pub fn config(folder: &Path) -> PathBuf {
        folder.join(CONFIG_FILE)
    }
}

/// Both Ed25519.
struct Keys {
    node: SecretKey,
    governance: SecretKey,
}

/// Draws all keys, has the genesis signed by all governance keys, and writes everything below `dir`.
///
/// # Errors
/// `file_exists`: nothing is ever overwritten; what is wrong with the plan.
pub fn create(plan: &Plan, dir: &Path) -> Result<Created, Failure> {
    let keys = plan.seats.iter().map(|_| draw()).collect::<Result<Vec<Keys>, Failure>>()?;
    let text = genesis(plan, &keys)?;
    let manifest = Manifest::parse(&text)?;
    let manifest_path = dir.join(MANIFEST_FILE);
    files::create_folder(dir)?;
    files::create(&manifest_path, &text, PUBLIC_MODE)?;
    let seats = plan.seats.iter().zip(&keys);
    let folders = seats.map(|(seat, keys)| write(seat, keys, &text, dir)).collect::<Result<_, _>>()?;
    Ok(Created { manifest, manifest_path, folders })
}

fn draw() -> Result<Keys, Failure> {
    Ok(Keys { node: files::draw_key(Curve::Ed25519)?, governance: files::draw_key(Curve::Ed25519)? })
}

const ED25519: &str = "operators' keys are drawn as Ed25519";

fn genesis(plan: &Plan, keys: &[Keys]) -> Result<String, Failure> {
    let operators = plan.seats.iter().zip(keys).map(|(seat, keys)| operator(seat, keys)).collect();
    let mut signatures = Vec::new();
    let text = Genesis { name: plan.name.clone(), policy: plan.policy, operators }.text()?;
    for (seat, keys) in plan.seats.iter().zip(keys) {
        let governance = keys.governance.ed25519().expect(ED25519);
        signatures.push(signed_note::sign(&text, seat.domain.as_str(), governance));
    }
    Ok(SignedNote { text, signatures }.to_string())
}

fn write(seat: &Seat, keys: &Keys, manifest: &str, dir: &Path) -> Result<(Seat, PathBuf), Failure> {
    let folder = dir.join(seat.domain.as_str());
    write_seat(seat, keys, &folder)?;
    files::create(&folder.join(MANIFEST_FILE), manifest, PUBLIC_MODE)?;
    Ok((seat.clone(), folder))
}

fn write_seat(seat: &Seat, keys: &Keys, folder: &Path) -> Result<(), Failure> {
    files::create_folder(folder)?;
    files::create(&folder.join(NODE_KEY_FILE), &keys.node.to_pem(), SECRET_MODE)?;
    files::create(&folder.join(GOVERNANCE_KEY_FILE), &keys.governance.to_pem(), SECRET_MODE)?;
    files::create(&folder.join(CONFIG_FILE), &seat.config(), PUBLIC_MODE)
}

/// Draws the keys of an operator that is to join a federation, and writes its folder: all but the manifest.
///
/// # Errors
/// `file_exists`: nothing is ever overwritten.
pub fn join(seat: &Seat, folder: &Path) -> Result<Operator, Failure> {
    let keys = draw()?;
    write_seat(seat, &keys, folder)?;
    let operator = operator(seat, &keys);
    files::create(&folder.join(OPERATOR_FILE), &operator.to_toml(), PUBLIC_MODE)?;
    Ok(operator)
}

fn operator(seat: &Seat, keys: &Keys) -> Operator {
    Operator {
        name: seat.domain.clone(),
        node_key: keys.node.ed25519().expect(ED25519).verifying_key(),
        governance_key: keys.governance.ed25519().expect(ED25519).verifying_key(),
        generation: 1,
        addresses: seat.addresses(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fama_node::config::Config;

    fn plan(n: usize) -> Plan {
        let seat = |i| Seat::local(format!("op{i}.example").parse().unwrap(), i, Ports::default()).unwrap();
        Plan { name: "Test".to_owned(), seats: (0..n).map(seat).collect(), policy: Policy::recommended(n) }
    }

    #[test]
    fn every_node_can_start_from_its_folder_alone() {
        let dir = tempfile::tempdir().unwrap();
        let created = create(&plan(4), dir.path()).unwrap();
        for (seat, folder) in &created.folders {
            let moved = tempfile::tempdir().unwrap();
            let there = moved.path().join("node");
            std::fs::rename(folder, &there).unwrap();
            let config = Config::load(&Created::config(&there)).unwrap();
            assert_eq!(config.operator.as_ref(), Some(&seat.domain));
            assert_eq!(config.manifest.federation(), created.manifest.federation());
            assert_eq!((config.query.listen, config.admin.listen), (seat.query, seat.admin));
            let listen: Vec<String> = config.network.listen.iter().map(ToString::to_string).collect();
            assert_eq!(created.manifest.operator(&seat.domain).unwrap().addresses, listen);
            let governance = files::read_key(&there.join(GOVERNANCE_KEY_FILE)).unwrap();
            assert_ne!(governance.public(), config.node_key.public());
        }
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
        for (host, want) in [("203.0.113.7", "/ip4/203.0.113.7"), ("::1", "/ip6/::1"), ("n.example", "/dns/n.example")]
        {
            let seat = Seat::hosted(domain.clone(), host.to_owned(), 1, Ports::default()).unwrap();
            assert_eq!(seat.addresses(), [format!("{want}/tcp/4002"), format!("{want}/udp/4002/quic-v1")]);
        }
        let ports = Ports { network: 65_535, ..Ports::default() };
        assert_eq!(Seat::local(domain, 1, ports).unwrap_err().code, "ports");
    }
}

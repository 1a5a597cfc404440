//! `fama mcp`: a server of the Model Context Protocol, through which agents with tools read the ledger and sign.
mod consent;
mod http;
mod server;
mod tools;
mod untrusted;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rmcp::ServiceExt;
use rmcp::transport::stdio_pipes;

use self::consent::CONSENT_SECONDS_MAX;
use self::http::Secret;
use self::server::FamaMcp;
use self::tools::Options;
use crate::failure::Failure;
use crate::files;
use crate::settings::QueryArgs;
use crate::submit::ANSWER_TIMEOUT;
use crate::terminal::Terminal;

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Example: in the configuration of a client of the Model Context Protocol
  {\"mcpServers\": {\"fama\": {\"command\": \"fama\", \"args\": [\"mcp\", \"--manifest\", \"manifest.txt\",
    \"--query\", \"http://127.0.0.1:8080\"]}}}
or for clients that speak HTTP, on this machine only
  fama mcp --manifest manifest.txt --listen 127.0.0.1:8090

Without --key there are only tools that read. With it, tools sign: they show the exact text and ask
the user through the client; where a client can't ask, a second call confirms. FAMA_KEY and the key
of `fama init` don't count here. Over HTTP, clients of a server with a key must know the secret in
--secret FILE, since other users of this machine reach its port, too.";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The federation's manifest, for proofs and receipts [default: FAMA_MANIFEST, or that of `fama init`]
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Offer tools that sign with this key
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Node to submit to [default: those of the manifest, the home's first] (repeatable)
    #[arg(long, value_name = "MULTIADDR", requires = "key")]
    node: Vec<String>,
    #[command(flatten)]
    query: QueryArgs,
    /// Serve HTTP on this loopback address instead of stdin and stdout
    #[arg(long, value_name = "ADDRESS", value_parser = http::loopback)]
    listen: Option<SocketAddr>,
    /// Serve only clients that send the secret in this file as a bearer token; created if it does not exist
    #[arg(long, value_name = "FILE", requires = "listen")]
    secret: Option<PathBuf>,
    /// How long a text waits for the user's consent before it is given up
    #[arg(long, value_name = "SECONDS", default_value_t = CONSENT_SECONDS_MAX, requires = "key")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=CONSENT_SECONDS_MAX))]
    confirm_within: u64,
}

/// Serves until the client leaves, or over HTTP until the process is stopped.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    // What is wrong is said now, not by every tool.
    if let Some(key) = &args.key {
        files::read_key(key)?;
        crate::settings::manifest(args.manifest.as_deref())?;
    } else if args.manifest.is_some() {
        crate::settings::manifest(args.manifest.as_deref())?;
    }
    if args.listen.is_some() && args.key.is_some() && args.secret.is_none() {
        return Err(Failure::new("no_secret", "every program on this machine could have this key sign")
            .hint("--secret FILE keeps others out; the file is created if it does not exist"));
    }
    let secret = args.secret.as_deref().map(Secret::read_or_create).transpose()?;
    let Args { manifest, key, node, query, .. } = args;
    let (manifest, key, node, query) = (manifest.clone(), key.clone(), node.clone(), query.clone());
    let consent_time = Duration::from_secs(args.confirm_within);
    let server = FamaMcp::new(Options { manifest, key, node, query, consent_time });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new("runtime", error))?;
    let served = match args.listen {
        Some(address) => runtime.block_on(http::serve(server, address, secret, terminal)),
        None => runtime.block_on(stdio(server)),
    };
    // What was confirmed is delivered; what waits for consent ends without, since nobody can give it any more.
    runtime.shutdown_timeout(ANSWER_TIMEOUT);
    served
}

/// Serves the client at stdin and stdout until it closes them.
async fn stdio(server: FamaMcp) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new("mcp", format!("the client does not speak the Model Context Protocol: {error}"))
            .hint("a client starts this command and talks to it; `fama mcp --help` has its configuration")
    };
    let service = server.serve(stdio_pipes()).await.map_err(|error| failed(&error))?;
    service.waiting().await.map_err(|error| failed(&error))?;
    Ok(())
}

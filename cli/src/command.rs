//! The commands of `fama`, one file each.
pub(crate) mod admit;
pub(crate) mod agent;
pub(crate) mod attest;
pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod check;
pub(crate) mod check_login;
pub(crate) mod completions;
pub(crate) mod delegate;
pub(crate) mod demo;
pub(crate) mod dismiss;
pub(crate) mod event;
pub(crate) mod export;
pub(crate) mod federation;
pub(crate) mod grant;
pub(crate) mod grants;
pub(crate) mod init;
pub(crate) mod key;
pub(crate) mod leaderboard;
pub(crate) mod login;
pub(crate) mod man;
pub(crate) mod mcp;
pub(crate) mod node;
pub(crate) mod prove;
pub(crate) mod publish;
pub(crate) mod redact;
pub(crate) mod register;
pub(crate) mod request;
pub(crate) mod restore;
pub(crate) mod resume;
pub(crate) mod retract;
pub(crate) mod revoke;
pub(crate) mod rotate;
pub(crate) mod sign;
pub(crate) mod status;
pub(crate) mod submission;
pub(crate) mod submit;
pub(crate) mod suspend;
pub(crate) mod token;
pub(crate) mod top;
pub(crate) mod ungrant;
pub(crate) mod unsuspend;
pub(crate) mod verify;
pub(crate) mod webhook;

use clap::Subcommand;

use crate::failure::Failure;
use crate::terminal::Terminal;

macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident($module:ident),)*) => {
        /// The commands of `fama`.
        #[derive(Subcommand)]
        pub(crate) enum Command {
            $($(#[$doc])* #[command(after_help = $module::EXAMPLE)] $name($module::Args),)*
        }

        impl Command {
            /// Runs the command.
            ///
            /// # Errors
            /// The reason of its failure, for people and programs.
            pub(crate) fn run(&self, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
                match self {
                    $(Self::$name(args) => $module::run(args, terminal),)*
                }
            }
        }
    };
}

commands! {
    /// Remember a federation, a node and a key
    Init(init),
    /// Make or show a key
    Key(key),
    /// Create a federation, show one, change its operators and rules
    Federation(federation),
    /// Run a node
    Node(node),
    /// Check a node's data folder, and repair it
    Check(check),
    /// Back up a node's data to a folder or bucket while it runs
    Backup(backup),
    /// Restore a node's data from a backup
    Restore(restore),
    /// Drop the texts of notes at one's own node, forever
    Redact(redact),
    /// Copy a federation's public files to a folder or bucket, and keep them current
    Publish(publish),
    /// Register an identity in a home
    Register(register),
    /// Replace an identity's key with its next one
    Rotate(rotate),
    /// Revoke a key forever
    Revoke(revoke),
    /// Give karma, as a service
    Attest(attest),
    /// Take an attestation back
    Retract(retract),
    /// Ask operators to sponsor a service
    Request(request),
    /// Sponsor a service as a provider of karma, as an operator
    Admit(admit),
    /// End a sponsorship, as an operator
    Dismiss(dismiss),
    /// Let an agent do something at a service, as that service
    Grant(grant),
    /// Take a grant back
    Ungrant(ungrant),
    /// Show what services let an agent do, or what a service lets agents do
    Grants(grants),
    /// Suspend an identity's use, as an operator
    Suspend(suspend),
    /// Take a suspension back, as an operator
    Unsuspend(unsuspend),
    /// Submit many events from JSON lines
    Submit(submit),
    /// Submit again what was signed and not answered
    Resume(resume),
    /// Show an agent: identity, karma, keys
    Agent(agent),
    /// Show an event: its place in a log, and its effect
    Event(event),
    /// Show the agents with the most karma
    Leaderboard(leaderboard),
    /// Verify everything that sources show, and find out which of them lie
    Audit(audit),
    /// Write a federation's history as tables, and verify it
    Export(export),
    /// Get a proof of an agent's profile, or of an event, from any node
    Prove(prove),
    /// Check a proof offline
    Verify(verify),
    /// Show the status of a node
    Status(status),
    /// Watch a node, or several, in the terminal
    Top(top),
    /// Tell others what happens, over HTTP
    Webhook(webhook),
    /// Get a token for a service: sign what an issuer asks to be signed
    Login(login),
    /// Get a token with an assertion, also as a process; check a token offline
    Token(token),
    /// Let a process with a key of its own act for an identity, for some hours
    Delegate(delegate),
    /// Sign an MLAuth-style request, to log in somewhere
    Sign(sign),
    /// Check an MLAuth-style request
    CheckLogin(check_login),
    /// Let agents with tools read and sign: a server of the Model Context Protocol
    Mcp(mcp),
    /// Run a whole federation on this machine, with a short story
    Demo(demo),
    /// Print a shell's completion script
    Completions(completions),
    /// Write a man page for each command, for packages
    #[command(hide = true)]
    Man(man),
}

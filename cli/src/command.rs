//! The commands, one file each.
pub mod admit;
pub mod agent;
pub mod attest;
pub mod audit;
pub mod check;
pub mod check_login;
pub mod completions;
pub mod demo;
pub mod dismiss;
pub mod event;
pub mod export;
pub mod federation;
pub mod handing_in;
pub mod key;
pub mod leaderboard;
pub mod node;
pub mod prove;
pub mod publish;
pub mod register;
pub mod retract;
pub mod revoke;
pub mod rotate;
pub mod sign;
pub mod status;
pub mod verify;

use clap::Subcommand;

use crate::failure::Failure;
use crate::terminal::Terminal;

macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident($module:ident),)*) => {
        /// What `fama` can do.
        #[derive(Subcommand)]
        pub enum Command {
            $($(#[$doc])* #[command(after_help = $module::EXAMPLE)] $name($module::Args),)*
        }

        impl Command {
            /// Does it.
            ///
            /// # Errors
            /// Why it did not succeed.
            pub fn run(&self, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
                match self {
                    $(Self::$name(args) => $module::run(args, terminal),)*
                }
            }
        }
    };
}

commands! {
    /// Make or show a key
    Key(key),
    /// Found a federation, show one, change its operators and rules
    Federation(federation),
    /// Run a node
    Node(node),
    /// Check a node's data folder, and repair it
    Check(check),
    /// Copy a federation's public files to a folder or bucket, and keep them current
    Publish(publish),
    /// Register an identity in a home
    Register(register),
    /// Give an identity its next key
    Rotate(rotate),
    /// End a key for good
    Revoke(revoke),
    /// Give karma, as a service
    Attest(attest),
    /// Take an attestation back
    Retract(retract),
    /// Sponsor a service as a provider of karma, as an operator
    Admit(admit),
    /// End a sponsorship, as an operator
    Dismiss(dismiss),
    /// Show an agent: identity, karma, keys
    Agent(agent),
    /// Show an event: where it is and what became of it
    Event(event),
    /// Show the agents with the most karma
    Leaderboard(leaderboard),
    /// Redo everything that sources show, and find out who lies
    Audit(audit),
    /// Write a federation's history as tables, verified
    Export(export),
    /// Get a proof of an agent's profile, or of an event, from any node
    Prove(prove),
    /// Check a proof, asking nobody
    Verify(verify),
    /// Show how a node is doing
    Status(status),
    /// Sign an MLAuth-style request, to log in somewhere
    Sign(sign),
    /// Check an MLAuth-style request
    CheckLogin(check_login),
    /// Run a whole federation on this machine, with a short story
    Demo(demo),
    /// Print a shell's completion script
    Completions(completions),
}

//! The tools that sign.
use fama_ledger::event::{Context, RevokeReason};
use fama_ledger::id::Handle;
use fama_node::clock;
use rmcp::schemars::{self, JsonSchema};
use serde::Deserialize;

use super::super::untrusted;
use super::{CHALLENGE_BYTES_MAX, Effect, McpTool, NOTE_BYTES_MAX, Options, WORD_BYTES_MAX, bounded, parsed};
use crate::command::{attest, grant, register, revoke, rotate, sign, ungrant};
use crate::failure::Failure;
use crate::files;
use crate::login::LoginRequest;
use crate::terminal::{Terminal, ToSign};

/// What the receipt of an event has.
const RECEIPT: (&str, &[(&str, &str)]) =
    ("The receipt: event, log, time, whether it is final, proof", &[("event", "string"), ("final", "boolean")]);

/// What is wanted instead of a scope that is none.
const A_SCOPE: &str = "want one word of at most 64 visible characters";

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Register {
    /// Name and home, which never change: `name@home`
    handle: String,
    /// One line in which the agent describes itself
    bio: Option<String>,
    /// An invitation from the home, if it accepts no more registrations from this address
    invite: Option<String>,
    /// Wait until the registration can never be undone
    #[serde(default)]
    wait_final: bool,
}

impl McpTool for Register {
    const NAME: &'static str = "register";
    const TITLE: &'static str = "Register an agent";
    const DESCRIPTION: &'static str = "Registers a permanent name for the server's key, and commits to a next key, which is \
        created next to it if there is none. Asks the user before it signs.";
    const EFFECT: Effect = Effect::Signs { destructive: false, idempotent: false };
    const ANSWER: (&'static str, &'static [(&'static str, &'static str)]) = RECEIPT;

    fn run(self, options: &Options, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let handle: Handle = parsed("handle", &self.handle, "want one like swift-core-maps@alpha.example")?;
        bounded("bio", self.bio.as_deref().unwrap_or_default(), NOTE_BYTES_MAX)?;
        bounded("invite", self.invite.as_deref().unwrap_or_default(), NOTE_BYTES_MAX)?;
        let submission = options.submission(self.wait_final)?;
        let args =
            register::Args { handle, bio: self.bio, next: None, no_next: false, invite: self.invite, submission };
        register::run(&args, terminal)
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SignLogin {
    /// The agent's name or handle, as the service expects it
    name: String,
    /// The service's challenge
    message: String,
}

impl McpTool for SignLogin {
    const NAME: &'static str = "sign_login";
    const TITLE: &'static str = "Sign a login";
    const DESCRIPTION: &'static str = "Signs name, time and a service's challenge with the server's key, to log in there. \
        Asks the user before it signs. The signature is good for five minutes, and whoever has it can log in with it.";
    const EFFECT: Effect = Effect::Signs { destructive: false, idempotent: true };
    const ANSWER: (&'static str, &'static [(&'static str, &'static str)]) = (
        "What to send to the service",
        &[("dumbname", "string"), ("timestamp", "string"), ("message", "string"), ("signature", "string")],
    );

    fn run(self, options: &Options, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        bounded("message", &self.message, CHALLENGE_BYTES_MAX)?;
        if !untrusted::is_plain(&self.message) {
            return Err(Failure::new("dangerous_payload", "the challenge has characters that the user would not see")
                .hint("`fama sign` signs any challenge"));
        }
        let key = files::read_key(&options.key()?)?;
        let timestamp = clock::now().to_string();
        let request = LoginRequest { dumbname: self.name, timestamp, payload: self.message };
        let to_sign = ToSign { text: request.message()?, signer: key.public().to_string(), note: None };
        terminal.confirm_signing(to_sign, "Sign?", false)?;
        sign::signed(request, &key, terminal)
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Attest {
    /// The agent that receives karma: `name@home`, id or DID
    subject: String,
    /// The service that gives it, whose key this server has: `name@home`, id or DID
    issuer: String,
    /// How much karma, above or below 0
    delta: i32,
    /// The topic: a word of a-z 0-9 . _ -
    context: Option<String>,
    /// Why, at most 200 bytes
    reason: Option<String>,
    /// Where to find more, at most 512 bytes
    reference: Option<String>,
    /// Wait until the attestation can never be undone
    #[serde(default)]
    wait_final: bool,
}

impl McpTool for Attest {
    const NAME: &'static str = "attest";
    const TITLE: &'static str = "Give karma";
    const DESCRIPTION: &'static str = "Gives karma to an agent, or takes some, in the name of a service that operators \
        sponsor. Asks the user before it signs.";
    const EFFECT: Effect = Effect::Signs { destructive: false, idempotent: false };
    const ANSWER: (&'static str, &'static [(&'static str, &'static str)]) = RECEIPT;

    fn run(self, options: &Options, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let Self { subject, issuer, delta, context, reason, reference, wait_final } = self;
        for (name, value) in [("subject", &subject), ("issuer", &issuer)] {
            bounded(name, value, WORD_BYTES_MAX)?;
        }
        for (name, value) in [("reason", &reason), ("reference", &reference)] {
            bounded(name, value.as_deref().unwrap_or_default(), NOTE_BYTES_MAX)?;
        }
        let context =
            context.map(|text| parsed::<Context>("context", &text, "want a word of a-z 0-9 . _ -")).transpose()?;
        let submission = options.submission(wait_final)?;
        attest::run(
            &attest::Args { subject, issuer, delta, context, reason, reference, home: None, submission },
            terminal,
        )
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GrantScope {
    /// The agent that may do it: `name@home`, id or DID
    subject: String,
    /// The service that lets it, whose key this server has: `name@home`, id or DID
    issuer: String,
    /// What it may do: one word of the service's own, at most 64 visible characters
    scope: String,
    /// When the grant ends, like 2026-12-31T23:59:59.000Z [default: when it is taken back]
    expires: Option<String>,
    /// Why, at most 200 bytes
    reason: Option<String>,
    /// Wait until the grant can never be undone
    #[serde(default)]
    wait_final: bool,
}

impl McpTool for GrantScope {
    const NAME: &'static str = "grant";
    const TITLE: &'static str = "Let an agent do something";
    const DESCRIPTION: &'static str = "Lets an agent do something at a service, in the name of that service: whoever issues \
        tokens gives the agent this scope from then on. Asks the user before it signs.";
    const EFFECT: Effect = Effect::Signs { destructive: false, idempotent: true };
    const ANSWER: (&'static str, &'static [(&'static str, &'static str)]) = RECEIPT;

    fn run(self, options: &Options, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let Self { subject, issuer, scope, expires, reason, wait_final } = self;
        for (name, value) in [("subject", &subject), ("issuer", &issuer)] {
            bounded(name, value, WORD_BYTES_MAX)?;
        }
        bounded("reason", reason.as_deref().unwrap_or_default(), NOTE_BYTES_MAX)?;
        let scope = parsed("scope", &scope, A_SCOPE)?;
        let expires = expires.map(|text| parsed("expires", &text, "want a time like 2026-12-31T23:59:59.000Z"));
        let (expires, submission) = (expires.transpose()?, options.submission(wait_final)?);
        grant::run(&grant::Args { subject, issuer, scope, expires, reason, home: None, submission }, terminal)
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UngrantScope {
    /// The agent that may no longer: `name@home`, id or DID
    subject: String,
    /// The service that had let it, whose key this server has: `name@home`, id or DID
    issuer: String,
    /// What it may no longer do
    scope: String,
    /// Wait until that can never be undone
    #[serde(default)]
    wait_final: bool,
}

impl McpTool for UngrantScope {
    const NAME: &'static str = "ungrant";
    const TITLE: &'static str = "Take a grant back";
    const DESCRIPTION: &'static str = "Takes back what a service let an agent do. Others learn of it within seconds, or when \
        the agent's token ends. Asks the user before it signs.";
    const EFFECT: Effect = Effect::Signs { destructive: true, idempotent: true };
    const ANSWER: (&'static str, &'static [(&'static str, &'static str)]) = RECEIPT;

    fn run(self, options: &Options, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let Self { subject, issuer, scope, wait_final } = self;
        for (name, value) in [("subject", &subject), ("issuer", &issuer)] {
            bounded(name, value, WORD_BYTES_MAX)?;
        }
        let (scope, submission) = (parsed("scope", &scope, A_SCOPE)?, options.submission(wait_final)?);
        ungrant::run(&ungrant::Args { subject, issuer, scope, home: None, submission }, terminal)
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RotateKey {
    /// The identity: `name@home`, id or DID
    identity: String,
    /// Wait until the rotation can never be undone
    #[serde(default)]
    wait_final: bool,
}

impl McpTool for RotateKey {
    const NAME: &'static str = "rotate_key";
    const TITLE: &'static str = "Replace a key";
    const DESCRIPTION: &'static str = "Replaces the identity's key with the next key that it committed to, whose file is \
        next to the server's key, and renames the files: the server's key file is the new key afterwards. Asks the user \
        before it signs.";
    const EFFECT: Effect = Effect::Signs { destructive: true, idempotent: false };
    const ANSWER: (&'static str, &'static [(&'static str, &'static str)]) = (
        "The receipt, or that the identity had this key already (`known`)",
        &[("event", "string"), ("final", "boolean")],
    );

    fn run(self, options: &Options, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        bounded("identity", &self.identity, WORD_BYTES_MAX)?;
        let submission = options.submission(self.wait_final)?;
        let args = rotate::Args {
            identity: self.identity,
            new: None,
            uncommitted: false,
            no_next: false,
            home: None,
            key_version: None,
            submission,
        };
        rotate::run(&args, terminal)
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RevokeKey {
    /// The identity: `name@home`, id or DID
    identity: String,
    /// key_compromised, superseded, retired or unspecified
    #[serde(default = "unspecified")]
    reason: String,
    /// Wait until the revocation can never be undone
    #[serde(default)]
    wait_final: bool,
}

fn unspecified() -> String {
    "unspecified".to_owned()
}

impl McpTool for RevokeKey {
    const NAME: &'static str = "revoke_key";
    const TITLE: &'static str = "Revoke a key forever";
    const DESCRIPTION: &'static str = "Revokes the identity's key, forever and everywhere. An identity that committed to no \
        next key ends with it. Asks the user before it signs.";
    const EFFECT: Effect = Effect::Signs { destructive: true, idempotent: true };
    const ANSWER: (&'static str, &'static [(&'static str, &'static str)]) = RECEIPT;

    fn run(self, options: &Options, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        bounded("identity", &self.identity, WORD_BYTES_MAX)?;
        let wanted = "want key_compromised, superseded, retired or unspecified";
        let reason: RevokeReason = parsed("reason", &self.reason, wanted)?;
        let args = revoke::Args {
            identity: self.identity,
            reason,
            revoked_key: None,
            home: None,
            key_version: None,
            receipt: None,
            submission: options.submission(self.wait_final)?,
        };
        revoke::run(&args, terminal)
    }
}

//! `holm token`: keys to sign tokens with, and tokens, for those who have no issuer of their own.
//! A node verifies tokens and makes none.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use rand::Rng as _;

use super::pki::make_dir;
use super::{Failure, Terminal, duration};
use crate::access::mint::{Claims, MintError, MintKey};
use crate::env::{Entropy, SystemClock, WallClock as _};

/// Whom tokens are meant for where nothing else is said.
pub(super) const AUDIENCE: &str = "holm";

/// Arguments of `holm token`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  holm token keygen --dir keys
  holm token issue --key keys/token.key --subject ci --scope 'config:write:web/*'

In a node's settings:
  [[access.keys]]
  pem_file = \"keys/token.pem\"
  algorithms = [\"EdDSA\"]
  audience = \"holm\"
  scopes = \"grant\"")]
pub struct Token {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a key pair: token.key to sign with, token.pem and jwks.json for nodes to verify with.
    #[command(after_help = "Examples:\n  holm token keygen --dir keys")]
    Keygen {
        /// Where to put it.
        #[arg(long, value_name = "DIR", default_value = "keys")]
        dir: PathBuf,
    },
    /// Sign a token and print it.
    #[command(
        after_help = "Examples:\n  holm token issue --subject ci --scope 'config:write:web/*'"
    )]
    Issue {
        /// The key to sign with.
        #[arg(long, value_name = "FILE", default_value = "keys/token.key")]
        key: PathBuf,
        /// Who it is for: `updated_by` shows it.
        #[arg(long, value_name = "NAME")]
        subject: String,
        /// What it allows: config:read:web/*, config:write:web/dev, cluster:read; more than once
        /// for more.
        #[arg(long, value_name = "SCOPE", required_unless_present = "role")]
        scope: Vec<String>,
        /// A role that the nodes know; more than once for more.
        #[arg(long, value_name = "NAME")]
        role: Vec<String>,
        /// Whom it is meant for, as the nodes' settings say.
        #[arg(long, value_name = "NAME", default_value = AUDIENCE)]
        audience: String,
        /// Who issues it, where the nodes' settings ask for that.
        #[arg(long, value_name = "NAME")]
        issuer: Option<String>,
        /// How long it holds.
        #[arg(long, value_name = "TIME", default_value = "60m", value_parser = duration)]
        ttl: Duration,
    },
}

impl Token {
    pub(crate) fn run(self, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        match self.action {
            Action::Keygen { dir } => keygen(&dir, terminal),
            Action::Issue { key, subject, scope, role, audience, issuer, ttl } => {
                let pem = std::fs::read_to_string(&key).map_err(|e| {
                    Failure::usage(e.to_string())
                        .about(key.display())
                        .hint("`holm token keygen` makes a key")
                })?;
                let key = MintKey::from_pem(&pem)
                    .map_err(|e| Failure::usage(e.to_string()).about(key.display()))?;
                let now = SystemClock.now().0 / 1_000_000;
                let claims = Claims {
                    sub: subject,
                    aud: audience,
                    iss: issuer,
                    scope: scope.join(" "),
                    roles: role,
                    iat: now,
                    exp: now + ttl.as_secs().max(1),
                };
                terminal.say(&key.sign(&claims).map_err(failure)?)
            }
        }
    }
}

fn keygen(dir: &Path, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    make_dir(dir)?;
    let seed: [u8; 32] = Entropy::system().stream("token-key").random();
    let key = MintKey::from_seed(&seed).map_err(failure)?;
    let files = [
        ("token.key", key.private_pem(), 0o600),
        ("token.pem", key.public_pem(), 0o644),
        ("jwks.json", key.jwks(), 0o644),
    ];
    for (name, text, mode) in files {
        let path = dir.join(name);
        write_new(&path, &text, mode)?;
        terminal.say(path.display().to_string())?;
    }
    Ok(())
}

/// Writes a file that must not exist yet.
pub(super) fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    let written = std::fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|e| Failure::failed(e.to_string()).about(path.display()))
}

fn failure(error: MintError) -> Failure {
    Failure::failed(error.to_string())
}

//! `holm login`: a token for an account, to be used by what takes a token.

use std::path::PathBuf;

use clap::Args;

use super::token::write_new;
use super::{Failure, Global, Terminal};

/// Arguments of `holm login`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  holm login --client-id ci --client-secret-file ci.secret --out token
  export HOLM_TOKEN=$(holm login --client-id ci --client-secret-file ci.secret)

Other commands take --client-id and --client-secret-file as well, and get their tokens themselves.")]
pub struct Login {
    /// What the token is narrowed to: config:read:web/*; more than once for more.
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,
    /// Write the token to this file, which only its owner can read, rather than print it. A file
    /// that is there is replaced.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Login {
    pub(crate) async fn run(
        self,
        global: &Global,
        terminal: &mut Terminal<'_>,
    ) -> Result<(), Failure> {
        let scope = (!self.scope.is_empty()).then(|| self.scope.join(" "));
        let token = global.client()?.log_in(scope.as_deref()).await?;
        let Some(path) = self.out else { return terminal.say(token.expose()) };
        let new = path.with_extension("new");
        let _ = std::fs::remove_file(&new);
        write_new(&new, token.expose(), 0o600)?;
        std::fs::rename(&new, &path)
            .map_err(|e| Failure::failed(e.to_string()).about(path.display()))?;
        terminal.say(path.display().to_string())
    }
}

//! `holm completions`: what a shell needs to know to complete commands and options, from the same
//! description that reads them.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{Cli, Failure, Terminal};

/// Arguments of `holm completions`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  holm completions bash > /etc/bash_completion.d/holm
  holm completions zsh > ~/.zfunc/_holm              with fpath+=~/.zfunc before compinit
  holm completions fish > ~/.config/fish/completions/holm.fish")]
pub struct Completions {
    /// For which shell.
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "holm", &mut script);
        Ok(terminal.out.write_all(&script)?)
    }
}

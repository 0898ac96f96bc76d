//! `holm exec`: runs a program with configurations and secrets in its environment. Becomes the
//! program, unless it has to start it again after a change. Guesses nothing: what cannot be given
//! whole, by the rule it states, is refused before anything is started.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::time::Duration;

use clap::Args;
use rustix::process::Signal;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::list::print;
use super::terminal::Items;
use super::{Failure, Global, Terminal, duration};
use crate::model::{DocumentId, Environment, Service};

mod fetch;
mod follow;
mod given;
mod launch;
mod names;
mod supervise;

use fetch::Wanted;
use follow::{Follow, Pace};
use launch::Program;
use names::{NamedSecret, Rule};
use supervise::{Stop, Supervisor};

/// `holm` itself failed, and nothing was started: as `env`, `timeout` and `docker run` say it.
const NOTHING_STARTED: u8 = 125;
/// The variable with the own bearer token.
const TOKEN: &str = "HOLM_TOKEN";
/// What is told and not taken in yet: all that can be said before the program is started, and more.
const TOLD_MAX: usize = 128;

/// Arguments of `holm exec`.
#[derive(Args, Debug)]
#[command(after_help = "\
A key is the variable of its name in upper case, with _ for everything that is neither a letter nor a
digit: db.pool-size is DB_POOL_SIZE. A string is given as it is, any other value as compact JSON. Two
keys that would be one variable are refused, and so are names that steer other programs (PATH,
LD_PRELOAD, NODE_OPTIONS, HOLM_…) unless --allow names them.

What Holm has goes before what is inherited. HOLM_TOKEN is not passed on.

Without --restart-on-change `holm` becomes the program, which keeps the process id. With it `holm`
stays: it passes signals on, and starts the program again when what it is given changes, also by a new
version of a secret. A state that cannot be given, and a node that does not answer, leave the program
as it is.

Exit codes: the program's; 128 and a signal's number where one ended it; 127 no such program; 126 it
cannot be run; 125 nothing was started.

Examples:
  holm exec --service web --env prod -- ./server --port 8080
  holm exec --service web --env prod --secrets --restart-on-change -- ./server
  holm exec --service web --env prod --secret prod-db-password=PGPASSWORD -- psql
  holm exec --service web --env prod --keys db. --prefix APP_ --pristine -- /usr/bin/env
  holm exec --service web --env prod --print")]
pub struct Exec {
    /// Whose configuration.
    #[arg(long, value_name = "NAME")]
    service: Service,
    /// Of which environment.
    #[arg(long = "env", value_name = "NAME")]
    environment: Environment,
    /// Only keys that begin with this.
    #[arg(long, value_name = "TEXT")]
    keys: Option<String>,
    /// Put this before the name of every variable.
    #[arg(long, value_name = "TEXT", value_parser = names::variable)]
    prefix: Option<String>,
    /// Fill in the secrets that values refer to ({"$secret": "name"}). This is audited.
    #[arg(long)]
    secrets: bool,
    /// Give a secret, too, under its own name by the same rule or as VARIABLE. May be repeated.
    #[arg(long = "secret", value_name = "NAME[=VARIABLE]")]
    named: Vec<NamedSecret>,
    /// Take this name though it steers other programs. May be repeated.
    #[arg(long, value_name = "VARIABLE", value_parser = names::variable)]
    allow: Vec<String>,
    /// Leave out what is inherited: the program gets what Holm has, and nothing else.
    #[arg(long)]
    pristine: bool,
    /// Show which variables there would be, and what each is made from; no values.
    #[arg(long, conflicts_with = "restart_on_change")]
    print: bool,
    /// Start the program again when what it is given changes.
    #[arg(long)]
    restart_on_change: bool,
    /// What the program is stopped with: TERM, INT, QUIT, HUP, USR1, USR2, WINCH, KILL.
    #[arg(long, value_name = "SIGNAL", default_value = "TERM", requires = "restart_on_change")]
    #[arg(value_parser = supervise::signal_named)]
    stop_signal: Signal,
    /// How long it may take to stop, until it is killed.
    #[arg(long, value_name = "TIME", default_value = "30s", requires = "restart_on_change")]
    #[arg(value_parser = duration)]
    stop_timeout: Duration,
    /// How long nothing may change until the program is started again.
    #[arg(long, value_name = "TIME", default_value = "1s", requires = "restart_on_change")]
    #[arg(value_parser = duration)]
    settle: Duration,
    /// How often the node is asked whether secrets have new versions.
    #[arg(long, value_name = "TIME", default_value = "30s", requires = "restart_on_change")]
    #[arg(value_parser = duration)]
    secrets_every: Duration,
    /// The program and its arguments.
    #[arg(last = true, required_unless_present = "print", value_name = "COMMAND")]
    command: Vec<OsString>,
}

#[derive(serde::Serialize)]
struct Row {
    variable: String,
    from: String,
}

impl Exec {
    pub(crate) async fn run(
        self,
        global: &Global,
        terminal: &mut Terminal<'_>,
    ) -> Result<(), Failure> {
        if self.print {
            return self.print(global, terminal).await;
        }
        match self.start(global, terminal).await {
            Ok(0) => Ok(()),
            Ok(code) => Err(Failure::exit(code, "")),
            Err(failure) if failure.code() >= NOTHING_STARTED => Err(failure),
            Err(failure) => Err(failure.with_code(NOTHING_STARTED)),
        }
    }

    async fn print(self, global: &Global, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let names = self.wanted().names(&global.client()?).await?;
        let rows =
            names.into_iter().map(|(variable, from)| Row { variable, from: from.to_string() });
        let rows: Vec<Row> = rows.collect();
        if global.json() {
            return terminal.say_json(&Items { items: &rows });
        }
        let rows: Vec<_> = rows.into_iter().map(|row| vec![row.variable, row.from]).collect();
        print(&["VARIABLE", "FROM"], &rows, terminal)
    }

    /// Gives the program's exit code, where `holm` does not become the program.
    async fn start(mut self, global: &Global, terminal: &mut Terminal<'_>) -> Result<u8, Failure> {
        let command = std::mem::take(&mut self.command);
        let program = self.program(command)?;
        let client = global.client()?;
        let wanted = self.wanted();
        if !self.restart_on_change {
            let found = wanted.find(&client).await?;
            let given = wanted.read(&client, found).await?;
            program.check(&given)?;
            terminal.flush()?;
            return Err(program.replace(given));
        }
        let pace = Pace { settle: self.settle, secrets_every: self.secrets_every };
        let stop = Stop { signal: self.stop_signal, within: self.stop_timeout };
        let (sender, mut told) = mpsc::channel(TOLD_MAX);
        let begun = Follow::begin(global, client, wanted, pace, sender).await;
        let (follow, given, marks) = begun?;
        let supervisor = Supervisor::start(&program, &given, marks, stop)?;
        drop(given);
        let _follow = AbortOnDropHandle::new(tokio::spawn(follow.run()));
        supervisor.run(&mut told, terminal).await
    }

    fn program(&self, command: Vec<OsString>) -> Result<Program, Failure> {
        let own: Vec<(OsString, OsString)> = std::env::vars_os().collect();
        let search = own.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.clone());
        let inherited = match self.pristine {
            true => Vec::new(),
            false => own.into_iter().filter(|(name, _)| name != TOKEN).collect(),
        };
        Program::find(command, inherited, search.as_deref())
    }

    fn wanted(&self) -> Wanted {
        Wanted {
            document: DocumentId::new(self.service.clone(), self.environment.clone()),
            keys: self.keys.clone(),
            rule: Rule {
                prefix: self.prefix.clone().unwrap_or_default(),
                allowed: self.allow.iter().cloned().collect::<BTreeSet<String>>(),
            },
            fills: self.secrets,
            named: self.named.clone(),
        }
    }
}

//! `holm export`: keys as files that `holm import` reads as the same. Names what a format cannot
//! hold, and leaves it alone unless told to go on. The same keys give the same bytes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;

use super::diff::keys_of;
use super::formats::{self, Environments, Format};
use super::{Failure, Global, Terminal};
use crate::client::Client;
use crate::model::{DocumentId, Environment, Service};

/// Arguments of `holm export`.
#[derive(Args, Debug)]
#[command(after_help = "\
One file a service; in YAML and .properties, an environment other than `default` is a document with
a Spring profile. The other formats have one file an environment: web.json, web@prod.json.
`holm import` of the folder gives the same keys and values again. In .env and .properties every
value is text.

Examples:
  holm export --dir backup/
  holm export web
  holm export web/prod --format env > prod.env
  holm export --format toml --dir backup/")]
pub struct Export {
    /// SERVICE or SERVICE/ENVIRONMENT; everything where there is none.
    #[arg(value_name = "SERVICE[/ENVIRONMENT]")]
    what: Option<String>,
    /// How the files are written.
    #[arg(long, value_enum, default_value = "yaml")]
    format: Format,
    /// The folder for the files; `-`, or none, prints one file.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Also write values that would not read back the same, as nearly as the format can.
    #[arg(long)]
    lossy: bool,
}

impl Export {
    pub(crate) async fn run(
        self,
        global: &Global,
        terminal: &mut Terminal<'_>,
    ) -> Result<(), Failure> {
        let client = global.client()?;
        let services = self.fetch(&client, terminal).await?;
        let files = self.files(services)?;
        let mut texts = Vec::new();
        for file in &files {
            self.check(file, terminal)?;
            texts.push(formats::write(self.format, &file.environments, &file.default));
        }
        match self.dir.as_deref().filter(|dir| *dir != Path::new("-")) {
            None => match texts.as_slice() {
                [text] => terminal.say_raw(text),
                _ => Err(Failure::usage(format!("that makes {} files", texts.len()))
                    .hint("give --dir DIR, or name one SERVICE/ENVIRONMENT")),
            },
            Some(dir) => {
                let wrong = |path: &Path, e| Failure::failed(format!("{}: {e}", path.display()));
                std::fs::create_dir_all(dir).map_err(|e| wrong(dir, e))?;
                for (file, text) in files.iter().zip(&texts) {
                    let path = dir.join(&file.name);
                    std::fs::write(&path, text).map_err(|e| wrong(&path, e))?;
                    terminal.say(path.display().to_string())?;
                }
                Ok(())
            }
        }
    }

    async fn fetch(
        &self,
        client: &Client,
        terminal: &mut Terminal<'_>,
    ) -> Result<BTreeMap<Service, Environments>, Failure> {
        let documents: Vec<DocumentId> = match self.what.as_deref() {
            Some(what) if what.contains('/') => vec![DocumentId::parse(what)?],
            Some(what) => {
                let service = Service::new(what)?;
                let all = client.documents().await?;
                all.iter().filter(|info| info.service == service).map(|info| info.id()).collect()
            }
            None => client.documents().await?.iter().map(|info| info.id()).collect(),
        };
        let mut services: BTreeMap<Service, Environments> = BTreeMap::new();
        for (i, document) in documents.iter().enumerate() {
            let done = (i as u64, documents.len() as u64);
            terminal.bar(done, &format!("read; reading {document}"))?;
            let keys = keys_of(client, document).await?;
            if !keys.is_empty() {
                let DocumentId { service, environment } = document.clone();
                services.entry(service).or_default().insert(environment, keys);
            }
        }
        terminal.progress_ends()?;
        if services.is_empty() {
            let what = self.what.as_deref().unwrap_or("the cluster");
            return Err(Failure::not_found(format!("{what} has no keys")));
        }
        Ok(services)
    }

    fn files(&self, services: BTreeMap<Service, Environments>) -> Result<Vec<File>, Failure> {
        let extension = self.format.extension();
        let default = Environment::new("default")?;
        let mut files = Vec::new();
        for (service, environments) in services {
            if self.format.holds_profiles() {
                let (name, default) = (format!("{service}.{extension}"), default.clone());
                files.push(File { name, service, default, environments });
                continue;
            }
            for (environment, keys) in environments {
                let name = if environment == default {
                    format!("{service}.{extension}")
                } else {
                    format!("{service}@{environment}.{extension}")
                };
                let environments = Environments::from([(environment.clone(), keys)]);
                let service = service.clone();
                files.push(File { name, service, default: environment, environments });
            }
        }
        Ok(files)
    }

    /// Refuses, or with `--lossy` tells, what would not read back the same.
    fn check(&self, file: &File, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let losses = formats::losses(self.format, &file.environments, &file.default);
        let (types, values): (Vec<_>, Vec<_>) = losses.iter().partition(|loss| loss.type_alone);
        if !types.is_empty() {
            let count = types.len();
            terminal
                .note(format!("{}: {count} values that are no strings become text", file.name))?;
        }
        for loss in &values {
            let (service, environment, key) = (&file.service, &loss.environment, &loss.key);
            terminal.note(format!("{service}/{environment}/{key}: {}", loss.why))?;
        }
        if values.is_empty() || self.lossy {
            return Ok(());
        }
        let count = values.len();
        Err(Failure::failed(format!("{}: {count} values would not read back the same", file.name))
            .hint("nothing was written; --lossy writes them as nearly as the format can, or take another --format"))
    }
}

/// One file to write.
struct File {
    name: String,
    service: Service,
    /// The environment of documents without a profile.
    default: Environment,
    environments: Environments,
}

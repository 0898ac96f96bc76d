//! Which files are read, and what their names say. Reads them all before anything is sent, so that
//! a mistake in the last one changes nothing.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::super::formats::{self, FILE_LEN_MAX, Format, Keys};
use super::super::{Failure, Terminal};
use crate::model::{DocumentId, Environment, Service};

/// Most files of one import.
const FILES_MAX: usize = 10_000;

/// What the files hold, by document.
pub(crate) fn read(
    paths: &[PathBuf],
    service: Option<&Service>,
    environment: Option<&Environment>,
    terminal: &mut Terminal<'_>,
) -> Result<BTreeMap<DocumentId, Keys>, Failure> {
    let mut wanted: BTreeMap<DocumentId, Keys> = BTreeMap::new();
    let files = find(paths)?;
    for (i, file) in files.iter().enumerate() {
        terminal.progress(format!("reading {} ({} of {})", file.display(), i + 1, files.len()))?;
        let named = Named::of(file, service, environment)?;
        let bytes = bytes_of(file)?;
        let environments = formats::parse(named.format, &bytes, &named.environment)
            .map_err(|e| Failure::usage(e.to_string()).about(file.display()))?;
        for (environment, keys) in environments {
            let document = DocumentId::new(named.service.clone(), environment);
            let known = wanted.entry(document.clone()).or_default();
            for (key, value) in keys {
                if known.get(&key).is_some_and(|known| *known != value) {
                    let file = file.display();
                    return Err(Failure::usage(format!(
                        "{file}: {document}/{key} has another value in an earlier file"
                    )));
                }
                known.insert(key, value);
            }
        }
    }
    terminal.progress_ends()?;
    if wanted.is_empty() {
        return Err(Failure::usage("there is nothing to import in what was named")
            .hint("files end in .yml, .yaml, .json, .toml, .env or .properties"));
    }
    Ok(wanted)
}

/// The files that are meant, in order, each once.
fn find(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        let wrong = |e: std::io::Error| Failure::usage(format!("{}: {e}", path.display()));
        if !std::fs::metadata(path).map_err(wrong)?.is_dir() {
            files.push(path.clone());
            continue;
        }
        let mut inside = Vec::new();
        for file in std::fs::read_dir(path).map_err(wrong)? {
            let file = file.map_err(wrong)?.path();
            if file.is_file() && format_of(&file).is_some() {
                inside.push(file);
            }
            if inside.len() > FILES_MAX {
                let name = path.display();
                return Err(Failure::usage(format!("{name}: more than {FILES_MAX} files")));
            }
        }
        inside.sort();
        files.extend(inside);
    }
    let mut seen = std::collections::BTreeSet::new();
    files.retain(|file| seen.insert(file.clone()));
    Ok(files)
}

fn format_of(file: &Path) -> Option<Format> {
    let name = file.file_name()?.to_str()?;
    let (_, extension) = name.rsplit_once('.')?;
    Format::of_extension(extension)
}

/// What a file's name says.
#[derive(Debug, PartialEq, Eq)]
struct Named {
    format: Format,
    service: Service,
    environment: Environment,
}

impl Named {
    fn of(
        file: &Path,
        service: Option<&Service>,
        environment: Option<&Environment>,
    ) -> Result<Self, Failure> {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let shown = file.display();
        let format = format_of(file).ok_or_else(|| {
            Failure::usage(format!("{shown}: the ending says no format"))
                .hint("files end in .yml, .yaml, .json, .toml, .env or .properties")
        })?;
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        // `@` is in no name, so that the parts can be told apart.
        let (stem, suffix) = match stem.split_once('@') {
            Some((stem, suffix)) => (stem, Some(suffix)),
            None => (stem, None),
        };
        let service = match service {
            Some(service) => service.clone(),
            None => Service::new(stem).map_err(|e| {
                Failure::usage(format!("{shown}: the name is no service: {e}"))
                    .hint("name it with --service")
            })?,
        };
        let environment = match (environment, suffix) {
            (Some(environment), _) => environment.clone(),
            (None, Some(suffix)) => Environment::new(suffix)
                .map_err(|e| Failure::from(e).about(format!("{shown}: after the @")))?,
            (None, None) => Environment::new("default")?,
        };
        Ok(Self { format, service, environment })
    }
}

fn bytes_of(file: &Path) -> Result<Vec<u8>, Failure> {
    let wrong = |e: std::io::Error| Failure::usage(format!("{}: {e}", file.display()));
    let mut bytes = Vec::new();
    let limit = FILE_LEN_MAX as u64 + 1;
    std::fs::File::open(file).map_err(wrong)?.take(limit).read_to_end(&mut bytes).map_err(wrong)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_says_service_environment_and_format() {
        let named = |name: &str| {
            Named::of(Path::new(name), None, None)
                .map(|n| (n.format, n.service.to_string(), n.environment.to_string()))
                .map_err(|f| f.code())
        };
        let text = str::to_owned;
        assert_eq!(named("x/web.yml"), Ok((Format::Yaml, text("web"), text("default"))));
        assert_eq!(named("web@prod.toml"), Ok((Format::Toml, text("web"), text("prod"))));
        assert_eq!(named("a.b.JSON"), Ok((Format::Json, text("a.b"), text("default"))));
        assert_eq!(named("my web.yml"), Err(2));
        assert_eq!(named(".env"), Err(2));
        assert_eq!(named("web"), Err(2));
        let service = Service::new("web").unwrap();
        assert!(Named::of(Path::new(".env"), Some(&service), None).is_ok());
    }
}

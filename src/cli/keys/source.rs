//! Where a process gets its master keys from: files and the environment. They are read once, when
//! it starts, and go into the settings as text that is not shown.

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::cli::Failure;
use crate::secrets::KeyProvider;
use crate::secrets::keyring::TEXT_LEN_MAX;
use crate::settings::{KeyText, SecretSettings};

/// A key in a file.
struct FileKey {
    generation: u32,
    path: PathBuf,
}

impl KeyProvider for FileKey {
    fn generation(&self) -> u32 {
        self.generation
    }

    fn text(&self) -> Result<Zeroizing<String>, String> {
        read_private(&self.path).map_err(|e| format!("{}: {e}", self.path.display()))
    }
}

/// A key in an environment variable.
struct EnvironmentKey {
    generation: u32,
    name: String,
}

impl KeyProvider for EnvironmentKey {
    fn generation(&self) -> u32 {
        self.generation
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "which variable holds the key is a setting, so that clap cannot read it"
    )]
    fn text(&self) -> Result<Zeroizing<String>, String> {
        let text = std::env::var(&self.name).map(Zeroizing::new);
        text.map_err(|_| format!("the environment variable {} is not set, or no text", self.name))
    }
}

/// Reads the keys that the settings name; without any there is nothing to seal secrets with.
pub(in crate::cli) fn read(settings: &mut SecretSettings) -> Result<(), Failure> {
    if settings.master_keys.is_empty() {
        return Err(Failure::usage("there is no master key, and secrets cannot be without one").hint(
            "make one with `holm keys generate --out master.key`, give the same one to every node \
             of the cluster, and say where it is in the settings:\n  [secrets]\n  \
             master_keys = [{ generation = 1, file = \"master.key\" }]",
        ));
    }
    for key in &mut settings.master_keys {
        let generation = key.generation;
        let provider: Box<dyn KeyProvider> = match (key.file.take(), key.env.take()) {
            (Some(path), _) => Box::new(FileKey { generation, path }),
            (None, Some(name)) => Box::new(EnvironmentKey { generation, name }),
            (None, None) => continue,
        };
        let text = provider.text().map_err(|why| {
            Failure::usage(why).about(format!("master key, generation {}", provider.generation()))
        })?;
        key.text = Some(KeyText::new(text));
    }
    Ok(())
}

/// A key's text from a file or, where none is named, from a variable; nothing where neither is.
pub(in crate::cli) fn one(
    file: Option<&Path>,
    variable: Option<&str>,
) -> Option<Result<Zeroizing<String>, String>> {
    let generation = 1;
    let provider: Box<dyn KeyProvider> = match (file, variable) {
        (Some(path), _) => Box::new(FileKey { generation, path: path.to_owned() }),
        (None, Some(name)) => Box::new(EnvironmentKey { generation, name: name.to_owned() }),
        (None, None) => return None,
    };
    Some(provider.text())
}

/// Reads a small file that nobody but its owner may read.
fn read_private(path: &Path) -> Result<Zeroizing<String>, String> {
    let file = std::fs::File::open(path)
        .map_err(|e| format!("{e} (`holm keys generate --out FILE` makes a key)"))?;
    let mode = file.metadata().map_err(|e| e.to_string())?.mode();
    if mode & 0o077 != 0 {
        return Err(format!(
            "others than its owner may read or change it (mode {:o}): `chmod 600` it",
            mode & 0o777
        ));
    }
    let mut text = Zeroizing::new(String::with_capacity(TEXT_LEN_MAX + 2));
    file.take(TEXT_LEN_MAX as u64 + 1).read_to_string(&mut text).map_err(|e| e.to_string())?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn settings(path: &Path) -> SecretSettings {
        let text = format!("master_keys = [{{ generation = 1, file = {path:?} }}]");
        toml::from_str(&text).unwrap()
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        std::fs::write(&path, "a key").unwrap();
        for mode in [0o644, 0o640, 0o602] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let failure = format!("{:?}", read(&mut settings(&path)).unwrap_err());
            assert!(failure.contains("chmod 600") && !failure.contains("a key\""), "{failure}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let mut settings = settings(&path);
        read(&mut settings).unwrap();
        assert_eq!(settings.master_keys[0].text.as_ref().unwrap().expose(), "a key");
    }

    #[test]
    fn without_a_key_the_text_says_how_to_make_one() {
        let failure = format!("{:?}", read(&mut SecretSettings::default()).unwrap_err());
        assert!(failure.contains("holm keys generate"), "{failure}");
        let missing = format!("{:?}", read(&mut settings(Path::new("/no/such"))).unwrap_err());
        assert!(missing.contains("/no/such") && missing.contains("generation 1"), "{missing}");
    }
}

//! What secrets are sealed with: where the generations of the master key come from. A key itself
//! never stands in a settings file, and is never shown.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use zeroize::Zeroizing;

use super::{SettingsError, refuse};
use crate::secrets::keyring::{self, GENERATIONS_MAX, KEY_LEN};

/// What secrets are sealed with.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SecretSettings {
    /// The generations of the master key that this node holds, the newest and those that still
    /// wrap something. Default: none, and then `holm serve` does not start.
    pub master_keys: Vec<MasterKeySettings>,
}

/// One generation of the master key. Exactly one of `file` and `env` says where it is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MasterKeySettings {
    /// Its number: 1, 2, 3, …. Required.
    pub generation: u32,
    /// A file with the key, as `holm keys generate` writes it; nobody but its owner may read it.
    pub file: Option<PathBuf>,
    /// The name of the environment variable that holds the key.
    pub env: Option<String>,
    /// The key, once it was read: never from a settings file.
    #[serde(skip)]
    pub text: Option<KeyText>,
}

/// A master key as text. Not shown; overwritten when the last copy goes.
#[derive(Clone, PartialEq)]
pub struct KeyText(Arc<Zeroizing<String>>);

impl KeyText {
    /// Takes the text over.
    pub fn new(text: Zeroizing<String>) -> Self {
        Self(Arc::new(text))
    }

    /// The text, to be read as a key.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyText(..)")
    }
}

impl SecretSettings {
    /// Settings with these keys, for who starts a node from code: benchmarks, tests, simulations.
    pub fn given(keys: impl IntoIterator<Item = (u32, [u8; KEY_LEN])>) -> Self {
        let given = |(generation, key): (u32, [u8; KEY_LEN])| MasterKeySettings {
            generation,
            text: Some(KeyText::new(keyring::encode(&key))),
            ..MasterKeySettings::default()
        };
        Self { master_keys: keys.into_iter().map(given).collect() }
    }

    pub(super) fn check(&self) -> Result<(), SettingsError> {
        let field = "secrets.master_keys";
        refuse(self.master_keys.len() > GENERATIONS_MAX, field, "are more than 16")?;
        for (i, key) in self.master_keys.iter().enumerate() {
            let field = format!("secrets.master_keys[{i}]");
            refuse(key.generation == 0, &field, "needs a generation: 1, 2, 3, …")?;
            let twice = self.master_keys[..i].iter().any(|it| it.generation == key.generation);
            refuse(twice, &field, "has a generation that stands above already")?;
            let places = [key.file.is_some(), key.env.is_some(), key.text.is_some()];
            let places = places.into_iter().filter(|given| *given).count();
            refuse(places != 1, &field, "needs one of file and env")?;
        }
        Ok(())
    }
}

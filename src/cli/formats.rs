//! Configuration files as people keep them, to and from keys and values: YAML, JSON, TOML, `.env`
//! and `.properties`. Pure: takes bytes and gives text; opens no file, asks no server, and fills in
//! no `${…}` placeholder.
//!
//! Maps become dotted keys and lists stay JSON. Reading what was written gives the same keys and
//! values, or [`losses`] names each that the format cannot hold.

use std::collections::BTreeMap;
use std::fmt;

use crate::model::{Environment, JsonText, Key, NameError};

pub(crate) mod dotenv;
pub(crate) mod json;
pub(crate) mod profiles;
pub(crate) mod properties;
pub(crate) mod quote;
pub(crate) mod toml;
pub(crate) mod tree;
pub(crate) mod yaml;

#[cfg(test)]
mod tests;

/// Longest file that is read, in bytes.
pub const FILE_LEN_MAX: usize = 16 * 1024 * 1024;

/// Keys and values of one environment.
pub type Keys = BTreeMap<Key, JsonText>;
/// Everything one file holds: the keys of each environment.
pub type Environments = BTreeMap<Environment, Keys>;

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// YAML 1.2; a Spring profile is an environment.
    Yaml,
    /// One JSON object.
    Json,
    /// TOML 1.
    Toml,
    /// `NAME=value` lines, as shells and containers take them.
    Env,
    /// Java properties; a Spring profile is an environment.
    Properties,
}

impl Format {
    /// The format that a file name's ending stands for.
    pub fn of_extension(extension: &str) -> Option<Self> {
        match extension.to_ascii_lowercase().as_str() {
            "yaml" | "yml" => Some(Self::Yaml),
            "json" => Some(Self::Json),
            "toml" => Some(Self::Toml),
            "env" => Some(Self::Env),
            "properties" => Some(Self::Properties),
            _ => None,
        }
    }

    /// The ending of the files that are written.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Yaml => "yml",
            Self::Json => "json",
            Self::Toml => "toml",
            Self::Env => "env",
            Self::Properties => "properties",
        }
    }

    /// Whether one file can hold several environments.
    pub fn holds_profiles(self) -> bool {
        matches!(self, Self::Yaml | Self::Properties)
    }

    fn holds_text_alone(self) -> bool {
        matches!(self, Self::Env | Self::Properties)
    }
}

/// Why a file is not taken. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The file is longer than [`FILE_LEN_MAX`].
    #[error("the file has {0} bytes; at most {FILE_LEN_MAX} are read")]
    TooLong(usize),
    /// The bytes are not text.
    #[error("the file is not UTF-8 text (byte {0})")]
    NotText(usize),
    /// The text does not follow its format.
    #[error("{}{message}", at(*line))]
    Syntax {
        /// Where it stops following it, from 1.
        line: Option<usize>,
        /// What is wrong.
        message: String,
    },
    /// A key that Holm does not take.
    #[error("{}the key `{key}` cannot be imported: {error}", at(*line))]
    Key {
        /// Where the key stands, from 1.
        line: Option<usize>,
        /// The whole dotted key.
        key: String,
        /// What is wrong with it.
        error: NameError,
    },
    /// A value that Holm does not take.
    #[error("{}the value of `{key}` cannot be imported: {message}", at(*line))]
    Value {
        /// Where the value stands, from 1.
        line: Option<usize>,
        /// The whole dotted key.
        key: String,
        /// What is wrong with it.
        message: String,
    },
    /// One key with two values in one document, however it is spelled.
    #[error("the key `{key}` has two values in one document: {}{first}, and {}{second}", at(*first_line), at(*second_line))]
    Twice {
        /// The whole dotted key.
        key: Key,
        /// Where it stands first, from 1.
        first_line: Option<usize>,
        /// Its value there.
        first: Shortened,
        /// Where it stands again, from 1.
        second_line: Option<usize>,
        /// Its value there.
        second: Shortened,
    },
    /// A Spring profile that names no environments.
    #[error("{}the profile `{profile}` names no environment: {message}", at(*line))]
    Profile {
        /// Where it stands, from 1.
        line: Option<usize>,
        /// The expression as it stands.
        profile: String,
        /// What is wrong with it.
        message: String,
    },
}

fn at(line: Option<usize>) -> String {
    line.map(|line| format!("line {line}: ")).unwrap_or_default()
}

/// A value for an error message, cut to a length that a terminal line holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortened(pub JsonText);

impl fmt::Display for Shortened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shorten(self.0.as_str(), 60))
    }
}

/// The first `chars_max` characters of `text`, with `…` where there were more.
pub(crate) fn shorten(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Reads a file. Documents without a profile belong to `default`.
pub fn parse(
    format: Format,
    bytes: &[u8],
    default: &Environment,
) -> Result<Environments, FormatError> {
    if bytes.len() > FILE_LEN_MAX {
        return Err(FormatError::TooLong(bytes.len()));
    }
    let text = decode(format, bytes)?;
    let documents = match format {
        Format::Yaml => yaml::parse(&text)?,
        Format::Json => vec![json::parse(&text)?],
        Format::Toml => vec![toml::parse(&text)?],
        Format::Env => vec![dotenv::parse(&text)?],
        Format::Properties => properties::parse(&text)?,
    };
    let mut environments = Environments::new();
    for document in documents {
        let document = tree::flatten(document)?;
        let (names, document) = if format.holds_profiles() {
            profiles::split(document, default)?
        } else {
            (vec![default.clone()], document)
        };
        for name in names {
            let keys = document.iter().map(|(key, placed)| (key.clone(), placed.value.clone()));
            environments.entry(name).or_default().extend(keys);
        }
    }
    environments.retain(|_, keys| !keys.is_empty());
    Ok(environments)
}

/// Writes a file that [`parse`] reads as the same, apart from what [`losses`] names: an object
/// becomes nested keys, a null is left out of TOML, everything is text in `.env` and
/// `.properties`, and of several environments a format without profiles holds `default` alone.
pub fn write(format: Format, environments: &Environments, default: &Environment) -> String {
    let mut out = String::new();
    let none = Keys::new();
    let alone = environments.get(default).unwrap_or(&none);
    let write_profiles = match format {
        Format::Yaml => yaml::write,
        Format::Properties => properties::write,
        Format::Json => {
            json::write(&mut out, alone);
            return out;
        }
        Format::Toml => {
            toml::write(&mut out, alone);
            return out;
        }
        Format::Env => {
            dotenv::write(&mut out, alone);
            return out;
        }
    };
    let named = environments.iter().filter(|(name, _)| *name != default);
    let documents = environments.get_key_value(default).into_iter().chain(named);
    for (i, (name, keys)) in documents.enumerate() {
        write_profiles(&mut out, i == 0, (name != default).then_some(name), keys);
    }
    out
}

/// A value that would not read back as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The environment it is in.
    pub environment: Environment,
    /// Its key.
    pub key: Key,
    /// What the format cannot hold.
    pub why: &'static str,
    /// Whether it is only the type: the text of the value is kept (`.env` and `.properties`).
    pub type_alone: bool,
}

/// What [`fn@write`] could not write such that it reads back the same.
pub fn losses(format: Format, environments: &Environments, default: &Environment) -> Vec<Loss> {
    let mut losses = Vec::new();
    for (name, keys) in environments {
        for (key, value) in keys {
            let found = if name != default && !format.holds_profiles() {
                Some(("this format has no place for a second environment", false))
            } else if format.holds_profiles() && profiles::is_reserved(key.as_str()) {
                Some(("this key selects a profile in a file", false))
            } else {
                loss_of_value(format, value)
            };
            if let Some((why, type_alone)) = found {
                let (environment, key) = (name.clone(), key.clone());
                losses.push(Loss { environment, key, why, type_alone });
            }
        }
    }
    losses
}

fn loss_of_value(format: Format, value: &JsonText) -> Option<(&'static str, bool)> {
    let text = value.as_str();
    if format.holds_text_alone() {
        let kept = text.starts_with('"');
        return (!kept).then_some(("this format holds text alone", true));
    }
    if text.starts_with('{') && text != "{}" {
        return Some(("an object reads back as one key for each of its members", false));
    }
    match format {
        Format::Yaml => yaml::loss_of(&tree::of_json(value)),
        Format::Toml => toml::loss_of(&tree::of_json(value)),
        Format::Json | Format::Env | Format::Properties => None,
    }
}

fn decode(format: Format, bytes: &[u8]) -> Result<String, FormatError> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        // Java wrote .properties in ISO 8859-1 until version 9: each byte is its code point.
        Err(_) if format == Format::Properties => {
            Ok(bytes.iter().copied().map(char::from).collect())
        }
        Err(error) => Err(FormatError::NotText(error.valid_up_to())),
    }
}

//! Names of services, environments, keys, regions and nodes, each with its limits. A name that
//! exists is valid: parsing is the only way to make one.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest service or environment, in bytes (brief.md: `varchar(64)`).
pub const SERVICE_LEN_MAX: usize = 64;
/// Longest config key, in bytes (brief.md: `varchar(255)`).
pub const KEY_LEN_MAX: usize = 255;
/// Longest account's or role's name, in bytes (brief.md: `varchar(64)`).
pub const ACCOUNT_LEN_MAX: usize = 64;
/// Longest secret's name, in bytes (brief.md: `varchar(128)`).
pub const SECRET_LEN_MAX: usize = 128;
/// Longest region or node name, in bytes: a DNS label, because it stands in certificates.
pub const LABEL_LEN_MAX: usize = 63;

/// Why a text is not a name of its kind. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text has no characters.
    #[error("{field} is empty")]
    Empty {
        /// What the text was meant to be, for example `key`.
        field: &'static str,
    },
    /// The text is longer than its kind allows.
    #[error("{field} has {len} bytes; at most {max} are allowed")]
    TooLong {
        /// What the text was meant to be.
        field: &'static str,
        /// How long it is, in bytes.
        len: usize,
        /// How long it may be, in bytes.
        max: usize,
    },
    /// The text has a character outside its kind's alphabet.
    #[error("{field} has the character {found:?} at byte {at}; allowed are {allowed}")]
    Character {
        /// What the text was meant to be.
        field: &'static str,
        /// The first character that is not allowed.
        found: char,
        /// Where it stands, in bytes.
        at: usize,
        /// The alphabet, in words.
        allowed: &'static str,
    },
    /// `.` and `..` are taken by URL path resolution and would never reach the server.
    #[error("{field} may not be `.` or `..`: clients resolve these in URLs")]
    Dots {
        /// What the text was meant to be.
        field: &'static str,
    },
}

impl NameError {
    /// What the text was meant to be: the field to name in an answer.
    pub fn field(&self) -> &'static str {
        match self {
            Self::Empty { field }
            | Self::TooLong { field, .. }
            | Self::Character { field, .. }
            | Self::Dots { field } => field,
        }
    }
}

const NAME_ALPHABET: &str = "letters, digits, `.`, `_`, `-` and `:`";
const LABEL_ALPHABET: &str = "lower-case letters, digits and `-`";

fn check_name(field: &'static str, max: usize, text: &str) -> Result<(), NameError> {
    check(field, max, NAME_ALPHABET, text, |c| {
        c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':')
    })?;
    if matches!(text, "." | "..") {
        return Err(NameError::Dots { field });
    }
    Ok(())
}

fn check_label(field: &'static str, max: usize, text: &str) -> Result<(), NameError> {
    check(field, max, LABEL_ALPHABET, text, |c| {
        c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
    })
}

fn check(
    field: &'static str,
    max: usize,
    allowed: &'static str,
    text: &str,
    allows: impl Fn(char) -> bool,
) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty { field });
    }
    if text.len() > max {
        return Err(NameError::TooLong { field, len: text.len(), max });
    }
    match text.char_indices().find(|(_, c)| !allows(*c)) {
        Some((at, found)) => Err(NameError::Character { field, found, at, allowed }),
        None => Ok(()),
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $field:literal, $max:expr, $check:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Checks `text` and takes it as a name of this kind.
            pub fn new(text: &str) -> Result<Self, NameError> {
                $check($field, $max, text)?;
                Ok(Self(text.into()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }

        impl<C> minicbor::Encode<C> for $type {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.str(&self.0)?.ok()
            }
        }

        impl<'b, C> minicbor::Decode<'b, C> for $type {
            fn decode(
                d: &mut minicbor::Decoder<'b>,
                _: &mut C,
            ) -> Result<Self, minicbor::decode::Error> {
                Self::new(d.str()?).map_err(minicbor::decode::Error::message)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

name!(
    /// Whose configuration it is, for example `web`.
    Service, "service", SERVICE_LEN_MAX, check_name
);
name!(
    /// Where that service runs, for example `prod`.
    Environment, "environment", SERVICE_LEN_MAX, check_name
);
name!(
    /// One configuration's name within a service and an environment.
    Key, "key", KEY_LEN_MAX, check_name
);
name!(
    /// Who may ask for a token of this cluster, for example `deployer`.
    AccountName, "name", ACCOUNT_LEN_MAX, check_name
);
name!(
    /// A role, for example `operator`.
    RoleName, "role", ACCOUNT_LEN_MAX, check_name
);
name!(
    /// A secret's name, for example `prod-db-password`.
    SecretName, "name", SECRET_LEN_MAX, check_name
);
name!(
    /// A region of the topology, for example `eu-west`.
    RegionName, "region", LABEL_LEN_MAX, check_label
);
name!(
    /// A node of the topology, for example `eu-west-1`; its certificate carries it.
    NodeName, "node", LABEL_LEN_MAX, check_label
);

/// The unit of replication: everything one service has in one environment.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocumentId {
    /// Whose configuration it is.
    pub service: Service,
    /// Where that service runs.
    pub environment: Environment,
}

impl DocumentId {
    /// Puts the two names together.
    pub fn new(service: Service, environment: Environment) -> Self {
        Self { service, environment }
    }

    /// Reads `service/environment`, as [`fmt::Display`] writes it.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let (service, environment) = text.split_once('/').unwrap_or((text, ""));
        Ok(Self::new(Service::new(service)?, Environment::new(environment)?))
    }
}

impl<C> minicbor::Encode<C> for DocumentId {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.str(&self.to_string())?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for DocumentId {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        Self::parse(d.str()?).map_err(minicbor::decode::Error::message)
    }
}

impl fmt::Display for DocumentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.service, self.environment)
    }
}

impl fmt::Debug for DocumentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_to_their_limits() {
        assert!(Key::new(&"k".repeat(255)).is_ok());
        assert_eq!(
            Key::new(&"k".repeat(256)),
            Err(NameError::TooLong { field: "key", len: 256, max: 255 })
        );
        assert_eq!(Service::new(""), Err(NameError::Empty { field: "service" }));
        assert_eq!(Environment::new(".."), Err(NameError::Dots { field: "environment" }));
        for bad in ["a/b", "a%b", "a b", "ä", "a\u{0}"] {
            assert!(matches!(Key::new(bad), Err(NameError::Character { .. })), "{bad:?}");
        }
        assert!(Key::new("server.port:http_1-A").is_ok());
        assert!(NodeName::new("eu-west-1").is_ok());
        assert!(NodeName::new("EU").is_err());
    }

    #[test]
    fn a_document_id_reads_back_as_written() {
        let id = DocumentId::parse("web/prod").unwrap();
        assert_eq!(DocumentId::parse(&id.to_string()), Ok(id));
        assert!(DocumentId::parse("web").is_err());
        assert!(DocumentId::parse("a/b/c").is_err());
    }
}

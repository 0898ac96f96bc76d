//! Why a call failed, and whether anything may have been written: after [`ClientError::Refused`]
//! nothing was, unless its name says
//! that it is not known; after the others it is not known.

use std::time::Duration;

use super::answer::Sibling;

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The settings cannot be used; nothing was sent.
    #[error("{0}")]
    Settings(String),
    /// The node could not be reached, or the connection broke before an answer.
    #[error("{url}: {message}")]
    Connection {
        /// Where the node should be.
        url: String,
        /// Whether there was a connection; if not, nothing was sent.
        connected: bool,
        /// Whether it is TLS that failed: the node is there, and one does not trust the other.
        tls: bool,
        /// What the system says.
        message: String,
    },
    /// There was no answer in time.
    #[error("{url}: no answer within {within:?}")]
    TimedOut {
        /// Where the node should be.
        url: String,
        /// The time it had.
        within: Duration,
    },
    /// The node answered with an error.
    #[error("{0}")]
    Refused(Refusal),
    /// The answer is not one that Holm gives.
    #[error("{0}")]
    Answer(String),
    /// DNS names no region, and named none before; nothing was sent.
    #[error("no region is known: DNS for {name}: {message}")]
    Discovery {
        /// The name that was asked for.
        name: String,
        /// What DNS said.
        message: String,
    },
    /// More than one place was tried, and none gave an answer.
    #[error("no region gave an answer: {}", listed(tried))]
    Everywhere {
        /// Each place that was tried, with its last error.
        tried: Vec<Tried>,
    },
}

/// A place that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Where: a URL, and what DNS named it by.
    pub place: String,
    /// What came of it.
    pub error: ClientError,
}

fn listed(tried: &[Tried]) -> String {
    let each = tried.iter().map(|Tried { place, error }| {
        let text = error.to_string();
        // Some errors say where already.
        if text.starts_with(place.as_str()) { text } else { format!("{place}: {text}") }
    });
    each.collect::<Vec<_>>().join("; ")
}

/// An error as the node tells it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}{} (HTTP {status})", if detail.is_empty() { String::new() } else { format!(": {detail}") })]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The error's name, for example `PreconditionFailed`.
    pub name: String,
    /// What is wrong, for people.
    pub detail: String,
    /// What an ambiguous version may mean, as `7@origin`.
    pub candidates: Vec<String>,
    /// What was written at the same time as the removal of a key that is not found.
    pub conflicts: Vec<Sibling>,
}

impl Refusal {
    pub(crate) fn of(status: u16, body: &[u8]) -> Self {
        #[derive(Default, serde::Deserialize)]
        #[serde(default)]
        struct Problem {
            error: String,
            detail: String,
            candidates: Vec<String>,
            conflicts: Vec<Sibling>,
        }
        let mut problem: Problem = serde_json::from_slice(body).unwrap_or_default();
        if problem.error.is_empty() {
            problem.error = "an answer without a name".to_owned();
        }
        let Problem { error: name, detail, candidates, conflicts } = problem;
        Self { status, name, detail, candidates, conflicts }
    }
}

impl Refusal {
    /// Whether the node says that it did nothing: for now, or by itself.
    pub(crate) fn did_nothing(&self) -> bool {
        let names = [
            "NotReady",
            "Overloaded",
            "PolicyTooOld",
            "QuorumUnavailable",
            "ShuttingDown",
            "TooManyWatches",
            "TooStale",
        ];
        names.contains(&self.name.as_str())
    }
}

impl ClientError {
    /// The node's own words, where it answered; the last one's, where more than one did.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Everywhere { tried } => tried.iter().rev().find_map(|it| it.error.refusal()),
            _ => None,
        }
    }

    /// Whether a node does not have what the session has seen.
    pub(crate) fn is_not_reached(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.name == "SessionNotReached")
    }

    /// Whether the node said that there is no such thing.
    pub fn is_not_found(&self) -> bool {
        self.refusal().is_some_and(|refusal| refusal.status == 404)
    }

    /// Whether the same request may succeed later without anybody changing it.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Settings(_) => false,
            Self::Connection { .. }
            | Self::TimedOut { .. }
            | Self::Answer(_)
            | Self::Discovery { .. }
            | Self::Everywhere { .. } => true,
            Self::Refused(refusal) => {
                refusal.status >= 500
                    || matches!(refusal.status, 408 | 425 | 429)
                    || refusal.name == "SessionNotReached"
            }
        }
    }
}

/// Whether an error of rustls is in a chain.
pub(crate) fn is_of_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    tls_error(error).is_some()
}

/// What an error of TLS means where its own words say it badly.
pub(crate) fn tls_words(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    use rustls::{AlertDescription, CertificateError, Error};
    match tls_error(error)? {
        Error::InvalidMessage(_) => Some("it does not speak TLS; is it an http:// address?"),
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            Some("it asks clients for a certificate, and none was shown")
        }
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => Some(
            "its certificate is signed by nobody who is trusted here: is it of another cluster?",
        ),
        _ => None,
    }
}

fn tls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // An I/O error passes over the error it wraps when it names its source.
        next = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

/// What the last error of a chain says: the layers above it only say that there was one.
pub(crate) fn innermost(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

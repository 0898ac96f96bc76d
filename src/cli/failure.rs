//! Why a command failed, as a person and as a script want to know it: a sentence, what to do, an
//! exit code.

use std::io;

use super::terminal::Terminal;
use crate::client::ClientError;
use crate::model::NameError;

/// Why a command failed.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
    hint: Option<String>,
}

const REFUSED: u8 = 1;
const USAGE: u8 = 2;
const NOT_FOUND: u8 = 3;
const CONDITION: u8 = 4;

impl Failure {
    /// Something did not work.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { code: REFUSED, message: message.into(), hint: None }
    }

    /// What was asked for, or a file that was named, makes no sense.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { code: USAGE, message: message.into(), hint: None }
    }

    /// Something with an exit code of its own.
    pub fn exit(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    /// There is no such thing.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self { code: NOT_FOUND, message: message.into(), hint: None }
    }

    /// The same, with what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same, with what it was about before the message.
    #[must_use]
    pub fn about(mut self, what: impl std::fmt::Display) -> Self {
        if !self.message.is_empty() {
            self.message = format!("{what}: {}", self.message);
        }
        self
    }

    /// The same with another exit code.
    #[must_use]
    pub(crate) fn with_code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// The exit code that stands for it.
    pub fn code(&self) -> u8 {
        self.code
    }

    /// Says it on stderr. A reader who has gone away needs no message.
    pub(crate) fn report(self, terminal: &mut Terminal<'_>) -> u8 {
        // Nobody is left to tell if stderr is gone too.
        let _ = terminal.out.flush();
        if !self.message.is_empty() {
            let _ = terminal.note(&self.message);
        }
        if let Some(hint) = &self.hint {
            let _ = terminal.note(hint);
        }
        self.code
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            // As `head` ends its writers: quietly.
            return Self { code: 0, message: String::new(), hint: None };
        }
        Self::failed(error.to_string())
    }
}

impl From<NameError> for Failure {
    fn from(error: NameError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let message = error.to_string();
        match &error {
            ClientError::Settings(_) => Self::usage(message),
            ClientError::Connection { tls: true, .. } => Self::failed(message)
                .hint("does --ca name the CA that signed the node's certificate, and does the node want --client-cert?"),
            ClientError::Connection { connected: false, .. } => Self::failed(message)
                .hint("is the node running? `holm dev` starts a cluster on this machine; --url names another node"),
            ClientError::TimedOut { .. } => {
                Self::failed(message)
                    .hint("what was to be written may be all the same; --timeout waits longer")
            }
            ClientError::Connection { .. } | ClientError::Answer(_) => Self::failed(message),
            ClientError::Discovery { .. } => Self::failed(message)
                .hint("`holm regions` says what DNS answers; --url names regions without it"),
            ClientError::Everywhere { tried } => match tried.last() {
                Some(last) => Self { message, ..Self::from(last.error.clone()) },
                None => Self::failed(message),
            },
            ClientError::Refused(refusal) => match refusal.status {
                413 => Self { code: USAGE, message, hint: None }
                    .hint("the node's settings limit this ([limits]); nothing of it was written"),
                400 | 405 | 406 | 414 | 415 | 422 => Self { code: USAGE, message, hint: None },
                401 => Self::failed(message)
                    .hint("give a token with --token-file FILE or HOLM_TOKEN; `holm dev` prints one"),
                403 => Self::failed(message).hint("the token does not allow this; ask for a wider scope"),
                404 => Self::not_found(message),
                410 => Self::not_found(message)
                    .hint("`holm history` shows what is there; `holm history policy show` what is kept"),
                409 | 412 | 428 => {
                    let hint = match refusal.name.as_str() {
                        "SessionNotReached" => {
                            "this region has not yet seen what you have; try again".to_owned()
                        }
                        "AmbiguousVersion" => {
                            format!("name one as VERSION@ORIGIN: {}", refusal.candidates.join(", "))
                        }
                        _ => "look with `holm get` or `holm history`, then decide again".to_owned(),
                    };
                    Self { code: CONDITION, message, hint: Some(hint) }
                }
                429 | 503 => Self::failed(message).hint("try again in a moment"),
                507 => Self::failed(message).hint("the node's disk is full; reads go on"),
                _ => Self::failed(message),
            },
        }
    }
}

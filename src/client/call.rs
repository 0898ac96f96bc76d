//! A request that can be sent again, and elsewhere: it is kept as what it asks for, and made into an
//! HTTP request each time it goes out. It knows neither where that is nor whether it will be sent at
//! all.

use bytes::Bytes;
use reqwest::{Method, RequestBuilder};
use serde::Serialize;

use super::ClientError;

/// What a request is like, for whoever decides how long to wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A node answers it from what it has: soon.
    Read,
    /// A quorum or other nodes are asked for it.
    Agreed,
    /// It takes as long as it takes.
    Slow,
    /// A watch begins.
    Watch,
    /// A node takes it alone.
    Write,
    /// A quorum, or other regions, have to have it.
    AgreedWrite,
}

/// Whether the same request may be sent twice.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Repeat {
    /// It changes nothing.
    Safe,
    /// Nodes recognise it by its `Idempotency-Key`.
    Recognised,
    /// Only where nothing was done.
    Once,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) struct Call {
    kind: Kind,
    repeat: Repeat,
    /// Whether it carries no token.
    is_open: bool,
    method: Method,
    path: String,
    query: Vec<(String, String)>,
    headers: Vec<(&'static str, String)>,
    body: Option<Bytes>,
    /// Why the body could not be written; told when it is to be sent.
    broken: Option<String>,
}

impl Call {
    /// Asks for a path, which begins with a slash.
    pub(super) fn new(method: Method, path: &str) -> Self {
        let is_read = method == Method::GET;
        Self {
            kind: kind_of(is_read, path),
            repeat: if is_read { Repeat::Safe } else { Repeat::Once },
            is_open: false,
            method,
            path: path.to_owned(),
            query: Vec::new(),
            headers: Vec::new(),
            body: None,
            broken: None,
        }
    }

    /// More parameters.
    pub(super) fn query<K: AsRef<str>, V: ToString>(mut self, pairs: &[(K, V)]) -> Self {
        let pairs = pairs.iter().map(|(name, value)| (name.as_ref().to_owned(), value.to_string()));
        self.query.extend(pairs);
        self
    }

    /// One more header.
    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Bytes to send. Who sends them again shares them.
    pub(super) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// JSON to send.
    pub(super) fn json<T: Serialize + ?Sized>(self, body: &T) -> Self {
        match serde_json::to_vec(body) {
            Ok(body) => self.header("content-type", "application/json").body(body),
            Err(e) => Self { broken: Some(e.to_string()), ..self },
        }
    }

    /// It begins a watch.
    pub(super) fn watch(self) -> Self {
        Self { kind: Kind::Watch, ..self }.header("accept", "text/event-stream")
    }

    /// It carries no token.
    pub(super) fn open(self) -> Self {
        Self { is_open: true, ..self }
    }

    /// It may be done twice, although it is no GET.
    pub(super) fn repeatable(self) -> Self {
        Self { repeat: Repeat::Safe, ..self }
    }

    /// Nodes recognise it as the same by this key.
    pub(super) fn recognised_by(self, key: String) -> Self {
        Self { repeat: Repeat::Recognised, ..self }.header("idempotency-key", key)
    }

    /// `Holm-Ack`: who must have it.
    pub(super) fn acknowledged_by(self, ack: &str) -> Self {
        Self { kind: Kind::AgreedWrite, ..self }.header("holm-ack", ack)
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Whether it may be sent again where it is not known what came of it.
    pub(super) fn is_repeatable(&self) -> bool {
        self.repeat != Repeat::Once
    }

    /// Whether it may be sent again after this error.
    pub(super) fn may_repeat(&self, error: &ClientError) -> bool {
        match error {
            ClientError::Connection { connected: false, .. } => true,
            ClientError::Connection { .. }
            | ClientError::TimedOut { .. }
            | ClientError::Answer(_) => self.is_repeatable(),
            ClientError::Refused(refusal) => match refusal.status {
                412 => error.is_not_reached(),
                429 | 507 => true,
                503 => refusal.did_nothing() || self.is_repeatable(),
                408 | 425 | 502 | 504 => self.is_repeatable(),
                _ => false,
            },
            ClientError::Settings(_)
            | ClientError::Discovery { .. }
            | ClientError::Everywhere { .. } => false,
        }
    }

    /// Whether it changes anything.
    pub(super) fn is_write(&self) -> bool {
        self.method != Method::GET
    }

    /// The HTTP request for the node at `url`.
    pub(super) fn to(
        &self,
        http: &reqwest::Client,
        url: &str,
    ) -> Result<RequestBuilder, ClientError> {
        if let Some(why) = &self.broken {
            return Err(ClientError::Settings(format!("the request cannot be written: {why}")));
        }
        let mut request = http.request(self.method.clone(), format!("{url}{}", self.path));
        if !self.query.is_empty() {
            request = request.query(&self.query);
        }
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        Ok(match &self.body {
            Some(body) => request.body(body.clone()),
            None => request,
        })
    }
}

/// What a path is like.
fn kind_of(is_read: bool, path: &str) -> Kind {
    let is_of_config = path.starts_with("/config") && !path.contains("/roles/");
    match is_read {
        _ if path.starts_with("/audit") || path == "/cluster/backup" => Kind::Slow,
        true if is_of_config || path == "/healthz" => Kind::Read,
        true => Kind::Agreed,
        false if is_of_config => Kind::Write,
        false => Kind::AgreedWrite,
    }
}

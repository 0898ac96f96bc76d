//! A request that can be sent again, and elsewhere: it is kept as what it asks for, and made into an
//! HTTP request each time it goes out. It knows neither where that is nor whether it will be sent at
//! all.

use bytes::Bytes;
use reqwest::{Method, RequestBuilder};
use serde::Serialize;

use super::ClientError;

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) struct Call {
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
        Self {
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

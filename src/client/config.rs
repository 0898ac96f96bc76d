//! Calls about configurations: what documents there are, their keys and histories, and writes.

use reqwest::{Method, StatusCode};
use serde_json::json;

use super::{
    Client, ClientError, DocumentInfo, Item, Removed, Version, Write, Written, decode, path_of,
};
use crate::model::{DocumentId, Environment, JsonText, Key, Service};

impl Client {
    /// Every service and environment that has keys.
    pub async fn documents(&self) -> Result<Vec<DocumentInfo>, ClientError> {
        self.pages("/config", &[]).await
    }

    /// All keys of a document that begin with `prefix`.
    pub async fn list(
        &self,
        document: &DocumentId,
        prefix: Option<&str>,
    ) -> Result<Vec<Item>, ClientError> {
        let query: Vec<_> = prefix.map(|prefix| ("prefix", prefix)).into_iter().collect();
        self.pages(&path_of(document), &query).await
    }

    /// One key.
    pub async fn get(&self, document: &DocumentId, key: &Key) -> Result<Item, ClientError> {
        let path = format!("{}/{key}", path_of(document));
        self.json(self.request(Method::GET, &path)).await
    }

    /// The history of a key, newest first.
    pub async fn versions(
        &self,
        document: &DocumentId,
        key: &Key,
    ) -> Result<Vec<Version>, ClientError> {
        self.pages(&format!("{}/{key}/versions", path_of(document)), &[]).await
    }

    /// One entry of a key's history, by `7` or `7@origin`.
    pub async fn version(
        &self,
        document: &DocumentId,
        key: &Key,
        version: &str,
    ) -> Result<Version, ClientError> {
        let path = format!("{}/{key}/versions/{version}", path_of(document));
        self.json(self.request(Method::GET, &path)).await
    }

    /// Writes some keys of a document, all or none.
    pub async fn write(
        &self,
        document: &DocumentId,
        writes: &[Write],
        message: Option<&str>,
    ) -> Result<Written, ClientError> {
        let mut body = json!({});
        if let Some(message) = message {
            body["message"] = message.into();
        }
        // Not through a `Value`, which would take digits away from numbers.
        let entries = serde_json::to_string(writes)
            .map_err(|e| ClientError::Answer(format!("the request cannot be written: {e}")))?;
        let rest = body.to_string();
        let comma = if rest == "{}" { "" } else { "," };
        let body = format!("{{\"entries\":{entries}{comma}{}", &rest[1..]);
        let request = self
            .write_request(Method::POST, &path_of(document))
            .header("content-type", "application/json")
            .body(body);
        let (status, bytes) = self.send(request).await?;
        let mut written: Written = decode(&bytes)?;
        written.acknowledged = status != StatusCode::ACCEPTED;
        Ok(written)
    }

    /// Removes a key.
    pub async fn remove(&self, document: &DocumentId, key: &Key) -> Result<Removed, ClientError> {
        let path = format!("{}/{key}", path_of(document));
        self.json(self.write_request(Method::DELETE, &path)).await
    }

    /// Removes every key of a document that the node sees, in one change. Says how many.
    pub async fn remove_all(&self, document: &DocumentId) -> Result<u64, ClientError> {
        #[derive(serde::Deserialize)]
        struct Count {
            removed: u64,
        }
        let count: Count =
            self.json(self.write_request(Method::DELETE, &path_of(document))).await?;
        Ok(count.removed)
    }

    /// Writes an entry of a key's history again, as its newest.
    pub async fn restore(
        &self,
        document: &DocumentId,
        key: &Key,
        version: &str,
        message: Option<&str>,
    ) -> Result<Item, ClientError> {
        let version =
            version.parse::<u64>().map_or_else(|_| json!(version), |number| json!(number));
        let mut body = json!({ "version": version });
        if let Some(message) = message {
            body["message"] = message.into();
        }
        let path = format!("{}/{key}/restore", path_of(document));
        self.json(self.write_request(Method::POST, &path).json(&body)).await
    }
}

impl DocumentInfo {
    /// Which document this is about.
    pub fn id(&self) -> DocumentId {
        let (service, environment): (&Service, &Environment) = (&self.service, &self.environment);
        DocumentId::new(service.clone(), environment.clone())
    }
}

impl Write {
    /// A write of a key, whatever its version is.
    pub fn new(key: Key, value: JsonText) -> Self {
        Self { key, value, expect_version: None }
    }
}

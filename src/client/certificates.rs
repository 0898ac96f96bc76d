//! What nodes say of their certificates.

use reqwest::Method;
use serde::Deserialize;

use super::{Client, ClientError};

/// What one node shows to others and to clients, and whom it believes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ShownCertificates {
    /// The node.
    pub node: String,
    /// What it shows to other nodes.
    #[serde(default)]
    pub certificate: Option<ShownCertificate>,
    /// The authorities it believes.
    #[serde(default)]
    pub authorities: Vec<ShownAuthority>,
    /// What it shows to clients; none where HTTP has no TLS.
    #[serde(default)]
    pub http: Option<ShownCertificate>,
    /// Why it said nothing.
    #[serde(default)]
    pub unknown: Option<String>,
}

/// A certificate, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ShownCertificate {
    /// SHA-256 of the certificate, in hexadecimal.
    pub fingerprint: String,
    /// From when on it is valid (RFC 3339).
    pub not_before: String,
    /// Until when it is valid (RFC 3339).
    pub not_after: String,
    /// The fingerprint of the cluster's authority that signed it; none for anybody else.
    pub authority: Option<String>,
}

/// An authority.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ShownAuthority {
    /// SHA-256 of its certificate, in hexadecimal.
    pub fingerprint: String,
    /// Until when it is valid (RFC 3339).
    pub not_after: String,
}

impl Client {
    /// Which certificates every node shows, and which authorities it believes, as the nodes say.
    pub async fn certificates(&self) -> Result<Vec<ShownCertificates>, ClientError> {
        #[derive(serde::Deserialize)]
        struct Answer {
            nodes: Vec<ShownCertificates>,
        }
        let answer: Answer = self.json(self.request(Method::GET, "/cluster/certificates")).await?;
        Ok(answer.nodes)
    }

    /// The same as the node tells it.
    pub async fn certificates_json(&self) -> Result<serde_json::Value, ClientError> {
        self.json(self.request(Method::GET, "/cluster/certificates")).await
    }
}

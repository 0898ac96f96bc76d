//! TLS on the HTTP address, and how certificate files are looked after.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::{SettingsError, duration, refuse};

/// TLS on the HTTP address, and how certificate files are looked after.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsSettings {
    /// The certificate that clients see, and what links it to an authority, in PEM. Default: none,
    /// and HTTP is plain.
    pub certificate_file: Option<PathBuf>,
    /// Its key, in PEM; nobody but its owner and group may read it.
    pub key_file: Option<PathBuf>,
    /// The authorities whose certificates clients may show, in PEM. Default: none, and clients are
    /// not asked for one.
    pub client_ca_file: Option<PathBuf>,
    /// Whether a client has to show one. Default: `required`, once `client_ca_file` is set.
    pub client_certificates: ClientCertificates,
    /// The oldest TLS that is spoken with clients: `1.2` or `1.3`. Default: `1.2`.
    pub min_version: MinVersion,
    /// How long a client may take for its handshake. Default: 10s.
    #[serde(with = "duration")]
    pub handshake_timeout: Duration,
    /// Most handshakes with clients under way; further ones are closed at once. Default: 512.
    pub handshakes_max: usize,
    /// How often certificate files are looked at, the node's own (`--pki`) too: changed ones are
    /// taken without a restart. Default: 5s.
    #[serde(with = "duration")]
    pub reload_every: Duration,
}

/// Whether clients have to show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificates {
    /// Without one there is no connection.
    Required,
    /// One that is shown has to be good.
    Optional,
}

/// The oldest TLS that is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum MinVersion {
    /// RFC 5246.
    #[serde(rename = "1.2")]
    Tls12,
    /// RFC 8446.
    #[serde(rename = "1.3")]
    Tls13,
}

impl Default for TlsSettings {
    fn default() -> Self {
        Self {
            certificate_file: None,
            key_file: None,
            client_ca_file: None,
            client_certificates: ClientCertificates::Required,
            min_version: MinVersion::Tls12,
            handshake_timeout: Duration::from_secs(10),
            handshakes_max: 512,
            reload_every: Duration::from_secs(5),
        }
    }
}

impl TlsSettings {
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        let missing = "is missing: the certificate and its key come together";
        refuse(
            self.certificate_file.is_none() && self.key_file.is_some(),
            "tls.certificate_file",
            missing,
        )?;
        refuse(
            self.certificate_file.is_some() && self.key_file.is_none(),
            "tls.key_file",
            missing,
        )?;
        refuse(
            self.client_ca_file.is_some() && self.certificate_file.is_none(),
            "tls.client_ca_file",
            "has no use without tls.certificate_file",
        )?;
        refuse(
            self.client_certificates == ClientCertificates::Optional
                && self.client_ca_file.is_none(),
            "tls.client_certificates",
            "has no use without tls.client_ca_file",
        )?;
        refuse(self.handshake_timeout.is_zero(), "tls.handshake_timeout", "may not be 0")?;
        refuse(self.handshakes_max == 0, "tls.handshakes_max", "0 would refuse everything")?;
        refuse(
            self.reload_every < Duration::from_millis(100),
            "tls.reload_every",
            "is below 100ms, which would do little else",
        )
    }
}

//! Where spans of requests are sent, if anywhere.

use std::path::PathBuf;

use serde::Deserialize;

use super::{SettingsError, refuse};

/// Where spans of requests are sent. Without a URL nothing is.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TraceSettings {
    /// An OpenTelemetry collector that takes OTLP's JSON over HTTP:
    /// `http://127.0.0.1:4318/v1/traces`. Default: none.
    pub otlp_url: Option<String>,
    /// The certificates that `otlp_url` trusts, in PEM; https needs them.
    pub otlp_ca_file: Option<PathBuf>,
    /// The same, as text.
    pub otlp_ca: Option<String>,
    /// Which share of the traces that begin here is sent, from 0 to 1; those that callers keep
    /// always are. Default: 1.
    pub sample: f64,
}

impl Default for TraceSettings {
    fn default() -> Self {
        Self { otlp_url: None, otlp_ca_file: None, otlp_ca: None, sample: 1.0 }
    }
}

impl TraceSettings {
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        let url = self.otlp_url.as_deref().unwrap_or("http:");
        let is_http = url.starts_with("http:") || url.starts_with("https:");
        refuse(!is_http, "traces.otlp_url", "is not a URL of http or https")?;
        let has_ca = self.otlp_ca.is_some() || self.otlp_ca_file.is_some();
        let needs_ca = url.starts_with("https:") && !has_ca;
        refuse(needs_ca, "traces.otlp_url", "needs otlp_ca_file: what https trusts")?;
        refuse(!(0.0..=1.0).contains(&self.sample), "traces.sample", "is not from 0 to 1")
    }
}

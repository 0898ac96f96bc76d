//! One place where Holm may answer: its URL, how it is reached, and whether it is ready. Knows nothing
//! of other places.

use std::time::Duration;

use reqwest::StatusCode;

use super::PlaceId;
use crate::client::attempt::connection_error;
use crate::client::discover::Found;
use crate::client::{ClientError, ClientSettings, Refusal};
use crate::env::roots::{self, Trust};

/// Longest body of an answer to a measurement.
const READY_LEN_MAX: usize = 4_096;
/// Most URLs of a list.
const URLS_MAX: usize = 64;

/// One place where Holm may answer.
#[derive(Debug)]
pub(in crate::client) struct Place {
    pub(in crate::client) id: PlaceId,
    pub(in crate::client) url: String,
    /// As it is shown: the URL, and what DNS named it by.
    pub(in crate::client) name: String,
    pub(super) found: Option<Found>,
    pub(in crate::client) http: reqwest::Client,
}

/// How connections are made.
#[derive(Clone)]
pub(super) struct Connect {
    tls: rustls::ClientConfig,
    within: Duration,
}

impl Connect {
    pub(super) fn new(settings: &ClientSettings, has_https: bool) -> Result<Self, ClientError> {
        let trust = match (has_https, settings.ca_pem.as_deref()) {
            (true, None) => Trust::System,
            (_, pem) => Trust::of(pem),
        };
        let shown = settings.certificate.as_ref();
        let shown = shown.map(|it| (it.chain_pem.as_slice(), it.key_pem.as_slice()));
        let tls = roots::config(trust, shown).map_err(ClientError::Settings)?;
        Ok(Self { tls, within: settings.timeout.min(Duration::from_secs(5)) })
    }

    /// A client; where places have one name, of one of them.
    pub(super) fn client(
        &self,
        host: Option<(&str, &Found)>,
    ) -> Result<reqwest::Client, ClientError> {
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .connect_timeout(self.within)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("holm/", env!("CARGO_PKG_VERSION")));
        if let Some((host, found)) = host {
            builder = builder.resolve_to_addrs(host, &found.addresses);
        }
        builder.build().map_err(|e| ClientError::Settings(e.to_string()))
    }
}

impl std::fmt::Debug for Connect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connect")
    }
}

/// The URLs, each once and without a slash at its end.
pub(super) fn checked(urls: &[String]) -> Result<Vec<String>, ClientError> {
    let unusable = |message: String| Err(ClientError::Settings(message));
    let mut checked: Vec<String> = Vec::new();
    for text in urls {
        let url = match reqwest::Url::parse(text) {
            Ok(url) => url,
            Err(e) => return unusable(format!("`{text}` is not a URL: {e}")),
        };
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return unusable(format!("`{text}` does not begin with http:// or https://"));
        }
        let text = text.trim_end_matches('/').to_owned();
        if !checked.contains(&text) {
            checked.push(text);
        }
    }
    match checked.len() {
        0 => unusable("there is no URL to ask".to_owned()),
        n if n > URLS_MAX => unusable(format!("{n} URLs are too many: at most {URLS_MAX}")),
        _ => Ok(checked),
    }
}

/// Asks whether a node is ready.
pub(super) async fn ready_at(place: &Place) -> Result<(), ClientError> {
    let sent = place.http.get(format!("{}/readyz", place.url)).send().await;
    let mut response = sent.map_err(|e| connection_error(&place.name, &e))?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| connection_error(&place.name, &e))? {
        body.extend_from_slice(&chunk);
        if body.len() > READY_LEN_MAX {
            break;
        }
    }
    let name = &place.name;
    if status == StatusCode::OK {
        let says: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
        return match says.is_some_and(|it| it["status"] == "ready") {
            true => Ok(()),
            false => Err(ClientError::Answer(format!("{name}: what answers there is not Holm"))),
        };
    }
    let refusal = Refusal::of(status.as_u16(), &body);
    Err(ClientError::Answer(format!("{name}: {refusal}")))
}

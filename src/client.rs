//! A client for Holm's HTTP interface: typed calls, typed errors, and a session that is carried from
//! answer to request, so that a caller reads its own writes in whichever region it asks next.
//!
//! It tries nothing again by itself, save a watch, which reconnects. It reads no clock, and draws no
//! randomness that its caller did not seed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Method, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::json;
use zeroize::Zeroizing;

use crate::env::roots::{self, Trust};
use crate::model::{DocumentId, Environment, JsonText, Key, Service, Session};

mod access;
mod answer;
mod backup;
mod call;
mod certificates;
mod credential;
mod error;
mod history;
mod quorum;
mod secrets;
mod sse;
mod token;
mod watch;

use call::Call;
use credential::{Held, Issued};

#[cfg(test)]
pub(crate) mod stub;
#[cfg(test)]
mod tests;

pub use access::{Account, Credential, Explanation, Role};
pub use answer::{
    AuditPage, AuditReports, DocumentInfo, Item, LinkChange, Receipt, Removed, Sibling, Version,
    Write, Written,
};
pub use backup::BackupStream;
pub use certificates::{ShownAuthority, ShownCertificate, ShownCertificates};
pub use credential::ClientCredential;
pub use error::{ClientError, Refusal};
pub use history::{HistoryPolicies, HistoryPolicyOf};
pub use quorum::{QuorumMember, QuorumMembers};
pub use secrets::{DamagedKey, MasterKey, MasterKeys, RotationStep, SecretInfo, SecretVersion};
pub use token::Token;
pub use watch::{Watch, WatchEvent, WatchSettings};

/// Longest answer that is taken, in bytes.
const ANSWER_LEN_MAX: usize = 256 * 1024 * 1024;
/// Most pages of one listing that are followed.
const PAGES_MAX: usize = 100_000;
const PAGE_SIZE: &str = "1000";

/// How a client is set up.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// Where the node is, for example `http://127.0.0.1:8101`.
    pub url: String,
    /// The bearer token that every request carries.
    pub token: Option<Token>,
    /// Without a token: what tokens are asked for with, again before each expires.
    pub credential: Option<ClientCredential>,
    /// How long one request may take in all. A watch has this long to begin.
    pub timeout: Duration,
    /// `Holm-Ack`: who must have a write before it is answered, for example `majority`.
    pub ack: Option<String>,
    /// Certificates that https trusts, in PEM, and no others. Without them it trusts whom the
    /// operating system does.
    pub ca_pem: Option<Vec<u8>>,
    /// What is shown to nodes that ask clients for a certificate.
    pub certificate: Option<ClientCertificate>,
}

/// A client's certificate and its key, in PEM.
#[derive(Clone)]
pub struct ClientCertificate {
    /// The certificate, and what links it to an authority.
    pub chain_pem: Vec<u8>,
    /// Its key; never printed.
    pub key_pem: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientCertificate")
    }
}

impl ClientSettings {
    /// The defaults for a URL.
    pub fn new(url: &str, token: Option<&str>) -> Self {
        Self {
            url: url.to_owned(),
            token: token.map(Token::from),
            credential: None,
            timeout: Duration::from_secs(30),
            ack: None,
            ca_pem: None,
            certificate: None,
        }
    }
}

/// A caller of one node (or of a balancer before some). Clones share the session.
///
/// Methods come in families: reading (`documents`, `list`, `get`, `versions`, `version`, `cluster`),
/// writing (`write`, `remove`, `remove_all`, `restore`), secrets and master keys, following (`watch`), the session, and `links`
/// of a development cluster.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    settings: Arc<ClientSettings>,
    session: Arc<Mutex<Option<String>>>,
    held: Arc<Held>,
}

impl Client {
    /// A client with the default settings.
    pub fn new(url: &str, token: Option<&str>) -> Result<Self, ClientError> {
        Self::with(ClientSettings::new(url, token))
    }

    /// A client with these settings.
    pub fn with(mut settings: ClientSettings) -> Result<Self, ClientError> {
        let unusable = |message: String| ClientError::Settings(message);
        let url = reqwest::Url::parse(&settings.url)
            .map_err(|e| unusable(format!("`{}` is not a URL: {e}", settings.url)))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            let message = format!("`{}` does not begin with http:// or https://", settings.url);
            return Err(unusable(message));
        }
        let secret = settings.credential.as_ref().map(|credential| &credential.secret);
        for token in settings.token.iter().chain(secret) {
            token.check().map_err(|e| unusable(e.to_owned()))?;
        }
        settings.url.truncate(settings.url.trim_end_matches('/').len());
        let trust = match (url.scheme(), settings.ca_pem.as_deref()) {
            ("https", None) => Trust::System,
            (_, pem) => Trust::of(pem),
        };
        let shown = settings.certificate.as_ref();
        let shown = shown.map(|it| (it.chain_pem.as_slice(), it.key_pem.as_slice()));
        let tls = roots::config(trust, shown).map_err(unusable)?;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .connect_timeout(settings.timeout.min(Duration::from_secs(5)))
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("holm/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| unusable(e.to_string()))?;
        Ok(Self {
            http,
            settings: Arc::new(settings),
            session: Arc::default(),
            held: Arc::default(),
        })
    }

    /// The same caller at another node, as a node named it; none where that is no URL, or where what
    /// goes over TLS now would not there.
    fn at(&self, url: &str) -> Option<Self> {
        let parsed = reqwest::Url::parse(url).ok().filter(reqwest::Url::has_host)?;
        let is_plain_now = self.settings.url.starts_with("http://");
        let fits = parsed.scheme() == "https" || (parsed.scheme() == "http" && is_plain_now);
        let url = url.trim_end_matches('/').to_owned();
        let settings = Arc::new(ClientSettings { url, ..(*self.settings).clone() });
        fits.then(|| Self { settings, ..self.clone() })
    }

    /// The session after the last answer, for another client to go on from.
    pub fn session(&self) -> Option<String> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes a session in: answers from here on include what it has seen.
    pub fn include_session(&self, text: &str) {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        *session = Some(merge_sessions(session.as_deref(), text));
    }

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

    /// Regions, members and how far behind each is, as the node tells it.
    pub async fn cluster(&self) -> Result<serde_json::Value, ClientError> {
        self.json(self.request(Method::GET, "/cluster")).await
    }

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

    /// A page of the audit log: `query` has the filters; without a cursor, the newest records.
    pub async fn audit(
        &self,
        query: &[(&str, &str)],
        size: &str,
        cursor: Option<&str>,
    ) -> Result<AuditPage, ClientError> {
        let request = self.request(Method::GET, "/audit").query(query).query(&[("size", size)]);
        self.json(match cursor {
            Some(cursor) => request.query(&[("cursor", cursor)]),
            None => request,
        })
        .await
    }

    /// Has the node check its audit chains.
    pub async fn audit_verify(&self) -> Result<AuditReports, ClientError> {
        self.json(self.request(Method::GET, "/audit/verify")).await
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
            .request(Method::POST, &path_of(document))
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
        self.json(self.request(Method::DELETE, &path)).await
    }

    /// Removes every key of a document that the node sees, in one change. Says how many.
    pub async fn remove_all(&self, document: &DocumentId) -> Result<u64, ClientError> {
        #[derive(serde::Deserialize)]
        struct Count {
            removed: u64,
        }
        let count: Count = self.json(self.request(Method::DELETE, &path_of(document))).await?;
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
        self.json(self.request(Method::POST, &path).json(&body)).await
    }

    /// Follows a document: its state, then its changes, over as many connections as it takes.
    pub fn watch(&self, document: &DocumentId, settings: WatchSettings) -> Watch {
        Watch::new(self.clone(), document.clone(), settings)
    }

    /// A token for the settings' credential, narrowed to `scope` where one is given.
    pub async fn log_in(&self, scope: Option<&str>) -> Result<Token, ClientError> {
        let Some(credential) = &self.settings.credential else {
            let message = "there is no client id and client secret to log in with";
            return Err(ClientError::Settings(message.to_owned()));
        };
        let fresh = Held::default();
        fresh.get(self.ask_for_token(credential, scope)).await
    }

    async fn ask_for_token(
        &self,
        credential: &ClientCredential,
        scope: Option<&str>,
    ) -> Result<Issued, ClientError> {
        let call = Call::new(Method::POST, "/oauth/token")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(credential.form(scope));
        let response = self.send_once(&call, None).await?;
        decode(&body(response).await?)
    }

    /// Cuts, slows or heals links of a development cluster.
    pub async fn links(&self, change: &LinkChange) -> Result<(), ClientError> {
        let request = self.request(Method::POST, "/dev/links").json(change);
        self.send(request).await.map(drop)
    }

    fn request(&self, method: Method, path: &str) -> Call {
        let call = Call::new(method, path);
        match &self.settings.ack {
            Some(ack) if call.is_write() => call.header("holm-ack", ack),
            _ => call,
        }
    }

    async fn pages<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Vec<T>, ClientError> {
        #[derive(serde::Deserialize)]
        struct Page<T> {
            items: Vec<T>,
            next_cursor: Option<String>,
        }
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let request =
                self.request(Method::GET, path).query(query).query(&[("size", PAGE_SIZE)]);
            let request = match &cursor {
                Some(cursor) => request.query(&[("cursor", cursor)]),
                None => request,
            };
            let page: Page<T> = self.json(request).await?;
            items.extend(page.items);
            match page.next_cursor {
                None => return Ok(items),
                again if again == cursor => break,
                next => cursor = next,
            }
        }
        Err(ClientError::Answer("the pages of the listing do not end".to_owned()))
    }

    async fn json<T: DeserializeOwned>(&self, request: Call) -> Result<T, ClientError> {
        decode(&self.send(request).await?.1)
    }

    async fn send(&self, request: Call) -> Result<(StatusCode, Vec<u8>), ClientError> {
        let within = self.settings.timeout;
        let answer = async {
            let response = self.begin(request).await?;
            let status = response.status();
            Ok((status, body(response).await?))
        };
        match tokio::time::timeout(within, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(ClientError::TimedOut { url: self.settings.url.clone(), within }),
        }
    }

    /// Sends a request and takes the answer's session in; its body is still to be read.
    async fn begin(&self, call: Call) -> Result<Response, ClientError> {
        if let Some(token) = &self.settings.token {
            return self.send_once(&call, Some(token)).await;
        }
        let Some(credential) = &self.settings.credential else {
            return self.send_once(&call, None).await;
        };
        let token = self.held.get(self.ask_for_token(credential, None)).await?;
        let sent = self.send_once(&call, Some(&token)).await;
        if let Err(ClientError::Refused(refusal)) = &sent
            && refusal.status == 401
        {
            // The next request asks for another one.
            self.held.forget().await;
        }
        sent
    }

    async fn send_once(&self, call: &Call, token: Option<&Token>) -> Result<Response, ClientError> {
        let mut request = call.to(&self.http, &self.settings.url)?;
        if let Some(token) = token {
            request = request.bearer_auth(token.expose());
        }
        if let Some(session) = self.session() {
            request = request.header("holm-session", session);
        }
        let sent = request.send().await;
        let response = sent.map_err(|e| ClientError::Connection {
            url: self.settings.url.clone(),
            connected: !e.is_connect(),
            tls: error::is_of_tls(&e),
            message: error::tls_words(&e).map_or_else(|| error::innermost(&e), str::to_owned),
        })?;
        if let Some(session) = response.headers().get("holm-session")
            && let Ok(session) = session.to_str()
        {
            self.include_session(session);
        }
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let bytes = body(response).await?;
        Err(ClientError::Refused(Refusal::of(status.as_u16(), &bytes)))
    }
}

fn path_of(document: &DocumentId) -> String {
    // The alphabet of names needs no escapes in a path.
    format!("/config/{document}")
}

/// What has been seen by either of two sessions.
fn merge_sessions(known: Option<&str>, new: &str) -> String {
    let known = known.and_then(|known| Session::decode(known).ok());
    match (known, Session::decode(new)) {
        (Some(mut known), Ok(new)) => {
            known.config.merge(&new.config);
            known.quorum = known.quorum.max(new.quorum);
            known.encode()
        }
        // A later program's session is opaque here: the newest one is the best there is.
        _ => new.to_owned(),
    }
}

async fn body(mut response: Response) -> Result<Vec<u8>, ClientError> {
    let mut bytes = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if bytes.len() + chunk.len() > ANSWER_LEN_MAX => {
                let message = format!("the answer is longer than {ANSWER_LEN_MAX} bytes");
                return Err(ClientError::Answer(message));
            }
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) => return Ok(bytes),
            Err(e) => {
                let message = format!("the answer broke off: {}", error::innermost(&e));
                return Err(ClientError::Answer(message));
            }
        }
    }
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(bytes)
        .map_err(|e| ClientError::Answer(format!("the answer is not what Holm says: {e}")))
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

//! A client for Holm's HTTP interface: typed calls, typed errors, and a session that is carried from
//! answer to request, so that a caller reads its own writes in whichever region it asks next.
//!
//! A client of one URL asks that one, once. A client of several regions, from a list or from DNS
//! ([`ClientSettings::regions`], [`ClientSettings::discover`]), keeps to the nearest healthy one, asks
//! others within the same deadline where that does not answer, and comes back when it has been well
//! for a while. A watch follows, and goes on where it was.
//!
//! What may be tried again: reads, and writes that nodes recognise by the `Idempotency-Key` that the
//! client makes for each (configurations and secrets). A region that does not have the first attempt
//! of a write yet cannot recognise the second: both are then there, written at the same time with the
//! same value, as after any two concurrent writes. Other writes, of accounts and roles, are sent again
//! only where nothing can have been done. A budget of attempts keeps clients from making an outage
//! worse.
//!
//! With https, a URL's host has to be in the certificate of the node there; of regions found by DNS,
//! the name that was asked for.
//!
//! ```no_run
//! use holm::client::{Client, ClientSettings};
//! use holm::model::{DocumentId, Key};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let regions = ["https://eu.holm.example.com", "https://us.holm.example.com"];
//! let client = Client::with(ClientSettings::regions(regions, Some("a token")))?;
//! let item = client.get(&DocumentId::parse("web/prod")?, &Key::new("limit")?).await?;
//! println!("{} = {}", item.key, item.value.as_str());
//! for region in client.regions() {
//!     println!("{} {:?} {}", region.url, region.rtt, region.why);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! It reads no clock but tokio's, and draws no randomness but from [`ClientSettings::entropy`]. The
//! folder `examples/` has programs that run.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use reqwest::{Method, Response, StatusCode};
use serde::de::DeserializeOwned;

use crate::model::vector::VECTOR_ORIGINS_MAX;
use crate::model::{DocumentId, Session};

mod access;
mod answer;
mod attempt;
mod backup;
mod budget;
mod call;
mod certificates;
mod config;
mod contact;
pub mod copy;
mod credential;
mod discover;
mod error;
mod history;
pub mod map;
mod quorum;
mod regions;
mod secrets;
mod settings;
mod sse;
mod token;
mod watch;

use attempt::{Span, Want};
use call::Call;
use credential::{Held, Issued};
use regions::{Place, Regions};

#[cfg(test)]
pub(crate) mod gate;
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
pub use contact::Contact;
pub use copy::{CopyError, CopySettings, LocalCopy};
pub use credential::ClientCredential;
pub use error::{ClientError, Refusal, Tried};
pub use history::{HistoryPolicies, HistoryPolicyOf};
pub use map::{MapBuilder, MapError, Reading, WatchMap};
pub use quorum::{QuorumMember, QuorumMembers};
pub use regions::RegionStatus;
pub use secrets::{DamagedKey, MasterKey, MasterKeys, RotationStep, SecretInfo, SecretVersion};
pub use settings::{ClientCertificate, ClientSettings, Discover, Places};
pub use token::Token;
pub use watch::{Watch, WatchEvent, WatchSettings};

/// Longest answer that is taken, in bytes.
const ANSWER_LEN_MAX: usize = 256 * 1024 * 1024;
/// Most pages of one listing that are followed.
const PAGES_MAX: usize = 100_000;
const PAGE_SIZE: &str = "1000";

/// A caller of one node, of a balancer before some, or of several regions. Clones share the session and
/// what is known of the regions.
///
/// Methods come in families: reading (`documents`, `list`, `get`, `versions`, `version`, `cluster`),
/// writing (`write`, `remove`, `remove_all`, `restore`), secrets and master keys, following (`watch`), the session, the
/// regions (`regions`, `measure`, `only`), and `links`
/// of a development cluster.
#[derive(Clone, Debug)]
pub struct Client {
    settings: Arc<ClientSettings>,
    regions: Arc<Regions>,
    session: Arc<Mutex<Option<String>>>,
    held: Arc<Held>,
}

impl Client {
    /// A client of one URL, with the default settings.
    pub fn new(url: &str, token: Option<&str>) -> Result<Self, ClientError> {
        Self::with(ClientSettings::new(url, token))
    }

    /// A client with these settings. Nothing is looked up or asked before the first request.
    pub fn with(settings: ClientSettings) -> Result<Self, ClientError> {
        let secret = settings.credential.as_ref().map(|credential| &credential.secret);
        for token in settings.token.iter().chain(secret) {
            token.check().map_err(|e| ClientError::Settings(e.to_owned()))?;
        }
        let regions = Arc::new(Regions::new(&settings)?);
        let settings = Arc::new(settings);
        Ok(Self { settings, regions, session: Arc::default(), held: Arc::default() })
    }

    /// The same caller at one other node, as a node named it; none where that is no URL, or where
    /// what goes over TLS now would not there.
    fn at(&self, url: &str) -> Option<Self> {
        let parsed = reqwest::Url::parse(url).ok().filter(reqwest::Url::has_host)?;
        let is_plain = parsed.scheme() == "http" && self.regions.are_plain();
        if parsed.scheme() != "https" && !is_plain {
            return None;
        }
        let regions = self.regions.only(url.trim_end_matches('/'), &self.settings).ok()?;
        Some(Self { regions: Arc::new(regions), ..self.clone() })
    }

    /// The regions as they stand, in the order in which they would be asked. Asks nobody.
    pub fn regions(&self) -> Vec<RegionStatus> {
        self.regions.told()
    }

    /// The same, after each was looked up and measured.
    pub async fn measure(&self) -> Result<Vec<RegionStatus>, ClientError> {
        self.regions.measure_all().await?;
        Ok(self.regions.told())
    }

    /// Why DNS named no regions when it was asked last; those that it named before are used then.
    pub fn lookup_error(&self) -> Option<ClientError> {
        self.regions.lookup_error()
    }

    /// The same client, which asks one of the regions and no other.
    /// None where it is a region no more.
    pub fn only(&self, region: &RegionStatus) -> Option<Self> {
        Some(self.at_place(self.regions.told_as(region)?))
    }

    fn at_place(&self, place: Arc<Place>) -> Self {
        Self { regions: Arc::new(self.regions.alone(place, &self.settings)), ..self.clone() }
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

    /// Regions, members and how far behind each is, as the node tells it.
    pub async fn cluster(&self) -> Result<serde_json::Value, ClientError> {
        self.json(self.request(Method::GET, "/cluster")).await
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
        let span = Span::new(self.settings.timeout);
        fresh.get(self.ask_for_token(credential, scope, span)).await
    }

    /// Boxed: it is a request that a request may begin with.
    fn ask_for_token<'a>(
        &'a self,
        credential: &'a ClientCredential,
        scope: Option<&'a str>,
        span: Span,
    ) -> BoxFuture<'a, Result<Issued, ClientError>> {
        let call = Call::new(Method::POST, "/oauth/token")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(credential.form(scope))
            .open()
            .repeatable();
        Box::pin(async move {
            let taken = self.run_with(&call, Want::Whole, None, span).await?;
            decode(&taken.bytes)
        })
    }

    /// Cuts, slows or heals links of a development cluster.
    pub async fn links(&self, change: &LinkChange) -> Result<(), ClientError> {
        let request = self.request(Method::POST, "/dev/links").json(change);
        self.send(request).await.map(drop)
    }

    fn request(&self, method: Method, path: &str) -> Call {
        let call = Call::new(method, path);
        match &self.settings.ack {
            Some(ack) if call.is_write() => call.acknowledged_by(ack),
            _ => call,
        }
    }

    /// A write whose retries nodes recognise.
    fn write_request(&self, method: Method, path: &str) -> Call {
        self.request(method, path).recognised_by(self.regions.idempotency_key())
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

    async fn send(&self, call: Call) -> Result<(StatusCode, Vec<u8>), ClientError> {
        let taken = self.run(&call, Want::Whole, Span::new(self.settings.timeout)).await?;
        Ok((taken.status, taken.bytes))
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
            if known.config.len() > VECTOR_ORIGINS_MAX {
                // No node reads as many. What the others were is folded long since.
                known.config = new.config;
            }
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

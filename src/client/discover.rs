//! Regions by DNS: `_holm._tcp.<name>` says where they are (SRV: a target and a port each), and where
//! there is no such record the addresses of the name itself are taken (A and AAAA, each as one
//! place). What was found is used on while DNS fails, is silent, or suddenly knows of nothing.
//!
//! DNS proves nothing: with https, every place has to show a certificate for the name that was asked
//! for, whatever the target of an SRV record is called.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::regions::Rank;
use super::{ClientError, Discover};
use crate::env::LookupError;
use crate::env::names::Names;

/// How long an answer may be kept, whatever its time to live is. Tests do not wait for it.
const TTL: RangeInclusive<Duration> =
    Duration::from_secs(if cfg!(test) { 0 } else { 5 })..=Duration::from_secs(300);
/// How often it is looked whether the answer still holds; until it has run out nothing is asked.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The service's own label (RFC 2782).
const SERVICE: &str = "_holm._tcp.";

/// Where the regions of one name are looked for.
pub(super) struct Discovery {
    scheme: String,
    /// The name, which certificates have to be for.
    host: String,
    service: String,
    /// For the addresses of the name itself.
    port: u16,
    names: Names,
    /// Whether there were SRV records.
    has_services: AtomicBool,
}

/// One place that DNS named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// How it is told from the others: the target, or the address.
    pub(super) label: String,
    pub(super) url: String,
    /// Where that is.
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) rank: Rank,
}

impl Discovery {
    /// For a name: `holm.example.com`, with a scheme and a port where they are not https and 443.
    pub(super) fn new(discover: &Discover) -> Result<Self, ClientError> {
        let text = discover.name.as_str();
        let with_scheme =
            if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
        let unusable = |why: &str| {
            let message = format!("`{text}` is no name to find regions by: {why}");
            ClientError::Settings(message)
        };
        let url = reqwest::Url::parse(&with_scheme).map_err(|e| unusable(&e.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(unusable("it begins with https:// or http://, if with any"));
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.username() != "" {
            return Err(unusable("it is a name, with a port at most"));
        }
        let name = url.host_str().unwrap_or_default().trim_end_matches('.');
        let is_address = name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        if name.is_empty() || is_address {
            return Err(unusable("an address needs no DNS"));
        }
        // Who names the records themselves means the name below them.
        let labels = name.splitn(3, '.').collect::<Vec<_>>();
        let (host, service) = match labels.as_slice() {
            [service, protocol, host] if service.starts_with('_') && protocol.starts_with('_') => {
                ((*host).to_owned(), name.to_owned())
            }
            _ => (name.to_owned(), format!("{SERVICE}{name}")),
        };
        Ok(Self {
            scheme: url.scheme().to_owned(),
            host,
            service,
            port: url.port_or_known_default().unwrap_or(443),
            names: Names::for_client(&discover.servers, TTL),
            has_services: AtomicBool::new(false),
        })
    }

    /// The name that was asked for.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Whether what goes there is encrypted.
    pub(super) fn is_https(&self) -> bool {
        self.scheme == "https"
    }

    /// Looks the places up. `is_well` says that places found before answer: a name that had SRV
    /// records then keeps to them.
    pub(super) async fn look(&self, is_well: bool) -> Result<Vec<Found>, ClientError> {
        let failed = |error: LookupError| ClientError::Discovery {
            name: self.host.clone(),
            message: error.to_string(),
        };
        let none = match self.names.services(&self.service).await {
            Ok(services) => {
                self.has_services.store(true, Ordering::Relaxed);
                let found = services.into_iter().map(|service| Found {
                    label: service.target.trim_end_matches('.').to_owned(),
                    url: self.url(service.port),
                    addresses: service.addresses,
                    rank: Rank { priority: service.priority, weight: Some(service.weight) },
                });
                return Ok(found.collect());
            }
            Err(error @ (LookupError::NoName(_) | LookupError::Empty { .. })) => error,
            Err(error) => return Err(failed(error)),
        };
        if is_well && self.has_services.load(Ordering::Relaxed) {
            return Err(failed(none));
        }
        let found = self.names.lookup(&format!("{}:{}", self.host, self.port)).await;
        let found = found.map_err(|error| ClientError::Discovery {
            name: self.host.clone(),
            message: format!("{none}; {error}"),
        })?;
        Ok(found
            .into_iter()
            .map(|address| Found {
                label: address.ip().to_string(),
                url: self.url(self.port),
                addresses: vec![address],
                rank: Rank { priority: 0, weight: Some(1) },
            })
            .collect())
    }

    fn url(&self, port: u16) -> String {
        format!("{}://{}:{port}", self.scheme, self.host)
    }
}

impl std::fmt::Debug for Discovery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Discovery({})", self.service)
    }
}

#[cfg(test)]
mod tests;

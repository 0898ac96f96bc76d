//! How a client is set up. Nothing is looked up or opened here.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use zeroize::Zeroizing;

use super::{ClientCredential, Token};
use crate::env::Entropy;

/// How a client is set up.
///
/// ```
/// use std::time::Duration;
/// use holm::client::ClientSettings;
///
/// let regions = ["https://eu.holm.example.com", "https://us.holm.example.com"];
/// let mut settings = ClientSettings::regions(regions, Some("a token"));
/// settings.timeout = Duration::from_secs(2);
/// let by_dns = ClientSettings::discover("holm.example.com", Some("a token"));
/// ```
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// Where the regions are.
    pub places: Places,
    /// The bearer token that every request carries.
    pub token: Option<Token>,
    /// Without a token: what tokens are asked for with, again before each expires.
    pub credential: Option<ClientCredential>,
    /// How long one request may take in all, in whichever regions it is tried. A watch has this long
    /// to begin.
    pub timeout: Duration,
    /// How often all regions are tried within that time. With 1, which is what one URL has, no node is
    /// asked twice; with more, again after a pause.
    pub rounds: u32,
    /// How often regions are measured, at most: nobody is asked while the client is idle.
    pub measure_every: Duration,
    /// How long a nearer region has to have been healthy before it is used instead. A region that
    /// fails soon after has to wait twice as long the next time, up to 32 times.
    pub return_after: Duration,
    /// `Holm-Ack`: who must have a write before it is answered, for example `majority`.
    pub ack: Option<String>,
    /// Certificates that https trusts, in PEM, and no others. Without them it trusts whom the
    /// operating system does.
    pub ca_pem: Option<Vec<u8>>,
    /// What is shown to nodes that ask clients for a certificate.
    pub certificate: Option<ClientCertificate>,
    /// Where pauses and `Idempotency-Key`s come from. Seeded, two clients of one seed send the same
    /// keys, and a node takes the second one's writes for retries: for tests alone.
    pub entropy: Entropy,
}

/// Where regions are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Places {
    /// At these URLs, for example `http://127.0.0.1:8101`: a node each, or a balancer before some. Of
    /// those that are about as near, the first is used. With https, each has to have a certificate for
    /// its URL's host.
    Urls(Vec<String>),
    /// Where DNS says.
    Dns(Discover),
}

/// How regions are found by DNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discover {
    /// A name, for example `holm.example.com`: its SRV records `_holm._tcp.holm.example.com` say where
    /// regions are, and at which port. Where there are none, each of its addresses (A and AAAA) is
    /// taken for one, at port 443, or that of `holm.example.com:8101`.
    ///
    /// It is https, where `http://` does not stand before the name. Every region then has to have a
    /// certificate for this name: not for the target of its record, which DNS could make up.
    pub name: String,
    /// The DNS servers that are asked; none for those of the system.
    pub servers: Vec<SocketAddr>,
}

/// A client's certificate and its key, in PEM.
#[derive(Clone)]
pub struct ClientCertificate {
    /// The certificate, and what links it to an authority.
    pub chain_pem: Vec<u8>,
    /// Its key; never printed.
    pub key_pem: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientCertificate")
    }
}

impl ClientSettings {
    /// The defaults for one URL: a node, or a balancer before some. Nothing is tried twice.
    pub fn new(url: &str, token: Option<&str>) -> Self {
        Self { rounds: 1, ..Self::at(Places::Urls(vec![url.to_owned()]), token) }
    }

    /// The defaults for the regions at some URLs.
    pub fn regions<U: Into<String>>(
        urls: impl IntoIterator<Item = U>,
        token: Option<&str>,
    ) -> Self {
        Self::at(Places::Urls(urls.into_iter().map(Into::into).collect()), token)
    }

    /// The defaults for the regions that DNS names: see [`Discover`].
    pub fn discover(name: &str, token: Option<&str>) -> Self {
        Self::at(Places::Dns(Discover { name: name.to_owned(), servers: Vec::new() }), token)
    }

    fn at(places: Places, token: Option<&str>) -> Self {
        Self {
            places,
            token: token.map(Token::from),
            credential: None,
            timeout: Duration::from_secs(30),
            rounds: 3,
            measure_every: Duration::from_secs(10),
            return_after: Duration::from_secs(15),
            ack: None,
            ca_pem: None,
            certificate: None,
            entropy: Entropy::system(),
        }
    }
}

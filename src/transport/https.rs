//! TLS for the HTTP address: what a client sees and what is asked of it, read from files and checked
//! before it is used. HTTP/2 and HTTP/1.1 by ALPN; no early data. Between nodes see `tls`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;

use super::pem::{content, read_certificates, read_key};
use super::pki::{Identity, PkiError};
use super::tls::{self, Clock};
use crate::env::WallClock;

/// HTTP/2 over TLS.
pub const ALPN_H2: &[u8] = b"h2";
/// HTTP/1.1 over TLS.
pub const ALPN_HTTP1: &[u8] = b"http/1.1";

/// Where what it takes lies, and how it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpsFiles {
    /// The certificate, and what links it to an authority.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Whose certificates clients may show; none, and no certificate is asked for.
    pub client_authorities: Option<PathBuf>,
    /// Whether a client without one is turned away.
    pub is_client_certificate_required: bool,
    /// Whether TLS 1.2 is spoken beside 1.3.
    pub is_tls12_spoken: bool,
}

/// What was read.
pub struct Https {
    /// For handshakes.
    pub config: Arc<ServerConfig>,
    /// What clients see.
    pub chain: Vec<CertificateDer<'static>>,
}

impl HttpsFiles {
    /// Reads them, and refuses what a client could not use at this time.
    pub fn load(&self, clock: &Arc<dyn WallClock>) -> Result<Https, PkiError> {
        let now = clock.unix_time();
        let key = read_key(&self.key)?;
        let chain = read_certificates(&self.certificate)?;
        let identity = Identity { authorities: Vec::new(), chain, key };
        tls::check_key(&identity).map_err(|why| content(&self.key, why))?;
        tls::check_time(&self.certificate, &identity.chain, now)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions: &[_] = if self.is_tls12_spoken {
            &[&rustls::version::TLS13, &rustls::version::TLS12]
        } else {
            &[&rustls::version::TLS13]
        };
        let unusable = |path: &Path, why: &dyn std::fmt::Display| content(path, why.to_string());
        let builder =
            ServerConfig::builder_with_details(provider.clone(), Arc::new(Clock(clock.clone())))
                .with_protocol_versions(versions)
                .map_err(|e| unusable(&self.certificate, &e))?;
        let builder = match &self.client_authorities {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let authorities = read_certificates(path)?;
                // One that is being replaced may have expired beside its successor.
                let is_valid = |it| tls::check_time(path, std::slice::from_ref(it), now).is_ok();
                if !authorities.iter().any(is_valid) {
                    tls::check_time(path, &authorities, now)?;
                }
                let roots = tls::roots(&authorities).map_err(|e| unusable(path, &e))?;
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
                let verifier = if self.is_client_certificate_required {
                    verifier
                } else {
                    verifier.allow_unauthenticated()
                };
                builder.with_client_cert_verifier(verifier.build().map_err(|e| unusable(path, &e))?)
            }
        };
        let chain = identity.chain;
        let mut config = builder
            .with_single_cert(chain.clone(), identity.key)
            .map_err(|e| unusable(&self.certificate, &e))?;
        config.alpn_protocols = vec![ALPN_H2.to_vec(), ALPN_HTTP1.to_vec()];
        Ok(Https { config: Arc::new(config), chain })
    }

    /// All files.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        let client = self.client_authorities.as_deref();
        [self.certificate.as_path(), self.key.as_path()].into_iter().chain(client)
    }
}

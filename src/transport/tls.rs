//! TLS 1.3 between nodes, both sides with a certificate of the cluster's authority. The provider
//! (*ring*) is passed in everywhere: the process has no default one.
//!
//! With seeded entropy, everything that rustls draws is seeded, key shares included: a simulation's
//! packets are the same to the byte.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rand::RngCore as _;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, GetRandomFailed, SecureRandom};
use rustls::pki_types::UnixTime;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::key_share::SeededX25519;
use super::pki::Identity;
use crate::env::{Entropy, Env, Stream, WallClock};

/// The framing that both sides speak; another one gets another name.
pub const ALPN: &[u8] = b"holm/1";

/// Why there is no TLS configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate or key is not usable.
    #[error("the node's certificate or key is not usable: {0}")]
    Rustls(#[from] rustls::Error),
    /// The authorities' certificates are not usable.
    #[error("the authority's certificate is not usable: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// Both sides of a node.
pub(crate) fn configs(
    env: &Env,
    identity: &Identity,
) -> Result<(ServerConfig, ClientConfig), TlsError> {
    let provider = Arc::new(provider(&env.entropy));
    let clock = Arc::new(Clock(env.clock.clone()));
    let mut roots = RootCertStore::empty();
    for authority in &identity.authorities {
        roots.add(authority.clone())?;
    }
    let roots = Arc::new(roots);
    let verifier =
        WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone()).build()?;
    let mut server = ServerConfig::builder_with_details(provider.clone(), clock.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain.clone(), identity.key.clone_key())?;
    let mut client = ClientConfig::builder_with_details(provider, clock)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())?;
    // No resumption: connections live long, and early data could be replayed.
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    client.resumption = Resumption::disabled();
    server.alpn_protocols = vec![ALPN.to_vec()];
    client.alpn_protocols = vec![ALPN.to_vec()];
    Ok((server, client))
}

fn provider(entropy: &Entropy) -> CryptoProvider {
    let mut provider = rustls::crypto::ring::default_provider();
    if entropy.is_seeded() {
        let random = SeededRandom(Mutex::new(entropy.stream("tls")));
        // rustls wants them for ever. Only simulations come here, a few bytes a simulated start.
        provider.secure_random = Box::leak(Box::new(random));
        // *ring* draws its key shares itself.
        let shares = SeededX25519::new(entropy.stream("tls key shares"));
        provider.kx_groups = vec![Box::leak(Box::new(shares))];
    }
    provider
}

struct SeededRandom(Mutex<Stream>);

impl SecureRandom for SeededRandom {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(bytes);
        Ok(())
    }
}

impl fmt::Debug for SeededRandom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SeededRandom")
    }
}

struct Clock(Arc<dyn WallClock>);

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.0.unix_time())
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

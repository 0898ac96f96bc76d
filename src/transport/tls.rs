//! TLS 1.3 between nodes, both sides with a certificate of the cluster's authority. The provider
//! (*ring*) is passed in everywhere: the process has no default one.
//!
//! With seeded entropy, everything that rustls draws is seeded, key shares included: a simulation's
//! packets are the same to the byte.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rand::RngCore as _;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, GetRandomFailed, SecureRandom};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};

use super::key_share::SeededX25519;
use super::pki::Identity;
use crate::env::{Entropy, Env, Stream, WallClock};

/// The framing that both sides speak; another one gets another name.
pub const ALPN: &[u8] = b"holm/1";

/// The name that stands for any node of the cluster, where it is not known who is dialed. The
/// certificate then is checked against the name in the hello.
pub(crate) const ANY_NODE: &str = "any-node.holm.invalid";

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
    let provider_of_client = provider.clone();
    let mut client = ClientConfig::builder_with_details(provider, clock)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(NodeVerifier::new(roots, provider_of_client)?))
        .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())?;
    // No resumption: connections live long, and early data could be replayed.
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    client.resumption = Resumption::disabled();
    server.alpn_protocols = vec![ALPN.to_vec()];
    client.alpn_protocols = vec![ALPN.to_vec()];
    Ok((server, client))
}

/// Checks a dialed node's certificate as usual, with one exception: for [`ANY_NODE`] its name is not
/// looked at, only that it is of the cluster's authority.
#[derive(Debug)]
struct NodeVerifier {
    usual: Arc<WebPkiServerVerifier>,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl NodeVerifier {
    fn new(roots: Arc<RootCertStore>, provider: Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let usual =
            WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone()).build()?;
        Ok(Self { usual, roots, provider })
    }
}

impl ServerCertVerifier for NodeVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let is_any = matches!(server_name, ServerName::DnsName(name) if name.as_ref() == ANY_NODE);
        if !is_any {
            return self.usual.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            );
        }
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &self.roots,
            intermediates,
            now,
            algorithms,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
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

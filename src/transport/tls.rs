//! TLS 1.3 between nodes, both sides with a certificate of the cluster's authority. The provider
//! (*ring*) is passed in everywhere: the process has no default one.
//!
//! With seeded entropy, everything that rustls draws is seeded, key shares included: a simulation's
//! packets are the same to the byte.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rand::RngCore as _;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, GetRandomFailed, SecureRandom};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{
    ClientConfig, DigitallySignedStruct, InconsistentKeys, RootCertStore, ServerConfig,
    SignatureScheme,
};

use super::certificate::{Facts, fingerprint};
use super::hello;
use super::key_share::SeededX25519;
use super::pem::content;
use super::pki::{Identity, IdentityFiles, PkiError};
use crate::env::{Entropy, Stream, WallClock};
use crate::model::NodeName;

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

/// What TLS draws from and reads the time of: one for a node's life.
pub(super) struct Source {
    provider: Arc<CryptoProvider>,
    clock: Arc<Clock>,
}

/// Both sides of a node under one identity, and whom it believes.
pub(super) struct Sides {
    pub(super) server: ServerConfig,
    pub(super) client: ClientConfig,
    pub(super) trust: Trust,
}

/// Whom a node believes.
pub(super) struct Trust(Arc<dyn ClientCertVerifier>);

impl Source {
    pub(super) fn new(entropy: &Entropy, clock: Arc<dyn WallClock>) -> Self {
        Self { provider: Arc::new(provider(entropy)), clock: Arc::new(Clock(clock)) }
    }

    pub(super) fn sides(&self, identity: &Identity) -> Result<Sides, TlsError> {
        let (provider, clock) = (self.provider.clone(), self.clock.clone());
        let roots = Arc::new(roots(&identity.authorities)?);
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone()).build()?;
        let mut server = ServerConfig::builder_with_details(provider.clone(), clock.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier.clone())
            .with_single_cert(identity.chain.clone(), identity.key.clone_key())?;
        let peers = Arc::new(NodeVerifier::new(roots, provider.clone())?);
        let mut client = ClientConfig::builder_with_details(provider, clock)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(peers)
            .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())?;
        // No resumption: connections live long, and early data could be replayed.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        client.resumption = Resumption::disabled();
        server.alpn_protocols = vec![ALPN.to_vec()];
        client.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Sides { server, client, trust: Trust(verifier) })
    }
}

impl Trust {
    /// Whether a certificate that was good when its connection was made is one of an authority that
    /// is believed now. That it has expired since is no matter: that ends no connection.
    pub(super) fn includes(&self, chain: &[CertificateDer<'_>]) -> bool {
        is_verified(&*self.0, chain)
    }
}

pub(super) fn roots(authorities: &[CertificateDer<'static>]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.clone())?;
    }
    Ok(roots)
}

/// Whether the first of `chain` leads to who `verifier` believes, at some time within its validity.
fn is_verified(verifier: &dyn ClientCertVerifier, chain: &[CertificateDer<'_>]) -> bool {
    let Some((leaf, rest)) = chain.split_first() else { return false };
    let Ok(facts) = Facts::of(leaf) else { return false };
    let within = UnixTime::since_unix_epoch(std::time::Duration::from_secs(facts.not_after));
    verifier.verify_client_cert(leaf, rest, within).is_ok()
}

/// Which of `authorities` the first of `chain` leads to, by its fingerprint.
pub(crate) fn authority_of(
    chain: &[CertificateDer<'_>],
    authorities: &[CertificateDer<'static>],
) -> Option<String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let leads_to = |authority: &&CertificateDer<'static>| {
        let Ok(roots) = roots(std::slice::from_ref(*authority)) else { return false };
        let built =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
        built.is_ok_and(|verifier| is_verified(&*verifier, chain))
    };
    authorities.iter().find(leads_to).map(|authority| fingerprint(authority))
}

/// Whether the first of `chain` belongs to the key, in words that fit behind the file's name.
pub(crate) fn check_key(identity: &Identity) -> Result<(), String> {
    let provider = rustls::crypto::ring::default_provider();
    let key = CertifiedKey::from_der(identity.chain.clone(), identity.key.clone_key(), &provider);
    match key {
        Ok(_) => Ok(()),
        Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Err("this key does not belong to the certificate".to_owned())
        }
        Err(error) => Err(format!("this key is not usable: {error}")),
    }
}

/// Whether the certificates are valid at `now`.
pub(crate) fn check_time(
    path: &Path,
    chain: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<(), PkiError> {
    for certificate in chain {
        let facts = Facts::of(certificate).map_err(|why| content(path, why))?;
        facts
            .check_time(now)
            .map_err(|why| content(path, format!("the certificate of {}: {why}", facts.subject)))?;
    }
    Ok(())
}

impl IdentityFiles {
    /// Reads them, and refuses what could never be used as `node`: a key of another certificate,
    /// another node's certificate, one of another authority.
    pub fn load_for(&self, node: &NodeName) -> Result<Identity, PkiError> {
        let identity = self.load()?;
        check_key(&identity).map_err(|why| content(&self.key, why))?;
        let bad = |why: String| content(&self.certificate, why);
        if !identity.chain.first().is_some_and(|certificate| hello::is_for(certificate, node)) {
            return Err(bad(format!("the certificate is not for the name {node}")));
        }
        if authority_of(&identity.chain, &identity.authorities).is_none() {
            let bundle = self.authorities.display();
            return Err(bad(format!("no authority in {bundle} has signed it as a node's")));
        }
        Ok(identity)
    }

    /// Whether what was read of them can be used at `now`: no certificate of yesterday or tomorrow.
    pub fn check_time(&self, identity: &Identity, now: UnixTime) -> Result<(), PkiError> {
        check_time(&self.certificate, &identity.chain, now)?;
        let authority = authority_of(&identity.chain, &identity.authorities);
        let is_its = |it: &&CertificateDer<'_>| Some(fingerprint(it)) == authority;
        let authority = identity.authorities.iter().find(is_its);
        check_time(&self.authorities, authority.map(std::slice::from_ref).unwrap_or_default(), now)
    }
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

pub(super) struct Clock(pub(super) Arc<dyn WallClock>);

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

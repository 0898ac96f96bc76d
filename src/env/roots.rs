//! The TLS settings of HTTP clients: *ring*, and whom they trust is said by who asks. Nothing global
//! is set.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// Whom a client trusts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trust<'a> {
    /// Nobody: there is no https.
    Nobody,
    /// The certificates of a PEM text, and no others.
    Pem(&'a [u8]),
    /// Whom the operating system trusts.
    System,
}

impl<'a> Trust<'a> {
    /// The certificates of a PEM text where there is one, or nobody.
    pub(crate) fn of(pem: Option<&'a [u8]>) -> Self {
        pem.map_or(Self::Nobody, Self::Pem)
    }
}

/// Settings with this trust; and where `shown` is given, a certificate and its key, in PEM, for
/// servers that ask for one.
pub(crate) fn config(
    trust: Trust<'_>,
    shown: Option<(&[u8], &[u8])>,
) -> Result<ClientConfig, String> {
    let roots = roots(trust)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots);
    let Some((chain, key)) = shown else { return Ok(builder.with_no_client_auth()) };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
    let chain = chain.map_err(|e| format!("the client certificate is not PEM: {e}"))?;
    if chain.is_empty() {
        return Err("the client certificate's file has no certificate".to_owned());
    }
    // What the file says stays out of the message.
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|_| "the client key's file has no private key in PEM".to_owned())?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|e| format!("the client certificate and its key: {e}"))
}

fn roots(trust: Trust<'_>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match trust {
        Trust::Nobody => {}
        Trust::Pem(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate =
                    certificate.map_err(|e| format!("the CA file is not PEM: {e}"))?;
                roots.add(certificate).map_err(|e| format!("a certificate of the CA file: {e}"))?;
            }
            if roots.is_empty() {
                return Err("the CA file has no certificate".to_owned());
            }
        }
        Trust::System => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                return Err(
                    "this system has no certificates that https could trust; name a file of \
                            them"
                        .to_owned(),
                );
            }
        }
    }
    Ok(roots)
}

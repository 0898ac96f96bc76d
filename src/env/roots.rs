//! The TLS settings of HTTP clients: *ring*, and no certificates but the ones it is given. Nothing
//! global is read or set.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// Settings that trust the certificates of a PEM text, or nobody.
pub(crate) fn config(ca_pem: Option<&[u8]>) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    if let Some(pem) = ca_pem {
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|e| format!("the CA file is not PEM: {e}"))?;
            roots.add(certificate).map_err(|e| format!("a certificate of the CA file: {e}"))?;
        }
        if roots.is_empty() {
            return Err("the CA file has no certificate".to_owned());
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

//! Certificates and keys out of PEM files, with limits, and errors that name the file and say what
//! is wrong with it. A key that others on the machine could read is refused, as `ssh` does.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::pki::PkiError;

/// Most certificates in one file.
const CERTIFICATES_MAX: usize = 16;
/// Largest PEM file, in bytes.
const FILE_LEN_MAX: u64 = 256 * 1024;
/// What everybody may do with a file.
const MODE_OTHERS: u32 = 0o007;

/// The certificates of a file, in its order; one at least.
pub(crate) fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    certificates_in(&read(path)?).map_err(|problem| content(path, problem))
}

/// The private key of a file that only its owner and its group may read.
pub(crate) fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, PkiError> {
    let bytes = zeroize::Zeroizing::new(read(path)?);
    let mode = fs::metadata(path).map_err(|source| file_error(path, source))?.permissions().mode();
    if mode & MODE_OTHERS != 0 {
        let problem = format!(
            "others may read this private key (mode {:03o}): `chmod 600` it, and replace the key if \
             they had the chance to",
            mode & 0o777
        );
        return Err(content(path, problem));
    }
    key_in(&bytes).map_err(|problem| content(path, problem))
}

/// The certificates of a PEM text; the error says why there are none.
pub fn certificates_in(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut certificates = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(text) {
        if certificates.len() == CERTIFICATES_MAX {
            return Err(format!("more than {CERTIFICATES_MAX} certificates in it"));
        }
        certificates.push(certificate.map_err(|error| not_pem(&error))?);
    }
    if certificates.is_empty() {
        return Err("no certificate in it".to_owned());
    }
    Ok(certificates)
}

/// The private key of a PEM text; the error says why there is none, and nothing of the text.
pub fn key_in(text: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    match PrivateKeyDer::from_pem_slice(text) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) => Err(if contains(text, b"ENCRYPTED PRIVATE KEY") {
            "the private key is encrypted; one without a passphrase is needed".to_owned()
        } else if contains(text, b"BEGIN CERTIFICATE") {
            "no private key in it, but a certificate".to_owned()
        } else {
            "no private key in it".to_owned()
        }),
        Err(error) => Err(not_pem(&error)),
    }
}

/// Without what the file says: it may be a part of a key.
fn not_pem(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a PEM section has no end",
        pem::Error::IllegalSectionStart { .. } => "a PEM section begins with a broken line",
        pem::Error::Base64Decode(_) => "a PEM section is not base64",
        _ => "this is not PEM",
    }
    .to_owned()
}

fn contains(text: &[u8], what: &[u8]) -> bool {
    text.windows(what.len()).any(|window| window == what)
}

/// The bytes of a file that is not too long.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, PkiError> {
    let read = || {
        if fs::metadata(path)?.len() > FILE_LEN_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        fs::read(path)
    };
    read().map_err(|source| file_error(path, source))
}

pub(super) fn file_error(path: &Path, source: io::Error) -> PkiError {
    PkiError::File { file: path.display().to_string(), source }
}

pub(crate) fn content(path: &Path, problem: impl ToString) -> PkiError {
    PkiError::Content { file: path.display().to_string(), problem: problem.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAcHBwcHBwcHBwcHBwcH\nBwcHBwcHBwcHBwcHBwcHBwcH\n-----END PRIVATE KEY-----\n";

    #[test]
    fn what_is_wrong_with_a_file_is_said_and_nothing_of_a_key() {
        assert!(key_in(KEY.as_bytes()).is_ok());
        let wrong = |text: &str| key_in(text.as_bytes()).unwrap_err();
        assert_eq!(wrong("hello"), "no private key in it");
        let certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert_eq!(wrong(certificate), "no private key in it, but a certificate");
        assert!(wrong(&KEY.replace("PRIVATE", "ENCRYPTED PRIVATE")).contains("encrypted"));
        assert_eq!(wrong(&KEY[..70]), "a PEM section has no end");
        assert_eq!(wrong(&KEY.replace("MC4C", "M?4C")), "a PEM section is not base64");
        assert_eq!(certificates_in(KEY.as_bytes()).unwrap_err(), "no certificate in it");
        assert_eq!(
            certificates_in(certificate.repeat(17).as_bytes()).unwrap_err(),
            "more than 16 certificates in it"
        );
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.key");
        fs::write(&path, KEY).unwrap();
        for (mode, is_taken) in [(0o600, true), (0o440, true), (0o604, false), (0o644, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let read = read_key(&path);
            assert_eq!(read.is_ok(), is_taken, "{mode:o}");
            if let Err(error) = read {
                let error = error.to_string();
                assert!(error.contains("node.key: others may read"), "{error}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = (certificates_in(&text), key_in(&text));
        }

        #[test]
        fn no_text_that_looks_like_pem_makes_it_panic(
            lines in prop::collection::vec(
                prop_oneof![
                    Just("-----BEGIN CERTIFICATE-----".to_owned()),
                    Just("-----END CERTIFICATE-----".to_owned()),
                    Just("-----BEGIN PRIVATE KEY-----".to_owned()),
                    Just("-----END PRIVATE KEY-----".to_owned()),
                    Just("-----BEGIN EC PRIVATE KEY-----".to_owned()),
                    Just("-----BEGIN ".to_owned()),
                    "[A-Za-z0-9+/]{0,70}={0,2}",
                    "\\PC{0,20}",
                ],
                0..12,
            ),
            ending in prop_oneof![Just("\n"), Just("\r\n"), Just("\r")],
        ) {
            let text = lines.join(ending);
            let _ = (certificates_in(text.as_bytes()), key_in(text.as_bytes()));
        }
    }
}

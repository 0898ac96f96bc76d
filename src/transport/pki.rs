//! Certificates: one authority a cluster, one certificate a node, with the node's name in it.
//! Ed25519 keys; PEM files `ca.pem`, `ca.key`, `NODE.pem`, `NODE.key`. `ca.pem` has more than one
//! certificate while the authority changes (`rotation`). Only what is asked to replace a file
//! does, as a whole, and no key can be printed.

mod rotation;

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::RngCore as _;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ED25519, PublicKeyData as _, SerialNumber,
};
use rustls::pki_types::{CertificateDer, DnsName, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::certificate::Facts;
use super::pem::{content, file_error, read, read_certificates, read_key};
use crate::env::{Entropy, Stream, WallClock};
use crate::model::NodeName;

pub use rotation::{Phase, Rotation};

/// How long an authority is valid.
pub const AUTHORITY_VALID: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How long a node's certificate is valid.
pub const NODE_VALID: Duration = Duration::from_secs(365 * 24 * 3600);
/// Valid from this long ago on: a peer's clock may be behind.
const BACKDATED: Duration = Duration::from_secs(3600);

/// What an authority's name begins with. The rest tells it from others, so that whoever does not know
/// it can say so.
const AUTHORITY_NAME: &str = "Holm CA";

/// Why there is no certificate. Files that existed before were not changed.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file can't be read, or can't be made because it exists already.
    #[error("{file}: {source}")]
    File {
        /// The file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// A file holds no certificate or key that is understood.
    #[error("{file}: {problem}")]
    Content {
        /// The file.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A name can't stand in a certificate.
    #[error("{0} can't stand in a certificate: it is no DNS name")]
    Name(String),
    /// The authority's certificate is none.
    #[error("the authority's certificate: {0}")]
    Authority(String),
    /// A certificate could not be made.
    #[error("no certificate was made: {0}")]
    Make(#[from] rcgen::Error),
    /// The clock shows a time that no certificate can carry.
    #[error("the clock shows a time that no certificate can carry")]
    Time,
}

/// A certificate authority with its key: whoever has it can add nodes to the cluster.
pub struct Authority {
    key: KeyPair,
    certificate: CertificateDer<'static>,
}

/// What a node proves itself with, and whom it believes.
pub struct Identity {
    /// The authorities' certificates: more than one while they change.
    pub authorities: Vec<CertificateDer<'static>>,
    /// The node's certificate, and what links it to an authority.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key to the first of `chain`.
    pub key: PrivateKeyDer<'static>,
}

impl Authority {
    /// Makes a new authority.
    pub fn create(entropy: &Entropy, clock: &dyn WallClock) -> Result<Self, PkiError> {
        let mut rng = entropy.stream("pki-authority");
        let key = key(&mut rng)?;
        let serial = serial(&mut rng);
        let number: String = serial.as_ref()[..4].iter().map(|it| format!("{it:02x}")).collect();
        let mut params = authority_params(&format!("{AUTHORITY_NAME} {number}"))?;
        set_validity(&mut params, clock, AUTHORITY_VALID)?;
        params.serial_number = Some(serial);
        let certificate = params.self_signed(&key)?.der().clone();
        Ok(Self { key, certificate })
    }

    /// Reads `ca.key` in `dir`, and its certificate among those of `ca.pem`.
    pub fn load(dir: &Path) -> Result<Self, PkiError> {
        let bundle = dir.join("ca.pem");
        let certificates = read_certificates(&bundle)?;
        Self::load_key(&dir.join("ca.key"), certificates, &bundle)
    }

    /// The authority whose key is in `key`, with its certificate among those of `bundle`.
    fn load_key(
        key: &Path,
        certificates: Vec<CertificateDer<'static>>,
        bundle: &Path,
    ) -> Result<Self, PkiError> {
        let pem = String::from_utf8_lossy(&read(key)?).into_owned();
        let pair = KeyPair::from_pkcs8_pem_and_sign_algo(&pem, &PKCS_ED25519)
            .map_err(|error| content(key, error))?;
        let is_its = |certificate: &CertificateDer<'_>| {
            X509Certificate::from_der(certificate)
                .is_ok_and(|(_, it)| it.public_key().raw == pair.subject_public_key_info())
        };
        let certificate = certificates.into_iter().find(is_its).ok_or_else(|| {
            content(bundle, format!("no certificate in it belongs to the key in {}", key.display()))
        })?;
        Ok(Self { key: pair, certificate })
    }

    /// Its certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Writes `ca.pem` and `ca.key` (for the owner alone) into `dir`; refuses where they exist.
    pub fn save(&self, dir: &Path) -> Result<(), PkiError> {
        create(&dir.join("ca.key"), &self.key.serialize_pem(), 0o600)?;
        create(&dir.join("ca.pem"), &certificate_pem(&self.certificate), 0o644)
    }

    /// Makes a certificate for `node`, with a new key.
    pub fn issue(
        &self,
        node: &NodeName,
        entropy: &Entropy,
        clock: &dyn WallClock,
    ) -> Result<Identity, PkiError> {
        self.issue_for(node, &[], entropy, clock)
    }

    /// The same for more names and addresses, so that it does for HTTPS, too.
    pub fn issue_for(
        &self,
        node: &NodeName,
        more: &[String],
        entropy: &Entropy,
        clock: &dyn WallClock,
    ) -> Result<Identity, PkiError> {
        DnsName::try_from(node.as_str()).map_err(|_| PkiError::Name(node.to_string()))?;
        let mut names = vec![node.as_str().to_owned()];
        for name in more {
            ServerName::try_from(name.as_str()).map_err(|_| PkiError::Name(name.clone()))?;
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, node.as_str());
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params, entropy, clock)
    }

    /// Makes a certificate for a client of the API. It has no name that a node could have: nodes do
    /// not take it for one of theirs.
    pub fn issue_client(
        &self,
        client: &str,
        entropy: &Entropy,
        clock: &dyn WallClock,
    ) -> Result<Identity, PkiError> {
        let mut params = CertificateParams::new([])?;
        params.distinguished_name.push(DnType::CommonName, client);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params, entropy, clock)
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        entropy: &Entropy,
        clock: &dyn WallClock,
    ) -> Result<Identity, PkiError> {
        let mut rng = entropy.stream("pki-node");
        let key = key(&mut rng)?;
        set_validity(&mut params, clock, NODE_VALID)?;
        params.serial_number = Some(serial(&mut rng));
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let own = Facts::of(&self.certificate).map_err(PkiError::Authority)?;
        let issuer_params = authority_params(&own.subject)?;
        let issuer = Issuer::from_params(&issuer_params, &self.key);
        let certificate = params.signed_by(&key, &issuer)?.der().clone();
        Ok(Identity {
            authorities: vec![self.certificate.clone()],
            chain: vec![certificate],
            key: PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        })
    }
}

/// Where an identity lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFiles {
    /// The authorities' certificates.
    pub authorities: PathBuf,
    /// The node's certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl IdentityFiles {
    /// `ca.pem`, `NODE.pem` and `NODE.key` in `dir`.
    pub fn of(dir: &Path, node: &NodeName) -> Self {
        Self {
            authorities: dir.join("ca.pem"),
            certificate: dir.join(format!("{node}.pem")),
            key: dir.join(format!("{node}.key")),
        }
    }

    /// Reads them.
    pub fn load(&self) -> Result<Identity, PkiError> {
        let key = read_key(&self.key)?;
        let authorities = read_certificates(&self.authorities)?;
        Ok(Identity { authorities, chain: read_certificates(&self.certificate)?, key })
    }
}

impl Identity {
    /// Reads `ca.pem`, `NODE.pem` and `NODE.key` in `dir`.
    pub fn load_from(dir: &Path, node: &NodeName) -> Result<Self, PkiError> {
        IdentityFiles::of(dir, node).load()
    }

    /// Writes `NODE.pem` and `NODE.key` (for the owner alone) into `dir`; refuses where they exist.
    pub fn save(&self, dir: &Path, name: &str) -> Result<(), PkiError> {
        create(&dir.join(format!("{name}.key")), &self.key_pem(), 0o600)?;
        create(&dir.join(format!("{name}.pem")), &self.chain_pem(), 0o644)
    }

    /// The same, in place of what is there. Whoever reads between the two finds a key that does not
    /// match, which is refused, and then finds both.
    pub fn replace(&self, dir: &Path, name: &str) -> Result<(), PkiError> {
        replace(&dir.join(format!("{name}.key")), &self.key_pem(), 0o600)?;
        replace(&dir.join(format!("{name}.pem")), &self.chain_pem(), 0o644)
    }

    fn key_pem(&self) -> String {
        pem("PRIVATE KEY", self.key.secret_der())
    }

    fn chain_pem(&self) -> String {
        self.chain.iter().map(certificate_pem).collect()
    }
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self {
            authorities: self.authorities.clone(),
            chain: self.chain.clone(),
            key: self.key.clone_key(),
        }
    }
}

fn authority_params(name: &str) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::new([])?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn set_validity(
    params: &mut CertificateParams,
    clock: &dyn WallClock,
    valid: Duration,
) -> Result<(), PkiError> {
    let now = clock.unix_time().as_secs();
    let time = |secs: u64| {
        let secs = i64::try_from(secs).map_err(|_| PkiError::Time)?;
        OffsetDateTime::from_unix_timestamp(secs).map_err(|_| PkiError::Time)
    };
    params.not_before = time(now.saturating_sub(BACKDATED.as_secs()))?;
    params.not_after = time(now.saturating_add(valid.as_secs()))?;
    Ok(())
}

/// An Ed25519 key drawn from `rng`: PKCS #8 (RFC 8410) is a fixed prefix before the seed.
fn key(rng: &mut Stream) -> Result<KeyPair, PkiError> {
    const PREFIX: [u8; 16] = *b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
    let mut der = [0; 48];
    der[..16].copy_from_slice(&PREFIX);
    rng.fill_bytes(&mut der[16..]);
    let der = PrivatePkcs8KeyDer::from(&der[..]);
    Ok(KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ED25519)?)
}

fn serial(rng: &mut Stream) -> SerialNumber {
    let mut serial = [0; 16];
    rng.fill_bytes(&mut serial);
    // Positive and of full length, as RFC 5280 wants it.
    serial[0] = serial[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&serial)
}

fn certificate_pem(certificate: &CertificateDer<'_>) -> String {
    pem("CERTIFICATE", certificate)
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem + &format!("-----END {label}-----\n")
}

fn create(path: &Path, text: &str, mode: u32) -> Result<(), PkiError> {
    let write = || {
        let mut file = fs::OpenOptions::new().create_new(true).write(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|source| file_error(path, source))
}

/// Sets the content of a file as a whole: who reads it finds the old or the new.
fn replace(path: &Path, text: &str, mode: u32) -> Result<(), PkiError> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let write = || {
        // What an attempt left that was cut off.
        if let Err(error) = fs::remove_file(&new)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut file = fs::OpenOptions::new().create_new(true).write(true).mode(mode).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        match path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            Some(dir) => fs::File::open(dir)?.sync_all(),
            None => Ok(()),
        }
    };
    write().map_err(|source| file_error(path, source))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::{ManualClock, SystemClock};
    use crate::model::Stamp;

    fn node(name: &str) -> NodeName {
        NodeName::new(name).unwrap()
    }

    #[test]
    fn an_authority_and_a_node_read_back_as_written_and_nothing_is_overwritten() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let entropy = Entropy::system();
        let authority = Authority::create(&entropy, &SystemClock).unwrap();
        authority.save(dir.path()).unwrap();
        assert!(matches!(authority.save(dir.path()), Err(PkiError::File { .. })));
        let authority = Authority::load(dir.path()).unwrap();
        let name = node("eu-west-1");
        let issued = authority.issue(&name, &entropy, &SystemClock).unwrap();
        issued.save(dir.path(), name.as_str()).unwrap();
        assert!(issued.save(dir.path(), name.as_str()).is_err());
        let loaded = Identity::load_from(dir.path(), &name).unwrap();
        assert_eq!(loaded.authorities, issued.authorities);
        assert_eq!(loaded.chain, issued.chain);
        assert!(loaded.key == issued.key);
        for file in ["ca.key", "eu-west-1.key"] {
            let mode = fs::metadata(dir.path().join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
    }

    #[test]
    fn a_seed_gives_the_same_certificates() {
        let clock = ManualClock::new(Stamp(1_800_000_000_000_000));
        let make = |seed| {
            let entropy = Entropy::seeded(seed);
            let authority = Authority::create(&entropy, &clock).unwrap();
            authority.issue(&node("a"), &entropy, &clock).unwrap().chain
        };
        assert_eq!(make(1), make(1));
        assert_ne!(make(1), make(2));
    }

    #[test]
    fn a_file_without_what_it_should_hold_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let missing = Authority::load(dir.path()).map(|_| ()).unwrap_err().to_string();
        assert!(missing.contains("ca.pem"), "{missing}");
        fs::write(dir.path().join("ca.pem"), "hello").unwrap();
        let empty = Authority::load(dir.path()).map(|_| ()).unwrap_err().to_string();
        assert!(empty.ends_with("ca.pem: no certificate in it"), "{empty}");
        let authority = Authority::create(&Entropy::system(), &SystemClock).unwrap();
        let bad = authority.issue(&node("-"), &Entropy::system(), &SystemClock);
        assert!(matches!(bad, Err(PkiError::Name(_))));
    }
}

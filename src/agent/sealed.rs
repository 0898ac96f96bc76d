//! Secrets on the agent's disk: one file, sealed as a whole with AES-256-GCM by a key that is not in the
//! agent's directory. What was changed, cut, or sealed with another key is refused by name. Without a
//! key nothing is written.
//!
//! The file is `holm agent secrets 1\n`, a nonce of 12 random bytes, and the sealed CBOR. The first line
//! is bound to it as additional data. It is written when a value changes, so that random nonces do not
//! repeat before 2^32 writes (NIST SP 800-38D).

use std::path::PathBuf;
use std::sync::Arc;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead, KeyInit, Payload};
use rand::RngCore;
use ring::hmac;
use zeroize::Zeroizing;

use super::vault::Held;
use crate::client::SecretInfo;
use crate::env::Disk;
use crate::model::{SecretName, Stamp};
use crate::secrets::{Plaintext, keyring};

/// The file's name in the agent's directory.
pub(super) const NAME: &str = "secrets.sealed";

const FIRST_LINE: &[u8] = b"holm agent secrets 1\n";
const NONCE_LEN: usize = 12;
/// What the sealing key is derived for, so that a key that has other uses gives nothing of them away.
const LABEL: &[u8] = b"holm agent: sealing secrets on disk, format 1";

/// What secrets are sealed with.
pub struct SealKey(Zeroizing<[u8; keyring::KEY_LEN]>);

impl SealKey {
    /// Reads a key as `holm keys generate` writes it. The error says what is wrong, and nothing of it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let key = keyring::parse_key(text).map_err(|_| {
            "this is no key: the base64 of 32 random bytes, as `holm keys generate` writes it"
                .to_owned()
        })?;
        let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &*key), LABEL);
        let mut bytes = Zeroizing::new([0; keyring::KEY_LEN]);
        bytes.copy_from_slice(derived.as_ref());
        Ok(Self(bytes))
    }
}

impl std::fmt::Debug for SealKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealKey(..)")
    }
}

/// Why the file is not used, or not written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealedError {
    /// The system refuses.
    #[error("{}: {reason}", path.display())]
    System {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// It is something else, or of another program.
    #[error("{}: these are no secrets of an agent, or of another format", path.display())]
    Foreign {
        /// Which file.
        path: PathBuf,
    },
    /// It does not open.
    #[error("{}: it does not open: it was cut, changed, or sealed with another key", path.display())]
    Closed {
        /// Which file.
        path: PathBuf,
    },
}

/// The file.
pub(super) struct Sealed {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) path: PathBuf,
    pub(super) key: SealKey,
}

impl Sealed {
    /// What is in it; nothing where it is not there.
    pub(super) fn load(&self) -> Result<Vec<Held>, SealedError> {
        let path = || self.path.clone();
        let system =
            |e: std::io::Error| SealedError::System { path: path(), reason: e.to_string() };
        let Some(bytes) = self.disk.read(NAME).map_err(system)? else { return Ok(Vec::new()) };
        let foreign = || SealedError::Foreign { path: path() };
        let rest = bytes.strip_prefix(FIRST_LINE).ok_or_else(foreign)?;
        let closed = || SealedError::Closed { path: path() };
        let (nonce, msg) = rest.split_at_checked(NONCE_LEN).ok_or_else(closed)?;
        let nonce: [u8; NONCE_LEN] = nonce.try_into().map_err(|_| closed())?;
        let payload = Payload { msg, aad: FIRST_LINE };
        let opened = self.cipher().decrypt(&nonce.into(), payload).map_err(|_| closed())?;
        let opened = Zeroizing::new(opened);
        decode(&opened).map_err(|_| closed())
    }

    /// Puts these in its place, on disk on return.
    pub(super) fn save(
        &self,
        held: &[Arc<Held>],
        rng: &mut impl RngCore,
    ) -> Result<(), SealedError> {
        let mut nonce = [0; NONCE_LEN];
        rng.fill_bytes(&mut nonce);
        let plain = encode(held);
        let payload = Payload { msg: &plain, aad: FIRST_LINE };
        let system = |reason: String| SealedError::System { path: self.path.clone(), reason };
        let sealed = self.cipher().encrypt(&nonce.into(), payload);
        let sealed = sealed.map_err(|_| system("it cannot be sealed".to_owned()))?;
        let bytes = [FIRST_LINE, &nonce, &sealed].concat();
        self.disk.write(NAME, &bytes, true).map_err(|e| system(e.to_string()))
    }

    fn cipher(&self) -> Aes256Gcm {
        Aes256Gcm::new(&(*self.key.0).into())
    }
}

/// An array of `[columns as JSON, confirmed at, value]`, in a buffer that does not grow: one that grows
/// leaves what it had behind.
fn encode(held: &[Arc<Held>]) -> Zeroizing<Vec<u8>> {
    let columns: Vec<String> =
        held.iter().map(|it| serde_json::to_string(&it.info).unwrap_or_default()).collect();
    let len: usize =
        columns.iter().zip(held).map(|(text, it)| text.len() + it.value.len() + 40).sum();
    let mut bytes = Zeroizing::new(Vec::with_capacity(len + 16));
    let mut encoder = minicbor::Encoder::new(&mut *bytes);
    // Into memory: there is nothing to fail.
    let _ = encoder.array(held.len() as u64);
    for (text, it) in columns.iter().zip(held) {
        let _ = encoder.array(3).and_then(|e| e.str(text)).and_then(|e| e.u64(it.confirmed_at.0));
        let _ = encoder.bytes(it.value.expose());
    }
    bytes
}

fn decode(bytes: &[u8]) -> Result<Vec<Held>, minicbor::decode::Error> {
    let wrong = minicbor::decode::Error::message;
    let mut decoder = minicbor::Decoder::new(bytes);
    let count = decoder.array()?.ok_or_else(|| wrong("no length"))?;
    let mut held = Vec::new();
    for _ in 0..count {
        if decoder.array()? != Some(3) {
            return Err(wrong("another length"));
        }
        let info: SecretInfo =
            serde_json::from_str(decoder.str()?).map_err(|_| wrong("no columns"))?;
        let confirmed_at = Stamp(decoder.u64()?);
        let value = Plaintext::new(decoder.bytes()?.to_vec());
        held.push(Held { info, value, confirmed_at });
    }
    Ok(held)
}

/// Which secret it is.
pub(super) fn name(held: &Held) -> &SecretName {
    &held.info.name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::vault::testing::held;
    use crate::env::{Entropy, MemoryDisk};

    fn key(seed: u8) -> SealKey {
        let mut key = [seed; keyring::KEY_LEN];
        key[0] = !seed;
        SealKey::parse(&keyring::encode(&key)).unwrap()
    }

    fn sealed(disk: &MemoryDisk, seed: u8) -> Sealed {
        let disk = Arc::new(disk.clone());
        Sealed { disk, path: format!("/data/{NAME}").into(), key: key(seed) }
    }

    fn saved() -> MemoryDisk {
        let disk = MemoryDisk::default();
        let two = [Arc::new(held("a", "hunter2")), Arc::new(held("b", ""))];
        sealed(&disk, 1).save(&two, &mut Entropy::seeded(1).stream("seal")).unwrap();
        disk
    }

    #[test]
    fn what_is_sealed_opens_with_its_key_and_is_nowhere_in_the_clear() {
        let disk = saved();
        let opened = sealed(&disk, 1).load().unwrap();
        let values: Vec<_> =
            opened.iter().map(|it| (name(it).as_str(), it.value.expose_text().unwrap())).collect();
        assert_eq!(values, [("a", "hunter2"), ("b", "")]);
        assert!(disk.files_with(b"hunter2").is_empty());
        assert!(sealed(&MemoryDisk::default(), 1).load().unwrap().is_empty());
    }

    #[test]
    fn another_key_and_any_change_or_cut_is_refused_by_name() {
        let whole = saved().read(NAME).unwrap().unwrap();
        let refused = |bytes: &[u8], seed| {
            let disk = MemoryDisk::default();
            disk.write(NAME, bytes, true).unwrap();
            sealed(&disk, seed).load().unwrap_err().to_string()
        };
        assert!(refused(&whole, 2).starts_with("/data/secrets.sealed: it does not open"));
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(refused(&changed, 1).starts_with("/data/secrets.sealed: "), "changed at {at}");
            assert!(refused(&whole[..at], 1).starts_with("/data/secrets.sealed: "), "cut at {at}");
        }
    }

    #[test]
    fn two_files_of_the_same_secrets_are_not_the_same() {
        let (disk, mut rng) = (MemoryDisk::default(), Entropy::seeded(1).stream("seal"));
        let mut files = Vec::new();
        for _ in 0..2 {
            sealed(&disk, 1).save(&[Arc::new(held("a", "x"))], &mut rng).unwrap();
            files.push(disk.read(NAME).unwrap().unwrap());
        }
        assert_ne!(files[0], files[1]);
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_repeated() {
        let error = SealKey::parse("hunter2").unwrap_err();
        assert!(error.contains("holm keys generate") && !error.contains("hunter2"), "{error}");
        assert_eq!(format!("{:?}", key(1)), "SealKey(..)");
    }
}

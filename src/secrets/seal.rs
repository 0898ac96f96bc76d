//! Sealing and opening. A version's value is sealed by a data key of its own; the data key is
//! wrapped by a generation of the master key with AES-256-GCM. Both are bound (as AAD) to where
//! they belong, in CBOR, so that no two places read alike:
//!
//! | sealed | additional authenticated data |
//! |---|---|
//! | value | `["holm secret value", 1, cluster, id, name, version, algorithm]` |
//! | data key | `["holm data key", 1, generation, cluster, id, name, version, algorithm]` |
//! | cluster key | `["holm cluster key", 1, generation, cluster, purpose, …]` |
//!
//! Keys and nonces are drawn from a stream that the caller gives. A data key seals one value, so
//! that its nonce cannot be used twice; nonces under a master key are random, 96 bits: rotate
//! before 2^32 wrappings (NIST SP 800-38D).
//!
//! Nothing here looks at rights, stores or sends.

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm_siv::Aes256GcmSiv;
use chacha20poly1305::ChaCha20Poly1305;
use rand::{CryptoRng, RngCore};
use zeroize::Zeroizing;

use super::keyring::{KEY_LEN, Kek, KeyError};
use super::plaintext::Plaintext;
use super::sealed::{Algorithm, SealedVersion, VALUE_LEN_MAX};
use crate::model::{Id, SecretName, Stamp, Text, cbor};
use crate::registry::command::SealedKey;

/// Length of a nonce, in bytes: the same for all algorithms.
const NONCE_LEN: usize = 12;
/// Length of an authentication tag, in bytes: the same for all algorithms.
const TAG_LEN: usize = 16;
/// The format of what is bound; another one would not open what this one sealed.
const FORMAT: u8 = 1;

/// Where a version belongs.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Which cluster.
    pub cluster: &'a str,
    /// The secret's id.
    pub id: Id,
    /// Its name.
    pub name: &'a SecretName,
    /// Which version.
    pub version: u32,
}

/// What a key of the cluster is for.
#[derive(Clone, Copy, Debug)]
pub enum Purpose<'a> {
    /// To sign tokens, as the key of this `kid`.
    Signing(&'a str),
    /// For idempotency hashes.
    HashKey,
}

/// Why something sealed was not opened. Nothing of it was given out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The key is not there, or not the cluster's.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// It was changed, or belongs elsewhere: to another secret, version, cluster or generation.
    #[error("what is sealed was changed, or belongs elsewhere")]
    Damaged,
}

/// Why a value was not sealed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Longer than [`VALUE_LEN_MAX`].
    #[error("the value has more than {VALUE_LEN_MAX} bytes")]
    TooLong,
    /// The cipher refused; it does so for lengths alone.
    #[error("the value cannot be sealed")]
    Cipher,
}

/// Seals a value as the version that `place` names, under a data key of its own.
pub fn seal(
    kek: &Kek,
    rng: &mut impl CryptoRng,
    place: &Place<'_>,
    algorithm: Algorithm,
    value: &Plaintext,
    (created_by, created_at): (&Text, Stamp),
) -> Result<SealedVersion, SealError> {
    if value.len() > VALUE_LEN_MAX {
        return Err(SealError::TooLong);
    }
    let mut dek = Zeroizing::new([0; KEY_LEN]);
    rng.fill_bytes(&mut *dek);
    let nonce = draw_nonce(rng);
    let ciphertext = encrypt(algorithm, &dek, nonce, &value_aad(place, algorithm), value.expose())
        .ok_or(SealError::Cipher)?;
    let aad = dek_aad(kek.number(), place, algorithm);
    let wrapped = wrap(kek, rng, &aad, &*dek).ok_or(SealError::Cipher)?;
    Ok(SealedVersion {
        algorithm,
        nonce: nonce.to_vec(),
        ciphertext,
        generation: kek.number(),
        wrapped,
        created_at,
        created_by: created_by.clone(),
    })
}

/// Opens a version, if it is the one that `place` names and was not changed.
pub fn open(kek: &Kek, place: &Place<'_>, sealed: &SealedVersion) -> Result<Plaintext, OpenError> {
    let dek = open_dek(kek, place, sealed)?;
    let nonce = sealed.nonce.as_slice().try_into().map_err(|_| OpenError::Damaged)?;
    let aad = value_aad(place, sealed.algorithm);
    let value = decrypt(sealed.algorithm, &dek, nonce, &aad, &sealed.ciphertext);
    value.map(Plaintext::new).ok_or(OpenError::Damaged)
}

/// The version's data key, wrapped by another generation. The value is not opened.
pub fn rewrap(
    from: &Kek,
    to: &Kek,
    rng: &mut impl CryptoRng,
    place: &Place<'_>,
    sealed: &SealedVersion,
) -> Result<SealedKey, OpenError> {
    let dek = open_dek(from, place, sealed)?;
    let aad = dek_aad(to.number(), place, sealed.algorithm);
    let wrapped = wrap(to, rng, &aad, &*dek).ok_or(OpenError::Damaged)?;
    Ok(SealedKey { generation: to.number(), wrapped })
}

/// Seals a key of the cluster.
pub fn seal_key(
    kek: &Kek,
    rng: &mut impl CryptoRng,
    cluster: &str,
    purpose: Purpose<'_>,
    key: &[u8],
) -> Result<SealedKey, SealError> {
    let aad = key_aad(kek.number(), cluster, purpose);
    let wrapped = wrap(kek, rng, &aad, key).ok_or(SealError::Cipher)?;
    Ok(SealedKey { generation: kek.number(), wrapped })
}

/// Opens a key of the cluster, if it is for this purpose and was not changed.
pub fn open_key(
    kek: &Kek,
    cluster: &str,
    purpose: Purpose<'_>,
    sealed: &SealedKey,
) -> Result<Plaintext, OpenError> {
    let number = kek.number();
    if sealed.generation != number {
        return Err(KeyError::Missing(sealed.generation).into());
    }
    unwrap(kek, &key_aad(number, cluster, purpose), &sealed.wrapped).map(Plaintext::new)
}

/// A key of the cluster, wrapped by another generation.
pub fn rewrap_key(
    from: &Kek,
    to: &Kek,
    rng: &mut impl CryptoRng,
    cluster: &str,
    purpose: Purpose<'_>,
    sealed: &SealedKey,
) -> Result<SealedKey, OpenError> {
    let key = open_key(from, cluster, purpose, sealed)?;
    seal_key(to, rng, cluster, purpose, key.expose()).map_err(|_| OpenError::Damaged)
}

fn open_dek(
    kek: &Kek,
    place: &Place<'_>,
    sealed: &SealedVersion,
) -> Result<Zeroizing<[u8; KEY_LEN]>, OpenError> {
    if sealed.generation != kek.number() {
        return Err(KeyError::Missing(sealed.generation).into());
    }
    let aad = dek_aad(kek.number(), place, sealed.algorithm);
    let bytes = Zeroizing::new(unwrap(kek, &aad, &sealed.wrapped)?);
    if bytes.len() != KEY_LEN {
        return Err(OpenError::Damaged);
    }
    let mut dek = Zeroizing::new([0; KEY_LEN]);
    dek.copy_from_slice(&bytes);
    Ok(dek)
}

fn wrap(kek: &Kek, rng: &mut impl RngCore, aad: &[u8], key: &[u8]) -> Option<Vec<u8>> {
    let nonce = draw_nonce(rng);
    let sealed = encrypt(Algorithm::Aes256Gcm, kek.wrapping_key(), nonce, aad, key)?;
    Some([&nonce[..], &sealed].concat())
}

fn unwrap(kek: &Kek, aad: &[u8], wrapped: &[u8]) -> Result<Vec<u8>, OpenError> {
    let (nonce, sealed) = wrapped.split_first_chunk().ok_or(OpenError::Damaged)?;
    let key = decrypt(Algorithm::Aes256Gcm, kek.wrapping_key(), *nonce, aad, sealed);
    key.ok_or(OpenError::Damaged)
}

fn draw_nonce(rng: &mut impl RngCore) -> [u8; NONCE_LEN] {
    let mut nonce = [0; NONCE_LEN];
    rng.fill_bytes(&mut nonce);
    nonce
}

fn value_aad(place: &Place<'_>, algorithm: Algorithm) -> Vec<u8> {
    let Place { cluster, id, name, version } = place;
    cbor::encode(&("holm secret value", FORMAT, *cluster, id, *name, version, algorithm.name()))
}

fn dek_aad(generation: u32, place: &Place<'_>, algorithm: Algorithm) -> Vec<u8> {
    let Place { cluster, id, name, version } = place;
    let algorithm = algorithm.name();
    cbor::encode(&("holm data key", FORMAT, generation, *cluster, id, *name, version, algorithm))
}

fn key_aad(generation: u32, cluster: &str, purpose: Purpose<'_>) -> Vec<u8> {
    const LABEL: &str = "holm cluster key";
    match purpose {
        Purpose::Signing(kid) => {
            cbor::encode(&(LABEL, FORMAT, generation, cluster, "token signing", kid))
        }
        Purpose::HashKey => {
            cbor::encode(&(LABEL, FORMAT, generation, cluster, "idempotency hashes"))
        }
    }
}

/// The ciphertext with its tag behind it; `None` for a length that the cipher does not take. The
/// copy of the plaintext that it works on becomes the ciphertext.
fn encrypt(
    algorithm: Algorithm,
    key: &[u8; KEY_LEN],
    nonce: [u8; NONCE_LEN],
    aad: &[u8],
    msg: &[u8],
) -> Option<Vec<u8>> {
    let payload = Payload { msg, aad };
    let (key, nonce) = (&(*key).into(), &nonce.into());
    let sealed = match algorithm {
        Algorithm::Aes256Gcm => Aes256Gcm::new(key).encrypt(nonce, payload),
        Algorithm::Aes256GcmSiv => Aes256GcmSiv::new(key).encrypt(nonce, payload),
        Algorithm::ChaCha20Poly1305 => ChaCha20Poly1305::new(key).encrypt(nonce, payload),
    };
    sealed.ok()
}

/// The plaintext, where tag, key, nonce and AAD belong together.
fn decrypt(
    algorithm: Algorithm,
    key: &[u8; KEY_LEN],
    nonce: [u8; NONCE_LEN],
    aad: &[u8],
    msg: &[u8],
) -> Option<Vec<u8>> {
    if msg.len() < TAG_LEN {
        return None;
    }
    let payload = Payload { msg, aad };
    let (key, nonce) = (&(*key).into(), &nonce.into());
    let opened = match algorithm {
        Algorithm::Aes256Gcm => Aes256Gcm::new(key).decrypt(nonce, payload),
        Algorithm::Aes256GcmSiv => Aes256GcmSiv::new(key).decrypt(nonce, payload),
        Algorithm::ChaCha20Poly1305 => ChaCha20Poly1305::new(key).decrypt(nonce, payload),
    };
    opened.ok()
}

#[cfg(test)]
mod tests;

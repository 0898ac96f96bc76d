//! A secret as it is stored and replicated: names, versions and ciphertext, no plaintext.

use std::collections::BTreeMap;
use std::sync::Arc;

use minicbor::{Decode, Encode};

use crate::model::{Id, SecretName, Stamp, Text};

/// Most versions of one secret that are kept; the oldest go first.
pub const VERSIONS_MAX: usize = 32;
/// Longest plaintext, in bytes.
pub const VALUE_LEN_MAX: usize = 64 * 1024;

/// What a value is sealed with. The names stand in the API and in the AAD.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Algorithm {
    /// AES-256 in Galois/counter mode: the default.
    #[n(0)]
    Aes256Gcm,
    /// AES-256-GCM-SIV (RFC 8452): as before, and a nonce that is used twice gives less away.
    #[n(1)]
    Aes256GcmSiv,
    /// ChaCha20-Poly1305 (RFC 8439).
    #[n(2)]
    ChaCha20Poly1305,
}

impl Algorithm {
    /// All of them, the default first.
    pub const ALL: [Self; 3] = [Self::Aes256Gcm, Self::Aes256GcmSiv, Self::ChaCha20Poly1305];

    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aes256Gcm => "aes-256-gcm",
            Self::Aes256GcmSiv => "aes-256-gcm-siv",
            Self::ChaCha20Poly1305 => "chacha20-poly1305",
        }
    }

    /// The algorithm of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }
}

/// One version's value, sealed.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SealedVersion {
    /// What it is sealed with.
    #[n(0)]
    pub algorithm: Algorithm,
    /// Of the value.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub nonce: Vec<u8>,
    /// The value, with its authentication tag behind it.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub ciphertext: Vec<u8>,
    /// Which generation of the master key wraps the data key.
    #[n(3)]
    pub generation: u32,
    /// The data key, wrapped: nonce, then ciphertext with tag. The one part that rotation changes.
    #[n(4)]
    #[cbor(with = "minicbor::bytes")]
    pub wrapped: Vec<u8>,
    /// When the version was proposed.
    #[n(5)]
    pub created_at: Stamp,
    /// Who proposed it.
    #[n(6)]
    pub created_by: Text,
}

impl std::fmt::Debug for SealedVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealedVersion")
            .field("algorithm", &self.algorithm)
            .field("generation", &self.generation)
            .field("len", &self.ciphertext.len())
            .finish_non_exhaustive()
    }
}

/// A secret with its versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// The same for all versions, and never used again once the secret is deleted.
    pub id: Id,
    /// Unique among the secrets that are there.
    pub name: SecretName,
    /// The newest version's number; the first is 1.
    pub version: u32,
    /// By number; the newest is always among them.
    pub versions: BTreeMap<u32, Arc<SealedVersion>>,
}

impl Secret {
    /// The secret as it was when this version was its newest; none where that is not kept.
    pub fn as_of(&self, version: u64) -> Option<Self> {
        let version = u32::try_from(version).ok().filter(|it| self.versions.contains_key(it))?;
        let versions = self.versions.range(..=version);
        let versions = versions.map(|(number, sealed)| (*number, sealed.clone())).collect();
        Some(Self { id: self.id, name: self.name.clone(), version, versions })
    }

    /// The newest version.
    pub fn newest(&self) -> Option<&Arc<SealedVersion>> {
        self.versions.get(&self.version)
    }
}

//! Keyed hashes of what recognises a retry: without the cluster's hash key nobody can tell from a
//! log or a backup whether a guessed value was in a request.

use ring::hmac;

use super::plaintext::Plaintext;
use crate::registry::Idempotency;

/// Length of the hash key, in bytes.
pub const HASH_KEY_LEN: usize = 32;

/// The cluster's hash key, opened.
pub struct HashKey(hmac::Key);

impl std::fmt::Debug for HashKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HashKey(..)")
    }
}

impl HashKey {
    /// The key from its opened bytes.
    pub fn new(key: &Plaintext) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.expose()))
    }

    /// What recognises a retry: `key` is the caller's and its `Idempotency-Key`, `request` what a
    /// retry has to bring again. Parts are told apart by their lengths.
    pub fn idempotency(&self, key: &[&[u8]], request: &[&[u8]]) -> Idempotency {
        Idempotency {
            key: self.hash(b"holm idempotency key 1", key),
            request: self.hash(b"holm idempotent request 1", request),
        }
    }

    fn hash(&self, label: &[u8], parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.0);
        for part in [label].iter().chain(parts) {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(context.sign().as_ref());
        hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_depends_on_the_key_and_on_where_parts_end() {
        let hash = |seed: u8, parts: &[&[u8]]| {
            let key = HashKey::new(&Plaintext::new(vec![seed; HASH_KEY_LEN]));
            let both = key.idempotency(parts, parts);
            assert_ne!(both.key, both.request);
            both.key
        };
        assert_eq!(hash(1, &[b"ada", b"k"]), hash(1, &[b"ada", b"k"]));
        assert_ne!(hash(1, &[b"ada", b"k"]), hash(2, &[b"ada", b"k"]));
        assert_ne!(hash(1, &[b"ada", b"k"]), hash(1, &[b"adak", b""]));
        assert_ne!(hash(1, &[b"ada", b"k"]), hash(1, &[b"ada", b"k", b""]));
    }
}

//! What is sealed opens where it belongs and nowhere else.

use proptest::prelude::{Strategy as _, any, prop, prop_assert_eq, proptest};
use rand::{CryptoRng, RngCore};

use super::*;
use crate::env::{Entropy, entropy::Stream};
use crate::secrets::keyring::{Keyring, encode};

/// Counts, so that what is sealed with it is the same in every run and with every library.
struct Counting(u8);

impl RngCore for Counting {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill_bytes(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_bytes(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self.0;
            self.0 = self.0.wrapping_add(1);
        }
    }
}

impl CryptoRng for Counting {}

fn ring() -> Keyring {
    let key = |seed: u8| {
        let mut key = [seed; KEY_LEN];
        key[31] = 0;
        encode(&key)
    };
    Keyring::new([(1, key(1).as_str()), (2, key(2).as_str())]).unwrap()
}

fn kek(ring: &Keyring, number: u32) -> &Kek {
    ring.key(&ring.generation(number).unwrap()).unwrap()
}

fn rng() -> Stream {
    Entropy::seeded(3).stream("secrets")
}

fn name(text: &str) -> SecretName {
    SecretName::new(text).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const ID: Id = Id::from_u128(0x7d0f_5b0e_3f5a_4c0e_9c39_1c0a_4be2_86d1);

fn sealed(ring: &Keyring, place: &Place<'_>, algorithm: Algorithm, value: &[u8]) -> SealedVersion {
    let value = Plaintext::new(value.to_vec());
    seal(kek(ring, 1), &mut rng(), place, algorithm, &value, (&"ada".into(), Stamp(7))).unwrap()
}

#[track_caller]
fn refused(opened: Result<Plaintext, OpenError>) {
    assert!(matches!(opened, Err(OpenError::Damaged)), "{opened:?}");
}

proptest! {
    #[test]
    fn what_was_sealed_opens_and_a_flipped_bit_anywhere_does_not(
        value in proptest::collection::vec(any::<u8>(), 0..200),
        algorithm in (0..3usize).prop_map(|at| Algorithm::ALL[at]),
        at in any::<prop::sample::Index>(),
        bit in 0..8u32,
    ) {
        let (ring, name) = (ring(), name("db"));
        let place = Place { cluster: "c", id: ID, name: &name, version: 3 };
        let good = sealed(&ring, &place, algorithm, &value);
        let opened = open(kek(&ring, 1), &place, &good).unwrap();
        prop_assert_eq!(opened.expose(), &value[..]);
        for part in 0..3 {
            let mut bad = good.clone();
            let bytes = [&mut bad.nonce, &mut bad.ciphertext, &mut bad.wrapped];
            let bytes = bytes.into_iter().nth(part).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            refused(open(kek(&ring, 1), &place, &bad));
            let bytes = [&mut bad.nonce, &mut bad.ciphertext, &mut bad.wrapped];
            bytes.into_iter().nth(part).unwrap().truncate(at);
            refused(open(kek(&ring, 1), &place, &bad));
        }
    }

    #[test]
    fn a_value_of_another_place_does_not_open(
        clusters in ("[a-c]{1,3}", "[a-c]{1,3}"),
        ids in (any::<u128>(), any::<u128>()),
        names in ("[a-c:.]{1,3}x", "[a-c:.]{1,3}x"),
        versions in (1..4u32, 1..4u32),
        algorithm in (0..3usize).prop_map(|at| Algorithm::ALL[at]),
    ) {
        let (ring, names) = (ring(), (name(&names.0), name(&names.1)));
        let place = Place {
            cluster: &clusters.0, id: Id::from_u128(ids.0), name: &names.0, version: versions.0,
        };
        let good = sealed(&ring, &place, algorithm, b"hunter2");
        let others = [
            Place { cluster: &clusters.1, ..place },
            Place { id: Id::from_u128(ids.1), ..place },
            Place { name: &names.1, ..place },
            Place { version: versions.1, ..place },
        ];
        for other in others {
            let same = other.cluster == place.cluster && other.id == place.id
                && other.name == place.name && other.version == place.version;
            let opened = open(kek(&ring, 1), &other, &good);
            prop_assert_eq!(opened.is_ok(), same);
        }
    }

    #[test]
    fn no_bytes_panic_the_opener(
        nonce in proptest::collection::vec(any::<u8>(), 0..20),
        ciphertext in proptest::collection::vec(any::<u8>(), 0..40),
        wrapped in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let (ring, name) = (ring(), name("db"));
        let place = Place { cluster: "c", id: ID, name: &name, version: 3 };
        for algorithm in Algorithm::ALL {
            let (nonce, ciphertext) = (nonce.clone(), ciphertext.clone());
            let good = sealed(&ring, &place, algorithm, b"");
            // With the right data key, too, so that the value's part is reached.
            for wrapped in [wrapped.clone(), good.wrapped.clone()] {
                let (nonce, ciphertext) = (nonce.clone(), ciphertext.clone());
                let bad = SealedVersion { nonce, ciphertext, wrapped, ..good.clone() };
                refused(open(kek(&ring, 1), &place, &bad));
            }
        }
        let key = SealedKey { generation: 1, wrapped };
        refused(open_key(kek(&ring, 1), "c", Purpose::HashKey, &key));
    }
}

#[test]
fn parts_of_two_versions_do_not_go_together() {
    let (ring, name) = (ring(), name("db"));
    let place = Place { cluster: "c", id: ID, name: &name, version: 3 };
    for algorithm in Algorithm::ALL {
        let good = sealed(&ring, &place, algorithm, b"hunter2");
        let mut stream = rng();
        stream.next_u64();
        let value = Plaintext::new(b"hunter3".to_vec());
        let author = (&"ada".into(), Stamp(7));
        let other = seal(kek(&ring, 1), &mut stream, &place, algorithm, &value, author).unwrap();
        for bad in [
            SealedVersion { nonce: other.nonce.clone(), ..good.clone() },
            SealedVersion { ciphertext: other.ciphertext.clone(), ..good.clone() },
            SealedVersion { wrapped: other.wrapped.clone(), ..good.clone() },
        ] {
            refused(open(kek(&ring, 1), &place, &bad));
        }
        for wrong in Algorithm::ALL.into_iter().filter(|it| *it != algorithm) {
            refused(open(
                kek(&ring, 1),
                &place,
                &SealedVersion { algorithm: wrong, ..good.clone() },
            ));
        }
    }
}

#[test]
fn a_version_opens_with_its_own_generation_alone() {
    let (ring, name) = (ring(), name("db"));
    let place = Place { cluster: "c", id: ID, name: &name, version: 3 };
    let good = sealed(&ring, &place, Algorithm::Aes256Gcm, b"hunter2");
    let missing = open(kek(&ring, 2), &place, &good).unwrap_err();
    assert_eq!(missing, OpenError::Key(KeyError::Missing(1)));
    refused(open(kek(&ring, 2), &place, &SealedVersion { generation: 2, ..good.clone() }));
    let key = rewrap(kek(&ring, 1), kek(&ring, 2), &mut rng(), &place, &good).unwrap();
    let new = SealedVersion { generation: key.generation, wrapped: key.wrapped, ..good.clone() };
    assert_eq!(open(kek(&ring, 2), &place, &new).unwrap().expose(), b"hunter2");
    assert_eq!((new.ciphertext, new.nonce), (good.ciphertext.clone(), good.nonce.clone()));
    let other = Place { version: 4, ..place };
    let elsewhere = rewrap(kek(&ring, 1), kek(&ring, 2), &mut rng(), &other, &good);
    assert_eq!(elsewhere, Err(OpenError::Damaged));
}

#[test]
fn a_cluster_key_opens_for_its_purpose_alone() {
    let ring = ring();
    let purpose = Purpose::Signing("k1");
    let sealed = seal_key(kek(&ring, 1), &mut rng(), "c", purpose, b"private").unwrap();
    let opened = |cluster, purpose| open_key(kek(&ring, 1), cluster, purpose, &sealed);
    assert_eq!(opened("c", purpose).unwrap().expose(), b"private");
    refused(opened("d", purpose));
    refused(opened("c", Purpose::Signing("k2")));
    refused(opened("c", Purpose::HashKey));
    let missing = open_key(kek(&ring, 2), "c", purpose, &sealed).unwrap_err();
    assert_eq!(missing, OpenError::Key(KeyError::Missing(1)));
    let new = rewrap_key(kek(&ring, 1), kek(&ring, 2), &mut rng(), "c", purpose, &sealed).unwrap();
    assert_eq!(open_key(kek(&ring, 2), "c", purpose, &new).unwrap().expose(), b"private");
}

#[test]
fn a_value_past_the_limit_is_not_sealed() {
    let (ring, name) = (ring(), name("db"));
    let place = Place { cluster: "c", id: ID, name: &name, version: 1 };
    let seal_len = |len: usize| {
        let value = Plaintext::new(vec![b'x'; len]);
        let author = (&"ada".into(), Stamp(7));
        seal(kek(&ring, 1), &mut rng(), &place, Algorithm::Aes256Gcm, &value, author).map(drop)
    };
    assert_eq!(seal_len(VALUE_LEN_MAX), Ok(()));
    assert_eq!(seal_len(VALUE_LEN_MAX + 1), Err(SealError::TooLong));
}

/// The bytes were made by another implementation (Python's `cryptography`, on OpenSSL).
#[test]
fn the_format_of_what_is_sealed_never_changes() {
    let (ring, name) = (ring(), name("prod-db-password"));
    let place = Place { cluster: "holm", id: ID, name: &name, version: 300 };
    let value = Plaintext::new(b"hunter2".to_vec());
    let golden = [
        (
            Algorithm::Aes256Gcm,
            "a70000014c202122232425262728292a2b0257ba4fc80409ea287da2191a00ad7e91ee283cb9\
             5524b7d5030204583c2c2d2e2f3031323334353637d2b2a3470854562a7edd9630bf78c7e8c5\
             9a572d6f4fcbec515a3725052624ce2d267330868829f143ecf8b4bb83adad051b00060a2418\
             1e40000663616461",
        ),
        (
            Algorithm::Aes256GcmSiv,
            "a70001014c202122232425262728292a2b0257a7772295d3a6df3f21f6618cfc08b993d82288\
             4ab4847e030204583c2c2d2e2f3031323334353637d2b2a3470854562a7edd9630bf78c7e8c5\
             9a572d6f4fcbec515a3725052624cea2c990c25d127b3aba3c18ef9698e46b051b00060a2418\
             1e40000663616461",
        ),
        (
            Algorithm::ChaCha20Poly1305,
            "a70002014c202122232425262728292a2b02571b92e608749dce58ace00afa27ee88da6ccd10\
             60b37c52030204583c2c2d2e2f3031323334353637d2b2a3470854562a7edd9630bf78c7e8c5\
             9a572d6f4fcbec515a3725052624ce2f35f6fc77d7c48cf0534e79f12022fb051b00060a2418\
             1e40000663616461",
        ),
    ];
    for (algorithm, golden) in golden {
        let author = (&"ada".into(), Stamp(1_700_000_000_000_000));
        let mut rng = Counting(0);
        let sealed = seal(kek(&ring, 2), &mut rng, &place, algorithm, &value, author).unwrap();
        let bytes = cbor::encode(&sealed);
        assert_eq!(hex(&bytes), golden, "{algorithm:?}");
        let read: SealedVersion = cbor::decode(&bytes).unwrap();
        assert_eq!(open(kek(&ring, 2), &place, &read).unwrap().expose(), b"hunter2");
    }
    let key = seal_key(kek(&ring, 2), &mut Counting(0), "holm", Purpose::HashKey, &[5; 32]);
    let golden = "000102030405060708090a0b03954630efd30b4136ed5bb5fd027468cf39699139939ae76d0e\
             68a293056b2f73b496bf011e9b330d90fc2ef5626917";
    assert_eq!(hex(&key.unwrap().wrapped), golden);
    let purpose = Purpose::Signing("k1");
    let key = seal_key(kek(&ring, 2), &mut Counting(0), "holm", purpose, &[5; 32]);
    let golden = "000102030405060708090a0b03954630efd30b4136ed5bb5fd027468cf39699139939ae76d0e\
             68a293056b2fbeb87fa07e99fa08fd63648f90f17ed8";
    assert_eq!(hex(&key.unwrap().wrapped), golden);
}

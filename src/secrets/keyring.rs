//! The master key's generations that this node holds. A generation's number and the check value of
//! its key are the cluster's (the quorum decides on them); the key itself is never stored, sent or
//! shown by Holm: whoever runs a node hands it in.
//!
//! A key is taken out of the ring only against the [`Generation`] that the cluster knows, so that
//! a wrong key is told from damaged ciphertext before anything is opened or sealed with it.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use imbl::OrdMap;
use rand::RngCore;
use ring::hmac;
use zeroize::Zeroizing;

use crate::registry::command::Generation;

/// Length of a master key, in bytes.
pub const KEY_LEN: usize = 32;
/// Most generations that a node holds.
pub const GENERATIONS_MAX: usize = 16;
/// Longest text that is looked at as a key, in bytes.
pub const TEXT_LEN_MAX: usize = 256;

/// What the wrapping key is derived for. Never changes: everything sealed depends on it.
const WRAP: &[u8] = b"holm master key: wrapping, format 1";
/// What the check value is derived for.
const CHECK: &[u8] = b"holm master key: check, format 1";

/// Why a key cannot be used. Nothing was opened, sealed or changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A text that is no key. It is not repeated here.
    #[error(
        "the key of generation {0} is not the base64 of 32 bytes, as `holm keys generate` writes it"
    )]
    Text(u32),
    /// A key that nobody has drawn.
    #[error("the key of generation {0} is no random one: it is all zeros")]
    Weak(u32),
    /// Generations count from 1.
    #[error("there is no generation 0 of the master key: they count from 1")]
    Zero,
    /// A generation was given twice.
    #[error("generation {0} of the master key is given twice")]
    Twice(u32),
    /// More than [`GENERATIONS_MAX`].
    #[error("more than 16 generations of the master key are given")]
    TooMany,
    /// The cluster uses a generation whose key this node does not hold.
    #[error("this node does not hold generation {0} of the master key, which the cluster uses")]
    Missing(u32),
    /// The node holds another key under this number than the cluster.
    #[error(
        "this node holds another key as generation {0} of the master key than the cluster: its \
         check value is not the cluster's"
    )]
    Wrong(u32),
    /// The cluster has not been founded, or does not know this generation.
    #[error("the cluster does not know generation {0} of the master key")]
    Unknown(u32),
    /// The cluster has no generation at all: it has not been founded.
    #[error("the cluster has no master key yet: it has not been founded")]
    NotFounded,
}

/// A key-encryption key: one generation, ready to wrap and unwrap.
pub struct Kek {
    generation: Generation,
    wrap: Zeroizing<[u8; KEY_LEN]>,
}

impl Kek {
    /// The generation's number.
    pub fn number(&self) -> u32 {
        self.generation.number
    }

    /// What the cluster knows of it: its number and check value.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    pub(super) fn wrapping_key(&self) -> &[u8; KEY_LEN] {
        &self.wrap
    }

    fn derive(number: u32, key: &[u8; KEY_LEN]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        let derived = |label| {
            let mut bytes = Zeroizing::new([0; KEY_LEN]);
            bytes.copy_from_slice(hmac::sign(&key, label).as_ref());
            bytes
        };
        Self { generation: Generation { number, check: *derived(CHECK) }, wrap: derived(WRAP) }
    }
}

impl fmt::Debug for Kek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kek").field("generation", &self.generation.number).finish_non_exhaustive()
    }
}

/// Where the key of a generation comes from: a file, the environment, a key management service.
/// Asked once, when a process starts.
pub trait KeyProvider {
    /// Which generation it has.
    fn generation(&self) -> u32;

    /// The key's text. The error says what to do, and never repeats the key.
    fn text(&self) -> Result<Zeroizing<String>, String>;
}

/// The generations that this node holds, by number.
#[derive(Debug, Default)]
pub struct Keyring(BTreeMap<u32, Kek>);

impl Keyring {
    /// A ring of these generations, each a number and the key's text.
    pub fn new<'a>(keys: impl IntoIterator<Item = (u32, &'a str)>) -> Result<Self, KeyError> {
        let mut ring = Self::default();
        for (number, text) in keys {
            let key = parse(number, text)?;
            if number == 0 {
                return Err(KeyError::Zero);
            }
            if ring.0.len() == GENERATIONS_MAX {
                return Err(KeyError::TooMany);
            }
            if ring.0.insert(number, Kek::derive(number, &key)).is_some() {
                return Err(KeyError::Twice(number));
            }
        }
        Ok(ring)
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The numbers it holds, in their order.
    pub fn numbers(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.keys().copied()
    }

    /// What the cluster would know of the generation `number`, if it is held: for founding, and for
    /// adding a generation.
    pub fn generation(&self, number: u32) -> Option<Generation> {
        self.0.get(&number).map(Kek::generation)
    }

    /// The key of a generation that the cluster knows.
    pub fn key(&self, generation: &Generation) -> Result<&Kek, KeyError> {
        let kek = self.0.get(&generation.number).ok_or(KeyError::Missing(generation.number))?;
        if kek.generation.check == generation.check {
            Ok(kek)
        } else {
            Err(KeyError::Wrong(generation.number))
        }
    }

    /// The key of the cluster's generation `number`.
    pub fn of(&self, generations: &OrdMap<u32, Generation>, number: u32) -> Result<&Kek, KeyError> {
        self.key(generations.get(&number).ok_or(KeyError::Unknown(number))?)
    }

    /// The key that new data keys are wrapped by: the cluster's highest generation.
    pub fn current(&self, generations: &OrdMap<u32, Generation>) -> Result<&Kek, KeyError> {
        let (_, newest) = generations.get_max().ok_or(KeyError::NotFounded)?;
        self.key(newest)
    }

    /// Whether it holds the right key of every generation that the cluster uses; the error names
    /// the first that it does not.
    pub fn check(&self, generations: &OrdMap<u32, Generation>) -> Result<(), KeyError> {
        generations.values().try_for_each(|generation| self.key(generation).map(drop))
    }
}

/// A new key, as text: what `holm keys generate` writes.
pub fn generate(rng: &mut impl RngCore) -> Zeroizing<String> {
    let mut key = Zeroizing::new([0; KEY_LEN]);
    rng.fill_bytes(&mut *key);
    encode(&key)
}

/// The text of this key.
pub fn encode(key: &[u8; KEY_LEN]) -> Zeroizing<String> {
    Zeroizing::new(STANDARD.encode(key))
}

/// Reads a key that is no master key, in the same form.
pub(crate) fn parse_key(text: &str) -> Result<Zeroizing<[u8; KEY_LEN]>, KeyError> {
    parse(1, text)
}

fn parse(number: u32, text: &str) -> Result<Zeroizing<[u8; KEY_LEN]>, KeyError> {
    let text = text.trim();
    let mut key = Zeroizing::new([0; KEY_LEN]);
    if text.len() > TEXT_LEN_MAX {
        return Err(KeyError::Text(number));
    }
    let bytes = Zeroizing::new(STANDARD.decode(text).unwrap_or_default());
    if bytes.len() != KEY_LEN {
        return Err(KeyError::Text(number));
    }
    if bytes.iter().all(|byte| *byte == 0) {
        return Err(KeyError::Weak(number));
    }
    key.copy_from_slice(&bytes);
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Entropy;

    fn text(seed: u8) -> Zeroizing<String> {
        let mut key = [seed; KEY_LEN];
        key[0] = !seed;
        encode(&key)
    }

    fn ring(keys: &[(u32, u8)]) -> Keyring {
        let texts: Vec<_> = keys.iter().map(|(n, seed)| (*n, text(*seed))).collect();
        Keyring::new(texts.iter().map(|(n, text)| (*n, text.as_str()))).unwrap()
    }

    #[test]
    fn a_generated_key_is_taken_and_never_shown() {
        let text = generate(&mut Entropy::seeded(1).stream("master-key"));
        let ring = Keyring::new([(1, &*format!("{}\n", *text))]).unwrap();
        let shown = format!("{ring:?} {:?}", ring.0[&1]);
        assert!(!shown.contains(&text[..8]) && shown.contains("generation: 1"), "{shown}");
        assert_ne!(*text, *generate(&mut Entropy::seeded(2).stream("master-key")));
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_repeated() {
        let (good, hex) = (text(1), "0".repeat(64));
        for bad in ["", "hunter2", &good[..40], &hex, &"A".repeat(5000)] {
            let error = Keyring::new([(3, bad)]).unwrap_err();
            assert_eq!(error, KeyError::Text(3), "{bad:?}");
            assert!(bad.is_empty() || !error.to_string().contains(bad));
        }
        let zeros = encode(&[0; KEY_LEN]);
        assert_eq!(Keyring::new([(1, zeros.as_str())]).unwrap_err(), KeyError::Weak(1));
        assert_eq!(Keyring::new([(0, good.as_str())]).unwrap_err(), KeyError::Zero);
        let twice = [(1, good.as_str()), (1, good.as_str())];
        assert_eq!(Keyring::new(twice).unwrap_err(), KeyError::Twice(1));
        let many = (1..=17).map(|n| (n, good.as_str()));
        assert_eq!(Keyring::new(many).unwrap_err(), KeyError::TooMany);
    }

    #[test]
    fn a_wrong_key_is_told_from_a_missing_one() {
        let (right, wrong, old) = (ring(&[(1, 1), (2, 2)]), ring(&[(1, 9)]), ring(&[(1, 1)]));
        let known: OrdMap<u32, Generation> =
            [1, 2].into_iter().map(|n| (n, right.generation(n).unwrap())).collect();
        assert_eq!(right.check(&known), Ok(()));
        assert_eq!(right.current(&known).unwrap().number(), 2);
        assert_eq!(wrong.check(&known), Err(KeyError::Wrong(1)));
        assert_eq!(old.check(&known), Err(KeyError::Missing(2)));
        assert_eq!(old.of(&known, 1).unwrap().number(), 1);
        assert_eq!(old.of(&known, 7).unwrap_err(), KeyError::Unknown(7));
        assert_eq!(old.current(&OrdMap::new()).unwrap_err(), KeyError::NotFounded);
    }

    #[test]
    fn a_check_value_never_changes_and_is_not_the_key() {
        let mut key = [7; KEY_LEN];
        key[0] = 8;
        let ring = Keyring::new([(1, encode(&key).as_str())]).unwrap();
        let check = ring.generation(1).unwrap().check;
        assert_ne!(check, *ring.0[&1].wrap);
        let hex: String = check.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "70653d5f2dfc9b1c173df39c8ca1763c63b80a7b2e89dcce50406e91f0be0f1a");
    }
}

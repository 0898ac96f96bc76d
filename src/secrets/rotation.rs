//! Rotation, planned: which keys another generation of the master key should wrap, and what still
//! uses which. Pure: what is planned is proposed by who asked, as often as it takes; a plan that
//! was lost half-way is made again from the state as it is.

use std::collections::BTreeMap;

use rand::CryptoRng;

use super::keyring::{Kek, Keyring};
use super::seal::{self, OpenError, Place, Purpose};
use schemars::JsonSchema;

use crate::registry::State;
use crate::registry::command::{Rewrapped, Wrapped};

/// What one generation wraps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, JsonSchema)]
#[schemars(rename = "KeyUsage")]
pub struct Usage {
    /// Versions of secrets.
    pub versions: u64,
    /// Keys that sign tokens.
    pub signing_keys: u64,
    /// The key of idempotency hashes: 1 or 0.
    pub hash_keys: u64,
}

impl Usage {
    /// All keys it wraps.
    pub fn total(&self) -> u64 {
        self.versions + self.signing_keys + self.hash_keys
    }
}

/// What every generation wraps, those that the cluster does not know included.
pub fn usage(state: &State) -> BTreeMap<u32, Usage> {
    let mut usage: BTreeMap<u32, Usage> =
        state.generations.keys().map(|number| (*number, Usage::default())).collect();
    for secret in state.secrets.values() {
        for sealed in secret.versions.values() {
            usage.entry(sealed.generation).or_default().versions += 1;
        }
    }
    for key in state.signing.values() {
        usage.entry(key.private.generation).or_default().signing_keys += 1;
    }
    if let Some(key) = &state.hash_key {
        usage.entry(key.generation).or_default().hash_keys += 1;
    }
    usage
}

/// The next keys to wrap by another generation.
#[derive(Debug, Default)]
pub struct Batch {
    /// To be proposed.
    pub rewrapped: Vec<Rewrapped>,
    /// How many more are left behind these.
    pub left: u64,
    /// What does not open, and so cannot be re-wrapped: `name@version`, a signing key, the hash
    /// key; with why. No more than [`DAMAGED_MAX`] of them.
    pub damaged: Vec<(String, OpenError)>,
    /// How many do not open, all in all.
    pub damaged_count: u64,
}

/// Most damaged things that a batch names.
pub const DAMAGED_MAX: usize = 32;

impl Batch {
    fn take(
        &mut self,
        what: Wrapped,
        name: impl FnOnce() -> String,
        from: u32,
        key: Result<crate::registry::command::SealedKey, OpenError>,
    ) {
        match key {
            Ok(key) => self.rewrapped.push(Rewrapped { what, from, key }),
            Err(error) => {
                self.damaged_count += 1;
                if self.damaged.len() < DAMAGED_MAX {
                    self.damaged.push((name(), error));
                }
            }
        }
    }
}

/// Up to `max` keys that another generation than `to` wraps, wrapped by `to`. The cluster's own
/// keys come first: without them nobody gets a token.
pub fn next(
    state: &State,
    keyring: &Keyring,
    to: &Kek,
    rng: &mut impl CryptoRng,
    cluster: &str,
    max: usize,
) -> Batch {
    let mut batch = Batch::default();
    let number = to.number();
    let of = |generation| keyring.of(&state.generations, generation).map_err(OpenError::Key);
    if let Some(key) = state.hash_key.as_ref().filter(|key| key.generation != number) {
        let (from, purpose) = (key.generation, Purpose::HashKey);
        let new = of(from).and_then(|kek| seal::rewrap_key(kek, to, rng, cluster, purpose, key));
        batch.take(Wrapped::HashKey, || "the hash key".to_owned(), from, new);
    }
    for key in state.signing.values().filter(|key| key.private.generation != number) {
        let (from, purpose) = (key.private.generation, Purpose::Signing(&key.kid));
        let new =
            of(from).and_then(|kek| seal::rewrap_key(kek, to, rng, cluster, purpose, &key.private));
        let name = || format!("the signing key {}", key.kid);
        batch.take(Wrapped::Signing(key.kid.clone()), name, from, new);
    }
    for secret in state.secrets.values() {
        let old = secret.versions.iter().filter(|(_, sealed)| sealed.generation != number);
        for (version, sealed) in old {
            if batch.rewrapped.len() >= max {
                batch.left += 1;
                continue;
            }
            let (id, name, from) = (secret.id, &secret.name, sealed.generation);
            let place = Place { cluster, id, name, version: *version };
            let new = of(from).and_then(|kek| seal::rewrap(kek, to, rng, &place, sealed));
            let what = Wrapped::Version(id, *version);
            batch.take(what, || format!("{name}@{version}"), from, new);
        }
    }
    batch
}

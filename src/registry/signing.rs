//! The keys that sign the cluster's own tokens: made, opened, and which of them signs now, is due to
//! be followed or can go. Time is an argument; who proposes what comes of it is the caller's.

use std::sync::Arc;
use std::time::Duration;

use rand::CryptoRng;
use zeroize::Zeroizing;

use super::command::SigningKey;
use super::state::State;
use crate::access::MintKey;
use crate::access::token::OwnKeys;
use crate::model::{Stamp, Text};
use crate::secrets::Keyring;
use crate::secrets::keyring::Kek;
use crate::secrets::seal::{self, Purpose};

/// How long a key is published before it signs: by then every node that hears of the quorum has it,
/// and whoever verifies with `/.well-known/jwks.json` can have fetched it.
pub const PUBLISHED_BEFORE: Duration = Duration::from_secs(60);
/// How much longer than a token's lifetime an old key stays, for clocks that differ.
const RETIRED_LATER: Duration = Duration::from_secs(300);

/// Why a key cannot be made or opened. It says nothing of the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SigningError {
    /// There is none: the cluster is not founded yet.
    #[error("the cluster has no key to sign tokens with yet")]
    None,
    /// The master key that it is sealed with is not here, or it was changed.
    #[error("the key that signs tokens cannot be used: {0}")]
    Sealed(String),
}

impl OwnKeys for State {
    fn public(&self, kid: &Text) -> Option<[u8; 32]> {
        self.signing.get(kid).map(|key| key.public)
    }
}

/// A new key, sealed.
pub fn make(
    kek: &Kek,
    rng: &mut impl CryptoRng,
    cluster: &str,
    now: Stamp,
) -> Result<SigningKey, SigningError> {
    let mut seed = Zeroizing::new([0; 32]);
    rng.fill_bytes(&mut *seed);
    let key = MintKey::from_seed(&seed).map_err(sealed)?;
    let private = seal::seal_key(kek, rng, cluster, Purpose::Signing(key.kid()), &*seed);
    let private = private.map_err(sealed)?;
    Ok(SigningKey { kid: key.kid().into(), public: *key.public(), private, created_at: now })
}

/// The key that signs at `now`, opened.
pub fn open(
    state: &State,
    keyring: &Keyring,
    cluster: &str,
    now: Stamp,
) -> Result<MintKey, SigningError> {
    let key = signs(state, now).ok_or(SigningError::None)?;
    let kek = keyring.of(&state.generations, key.private.generation).map_err(sealed)?;
    let seed = seal::open_key(kek, cluster, Purpose::Signing(&key.kid), &key.private);
    let seed = seed.map_err(sealed)?;
    let seed: &[u8; 32] = seed.expose().try_into().map_err(|_| SigningError::None)?;
    MintKey::from_seed(seed).map_err(sealed)
}

fn sealed(error: impl std::fmt::Display) -> SigningError {
    SigningError::Sealed(error.to_string())
}

/// The newest key that was published long enough; where none was, the oldest there is.
pub fn signs(state: &State, now: Stamp) -> Option<&Arc<SigningKey>> {
    let published = state.signing.values().filter(|key| passed(key, PUBLISHED_BEFORE, now));
    published
        .max_by_key(|key| (key.created_at, key.kid.clone()))
        .or_else(|| state.signing.values().min_by_key(|key| (key.created_at, key.kid.clone())))
}

/// Whether the newest key has signed for so long that another one is due.
pub fn is_due(state: &State, lifetime: Duration, now: Stamp) -> bool {
    state.signing_key().is_some_and(|key| passed(key, lifetime, now))
}

/// The keys whose last tokens have expired: those that another one took over from before the
/// longest token's time.
pub fn retirable(state: &State, token_lifetime: Duration, now: Stamp) -> Vec<Text> {
    let Some(signs) = signs(state, now) else { return Vec::new() };
    let over = PUBLISHED_BEFORE + token_lifetime + RETIRED_LATER;
    if !passed(signs, over, now) {
        return Vec::new();
    }
    let older = state.signing.values().filter(|key| key.created_at < signs.created_at);
    older.map(|key| key.kid.clone()).collect()
}

fn passed(key: &SigningKey, length: Duration, now: Stamp) -> bool {
    let micros = u64::try_from(length.as_micros()).unwrap_or(u64::MAX);
    key.created_at.0.saturating_add(micros) <= now.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Entropy;
    use crate::registry::fixture::{NOW, founded, generation, signing_key};

    fn at(seconds: u64) -> Stamp {
        Stamp(NOW.0 + seconds * 1_000_000)
    }

    fn with(keys: &[(&str, u64)]) -> State {
        let mut state = founded();
        state.signing.clear();
        for (kid, created) in keys {
            state.signing.insert((*kid).into(), Arc::new(signing_key(kid, at(*created))));
        }
        state
    }

    #[test]
    fn a_key_signs_once_it_was_published_and_goes_when_its_tokens_are_over() {
        let day = Duration::from_secs(86_400);
        let minute = Duration::from_secs(60);
        let state = with(&[("a", 0), ("b", 1000)]);
        let signs = |s| signs(&state, at(s)).map(|key| key.kid.to_string()).unwrap();
        assert_eq!((signs(0), signs(1059), signs(1060)), ("a".into(), "a".into(), "b".into()));
        assert!(!is_due(&state, day, at(1000 + 86_399)) && is_due(&state, day, at(1000 + 86_400)));
        let gone = |s| retirable(&state, minute, at(s)).len();
        assert_eq!((gone(1419), gone(1420)), (0, 1));
        assert_eq!(retirable(&state, minute, at(5000)), ["a".into()]);
    }

    #[test]
    fn a_new_clusters_only_key_signs_at_once_and_stays() {
        let state = with(&[("a", 100)]);
        assert_eq!(&*signs(&state, at(0)).unwrap().kid, "a");
        assert!(retirable(&state, Duration::ZERO, at(1 << 30)).is_empty());
        assert!(signs(&with(&[]), at(0)).is_none());
    }

    #[test]
    fn a_key_opens_in_its_cluster_with_its_master_key_alone() {
        let mut rng = Entropy::seeded(1).stream("signing");
        let ring = |seed| {
            let mut key = [seed; 32];
            key[0] = 99;
            Keyring::new([(1, crate::secrets::keyring::encode(&key).as_str())]).unwrap()
        };
        let (right, wrong) = (ring(1), ring(2));
        let own = right.generation(1).unwrap();
        let key = make(right.key(&own).unwrap(), &mut rng, "test", NOW).unwrap();
        let mut state = with(&[]);
        state.generations.insert(1, own);
        state.signing.insert(key.kid.clone(), Arc::new(key.clone()));
        let opened = open(&state, &right, "test", NOW).unwrap();
        assert_eq!((opened.kid(), opened.public()), (&*key.kid, &key.public));
        assert!(open(&state, &right, "other", NOW).is_err());
        assert!(open(&state, &wrong, "test", NOW).is_err());
        state.generations.insert(1, generation(1));
        assert!(open(&state, &right, "test", NOW).is_err());
    }
}

//! Generations of the master key, and keys that sign tokens: which there are and what they wrap.
//! The keys themselves are never here in the clear.

use std::sync::Arc;

use super::{Work, exists, invalid, limit, not_found};
use crate::model::Text;
use crate::registry::command::{
    Generation, Outcome, Refusal, Rewrapped, SealedKey, SigningKey, Wrapped,
};
use crate::registry::limits::{
    GENERATIONS_MAX, KID_LEN_MAX, REWRAPPED_MAX, SIGNING_KEYS_MAX, WRAPPED_LEN_MAX,
};
use crate::registry::rows::Which;
use crate::registry::state::State;
use crate::secrets::{SealedVersion, Secret};

impl Work {
    pub(super) fn add_generation(&mut self, generation: Generation) -> Result<Outcome, Refusal> {
        let number = generation.number;
        match self.state.generations.get(&number) {
            Some(known) if *known == generation => return Ok(Outcome::Done),
            Some(_) => return Err(exists(format!("generation {number}, of another key,"))),
            None => {}
        }
        let current = self.state.current_generation().map_or(0, |it| it.number);
        if current.checked_add(1) != Some(number) {
            return Err(invalid(&format!("generation {number} does not follow {current}")));
        }
        let generations = &mut self.state.generations;
        limit(generations.len() + 1, GENERATIONS_MAX, "generations of the master key")?;
        generations.insert(number, generation);
        self.changed.push(Which::Generation(number));
        Ok(Outcome::Done)
    }

    pub(super) fn rewrap(&mut self, rewrapped: &[Rewrapped]) -> Result<Outcome, Refusal> {
        limit(rewrapped.len(), REWRAPPED_MAX, "keys in one re-wrapping")?;
        for one in rewrapped {
            self.check_sealed_key(&one.key)?;
        }
        let mut count = 0;
        for one in rewrapped {
            let done = match &one.what {
                Wrapped::Version(id, version) => self.rewrap_version(*id, *version, one),
                Wrapped::Signing(kid) => {
                    let key = self.state.signing.get_mut(kid);
                    let key = key.filter(|key| key.private.generation == one.from);
                    key.map(|key| Arc::make_mut(key).private = one.key.clone()).is_some()
                }
                Wrapped::HashKey => {
                    let key = self.state.hash_key.as_mut();
                    let key = key.filter(|key| key.generation == one.from);
                    key.map(|key| *key = one.key.clone()).is_some()
                }
            };
            if done {
                count += 1;
                self.changed.push(match &one.what {
                    Wrapped::Version(id, version) => Which::Version(*id, *version),
                    Wrapped::Signing(kid) => Which::Signing(kid.clone()),
                    Wrapped::HashKey => Which::HashKey,
                });
            }
        }
        Ok(Outcome::Rewrapped(count))
    }

    fn rewrap_version(&mut self, id: crate::model::Id, version: u32, one: &Rewrapped) -> bool {
        let Some(secret) = self.state.secrets.get(&id) else { return false };
        let Some(sealed) = secret.versions.get(&version) else { return false };
        if sealed.generation != one.from {
            return false;
        }
        let (generation, wrapped) = (one.key.generation, one.key.wrapped.clone());
        let sealed = SealedVersion { generation, wrapped, ..SealedVersion::clone(sealed) };
        let mut secret = Secret::clone(secret);
        secret.versions.insert(version, Arc::new(sealed));
        self.state.secrets.insert(id, Arc::new(secret));
        true
    }

    pub(super) fn retire_generation(&mut self, number: u32) -> Result<Outcome, Refusal> {
        if !self.state.generations.contains_key(&number) {
            return Err(not_found(format!("generation {number}")));
        }
        if self.state.current_generation().is_some_and(|current| current.number == number) {
            return Err(invalid(&format!("generation {number} is the current one")));
        }
        if wraps_anything(&self.state, number) {
            return Err(invalid(&format!("generation {number} still wraps keys: re-wrap them")));
        }
        self.state.generations.remove(&number);
        self.changed.push(Which::Generation(number));
        Ok(Outcome::Done)
    }

    pub(super) fn add_signing_key(&mut self, key: &SigningKey) -> Result<Outcome, Refusal> {
        match self.state.signing.get(&key.kid) {
            Some(known) if known.public == key.public => return Ok(Outcome::Done),
            Some(_) => return Err(exists(format!("the signing key {}", key.kid))),
            None => {}
        }
        limit(key.kid.len(), KID_LEN_MAX, "bytes in a signing key's name")?;
        self.check_sealed_key(&key.private)?;
        limit(self.state.signing.len() + 1, SIGNING_KEYS_MAX, "signing keys: retire one first")?;
        self.state.signing.insert(key.kid.clone(), Arc::new(key.clone()));
        self.changed.push(Which::Signing(key.kid.clone()));
        Ok(Outcome::Done)
    }

    pub(super) fn retire_signing_key(&mut self, kid: &Text) -> Result<Outcome, Refusal> {
        if !self.state.signing.contains_key(kid) {
            return Err(not_found(format!("the signing key {kid}")));
        }
        if self.state.signing_key().is_some_and(|signs| signs.kid == *kid) {
            return Err(invalid("this key signs tokens: add another one first"));
        }
        self.state.signing.remove(kid);
        self.changed.push(Which::Signing(kid.clone()));
        Ok(Outcome::Done)
    }

    /// A key that is wrapped by what is not there any more would be lost.
    pub(super) fn check_sealed_key(&self, key: &SealedKey) -> Result<(), Refusal> {
        limit(key.wrapped.len(), WRAPPED_LEN_MAX, "bytes in a wrapped key")?;
        if self.state.generations.contains_key(&key.generation) {
            return Ok(());
        }
        Err(invalid(&format!("generation {} is not in use", key.generation)))
    }
}

fn wraps_anything(state: &State, number: u32) -> bool {
    let mut versions = state.secrets.values().flat_map(|secret| secret.versions.values());
    state.hash_key.as_ref().is_some_and(|key| key.generation == number)
        || state.signing.values().any(|key| key.private.generation == number)
        || versions.any(|sealed| sealed.generation == number)
}

//! The secrets that an agent holds: the listed ones, in memory that is overwritten when they go. They
//! are looked at every so often, fetched again where there is a newer version, and let go where a region
//! says that they are gone or not for this account, or where none has confirmed them for too long.
//!
//! A value is never logged, and goes to disk only sealed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::Rng as _;
use tokio::sync::watch;

use super::sealed::{self, NAME, Sealed, SealedError};
use super::settings::SecretSettings;
use crate::client::{Client, ClientError, SecretInfo};
use crate::env::{Disk, Env, WallClock};
use crate::model::{SecretName, Stamp};
use crate::secrets::Plaintext;

/// How soon what failed is tried again, at the latest.
const RETRY_PAUSE: Duration = Duration::from_secs(10);

/// A secret that is held.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) info: SecretInfo,
    pub(super) value: Plaintext,
    /// When a region last said that this is its value.
    pub(super) confirmed_at: Stamp,
}

/// What is held, and what is wrong. Clones are one.
#[derive(Clone)]
pub(super) struct Vault(Arc<Shared>);

struct Shared {
    names: Vec<SecretName>,
    clock: Arc<dyn WallClock>,
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    held: BTreeMap<SecretName, Arc<Held>>,
    problems: BTreeMap<SecretName, String>,
    file: Option<SealedError>,
}

/// What one look at a secret came to.
enum Look {
    /// It is as it was.
    Same,
    /// It is new, or was let go.
    Changed,
    /// No region said.
    Unknown,
}

impl Vault {
    /// One that holds nothing yet.
    pub(super) fn new(names: &[SecretName], clock: Arc<dyn WallClock>) -> Self {
        let (state, changes) = (Mutex::default(), watch::Sender::new(0));
        Self(Arc::new(Shared { names: names.to_vec(), clock, state, changes }))
    }

    /// Whether this secret may be asked for at all.
    pub(super) fn lists(&self, name: &str) -> bool {
        self.0.names.iter().any(|listed| listed.as_str() == name)
    }

    /// A secret, if it is held. To be dropped soon: who has it keeps it in memory.
    pub(super) fn get(&self, name: &str) -> Option<Arc<Held>> {
        self.state().held.get(name).cloned()
    }

    /// Everything that is held.
    pub(super) fn all(&self) -> Vec<Arc<Held>> {
        self.state().held.values().cloned().collect()
    }

    /// Why a secret is not held, or not up to date.
    pub(super) fn problem(&self, name: &str) -> Option<String> {
        self.state().problems.get(name).cloned()
    }

    /// What is wrong, each with what it is about.
    pub(super) fn problems(&self) -> Vec<String> {
        let state = self.state();
        let mut all: Vec<String> =
            state.problems.iter().map(|(name, why)| format!("secret {name}: {why}")).collect();
        all.extend(state.file.as_ref().map(ToString::to_string));
        all
    }

    /// The listed ones that are not held.
    pub(super) fn missing(&self) -> Vec<SecretName> {
        let state = self.state();
        self.0.names.iter().filter(|name| !state.held.contains_key(*name)).cloned().collect()
    }

    /// How long ago each that is held was confirmed.
    pub(super) fn ages(&self) -> Vec<(SecretName, Duration)> {
        let now = self.0.clock.now();
        let state = self.state();
        let ago = |held: &Held| Duration::from_micros(now.0.saturating_sub(held.confirmed_at.0));
        state.held.iter().map(|(name, held)| (name.clone(), ago(held))).collect()
    }

    /// Says when a value is another one, or gone.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// Lets all of them go.
    pub(super) fn release(&self) {
        self.state().held.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what an earlier run sealed, as far as it is still listed and young enough.
    fn take_in(&self, loaded: Result<Vec<Held>, SealedError>, max_age: Duration) {
        let mut state = self.state();
        match loaded {
            Ok(all) => {
                let now = self.0.clock.now();
                for held in all {
                    let name = sealed::name(&held).clone();
                    let is_young = !is_expired(&held, now, max_age);
                    if is_young && self.0.names.contains(&name) {
                        state.held.insert(name, Arc::new(held));
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the sealed secrets are not used");
                state.file = Some(error);
            }
        }
    }

    /// Lets go what nobody confirmed for too long. Says whether there was any.
    fn expire(&self, max_age: Duration) -> bool {
        let now = self.0.clock.now();
        let mut state = self.state();
        let before = state.held.len();
        let old: Vec<SecretName> = state
            .held
            .iter()
            .filter(|(_, held)| is_expired(held, now, max_age))
            .map(|(name, _)| name.clone())
            .collect();
        for name in old {
            tracing::warn!(secret = %name, "a secret that no region confirmed is let go");
            state.held.remove(&name);
        }
        state.held.len() < before
    }

    /// Looks at one secret.
    async fn look(&self, client: &Client, name: &SecretName) -> Look {
        let asked = self.fetch(client, name).await;
        let mut state = self.state();
        match asked {
            Ok(None) => {
                state.problems.remove(name);
                let Some(held) = state.held.get_mut(name) else { return Look::Same };
                // In place where nobody else holds it; else the next look does it.
                if let Some(held) = Arc::get_mut(held) {
                    held.confirmed_at = self.0.clock.now();
                }
                Look::Same
            }
            Ok(Some(held)) => {
                state.problems.remove(name);
                tracing::info!(secret = %name, version = held.info.version, "a secret is held");
                state.held.insert(name.clone(), Arc::new(held));
                Look::Changed
            }
            Err(error) => {
                let is_gone = matches!(error.refusal().map(|it| it.status), Some(403 | 404 | 410));
                tracing::warn!(secret = %name, %error, "a secret cannot be had");
                state.problems.insert(name.clone(), error.to_string());
                match is_gone && state.held.remove(name).is_some() {
                    true => Look::Changed,
                    false if is_gone => Look::Same,
                    false => Look::Unknown,
                }
            }
        }
    }

    /// The secret, where it is another one than is held.
    async fn fetch(&self, client: &Client, name: &SecretName) -> Result<Option<Held>, ClientError> {
        let info = client.secret(name).await?;
        let known = self.get(name.as_str()).map(|held| (held.info.id.clone(), held.info.version));
        if known == Some((info.id.clone(), info.version)) {
            return Ok(None);
        }
        // Asking for the columns first spares an audit record for each look.
        let value = client.reveal_secret(name, Some(info.version)).await?;
        Ok(Some(Held { info, value, confirmed_at: self.0.clock.now() }))
    }
}

fn is_expired(held: &Held, now: Stamp, max_age: Duration) -> bool {
    let ago = Duration::from_micros(now.0.saturating_sub(held.confirmed_at.0));
    ago > max_age
}

/// What keeps a vault up to date.
pub(super) struct Keeper {
    pub(super) vault: Vault,
    pub(super) client: Client,
    pub(super) settings: SecretSettings,
    pub(super) sealed: Option<Arc<Sealed>>,
    pub(super) env: Env,
}

impl Keeper {
    /// Takes in what is on disk, and takes off what may not be there.
    pub(super) async fn load(&self) {
        let Some(sealed) = self.sealed.clone() else {
            let disk: Arc<dyn Disk> = self.env.disk.clone();
            // Without a key there may be nothing on disk, also of an earlier run.
            let removed = self.env.blocking.run(move || disk.remove(NAME)).await;
            if let Err(error) = removed {
                tracing::warn!(%error, "an earlier run's sealed secrets cannot be removed");
            }
            return;
        };
        let loaded = self.env.blocking.run(move || sealed.load()).await;
        let was_whole = loaded.as_ref().map(Vec::len).ok();
        self.vault.take_in(loaded, self.settings.max_age);
        // What is not listed any more, or too old, is not to stay there.
        if was_whole.is_some_and(|count| count != self.vault.all().len()) {
            self.save().await;
        }
    }

    /// One look at all of them. Says whether every region's word is known.
    pub(super) async fn look(&self) -> bool {
        let (mut is_known, mut is_changed) = (true, false);
        for name in self.vault.0.names.clone() {
            match self.vault.look(&self.client, &name).await {
                Look::Same => {}
                Look::Changed => is_changed = true,
                Look::Unknown => is_known = false,
            }
        }
        is_changed |= self.vault.expire(self.settings.max_age);
        if is_changed {
            self.vault.0.changes.send_modify(|count| *count += 1);
        }
        // Also with nothing but a later confirmation: else it would expire after a restart.
        if is_changed || is_known {
            self.save().await;
        }
        is_known
    }

    /// Looks at them for as long as the task lives.
    pub(super) async fn run(self, mut was_known: bool) {
        if self.vault.0.names.is_empty() {
            return;
        }
        let mut random = self.env.entropy.stream("agent-secrets");
        loop {
            let retry = RETRY_PAUSE.min(self.settings.refresh);
            let pause = if was_known { self.settings.refresh } else { retry };
            let pause = pause.min(self.settings.max_age).mul_f64(random.random_range(0.8..1.0));
            tokio::time::sleep(pause).await;
            was_known = self.look().await;
        }
    }

    async fn save(&self) {
        let Some(sealed) = self.sealed.clone() else { return };
        let held = self.vault.all();
        let mut rng = self.env.entropy.stream("agent-seal");
        let saved = self.env.blocking.run(move || sealed.save(&held, &mut rng)).await;
        if let Err(error) = &saved {
            tracing::warn!(%error, "secrets are not on disk");
        }
        self.vault.state().file = saved.err();
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// A secret as it was fetched at the beginning of time.
    pub(in crate::agent) fn held(name: &str, value: &str) -> Held {
        let info = format!("{{\"id\":\"i\",\"name\":\"{name}\",\"version\":3}}");
        Held {
            info: serde_json::from_str(&info).unwrap(),
            value: Plaintext::new(value.as_bytes().to_vec()),
            confirmed_at: Stamp(1_000_000),
        }
    }

    /// A vault that lists these and holds them.
    pub(in crate::agent) fn vault(all: &[(&str, &str)]) -> Vault {
        let names: Vec<SecretName> =
            all.iter().map(|(name, _)| SecretName::new(name).unwrap()).collect();
        let vault = Vault::new(&names, Arc::new(crate::env::ManualClock::new(Stamp(1_000_000))));
        let all = all.iter().map(|(name, value)| held(name, value)).collect();
        vault.take_in(Ok(all), Duration::from_secs(1));
        vault
    }
}

#[cfg(test)]
mod tests {
    use super::testing::held;
    use super::*;

    #[test]
    fn what_is_not_listed_or_too_old_is_not_taken_in() {
        let clock = crate::env::ManualClock::new(Stamp(1_000_000));
        let listed = [SecretName::new("a").unwrap()];
        let vault = Vault::new(&listed, Arc::new(clock.clone()));
        vault.take_in(Ok(vec![held("a", "x"), held("b", "y")]), Duration::from_secs(60));
        assert!(vault.get("a").is_some() && vault.get("b").is_none());
        assert!(vault.lists("a") && !vault.lists("b"));
        clock.advance(Duration::from_secs(61));
        let late = Vault::new(&listed, Arc::new(clock));
        late.take_in(Ok(vec![held("a", "x")]), Duration::from_secs(60));
        assert!(late.get("a").is_none());
        assert_eq!(late.missing(), listed);
    }

    #[test]
    fn what_is_released_or_too_old_is_gone_from_memory() {
        let clock = crate::env::ManualClock::new(Stamp(1_000_000));
        let names = ["a", "b"].map(|name| SecretName::new(name).unwrap());
        let vault = Vault::new(&names, Arc::new(clock.clone()));
        let day = Duration::from_secs(24 * 3600);
        let of = |name| Arc::downgrade(&vault.get(name).unwrap());
        vault.take_in(Ok(vec![held("a", "x"), held("b", "y")]), day);
        let (a, b) = (of("a"), of("b"));
        clock.advance(day);
        assert!(!vault.expire(day), "not before its time");
        clock.advance(Duration::from_secs(1));
        assert!(vault.expire(day));
        assert!(a.upgrade().is_none() && b.upgrade().is_none(), "nobody holds it any more");
        assert_eq!(vault.missing(), names);
        vault.take_in(Ok(vec![held("a", "x"), held("b", "y")]), 2 * day);
        let (a, b) = (of("a"), of("b"));
        vault.release();
        assert!(a.upgrade().is_none() && b.upgrade().is_none());
    }

    #[test]
    fn what_is_held_shows_nothing() {
        let held = held("a", "hunter2");
        assert!(!format!("{held:?}").contains("hunter2"));
    }
}
